"""What a report rests on: tapes, contracts, fees, and what is missing."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
import polars as pl

from perptape import __version__, tables
from perptape.errors import BadUsage
from perptape.fees import base_fees, read_fees
from perptape.findings import BASE, Contract, Fee, Provenance, Source
from perptape.instruments import nearest
from perptape.manifest import NAME as MANIFEST
from perptape.tape import Tape
from perptape.venues import VENUES
from perptape.wording import listed

COMPUTED_BY = ("numba", "numpy", "polars", "scipy", "statsmodels")
NAMED = 3
"""Files of an import; their manifest has all."""
Tiers = Mapping[str, Mapping[str, Fee]]
OWN = "own"
"""A tier to which the user gave no name."""
FEE_AT_MOST = 0.05
"""A larger fee is one written in percent or in basis points."""
CLOCK_ERROR_AT_MOST_US = 100_000
"""A synchronised clock whose bound is wider than this is told of, too."""


def fee_tiers(path: Path | None) -> dict[str, dict[str, Fee]]:
    """Give fees by tier and venue; the first tier is what a report rests on.

    Without a file it is the package's ``base`` alone. A file's lines go over that, in every tier
    that it has a table of; ``base`` itself is then the last.

    Raises BadUsage if the file cannot be read or holds what is no fee.
    """
    known = {v: Fee(v, f.taker, f.source, f.date) for v, f in base_fees().items()}
    if path is None:
        return {BASE: known}
    try:
        own = _own_tiers(path)
    except OSError as error:
        raise BadUsage(f"--fees {path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadUsage(
            f"--fees {path} is no table of fees ({error}): write a line like bybit = 0.00055."
        ) from error
    _check_fractions(fee for fees in own.values() for fee in fees if fee.venue in VENUES)
    named = {tier: known | {fee.venue: fee for fee in fees} for tier, fees in own.items()}
    return named if BASE in named else {**named, BASE: known}


def check_fees(tiers: Tiers, venues: Sequence[str]) -> None:
    """Raise BadUsage for a fee of nobody, which would silently be left out.

    ``venues`` are those of the tapes: others than ours may have been imported.
    """
    known = sorted({*VENUES, *venues})
    for name in (name for fees in tiers.values() for name in fees):
        if name not in known and name not in base_fees():
            close = nearest(name, known)
            hint = f"did you mean {close}?" if close else f"known are {listed(known)}."
            raise BadUsage(f"--fees: {name!r} is no venue: {hint}")
    _check_fractions(fee for fees in tiers.values() for fee in fees.values())


def _check_fractions(fees: Iterable[Fee]) -> None:
    for fee in fees:
        if not abs(fee.taker) <= FEE_AT_MOST:
            raise BadUsage(
                f"--fees: {fee.taker:g} of {fee.venue} is no fraction of the notional: "
                "0.055 % is 0.00055."
            )


def _own_tiers(path: Path) -> dict[str, list[Fee]]:
    """Read ``[[fee]]`` tables, or lines and a table for each tier, in which the lines hold too."""
    text, source = path.read_text(encoding="utf-8"), f"the user's {path.name}"
    if "[[fee]]" in text:
        told = [Fee(v, f.taker, f.source, f.date) for v, f in read_fees(text).items()]
        return {OWN: told}
    found = msgspec.toml.decode(text, type=dict[str, object])
    tiers = {tier: fees for tier, fees in found.items() if isinstance(fees, dict)}
    lines = {venue: fee for venue, fee in found.items() if not isinstance(fee, dict)}
    return {
        tier: [_own(venue, taker, source) for venue, taker in (lines | fees).items()]
        for tier, fees in (tiers or {OWN: {}}).items()
    }


def _own(venue: str, taker: object, source: str) -> Fee:
    if isinstance(taker, bool) or not isinstance(taker, int | float):
        raise BadUsage(
            f"--fees: the fee of {venue} is no number: write a line like bybit = 0.00055."
        )
    return Fee(venue, float(taker), source)


def check_once(tapes: Sequence[Path]) -> None:
    """Raise BadUsage for a tape that is given again under another name: all would count twice."""
    seen: dict[str, Path] = {}
    for tape in tapes:
        for digest in _digests(tape):
            first = seen.setdefault(digest, tape)
            if first is not tape:
                raise BadUsage(f"{first} and {tape} hold the same data: give one of them.")


def _digests(tape: Path) -> set[str]:
    """Tell a tape by its manifest, and by its files of frames: a copy may have gone on alone."""
    digest = _source(tape).sha256
    if tables.imported(tape):
        return {digest}
    return {digest, *(segment.sha256 for segment in Tape(tape).segments if segment.sha256)}


def provenance(
    tapes: Sequence[Path],
    roots: Sequence[Path],
    markets: Sequence[str],
    tiers: Tiers,
    parameters: Mapping[str, str],
) -> Provenance:
    """Name all that the numbers rest on; ``roots`` are the directories of the tapes' tables."""
    venues = sorted({m.partition(":")[0] for m in markets})
    contracts = _contracts(roots, markets)
    (tier, fees), *others = tiers.items()
    return Provenance(
        perptape=__version__,
        tapes=tuple(_source(tape) for tape in tapes),
        parameters={**parameters, "taker fees": f"tier {tier}"},
        contracts=contracts,
        fees=tuple(fees[v] for v in venues if v in fees),
        tiers={name: tuple(of[v] for v in venues if v in of) for name, of in others},
        notes=(
            *_unclosed(tapes),
            *_untimed(tapes),
            *_unread(roots),
            *_unlisted(markets, contracts),
            *(_no_fee(v) for v in venues if v not in fees),
        ),
        versions={"perptape": __version__} | {name: version(name) for name in COMPUTED_BY},
    )


