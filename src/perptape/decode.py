"""Frames to events, and events to one set of units: the one place that meets parser errors."""

from collections.abc import Callable
from typing import Self

import msgspec

from perptape.errors import CONTROL_ERRORS, BadFrame
from perptape.events import NS, Event, RestAnswer
from perptape.instruments import Instrument, price_unit
from perptape.venues import VENUES

PARSER_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError, ArithmeticError)
"""All that a venue's decoder may raise on hostile bytes (msgspec: RecursionError on deep JSON;
Decimal: InvalidOperation, which is no ValueError)."""


def decoder(venue: str) -> Callable[[bytes], list[Event]]:
    """Give the venue's decoder, which raises nothing but :class:`BadFrame`."""
    if venue not in VENUES:
        return _unknown
    read = VENUES[venue].decode

    def decode(payload: bytes) -> list[Event]:
        try:
            return read(payload)
        except PARSER_ERRORS as error:
            raise BadFrame(f"{venue}: {error}") from error

    return decode


def _unknown(payload: bytes) -> list[Event]:
    del payload  # a venue of another version: its frames stay on the tape, undecoded
    return []


def is_control(venue: str, payload: bytes) -> bool:
    """Tell an acknowledgement, an error or a heartbeat from data that is not decoded."""
    control = VENUES[venue].control if venue in VENUES else None
    try:
        return control is not None and control(payload) is not None
    except CONTROL_ERRORS:
        return False


class Terms(msgspec.Struct, frozen=True):
    """What a market's quotes are converted by, while one instrument list is in force."""

    market: str
    price_unit: float
    """Base coins that one printed price buys."""
    contract_size: float | None
    """Base coins per ``qty``, of an inverse contract quote units; ``None``: not known."""
    is_inverse: bool = False
    interval_h: float | None = None
    """For how long a rate of funding is printed, where the venue does not say it beside it."""

    @classmethod
    def of(cls, market: str, symbol: str, instrument: Instrument | None) -> Self:
        """Without an instrument the price unit is what the symbol's own spelling says."""
        if instrument is None:
            return cls(market, price_unit(symbol, market.partition(":")[2]), None)
        is_inverse = instrument.kind == "inverse"
        unit, size = instrument.price_unit, instrument.contract_size
        return cls(market, unit, size, is_inverse, instrument.funding_interval_h)


class Registry:
    """The instruments in force: the newest list that each venue has sent so far."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Instrument] = {}

    def answer(
        self, venue: str, payload: bytes, ts_recv: int
    ) -> tuple[RestAnswer, list[Instrument]]:
        """Take in a recorded REST answer; give it, and the instruments that it tells of.

        Told is what was not known, and once a day what was: a venue says the same again and again.
        Raises BadFrame if an instrument list cannot be read.
        """
        try:
            answer = msgspec.json.decode(payload, type=RestAnswer)
            read = VENUES[venue].read_instruments if venue in VENUES else None
            if answer.what != "instruments" or answer.status != HTTP_OK or read is None:
                return answer, []
            listed = read(answer.body.encode(), ts_recv).instruments
        except PARSER_ERRORS as error:
            raise BadFrame(f"{venue}: {error}") from error
        told = [each for each in listed if not self._is_known(each)]
        self._known.update({(venue, each.symbol): each for each in told})
        return answer, told

    def _is_known(self, one: Instrument) -> bool:
        known = self._known.get((one.venue, one.symbol))
        if known is None or known.ts_seen // DAY_NS != one.ts_seen // DAY_NS:
            return False
        return one == msgspec.structs.replace(known, ts_seen=one.ts_seen)

    def find(self, venue: str, symbol: str) -> Instrument | None:
        return self._known.get((venue, symbol))

    def name(self, venue: str, symbol: str) -> str | None:
        """Give the canonical name, by the list or else by the symbol's own spelling."""
        known = self._known.get((venue, symbol))
        if known is not None:
            return known.name
        return VENUES[venue].instrument_name(symbol) if venue in VENUES else None


def rest_events(venue: str, answer: RestAnswer) -> list[Event]:
    """Give what a REST answer says about the market. Raises BadFrame if it cannot be read."""
    read = VENUES[venue].read_rest if venue in VENUES else None
    if read is None or answer.status != HTTP_OK or answer.what in OF_THE_VENUE:
        return []
    try:
        return read(answer.what, answer.symbol, answer.body.encode())
    except PARSER_ERRORS as error:
        raise BadFrame(f"{venue}: {error}") from error


HTTP_OK = 200
DAY_NS = 86_400 * NS
OF_THE_VENUE = {"instruments", "time", "turnover"}
"""Answers that tell of no market."""
