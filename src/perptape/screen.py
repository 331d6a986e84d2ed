"""What a person sees on the terminal; a pipe gets plain lines instead."""

import fnmatch
import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perptape import verify
from perptape.board import Board, Say, is_terminal
from perptape.errors import NothingRecorded
from perptape.events import CHANNELS, NS
from perptape.importers import ImportSummary
from perptape.manifest import clock_state
from perptape.plan import Choice
from perptape.record import Summary, run
from perptape.verify import EXPECTED
from perptape.wording import duration, printable

if TYPE_CHECKING:
    from perptape import pack, unpack
    from perptape.importers import quotes
    from perptape.instruments import Instrument
    from perptape.venues.venue import Venue

PIPE_COLUMNS = 160
INTERVALS_SHOWN = 3
"""Reasons listed for one market; ``--json`` has all."""


def print_verdict(verdict: verify.Verdict) -> None:
    """Print the ledger by market, the damage, and the verdict in one line."""
    console = _plain()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, side in (("market", "left"), ("channel", "left"), ("frames", "right")):
        table.add_column(head, justify="right" if side == "right" else "left", no_wrap=True)
    table.add_column("trusted", justify="right", no_wrap=True)
    table.add_column("untrusted", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for name, channels in groupby(verdict.markets, key=lambda market: market.market):
        title = printable(name)
        for whys, alike in groupby(channels, key=lambda m: (m.frames == 0, _why(m))):
            same = list(alike)
            # Channels of which nothing came, all for one reason, are one line.
            for shown in [same] if whys[0] and whys[1] else [[each] for each in same]:
                told = ", ".join(each.channel for each in shown)
                table.add_row(
                    Text(title),
                    Text("all" if len(shown) == len(CHANNELS) else printable(told)),
                    f"{shown[0].frames:,}",
                    seconds(shown[0].trusted_s),
                    seconds(shown[0].untrusted_s),
                    Text(printable(whys[1])),
                )
                title = ""
    console.print(table)
    for place in verdict.damage:
        console.print(Text(f"damaged: {printable(place)}", style="red"))
    if verdict.unreadable:
        console.print(f"{verdict.unreadable:,} frames could not be read; they are on the tape.")
    style = {"complete": "green", "untrusted": "yellow", "damaged": "red"}[verdict.verdict]
    console.print(Text(verify.sentence(verdict), style=style))


def seconds(span_s: float) -> str:
    return f"{span_s:,.1f} s"


def _why(market: verify.Market) -> str:
    spans: dict[str, tuple[int, int]] = {}
    for interval in market.intervals:
        count, ns = spans.get(interval.reason, (0, 0))
        spans[interval.reason] = (count + 1, ns + interval.end - interval.start)
    told = {r: span for r, span in spans.items() if r not in EXPECTED or span[1] >= NS // 10}
    worst = sorted(told.items(), key=lambda item: -item[1][1])
    words = [
        f"{reason} {ns / NS:.1f} s" + (f" ({count} times)" if count > 1 else "")
        for reason, (count, ns) in worst[:INTERVALS_SHOWN]
    ]
    if worst and worst[0][0] == "refused":
        words[0] += f": {next(i.detail for i in market.intervals if i.reason == 'refused')}"
    return ", ".join([*words, *(["..."] if len(worst) > INTERVALS_SHOWN else [])])


def print_venues(*, as_json: bool, say: Say) -> None:
    """List every venue: what can be recorded, what is decoded from imports only."""
    from perptape.fees import base_fees  # noqa: PLC0415
    from perptape.venues import VENUES  # noqa: PLC0415

    fees = base_fees()
    rows = [
        {
            "venue": venue.name,
            "live": venue.live,
            "streams": {channel: list(streams) for channel, streams in venue.streams.items()},
            "taker_fee": fees[venue.name].taker if venue.name in fees else None,
            "docs": venue.docs,
        }
        for venue in VENUES.values()
    ]
    if as_json:
        say(msgspec.json.format(msgspec.json.encode(rows), indent=1).decode())
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("venue", "records", *CHANNELS.values(), "taker fee"):
        table.add_column(head, no_wrap=head == "venue", overflow="fold")
    for row, venue in zip(rows, VENUES.values(), strict=True):
        fee = row["taker_fee"]
        table.add_row(
            venue.name,
            "live" if venue.live else "imports only",
            *(_streams(venue, channel) for channel in CHANNELS.values()),
            f"{fee:.3%}" if isinstance(fee, float) else "",
        )
    _plain().print(table)


def _streams(venue: "Venue", channel: str) -> str:
    """Name what feeds a channel: the default first, all of one ``a+b`` together."""
    return " or ".join(s.replace("+", " + ") for s in venue.streams.get(channel, ())) or "-"


def _plain() -> Console:
    """A pipe has no width of its own, and nobody wants half a link."""
    console = Console()
    return console if is_terminal() else Console(width=max(console.width, PIPE_COLUMNS))


def print_instruments(
    found: Sequence["Instrument"], pattern: str | None, *, as_json: bool, say: Say
) -> None:
    """List instruments, every price and size per base coin."""
    rows = [i for i in found if matches(i, pattern)]
    if as_json:
        say(msgspec.json.format(msgspec.json.encode(rows), indent=1).decode())
        return
    if not rows:
        say("Nothing that is listed matches" + (f" {printable(pattern)}." if pattern else "."))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    heads = ("venue", "instrument", "symbol", "contract", "tick", "lot", "funding", "status")
    for head in heads:
        table.add_column(head, no_wrap=True)
    for row in rows:
        cells = (row.contract_size, row.tick_size, row.lot_size)
        hours = "" if row.funding_interval_h is None else f"{row.funding_interval_h:g} h"
        numbers = ["" if cell is None else f"{cell:.12g}" for cell in cells]
        table.add_row(row.venue, row.name, Text(row.symbol), *numbers, hours, row.status)
    _plain().print(table)


def matches(instrument: "Instrument", pattern: str | None) -> bool:
    """``BTC-*`` matches as a shell would, ``btc`` as a part of the name or symbol."""
    if pattern is None:
        return True
    text = pattern.upper()
    if any(c in text for c in "*?["):
        return fnmatch.fnmatchcase(instrument.name, text)
    return text in instrument.name or text in instrument.symbol.upper()


UNSYNCHRONISED = (
    "This machine's clock is not synchronised, so times of different venues and tapes may be off: "
    "start an NTP client (timedatectl set-ntp true)."
)


def tell_clock() -> None:
    """Say it to a person if the kernel's clock is not synchronised; ``tape.json`` has it too."""
    clock = clock_state()
    if clock is not None and not clock.synchronised:
        tell(UNSYNCHRONISED, as_json=False)


def record(choice: Choice, *, as_json: bool, say: Say) -> int:
    """Record and show how it goes; give the exit code.

    Raises NothingRecorded if no venue gave a single data frame before the time was over, Failed on
    a disk that stays bad.
    """
    with Board(choice.tape, as_json=as_json, say=say) as board:
        done = run(choice.plan, choice.tape, sync_ms=choice.sync_ms, status=board.show)
    if not done.heard and done.signal is None:
        raise NothingRecorded(_nothing(done))
    tell(_summary(done, choice.tape) if done.heard else _nothing(done), as_json=as_json)
    return 0 if done.signal is None else SIGNALLED + done.signal


def tell(words: str, *, as_json: bool) -> None:
    """Say it to a person, and not among lines for a program."""
    print(printable(words), file=sys.stderr if as_json else sys.stdout)


def _summary(done: Summary, tape: Path) -> str:
    heard = sum(market.frames > 0 for market in done.markets)
    of = "" if heard == len(done.markets) else f" of {len(done.markets)}"
    markets = "1 market" if heard == 1 and not of else f"{heard}{of} markets"
    return (
        f"{tape}: {done.frames:,} frames of {markets} in {done.seconds:.1f} s. "
        f"Next: perptape verify {tape}"
    )


def _nothing(done: Summary) -> str:
    why = defaultdict(list)  # many markets of a venue fail alike
    for market in done.markets:
        if market.error:
            why[market.market.partition(":")[0], market.error].append(market.market)
    told = "; ".join(sorted(map(_of_all, why.items()))) or f"no data came in {done.seconds:.1f} s"
    states = {market.state for market in done.markets}
    hint = "choose other markets" if states == {"refused"} else "check the connection and --url"
    return f"Nothing was recorded: {told}; {hint}."


def _of_all(failed: tuple[tuple[str, str], list[str]]) -> str:
    (venue, error), markets = failed
    name = markets[0] if len(markets) == 1 else f"{venue} ({len(markets)} markets)"
    return f"{name}: {error}"


SIGNALLED = 128
"""A command ended by a signal exits with this plus the signal's number."""


def print_packed(done: "pack.Summary", removed: Path | None, *, say: Say) -> None:
    share = done.bytes / done.tape_bytes
    say(
        f"{printable(str(done.path))}: {done.bytes:,} bytes, {share:.0%} of the tape's; "
        f"{done.frames:,} frames, SHA-256 {done.fingerprint}"
    )
    what = "the same to the byte" if done.is_exact else "the same frames, segments in other bytes"
    say(f"read back: {what}" + (f"; {printable(str(removed))} is deleted" if removed else ""))
    for place in done.damage:
        say(f"the tape itself is damaged, and was packed as it is: {printable(place)}")


def print_unpacked(work: "unpack.Unpacked", place: Path, *, say: Say) -> None:
    if not work.damage:
        what = "" if work.is_exact else ", segments in other bytes than they were"
        said = f"{work.frames:,} frames, SHA-256 {work.fingerprint}{what}"
        say(f"{printable(str(place))}: {said}")
    for each in work.damage:
        say(f"{printable(str(place))}: {printable(each)}")


def import_sentence(done: ImportSummary, tape: Path) -> str:
    """Say what an import put on the tape, and what it could not."""
    left = []
    if done.skipped:
        left.append(f"{done.skipped:,} records were no frame of a known venue")
    if done.torn:
        left.append(f"{done.torn} files end inside a record")
    rest = f" ({'; '.join(left)})" if left else ""
    span_s = (done.ts_last - done.ts_first) / NS
    return printable(
        f"{tape}: {done.frames:,} frames of {done.files} files, {span_s:,.1f} s{rest}. "
        f"Next: perptape report {tape}"
    )


def quotes_sentence(done: "quotes.Summary", tape: Path) -> str:
    """Say what an import put into the tables, and what it left out."""
    tally = done.tally
    left = {
        "without a price": tally.unpriced,
        "left out by where": tally.filtered,
        "without a time": tally.undated,
        "without a market": tally.unnamed,
    }
    told = "; ".join(f"{count:,} {what}" for what, count in left.items() if count)
    rest = f" (rows {told})" if told else ""
    markets = f"{done.markets} market{'' if done.markets == 1 else 's'}"
    span_s = (done.ts_last - done.ts_first) / NS
    return printable(
        f"{tape}: {done.quotes:,} quotes of {markets}, {duration(span_s)}{rest}. "
        f"Next: perptape report {tape}"
    )
