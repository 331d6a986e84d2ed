"""Ninety seconds of four simulated venues that fail on schedule: the ledger against the truth."""

import subprocess
import sys

import pytest

from perptape import ledger, verify
from perptape.events import NS
from perptape.sims.truth import read_truth
from perptape.tape import Tape

SCENARIO = """
seed = 11
start = "first-subscribe"
instruments = ["BTC-USDT", "ETH-USDT"]

[[faults]]
at = "12s"
venue = "bybit"
kind = "disconnect"
for = "3s"

[[faults]]
at = "20s"
venue = "htx"
kind = "silence"
for = "22s"

[[faults]]
at = "30s"
venue = "gateio"
kind = "refuse"
symbol = "ETH-USDT"
for = "20s"

[[faults]]
at = "55s"
venue = "bitget"
kind = "corrupt"
symbol = "BTC-USDT"
"""
VENUES = "bitget,htx,gateio,bybit"
SLACK_S = 1.0
"""A frame is heard so long after it was sent at most, on a busy machine."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The ledger's result and the truth, after one recording."""
    place = tmp_path_factory.mktemp("faults")
    scenario, truth, tape = (place / name for name in ("scenario.toml", "truth.jsonl", "tape"))
    scenario.write_text(SCENARIO)
    perptape = [sys.executable, "-m", "perptape"]
    words = [
        "sim",
        "--venues",
        VENUES,
        "--port",
        "0",
        "--scenario",
        str(scenario),
        "--truth",
        str(truth),
    ]
    with subprocess.Popen([*perptape, *words], stdout=subprocess.PIPE, text=True) as sim:
        urls = sim.stdout.readline().split()
        words = ["record", "BTC-USDT", "ETH-USDT", "--for", "90s", "--tape", str(tape), *urls]
        done = subprocess.run([*perptape, *words], capture_output=True, text=True, check=False)
        sim.terminate()
    assert done.returncode == 0, done.stderr
    return ledger.read(Tape(tape)), read_truth(truth), verify.verify(tape)


def seconds(recorded, market):
    """(start, end, trusted, reason) of a market, in seconds of the scenario."""
    result, truth, _ = recorded
    start = next(fact.ts_start for fact in truth if fact.what == "start")
    return [
        ((i.start - start) / NS, (i.end - start) / NS, i.trusted, i.reason)
        for i in result.intervals
        if i.market == f"{market}-PERP" and (i.trusted or i.reason != "shutdown")
    ]


def near(found, *expected):
    assert [f[2:] for f in found] == [e[2:] for e in expected]
    for (start, end, *_), (expected_start, expected_end, *_) in zip(found, expected, strict=True):
        assert start == pytest.approx(expected_start, abs=SLACK_S)
        assert end == pytest.approx(expected_end, abs=SLACK_S)


def fault(recorded, venue):
    _, truth, _ = recorded
    begun = next(fact.ts_start for fact in truth if fact.what == "start")
    (fact,) = [f for f in truth if f.what == "fault" and f.venue == venue]
    return (fact.ts_start - begun) / NS, (fact.ts_end - begun) / NS


END = 90.0


@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_a_disconnect_is_an_outage_until_data_comes_again(recorded, coin):
    found = seconds(recorded, f"bybit:{coin}-USDT")
    began, ended = fault(recorded, "bybit")
    again = found[2][1]
    assert ended - SLACK_S < again < ended + 10  # the next attempt comes within the backoff
    near(
        found,
        (0, 0, False, "start"),
        (0, began, True, "disconnect"),
        (began, again, False, "disconnect"),
        (again, END, True, "shutdown"),
    )


@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_silence_is_untrusted_from_its_beginning_not_from_its_discovery(recorded, coin):
    found = seconds(recorded, f"htx:{coin}-USDT")
    began, ended = fault(recorded, "htx")
    again = found[2][1]
    assert ended - SLACK_S < again < ended + 32
    near(
        found,
        (0, 0, False, "start"),
        (0, began, True, "silence"),
        (began, again, False, "silence"),
        (again, END, True, "shutdown"),
    )


def test_a_refused_market_stays_out_until_it_is_asked_for_again(recorded):
    began, _ = fault(recorded, "gateio")
    near(
        seconds(recorded, "gateio:BTC-USDT"),
        (0, 0, False, "start"),
        (0, began, True, "disconnect"),
        (began, began + 1, False, "disconnect"),
        (began + 1, END, True, "shutdown"),
    )
    eth = seconds(recorded, "gateio:ETH-USDT")
    (refused,) = [s for s in eth if s[3] == "refused" and not s[2]]
    assert refused[0] == pytest.approx(began, abs=2)
    # It is asked for again every 30 s, and the refusal is over by then.
    assert refused[1] == pytest.approx(refused[0] + 30, abs=5)
    assert eth[-1][2] and eth[-1][1] == pytest.approx(END, abs=SLACK_S)


def test_a_corrupted_frame_costs_its_market_the_time_to_the_next_frame(recorded):
    began, _ = fault(recorded, "bitget")
    found = seconds(recorded, "bitget:BTC-USDT")
    again = found[2][1]
    near(
        found,
        (0, 0, False, "start"),
        (0, began, True, "damage"),
        (began, again, False, "damage"),
        (again, END, True, "shutdown"),
    )
    assert again - began < SLACK_S
    assert [s[3] for s in seconds(recorded, "bitget:ETH-USDT") if not s[2]][:1] == ["start"]


def test_no_trusted_second_lies_where_nothing_was_sent(recorded):
    result, truth, _ = recorded
    for interval in (i for i in result.intervals if i.trusted):
        heard = [f for f in truth if f.what == "heard" and f.market == interval.market]
        assert any(
            f.ts_start <= interval.start and interval.end <= f.ts_end + SLACK_S * NS for f in heard
        ), interval


def test_the_verdict_counts_the_bad_frame_and_finds_no_damaged_byte(recorded):
    _, _, verdict = recorded
    assert verdict.verdict == "untrusted" and verdict.exit_code == 3
    assert verdict.unreadable == 1 and verdict.damage == []
