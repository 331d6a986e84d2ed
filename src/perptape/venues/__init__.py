"""The list of venues: a new one is its file, a line here, golden frames and a page in docs."""

from collections.abc import Mapping

from perptape.venues.binance import BINANCE
from perptape.venues.binance_coinm import BINANCE_COINM
from perptape.venues.binance_spot import BINANCE_SPOT
from perptape.venues.bitget import BITGET
from perptape.venues.bybit import BYBIT
from perptape.venues.gateio import GATEIO
from perptape.venues.htx import HTX
from perptape.venues.hyperliquid import HYPERLIQUID
from perptape.venues.okx import OKX
from perptape.venues.venue import Venue

VENUES: Mapping[str, Venue] = {
    venue.name: venue
    for venue in (
        BITGET,
        HTX,
        GATEIO,
        BYBIT,
        BINANCE,
        BINANCE_COINM,
        BINANCE_SPOT,
        OKX,
        HYPERLIQUID,
    )
}
LIVE: tuple[str, ...] = tuple(name for name, venue in VENUES.items() if venue.live)
"""The venues that can be recorded; the others decode imports only."""
DEFAULT = ("bitget", "htx", "gateio", "bybit")
"""Those that are recorded where none is named."""
