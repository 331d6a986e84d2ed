"""Edges along time are those of the pass, and looking at them changes nothing of it."""

import numpy as np
import polars as pl
import pytest

from perptape.kernels import NEVER
from perptape.measures.edge_lines import Steps, swept_along
from perptape.measures.edges import asking, delay_table, edge_table, measured, size_table
from perptape.measures.episodes import episode_table
from perptape.measures.scenes import scene

from .depth import MS, books, heard
from .tape import quotes

FEES = {"a": 1e-4, "b": 2e-4}
ASKED = asking([100.0, 1000.0], [0.0], None, [0, 20, 250])
STEPS = Steps(100 * MS * np.arange(40, dtype=np.int64), 100 * MS)


def made(seed=5, count=300):
    """Two venues whose books move every few ms; from 1.5 s to 2.1 s b is not trusted."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.choice(3900, count, replace=False)) * MS
    told = []
    for k, ts in enumerate(at.tolist()):
        mid = 100 + round(float(rng.normal(0, 0.06)), 2)
        bids = [(round(mid - 0.01 - 0.05 * n, 2), 4.0) for n in range(4)]
        asks = [(round(mid + 0.01 + 0.05 * n, 2), 4.0) for n in range(4)]
        told.append((ts, "ab"[k % 2], True, bids, asks))
    trust = [("a", 0, 3900 * MS), ("b", 0, 1500 * MS), ("b", 2100 * MS, 3900 * MS)]
    return books(told), heard(trust)


def both(steps=STEPS):
    table, ledger = made()
    plain = measured([table], [quotes([])], ledger, None, fees=FEES, asked=ASKED)
    of = scene(ledger, None, FEES)
    return plain, *swept_along([table], [quotes([])], of, ASKED, steps)


def test_looking_changes_no_number():
    plain, followed, _ = both()
    for table in (edge_table, delay_table, size_table, episode_table):
        assert table(followed).equals(table(plain)), table.__name__


@pytest.mark.parametrize("count", [1, 7, 40])
def test_the_extremes_of_all_steps_are_those_of_the_whole(count):
    steps = Steps(4000 * MS // count * np.arange(count, dtype=np.int64), 4000 * MS // count)
    plain, _, lines = both(steps)
    for row in edge_table(plain).iter_rows(named=True):
        line = lines[row["sell"], row["buy"], row["notional"]]
        assert np.nanmin(line.low) == row["min_bps"] and np.nanmax(line.high) == row["max_bps"]


def best(table, venue, side, before):
    """Give the best price of a venue's last book before a time: its first level."""
    rows = table.filter(
        pl.col("venue").cast(pl.String) == venue,
        pl.col("side").cast(pl.String) == side,
        pl.col("ts_recv").cast(pl.Int64) < before,
    )
    last = rows.filter(pl.col("seq") == rows["seq"].max())["price"]
    return last.max() if side == "bid" else last.min()


def test_a_step_ends_with_the_edge_of_that_moment_and_nothing_is_known_without_trust():
    table, _ = made()
    line = both()[2]["a:BTC-USDT-PERP", "b:BTC-USDT-PERP", 100.0]
    for step in (0, 10, 14, 30, 37):
        end = int(STEPS.ends[step])
        bid, ask = best(table, "a", "bid", end), best(table, "b", "ask", end)
        edge = 1e4 * (bid * (1 - FEES["a"]) / (ask * (1 + FEES["b"])) - 1)
        assert line.last[step] == pytest.approx(edge, abs=1e-9)
    assert np.isnan(line.last[15:20]).all() and np.isfinite(line.last[22:38]).all()
    finite = np.isfinite(line.last)
    assert (line.low[finite] <= line.last[finite]).all()
    assert (line.last[finite] <= line.high[finite]).all()


def test_steps_beyond_the_data_are_empty():
    beyond = Steps(10**12 + 100 * MS * np.arange(3, dtype=np.int64), 100 * MS)
    plain, followed, lines = both(beyond)
    assert all(np.isnan(line.last[1:]).all() for line in lines.values())
    assert edge_table(followed).equals(edge_table(plain))
    assert followed.ts_to == NEVER
