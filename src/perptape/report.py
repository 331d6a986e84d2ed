"""Tapes -> numbers and figures -> one page that needs no server, one JSON, and pictures."""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import polars as pl

from perptape import tables
from perptape.deepen import Told, deepened
from perptape.errors import BadUsage, Failed
from perptape.event_time import moved, with_errors
from perptape.findings import ABSENT, Fee, Interval, Market, Pair, Report
from perptape.instruments import base_of
from perptape.measures import Result, gaps
from perptape.measures.mids import CLOCKS
from perptape.origin import check_fees, check_once, fee_tiers, provenance
from perptape.page import to_html
from perptape.pictures import pictures
from perptape.progress import Stages, unheard
from perptape.tabulate import fresh
from perptape.told import to_json
from perptape.worth import CHOICE, with_books, with_sizes

LINES_DRAWN = 60_000
"""Steps of all lines together that a page holds, so that it stays under about a megabyte ..."""
DEEP_LINES_DRAWN = 120_000
"""... or two, where edges are drawn too ..."""
STEPS_AT_MOST, STEPS_AT_LEAST = 1000, 200
"""... of a line, however many there are."""
ABSENT_AT_LEAST_NS = 1_000_000
"""The ledgers of several tapes need not meet to the nanosecond."""


class Asked(msgspec.Struct, frozen=True):
    """What a report is to be made of; times are ns UTC, a closed stretch."""

    tapes: tuple[Path, ...]
    fees: Path | None = None
    """TOML: ``bybit = 0.00055`` a line, also in a table for each tier; see ``fee_tiers``."""
    max_age_s: float | None = None
    ts_from: int | None = None
    ts_to: int | None = None
    clock: str = "recv"
    """Whose time aligns the venues: ``recv`` is our receipt, ``event`` their own on our clock."""


class Heard(msgspec.Struct, frozen=True):
    """The tapes' tables, and the stretch of time that they cover and that was asked for."""

    roots: tuple[Path, ...]
    ledger: pl.DataFrame
    """Of quotes."""
    channels: pl.DataFrame
    """The ledger of all channels."""
    bases: tuple[str, ...]
    ts_from: int
    ts_to: int


# ---- build --------------------------------------------------------------------------------------


def build(asked: Asked, *, progress: Stages = unheard) -> Report:
    """Measure every pair of every coin on these tapes; tables are made where they are missing.

    ``progress`` hears of each stage: tables, gaps, edges, clocks.

    Raises BadUsage for what cannot be meant, Failed for a tape without quotes.
    """
    _check(asked)
    asked = msgspec.structs.replace(asked, tapes=_once(asked.tapes))
    check_once(asked.tapes)
    tiers = fee_tiers(asked.fees)
    heard = _heard(asked, progress)
    check_fees(tiers, heard.ledger["venue"].unique().to_list())
    told = Told(asked.tapes, heard.roots, heard.channels, asked.ts_from, asked.ts_to)
    if asked.clock == "recv":
        return _built(asked, heard, told, tiers, progress)
    with tempfile.TemporaryDirectory(prefix="perptape-") as place:
        of = moved(asked.tapes, heard.roots, heard.channels, Path(place))
        heard = _covered(asked, heard.roots, of.ledger)
        told = msgspec.structs.replace(told, ledger=of.ledger, moved=of)
        return with_errors(_built(asked, heard, told, tiers, progress), of)


def _built(
    asked: Asked,
    heard: Heard,
    told: Told,
    tiers: Mapping[str, Mapping[str, Fee]],
    progress: Stages,
) -> Report:
    found, gaps_told = [], progress("gaps")
    for one in _measured(asked, heard, next(iter(tiers.values())), told):
        found.append(one)
        gaps_told(len(found), len(heard.bases))
    _refuse_silence(asked, found)
    plain = Report(
        ts_from=heard.ts_from,
        ts_to=heard.ts_to,
        markets=tuple(_with_intervals(m, heard) for r in found for m in r.found_markets),
        pairs=tuple(_with_reason(p) for r in found for p in r.found_pairs),
        provenance=provenance(
            asked.tapes,
            heard.roots,
            [m.market for r in found for m in r.found_markets],
            tiers,
            _parameters(asked),
        ),
        series=tuple(r.series for r in found),
    )
    fees = {t: {v: f.taker for v, f in of.items()} for t, of in tiers.items()}
    return deepened(plain, told, fees, progress)


