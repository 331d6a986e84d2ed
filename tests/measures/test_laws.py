"""What holds for all tables: made by hypothesis, judged by the slow definitions in `tape`."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, permutations

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perptape import kernels
from perptape.align import coin, pieces, standing
from perptape.measures import gaps, pairs, parts
from perptape.measures.counts import SparseCounts, quantiles
from perptape.measures.gaps import QUANTILES
from perptape.measures.pairs import PairAccumulator, Window

from .tape import MS, ledger, quotes, slowly

END = 1000 * MS
VENUES = ("a", "b", "c")
FEES = {"a": 6e-4, "b": -1e-4, "c": 2e-4}
# Few different times, many of them grid points and ends of trust: ties are the rule.
moments = st.one_of(
    st.integers(0, 20).map(lambda k: 50 * MS * k),
    st.integers(0, 20).map(lambda k: 50 * MS * k + 1),
    st.integers(0, END),
)
prices = st.one_of(st.none(), st.integers(990, 1010).map(lambda k: k / 10))
sizes = st.one_of(st.none(), st.integers(0, 3).map(float))


@st.composite
def tables(draw, *, venues=VENUES):
    row = st.tuples(moments, st.sampled_from(venues), prices, prices, sizes, sizes)
    rows = sorted(draw(st.lists(row, max_size=25)), key=lambda r: r[0])
    trusted = []
    for venue in venues:
        ends = sorted(draw(st.sets(moments, max_size=6)))
        trusted += [(venue, *pair) for pair in zip(ends[::2], ends[1::2], strict=False)]
        if len(ends) % 2:
            trusted.append((venue, ends[-1], ends[-1]))
    return rows, trusted


def agree(found, expected, within):
    assert (found is None) == (expected is None)
    for name, value in (expected or {}).items():
        assert getattr(found, name) == pytest.approx(value, abs=within, rel=1e-12), name


windows = st.one_of(st.none(), st.tuples(moments, moments).map(sorted))
UNHEARD_END = (
    [(0, "c", 99.0, None, None, None), (100 * MS, "a", None, 99.0, None, None)],
    [("a", 100 * MS, 100 * MS), ("b", 0, 0), ("c", 0, 100 * MS)],
)
"""The trust of a market that said nothing ends before a quote that lies on the grid."""


@settings(max_examples=150, deadline=None)
@given(tables(), st.one_of(st.none(), st.sampled_from([0, 50 * MS, 130 * MS])), windows)
@example(UNHEARD_END, None, None)
def test_every_number_is_its_definition(table, max_age, window):
    rows, trusted = table
    ts_from, ts_to = window or (None, None)
    found = gaps(
        quotes(rows),
        ledger(trusted, [(venue, END, END) for venue in VENUES]),
        fees=FEES,
        max_age_s=None if max_age is None else max_age / 1e9,
        ts_from=ts_from,
        ts_to=ts_to,
    )
    for pair in found.found_pairs:
        i, j = pair.sell[0], pair.buy[0]
        expected = slowly(
            rows,
            trusted,
            i,
            j,
            fees=(FEES[i], FEES[j]),
            max_age=max_age,
            ts_from=ts_from,
            ts_to=ts_to,
        )
        agree(pair.gap_bps, expected["gap"], 5.1e-4)
        agree(pair.grid, expected["grid"], 5.1e-4)
        notional = expected["notional"]
        assert pair.top_notional == (notional and pytest.approx(notional, rel=1e-4))
        if pair.gap_bps is not None:
            assert pair.edge_bps.share_positive == pytest.approx(expected["edge_share"])
            assert pair.gap_bps.mean == pytest.approx(expected["gap"]["mean"], abs=1e-8)
            kept = (1 - FEES[i]) / (1 + FEES[j])
            edge_max = 1e4 * ((1 + pair.gap_bps.max / 1e4) * kept - 1)
            assert pair.edge_bps.max == pytest.approx(edge_max, abs=1e-8)


def same(found, expected):
    """Every sum, count and line, to the bit."""
    width = len(expected.quotes)
    for i, j in permutations(range(width), 2):
        assert repr(found.sums(i, j)) == repr(expected.sums(i, j))
        assert found.ratio(i, j).tobytes() == expected.ratio(i, j).tobytes()
    for m in range(width):
        assert repr(found.latencies.of(m)) == repr(expected.latencies.of(m))
        for side in range(2):
            assert found.side(m, side).tobytes() == expected.side(m, side).tobytes()
    assert found.quotes.tolist() == expected.quotes.tolist()
    assert (found.since, found.until) == (expected.since, expected.until)


def free(of):
    return np.ones((len(of.markets),) * 2)


@settings(max_examples=40, deadline=None)
@given(tables(), st.lists(st.integers(0, 25), max_size=6))
def test_pieces_cannot_be_seen(table, cuts):
    rows, trusted = table
    whole, of = quotes(rows), coin(ledger(trusted))
    window = Window(-kernels.NEVER, kernels.NEVER, None, 7)
    one, many = (PairAccumulator(of, window, free(of)) for _ in range(2))
    for piece in pieces([whole], of):
        one.feed(piece)
    for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), None], strict=True):
        for piece in pieces([whole[a:b]], of, rows=3):
            many.feed(piece)
    same(many.finish(), one.finish())


def added_in_some_order(draw, found):
    """Merge neighbours until one is left."""
    while len(found) > 1:
        k = draw(st.integers(0, len(found) - 2))
        found[k : k + 2] = [pairs.merge(found[k], found[k + 1])]
    return found[0]


@settings(max_examples=150, deadline=None)
@given(
    st.data(), tables(), st.sets(moments, max_size=5), st.integers(0, 9), windows,
    st.one_of(st.none(), st.sampled_from([0, 50 * MS, 130 * MS])),
)  # fmt: skip
def test_any_cut_of_the_time_merged_in_any_order_gives_the_same_bits(  # noqa: PLR0913, PLR0917
    data, table, cuts, buckets, window, max_age
):
    rows, trusted = table
    tapes, of = [quotes(rows[::2]).lazy(), quotes(rows[1::2])], coin(ledger(trusted))
    first, last = window or (-kernels.NEVER, kernels.NEVER)
    asked = Window(first, last, max_age, buckets)
    ends = [first, *sorted(t for t in cuts if first < t), kernels.NEVER]
    heads = [standing(tapes, of, -kernels.NEVER, t) for t in ends[:-1]]
    found = [
        pairs.partial(tapes, of, asked, free(of), part, head)
        for part, head in zip(pairwise(ends), heads, strict=True)
    ]
    expected = pairs.partial(tapes, of, asked, free(of), (first, kernels.NEVER), heads[0])
    same(added_in_some_order(data.draw, found), expected)


@settings(max_examples=25, deadline=None)
@given(tables(), windows, st.integers(1, 4))
def test_no_executor_shows_in_a_result(table, window, rows_of_part):
    rows, trusted = table
    ts_from, ts_to = window or (None, None)
    given = {"fees": FEES, "buckets": 7, "ts_from": ts_from, "ts_to": ts_to}
    expected, told = gaps(quotes(rows), ledger(trusted), **given), []
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as threads:
        patch.setattr(parts, "ROWS_OF_PART", rows_of_part)
        for whole in (quotes(rows), quotes(rows).lazy()):
            for executor in (None, threads):
                found = gaps(
                    whole, ledger(trusted), executor=executor, **given,
                    progress=lambda *done: told.append(done),
                )  # fmt: skip
                assert found.to_json() == expected.to_json()
                for key, ratios in expected.series_ratios.items():
                    assert found.series_ratios[key].tobytes() == ratios.tobytes()
                assert told[-1][0] == told[-1][1] <= 1 + len(rows) // rows_of_part


@settings(max_examples=60, deadline=None)
@given(tables())
def test_another_venue_changes_no_other_pair(table):
    rows, trusted = table
    with_all = gaps(quotes(rows), ledger(trusted), fees=FEES)
    rows = [row for row in rows if row[1] != "b"]
    without = gaps(quotes(rows), ledger([t for t in trusted if t[0] != "b"]), fees=FEES)
    others = [p for p in with_all.found_pairs if "b:BTC-USDT-PERP" not in {p.sell, p.buy}]
    assert others == list(without.found_pairs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=2, max_size=2))
def test_uncrossed_books_never_gain_both_ways(books):
    rows = [(0, v, float(b), float(b + s)) for v, (b, s) in zip("ab", books, strict=True)]
    found = gaps(quotes(rows), ledger([("a", 0, 5), ("b", 0, 5)]))
    there, back = (1 + p.gap_bps.max / 1e4 for p in found.found_pairs)
    assert there * back <= 1 + 1e-12


@settings(max_examples=40, deadline=None)
@given(tables(), st.integers(1, 9))
def test_drawing_loses_no_extreme(table, buckets):
    rows, trusted = table
    found = gaps(quotes(rows), ledger(trusted), buckets=buckets)
    for pair in found.found_pairs:
        drawn = found.series.gaps_bps[pair.sell, pair.buy]
        if pair.gap_bps is None:
            assert np.isnan(drawn.low).all()
            continue
        assert np.nanmin(drawn.low) == pytest.approx(pair.gap_bps.min, abs=1e-9)
        assert np.nanmax(drawn.high) == pytest.approx(pair.gap_bps.max, abs=1e-9)
        first, low, high, last, mean = found.series_ratios[pair.sell, pair.buy].T
        heard = ~np.isnan(first)
        for value in (first, last, mean):
            assert (low[heard] <= value[heard] + 1e-12).all()
            assert (value[heard] <= high[heard] + 1e-12).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=50))
def test_quantiles_are_numpys(keys):
    values, counts = np.unique(keys, return_counts=True)
    found = quantiles(values.astype(float), counts, list(QUANTILES.values()))
    assert found == pytest.approx(np.quantile(keys, [0.5, 0.05, 0.95]), abs=1e-9)


def test_counts_grow_and_overflow_their_pages():
    counts = SparseCounts(spill=70_000, series=4)
    rng = np.random.default_rng(1)
    keys = np.concatenate([rng.integers(-(10**9), 10**9, 5_000), np.full(70_000, 5)])
    for k in range(0, len(keys), 1_000):
        first = 3 * 2**49 + 2**48
        kernels.recount(keys[k : k + 1_000] + first, np.ones(1_000, np.int64), counts.arrays)
        counts.absorb()
    found = counts.bins(3)
    assert np.array_equal(found, np.unique(keys, return_counts=True))
    assert len(counts.bins(2)[0]) == 0


def test_long_tape_passes_through_blocks_and_growth(monkeypatch):
    """Thousands of rows: the same numbers whatever the block, and the same as polars'."""
    rng = np.random.default_rng(2)
    n = 20_000
    ts = np.sort(rng.integers(0, 10**11, n))
    venue = rng.integers(0, 2, n)
    bid = 100 + np.cumsum(rng.normal(0, 0.01, n)).round(3)
    rows = [
        (int(t), "ab"[v], b, b + 0.01, s, s)
        for t, v, b, s in zip(ts, venue, bid, rng.exponential(1, n), strict=True)
    ]
    table, heard = quotes(rows), ledger([("a", 0, 10**11), ("b", 0, 10**11)])
    expected = gaps(table, heard, buckets=50)
    monkeypatch.setattr(pairs, "ROWS_OF_BLOCK", 31)
    assert gaps(table, heard, buckets=50).to_json() == expected.to_json()
    a = table.filter(pl.col("venue") == "a").select("ts_recv", "bid_price")
    b = table.filter(pl.col("venue") == "b").select("ts_recv", "ask_price")
    events = table.select("ts_recv").unique().sort("ts_recv")
    joined = events.join_asof(a.unique("ts_recv", keep="last").sort("ts_recv"), on="ts_recv")
    joined = joined.join_asof(b.unique("ts_recv", keep="last").sort("ts_recv"), on="ts_recv")
    gap = joined.select((pl.col("bid_price") / pl.col("ask_price") - 1) * 1e4).to_series()
    found = next(p for p in expected.found_pairs if p.sell.startswith("a"))
    assert found.gap_bps.mean == pytest.approx(gap.mean(), abs=1e-8)
    assert found.gap_bps.p95 == pytest.approx(gap.quantile(0.95, "linear"), abs=5.1e-4)
    assert math.isclose(found.gap_bps.min, gap.min(), abs_tol=1e-9)
