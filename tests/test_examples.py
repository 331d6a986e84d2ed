"""Every example runs on a tape whose truth is known, and finds it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from perptape.events import MS, NS, Kind, Opened, RestAnswer
from perptape.tape import TapeWriter

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
T0 = 1_790_000_000 * NS
STEPS, SPAN_MS = 3600, 720_000
LAG, TRANSIT = 100 * MS, 20 * MS
"""Gate.io follows Binance so much later; every message takes so long."""
FEE = 0.0005
"""Of both, for taking."""
AHEAD = {"binance": 0, "gateio": 250 * MS}
"""The venues' clocks beside ours."""
LISTS = {
    "binance": '{"symbols":[{"symbol":"BTCUSDT","contractType":"PERPETUAL","status":"TRADING",'
    '"baseAsset":"BTC","quoteAsset":"USDT","marginAsset":"USDT","filters":['
    '{"filterType":"PRICE_FILTER","tickSize":"0.1"},'
    '{"filterType":"LOT_SIZE","stepSize":"0.001"}]}]}',
    "gateio": '[{"name":"BTC_USDT","type":"direct","quanto_multiplier":"0.0001",'
    '"order_price_round":"0.1","order_size_min":"1","enable_decimal":false,"status":"trading",'
    '"in_delisting":false,"funding_interval":28800}]',
}
TIMES = {"binance": '{"serverTime":%d}', "gateio": '{"server_time":%d}'}
QUOTES = {
    "binance": '{{"stream":"btcusdt@bookTicker","data":{{"e":"bookTicker","u":{n},"s":"BTCUSDT",'
    '"b":"{bid:.1f}","B":"5","a":"{ask:.1f}","A":"5","T":{ms},"E":{ms}}}}}',
    "gateio": '{{"time":{s},"time_ms":{ms},"channel":"futures.book_ticker","event":"update",'
    '"result":{{"t":{ms},"u":{n},"s":"BTC_USDT","b":"{bid:.1f}","B":"50000","a":"{ask:.1f}",'
    '"A":"50000"}}}}',
}


def jumps():
    """Times in ns and prices, of a price that jumps."""
    chance = np.random.default_rng(5)
    walk = 60_000 * np.exp(np.cumsum(chance.normal(0, 10e-4, STEPS)))
    return np.sort(chance.choice(np.arange(1000, SPAN_MS), STEPS, replace=False)) * MS, walk


def asked(venue, what, at, body):
    sent = at - 2 * TRANSIT
    answer = RestAnswer(what, f"https://{venue}.example", 200, sent, body)
    return at, Kind.REST, venue, msgspec.json.encode(answer)


def frames():
    """Binance has each price at once, Gate.io 100 ms later."""
    times, walk = jumps()
    for venue, late in (("binance", 0), ("gateio", LAG)):
        yield asked(venue, "instruments", T0, LISTS[venue])
        opened = Opened(venue, "wss://example", (), imported=True)
        yield T0, Kind.OPENED, venue, msgspec.json.encode(opened)
        for minute in range(12):
            at = T0 + minute * 60 * NS + 7 * MS
            told = (at - TRANSIT + AHEAD[venue]) // MS
            yield asked(venue, "time", at, TIMES[venue] % told)
        for n, (at, mid) in enumerate(zip(times.tolist(), walk, strict=True)):
            made = T0 + at + late
            ms = (made + AHEAD[venue]) // MS
            text = QUOTES[venue].format(n=n, bid=mid - 1, ask=mid + 1, ms=ms, s=ms // 1000)
            yield made + TRANSIT, Kind.TEXT, venue, text.encode()


@pytest.fixture(scope="module")
def tape(tmp_path_factory):
    place = tmp_path_factory.mktemp("examples") / "tape"
    with TapeWriter(place) as tape:
        wires = {(v, rest): tape.new_wire(v) for v in LISTS for rest in (True, False)}
        for at, kind, venue, payload in sorted(frames(), key=lambda frame: frame[:2]):
            tape.append(wires[venue, kind == Kind.REST], kind, [payload], at, at)
    return place


@pytest.fixture
def run(tape, tmp_path):
    def run(example):
        words = [sys.executable, "-W", "error", str(EXAMPLES / f"{example}.py"), str(tape)]
        done = subprocess.run(
            [*words, str(tmp_path / "pictures")],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"POLARS_FMT_TABLE_FORMATTING": "ASCII_MARKDOWN", "COLUMNS": "200"}
            | {"POLARS_FMT_MAX_COLS": "20", "POLARS_TABLE_WIDTH": "200"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def rows(said):
    """Give the lines of the tables that were printed, cell by cell."""
    lines = [line for line in said.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_example_is_here():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == set(re.findall(r"run\(\"(\w+)\"\)", Path(__file__).read_text()))


def test_the_notebook(run, tmp_path):
    said = run("the_notebook")
    assert ["binance:BTC-USDT-PERP", "gateio:BTC-USDT-PERP"] in [row[:2] for row in rows(said)]
    pictures = list((tmp_path / "pictures").iterdir())
    assert pictures and all(str(picture) in said for picture in pictures)
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_last_night_is_complete(run):
    said = run("is_it_complete")
    assert "2 markets, 2026-09-21 14:13 to 2026-09-21 14:25 UTC, 100" in said
    heard = {row[0]: float(row[3]) for row in rows(said) if row[2:3] == ["quotes"]}
    assert heard == pytest.approx(dict.fromkeys(LISTS, SPAN_MS / 1000), abs=2)


def test_who_leads(run):
    said = run("who_leads")
    clocks = {row[0]: (float(row[1]), float(row[2])) for row in rows(said) if row[0] in LISTS}
    for venue, (offset_ms, error_ms) in clocks.items():
        assert offset_ms == pytest.approx(AHEAD[venue] / MS, abs=error_ms)
    (found,) = [row for row in rows(said) if row[:1] == ["binance:BTC-USDT-PERP"]]
    lag, low, high = map(float, found[2:5])
    assert low <= LAG / MS <= high and lag == pytest.approx(LAG / MS, abs=20)
    assert "binance:BTC-USDT-PERP, gateio:BTC-USDT-PERP: binance:BTC-USDT-PERP" in said


def test_what_was_left_after_costs(run):
    said = run("after_costs")
    pair = ["binance:BTC-USDT-PERP", "gateio:BTC-USDT-PERP"]
    edge, late = [row for row in rows(said) if row[:2] == pair]
    depth_share, median_bps, max_bps, _ = map(float, edge[2:])
    assert depth_share == 1 and -12 < median_bps < -8  # 5 coins of 60,000; nothing but both fees
    held_s, mean_bps, _, share = map(float, late[2:])
    times, walk = jumps()
    ms = np.arange(times[0] // MS + LAG // MS, SPAN_MS)  # each millisecond, by the definition
    sells = walk[np.searchsorted(times, ms * MS, side="right") - 1] - 1
    buys = walk[np.searchsorted(times, ms * MS - LAG, side="right") - 1] + 1
    is_left = sells * (1 - FEE) >= buys * (1 + FEE)
    assert held_s == pytest.approx(is_left.sum() / 1000, rel=0.02)
    assert share == pytest.approx(is_left[20:][is_left[:-20]].mean(), abs=0.02)
    assert 0 < mean_bps < max_bps
