"""What the venues list now, asked without a recording."""

import asyncio
from collections.abc import Sequence

from perptape.clock import Clock
from perptape.errors import Failed, Unreachable
from perptape.instruments import Instrument
from perptape.rest import Rest, open_client
from perptape.route import Route, tls_context
from perptape.venues.venue import Venue


class Nowhere:
    """Takes what a recorder would write to a tape, and keeps nothing."""

    full = False

    def new_wire(self, venue: str) -> int:
        del venue
        return 0

    def append(self, *_: object) -> int:
        return 0


def listed(venues: Sequence[Venue]) -> list[Instrument]:
    """Give all instruments of these venues, by venue and name.

    Raises Failed if one of them cannot be asked.
    """
    return asyncio.run(_listed(venues))


async def _listed(venues: Sequence[Venue]) -> list[Instrument]:
    clock, tape = Clock(), Nowhere()
    async with open_client(Route(tls_context())) as client:
        asked = [Rest(client, venue, tape, clock).ask() for venue in venues]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    for venue, answer in zip(venues, answers, strict=True):
        if isinstance(answer, Unreachable):
            names = ",".join(v.name for v in venues if v is not venue)
            hint = f"try --venues {names}" if names else "check the connection"
            raise Failed(f"{venue.name} cannot be asked ({answer}): {hint}.")
        if isinstance(answer, BaseException):
            raise answer
    found = [each for answer in answers if isinstance(answer, list) for each in answer]
    return sorted(found, key=lambda i: (i.venue, i.name, i.symbol))
