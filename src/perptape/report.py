"""Tapes -> numbers and figures -> one page that needs no server, one JSON, and pictures."""

import hashlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import msgspec
import polars as pl

from perptape import __version__, charts, tables
from perptape.errors import BadUsage, Failed
from perptape.fees import base_fees, read_fees
from perptape.findings import (
    Contract,
    Drawn,
    Fee,
    Interval,
    Market,
    Pair,
    Provenance,
    Report,
    Source,
)
from perptape.instruments import base_of
from perptape.manifest import NAME as MANIFEST
from perptape.measures import Result, gaps
from perptape.page import to_html
from perptape.tabulate import fresh
from perptape.tape import Tape

LINES_DRAWN = 60_000
"""Steps of all lines together that a page holds, so that it stays under about a megabyte ..."""
STEPS_AT_MOST, STEPS_AT_LEAST = 1000, 200
"""... of a line, however many there are."""
FEE_AT_MOST = 0.05
"""A larger fee is one written in percent or in basis points."""

Progress = Callable[[int, int], None]


class Asked(msgspec.Struct, frozen=True):
    """What a report is to be made of; times are ns UTC, a closed stretch."""

    tapes: tuple[Path, ...]
    fees: Path | None = None
    """TOML: ``bybit = 0.00055`` a line, or the form of the package's own table."""
    max_age_s: float | None = None
    ts_from: int | None = None
    ts_to: int | None = None


class Heard(msgspec.Struct, frozen=True):
    """The tapes' tables, and the stretch of time that they cover and that was asked for."""

    roots: tuple[Path, ...]
    ledger: pl.DataFrame
    bases: tuple[str, ...]
    ts_from: int
    ts_to: int


# ---- build --------------------------------------------------------------------------------------


def build(asked: Asked, *, progress: Progress | None = None) -> Report:
    """Measure every pair of every coin on these tapes; tables are made where they are missing.

    Raises BadUsage for what cannot be meant, Failed for a tape without quotes.
    """
    _check(asked)
    fees = _fees(asked.fees)
    heard = _heard(asked, progress)
    found = list(_measured(asked, heard, fees))
    _refuse_silence(asked, found)
    markets = tuple(_with_intervals(m, heard) for r in found for m in r.found_markets)
    return Report(
        ts_from=heard.ts_from,
        ts_to=heard.ts_to,
        markets=markets,
        pairs=tuple(_with_reason(p) for r in found for p in r.found_pairs),
        provenance=_provenance(asked, heard, fees, [m.market for m in markets]),
        series=tuple(r.series for r in found),
    )


def _check(asked: Asked) -> None:
    if asked.max_age_s is not None and not asked.max_age_s > 0:
        raise BadUsage(f"--max-age {asked.max_age_s:g} is no age: give seconds above 0.")
    if asked.ts_from is not None and asked.ts_to is not None and asked.ts_from >= asked.ts_to:
        raise BadUsage("--from is not before --to: exchange them.")


def _heard(asked: Asked, progress: Progress | None) -> Heard:
    roots = tuple(fresh(tape, progress=progress) for tape in asked.tapes)
    ledgers = [tables.scan(root, "ledger").drop("base", "date", strict=False) for root in roots]
    text = pl.col("venue", "instrument", "channel", "state", "reason").cast(pl.String)
    ledger = pl.concat([one.with_columns(text).collect() for one in ledgers])
    ledger = ledger.filter(pl.col("channel") == "quotes").with_columns(
        pl.col("ts_start", "ts_end").cast(pl.Int64)
    )
    starts, ends = ledger["ts_start"].to_list(), ledger["ts_end"].to_list()
    bases = sorted({base_of(name) for name in ledger["instrument"].unique()})
    first = min(starts, default=0) if asked.ts_from is None else asked.ts_from
    last = max(ends, default=0) if asked.ts_to is None else asked.ts_to
    first, last = max(first, min(starts, default=first)), min(last, max(ends, default=last))
    return Heard(roots, ledger, tuple(bases), first, last)


def _measured(asked: Asked, heard: Heard, fees: Mapping[str, Fee]) -> Iterator[Result]:
    buckets = _buckets(heard)
    for base in heard.bases:
        yield gaps(
            [tables.scan(root, "quotes", base=base) for root in heard.roots],
            heard.ledger,
            fees={venue: fee.taker for venue, fee in fees.items()},
            base=base,
            max_age_s=asked.max_age_s,
            ts_from=heard.ts_from,
            ts_to=heard.ts_to,
            buckets=buckets,
        )


