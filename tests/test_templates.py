"""Forms learned from frames, against each venue's own decoder: the same, or nothing."""

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.decode import decoder
from perptape.errors import BadFrame
from perptape.events import Book, Quote
from perptape.learning import LEVELS, LONGEST, VARIATIONS, learn, written
from perptape.templates import Forms, Read

FRAMES = {
    "binance": b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":512,"s":"BTCUSDT",'
    b'"b":"61800.20","B":"2.658","a":"61800.30","A":"0.004","T":1723161256417,"E":1723161256418}}',
    "binance bare": b'{"e":"bookTicker","u":7,"s":"BTCUSDT","ps":"BTCUSDT","b":"1.2","B":"31",'
    b'"a":"1.3","A":"8","T":1723161256417,"E":1723161256418,"st":1}',
    "binance_coinm": b'{"stream":"btcusd_perp@bookTicker","data":{"u":100,"e":"bookTicker",'
    b'"s":"BTCUSD_PERP","ps":"BTCUSD","b":"61804.7","B":"33","a":"61804.8","A":"1675",'
    b'"T":1723161257679,"E":1723161257690}}',
    "binance_spot": b'{"stream":"btcusdt@bookTicker","data":{"u":500,"s":"BTCUSDT",'
    b'"b":"61837.63000000","B":"2.32594000","a":"61837.64000000","A":"1.71525000"}}',
    "bitget": b'{"action":"snapshot","arg":{"instType":"USDT-FUTURES","channel":"books1",'
    b'"instId":"BTCUSDT"},"data":[{"asks":[["44.90","0.69"]],"bids":[["44.82","3.53"]],'
    b'"checksum":0,"seq":12,"ts":"1730332859988"}],"ts":1730332859989}',
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
BOOKS = {
    "binance book": b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161256418,'
    b'"T":1723161256417,"s":"BTCUSDT","U":5120,"u":5123,"pu":5119,"b":[["61800.20","2.658"],'
    b'["61800.10","0"]],"a":[["61800.30","0.004"]]}}',
    "bitget book": b'{"action":"update","arg":{"instType":"USDT-FUTURES","channel":"books",'
    b'"instId":"BTCUSDT"},"data":[{"asks":[["44.90","0.69"]],"bids":[["44.82","3.53"],["44","0"]],'
    b'"checksum":0,"seq":12,"pseq":11,"ts":"1730332859988"}],"ts":1730332859989}',
    "bybit book": b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1786659828109,"data":'
    b'{"s":"BTCUSDT","b":[["63561.5","1.776"]],"a":[["63561.6","4.848"],["63562.0","0"]],'
    b'"u":31398762,"seq":764144453970},"cts":1786659828107}',
    "gateio book": b'{"time":1785548245,"time_ms":1785548245220,"channel":"futures.obu","event":'
    b'"update","result":{"t":1785548245214,"s":"ob.BTC_USDT.50","U":120,"u":124,"b":[["62914.2",'
    b'"20884"]],"a":[["62914.3","0"],["62914.4","33644"]]}}',
    "htx book": b'{"ch":"market.BTC-USDT.depth.size_150.high_freq","ts":1790134831587,"tick":{'
    b'"asks":[[86859.9,817],[86860,0]],"bids":[[86859.8,6172]],"ch":'
    b'"market.BTC-USDT.depth.size_150.high_freq","event":"update","id":100,"mrid":100,'
    b'"ts":1790134831586,"version":100}}',
    "hyperliquid book": b'{"channel":"l2Book","data":{"coin":"BTC","time":1790232237145,"levels":'
    b'[[{"px":"84143.0","sz":"10.25923","n":36}],[{"px":"84144.0","sz":"50.66422","n":18},'
    b'{"px":"84145.0","sz":"0.5","n":1}]]}}',
    "okx book": b'{"arg":{"channel":"books","instId":"BTC-USDT-SWAP"},"action":"update","data":[{'
    b'"asks":[["84144.0","50.6","0","8"]],"bids":[["84143.0","10.2","0","36"],["84142","0","0",'
    b'"0"]],"ts":"1790232237145","checksum":-855196043,"seqId":123456,"prevSeqId":123450}]}',
}
FRAMES |= BOOKS
TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":5,'
    b'"p":"61800.30","q":"0.045","X":"MARKET","m":false}}'
)
NAMES = sorted(FRAMES)
NUMBER = re.compile(rb"[0-9]+(?:\.[0-9]+)?")
PAIR = re.compile(rb'"\w+":"?[^][{}",]+"?,')


def venue_of(name):
    return name.partition(" ")[0]


def told(name, payload):
    """What the venue's decoder makes of it, ``None`` unless that is one quote or book."""
    try:
        events = decoder(venue_of(name))(payload)
    except BadFrame:
        return None
    return events[0] if [type(e) for e in events] in ([Quote], [Book]) else None