def _source(tape: Path) -> Source:
    if manifest := tables.imported(tape):
        files = [one.name for one in manifest.imports]
        more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
        made = f"{manifest.source}, from {', '.join(files[:NAMED])}{more}"
        return Source(_name(tape), manifest.manifest_sha256, made)
    runs = sorted({run.perptape for run in Tape(tape).meta.runs})
    digest = hashlib.sha256((tape / MANIFEST).read_bytes()).hexdigest()
    return Source(_name(tape), digest, f"perptape {', '.join(runs)}" if runs else None)


def _name(tape: Path) -> str:
    return os.fsencode(tape.resolve().name).decode(errors="replace")


def _contracts(roots: Sequence[Path], markets: Sequence[str]) -> tuple[Contract, ...]:
    """Give the latest listing of each market."""
    names = ("symbol", "kind", "contract_size", "tick_size", "lot_size")
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
        if tables.imported(path):
            continue
        if any(segment.state in {"open", "tail"} for segment in Tape(path).segments):
            yield (
                f"{path.resolve().name} is still being written, or was not closed: "
                "this report ends where it was when the report was made."
            )


def _untimed(tapes: Sequence[Path]) -> Iterator[str]:
    """Say of each tape whose recorder could not be sure of the time how unsure it was."""
    for path in tapes:
        if tables.imported(path):
            continue
        # A run without a config wrote what others had recorded, on their clock.
        told = [run.host.clock for run in Tape(path).meta.runs if run.config and run.host.clock]
        bound_us = max((clock.max_error_us for clock in told), default=0)
        is_free = any(not clock.synchronised for clock in told)
        if is_free or bound_us > CLOCK_ERROR_AT_MOST_US:
            how, wrong = "not synchronised", "any amount"
            if not is_free:
                how, wrong = f"sure of itself to {bound_us / 1e6:g} s only", "as much"
            yield (
                f"The clock that {path.resolve().name} was recorded by was {how}: times in UTC, "
                f"offsets of the venues' clocks and raw latencies may be wrong by {wrong}. "
                "Gaps and edges within the tape do not need it."
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
