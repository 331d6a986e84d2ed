"""From flags and run.toml to what is to be recorded; flags go before the file."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from perptape import config, listing
from perptape.config import RunConfig
from perptape.errors import BadUsage
from perptape.instruments import nearest, parse_instrument
from perptape.record import Plan
from perptape.route import at
from perptape.tape import Retention
from perptape.universe import WORD, Rule, quotes_in
from perptape.venues import DEFAULT, LIVE, VENUES
from perptape.venues.venue import Venue

T = TypeVar("T")


class Choice(msgspec.Struct, frozen=True):
    """A plan, and the tape to record it into."""

    plan: Plan
    tape: Path
    sync_ms: int


def choose(  # noqa: PLR0913 - one parameter per flag
    *,
    instruments: Sequence[str],
    venues: Sequence[str] = (),
    channels: Sequence[str] = (),
    min_venues: int | None = None,
    top: int | None = None,
    duration: str | None = None,
    tape: Path | None = None,
    keep: str | None = None,
    max_disk: str | None = None,
    config_path: Path | None = None,
    urls: Sequence[str] = (),
) -> Choice:
    """Put flags and file together; for a universe ask the venues what they list.

    Raises BadUsage, naming the argument and what is allowed; NothingRecorded where a universe is
    meant and no venue can be asked.
    """
    file = config.load(config_path)
    words = instruments or file.instruments
    quotes = quotes_in(words)
    names = [_perpetual(word) for word in words if not WORD.fullmatch(word)]
    if not words:
        raise BadUsage("record needs an instrument: perptape record BTC-USDT.")
    lasts = _first(duration, file.for_)
    names_of_venues = venues or list(file.venues)
    chosen = venues_at(names_of_venues, _origins_in(file, names_of_venues) | origins(urls))
    rule = _rule(quotes, _first(min_venues, file.min_venues), _first(top, file.top), len(chosen))
    retention = _retention(_first(keep, file.keep), _first(max_disk, file.max_disk))
    asked = _channels(channels or file.channels, chosen)
    plan = Plan(
        instruments=tuple(dict.fromkeys(names)),
        venues=tuple(chosen),
        channels=tuple(asked),
        streams={name: v.streams for name, v in file.venues.items() if v.streams},
        for_ns=None if lasts is None else config.duration_ns(lasts),
        retention=retention,
        universe=None if rule is None else listing.chosen(rule, chosen),
    )
    place = tape or (Path(file.tape) if file.tape else new_tape())
    return Choice(plan, place, file.sync_ms)


def _perpetual(word: str) -> str:
    """Read the name of what can be recorded."""
    name = parse_instrument(word)
    if name.startswith("ALL-"):
        raise BadUsage(f"{word!r} is no universe: write ALL-USDT, ALL-USDC or ALL-USD.")
    if name.endswith("-SPOT"):
        raise BadUsage(f"{word!r} is spot, which can only be imported: record a perpetual.")
    return name


def _first(flag: T | None, of_the_file: T | None) -> T | None:
    return of_the_file if flag is None else flag


def _rule(
    quotes: tuple[str, ...], min_venues: int | None, top: int | None, venues: int
) -> Rule | None:
    for flag, value in (("--min-venues", min_venues), ("--top", top)):
        if value is not None and not quotes:
            raise BadUsage(f"{flag} chooses of a universe: write ALL-USDT, ALL-USDC or ALL-USD.")
        if value is not None and value < 1:
            raise BadUsage(f"{flag} {value} leaves nothing: give 1 or more.")
    if min_venues is not None and min_venues > venues:
        raise BadUsage(f"--min-venues {min_venues} is more than the {venues} of --venues.")
    return Rule(quotes, min_venues or 1, top) if quotes else None


def _retention(keep: str | None, max_disk: str | None) -> Retention:
    return Retention(
        keep_ns=None if keep is None else config.retention_ns(keep),
        max_bytes=None if max_disk is None else config.size_b(max_disk),
    )


def new_tape() -> Path:
    """Name a tape by the moment (UTC)."""
    return Path(f"tape-{datetime.now(tz=UTC):%Y%m%d-%H%M%S}")


def venues_at(names: Sequence[str], places: Mapping[str, str]) -> list[Venue]:
    """Give the named venues, at their own hosts or another's.

    If none is named: the first four, and those that have a place.
    """
    for name in places:
        _live(name, "--url")
    chosen = [_live(name) for name in dict.fromkeys(names or (*DEFAULT, *places))]
    for name in places:
        if name not in [venue.name for venue in chosen]:
            raise BadUsage(f"--url names {name!r}, which is not recorded: add it to --venues.")
    return [at(venue, places[venue.name]) if venue.name in places else venue for venue in chosen]


def _live(name: str, argument: str = "--venues") -> Venue:
    if name in LIVE:
        return VENUES[name]
    if name in VENUES:
        raise BadUsage(f"{name} can only be imported; record one of {', '.join(LIVE)}.")
    close = nearest(name, LIVE)
    hint = f" Did you mean {close}?" if close else ""
    raise BadUsage(f"{argument}: {name!r} is unknown; allowed are {', '.join(LIVE)}.{hint}")


def origins(urls: Iterable[str]) -> dict[str, str]:
    """Read ``VENUE=ORIGIN`` words."""
    found: dict[str, str] = {}
    for word in urls:
        name, equals, origin = word.partition("=")
        if not equals or not origin:
            raise BadUsage(f"--url {word!r}: write VENUE=http://HOST:PORT.")
        found[name] = origin
    return found


def _origins_in(file: RunConfig, names: Sequence[str]) -> dict[str, str]:
    """Give the origins of the named venues; the file may hold more of them than are recorded."""
    for name in file.venues:
        _live(name, f"[venues.{name}]")
    return {
        name: choice.url for name, choice in file.venues.items() if choice.url and name in names
    }


def _channels(names: Sequence[str], venues: Sequence[Venue]) -> list[str]:
    known = list(dict.fromkeys(channel for venue in venues for channel in venue.streams))
    for name in names:
        if name not in known:
            raise BadUsage(f"--channels: {name!r} is unknown; allowed are {', '.join(known)}.")
    return list(dict.fromkeys(names))