def matched(forms, venue, *frames):
    payload = np.frombuffer(b"".join(frames), np.uint8)
    read = Read.empty(len(frames), len(payload))
    whose = np.zeros(len(frames), np.int64)
    forms.match(payload, np.cumsum([0, *map(len, frames)]), whose, [venue], read)
    return [read.event(at, forms) for at in range(len(frames))]


@pytest.fixture(scope="module")
def learned():
    """All forms together, as of a tape of many venues."""
    forms = Forms()
    for name, frame in FRAMES.items():
        form = learn(decoder(venue_of(name)), frame)
        assert form is not None, name
        assert forms.add(venue_of(name), form)
    return forms


@pytest.mark.parametrize("name", NAMES)
def test_one_frame_teaches_all_that_differ_in_numbers(learned, name):
    form = learn(decoder(venue_of(name)), FRAMES[name])
    dice = random.Random(name)  # noqa: S311
    frames = [FRAMES[name], *(written(form, dice) for _ in range(300))]
    expected = [told(name, frame) for frame in frames]
    assert None not in expected
    assert matched(learned, venue_of(name), *frames) == expected


whole = st.integers(0, 2**64).map(str) | st.integers(0, 10**14).map(str)
plain = st.decimals(0, 10**9, places=6).map("{:f}".format) | st.floats(0, 1e15).map("{:f}".format)
odd = st.sampled_from(
    [
        *(
            "0",
            "00",
            "01",
            "0.0",
            "-0",
            "-5",
            "1.",
            ".5",
            "1e5",
            "1E-3",
            "1e400",
            "NaN",
            "",
            " 1",
            "+1",
        ),
        *("0.1e1", "1.2.3", "9007199254740993", "123456789012345678", "9223372036854775807"),
        *("9223372036854775808", "18446744073709551616", "99999999999999999999", "null", "0x1"),
        *(
            "0.00000000000000000000000000001",
            "1" + "0" * 30,
            "true",
            '"',
            "[]",
            "1_0",
            "1,0",
            "\\u0031",
        ),
    ]
)
texts = st.none() | whole | plain | odd


@st.composite
def altered(draw):
    """A frame with some numbers, and perhaps some bytes, changed, or a key that comes twice."""
    name = draw(st.sampled_from(NAMES))
    parts, at = [], 0
    for number in NUMBER.finditer(FRAMES[name]):
        text = draw(texts)
        new = number[0] if text is None else text.encode()
        parts += [FRAMES[name][at : number.start()], new]
        at = number.end()
    frame = bytearray(b"".join([*parts, FRAMES[name][at:]]))
    if draw(st.booleans()) and (pairs := list(PAIR.finditer(frame))):
        again, before = draw(st.sampled_from(pairs)), draw(st.sampled_from(pairs))
        other = draw(st.just(None) | whole | odd)
        text = again[0] if other is None else NUMBER.sub(lambda _: other.encode(), again[0])
        frame[before.start() : before.start()] = text
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        place = draw(st.integers(0, len(frame) - 1))
        kind = draw(st.sampled_from(["flip", "cut", "put"]))
        if kind == "flip":
            frame[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del frame[place]
        else:
            frame.insert(place, draw(st.sampled_from(b'0159.,-e"]} ')))
    return name, bytes(frame)


@settings(max_examples=2500, deadline=None)
@given(altered())
def test_every_frame_is_read_as_its_venue_does_or_not_at_all(learned, case):
    name, frame = case
    (found,) = matched(learned, venue_of(name), frame)
    if found is not None:
        expected = told(name, frame)
        assert found == expected
        assert repr(found) == repr(expected)


@pytest.mark.parametrize("name", sorted(BOOKS))
@pytest.mark.parametrize("counts", [(0, 0), (0, 1), (3, 0), (70, 90)])
def test_a_book_has_as_many_levels_as_it_has(learned, name, counts):
    frame = BOOKS[name]
    for side, count in reversed(list(zip(LEVELS.finditer(frame), counts, strict=True))):
        begin, stop = side.span()
        frame = frame[:begin] + b"[" + b",".join([side[1]] * count) + b"]" + frame[stop:]
    expected = told(name, frame)
    assert expected is not None and {len(expected.bids), len(expected.asks)} == set(counts)
    assert matched(learned, venue_of(name), frame, BOOKS[name]) == [
        expected,
        told(name, BOOKS[name]),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'["63562.0","0"]', b'["63562.0","0",1]'),
        (b'["63562.0","0"]', b'["63562.0"]'),
        (b'["63562.0","0"]', b'["63562.0","-0"]'),
        (b'["63562.0","0"]', b'["0","1"]'),
        (b'["63562.0","0"]', b"[63562.0,0]"),
        (b'["63562.0","0"]', b'["63562.0","0"],'),
        (b'["63562.0","0"]]', b'["63562.0","0"]'),
        (b'"u":31398762', b'"u":1'),
    ],
)
def test_a_level_or_an_id_that_is_odd_is_a_miss(learned, old, new):
    frame = BOOKS["bybit book"]
    assert frame.count(old) == 1
    expected = told("bybit", frame.replace(old, new))
    found = matched(learned, "bybit", frame.replace(old, new), frame)
    assert found[0] in (None, expected) and found[1] == told("bybit", frame)
    assert found[0] is None or new == b'["0","1"]'


