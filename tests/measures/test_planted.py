"""Episodes that a simulated market planted, found again on what was recorded of it."""

import subprocess
import sys
from contextlib import contextmanager

import polars as pl
import pytest

import perptape
from perptape.events import MS
from perptape.measures.edges import edges
from perptape.measures.episodes import episodes
from perptape.sims.truth import read_truth

CALM = """
seed = 5
start = "first-subscribe"
instruments = ["BTC-USDT"]
updates_per_s = 40

[venues.bybit]
noise_bps = {noise}

[venues.bitget]
noise_bps = {noise}

[venues.gateio]
noise_bps = {noise}
"""
EPISODES = """
[[episodes]]
at = "{at}s"
for = "{lasts}ms"
instrument = "BTC-USDT"
sell = "{sell}"
buy = "{buy}"
edge_bps = {edge}
"""
PLANTED = [
    (2, 1000, "bybit", "bitget", 3),
    (4, 600, "gateio", "bybit", 5),
    (6, 1500, "bitget", "gateio", 8),
    (9, 900, "bybit", "gateio", 4),
    (12, 2500, "gateio", "bitget", 6),
]
FAULTS = """
[[faults]]
at = "6500ms"
venue = "bitget"
kind = "disconnect"
for = "1s"

[[faults]]
at = "13s"
venue = "gateio"
kind = "silence"
for = "60s"
"""
NOTIONAL = 1_000.0
SLACK_NS = 400 * MS
"""Books come ten times a second, and late on a busy machine."""


@contextmanager
def simulated(place, text):
    """Give the words that point at the simulators of a scenario."""
    (place / "scenario.toml").write_text(text)
    words = [sys.executable, "-m", "perptape", "sim", "--venues", "bybit,bitget,gateio"]
    words += ["--port", "0", "--scenario", str(place / "scenario.toml")]
    words += ["--truth", str(place / "truth.jsonl")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as sim:
        try:
            yield sim.stdout.readline().split()
        finally:
            sim.terminate()


def recorded(place, text, *, lasts_s):
    """Give the truth and the tables of a recording of a scenario."""
    with simulated(place, text) as urls:
        words = ["record", "BTC-USDT", "--venues", "bybit,bitget,gateio"]
        words += ["--channels", "quotes,books", "--for", f"{lasts_s}s"]
        words += ["--tape", str(place / "tape"), *urls]
        done = subprocess.run(
            [sys.executable, "-m", "perptape", *words], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    tape = perptape.open(place / "tape")
    return read_truth(place / "truth.jsonl"), tables(tape)


def tables(tape):
    return tape.books(), tape.quotes(), tape.ledger(), tape.instruments()


def planted(noise, faults=""):
    return (
        CALM.format(noise=noise)
        + "".join(
            EPISODES.format(at=at, lasts=lasts, sell=sell, buy=buy, edge=edge)
            for at, lasts, sell, buy, edge in PLANTED
        )
        + faults
    )


def told(truth):
    """(market to sell, market to buy, when its first and its end state were sent, edge)."""
    return [
        (f.market, f.buy, f.ts_sent_start, f.ts_sent_end, f.edge_bps)
        for f in truth
        if f.what == "episode" and f.ts_sent_start is not None
    ]


def spans(found):
    times = pl.col("ts_start", "ts_end").cast(pl.Int64)
    return found.select("sell", "buy", times, "peak_bps", "censored", "truncated").rows()


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_planted_episodes_are_found_and_no_others(tmp_path, noise):
    truth, heard = recorded(tmp_path, planted(noise), lasts_s=16)
    found = episodes(*heard, notionals=[NOTIONAL])
    expected = told(truth)
    assert len(expected) == len(PLANTED)
    left = spans(found)
    for sell, buy, start, end, edge in expected:
        (hit,) = [s for s in left if s[:2] == (sell, buy) and s[2] < end and s[3] > start]
        assert abs(hit[2] - start) < SLACK_NS and abs(hit[3] - end) < SLACK_NS
        # More by what the buyer's price moves while the seller's is on its way, not less.
        assert edge - 0.5 < hit[4] < edge + 4
        assert not hit[5] and not hit[6]
        # What is high over one ask may be over another: that is no invention.
        left = [s for s in left if not (s[0] == sell and is_near(s, start, end))]
    assert left == []
    # The later, the less is left of them; and the larger.
    of = edges(*heard, notionals=[NOTIONAL, 1e5])
    held = of.delays.filter(pl.col("notional") == NOTIONAL, pl.col("held_s") > 0)
    mean = held.group_by("delay_ms").agg(
        bps=(pl.col("mean_bps") * pl.col("held_s")).sum() / pl.col("held_s").sum()
    )
    by_delay = mean.sort("delay_ms")["bps"].to_list()
    assert by_delay[0] > by_delay[4] > by_delay[-1]  # at 0, 100 and 1000 ms
    by_size = of.edges.filter(pl.col("max_bps") > 0).group_by("sell", "buy").agg("max_bps")
    assert all(bps == sorted(bps, reverse=True) for bps in by_size["max_bps"].to_list())


def is_near(span, start, end):
    return start - SLACK_NS < span[2] and span[3] < end + SLACK_NS


def test_no_episode_rests_on_untrusted_time(tmp_path):
    """One venue is cut off within an episode; another falls silent within the last."""
    truth, heard = recorded(tmp_path, planted(0.0, FAULTS), lasts_s=27)
    found, ledger = episodes(*heard, notionals=[NOTIONAL]), heard[2].collect()
    trusted = ledger.filter((pl.col("channel") == "books") & (pl.col("state") == "trusted"))
    names = pl.concat_str(pl.col("venue", "instrument").cast(pl.String), separator=":")
    times = pl.col("ts_start", "ts_end").cast(pl.Int64)
    known = trusted.select(names.alias("market"), times).rows()
    rows = spans(found)
    for sell, buy, start, end, *_ in rows:
        for market in (sell, buy):
            assert any(m == market and s <= start and end <= e for m, s, e in known)
    assert {row[0] for row in rows} <= {sell for sell, *_ in told(truth)}
    cut = [r for r in rows if r[:2] == ("bitget:BTC-USDT-PERP", "gateio:BTC-USDT-PERP")]
    silent = [r for r in rows if r[:2] == ("gateio:BTC-USDT-PERP", "bitget:BTC-USDT-PERP")]
    assert cut[0][5] and not cut[0][6]  # censored when the connection was cut
    assert silent[-1][5]
    fault = next(f for f in truth if f.what == "fault" and f.kind == "silence")
    # From its beginning, not from its discovery a while later.
    assert silent[-1][3] <= fault.ts_start + SLACK_NS