def _check(asked: Asked) -> None:
    if asked.clock not in CLOCKS:
        raise BadUsage(f"There is no clock {asked.clock!r}: it is {' or '.join(CLOCKS)}.")
    if asked.max_age_s is not None and not asked.max_age_s > 0:
        raise BadUsage(f"--max-age {asked.max_age_s:g} is no age: give seconds above 0.")
    if asked.ts_from is not None and asked.ts_to is not None and asked.ts_from >= asked.ts_to:
        raise BadUsage("--from is not before --to: exchange them.")


def _once(tapes: Sequence[Path]) -> tuple[Path, ...]:
    """Leave out a tape that was named before, whatever it is called."""
    return tuple({tape.resolve(): tape for tape in reversed(tapes)}.values())[::-1]


def _heard(asked: Asked, progress: Stages) -> Heard:
    roots = tuple(fresh(tape, progress=progress("tables")) for tape in asked.tapes)
    ledgers = [tables.scan(root, "ledger").drop("base", "date", strict=False) for root in roots]
    text = pl.col("venue", "instrument", "channel", "state", "reason").cast(pl.String)
    return _covered(asked, roots, pl.concat([o.with_columns(text).collect() for o in ledgers]))


def _covered(asked: Asked, roots: tuple[Path, ...], channels: pl.DataFrame) -> Heard:
    ledger = channels.filter(pl.col("channel") == "quotes").with_columns(
        pl.col("ts_start", "ts_end").cast(pl.Int64)
    )
    starts, ends = ledger["ts_start"].to_list(), ledger["ts_end"].to_list()
    bases = sorted({base_of(name) for name in ledger["instrument"].unique()})
    first = min(starts, default=0) if asked.ts_from is None else asked.ts_from
    last = max(ends, default=0) if asked.ts_to is None else asked.ts_to
    first, last = max(first, min(starts, default=first)), min(last, max(ends, default=last))
    return Heard(roots, ledger, channels, tuple(bases), first, last)


def _measured(asked: Asked, heard: Heard, fees: Mapping[str, Fee], told: Told) -> Iterator[Result]:
    coins = [told.coin(base) for base in heard.bases]
    buckets = _buckets(heard, is_deep=any(with_books(c) or with_sizes(c) for c in coins))
    for base in heard.bases:
        yield gaps(
            told.scans("quotes", base),
            heard.ledger,
            fees={venue: fee.taker for venue, fee in fees.items()},
            base=base,
            max_age_s=asked.max_age_s,
            ts_from=heard.ts_from,
            ts_to=heard.ts_to,
            buckets=buckets,
        )


