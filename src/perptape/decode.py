"""Frames to events, and events to one set of units: the one place that meets parser errors."""

from collections.abc import Callable, Sequence
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


def quote_columns(
    quotes: Sequence[Quote], terms: Sequence[Terms], at: NDArray[np.int32]
) -> dict[str, pa.Array]:
    """Give quotes in the table's units: prices per base coin, sizes in base coins.

    Quote k is converted by ``terms[at[k]]``; sizes are null where that has no contract size.
    """
    unit = np.array([t.price_unit for t in terms])[at]
    contract = np.array([t.contract_size or np.nan for t in terms])[at]
    is_inverse = np.array([t.is_inverse for t in terms])[at]

    def side(prices: list[float | None], qtys: list[float | None]) -> tuple[pa.Array, pa.Array]:
        price = np.array(prices, np.float64) / unit  # None becomes NaN, which no venue can say
        size = np.array(qtys, np.float64) * contract
        np.divide(size, price, out=size, where=is_inverse)
        size[np.isnan(price)] = np.nan
        return pa.array(price, from_pandas=True), pa.array(size, from_pandas=True)

    with np.errstate(over="ignore"):
        bid = side([q.bid_price for q in quotes], [q.bid_qty for q in quotes])
        ask = side([q.ask_price for q in quotes], [q.ask_qty for q in quotes])
    return {
        "ts_event": pa.array([q.ts_event for q in quotes], pa.int64()),
        "ts_send": pa.array([q.ts_send for q in quotes], pa.int64()),
        "bid_price": bid[0],
        "bid_size": bid[1],
        "ask_price": ask[0],
        "ask_size": ask[1],
        "update_id": pa.array([q.update_id for q in quotes], pa.int64()),
    }


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