def _buckets(heard: Heard) -> int:
    markets = heard.ledger.select("venue", "instrument").unique()["instrument"]
    sizes = [sum(base_of(name) == base for name in markets) for base in heard.bases]
    lines = sum(n * (n + 1) for n in sizes)
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
    rows = heard.ledger.filter(
        (pl.col("venue") == venue)
        & (pl.col("instrument") == instrument)
        & (pl.col("state") == "untrusted")
        & (pl.col("ts_end") >= heard.ts_from)
        & (pl.col("ts_start") <= heard.ts_to)
    ).sort("ts_start", "ts_end", maintain_order=True)
    intervals = tuple(
        Interval(max(start, heard.ts_from), min(end, heard.ts_to), reason, detail or None)
        for start, end, reason, detail in rows.select(
            "ts_start", "ts_end", "reason", "detail"
        ).iter_rows()
    )
    return msgspec.structs.replace(market, intervals=intervals)


def _with_reason(pair: Pair) -> Pair:
    if pair.gap_bps is not None:
        return pair
    why = "never trusted at the same time" if not pair.trusted_s else "no prices at the same time"
    return msgspec.structs.replace(pair, reason=why)


# ---- fees and provenance ------------------------------------------------------------------------


def _fees(path: Path | None) -> dict[str, Fee]:
    """Give the package's table, and over it the user's own."""
    known = {v: Fee(v, f.taker, f.source, f.date) for v, f in base_fees().items()}
    if path is None:
        return known
    try:
        own = _own_fees(path)
    except OSError as error:
        raise BadUsage(f"--fees {path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadUsage(
            f"--fees {path} is no table of fees ({error}): write a line like bybit = 0.00055."
        ) from error
    for fee in own:
        if not abs(fee.taker) <= FEE_AT_MOST:
            raise BadUsage(
                f"--fees {path}: {fee.taker:g} of {fee.venue} is no fraction of the notional: "
                "0.055 % is 0.00055."
            )
    return known | {fee.venue: fee for fee in own}


def _own_fees(path: Path) -> list[Fee]:
    text = path.read_text(encoding="utf-8")
    if "[[fee]]" in text:
        return [Fee(v, f.taker, f.source, f.date) for v, f in read_fees(text).items()]
    plain = msgspec.toml.decode(text, type=dict[str, float])
    return [Fee(venue, taker, f"the user's {path.name}") for venue, taker in plain.items()]


def _provenance(
    asked: Asked, heard: Heard, fees: Mapping[str, Fee], markets: Sequence[str]
) -> Provenance:
    venues = sorted({m.partition(":")[0] for m in markets})
    contracts = _contracts(heard.roots, markets)
    return Provenance(
        perptape=__version__,
        tapes=tuple(_source(tape) for tape in asked.tapes),
        parameters=_parameters(asked),
        contracts=contracts,
        fees=tuple(fees[v] for v in venues if v in fees),
        notes=(
            *_unclosed(asked.tapes),
            *_unread(heard.roots),
            *_unlisted(markets, contracts),
            *(_no_fee(v) for v in venues if v not in fees),
        ),
    )


def _source(tape: Path) -> Source:
    runs = sorted({run.perptape for run in Tape(tape).meta.runs})
    digest = hashlib.sha256((tape / MANIFEST).read_bytes()).hexdigest()
    return Source(tape.resolve().name, digest, f"perptape {', '.join(runs)}" if runs else None)


def _parameters(asked: Asked) -> dict[str, str]:
    age = "none" if asked.max_age_s is None else f"{asked.max_age_s:g} s"
    given = {"clock": "recv", "oldest quote compared": age, "grid": "100 ms"}
    if asked.ts_from is not None:
        given["from (ns)"] = str(asked.ts_from)
    if asked.ts_to is not None:
        given["to (ns)"] = str(asked.ts_to)
    return given


