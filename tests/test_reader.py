"""A reader of many frames at once, against each venue's decoder: the same events in the same order.

The frames of a read are drawn from all that a connection may bring: quotes of one or many symbols,
books, one-sided books, trades, acknowledgements, and what is broken.
"""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perptape
from perptape import reader as reading
from perptape.decode import decoder
from perptape.errors import BadFrame, BadUsage
from perptape.events import Quote
from perptape.learning import learn, written
from perptape.reader import FEW, Reader

QUOTES = {
    "binance": b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":512,"s":"BTCUSDT",'
    b'"b":"61800.20","B":"2.658","a":"61800.30","A":"0.004","T":1723161256417,"E":1723161256418}}',
    "binance_coinm": b'{"e":"bookTicker","u":100,"s":"BTCUSD_PERP","ps":"BTCUSD","b":"61804.7",'
    b'"B":"33","a":"61804.8","A":"1675","T":1723161257679,"E":1723161257690}',
    "binance_spot": b'{"stream":"btcusdt@bookTicker","data":{"u":500,"s":"BTCUSDT",'
    b'"b":"61837.63000000","B":"2.32594000","a":"61837.64000000","A":"1.71525000"}}',
    "bitget": b'{"action":"snapshot","arg":{"instType":"USDT-FUTURES","channel":"books1",'
    b'"instId":"BTCUSDT"},"data":[{"asks":[["44.90","0.69"]],"bids":[["44.82","3.53"]],'
    b'"ts":"1730332859988","seq":12,"pseq":0}],"ts":1730332859989}',
    "bybit": b'{"topic":"orderbook.1.BTCUSDT","ts":1786659828109,"type":"snapshot","data":'
    b'{"s":"BTCUSDT","b":[["63561.5","1.776"]],"a":[["63561.6","4.848"]],"u":31398762,'
    b'"seq":764144453970},"cts":1786659828107}',
    "gateio": b'{"time":1785548245,"time_ms":1785548245220,"channel":"futures.book_ticker",'
    b'"event":"update","result":{"t":1785548245214,"u":120,"s":"BTC_USDT","b":"62914.2",'
    b'"B":20884,"a":"62914.3","A":33644}}',
    "htx": b'{"ch":"market.BTC-USDT.bbo","ts":1790134831587,"tick":{"mrid":100,"id":1790134831,'
    b'"bid":[86859.8,6172],"ask":[86859.9,817],"ts":1790134831586,"version":100,'
    b'"ch":"market.BTC-USDT.bbo"}}',
    "hyperliquid": b'{"channel":"bbo","data":{"coin":"BTC","time":1790232237145,"bbo":'
    b'[{"px":"84143.0","sz":"10.25923","n":36},{"px":"84144.0","sz":"50.66422","n":18}]}}',
    "okx": b'{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT-SWAP"},"data":[{"asks":'
    b'[["84144.0","50.6","0","8"]],"bids":[["84143.0","10.2","0","36"]],"ts":"1790232237145",'
    b'"seqId":123456}]}',
}
OTHERS = {
    "binance": [
        (
            b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161256418,'
            b'"T":1723161256417,"s":"BTCUSDT","U":5120,"u":5123,"pu":5119,"b":[["61800.20","2.658"],'
            b'["61800.10","0"]],"a":[["61800.30","0.004"]]}}'
        ),
        (
            b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256418,"T":1723161256417,'
            b'"s":"BTCUSDT","t":5,"p":"61800.20","q":"0.5","X":"MARKET","m":true}}'
        ),
        b'{"result":null,"id":1}',
    ],
    "bybit": [
        QUOTES["bybit"].replace(b'[["63561.5","1.776"]]', b"[]"),
        QUOTES["bybit"].replace(b',"cts":1786659828107', b""),
        (
            b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1786659828109,"data":{"s":"BTCUSDT",'
            b'"b":[["63561.5","1.776"]],"a":[["63561.6","4.848"],["63562.0","0"]],"u":31398762,'
            b'"seq":764144453970},"cts":1786659828107}'
        ),
        b'{"success":true,"ret_msg":"","op":"subscribe","req_id":"orderbook.1.BTCUSDT"}',
    ],
    "htx": [QUOTES["htx"].replace(b"[86859.8,6172]", b"null"), b'{"ping":1790134831587}'],
    "okx": [QUOTES["okx"].replace(b'[["84143.0","10.2","0","36"]]', b"[]"), b"pong"],
}
BROKEN = (b"", b"{", b"\xff", b'{"data":', b"[" * 5000)


def variations(venue, count, seed=0):
    """So many quotes that differ in all their numbers."""
    dice, form = random.Random(seed), learn(decoder(venue), QUOTES[venue])  # noqa: S311
    return [written(form, dice) for _ in range(count)]


def one_by_one(venue, payloads):
    """What the decoder says, and how many it refuses."""
    events, bad = [], 0
    for payload in payloads:
        try:
            events += decoder(venue)(payload)
        except BadFrame:
            bad += 1
    return events, bad


@pytest.fixture
def asked(monkeypatch):
    """What is given to a decoder one by one, from now on."""
    frames = []

    def counting(venue):
        decode = decoder(venue)
        return lambda payload: frames.append(payload) or decode(payload)

    monkeypatch.setattr(reading, "decoder", counting)
    return frames


@pytest.mark.parametrize("venue", QUOTES)
def test_a_read_of_quotes_needs_no_decoder_once_their_form_is_known(venue, asked):
    reader, frames = Reader(venue), variations(venue, 3 * FEW)
    expected = one_by_one(venue, frames)[0]
    assert {type(event) for event in expected} == {Quote} and len(expected) == len(frames)
    assert list(reader.read(frames[: FEW - 1])) == expected[: FEW - 1]
    assert list(reader.read(frames)) == expected
    asked.clear()
    found = list(reader.read(frames))
    assert (found, asked) == (expected, [])
    assert repr(found) == repr(expected)  # 1 is 1.0 to ==


@pytest.mark.parametrize("venue", OTHERS)
def test_what_comes_between_quotes_keeps_its_place(venue, asked):
    others = [*OTHERS[venue], *BROKEN]
    usual = variations(venue, 8 * len(others))
    frames = [*others, *(x for n, q in enumerate(usual) for x in (q, others[n // 3 % len(others)]))]
    expected, bad = one_by_one(venue, frames)
    reader, rounds = Reader(venue), 40
    for _ in range(rounds):
        asked.clear()
        assert list(reader.read(frames)) == expected
    assert reader.bad_frames == rounds * bad >= len(BROKEN)
    assert not set(asked) & set(usual)


@st.composite
def reads(draw):
    """Some reads of one venue: of any number of frames of any kind."""
    venue = draw(st.sampled_from(sorted(QUOTES)))
    usual = st.sampled_from(variations(venue, 50, seed=1))
    pool = [QUOTES[venue], *OTHERS.get(venue, ()), *BROKEN]
    cut = usual.flatmap(lambda frame: st.integers(0, len(frame)).map(lambda at: frame[:at]))
    hurt = st.tuples(usual, st.integers(0), st.integers(0, 255)).map(changed)
    frame = st.one_of(usual, usual, usual, st.sampled_from(pool), cut, hurt)
    return venue, draw(st.lists(st.lists(frame, max_size=3 * FEW), min_size=1, max_size=3))


def changed(case):
    frame, at, byte = case
    at %= len(frame)
    return frame[:at] + bytes([byte]) + frame[at + 1 :]


@pytest.fixture(scope="module")
def readers():
    """One of each venue, that goes on learning."""
    return {venue: Reader(venue) for venue in QUOTES}


@settings(max_examples=300, deadline=None)
@given(reads())
def test_reads_of_anything_are_what_the_decoder_says(readers, case):
    venue, batches = case
    reader = readers[venue]
    for batch in batches:
        expected, bad = one_by_one(venue, batch)
        before = reader.bad_frames
        found = list(reader.read(batch))
        assert repr(found) == repr(expected)
        assert reader.bad_frames - before == bad


@pytest.mark.parametrize("venue", ["binance", "bitget", "bybit", "gateio", "hyperliquid", "okx"])
def test_real_frames_are_what_the_decoder_says(shared, venue):
    files = sorted((shared / "samples" / venue).glob("*.jsonl"))
    frames = [line for file in files for line in file.read_bytes().splitlines()[:400]]
    reader = Reader(venue)
    assert len(frames) > FEW
    for begin in range(0, len(frames), 100):
        part = frames[begin : begin + 100]
        assert repr(list(reader.read(part))) == repr(one_by_one(venue, part)[0])


def test_when_enough_forms_are_known_the_others_are_the_decoders(asked, monkeypatch):
    monkeypatch.setattr(reading, "MOST_FORMS", FEW // 2)
    frames = [QUOTES["binance"].replace(b"BTCUSDT", b"S%03dUSDT" % n) for n in range(FEW)]
    expected, _ = one_by_one("binance", frames)
    reader = Reader("binance")
    for _ in range(FEW):
        asked.clear()
        assert list(reader.read(frames)) == expected
    assert len(asked) == len({*frames} & {*asked}) == FEW - FEW // 2


def test_what_has_no_form_is_seldom_looked_at_again(asked):
    reader, trades = Reader("binance"), [OTHERS["binance"][1]] * 100
    for _ in range(200):
        list(reader.read(trades))
    assert len(asked) < 200 * 100 + 50  # learning asks a decoder more than once a frame


def test_the_page_about_it_runs(capsys):
    page = (Path(__file__).parents[1] / "docs" / "decoders.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {}
    exec(block, names)  # noqa: S102 - our own page
    assert capsys.readouterr().out == "BTCUSDT 100.0 100.5\n"
    expected, _ = one_by_one("bybit", names["frames"])
    assert list(names["reader"].read(names["frames"] * FEW)) == expected * FEW
    assert f"Fewer than {FEW} frames" in page


def test_a_venue_that_there_is_not_is_refused():
    with pytest.raises(BadUsage, match="'nowhere' is no venue; there are: bitget, htx, "):
        Reader("nowhere")


def test_only_who_makes_one_waits_for_a_compiler():
    code = "import sys, perptape, perptape.decode; print('numba' in sys.modules); perptape.Reader; "
    code += "print('numba' in sys.modules)"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert perptape.Reader is Reader
