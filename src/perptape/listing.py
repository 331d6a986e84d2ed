"""What the venues list now, asked without a recording."""

import asyncio
from collections.abc import Sequence

import httpx2
import msgspec

from perptape.clock import Clock
from perptape.errors import Failed, NothingRecorded, Unreachable
from perptape.instruments import Instrument
from perptape.rest import Rest, open_client
from perptape.route import Route, tls_context
from perptape.universe import Rule, Universe
from perptape.venues.venue import Venue


class Nowhere:
    """Takes what a recorder would write to a tape, and keeps nothing."""

    full = False

    def new_wire(self, venue: str) -> int:
        del venue
        return 0

    def end_wire(self, wire: int) -> None:
        del wire

    def append(self, *_: object) -> int:
        return 0


class Survey(msgspec.Struct):
    """What venues list, and what their symbols turned over in 24 h; or why that is not known."""

    listed: dict[str, list[Instrument]] = {}
    traded: dict[str, dict[str, float]] = {}
    missing: dict[str, str] = {}
    """Venues whose list could not be had."""
    untold: dict[str, str] = {}
    """Venues whose turnover could not be had."""


def listed(venues: Sequence[Venue]) -> list[Instrument]:
    """Give all instruments of these venues, by venue and name.

    Raises Failed if one of them cannot be asked.
    """
    survey = asyncio.run(_survey(venues, turnover=False))
    for name, reason in survey.missing.items():
        names = ",".join(v.name for v in venues if v.name != name)
        hint = f"try --venues {names}" if names else "check the connection"
        raise Failed(f"{name} cannot be asked ({reason}): {hint}.")
    found = [each for instruments in survey.listed.values() for each in instruments]
    return sorted(found, key=lambda i: (i.venue, i.name, i.symbol))


def chosen(rule: Rule, venues: Sequence[Venue]) -> Universe:
    """Choose the markets that a rule means of what these venues list now.

    Raises BadUsage where it means none, NothingRecorded where no venue can be asked.
    """
    survey = asyncio.run(_survey(venues, turnover=rule.top is not None))
    missing = [f"{name} cannot be asked: {reason}" for name, reason in survey.missing.items()]
    if not survey.listed:
        raise NothingRecorded(f"Nothing was recorded: {'; '.join(missing)}; check the connection.")
    universe = Universe(rule, [venue.name for venue in venues])
    universe.missing = missing
    universe.missing += [f"without the turnover of {v}: {why}" for v, why in survey.untold.items()]
    for name, instruments in survey.listed.items():
        universe.listed(name, instruments)
    for name, turnover in survey.traded.items():
        universe.traded(name, turnover)
    universe.choose()
    return universe


async def _survey(venues: Sequence[Venue], *, turnover: bool) -> Survey:
    found = Survey()
    clock, tape = Clock(), Nowhere()

    async def ask(client: httpx2.AsyncClient, venue: Venue) -> None:
        rest = Rest(client, venue, tape, clock)
        try:
            found.listed[venue.name] = await rest.ask()
        except Unreachable as error:
            found.missing[venue.name] = str(error)
            return
        try:
            if turnover:
                found.traded[venue.name] = await rest.turnover()
        except Unreachable as error:
            found.untold[venue.name] = str(error)

    async with open_client(Route(tls_context())) as client:
        await asyncio.gather(*(ask(client, venue) for venue in venues))
    return found
