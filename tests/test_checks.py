"""What a stream's own frames say of it, on stories told in seconds by a venue of our own."""

import msgspec
import numpy as np
import pytest

from perptape import checks
from perptape.events import (
    CHANNELS,
    NS,
    Book,
    Funding,
    Kind,
    Mark,
    Note,
    Opened,
    Quote,
    RestAnswer,
    Subscription,
    Trade,
)
from perptape.ledger import Heard, Ledger
from perptape.tape import Batch
from perptape.venues import VENUES
from perptape.venues.venue import Topic, Venue

T0 = 1_790_000_000 * NS
TYPES = {event.__name__: event for event in CHANNELS}


def decode(payload):
    """A frame is the name of an event, and its fields as JSON."""
    name, _, fields = payload.partition(b" ")
    return [msgspec.json.decode(fields, type=TYPES[name.decode()])]


def topic(channel, stream, symbol):
    return Topic(channel, stream, symbol, f"{stream}.{symbol}", (symbol.encode(),))


def venue(name, **facts):
    return Venue(
        name=name, docs="", streams={c: (c,) for c in CHANNELS.values()}, decode=decode,
        instrument_name=lambda symbol: f"{symbol}-USDT-PERP", topic=topic,
        read_rest=lambda _what, _symbol, body: decode(body), **facts,
    )  # fmt: skip


