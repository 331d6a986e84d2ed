"""What holds for all books: made by hypothesis, judged by the slow definitions in `depth`."""

from itertools import pairwise, permutations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.kernels import NEVER
from perptape.measures import passes
from perptape.measures.capacity import capacity_table
from perptape.measures.edges import (
    Swept,
    asking,
    delay_table,
    edge_table,
    edges,
    measured,
    size_table,
)
from perptape.measures.episodes import episode_table
from perptape.measures.gaps import gaps
from perptape.measures.passes import merge, partial
from perptape.measures.rates import rate_table
from perptape.measures.scenes import scene

from .depth import MS, Slow, books, heard, lots
from .tape import quotes

END = 1000 * MS
VENUES = ("a", "b", "c")
FEES = {"a": 1e-4, "b": -1e-4, "c": 0.0}
NONE = quotes([])
# Few different times, some of them ends of trust: ties are the rule.
moments = st.one_of(st.integers(0, 20).map(lambda k: 50 * MS * k), st.integers(0, END))
bid_prices = st.integers(994, 1004).map(lambda k: k / 10)
ask_prices = st.integers(996, 1006).map(lambda k: k / 10)
SIZES = st.sampled_from([0.5, 1.0, 2.0])
MAYBE = st.sampled_from([0.0, 0.5, 1.0, 2.0])
holes = st.one_of(st.just([]), st.lists(moments, min_size=2, max_size=4, unique=True).map(sorted))


def side(prices, sizes, *, best, least=0):
    levels = st.dictionaries(prices, sizes, min_size=least, max_size=3)
    return levels.map(lambda d: sorted(d.items(), reverse=best))


def whole(at, venues):
    """A snapshot with something on both sides."""
    two = side(bid_prices, SIZES, best=True, least=1), side(ask_prices, SIZES, best=False, least=1)
    return st.tuples(at, venues, st.just(True), *two)  # noqa: FBT003


def change(venues):
    two = side(bid_prices, MAYBE, best=True), side(ask_prices, MAYBE, best=False)
    return st.tuples(moments, venues, st.just(False), *two).filter(lambda u: u[3] or u[4])  # noqa: FBT003


LEAVE = -10.3
"""In bps; no two prices of these books are exactly so far apart, whoever rounds."""


@st.composite
def tapes(draw, *, venues=VENUES, size=14):
    """Updates and trusted stretches: a book of each venue at first, then whatever comes."""
    of = st.sampled_from(venues)
    updates = [draw(whole(st.just(0), st.just(venue))) for venue in venues]
    more = st.one_of(whole(moments, of), change(of), change(of))
    updates += sorted(draw(st.lists(more, min_size=4, max_size=size)), key=lambda u: u[0])
    trusted = []
    for venue in venues:
        ends = [0, *draw(holes), END]
        trusted += [(venue, *pair) for pair in zip(ends[::2], ends[1::2], strict=False)]
    return updates, trusted


def row_of(table, i, j, **where):
    own = table.filter(
        (pl.col("sell") == f"{i}:BTC-USDT-PERP") & (pl.col("buy") == f"{j}:BTC-USDT-PERP")
    )
    for name, value in where.items():
        own = own.filter(pl.col(name) == value)
    return own.rows(named=True)


@settings(max_examples=60, deadline=None)
@given(tapes(), st.sampled_from([30.0, 100.0, 160.0]), st.sampled_from([0.0, 0.5]))
def test_every_number_is_its_definition(tape, notional, lot):
    updates, trusted = tape
    swept = measured(
        books(updates), NONE, heard(trusted), lots(a=lot or None, b=lot or None, c=lot or None),
        fees=FEES, asked=asking([notional], [0, 5], [LEAVE, 5], [0, 30, 170]),
    )  # fmt: skip
    found = edge_table(swept), delay_table(swept), episode_table(swept)
    for i, j in permutations(VENUES, 2):
        slow = Slow(updates, trusted, i, j, fees=(FEES[i], FEES[j]), notional=notional, lot=lot)
        check_edges(row_of(found[0], i, j)[0], slow)
        for row in row_of(found[1], i, j):
            check_delay(row, slow)
        for enter, leave in ((0, LEAVE), (5, 5)):
            rows = row_of(found[2], i, j, threshold_bps=float(enter))
            check_episodes(rows, slow.episodes(enter, leave))


def check_edges(row, slow):
    values = slow.at_events()
    assert (row["median_bps"] is None) == (not values)
    if not values:
        return
    assert row["mean_bps"] == pytest.approx(np.mean(values), abs=1e-7)
    assert row["min_bps"] == pytest.approx(min(values), abs=1e-8)
    assert row["max_bps"] == pytest.approx(max(values), abs=1e-8)
    for name, q in (("median", 0.5), ("p5", 0.05), ("p95", 0.95)):
        assert row[f"{name}_bps"] == pytest.approx(np.quantile(values, q), abs=5.1e-4)
    close = [abs(v) < 1e-9 for v in values]
    if not any(close):
        assert row["share_positive"] == pytest.approx(np.mean([v > 0 for v in values]))
    mean_time = slow.mean_time()
    assert row["mean_time_bps"] == (mean_time and pytest.approx(mean_time, abs=1e-7))


