"""The fast way through a batch, against the slow one: nothing may tell them apart.

Stories of all that befalls a tape are read twice, and after every batch everything that the ledger
remembers is compared, then all rows.
"""

import gzip
from itertools import islice

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perptape import gather, importers, ledger, tabulate
from perptape.columns import columns
from perptape.events import CHANNELS, MS, NS, Kind, Note, Opened, RestAnswer, Subscription
from perptape.ledger import Heard, Ledger
from perptape.tape import Batch
from perptape.trust import Asked

T0 = 1_790_000_000 * NS
STREAMS = {
    "binance": {"quotes": "bookTicker", "trades": "trade", "books": "depth@100ms"},
    "bybit": {"quotes": "orderbook.1", "trades": "publicTrade", "books": "orderbook.50"},
    "gateio": {"quotes": "futures.book_ticker", "books": "futures.obu.50"},
}
"""Two that promise nothing, one that repeats every 3 s; contracts that need a list."""
COINS = ("BTC", "ETH")
SYMBOLS = {"binance": "{}USDT", "bybit": "{}USDT", "gateio": "{}_USDT"}
QUOTES = {
    "binance": '{"stream":"%(low)s@bookTicker","data":{"e":"bookTicker","u":%(n)d,"s":"%(symbol)s",'
    '"b":"%(bid)s","B":"2.5","a":"%(ask)s","A":"0.4","T":%(ms)d,"E":%(ms)d}}',
    "bybit": '{"topic":"orderbook.1.%(symbol)s","ts":%(ms)d,"type":"snapshot","data":{"s":'
    '"%(symbol)s","b":[["%(bid)s","1"]],"a":[["%(ask)s","2"]],"u":%(n)d,"seq":1},"cts":%(ms)d}',
    "gateio": '{"time":1790000000,"time_ms":%(ms)d,"channel":"futures.book_ticker",'
    '"event":"update","result":{"t":%(ms)d,"u":%(n)d,"s":"%(symbol)s","b":"%(bid)s","B":7,"a":"%(ask)s","A":8}}',
}
TRADES = {
    "binance": '{"stream":"%(low)s@trade","data":{"e":"trade","E":%(ms)d,"T":%(ms)d,'
    '"s":"%(symbol)s","t":%(n)d,"p":"%(price)s","q":"0.1","X":"MARKET","m":false}}',
    "bybit": '{"topic":"publicTrade.%(symbol)s","type":"snapshot","ts":%(ms)d,"data":[{"T":%(ms)d,'
    '"s":"%(symbol)s","S":"Buy","v":"1","p":"%(price)s","i":"%(n)d","BT":false}]}',
}
BOOKS = {
    "binance": '{"stream":"%(low)s@depth@100ms","data":{"e":"depthUpdate","E":%(ms)d,"T":%(ms)d,'
    '"s":"%(symbol)s","U":%(n)d,"u":%(n)d,"pu":%(before)d,"b":[["%(bid)s","1"]],"a":[]}}',
    "bybit": '{"topic":"orderbook.50.%(symbol)s","type":"%(kind)s","ts":%(ms)d,"data":{"s":'
    '"%(symbol)s","b":[["%(bid)s","1"]],"a":[["%(ask)s","2"]],"u":%(n)d,"seq":1},"cts":%(ms)d}',
    "gateio": '{"time":1790000000,"time_ms":%(ms)d,"channel":"futures.obu","event":"update",'
    '"result":{"t":%(ms)d,"s":"ob.%(symbol)s.50","full":true,"u":%(n)d,"b":[["%(bid)s","1"],["90","%(n)d"]]'
    ',"a":[["%(ask)s","2"]]}}',
}
GATE_LIST = (
    '[{"name":"BTC_USDT","type":"direct","quanto_multiplier":"%s","order_price_round":"0.1",'
    '"order_size_min":"1","enable_decimal":false,"status":"trading","in_delisting":false,'
    '"funding_interval":28800}]'
)
NOTES = [
    *[Note(word) for word in ("closed", "silence", "shutdown", "restart", "clock", "complaint")],
    *[Note(word, state=state) for word in ("overload", "disk") for state in ("begin", "end")],
    Note("refused", market="bybit:BTC-USDT-PERP", channel="quotes", reason="no"),
    Note("delisted", market="bybit:BTC-USDT-PERP", channel="quotes", reason="gone"),
]


