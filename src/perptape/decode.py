"""Frames to events, and events to one set of units: the one place that meets parser errors."""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Self

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from perptape.errors import BadFrame
from perptape.events import Event, Quote, RestAnswer
from perptape.instruments import Instrument, price_unit
from perptape.session import CONTROL_ERRORS
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

    @classmethod
    def of(cls, market: str, symbol: str, instrument: Instrument | None) -> Self:
        """Without an instrument the price unit is what the symbol's own spelling says."""
        if instrument is None:
            return cls(market, price_unit(symbol, market.partition(":")[2]), None)
        is_inverse = instrument.kind == "inverse"
        return cls(market, instrument.price_unit, instrument.contract_size, is_inverse)


VALUES = attrgetter(
    "ts_event", "ts_send", "bid_price", "bid_qty", "ask_price", "ask_qty", "update_id"
)


def quote_columns(
    quotes: Iterable[Quote], terms: Sequence[Terms], at: NDArray[np.int32]
) -> dict[str, pa.Array]:
    """Give quotes in the table's units: prices per base coin, sizes in base coins.

    Quote k is converted by ``terms[at[k]]``; sizes are null where that has no contract size.
    """
    columns = zip(*map(VALUES, quotes), strict=True)
    ts_event, ts_send, bid, bid_qty, ask, ask_qty, update_id = columns
    unit = np.array([t.price_unit for t in terms])[at]
    contract = np.array([t.contract_size or np.nan for t in terms])[at]
    is_inverse = np.array([t.is_inverse for t in terms])[at]
    prices = [_floats(price) / unit for price in (bid, ask)]
    sizes = [_floats(qty) * contract for qty in (bid_qty, ask_qty)]
    for price, size in zip(prices, sizes, strict=True):
        np.divide(size, price, out=size, where=is_inverse)
        size[np.isnan(price)] = np.nan
    return {
        "ts_event": pa.array(ts_event, pa.int64()),
        "ts_send": pa.array(ts_send, pa.int64()),
        "bid_price": pa.array(prices[0], from_pandas=True),
        "bid_size": pa.array(sizes[0], from_pandas=True),
        "ask_price": pa.array(prices[1], from_pandas=True),
        "ask_size": pa.array(sizes[1], from_pandas=True),
        "update_id": pa.array(update_id, pa.int64()),
    }


def _floats(values: Sequence[float | None]) -> NDArray[np.float64]:
    """Give an array with NaN for ``None``; a venue's own number is never NaN."""
    return np.array(values, np.float64)


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