def check_delay(row, slow):
    held, kept, mean = slow.persistence(row["threshold_bps"], int(row["delay_ms"] * MS))
    assert row["held_s"] == pytest.approx(held / 1e9, abs=2e-9)
    assert row["share"] == (pytest.approx(kept / held, abs=1e-7) if held else None)
    assert row["mean_bps"] == (None if mean is None else pytest.approx(mean, abs=1e-6))


def check_episodes(rows, expected):
    assert len(rows) == len(expected)
    for row, (start, end, is_censored, is_truncated, peak) in zip(rows, expected, strict=True):
        assert row["ts_start"].timestamp() == pytest.approx(start / 1e9, abs=2e-6)
        assert row["duration_s"] == pytest.approx((end - start) / 1e9)
        assert (row["censored"], row["truncated"]) == (is_censored, is_truncated)
        assert row["peak_bps"] == pytest.approx(peak, abs=1e-8)


# ---- any split, the same bytes ------------------------------------------------------------------


def told(swept):
    """All frames that follow from a pass, as text."""
    tables = [
        edge_table(swept),
        delay_table(swept),
        size_table(swept),
        episode_table(swept),
        episode_table(swept, 100 * MS),
        rate_table(swept),
        capacity_table(swept),
    ]
    return [table.write_json() for table in tables]


@settings(max_examples=60, deadline=None)
@given(
    tapes(size=20),
    st.sets(st.one_of(moments, st.integers(-5, END + 5)), max_size=4),
    st.randoms(use_true_random=False),
    st.sampled_from([None, (200 * MS, 800 * MS)]),
)
def test_any_split_of_the_time_gives_the_same_bytes(tape, cuts, random, window):
    updates, trusted = tape
    first, last = window or (-NEVER, NEVER)
    given_books, of = [books(updates)], scene(heard(trusted), None, FEES)
    asked = asking([30, 160], [0, 6], [-15, 2], [0, 30, 170])
    whole = partial(given_books, [NONE], of, asked, since=first, ts_to=last)
    edges_of = [first, *sorted(c for c in cuts if first < c), NEVER]
    parts = [
        partial(given_books, [NONE], of, asked, since=a, until=b, ts_to=last)
        for a, b in pairwise(edges_of)
    ]
    while len(parts) > 1:
        k = random.randrange(len(parts) - 1)
        parts[k : k + 2] = [merge(*parts[k : k + 2])]
    again = Swept(of, asked, parts[0], first, last)
    assert told(again) == told(Swept(of, asked, whole, first, last))


def test_parts_that_do_not_meet_are_not_merged():
    of = scene(heard([]), None, FEES)
    asked = asking([30], [0], None, [])
    one, other = (partial([], [NONE], of, asked, since=a, until=a + 5) for a in (0, 6))
    with pytest.raises(ValueError, match="5"):
        merge(one, other)


