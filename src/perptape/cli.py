"""One command per stage: parse, call, print. The work is done elsewhere."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import UnknownOptionError

from perptape import __version__
from perptape.errors import BadUsage, Failed, PerptapeError

app = App(
    name="perptape",
    help="Record what several exchanges say about the same perpetual future, losing nothing, "
    "and see what the differences were really worth.",
    help_epilogue="Add --debug to any command to see the traceback behind an error.",
    version=__version__,
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,  # else Ctrl-C before a recording begins would end with 0
)

Names = Annotated[str | None, Parameter(help="Names with commas between them.")]
Tape = Annotated[Path, Parameter(help="A tape: the directory that `record` or `import` made.")]
INTERRUPTED = 130
LAST_MOMENT = 9_200_000_000 * 10**9
"""In 2261, near the end of what int64 ns can say."""


def say(*words: object) -> None:
    """Print for a person or a pipe; a pipe that closes early is no error."""
    print(*words, flush=True)  # noqa: T201 - printing is this module's work


def split(words: str | None, argument: str = "--venues") -> list[str]:
    """Take names apart; none at all is no choice. Raises BadUsage for a choice of nothing."""
    names = [word.strip() for word in (words or "").split(",") if word.strip()]
    if words is not None and not names:
        raise BadUsage(f"{argument} names nothing: leave it out, or write names with commas.")
    return names


@app.command
def demo(
    *,
    out: Annotated[Path | None, Parameter(help="Where to put it; a new directory.")] = None,
    for_: Annotated[str, Parameter(name="--for", help="How long to record: 40s.")] = "40s",
    seed: Annotated[int | None, Parameter(help="The simulated market's seed.")] = None,
) -> int:
    """Offline, in one command: simulated exchanges, a recording of them, tables, and a report."""
    from perptape import config, demo  # noqa: PLC0415 - keeps `--help` quick

    config.duration_ns(for_)  # refuse before anything is made
    return demo.run(out, for_, seed=seed, say=say)


@app.command
def record(  # noqa: PLR0913 - one parameter per flag
    *instruments: Annotated[
        str, Parameter(help="What to record: BTC-USDT ETH-USDT, or ALL-USDT for a universe.")
    ],
    venues: Annotated[
        str | None, Parameter(help="Where: bitget,htx,gateio,bybit (the default) or others.")
    ] = None,
    channels: Annotated[
        str | None, Parameter(help="quotes (the default), books,trades,marks,funding.")
    ] = None,
    min_venues: Annotated[
        int | None, Parameter(help="Of a universe: how many venues must list a market; else 1.")
    ] = None,
    top: Annotated[
        int | None, Parameter(help="Of a universe: so many, by turnover of 24 h; else all.")
    ] = None,
    for_: Annotated[
        str | None,
        Parameter(
            name="--for",
            help="How long: 40s, 5m, 1h30m. Else until Ctrl-C.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    tape: Annotated[
        Path | None,
        Parameter(
            help="The directory to record into, else tape-DATE-TIME (UTC) here; an existing tape "
            "is continued."
        ),
    ] = None,
    keep: Annotated[
        str | None,
        Parameter(help="How long frames are kept: 30d, 12h (1h or more). Else for ever."),
    ] = None,
    max_disk: Annotated[
        str | None, Parameter(help="How much room they may take: 500MB, 200GB, 1TB.")
    ] = None,
    config: Annotated[Path | None, Parameter(help="run.toml: the same choices in a file.")] = None,
    url: Annotated[
        list[str] | None,
        Parameter(help="VENUE=ORIGIN in place of the venue's own hosts; may be repeated."),
    ] = None,
    json: Annotated[bool, Parameter(help="A JSON line a second for each market.")] = False,
) -> int:
    """Record until told to stop."""
    from perptape import board, plan, screen  # noqa: PLC0415

    choice = plan.choose(
        instruments=instruments,
        venues=split(venues),
        channels=split(channels, "--channels"),
        min_venues=min_venues,
        top=top,
        duration=for_,
        tape=tape,
        keep=keep,
        max_disk=max_disk,
        config_path=config,
        urls=url or [],
    )
    as_json = json or not board.is_terminal()
    if choice.plan.universe is not None:
        screen.tell(choice.plan.universe.why(), as_json=as_json)
    if not as_json:
        screen.tell_clock()
    return screen.record(choice, as_json=as_json, say=say)


@app.command
def verify(
    tape: Tape, /, *, json: Annotated[bool, Parameter(help="The verdict as JSON.")] = False
) -> int:
    """Is it complete? Hashes, sequence, and the ledger by market.

    Ends with 0 if complete, 3 if there is untrusted time, 4 if bytes are damaged.
    """
    import msgspec  # noqa: PLC0415

    from perptape import screen, verify  # noqa: PLC0415

    verdict = verify.verify(tape)
    if json:
        say(msgspec.json.format(msgspec.json.encode(verdict), indent=1).decode())
    else:
        screen.print_verdict(verdict)
    return verdict.exit_code


@app.command
def tabulate(
    tape: Tape,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Where; else TAPE/tables.")] = None,
    workers: Annotated[
        int | None, Parameter(help="How many processes; else as many as processors.")
    ] = None,
) -> int:
    """Make the tables: Parquet files of every channel, of instruments, and the ledger."""
    from perptape import progress, tabulate  # noqa: PLC0415
    from perptape.crew import processors  # noqa: PLC0415

    count = processors() if workers is None else workers
    with progress.shown("Tabulating") as stage:
        made = tabulate.tabulate(tape, out, workers=count, progress=stage(""))
    rows = {f.path.split("/")[0]: 0 for f in made.manifest.files}
    for file in made.manifest.files:
        rows[file.path.split("/")[0]] += file.rows
    say(f"{made.root}: " + ", ".join(f"{count:,} {table}" for table, count in rows.items()))
    return 0


@app.command
def report(  # noqa: PLR0913 - one parameter per flag
    *tapes: Tape,
    o: Annotated[
        Path | None, Parameter(name=["-o", "--out"], help="The page; else report.html.")
    ] = None,
    json: Annotated[
        Path | None,
        Parameter(help="All figures as JSON; - for the screen.", allow_leading_hyphen=True),
    ] = None,
    png: Annotated[
        Path | None, Parameter(help="A figure of every pair into this directory.")
    ] = None,
    fees: Annotated[Path | None, Parameter(help="TOML of taker fees: bybit = 0.00055.")] = None,
    max_age: Annotated[
        float | None, Parameter(help="Seconds after which a quote is too old to compare.")
    ] = None,
    clock: Annotated[
        Literal["recv", "event"],
        Parameter(help="What aligns the venues: our receive time, or their own on our clock."),
    ] = "recv",
    from_: Annotated[
        str | None, Parameter(name="--from", help="From this time (UTC): 2026-11-23T12:00.")
    ] = None,
    to: Annotated[str | None, Parameter(help="Up to this time (UTC).")] = None,
) -> int:
    """Analyse tapes: one self-contained page, the figures as JSON, a picture of each pair."""
    from perptape import progress, report  # noqa: PLC0415
    from perptape.wording import printable  # noqa: PLC0415

    if not tapes:
        raise BadUsage("report needs a tape: perptape report TAPE.")
    asked = report.Asked(
        tapes=tuple(tapes),
        fees=fees,
        max_age_s=max_age,
        ts_from=moment(from_, "--from"),
        ts_to=moment(to, "--to"),
        clock=clock,
    )
    with progress.shown("Analysing") as stage:
        made = report.build(asked, progress=stage)
        stage("page")
        written = report.write(made, page=o, json=json, png=png)
    for path in written:
        say(printable(str(path)))
    if not made.pairs:
        print(f"perptape: {report.no_pair(made)}", file=sys.stderr)  # noqa: T201 - our work
    return 0


def moment(text: str | None, argument: str) -> int | None:
    """Read an ISO time, UTC unless it says otherwise, as ns."""
    from datetime import UTC, datetime  # noqa: PLC0415

    if text is None:
        return None
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise BadUsage(f"{argument} {text!r} is not a time: write 2026-11-23T12:00:00.") from None
    aware = told if told.tzinfo else told.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    ns = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    return min(max(ns, 0), LAST_MOMENT)


@app.command
def sim(  # noqa: PLR0913 - one parameter per flag
    *,
    venues: Annotated[str | None, Parameter(help="Which; else all that there are.")] = None,
    scenario: Annotated[Path | None, Parameter(help="TOML: market, episodes, faults.")] = None,
    port: Annotated[
        int, Parameter(help="The first venue listens on PORT, the next on PORT+1; 0: on free ones.")
    ] = 9001,
    seed: Annotated[int | None, Parameter(help="The market's seed.")] = None,
    for_: Annotated[
        str | None, Parameter(name="--for", help="How long; else until Ctrl-C.")
    ] = None,
    truth: Annotated[
        Path | None, Parameter(help="Write what really happened, as JSON lines.")
    ] = None,
    log: Annotated[
        Path | None, Parameter(help="Write what was sent, a file per connection.")
    ] = None,
) -> int:
    """Run the simulated exchanges alone, on loopback."""
    from perptape import config, sims  # noqa: PLC0415

    return sims.run(
        split(venues) or list(sims.VENUES),
        sims.load(scenario, seed=seed),
        port=port,
        for_ns=None if for_ is None else config.duration_ns(for_),
        truth=truth,
        log_dir=log,
        say=say,
    )


@app.command(name="import")
def import_(
    format: Annotated[str, Parameter(help="notebook, hftbacktest, cryptofeed or quotes.")],  # noqa: A002 - the flag's word
    /,
    *paths: Annotated[Path, Parameter(help="The files.")],
    tape: Annotated[Path, Parameter(help="The tape to make, or to add to.")],
    venue: Annotated[str | None, Parameter(help="What the files do not say.")] = None,
    instruments: Annotated[
        Path | None, Parameter(help="The venue's saved instrument list: gives sizes.")
    ] = None,
    map: Annotated[  # noqa: A002 - the flag's word
        str | None, Parameter(help="Of quotes: a TOML that names their columns, or tardis.")
    ] = None,
) -> int:
    """Take in other people's recordings."""
    from perptape import importers, progress, screen  # noqa: PLC0415

    if format == "quotes":
        if instruments is not None:
            raise BadUsage("--instruments is not for quotes: the map's contract_size gives sizes.")
        from perptape.importers import quotes  # noqa: PLC0415

        with progress.shown("Importing") as stage:
            summary = quotes.run(paths, tape, map_=map, venue=venue, progress=stage(""))
        say(screen.quotes_sentence(summary, tape))
        return 0
    if map is not None:
        raise BadUsage(f"--map is for quotes: leave it out, {format} knows its own columns.")
    with progress.shown("Importing") as stage:
        done = importers.run(
            format, paths, tape, venue=venue, instruments=instruments, progress=stage("")
        )
    say(screen.import_sentence(done, tape))
    return 0


