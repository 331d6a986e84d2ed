"""The pass over the depth: partial -> merge, so that any cut of the time gives the same numbers."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from perptape import sizing, spells, sweep
from perptape.align import fixed
from perptape.depth import Ladders, Updates
from perptape.errors import Failed
from perptape.kernels import NEVER, Floats, Ints, Trust
from perptape.measures.counts import SparseCounts
from perptape.measures.pairs import whole
from perptape.measures.scenes import Asked, Scene
from perptape.measures.updates import Table, needed, updates
from perptape.sweep import State

Each = TypeVar("Each")
WAITING = 512
"""Values of a stream that are counted together."""
RING = 64
"""Steps, and openings, that wait for delays at first; it doubles."""
TOLD = 1 << 12
"""Spans, and takes, that are told beyond what an instant may tell."""
WEIGHTS = 1 << 14
"""Room for weights at first; it doubles."""


class Sums(NamedTuple):
    """Exact sums of one stream: an edge in 1 / FINE bps, times events or ns."""

    n: int
    positive: int
    back_positive: int
    """Events at which it was > 0 after the fees of the way back too."""
    defined_ns: int
    thin_ns: int
    fine: int
    fine_ns: int


class Lag(NamedTuple):
    """What was left of an edge after a delay, over the time in which it had been enough."""

    held_ns: int
    kept_ns: int
    """It was still enough."""
    lagged_ns: int
    """There was still so much to trade."""
    fine_ns: int


class Spans(NamedTuple):
    """Stretches in which edges stood open, in the order in which they ended [k]."""

    ints: Ints
    """[k, SPAN_INTS], see :mod:`perptape.sweep`"""
    floats: Floats
    """[k, 2] peak in bps, capacity in base coins"""


class Takes(NamedTuple):
    """What one take some delays after an opening would have gained [k]."""

    ints: Ints
    """[k, 2] automaton, when it opened"""
    gains: Floats
    """[k, D] in quote currency; NaN not known, THIN not so much there"""


class Best(NamedTuple):
    """The best moment of a pair, and for how long anything could be gained."""

    gain: float
    size: float
    ts: int
    gain_ns: int


class Part(NamedTuple):
    """What one part of the time came to; parts that meet can be merged."""

    since: int
    until: int
    sums: tuple[Sums, ...]
    least: Floats
    most: Floats
    """[S]; ``least`` > ``most`` where there are no events"""
    lags: tuple[Lag, ...]
    """[S x H x D]"""
    bests: tuple[Best, ...]
    capacity_ns: Ints
    """[P, H]"""
    capacity_most: Floats
    spans: Spans
    takes: Takes
    keys: Ints
    """Events counted by series and edge in 0.001 bps, ascending: [k], and how many [k]."""
    counts: Ints
    names: Ints
    """Time weighed by series and bin, ascending: [k], and ns [k]."""
    weights: Ints


class Accumulator:
    """All pairs of a scene in one part of the time, fed updates in receive order."""

    def __init__(self, scene: Scene, asked: Asked, *, part: tuple[int, int], ts_to: int) -> None:
        """``part``: its begin and the begin of the next; trust ends at ``ts_to`` at the latest."""
        self._part = part
        self._plan = scene.plan(asked)
        self._trust = scene.coin.trust(part[0], ts_to)
        streams = len(scene.entries) * len(asked.notionals)
        self._counts = SparseCounts(spill=(streams + 1) * WAITING, series=streams)
        self._state = _state(self._plan, self._trust, part, self._counts)
        self._ladders = Ladders.new(np.array([scene.is_top[m] for m in scene.coin.markets]))
        self._spans: list[Spans] = []
        self._takes: list[Takes] = []

    @property
    def is_done(self) -> bool:
        """Whether nothing that comes later matters."""
        return bool(self._state.run[sweep.IS_DONE])

    def feed(self, chunk: Updates) -> None:
        """Take in the next updates.

        Raises Failed if one is earlier than the one before.
        """
        k = 0
        while k < len(chunk.ts) and not self.is_done:
            k = int(sweep.sweep(chunk, k, self._trust, self._plan, self._state, self._ladders))
            if k < 0:
                raise Failed(
                    "Books and quotes are not in receive order: sort them by ts_recv and seq first."
                )
            self._make_room()

    def finish(self) -> Part:
        """Close what is open, and give what it came to; nothing is fed after it."""
        nothing = np.empty(0)
        self.feed(
            Updates(
                *map(
                    fixed,
                    (
                        np.array([NEVER]),
                        np.array([-1]),
                        np.zeros(2, np.int64),
                        np.zeros(1, np.bool_),
                        np.empty(0, np.int8),
                        nothing,
                        nothing,
                    ),
                )
            )
        )
        sweep.settle(self._plan, self._state)
        self._make_room()
        return self._told()

    def _make_room(self) -> None:
        """Take away what was told, and double what is nearly full."""
        state, told = self._state, self._state.told
        spans, takes = int(told.used[spells.USED_SPANS]), int(told.used[spells.USED_TAKES])
        if spans:
            self._spans.append(Spans(told.spans[:spans].copy(), told.peaks[:spans].copy()))
        if takes:
            self._takes.append(Takes(told.takes[:takes].copy(), told.gains[:takes].copy()))
        told.used[[spells.USED_SPANS, spells.USED_TAKES]] = 0
        if told.used[spells.IS_LONG]:
            state = _longer(state)
        if 2 * state.weights.used[0] >= len(state.weights.names):
            state = state._replace(weights=_wider(state.weights))
        self._counts.absorb()
        self._state = state._replace(events=state.events._replace(counts=self._counts.arrays))

    def _told(self) -> Part:
        state, told, table = self._state, self._state.told, self._state.weights
        streams = range(len(state.streams.ints))
        counted = self._counts.told()
        bins = [counted.of(s) for s in streams]
        kept = np.flatnonzero(table.names >= 0)
        order = np.argsort(table.names[kept])
        return Part(
            *self._part,
            sums=tuple(_sums(state.streams.ints[s]) for s in streams),
            least=state.streams.values[:, sweep.LEAST].copy(),
            most=state.streams.values[:, sweep.MOST].copy(),
            lags=tuple(_lag(lag) for lag in state.rings.lags.reshape(-1, spells.LAG_INTS)),
            bests=tuple(map(_best, state.pairs.ints, state.pairs.bests)),
            capacity_ns=state.pairs.capacity_ns,
            capacity_most=state.pairs.capacity_most,
            spans=Spans(
                np.concatenate([told.spans[:0], *(s.ints for s in self._spans)]),
                np.concatenate([told.peaks[:0], *(s.floats for s in self._spans)]),
            ),
            takes=Takes(
                np.concatenate([told.takes[:0], *(t.ints for t in self._takes)]),
                np.concatenate([told.gains[:0], *(t.gains for t in self._takes)]),
            ),
            keys=_joined([named(s, keys) for s, (keys, _) in zip(streams, bins, strict=True)]),
            counts=_joined([counts for _, counts in bins]),
            names=table.names[kept][order],
            weights=table.weights[kept][order],
        )


def named(series: int, bins: Ints | int) -> Ints:
    """Name bins of a series; those of two series do not mix."""
    return np.asarray((series << spells.WEIGHT_SHIFT) + spells.WEIGHT_MIDDLE + bins)


def of_series(names: Ints, weights: Ints, series: int, *, middle: int) -> tuple[Ints, Ints]:
    """Give the bins of one series, ascending, and what they weigh."""
    low, high = np.searchsorted(
        names, [series << spells.WEIGHT_SHIFT, (series + 1) << spells.WEIGHT_SHIFT]
    )
    return names[low:high] - (series << spells.WEIGHT_SHIFT) - middle, weights[low:high]


def _joined(arrays: Sequence[Ints]) -> Ints:
    return np.concatenate([np.empty(0, np.int64), *arrays])


def _sums(ints: Ints) -> Sums:
    return Sums(
        int(ints[sweep.N]),
        int(ints[sweep.POSITIVE]),
        int(ints[sweep.BACK_POSITIVE]),
        int(ints[sweep.DEFINED_NS]),
        int(ints[sweep.THIN_NS]),
        whole(ints[sweep.SUM :]),
        whole(ints[sweep.TIME_SUM :]),
    )


def _lag(ints: Ints) -> Lag:
    return Lag(
        int(ints[spells.HELD_NS]),
        int(ints[spells.KEPT_NS]),
        int(ints[spells.LAGGED_NS]),
        whole(ints[spells.LAG_SUM :]),
    )


def _best(ints: Ints, floats: Floats) -> Best:
    return Best(
        float(floats[sizing.BEST_GAIN]),
        float(floats[sizing.BEST_SIZE]),
        int(ints[sizing.BEST_TS]),
        int(ints[sizing.GAIN_NS]),
    )


# ---- arrays -------------------------------------------------------------------------------------


def _state(plan: sizing.Plan, trust: Trust, part: tuple[int, int], counts: SparseCounts) -> State:
    pairs, width, delays = len(plan.sells), len(plan.terms.enters), len(plan.terms.delays)
    streams = pairs * len(plan.notionals)
    automata, markets = streams * width, len(trust.first) - 1
    ints = np.zeros((streams, sweep.STREAM_INTS), np.int64)
    ints[:, sweep.T] = -NEVER
    values = np.full((streams, sweep.STREAM_FLOATS), np.nan)
    values[:, sweep.LEAST], values[:, sweep.MOST] = np.inf, -np.inf
    pair_ints = np.zeros((pairs, sizing.PAIR_INTS), np.int64)
    pair_ints[:, sizing.PAIR_T] = -NEVER
    rings = np.zeros((streams, spells.RING_INTS), np.int64)
    rings[:, spells.HOT] = -NEVER
    each = _each(trust)
    return State(
        _run(plan, part, each),
        each,
        np.zeros(markets, np.int64),
        np.empty((1, 4)),
        np.zeros((2, len(plan.notionals))),
        sweep.Streams(ints, values),
        sweep.Events(
            np.zeros((streams, WAITING), np.int64),
            np.zeros((streams, WAITING), np.int64),
            counts.arrays,
        ),
        sizing.Pairs(
            pair_ints,
            np.zeros((pairs, sizing.PAIR_FLOATS)),
            np.zeros((pairs, width)),
            np.zeros((pairs, width), np.int64),
            np.zeros((pairs, width)),
        ),
        spells.Automata(
            np.zeros((automata, spells.AUTOMATON_INTS), np.int64),
            np.zeros((automata, spells.AUTOMATON_FLOATS)),
        ),
        spells.Rings(
            rings,
            np.zeros((streams, RING), np.int64),
            np.zeros((streams, RING)),
            np.zeros((streams, delays), np.int64),
            np.zeros(
                (automata, max(delays, int(len(plan.followers) > 0)), spells.LAG_INTS), np.int64
            ),
        ),
        spells.Openings(
            np.zeros((automata, RING), np.int64),
            np.full((automata, RING, delays), np.nan),
            np.zeros((automata, delays), np.int64),
        ),
        _told(automata, RING, delays),
        spells.Weights(
            np.zeros(1, np.int64), np.full(WEIGHTS, -1, np.int64), np.zeros(WEIGHTS, np.int64)
        ),
    )


def _each(trust: Trust) -> Ints:
    each = np.zeros((len(trust.first) - 1, sizing.EACH), np.int64)
    first = trust.first[:-1]
    heard = first < trust.first[1:]
    each[:, sizing.CURSOR] = first
    each[:, [sizing.START, sizing.END]] = NEVER
    each[heard, sizing.START] = trust.starts[first[heard]]
    each[heard, sizing.END] = trust.ends[first[heard]]
    return each


def _run(plan: sizing.Plan, part: tuple[int, int], each: Ints) -> Ints:
    run = np.zeros(sweep.RUN, np.int64)
    run[sweep.NOW] = -NEVER
    run[sweep.SOONEST] = each[:, sizing.END].min(initial=NEVER)
    run[sweep.SINCE], run[sweep.UNTIL] = part
    run[sweep.LINGER] = plan.terms.delays.max(initial=0)
    return run


def _told(automata: int, ring: int, delays: int) -> spells.Told:
    spans, takes = 6 * automata + TOLD, 2 * automata * ring + TOLD
    return spells.Told(
        np.zeros(spells.USED, np.int64),
        np.zeros((spans, spells.SPAN_INTS), np.int64),
        np.zeros((spans, spells.AUTOMATON_FLOATS)),
        np.zeros((takes, 2), np.int64),
        np.zeros((takes, delays)),
    )


def _longer(state: State) -> State:
    """Double the rings; entry k lies at k modulo their length."""
    rings, openings = state.rings, state.openings
    steps, opened = rings.ints[:, spells.STEPS], state.automata.ints[:, spells.OPENED]
    automata, delays = openings.answered.shape
    return state._replace(
        rings=rings._replace(ts=_unrolled(rings.ts, steps), x=_unrolled(rings.x, steps)),
        openings=openings._replace(
            ts=_unrolled(openings.ts, opened), gain=_unrolled(openings.gain, opened)
        ),
        told=_told(automata, 2 * openings.ts.shape[1], delays),
    )


def _unrolled(ring: NDArray[Any], ends: Ints) -> NDArray[Any]:
    """Lay all entries before each end out in a ring of twice the length."""
    size = ring.shape[1]
    longer = np.zeros((len(ring), 2 * size, *ring.shape[2:]), ring.dtype)
    places = np.maximum(ends[:, None] - size, 0) + np.arange(size)
    rows = np.arange(len(ring))[:, None]
    longer[rows, places % (2 * size)] = ring[rows, places % size]
    return longer


def _wider(table: spells.Weights) -> spells.Weights:
    size, kept = 2 * len(table.names), table.names >= 0
    wider = spells.Weights(
        np.zeros(1, np.int64), np.full(size, -1, np.int64), np.zeros(size, np.int64)
    )
    spells.weigh_again(wider, table.names[kept], table.weights[kept])
    return wider


# ---- partial, merge -----------------------------------------------------------------------------


def partial(  # noqa: PLR0913 - what to read, and which part of it
    books: Sequence[Table],
    quotes: Sequence[Table],
    scene: Scene,
    asked: Asked,
    *,
    since: int = -NEVER,
    until: int = NEVER,
    ts_to: int = NEVER,
) -> Part:
    """Measure ``[since, until)`` of what is trusted up to ``ts_to``, inclusively.

    Rows from before it are read as far as the books need them, and a little of those after it, for
    what its delays ask.
    """
    accumulator = Accumulator(scene, asked, part=(since, until), ts_to=ts_to)
    first = needed(books, scene.coin, scene.is_top, since, ts_to)
    last = min(ts_to, until + max(asked.delays_ns, default=0) + 1)
    for chunk in updates(books, quotes, scene.coin, scene.is_top, ts_from=first, ts_to=last):
        accumulator.feed(chunk)
        if accumulator.is_done:
            break
    return accumulator.finish()


def merge(first: Part, then: Part) -> Part:
    """Add two parts, of which the second begins where the first ends."""
    if first.until != then.since:
        raise ValueError((first.until, then.since))
    keys, counts = _added(first.keys, first.counts, then.keys, then.counts)
    names, weights = _added(first.names, first.weights, then.names, then.weights)
    return Part(
        first.since,
        then.until,
        tuple(Sums(*map(sum, zip(*both, strict=True))) for both in _both(first.sums, then.sums)),
        np.minimum(first.least, then.least),
        np.maximum(first.most, then.most),
        tuple(Lag(*map(sum, zip(*both, strict=True))) for both in _both(first.lags, then.lags)),
        tuple(_better(*both) for both in _both(first.bests, then.bests)),
        first.capacity_ns + then.capacity_ns,
        np.maximum(first.capacity_most, then.capacity_most),
        Spans(*(np.concatenate(both) for both in _both(first.spans, then.spans))),
        Takes(*(np.concatenate(both) for both in _both(first.takes, then.takes))),
        keys,
        counts,
        names,
        weights,
    )


def _both(first: Iterable[Each], then: Iterable[Each]) -> Iterable[tuple[Each, Each]]:
    return zip(first, then, strict=True)


def _better(first: Best, then: Best) -> Best:
    best = then if then.gain > first.gain else first
    return best._replace(gain_ns=first.gain_ns + then.gain_ns)


def _added(names: Ints, weights: Ints, more: Ints, of_more: Ints) -> tuple[Ints, Ints]:
    """Add weights of the same name."""
    together, at = np.unique(np.concatenate([names, more]), return_inverse=True)
    total = np.zeros(len(together), np.int64)
    np.add.at(total, at, np.concatenate([weights, of_more]))
    return together, total


def median(values: Floats, weights: Ints) -> float | None:
    """Give the least value that at least half of the weight does not exceed; ``None`` of none."""
    if not len(values):
        return None
    below = np.cumsum(weights)
    return float(values[np.searchsorted(2 * below, below[-1])])