@settings(max_examples=25, deadline=None)
@given(tapes(), st.integers(1, 6))
def test_pieces_of_any_size_cannot_be_seen(tape, rows):
    updates, trusted = tape
    asked = asking([30, 160], [0], None, [0, 30])
    given_books, of = [books(updates)], scene(heard(trusted), None, FEES)
    whole = partial(given_books, [NONE], of, asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perptape.measures.updates.ROWS", rows)
        pieces = partial(given_books, [NONE], of, asked)
        several = partial([*given_books, books([])], [NONE, NONE], of, asked)
    for other in (pieces, several):
        swept = (Swept(of, asked, part, -NEVER, NEVER) for part in (whole, other))
        assert len({tuple(told(s)) for s in swept}) == 1


def test_long_tape_passes_through_all_growth(monkeypatch):
    """An edge that flickers about its threshold for long: rings, tables and buffers must grow."""
    rng = np.random.default_rng(3)
    n = 3_000
    ts = np.sort(rng.integers(0, 20 * 10**9, n)).tolist()
    updates = [(0, "a", True, [(100, 9)], [(100.2, 9)]), (0, "b", True, [(100, 9)], [(100.2, 9)])]
    for t, price in zip(ts, rng.integers(9_900, 10_100, n).tolist(), strict=True):
        top = [(price / 100, 1.0)], [((price + 10) / 100, 1.0)]
        updates.append((t, "ab"[price % 2], True, *top))
    trusted = [(v, 0, 20 * 10**9) for v in "ab"]
    given_books, of = [books(updates)], scene(heard(trusted), None, {"a": 0.0, "b": 0.0})
    asked = asking([30, 60], [0, 6], [-15, 2], [0, 30, 1000])
    whole = partial(given_books, [NONE], of, asked)
    monkeypatch.setattr(passes, "RING", 16)
    monkeypatch.setattr(passes, "WEIGHTS", 1 << 6)
    monkeypatch.setattr(passes, "TOLD", 1)
    monkeypatch.setattr(passes, "WAITING", 3)
    small = partial(given_books, [NONE], of, asked)
    both = [told(Swept(of, asked, part, -NEVER, NEVER)) for part in (whole, small)]
    assert both[0] == both[1]
    slow = Slow(updates, trusted, "a", "b", notional=30)
    found = episode_table(Swept(of, asked, small, -NEVER, NEVER))
    rows = row_of(found, "a", "b", notional=30.0, threshold_bps=6.0)
    check_episodes(rows, slow.episodes(6, 2))
    assert len(rows) > 200


# ---- laws of the market -------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(tapes())
def test_another_venue_changes_no_other_pair(tape):
    updates, trusted = tape
    asked = asking([30, 160], [0], None, [0, 30])
    fewer = [u for u in updates if u[1] != "c"], [t for t in trusted if t[0] != "c"]
    whole = measured(books(updates), NONE, heard(trusted), None, fees=FEES, asked=asked)
    less = measured(books(fewer[0]), NONE, heard(fewer[1]), None, fees=FEES, asked=asked)
    for table in (edge_table, delay_table, size_table, episode_table):
        own = table(whole).filter(~pl.concat_str("sell", "buy").str.contains("c:"))
        assert own.write_json() == table(less).write_json()


@settings(max_examples=25, deadline=None)
@given(tapes(venues=("a", "b")), st.lists(st.integers(1, 300), min_size=2, max_size=5, unique=True))
def test_edge_never_grows_with_size_or_fee(tape, notionals):
    updates, trusted = tape
    tiers = {"low": dict.fromkeys("ab", 1e-4), "high": dict.fromkeys("ab", 9e-4)}
    found = edges(books(updates), NONE, heard(trusted), fees=tiers, notionals=notionals)
    for i, j in permutations("ab"):
        rows = {tier: row_of(found.edges, i, j, tier=tier) for tier in tiers}
        for low, high in zip(rows["low"], rows["high"], strict=True):
            assert (low["max_bps"] is None) == (high["max_bps"] is None)
            if low["max_bps"] is not None:
                assert high["max_bps"] < low["max_bps"] and high["min_bps"] < low["min_bps"]
        best = [r["max_bps"] for r in rows["low"] if r["max_bps"] is not None]
        assert all(more <= less + 1e-9 for less, more in pairwise(best))
        shares = [r["depth_share"] or 0 for r in rows["low"]]
        assert shares == sorted(shares, reverse=True)


def test_a_small_size_at_the_top_of_the_book_is_what_is_left_of_the_gap():
    rng = np.random.default_rng(4)
    prices = rng.integers(990, 1010, 400) / 10
    rows = [
        (int(t), "abc"[k % 3], p, p + 0.1, 5.0, 5.0)
        for k, (t, p) in enumerate(zip(np.sort(rng.integers(0, END, 400)), prices, strict=True))
    ]
    trusted = heard([("a", 0, END), ("b", 0, END // 2), ("b", 3 * END // 4, END), ("c", 0, END)])
    found = edges(None, quotes(rows), trusted, fees=FEES, notionals=[1.0]).edges
    for pair in gaps(quotes(rows), trusted.with_columns(reason=pl.lit("")), fees=FEES).found_pairs:
        (row,) = row_of(found, pair.sell[0], pair.buy[0])
        assert row["trusted_s"] == pair.trusted_s
        for name in ("mean_time", "mean", "min", "max"):
            assert row[f"{name}_bps"] == pytest.approx(getattr(pair.edge_bps, name), abs=1e-7)
        for name in ("median", "p5", "p95"):
            assert row[f"{name}_bps"] == pytest.approx(getattr(pair.edge_bps, name), abs=1.1e-3)
        assert row["share_positive"] == pair.edge_bps.share_positive


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=2, max_size=2))
def test_uncrossed_books_never_gain_both_ways(tops):
    updates = [
        (0, v, True, [(float(b), 1e9)], [(float(b + s), 1e9)])
        for v, (b, s) in zip("ab", tops, strict=True)
    ]
    found = edges(
        books(updates), NONE, heard([("a", 0, 5), ("b", 0, 5)]), fees=dict.fromkeys("ab", 0.0)
    ).edges
    there, back = (row_of(found, *pair)[0]["max_bps"] / 1e4 + 1 for pair in permutations("ab"))
    assert there * back <= 1 + 1e-12


@settings(max_examples=25, deadline=None)
@given(tapes(venues=("a", "b")))
def test_the_best_size_gains_most_and_capacity_is_where_nothing_is_left(tape):
    updates, trusted = tape
    free = dict.fromkeys("ab", 0.0)
    found = edges(books(updates), NONE, heard(trusted), fees=free, delays_ms=[])
    for row in found.sizes.rows(named=True):
        if row["best_profit"] is None:
            assert not row["profit_share"]
            continue
        assert 0 < row["best_size"] <= row["capacity_max"] + 1e-9
        assert (row["profit_share"] or 0) <= (row["share"] or 0)
        slow = Slow(updates, trusted, row["sell"][0], row["buy"][0])
        at = round(row["ts_best"].timestamp() * 1e9)
        assert any(abs(t - at) <= 1000 for t in slow.times)