def _contracts(roots: Sequence[Path], markets: Sequence[str]) -> tuple[Contract, ...]:
    """Give the latest listing of each market."""
    names = ("symbol", "kind", "contract_size", "tick_size")
    latest: dict[str, Contract] = {}
    for root in roots:
        rows = tables.scan(root, "instruments").sort("ts_seen", maintain_order=True).collect()
        text = pl.col("venue", "instrument", "kind").cast(pl.String)
        for row in rows.with_columns(text).iter_rows(named=True):
            market = f"{row['venue']}:{row['instrument']}"
            latest[market] = Contract(market, **{name: row[name] for name in names})
    return tuple(latest[m] for m in markets if m in latest)


def _unclosed(tapes: Sequence[Path]) -> Iterator[str]:
    for path in tapes:
        if any(segment.state in {"open", "tail"} for segment in Tape(path).segments):
            yield (
                f"{path.resolve().name} is still being written, or was not closed: "
                "this report ends where it was when the report was made."
            )


def _unread(roots: Sequence[Path]) -> Iterator[str]:
    for root in roots:
        manifest = tables.read_manifest(root)
        if bad := 0 if manifest is None else manifest.notes.get("bad", 0):
            yield (
                f"{bad:,} frames of {root.resolve().parent.name} could not be read by their "
                "venue's decoder: they are kept on the tape and are in no number here."
            )


def _unlisted(markets: Sequence[str], contracts: Sequence[Contract]) -> Iterator[str]:
    listed = {contract.market for contract in contracts}
    if without := [m for m in markets if m not in listed]:
        yield (
            f"No instrument list on the tape for {', '.join(without)}: sizes there are not known, "
            "nor the top size of their pairs. Prices and gaps do not need it."
        )


def _no_fee(venue: str) -> str:
    return f"No taker fee is known for {venue}, so its pairs have no edge: give one with --fees."


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


def to_json(report: Report) -> bytes:
    """Give the figures for programs: what was not computed is absent, never null."""
    found = {
        "ts_from": report.ts_from,
        "ts_to": report.ts_to,
        "markets": report.markets,
        "pairs": report.pairs,
        "provenance": report.provenance,
    }
    said = _said(msgspec.to_builtins(found))
    return msgspec.json.format(msgspec.json.encode(said), indent=1) + b"\n"


def _said(value: object) -> object:
    """Leave out what is None or not a number."""
    if isinstance(value, dict):
        return {k: _said(v) for k, v in value.items() if v is not None and v == v}  # noqa: PLR0124
    return [_said(v) for v in value] if isinstance(value, list | tuple) else value


def pngs(report: Report, directory: Path) -> list[Path]:
    """Write the notebook's figure of every pair that has a gap, one file for both directions."""
    found = {(p.sell, p.buy): p for p in report.pairs}
    holes = {m.market: [(i.start, i.end) for i in m.intervals] for m in report.markets}
    written: list[Path] = []
    for i, j in combinations([m.market for m in report.markets], 2):
        pair = found.get((i, j))
        if pair is None or pair.gap_bps is None:
            continue
        mean = pair.gap_bps.mean
        figure = charts.pair(
            _drawn_table(report, i, j),
            i,
            j,
            mean_ratio=None if mean is None else 1 + mean / charts.BPS,
            untrusted=holes[i] + holes[j],
        )
        path = directory / f"{_file_name(f'{i}__{j}')}.png"
        written.append(_written(path, charts.to_png(figure)))
    return written


def _drawn_table(report: Report, i: str, j: str) -> pl.DataFrame:
    series = report.series_of(i)
    if series is None:
        raise KeyError(i)
    gap = series.gaps_bps[i, j]
    lines = {
        "bid_i": series.bids[i],
        "ask_i": series.asks[i],
        "bid_j": series.bids[j],
        "ask_j": series.asks[j],
        "ratio": Drawn(*(1 + part / charts.BPS for part in (gap.low, gap.high, gap.last))),
    }
    columns = {
        f"{name}_{part}": getattr(drawn, part)
        for name, drawn in lines.items()
        for part in ("low", "high", "last")
    }
    return pl.DataFrame({"ts_start": series.ts, "ts_end": series.ts + series.step_ns, **columns})


def _file_name(text: str) -> str:
    """Keep what a path can hold anywhere: nothing of it can leave the directory."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:200]


def _written(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as fresh_file:
            fresh_file.write(content)
        Path(fresh_file.name).chmod(0o644)
        Path(fresh_file.name).replace(path)
    except OSError as error:
        raise Failed(
            f"{path} cannot be written ({error.strerror or error}): choose another place."
        ) from error
    return path
