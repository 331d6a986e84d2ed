"""Venues whose clocks are wrong and whose messages are late, against what really happened."""

import subprocess
import sys

import polars as pl
import pytest

import perptape as pt
from perptape.report import Asked, build
from perptape.sims.truth import read_truth

from .test_planted import CALM, EPISODES, simulated, spans, told

MS, NS = 10**6, 10**9
CLOCKS_MS = {"bybit": 90.0, "bitget": -60.0, "gateio": 400.0}
LATE_MS = {"bybit": 5, "bitget": 110, "gateio": 50}
PLANTED = [(2, 400, "bybit", "bitget", 5), (3, 600, "bitget", "gateio", 6),
           (5, 120, "gateio", "bybit", 6), (6, 900, "bitget", "bybit", 5)]  # fmt: skip
"""In BTC; prices of ETH move together all the time."""
LASTS_S = 9


def scenario():
    text = CALM.format(noise=0.0).replace('["BTC-USDT"]', '["BTC-USDT", "ETH-USDT"]')
    for venue, offset_ms in CLOCKS_MS.items():
        own = f"clock_offset_ms = {offset_ms}\nlatency_ms = {LATE_MS[venue]}\njitter_ms = 2\n"
        text = text.replace(f"[venues.{venue}]\n", f"[venues.{venue}]\n{own}")
    return text + "".join(
        EPISODES.format(at=at, lasts=lasts, sell=sell, buy=buy, edge=edge)
        for at, lasts, sell, buy, edge in PLANTED
    )


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """The truth and the tape."""
    place = tmp_path_factory.mktemp("wrong-clocks")
    with simulated(place, scenario()) as urls:
        words = [
            "record",
            "BTC-USDT",
            "ETH-USDT",
            "--venues",
            ",".join(CLOCKS_MS),
            "--channels",
            "quotes",
        ]
        words += ["--for", f"{LASTS_S}s", "--tape", str(place / "tape"), *urls]
        done = subprocess.run(
            [sys.executable, "-m", "perptape", *words], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    return read_truth(place / "truth.jsonl"), place / "tape"


@pytest.fixture(scope="module")
def moved(heard):
    tape = pt.open(heard[1])
    found = pt.clocks(tape.clock_samples())
    return pt.retimed(tape.quotes("BTC-USDT"), tape.ledger("BTC-USDT"), found)


def found_in(quotes, ledger, tape):
    return spans(pt.episodes(None, quotes, ledger, tape.instruments(), notionals=[1000.0]))


def test_episodes_are_at_their_true_times_within_the_stated_bound(heard, moved):
    truth, path = heard
    tape = pt.open(path)
    by_receipt = found_in(tape.quotes("BTC-USDT"), tape.ledger("BTC-USDT"), tape)
    by_event = found_in(moved.quotes, moved.ledger, tape)
    planted = [f for f in truth if f.what == "episode"]
    assert len(planted) == len(PLANTED)
    off_ms = []
    for fact in planted:
        error_ms = moved.error_ms(fact.market, fact.buy)
        (hit,) = [s for s in by_event if s[:2] == (fact.market, fact.buy) and overlaps(s, fact)]
        assert abs(hit[2] - fact.ts_start) <= error_ms * MS
        assert abs(hit[3] - fact.ts_end) <= error_ms * MS
        assert not hit[5] and not hit[6]
        late = [s for s in by_receipt if s[:2] == (fact.market, fact.buy) and overlaps(s, fact)]
        off_ms += [abs(s[2] - fact.ts_start) / MS - error_ms for s in late]
    assert max(off_ms) > 0  # by receipt at least the late venue's are not


def overlaps(span, fact):
    return span[2] < fact.ts_end + NS // 4 and span[3] > fact.ts_start - NS // 4


def test_the_clocks_are_where_they_were_set(heard):
    found = pt.clocks(pt.open(heard[1]).clock_samples())
    offsets, errors = found.offsets_ms(), found.errors_ms()
    for venue, offset_ms in CLOCKS_MS.items():
        assert abs(offsets[venue] - offset_ms) <= errors[venue]


def test_neither_late_messages_nor_wrong_clocks_make_a_leader(heard):
    tape = pt.open(heard[1])
    quotes, ledger = tape.quotes("ETH-USDT"), tape.ledger("ETH-USDT")
    moved = pt.retimed(quotes, ledger, pt.clocks(tape.clock_samples()))
    exact = dict.fromkeys(CLOCKS_MS, 0.0)
    how = {"offsets_ms": exact, "max_lag_ms": 140, "block_s": 0.7, "step_ms": 5}
    by_receipt = pt.lead_lag(quotes, ledger, **how).pairs
    # Were receipt exact, whoever's news comes late would follow.
    late = by_receipt.filter(first="bitget:ETH-USDT-PERP", second="bybit:ETH-USDT-PERP")
    assert late["leader"].to_list() == ["bybit:ETH-USDT-PERP"] and late["lag_ms"][0] < -70
    bounds = moved.markets.with_columns(pl.col("market").str.split(":").list.first())
    errors = dict(bounds.select("market", "error_ms").iter_rows())
    by_event = pt.lead_lag(moved.quotes, moved.ledger, errors_ms=errors, **how).pairs
    assert by_event["lag_ms"].null_count() == 0 and by_event["leader"].to_list() == [None] * 3
    assert all("holds 0" in reason for reason in by_event["reason"])
    sure_ms = by_event["offset_error_ms"] + how["step_ms"]
    assert (by_event["lag_ms"].abs() <= sure_ms).all() and sure_ms.max() < 60


def test_the_report_says_how_sure_its_times_are(heard):
    truth, path = heard
    report = build(Asked(tapes=(path,), clock="event"))
    assert report.provenance.parameters["clock"] == "event"
    for market in report.markets:
        assert market.clock.on == "event" and 0 < market.clock.error_ms < 60
        assert market.clock.reason is None and market.latency_ms is None
    errors = {m.market: m.clock.error_ms for m in report.markets}
    for pair in report.pairs:
        assert pair.clock_error_ms == pytest.approx(errors[pair.sell] + errors[pair.buy])
        short = [d for d in report.choice.delays_ms if d < pair.clock_error_ms]
        assert list(pair.unresolved_delays_ms) == short and 0.0 in short
    counts = {(p.sell, p.buy): p.episodes.count for p in report.pairs if p.episodes}
    for sell, buy, *_ in told(truth):
        assert counts[sell, buy] >= 1
    assert {clock.venue for clock in report.clocks} == set(CLOCKS_MS)
    assert all(clock.latency_p50_ms > 0 for clock in report.clocks)  # of receipt, not of the moved
