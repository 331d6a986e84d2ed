"""What is drawn of a coin: each quantity on one time axis, bucket by bucket."""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray


class Drawn(msgspec.Struct, frozen=True):
    """One quantity per bucket, float64[n], NaN where undefined; low and high keep the extremes."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    last: NDArray[np.float64]


class Series(msgspec.Struct, frozen=True):
    """What is drawn of the markets of one coin, on one time axis."""

    ts: NDArray[np.int64]
    """Start of each bucket, ns, ascending, [n]."""
    step_ns: int
    """Length of each bucket."""
    bids: Mapping[str, Drawn]
    asks: Mapping[str, Drawn]
    gaps_bps: Mapping[tuple[str, str], Drawn]
    """By (sell, buy)."""
    edges_bps: Mapping[tuple[str, str, float], Drawn] = {}
    """By (sell, buy, notional)."""
    funding_bps_per_h: Mapping[str, Drawn] = {}
    """What each venue expected at the end of a bucket."""