@app.command
def pack(
    tape: Tape,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="The file to make; else TAPE.packed.")] = None,
    remove: Annotated[
        bool, Parameter(help="Delete the tape and its tables once the file was read back.")
    ] = False,
) -> int:
    """Put a finished tape into one file of less than half the bytes, and read it back."""
    from perptape import pack, progress, screen  # noqa: PLC0415

    with progress.shown("Packing") as stage:
        done = pack.pack(tape, out, remove=remove, progress=stage(""))
    screen.print_packed(done, tape if remove else None, say=say)
    return 0


@app.command
def unpack(
    packed: Annotated[Path, Parameter(help="The file that `pack` made.")],
    /,
    *,
    tape: Annotated[
        Path | None, Parameter(help="The directory to make; without it the file is only checked.")
    ] = None,
) -> int:
    """Make a tape again of a packed one, or check that it is whole.

    Ends with 0 if it is what was packed, 4 if bytes are damaged.
    """
    from perptape import progress, screen, unpack  # noqa: PLC0415

    with progress.shown("Reading") as stage:
        told = stage("")
        work = unpack.unpack(packed, tape, told) if tape else unpack.check(packed, told)
    screen.print_unpacked(work, tape or packed, say=say)
    return unpack.DAMAGED if work.damage else 0