class Story:
    """Frames in seconds since T0, of venues ``a`` and ``b``."""

    def __init__(self):
        self.told = []
        self.rows = {event: Heard() for event in CHANNELS}
        self.wires = {}

    def open(self, at_s, name, *channels, wire=None):
        number = wire or len(self.wires) + 1
        self.wires[number] = name
        asked = tuple(Subscription(f"{name}:BTC-USDT-PERP", c, c, "BTC") for c in channels)
        self.add(at_s, number, Kind.OPENED, msgspec.json.encode(Opened(name, "ws://x", asked)))
        return number

    def add(self, at_s, wire, kind, payload):
        self.told.append((T0 + round(at_s * NS), wire, kind, payload))

    def say(self, at_s, wire, event):
        payload = type(event).__name__.encode() + b" " + msgspec.json.encode(event)
        self.add(at_s, wire, Kind.TEXT, payload)

    def note(self, at_s, wire, note):
        self.add(at_s, wire, Kind.NOTE, msgspec.json.encode(Note(note)))

    def read(self, batches=1):
        """The ledger's opinion: (from, to, trusted, reason) of each channel of each venue."""
        ordered = sorted(self.told, key=lambda frame: frame[0])
        ledger = Ledger()
        each = -(-len(ordered) // batches)
        for start in range(0, len(ordered), each):
            part = batch(ordered[start : start + each], self.wires, start + 1)
            ledger.batch(part, self.rows)
        self.result = ledger.finish()
        found = {}
        for i in self.result.intervals:
            key = i.market.partition(":")[0], i.channel
            span = ((i.start - T0) / NS, (i.end - T0) / NS, i.trusted, i.reason)
            found.setdefault(key, []).append(span)
        return found


def batch(frames, wires, first_seq):
    count = len(frames)
    payloads = [payload for _, _, _, payload in frames]
    times = np.array([ts for ts, _, _, _ in frames], np.int64)
    return Batch(
        first_seq=first_seq,
        wire=np.array([wire for _, wire, _, _ in frames], np.uint32),
        kind=np.array([kind for _, _, kind, _ in frames], np.uint8),
        ts_recv=times,
        ts_mono=times,
        wire_size=np.zeros(count, np.uint32),
        offsets=np.cumsum([0, *map(len, payloads)]).astype(np.int64),
        payload=b"".join(payloads),
        venues=wires,
    )


@pytest.fixture
def story(monkeypatch):
    for name in ("a", "b"):
        monkeypatch.setitem(VENUES, name, venue(name))
    return Story()


def quote(bid=100.0, ask=101.0):
    return Quote("BTC", None, None, bid, 1.0, ask, 1.0, None)


def book(update_id, follows=None, bids=((100.0, 1.0),), asks=((101.0, 1.0),)):
    return Book(
        "BTC", None, None, list(bids), list(asks),
        is_snapshot=follows is None, update_id=update_id, follows=follows,
    )  # fmt: skip


def trade(price, trade_id="1", **said):
    return Trade("BTC", None, None, price, 1.0, "buy", trade_id, **said)


def steadily(story, wire, event, *times):
    """Say it again and again: from, to, and every so many seconds."""
    start, stop, step = (*times, 0.05)[:3]
    for at_s in np.arange(start, stop, step):
        story.say(float(at_s), wire, event)


def untrusted(spans):
    return [(round(a, 3), round(b, 3), why) for a, b, ok, why in spans if not ok]


def test_a_stream_that_says_nothing_while_another_venue_moves_is_stalled(story):
    one, other = story.open(0, "a", "quotes"), story.open(0, "b", "quotes")
    steadily(story, one, quote(), 0, 20)
    steadily(story, one, quote(), 40, 60)
    steadily(story, other, quote(), 0, 60)
    found = story.read()
    assert untrusted(found["a", "quotes"]) == [(19.95, 40, "stalled")]
    assert untrusted(found["b", "quotes"]) == []


def test_a_stall_at_the_end_of_the_tape_is_found_too(story):
    one, other = story.open(0, "a", "quotes"), story.open(0, "b", "quotes")
    steadily(story, one, quote(), 0, 20)
    steadily(story, other, quote(), 0, 60)
    assert untrusted(story.read()["a", "quotes"]) == [(19.95, 59.95, "stalled")]


def test_a_quiet_market_is_quiet_everywhere(story):
    one, other = story.open(0, "a", "quotes"), story.open(0, "b", "quotes")
    for start, stop in ((0, 20), (40, 60)):
        steadily(story, one, quote(), start, stop)
        steadily(story, other, quote(), start, stop)
    found = story.read()
    assert untrusted(found["a", "quotes"]) == untrusted(found["b", "quotes"]) == []


def test_one_venue_alone_proves_nothing_about_its_silence(story):
    one = story.open(0, "a", "quotes")
    steadily(story, one, quote(), 0, 20)
    steadily(story, one, quote(), 60, 80)
    assert untrusted(story.read()["a", "quotes"]) == []


def test_a_promised_repetition_that_fails_to_come_needs_no_witness(story, monkeypatch):
    monkeypatch.setitem(VENUES, "a", venue("a", cadence={"quotes": NS}))
    one = story.open(0, "a", "quotes")
    steadily(story, one, quote(), 0, 10, 1.0)
    steadily(story, one, quote(), 20, 30, 1.0)
    assert untrusted(story.read()["a", "quotes"]) == [(9, 20, "stalled")]


def test_a_promise_that_all_venues_break_at_once_is_our_own_trouble(story, monkeypatch):
    monkeypatch.setitem(VENUES, "a", venue("a", cadence={"quotes": NS}))
    one, other = story.open(0, "a", "quotes"), story.open(0, "b", "quotes")
    for start, stop in ((0, 20), (30, 50)):
        steadily(story, one, quote(), start, stop)
        steadily(story, other, quote(), start, stop)
    assert untrusted(story.read()["a", "quotes"]) == []


def test_a_stall_is_not_learned_as_a_habit(story):
    one, other = story.open(0, "a", "quotes"), story.open(0, "b", "quotes")
    steadily(story, other, quote(), 0, 100)
    for start, stop in ((0, 20), (40, 60), (80, 100)):
        steadily(story, one, quote(), start, stop)
    found = untrusted(story.read()["a", "quotes"])
    assert [why for _, _, why in found] == ["stalled", "stalled"]


def test_a_crossed_quote_is_not_trusted_until_the_next_that_is_not(story):
    one = story.open(0, "a", "quotes")
    for at_s, each in enumerate([quote(), quote(102.0, 101.0), quote(101.0, 101.0), quote()]):
        story.say(at_s, one, each)
    assert untrusted(story.read()["a", "quotes"]) == [(1, 3, "crossed")]
    assert len(story.rows[Quote]) == 4, "all of it is in the table"


def test_a_lost_update_is_untrusted_from_the_last_good_one_to_the_next_snapshot(story):
    one = story.open(0, "a", "books")
    told = [book(5), book(6, 5), book(8, 7), book(9, 8), book(20), book(21, 20)]
    for at_s, each in enumerate(told):
        story.say(at_s, one, each)
    spans = story.read()["a", "books"]
    assert untrusted(spans) == [(1, 4, "sequence")]
    assert story.rows[Book].ts_recv == [T0 + s * NS for s in (0, 1, 4, 5)]
    detail = [i.detail for i in story.result.intervals if i.reason == "sequence" and not i.trusted]
    assert detail == ["update 8 follows 7, and the book had 6"]


def test_a_book_without_its_snapshot_is_no_book(story):
    one = story.open(0, "a", "books")
    for at_s, each in enumerate([book(6, 5), book(7, 6), book(7), book(8, 7)]):
        story.say(at_s, one, each)
    spans = story.read()["a", "books"]
    assert [(a, ok, why) for a, _, ok, why in spans] == [(0, False, "start"), (2, True, "shutdown")]


def test_a_base_by_rest_makes_the_book_whole_with_what_came_before_it(story, monkeypatch):
    monkeypatch.setitem(VENUES, "a", venue("a", bases={"books": "/book"}))
    one = story.open(0, "a", "books")
    story.wires[9] = "a"
    story.say(1, one, book(6, 5, bids=[(100.5, 2.0)]))
    story.say(2, one, book(8, 6, bids=[], asks=[(101.0, 0.0), (102.0, 1.0)]))
    body = "Book " + msgspec.json.encode(book(6)).decode()
    answer = RestAnswer("book", "http://x", 200, T0, body, "BTC", "books")
    story.add(3, 9, Kind.REST, msgspec.json.encode(answer))
    story.say(4, one, book(9, 8, asks=[]))
    spans = story.read()["a", "books"]
    assert [(a, ok, why) for a, _, ok, why in spans] == [(0, False, "start"), (3, True, "shutdown")]
    first = story.rows[Book].events[0]
    assert (first.bids, first.asks, first.update_id) == ([(100.0, 1.0)], [(102.0, 1.0)], 8)
    assert story.rows[Book].seq[0] == 4, "the answer's frame"


def test_a_book_that_contradicts_the_quotes_for_long_is_wrong(story):
    one = story.open(0, "a", "quotes", "books")
    story.say(0, one, book(1))
    steadily(story, one, quote(), 0, 2, 0.5)
    steadily(story, one, quote(110.0, 111.0), 2, 20, 0.5)
    for n in range(10):
        story.say(2.1 + n, one, book(n + 2, n + 1))
    story.say(12.1, one, book(50, bids=[(110.0, 1.0)], asks=[(111.0, 1.0)]))
    found = story.read()
    assert untrusted(found["a", "books"]) == [(2.1, 12.1, "mismatch")]
    assert untrusted(found["a", "quotes"]) == []


def test_trades_far_outside_quotes_that_do_not_change_prove_them_old(story):
    one = story.open(0, "a", "quotes", "trades")
    story.say(0, one, quote())
    for n in range(8):
        story.say(1 + n, one, trade(105.0, str(n)))
    story.say(10, one, quote(105.0, 106.0))
    found = story.read()
    assert untrusted(found["a", "quotes"]) == [(1, 10, "outside")]


def test_one_sweep_through_the_book_proves_nothing(story):
    one = story.open(0, "a", "quotes", "trades")
    story.say(0, one, quote())
    for n in range(50):
        story.say(1, one, trade(101.0 + n / 10, str(n)))
    story.say(1.1, one, quote(105.0, 106.0))
    assert untrusted(story.read()["a", "quotes"]) == []


def test_history_makes_no_rows(story, monkeypatch):
    one, other = story.open(0, "a", "trades"), story.open(0, "b", "trades")
    monkeypatch.setitem(VENUES, "b", venue("b", replays_trades=True))
    story.say(1, one, trade(100.0, "old", is_history=True))
    story.say(2, one, trade(100.0, "new"))
    story.say(1, other, trade(100.0, "old"))
    story.say(2, other, trade(100.0, "new"))
    story.note(3, other, "closed")
    again = story.open(4, "b", "trades")
    story.say(5, again, trade(100.0, "old"))
    story.say(6, again, trade(100.0, "newer"))
    found = story.read()
    assert [t.trade_id for t in story.rows[Trade].events] == ["new", "new", "newer"]
    assert found["b", "trades"][1][:3] == (1, 3, True), "history proves that the wire carries it"


def test_a_trade_that_is_told_twice_is_one(story, monkeypatch):
    monkeypatch.setattr(checks, "TOLD", 2)
    one = story.open(0, "a", "trades")
    for at_s, name in enumerate(["1", "1", "2", "1", "3", "4", "1"]):
        story.say(at_s, one, trade(100.0, name))
    story.read()
    assert [t.trade_id for t in story.rows[Trade].events] == ["1", "2", "3", "4", "1"], "bounded"


def test_partial_news_is_put_together_on_one_wire_only(story):
    one = story.open(0, "a", "marks", "funding")
    story.say(0, one, Mark("BTC", 1, None, 100.0, 99.0, 7.0))
    story.say(1, one, Mark("BTC", 2, None, None, 99.5))
    story.say(1, one, Funding("BTC", 2, None, rate=0.0001, interval_h=8.0, ts_funding=5))
    story.say(2, one, Funding("BTC", 3, None, rate=0.0002))
    story.say(3, one, Funding("BTC", 3, None, rate=0.0003, ts_funding=4, is_settled=True))
    story.note(4, one, "closed")
    again = story.open(5, "a", "marks", "funding")
    story.say(6, again, Mark("BTC", 9, None, 101.0))
    story.read()
    marks = [(m.mark_price, m.index_price, m.open_interest) for m in story.rows[Mark].events]
    assert marks == [(100.0, 99.0, 7.0), (100.0, 99.5, 7.0), (101.0, None, None)]
    funding = [(f.rate, f.interval_h, f.ts_funding) for f in story.rows[Funding].events]
    assert funding == [(0.0001, 8.0, 5), (0.0002, 8.0, 5), (0.0003, None, 4)]


def test_what_a_call_told_before_the_stream_began_is_not_lost(story):
    story.wires[9] = "a"
    for at_s in (0.5, 3):  # before the wire, and again
        paid = Funding("BTC", None, None, rate=0.0001, ts_funding=T0 - NS, is_settled=True)
        body = "Funding " + msgspec.json.encode(paid).decode()
        answer = RestAnswer("paid", "http://x", 200, T0, body, "BTC")
        story.add(at_s, 9, Kind.REST, msgspec.json.encode(answer))
    one = story.open(0, "a", "funding")
    story.say(2, one, Funding("BTC", 2, None, rate=0.0002))
    story.say(4, one, Funding("BTC", 2, None, rate=0.0003))
    spans = story.read()["a", "funding"]
    assert [f.rate for f in story.rows[Funding].events] == [0.0001, 0.0002, 0.0003]
    assert [(a, ok) for a, _, ok, _ in spans] == [(0, False), (2, True)], "it proves nothing"


def test_channels_that_were_not_asked_for_are_left_on_the_tape(story):
    one = story.open(0, "a", "marks")
    story.say(0, one, Mark("BTC", 1, None, 100.0))
    story.say(1, one, Funding("BTC", 2, None, rate=0.0001))
    assert set(story.read()) == {("a", "marks")}
    assert not len(story.rows[Funding])


def test_two_coins_under_one_ticker_are_not_compared(story, monkeypatch):
    monkeypatch.setitem(VENUES, "c", venue("c"))
    for name, price in (("a", 100.0), ("b", 100.5), ("c", 7.0)):
        wire = story.open(0, name, "quotes", "trades")
        steadily(story, wire, quote(price, price + 1), 0, 20, 0.5)
        story.say(3, wire, trade(price))
    found = story.read(batches=10)
    assert untrusted(found["a", "quotes"]) == untrusted(found["b", "quotes"]) == []
    assert untrusted(found["c", "quotes"]) == [(0, 19.5, "quarantine")]
    assert untrusted(found["c", "trades"]) == [(0, 19.5, "quarantine")]
    assert len(story.rows[Quote]) == 120, "it stays in the tables"


def test_a_price_that_was_odd_for_a_moment_is_not_put_aside(story):
    one, other = story.open(0, "a", "quotes"), story.open(0, "b", "quotes")
    steadily(story, one, quote(), 0, 20, 0.5)
    steadily(story, other, quote(), 0, 20, 0.5)
    story.say(9.9, other, quote(50.0, 51.0))
    found = story.read(batches=20)
    assert untrusted(found["a", "quotes"]) == untrusted(found["b", "quotes"]) == []


def test_every_bound_is_one_a_clean_market_keeps():
    assert checks.MEAN >= 50 and checks.LONGEST >= 2 and checks.GAPS >= 50
