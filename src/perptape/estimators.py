"""The numba loops of the statistics that no library has: arrays in, arrays out.

Times are int64 ns; every number is known (no NaN).
"""

import numpy as np

from perptape.kernels import Floats, Int, Ints
from perptape.loops import compiled


@compiled
def weigh(ts: Ints, x: Floats, stretch: Ints, horizon_ns: float) -> tuple[Floats, Floats, Floats]:
    """Mean, variance and z-score of irregular samples, weighted exponentially by time, each [n].

    A sample's z-score is by the state before it; NaN for the first of a stretch, where all begins
    anew, and while the variance is 0.
    """
    mean, variance, z = np.empty(len(x)), np.empty(len(x)), np.empty(len(x))
    for k in range(len(x)):
        if k == 0 or stretch[k] != stretch[k - 1]:
            mean[k], variance[k], z[k] = x[k], 0.0, np.nan
            continue
        share = 1.0 - np.exp(-(ts[k] - ts[k - 1]) / horizon_ns)
        step = x[k] - mean[k - 1]
        z[k] = step / np.sqrt(variance[k - 1]) if variance[k - 1] > 0.0 else np.nan
        mean[k] = mean[k - 1] + share * step
        variance[k] = (1.0 - share) * (variance[k - 1] + share * step * step)
    return mean, variance, z


@compiled
def add_covariations(  # noqa: PLR0913, PLR0917 - two paths, and where to
    ts_x: Ints, x: Floats, block: Ints, ts_y: Ints, y: Floats, lags_ns: Ints, found: Floats
) -> None:
    """Add Hayashi-Yoshida covariations of two paths to ``found`` [blocks, lags].

    Y's times are moved by minus the lag. The increment of X that ends at k counts in ``block[k]``.
    The increments of Y that overlap one of X are neighbours, so their sum is a difference of two
    values of Y: O(n + m) per lag.
    """
    last = len(y) - 1
    for k in range(len(lags_ns)):
        before = after = 0
        for i in range(1, len(x)):
            start, end = ts_x[i - 1] + lags_ns[k], ts_x[i] + lags_ns[k]
            while before < last and ts_y[before + 1] <= start:
                before += 1
            while after < last and ts_y[after] < end:
                after += 1
            if after > before:
                found[block[i], k] += (x[i] - x[i - 1]) * (y[after] - y[before])


@compiled
def extend_hull(t: Floats, y: Floats, hull: Floats, size: Int) -> Int:
    """Take points of ascending ``t`` into a lower convex hull [k, 2] of ``size``; give its size."""
    n = size
    for k in range(len(t)):
        if n and t[k] == hull[n - 1, 0]:
            if y[k] >= hull[n - 1, 1]:
                continue
            n -= 1
        while n > 1:
            (t0, y0), (t1, y1) = hull[n - 2], hull[n - 1]
            if (t1 - t0) * (y[k] - y0) > (y1 - y0) * (t[k] - t0):
                break
            n -= 1
        hull[n, 0], hull[n, 1] = t[k], y[k]
        n += 1
    return n