@settings(max_examples=1000, deadline=None)
@given(st.integers(1, 2**53 - 1), st.integers(0, 22))
def test_a_price_is_the_float_that_it_says(learned, digits, places):
    text = f"{digits:0{places + 1}d}"
    text = text[: len(text) - places] + ("." + text[len(text) - places :] if places else "")
    frame = FRAMES["binance"].replace(b"61800.20", text.encode())
    (found,) = matched(learned, "binance", frame)
    assert found.bid_price == float(text)


@pytest.mark.parametrize(
    "text",
    [
        *("9007199254740992", "0", "0.000", "01", "1.", "-1", "1e3"),
        *("0.00000000000000000000001", "123456789.1234567890"),
    ],
)
def test_what_is_not_one_exact_division_is_a_miss(learned, text):
    frame = FRAMES["binance"].replace(b"61800.20", text.encode())
    assert matched(learned, "binance", frame) == [None]


def test_a_number_that_decides_what_a_frame_is_stays_as_it_is(learned):
    ours, other = FRAMES["binance bare"], FRAMES["binance bare"].replace(b'"st":1', b'"st":2')
    assert told("binance", other) is None  # of another product
    assert matched(learned, "binance", ours, other) == [told("binance", ours), None]


def test_a_time_that_a_venue_need_not_say_is_a_miss(learned):
    frame = FRAMES["gateio"].replace(b'"time_ms":1785548245220', b'"time_ms":0')
    assert told("gateio", frame).ts_send is None
    assert matched(learned, "gateio", frame) == [None]


@pytest.mark.parametrize(
    ("venue", "frame"),
    [
        ("bybit", FRAMES["bybit"].replace(b'[["63561.5","1.776"]]', b"[]")),
        ("bybit", b'{"op":"pong","args":["1"]}'),
        ("bybit", b"\xff"),
        ("bybit", FRAMES["bybit"].replace(b'"type"', b" " * LONGEST + b'"type"')),
        ("nowhere", FRAMES["bybit"]),
        ("binance", TRADE),
    ],
    ids=["empty-side", "control", "no-json", "long", "no-venue", "trade"],
)
def test_not_everything_is_learned(venue, frame):
    assert learn(decoder(venue), frame) is None


def quote(bid, ask, number):
    return [Quote("X", None, None, bid, 1.0, ask, 2.0, number)]


def parsed(payload):
    bid, ask, number = payload.split(b" ")
    return float(bid), float(ask), int(number)


def apart(payload):
    bid, ask, number = parsed(payload)
    return quote(bid, ask if number < 10**8 else ask + 1, number)


def together(payload):
    bid, ask, number = parsed(payload)
    return quote(bid + ask, ask, number)


@pytest.mark.parametrize("decode", [apart, together])
def test_numbers_that_bear_on_each_other_are_not_learned(decode):
    assert VARIATIONS > 3
    assert learn(decode, b"1 2 3") is None


def test_forms_share_what_they_begin_with():
    forms, decode = Forms(), decoder("gateio")
    frames = [FRAMES["gateio"].replace(b"BTC", b"A%dB" % k) for k in range(50)]
    for frame in frames:
        assert forms.add("gateio", learn(decode, frame))
        assert not forms.add("gateio", learn(decode, frame.replace(b"120", b"121")))
    assert matched(forms, "gateio", *frames) == [told("gateio", frame) for frame in frames]
    assert matched(forms, "bybit", *frames) == [None] * 50
    assert list(forms.streams) == [(f"A{k}B_USDT", False) for k in range(50)]


def test_to_find_one_of_many_symbols_few_bytes_are_looked_at():
    forms, decode = Forms(), decoder("binance")
    symbols = [
        "BTC",
        "BTCST",
        "B",
        "TBTC",
        *(f"{a}{b}" for a in "ABCDEFGHIJ" for b in "KLMNOPQRST"),
    ]
    frames = [
        FRAMES["binance"].replace(b"BTC", name.encode()).replace(b"btc", name.lower().encode())
        for name in symbols
    ]
    assert all(forms.add("binance", learn(decode, frame)) for frame in frames)
    assert matched(forms, "binance", *frames) == [told("binance", frame) for frame in frames]
    trie, _ = forms._laid_out()  # noqa: SLF001 - its shape is what makes it fast
    text, beside = trie.text.tobytes(), trie.sibling.tolist()
    firsts = {node: text[begin] for node, begin in enumerate(trie.begin.tolist())}
    alone = set(range(len(beside))) - set(beside)
    for node in alone:
        chain = [node]
        while (node := beside[node]) >= 0:
            chain.append(node)
        assert len({firsts[node] for node in chain}) == len(chain) <= len("ABCDEFGHIJT")