def _buckets(heard: Heard, *, is_deep: bool) -> int:
    markets = heard.ledger.select("venue", "instrument").unique()["instrument"]
    sizes = [sum(base_of(name) == base for name in markets) for base in heard.bases]
    lines = sum(n * (n + 1) for n in sizes)
    if is_deep:
        lines = sum(n * (n + 1) + n * (n - 1) * len(CHOICE.notionals) for n in sizes)
        return min(max(DEEP_LINES_DRAWN // max(lines, 1), STEPS_AT_LEAST), STEPS_AT_MOST)
    return min(max(LINES_DRAWN // max(lines, 1), STEPS_AT_LEAST), STEPS_AT_MOST)


def _refuse_silence(asked: Asked, found: Sequence[Result]) -> None:
    if any(m.quotes for result in found for m in result.found_markets):
        return
    where = ", ".join(str(tape) for tape in asked.tapes)
    holds = "holds" if len(asked.tapes) == 1 else "hold"
    if asked.ts_from is not None or asked.ts_to is not None:
        raise Failed(f"{where} {holds} no quotes in that time: leave out --from and --to.")
    raise Failed(
        f"{where} {holds} no quotes: see why with `perptape verify {asked.tapes[0]}`, "
        "or record some with `perptape record BTC-USDT`."
    )


def _with_intervals(market: Market, heard: Heard) -> Market:
    venue, _, instrument = market.market.partition(":")
    own = heard.ledger.filter((pl.col("venue") == venue) & (pl.col("instrument") == instrument))
    rows = own.filter(
        (pl.col("state") == "untrusted")
        & (pl.col("ts_end") >= heard.ts_from)
        & (pl.col("ts_start") <= heard.ts_to)
    ).sort("ts_start", "ts_end", maintain_order=True)
    intervals = tuple(
        Interval(max(start, heard.ts_from), min(end, heard.ts_to), reason, detail or None)
        for start, end, reason, detail in rows.select(
            "ts_start", "ts_end", "reason", "detail"
        ).iter_rows()
    )
    spans = own.sort("ts_start").select("ts_start", "ts_end").rows()
    return msgspec.structs.replace(
        market, intervals=intervals, absent=tuple(_absent(spans, heard.ts_from, heard.ts_to))
    )


def _absent(spans: Sequence[tuple[int, int]], ts_from: int, ts_to: int) -> Iterator[Interval]:
    """Give the stretches that no row of the ledger covers."""
    until = ts_from
    for start, end in [*spans, (ts_to, ts_to)]:
        if start - until > ABSENT_AT_LEAST_NS:
            yield Interval(until, min(start, ts_to), ABSENT)
        until = max(until, end)


def _with_reason(pair: Pair) -> Pair:
    if pair.gap_bps is not None:
        return pair
    why = "never trusted at the same time" if not pair.trusted_s else "no prices at the same time"
    return msgspec.structs.replace(pair, reason=why)


def no_pair(report: Report) -> str:
    """Say why a report compares nothing, and what to do."""
    names = ", ".join(market.market for market in report.markets)
    return (
        f"Nothing to compare {names} with: record one coin on at least two venues, "
        "as in perptape record BTC-USDT."
    )


def _parameters(asked: Asked) -> dict[str, str]:
    age = "none" if asked.max_age_s is None else f"{asked.max_age_s:g} s"
    given = {"clock": asked.clock, "oldest quote compared": age, "grid": "100 ms"}
    if asked.ts_from is not None:
        given["from (ns)"] = str(asked.ts_from)
    if asked.ts_to is not None:
        given["to (ns)"] = str(asked.ts_to)
    return given


# ---- write --------------------------------------------------------------------------------------


def write(
    report: Report,
    *,
    page: Path | None = None,
    json: Path | None = None,
    png: Path | None = None,
) -> list[Path]:
    """Write what is asked for and give the paths; the page is ``report.html`` if not named.

    ``json`` of ``-`` goes to standard output, and then nothing else is written unless named.
    """
    written: list[Path] = []
    to_screen = json == Path("-")
    if to_screen:
        sys.stdout.buffer.write(to_json(report))
        sys.stdout.flush()
    elif json is not None:
        written.append(_written(json, to_json(report)))
    if page is not None or not to_screen:
        written.insert(0, _written(page or Path("report.html"), to_html(report).encode()))
    if png is not None:
        written += pngs(report, png)
    return [] if to_screen else written


def pngs(report: Report, directory: Path) -> list[Path]:
    """Write the notebook's figure of every pair that has a gap, one file for both directions."""
    return [_written(directory / name, picture) for name, picture in pictures(report)]


def _written(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=path.parent) as place:
            fresh_file = Path(place, "whole")
            fresh_file.write_bytes(content)
            fresh_file.replace(path)
    except OSError as error:
        raise Failed(
            f"{path} cannot be written ({error.strerror or error}): choose another place."
        ) from error
    return path
