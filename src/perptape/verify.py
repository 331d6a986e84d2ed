"""Is it complete? Hashes, sequence, and the ledger by market."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec

from perptape import findings, ledger, tables
from perptape.errors import Failed
from perptape.events import NS
from perptape.ledger import Result
from perptape.tabulate import read_ledger
from perptape.tape import Tape
from perptape.timeline import Interval, Stream

EXIT_CODES = {"complete": 0, "untrusted": 3, "damaged": 4}
EXPECTED = findings.EXPECTED - {findings.ABSENT}
"""Untrusted time that every recording has: before the first data, and after the end."""


class Untrusted(msgspec.Struct, frozen=True):
    """A stretch that was not heard, or not heard whole; ns."""

    start: int
    end: int
    reason: str
    detail: str


class Market(msgspec.Struct, frozen=True):
    """One market's channel."""

    market: str
    channel: str
    frames: int
    trusted_s: float
    untrusted_s: float
    intervals: list[Untrusted]


class Verdict(msgspec.Struct, frozen=True):
    """What ``verify --json`` prints."""

    verdict: str
    """``complete``, ``untrusted`` or ``damaged``."""
    frames: int
    segments: int
    bytes: int
    damage: list[str]
    markets: list[Market]
    undecoded: int
    """Frames of channels that are not decoded: on the tape, in no table."""
    unreadable: int
    """Frames that their venue's decoder could not read."""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]


def verify(path: Path) -> Verdict:
    """Check every byte of a tape and read its ledger.

    Of imported tables: compare them with their hashes, and sum their ledger up. Raises BadUsage if
    ``path`` is not a tape, Failed if its format is newer than this program.
    """
    if manifest := tables.imported(path):
        return _of_tables(path / "tables", manifest)
    tape = Tape(path)
    damage = [str(d) for d in tape.damage()] + _damaged_tables(path / "tables")
    result = ledger.read(tape)
    markets = by_market(result) or [
        Market(market, channel, frames=0, trusted_s=0.0, untrusted_s=0.0, intervals=[])
        for market, channel in dict.fromkeys(s for run in ledger.asked(tape) for s in run.streams)
    ]
    missing = any(_is_missing(market) for market in markets)
    verdict = "damaged" if damage else "untrusted" if missing else "complete"
    return Verdict(
        verdict=verdict,
        frames=result.frames,
        segments=len(tape.segments),
        bytes=sum(f.stat().st_size for f in (path / "raw").glob("*") if f.is_file()),
        damage=damage,
        markets=markets,
        undecoded=result.undecoded,
        unreadable=result.bad,
    )


def _of_tables(root: Path, manifest: tables.Manifest) -> Verdict:
    damage = [f"tables/{name} is not what was written" for name in tables.damaged(root, manifest)]
    markets = [] if damage else [_market(s, i) for s, i in _courses(root)]
    verdict = "damaged" if damage else "untrusted" if any(map(_is_missing, markets)) else "complete"
    return Verdict(
        verdict=verdict,
        frames=sum(market.frames for market in markets),
        segments=0,
        bytes=sum(f.stat().st_size for f in root.rglob("*") if f.is_file()),
        damage=damage,
        markets=markets,
        undecoded=0,
        unreadable=0,
    )


def _courses(root: Path) -> Iterator[tuple[Stream, list[Interval]]]:
    """Give each market of imported tables with its intervals; its rows count as frames."""
    rows = tables.scan(root, "quotes").group_by("venue", "instrument").len().collect()
    frames = {f"{venue}:{instrument}": count for venue, instrument, count in rows.iter_rows()}
    found: dict[str, list[Interval]] = defaultdict(list)
    for interval in read_ledger(root):
        found[interval.market].append(interval)
    for market, intervals in sorted(found.items()):
        stream = Stream(market, "quotes", intervals[0].start, frames=frames.get(market, 0))
        yield stream, intervals


def _is_missing(market: Market) -> bool:
    """Tell whether something was to be heard and was not."""
    is_silent = not (market.frames or market.intervals)
    return is_silent or any(i.reason not in EXPECTED for i in market.intervals)


def _damaged_tables(root: Path) -> list[str]:
    try:
        manifest = tables.read_manifest(root)
    except Failed:
        return [f"tables/{tables.MANIFEST} is not what was written: tabulate again"]
    return [
        f"tables/{name} is not what was written: tabulate again"
        for name in (tables.damaged(root, manifest) if manifest else [])
    ]


def by_market(result: Result) -> list[Market]:
    """Sum the ledger up, one entry for each market's channel."""
    found: dict[tuple[str, str], list[Interval]] = defaultdict(list)
    for interval in result.intervals:
        found[interval.market, interval.channel].append(interval)
    return [_market(s, found[s.market, s.channel]) for s in result.streams]


def _market(stream: Stream, intervals: list[Interval]) -> Market:
    untrusted = [Untrusted(i.start, i.end, i.reason, i.detail) for i in intervals if not i.trusted]
    return Market(
        market=stream.market,
        channel=stream.channel,
        frames=stream.frames,
        trusted_s=sum(i.end - i.start for i in intervals if i.trusted) / NS,
        untrusted_s=sum(i.end - i.start for i in untrusted) / NS,
        intervals=untrusted,
    )


def sentence(verdict: Verdict) -> str:
    """Put the verdict into one line; a channel-second is a second of one channel of one market."""
    if verdict.damage:
        places = len(verdict.damage)
        return (
            "damaged: one place is not what was written."
            if places == 1
            else f"damaged: {places} places are not what was written."
        )
    if verdict.markets and not any(m.frames for m in verdict.markets):
        return "untrusted: nothing was heard."
    heard = sum(m.trusted_s for m in verdict.markets)
    lost = sum(
        (i.end - i.start) / NS
        for m in verdict.markets
        for i in m.intervals
        if i.reason not in EXPECTED
    )
    if verdict.verdict == "complete":
        return f"complete: {heard:,.1f} channel-seconds trusted, nothing missing."
    return f"untrusted: {lost:,.1f} of {heard + lost:,.1f} channel-seconds were not heard whole."
