"""What a stream's own frames say of it, on stories told in seconds by a venue of our own."""

from itertools import pairwise

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
from perptape.instruments import Instrument
from perptape.ledger import Heard, Ledger
from perptape.tape import Batch
from perptape.trust import Asked
from perptape.venues import VENUES
from perptape.venues.venue import Listing, Topic, Venue

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
        self.told, self.imported = [], False
        self.rows = {event: Heard() for event in CHANNELS}
        self.wires = {}

    def open(self, at_s, name, *channels, wire=None, market="BTC-USDT-PERP"):
        number = wire or len(self.wires) + 1
        self.wires[number] = name
        asked = tuple(Subscription(f"{name}:{market}", c, c, "BTC") for c in channels)
        opened = Opened(name, "ws://x", asked, self.imported)
        self.add(at_s, number, Kind.OPENED, msgspec.json.encode(opened))
        return number

    def add(self, at_s, wire, kind, payload):
        self.told.append((T0 + round(at_s * NS), wire, kind, payload))

    def say(self, at_s, wire, event):
        payload = type(event).__name__.encode() + b" " + msgspec.json.encode(event)
        self.add(at_s, wire, Kind.TEXT, payload)

    def note(self, at_s, wire, note, **said):
        self.add(at_s, wire, Kind.NOTE, msgspec.json.encode(Note(note, **said)))

    def read(self, batches=1):
        """The ledger's opinion: (from, to, trusted, reason) of each channel of each venue.

        What is imported comes as it was told, whenever that was.
        """
        told = self.told
        ordered = told if self.imported else sorted(told, key=lambda frame: frame[0])
        self.ledger = ledger = Ledger()
        each = -(-len(ordered) // batches)
        cuts = {at for at, pair in enumerate(pairwise(ordered), 1) if pair[0][0] > pair[1][0]}
        for start, stop in pairwise(sorted({*range(0, len(ordered), each), *cuts, len(ordered)})):
            part = batch(ordered[start:stop], self.wires, start + 1)
            if self.imported:
                part = msgspec.structs.replace(part, ts_mono=None)
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


@pytest.mark.parametrize("batches", [1, 3])
def test_a_promise_is_broken_by_what_says_one_thing_and_no_more(story, monkeypatch, batches):
    """However its frames are cut into batches, and whatever ends its wire then."""
    monkeypatch.setitem(VENUES, "a", venue("a", cadence={"quotes": NS}))
    one = story.open(0, "a", "quotes")
    story.say(1, one, quote())
    story.note(30, one, "closed")
    spans = story.read(batches)["a", "quotes"]
    assert untrusted(spans) == [(0, 1, "start"), (1, 30, "stalled")]


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


def test_what_is_said_on_another_wire_is_neither_told_twice_nor_mixed_in(story):
    """A venue that was told to leave a topic may go on with it beside the wire that has it now."""
    old, new = story.open(0, "a", "books", "quotes"), story.open(1, "a", "books", "quotes")
    story.say(2, new, book(5))
    story.say(2, new, quote())
    for n in range(4):
        story.say(3 + n, new, book(6 + n, 5 + n))
        story.say(3.5 + n, old, book(90 + n, 89 + n, bids=[(300.0, 1.0)]))
        story.say(3.6 + n, old, quote(300.0, 301.0))
    story.say(9, new, book(10, 9))
    found = story.read()
    for channel in ("books", "quotes"):
        assert [why for *_, why in untrusted(found["a", channel])] == ["start"]
    assert [b.update_id for b in story.rows[Book].events] == [5, 6, 7, 8, 9, 10]
    assert len(story.rows[Quote]) == 1


def test_what_was_delisted_is_not_trusted_on_the_wire_that_it_left(story):
    one = story.open(0, "a", "quotes")
    story.say(1, one, quote())
    story.note(2, one, "delisted", market="a:BTC-USDT-PERP", channel="quotes")
    for at_s, each in enumerate([quote(), quote(102.0, 101.0), quote(), quote()], 3):
        story.say(at_s, one, each)
    again = story.open(8, "a", "quotes")
    story.say(9, again, quote())
    assert untrusted(story.read()["a", "quotes"]) == [(0, 1, "start"), (2, 9, "delisted")]


def test_quotes_of_one_file_are_not_held_against_books_of_another_year(story):
    story.imported = True
    one, other = story.open(0, "a"), story.open(0, "a")
    steadily(story, one, quote(), 0, 20, 0.5)
    for n in range(30):
        story.say(5000 + n, other, book(n + 1, n or None, [(300.0, 1.0)], [(301.0, 1.0)]))
    found = story.read()
    assert untrusted(found["a", "books"]) == [] and untrusted(found["a", "quotes"]) == []


def test_trades_after_a_file_of_quotes_do_not_lengthen_it(story):
    story.imported = True
    one, other = story.open(0, "a"), story.open(0, "a")
    steadily(story, one, quote(), 0, 20, 0.5)
    for n in range(30):
        story.say(22 + n, other, trade(105.0, str(n)))
    assert story.read()["a", "quotes"] == [(0, 19.5, True, "shutdown")]


def test_files_of_other_times_are_not_held_against_each_other(story):
    story.imported = True
    one, other = story.open(9000, "a"), story.open(0, "b")
    steadily(story, one, quote(), 9000, 9020, 0.5)
    steadily(story, other, quote(300.0, 301.0), 0, 20, 0.5)
    found = story.read(batches=10)
    assert untrusted(found["a", "quotes"]) == untrusted(found["b", "quotes"]) == []


def test_files_by_the_thousand_cost_no_more_each(story):
    story.imported = True
    for n in range(300):
        wire = story.open(3000 - 10 * n, "a")
        story.say(3001 - 10 * n, wire, quote())
    story.read()
    assert sum(map(len, story.ledger._checks._peers.values())) == 1  # noqa: SLF001


def test_prices_in_other_money_are_not_compared(story):
    for name, market, price in (
        ("a", "BTC-USDT-PERP", 100.0),
        ("b", "BTC-EUR-PERP", 50.0),
        ("b", "BTC-USDC-PERP", 100.0),
    ):
        wire = story.open(0, name, "quotes", market=market)
        steadily(story, wire, quote(price, price + 1), 0, 20, 0.5)
    story.read(batches=20)
    assert not [i for i in story.result.intervals if i.reason == "quarantine"]


def test_a_crash_on_one_venue_does_not_put_a_market_aside(story):
    one, other = story.open(0, "a", "quotes"), story.open(0, "b", "quotes")
    steadily(story, one, quote(), 0, 60, 0.5)
    for start, stop, price in ((0, 20, 100.0), (20, 30, 50.0), (30, 60, 100.0)):
        steadily(story, other, quote(price, price + 1), start, stop, 0.5)
    found = story.read(batches=60)
    assert untrusted(found["a", "quotes"]) == untrusted(found["b", "quotes"]) == []


def test_after_a_hole_in_the_tape_what_was_put_together_is_not_known(story):
    one = story.open(0, "a", "marks", "books")
    story.say(1, one, Mark("BTC", 1, None, 100.0, 99.0, 7.0))
    story.say(1, one, book(None))
    story.add(2, one, Kind.TEXT, b"Mark {torn")
    story.say(3, one, Mark("BTC", 2, None, 101.0))
    change = msgspec.structs.replace(book(None), is_snapshot=False)
    story.say(3, one, change)
    story.say(4, one, book(None))
    found = story.read()
    assert [m.index_price for m in story.rows[Mark].events] == [99.0, None]
    assert untrusted(found["a", "books"]) == [(0, 1, "start"), (2, 4, "damage")]
    assert untrusted(found["a", "marks"])[1] == (2, 3, "damage")


def test_a_trade_far_away_does_not_make_a_contradiction_older(story):
    one = story.open(0, "a", "quotes", "books", "trades")
    story.say(0, one, quote())
    story.say(0, one, book(1))
    story.say(1, one, trade(150.0))
    story.say(5, one, quote(110.0, 111.0))
    story.say(5.1, one, book(2, 1))
    story.say(6, one, quote())
    story.say(6.1, one, book(3, 2))
    assert untrusted(story.read()["a", "books"]) == []


def test_wires_that_come_and_go_are_forgotten(story):
    for n in range(50):
        one = story.open(2 * n, "a", "quotes", "trades")
        story.say(2 * n + 0.5, one, quote())
        story.note(2 * n + 1, one, "closed")
    story.read()
    wires = story.ledger._trust.wires.values()  # noqa: SLF001
    assert len(wires) == 50 and not any(wire.streams for wire in wires)


def test_a_new_list_applies_between_two_wires_too(story, monkeypatch):
    listed = Instrument(
        "a", "BTC-USDT-PERP", "BTC", "BTC", "USDT", "USDT", "linear", 5.0, 1.0, *[None] * 5,
        "trading", 0,
    )  # fmt: skip
    facts = {"read_instruments": lambda *_: Listing([listed])}
    monkeypatch.setitem(VENUES, "a", venue("a", **facts))
    story.wires[9] = "a"
    one = story.open(0, "a", "marks")
    story.say(1, one, Mark("BTC", 1, None, 100.0, None, 7.0))
    story.note(2, one, "closed")
    for at_s, what, body in ((3, "instruments", ""), (4, "interest", "Mark ")):
        told = msgspec.json.encode(Mark("BTC", 1, None, None, None, 8.0)).decode()
        answer = RestAnswer(what, "http://x", 200, T0, body + told, "BTC")
        story.add(at_s, 9, Kind.REST, msgspec.json.encode(answer))
    story.read()
    terms = [story.ledger.terms[at].contract_size for at in story.rows[Mark].terms]
    assert terms == [None, 5.0]


def test_a_wire_whose_opening_is_lost_brings_no_channel_that_nobody_asked_for(story):
    story.wires[1] = "a"
    story.say(0, 1, Mark("BTC", 1, None, 100.0))
    story.say(1, 1, Funding("BTC", 2, None, rate=0.0001))
    told = [msgspec.structs.replace(batch(story.told, story.wires, 1), first_seq=1)]
    ledger = Ledger([Asked(T0, (("a:BTC-USDT-PERP", "marks"),))])
    for each in told:
        ledger.batch(each, story.rows)
    assert {(s.channel, s.frames) for s in ledger.finish().streams} == {("marks", 1)}


def test_every_bound_is_one_a_clean_market_keeps():
    assert checks.MEAN >= 50 and checks.LONGEST >= 2 and checks.GAPS >= 50
