"""What is traded: canonical names, and what one contract is worth."""

import msgspec


class Instrument(msgspec.Struct, frozen=True):
    """One contract of one venue, everything per base coin."""

    venue: str
    name: str
    """``BTC-USDT-PERP`` (linear), ``BTC-USD-PERP`` (inverse), ``BTC-USDT-SPOT``."""
    symbol: str
    """The venue's spelling."""
    base: str
    quote: str
    settle: str
    kind: str
    """``linear``, ``inverse`` or ``spot``."""
    contract_size: float
    """Base coins per ``qty``; of an inverse contract: quote units per ``qty``."""
    price_unit: float
    """Base coins that one printed price buys: 1000 for ``1000PEPE``, else 1."""
    tick_size: float | None
    """Price step per base coin."""
    lot_size: float | None
    """Size step in base coins (inverse: in quote units)."""
    taker_fee: float | None
    maker_fee: float | None
    funding_interval_h: float | None
    status: str
    """The venue's word; ``trading`` where it trades."""
    ts_seen: int