@app.command
def venues(*, json: Annotated[bool, Parameter(help="As JSON.")] = False) -> int:
    """List what is supported."""
    from perptape import screen  # noqa: PLC0415

    screen.print_venues(as_json=json, say=say)
    return 0


@app.command
def instruments(
    pattern: Annotated[str | None, Parameter(help="BTC-*, or a part of the name.")] = None,
    /,
    *,
    venues: Names = None,
    url: Annotated[list[str] | None, Parameter(help="VENUE=ORIGIN; may be repeated.")] = None,
    json: Annotated[bool, Parameter(help="As JSON.")] = False,
) -> int:
    """List what trades where, with multipliers, asked of the venues now."""
    from perptape import plan, screen  # noqa: PLC0415
    from perptape.listing import listed  # noqa: PLC0415

    found = listed(plan.venues_at(split(venues), plan.origins(url or [])))
    screen.print_instruments(found, pattern, as_json=json, say=say)
    return 0


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and end with its exit code; errors are one sentence."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    _occupy()
    sys.exit(_run(words, debug=debug))


def _occupy() -> None:
    """Open what of stdin, stdout and stderr is closed: a socket must never get its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _run(words: list[str], *, debug: bool) -> int:
    try:
        done: Any = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        return done if isinstance(done, int) else 0
    except (BrokenPipeError, SystemExit):  # whoever read our output has seen enough; rich exits
        from perptape.board import hush  # noqa: PLC0415

        hush()
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a fault of ours is one sentence too
        return _fail(_told(error), debug=debug)


def _told(error: Exception) -> PerptapeError:
    """Put whatever went wrong into a sentence."""
    match error:
        case PerptapeError():
            return error
        case CycloptsError():
            return BadUsage(_usage(error))
        case OSError():
            where = f" ({error.filename})" if error.filename else ""
            hint = "check its permissions and the space on its disk"
            told = Failed(f"{error.strerror or error}{where}: {hint}.")
        case _:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            hint = "add --debug to see where, and report it"
            told = Failed(f"perptape made a mistake ({what}): {hint}.")
    return told.with_traceback(error.__traceback__)


def _usage(error: CycloptsError) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UnknownOptionError) or "Unknown command" in text:
        return f"{text} See perptape --help."
    return text


def _fail(error: PerptapeError, *, debug: bool) -> int:
    from perptape.wording import printable  # noqa: PLC0415

    if debug:
        traceback.print_exception(error)
    print(f"perptape: {printable(str(error))}", file=sys.stderr)  # noqa: T201 - our work
    return error.exit_code
