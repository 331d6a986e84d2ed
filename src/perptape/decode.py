"""Frames to events, and events to one set of units: the one place that meets parser errors."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from perptape.errors import BadFrame
from perptape.events import Event, Quote, RestAnswer
from perptape.instruments import Instrument, size_in_base
from perptape.venues import VENUES

PARSER_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""All that a venue's decoder may raise on hostile bytes (msgspec: RecursionError on deep JSON)."""


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


class QuoteRow(NamedTuple):
    """A quote in the table's units: prices per base coin, sizes in base coins."""

    bid_price: float | None
    bid_size: float | None
    ask_price: float | None
    ask_size: float | None


def quote_row(quote: Quote, instrument: Instrument | None, price_unit: float = 1.0) -> QuoteRow:
    """Convert by the instrument in force.

    Without one the sizes are ``None``, and ``price_unit`` (base coins that one printed price buys)
    is what the symbol's own spelling says.
    """
    if instrument is None:
        return QuoteRow(
            _over(quote.bid_price, price_unit), None, _over(quote.ask_price, price_unit), None
        )
    if instrument.kind == "linear" and instrument.contract_size == instrument.price_unit == 1.0:
        return QuoteRow(quote.bid_price, quote.bid_qty, quote.ask_price, quote.ask_qty)
    bid = _over(quote.bid_price, instrument.price_unit)
    ask = _over(quote.ask_price, instrument.price_unit)
    return QuoteRow(
        bid, _size(instrument, quote.bid_qty, bid), ask, _size(instrument, quote.ask_qty, ask)
    )


def _over(price: float | None, unit: float) -> float | None:
    return None if price is None else price / unit


def _size(instrument: Instrument, qty: float | None, price: float | None) -> float | None:
    if qty is None or price is None:
        return None
    return size_in_base(instrument, qty, price)


class Registry:
    """The instruments in force: the newest list that each venue has sent so far."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Instrument] = {}

    def answer(self, venue: str, payload: bytes, ts_recv: int) -> list[Instrument]:
        """Take in a recorded REST answer; give the instruments it lists, ``[]`` if none.

        Raises BadFrame if an instrument list cannot be read.
        """
        try:
            answer = msgspec.json.decode(payload, type=RestAnswer)
            read = VENUES[venue].read_instruments if venue in VENUES else None
            if answer.what != "instruments" or answer.status != HTTP_OK or read is None:
                return []
            listed = read(answer.body.encode(), ts_recv).instruments
        except PARSER_ERRORS as error:
            raise BadFrame(f"{venue}: {error}") from error
        self._known.update({(venue, i.symbol): i for i in listed})
        return listed

    def find(self, venue: str, symbol: str) -> Instrument | None:
        return self._known.get((venue, symbol))

    def name(self, venue: str, symbol: str) -> str | None:
        """Give the canonical name, by the list or else by the symbol's own spelling."""
        known = self._known.get((venue, symbol))
        if known is not None:
            return known.name
        return VENUES[venue].instrument_name(symbol) if venue in VENUES else None


HTTP_OK = 200