class Story:
    """Frames as they are told, with the little that makes the next one."""

    def __init__(self):
        self.told, self.cuts = [], set()
        self.now, self.number = T0, 100
        self.books = {}
        self.wires = {0: ""}
        self.wire_of = {}
        self.imported = set()

    def __repr__(self):
        return "\n".join(f"{t - T0} {w} {Kind(k).name} {p!r}" for t, w, k, p in self.told)

    def add(self, wire, kind, payload):
        data = payload.encode() if isinstance(payload, str) else payload
        self.told.append((self.now, wire, kind, data))

    def open(self, venue, *, imported=False):
        wire = len(self.wires)
        self.wires[wire], self.wire_of[venue] = venue, wire
        asked = [
            Subscription(f"{venue}:{coin}-USDT-PERP", channel, stream, SYMBOLS[venue].format(coin))
            for coin in COINS
            for channel, stream in STREAMS[venue].items()
        ]
        if imported:
            self.imported.add(wire)
            asked = []
        opened = Opened(venue, "ws://x", tuple(asked), imported=imported)
        self.add(wire, Kind.OPENED, msgspec.json.encode(opened))

    def say(self, table, venue, coin, wire=None, **words):
        if venue not in table:
            return
        if venue not in self.wire_of:
            self.open(venue)
        self.number += 1
        symbol = SYMBOLS[venue].format(coin)
        words = {"bid": "100.1", "ask": "100.2", "price": "100.15", "kind": "delta"} | words
        if table is BOOKS:
            words["n"] = self.books[venue, coin] = self.books.get((venue, coin), 9) + 1
        words = {"n": self.number, "ms": self.now // MS} | words
        words["before"] = words["n"] - 1
        text = table[venue] % (words | {"symbol": symbol, "low": symbol.lower()})
        self.add(self.wire_of[venue] if wire is None else wire, Kind.TEXT, text)

    def batches(self):
        start = 0
        while start < len(self.told):
            stop = start + 1
            while stop < len(self.told) and self._is_one(start, stop):
                stop += 1
            yield batch(self.told[start:stop], self.wires, start + 1, self.imported)
            start = stop

    def _is_one(self, start, at):
        last, this = self.told[at - 1], self.told[at]
        is_same = (this[1] in self.imported) == (self.told[start][1] in self.imported)
        return at not in self.cuts and this[0] >= last[0] and is_same


def batch(frames, wires, first_seq, imported=()):
    times = np.array([frame[0] for frame in frames], np.int64)
    return Batch(
        first_seq=first_seq,
        wire=np.array([frame[1] for frame in frames], np.uint32),
        kind=np.array([frame[2] for frame in frames], np.uint8),
        ts_recv=times,
        ts_mono=None if frames[0][1] in imported else times,
        wire_size=np.zeros(len(frames), np.uint32),
        offsets=np.cumsum([0, *(len(frame[3]) for frame in frames)]).astype(np.int64),
        payload=memoryview(b"".join(frame[3] for frame in frames)),
        venues={wire: wires[wire] for wire in {frame[1] for frame in frames}},
    )


PRICES = [
    *[("100.1", "100.2")] * 12,
    *[("100.10", "100.3"), ("100", "101"), ("0.0001", "12345678.9")],
    *[("100.2", "100.2"), ("100.3", "100.1")],
]
ODD = [("1e2", "100.2"), ("0100", "100.2"), ("100.1234567890123456789", "101")]


def steady(story, draw, venues):
    """Quotes of some markets, as often as not enough for a cadence."""
    step = draw(st.sampled_from([1, 20 * MS, 300 * MS, 1500 * MS]))
    coins = draw(st.sampled_from([COINS, COINS[:1]]))
    for k in range(draw(st.integers(1, 130))):
        story.now += step
        story.say(QUOTES, venues[k % len(venues)], coins[k // len(venues) % len(coins)])


def mixed(story, draw, venues):
    for _ in range(draw(st.integers(1, 40))):
        story.now += draw(st.sampled_from([0, 1, 5 * MS, 90 * MS, 700 * MS]))
        venue, coin = draw(st.sampled_from(venues)), draw(st.sampled_from(COINS))
        what = draw(st.sampled_from(["quote"] * 6 + ["trade", "trade", "book", "book", "odd"]))
        bid, ask = draw(st.sampled_from(ODD if what == "odd" else PRICES))
        if what in {"quote", "odd"}:
            story.say(QUOTES, venue, coin, bid=bid, ask=ask)
        elif what == "trade":
            story.say(TRADES, venue, coin, price=draw(st.sampled_from(["100.1", "100.2", "90"])))
        else:
            kind = draw(st.sampled_from(["snapshot", "delta"]))
            story.say(BOOKS, venue, coin, bid=bid, ask=ask, kind=kind)


def ladder(story, draw, venues):
    """One book that goes on, mostly, while there are quotes and trades that it may contradict."""
    venue, coin = draw(st.sampled_from(venues)), draw(st.sampled_from(COINS))
    story.say(BOOKS, venue, coin, kind="snapshot")
    for _ in range(draw(st.integers(1, 30))):
        story.now += draw(st.sampled_from([0, 1, 20 * MS, 700 * MS, 2500 * MS]))
        bid, ask = draw(st.sampled_from(PRICES))
        what = draw(st.sampled_from([*["book"] * 6, "quote", "trade", "hole", "odd"]))
        if what == "hole":
            story.books[venue, coin] = story.books.get((venue, coin), 9) + 1
        elif what == "trade":
            story.say(TRADES, venue, coin, price=draw(st.sampled_from(["100.1", "90"])))
        elif what == "quote":
            story.say(QUOTES, venue, coin, bid=bid, ask=ask)
        else:
            bid, ask = draw(st.sampled_from(ODD)) if what == "odd" else (bid, ask)
            story.say(BOOKS, venue, coin, bid=bid, ask=ask)


def outside(story, draw, venues):
    """Trades that prove quotes old, unless these come in between."""
    between = draw(st.booleans())
    for k in range(draw(st.integers(4, 9))):
        story.now += draw(st.sampled_from([1 * MS, 400 * MS]))
        story.say(TRADES, venues[0], "BTC", price="80")
        if between and k == draw(st.integers(0, 8)):
            story.say(QUOTES, venues[0], "BTC")


def pause(story, draw, venues):
    """Nothing of one venue while another speaks."""
    for _ in range(draw(st.integers(1, 30))):
        story.now += draw(st.sampled_from([100 * MS, 1 * NS, 2 * NS, 7 * NS]))
        story.say(QUOTES, venues[-1], "BTC")
    story.say(QUOTES, venues[0], "BTC")


def note(story, draw, venues):
    del venues
    said = draw(st.sampled_from(NOTES))
    is_ours = said.note in {"restart", "clock", "overload", "disk"}
    wires = [w for w in story.wires if w and w not in story.imported]
    wire = 0 if is_ours or not wires else draw(st.sampled_from(wires))
    story.add(wire, Kind.NOTE, msgspec.json.encode(said))


def opening(story, draw, venues):
    story.open(draw(st.sampled_from(venues)), imported=draw(st.sampled_from([False, False, True])))


def again(story, draw, venues):
    """A wire that is opened twice, as none ever was."""
    venue = draw(st.sampled_from(venues))
    if venue in story.wire_of:
        asked = Subscription(
            f"{venue}:BTC-USDT-PERP", "quotes", STREAMS[venue]["quotes"], "BTCUSDT"
        )
        opened = Opened(venue, "ws://x", (asked,), imported=draw(st.booleans()))
        story.add(story.wire_of[venue], Kind.OPENED, msgspec.json.encode(opened))


def late_frames(story, draw, venues):
    """A wire that another has taken the place of speaks on."""
    for _ in range(draw(st.integers(1, 6))):
        wire = draw(st.sampled_from(sorted(story.wires)))
        story.now += draw(st.sampled_from([1, 50 * MS]))
        if wire and story.wires[wire] in venues:
            story.say(QUOTES, story.wires[wire], "BTC", wire=wire)


def set_back(story, draw, venues):
    """Our clock, to before what one venue said and after what another did."""
    first, *_, last = venues * 2
    story.say(QUOTES, first, "BTC")
    for _ in range(draw(st.integers(1, 3))):
        story.now += 2 * NS
        story.say(QUOTES, last, "ETH")
    story.now -= draw(st.sampled_from([1, 1 * MS, 1 * NS]))
    for _ in range(draw(st.integers(1, 40))):
        story.say(QUOTES, first, "BTC")
        story.now += 1 * MS


def listing(story, draw, venues):
    """A list of instruments: rows after it are made by other terms."""
    del venues
    body = GATE_LIST % draw(st.sampled_from(["0.0001", "0.01"]))
    answer = RestAnswer("instruments", "http://x", 200, story.now, body)
    if "gateio" in story.wire_of and story.wire_of["gateio"] not in story.imported:
        story.add(story.wire_of["gateio"], Kind.REST, msgspec.json.encode(answer))


def blot(story, draw, venues):
    """What no decoder can read, or what says nothing."""
    venue = draw(st.sampled_from(venues))
    if venue in story.wire_of:
        wire, symbol = story.wire_of[venue], SYMBOLS[venue].format("BTC")
        payload = draw(st.sampled_from([b"{", b"\xff\x00", b"[]", b'{"op":"pong"}', b""]))
        story.add(wire, Kind.TEXT, payload + draw(st.sampled_from([b"", symbol.encode()])))
        for kind in (Kind.PING, Kind.SENT, Kind.PONG):
            story.add(wire, kind, b"")


def fall(story, draw, venues):
    del venues
    story.now -= draw(st.sampled_from([1, 900_000, 30 * MS, 5 * NS, 60 * NS]))


def cut(story, draw, venues):
    del draw, venues
    story.cuts.add(len(story.told))


STEPS = [
    *[steady] * 4,
    *[mixed] * 4,
    *[ladder] * 3,
    outside,
    outside,
    pause,
    pause,
    note,
    opening,
    listing,
    blot,
]
STEPS += [fall, set_back, cut, cut, again, late_frames, late_frames]


@st.composite
def stories(draw):
    story = Story()
    venues = draw(st.permutations(sorted(STREAMS)))[: draw(st.integers(1, 3))]
    for _ in range(draw(st.integers(2, 14))):
        draw(st.sampled_from(STEPS))(story, draw, venues)
    return story


def memory(book):
    """All that a ledger knows, in words."""
    trust = book._trust  # noqa: SLF001 - that nothing differs inside is what is to be shown
    wires = [
        (w.number, w.last, w.imported, w.is_known, w.is_over, sorted(map(str, w.streams)))
        for w in trust.wires.values()
    ]
    streams = [repr(s) for s in trust._all()]  # noqa: SLF001
    pieces = [repr(s) for of in trust._pieces.values() for s in of]  # noqa: SLF001
    counts = (book.frames, book.bad, book.undecoded, book.unnamed, trust.high, trust.fell)
    return wires, streams, pieces, counts, list(book.terms)


def tables(rows, terms):
    """All rows, in the order of the tape."""
    found = {}
    for event, heard in rows.items():
        if len(heard):
            events, seq, ts, at = gather._in_columns(CHANNELS[event], heard)  # noqa: SLF001
            made, counts = columns(CHANNELS[event], events, terms, at)
            assert len(seq) == len(ts) == len(at)
            found[event] = (pa.table(made), counts if counts is None else counts.tolist())
            found[event, "frames"] = seq.tolist(), ts.tolist(), at.tolist()
    return found


def read_both_ways(story):
    asked = [Asked(T0, (("bybit:BTC-USDT-PERP", "quotes"),))]
    slow, fast = Ledger(asked), Ledger(asked, in_bulk=True)
    slow_rows, fast_rows = ({event: Heard() for event in CHANNELS} for _ in range(2))
    for part in story.batches():
        slow.batch(part, slow_rows)
        fast.batch(part, fast_rows)
        for found, expected in zip(memory(fast), memory(slow), strict=True):
            assert found == expected
    assert tables(fast_rows, fast.terms) == tables(slow_rows, slow.terms)
    assert fast.finish().intervals == slow.finish().intervals
    return fast.lanes.taken


@settings(max_examples=240, deadline=None, suppress_health_check=list(HealthCheck))
@given(stories())
def test_no_story_tells_the_ways_apart(story):
    read_both_ways(story)


def test_all_but_the_first_of_steady_quotes_are_taken():
    story = Story()
    for k in range(400):
        story.now += 30 * MS
        story.say(QUOTES, sorted(STREAMS)[k % 3], "BTC", bid=f"100.{k % 7}", ask="102")
        if k % 10 == 5:
            story.say(TRADES, "bybit", "BTC")
    assert read_both_ways(story) == 400 - 3


def test_all_but_the_first_of_steady_books_are_taken():
    story = Story()
    story.say(BOOKS, "bybit", "BTC", kind="snapshot", bid="99.9", ask="102")
    story.say(BOOKS, "gateio", "BTC", bid="99.9", ask="102")
    for k in range(300):
        story.now += 30 * MS
        story.say(QUOTES, "bybit", "BTC", bid="100", ask="102")
        story.say(BOOKS, "bybit", "BTC", bid=f"99.{k % 7}", ask=f"102.{k % 3}")
        story.say(BOOKS, "gateio", "BTC", bid=f"99.{k % 7}", ask=f"102.{k % 3}")
    assert read_both_ways(story) == 900 - 1  # the first quote


def test_a_wire_that_is_opened_again_may_carry_another_stream():
    story = Story()
    story.open("binance", imported=True)
    for _ in range(3):
        for _ in range(50):
            story.now += 30 * MS
            story.say(QUOTES, "binance", "BTC")
        asked = Subscription("binance:BTC-USDT-PERP", "quotes", "bookTicker", "BTCUSDT")
        opened = Opened("binance", "ws://x", (asked,))
        story.add(story.wire_of["binance"], Kind.OPENED, msgspec.json.encode(opened))
    assert read_both_ways(story) > 100


def test_changes_of_a_book_that_has_not_begun_are_followed_to_its_beginning():
    story = Story()
    for k in range(100):
        story.now += 30 * MS
        story.say(QUOTES, "bybit", "BTC", bid="100", ask="102")
        kind = "snapshot" if k == 80 else "delta"
        story.say(BOOKS, "bybit", "BTC", bid="99.9", ask="102", kind=kind)
        if k in {3, 50, 90}:
            story.books["bybit", "BTC"] += 1
    assert read_both_ways(story) == 99 + 10  # no row comes before the snapshot, or after a hole


def test_a_trade_sees_the_prices_of_its_moment_though_the_quotes_have_gone_on():
    story = Story()
    for k in range(60):
        story.now += 300 * MS
        story.say(QUOTES, "bybit", "BTC", bid="100", ask="102")
        story.say(TRADES, "bybit", "BTC", price="80" if k > 50 else "101")
    for _ in range(6):
        story.now += 300 * MS
        story.say(TRADES, "bybit", "BTC", price="80")
        story.say(QUOTES, "binance", "BTC")
    story.say(QUOTES, "bybit", "BTC", bid="79", ask="81")
    assert read_both_ways(story) >= 60 - 1


@pytest.mark.parametrize(
    ("folder", "venue"), [("usdm", "binance"), ("cm", "binance_coinm"), ("spot", "binance_spot")]
)
def test_a_real_recording_becomes_the_same_files(shared, tmp_path, monkeypatch, folder, venue):
    (*_, recording) = sorted((shared / "data/binance-3markets-btc-20240808" / folder).glob("*.gz"))
    with gzip.open(recording) as file:
        lines = list(islice(file, 12_000))
    (tmp_path / "part.txt").write_bytes(b"".join(lines))
    importers.run("hftbacktest", [tmp_path / "part.txt"], tmp_path / "tape", venue=venue)
    slow = tabulate.tabulate(tmp_path / "tape", tmp_path / "slow")
    monkeypatch.setattr(ledger, "LONG", 0)
    fast = tabulate.tabulate(tmp_path / "tape", tmp_path / "fast")
    assert fast.result.intervals == slow.result.intervals
    assert fast.manifest == slow.manifest  # it holds the hash of every file
    quotes = sum(f.rows for f in fast.manifest.files if f.path.startswith("quotes"))
    told = sum(b'@bookTicker"' in line for line in lines)
    assert quotes == told > 4_000 and fast.in_bulk >= quotes - 2 and not slow.in_bulk
