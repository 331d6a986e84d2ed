"""The ledger on tapes made frame by frame: which time is trusted, and why the rest is not."""

import msgspec
import pytest

from perptape import ledger, verify
from perptape.events import NS, Kind, Note, Opened, Subscription
from perptape.tape import Tape, TapeWriter

T0 = 1_790_000_000 * NS
BTC = "bybit:BTC-USDT-PERP"
ETH = "bybit:ETH-USDT-PERP"


def quote(symbol, u=1, price=100):
    return (
        f'{{"topic":"orderbook.1.{symbol}","ts":1790000000000,"type":"snapshot","data":{{"s":"{symbol}",'
        f'"b":[["{price}","1"]],"a":[["{price + 1}","2"]],"u":{u},"seq":{u}}},"cts":1790000000000}}'
    ).encode()


class Story:
    """Writes a tape in seconds since T0."""

    def __init__(self, path, config=None):
        self.path = path
        self.writer = TapeWriter(path, config=config or {})

    def frame(self, wire, at_s, payload, kind=Kind.TEXT):
        ts = T0 + round(at_s * NS)
        self.writer.append(wire, kind, [payload], ts, ts)

    def opened(self, at_s, *markets, imported=False):
        wire = self.writer.new_wire("bybit")
        asked = tuple(
            Subscription(m, "quotes", "orderbook.1", m.split(":")[1].replace("-", "")[:-4])
            for m in markets
        )
        self.frame(
            wire, at_s, msgspec.json.encode(Opened("bybit", "ws://x", asked, imported)), Kind.OPENED
        )
        return wire

    def note(self, wire, at_s, note, **said):
        self.frame(wire, at_s, msgspec.json.encode(Note(note, **said)), Kind.NOTE)

    def read(self):
        self.writer.close()
        return ledger.read(Tape(self.path))


@pytest.fixture
def story(tmp_path):
    return Story(tmp_path / "tape")


def spans(result, market=BTC):
    """(start, end, trusted, reason) in seconds since T0."""
    return [
        ((i.start - T0) / NS, (i.end - T0) / NS, i.trusted, i.reason)
        for i in result.intervals
        if i.market == market
    ]


def test_trust_begins_with_data_and_not_with_the_subscribe(story):
    wire = story.opened(0, BTC)
    story.frame(wire, 0.1, b'{"success":true,"ret_msg":"","req_id":"x","op":"subscribe"}')
    story.frame(wire, 0.5, quote("BTCUSDT"))
    story.frame(wire, 9, quote("BTCUSDT"))
    story.note(wire, 10, "shutdown")
    result = story.read()
    assert spans(result) == [(0, 0.5, False, "start"), (0.5, 10, True, "shutdown")]
    assert verify.verify(story.path).verdict == "complete"


def test_a_disconnect_ends_trust_until_data_on_the_next_wire(story):
    wire = story.opened(0, BTC)
    story.frame(wire, 1, quote("BTCUSDT"))
    story.note(wire, 4, "closed", reason="the venue closed the connection (1006)")
    again = story.opened(5, BTC)
    story.frame(again, 5.5, quote("BTCUSDT"))
    story.note(again, 8, "shutdown")
    assert spans(story.read()) == [
        (0, 1, False, "start"),
        (1, 4, True, "disconnect"),
        (4, 5.5, False, "disconnect"),
        (5.5, 8, True, "shutdown"),
    ]


def test_silence_is_distrusted_from_the_last_frame_heard(story):
    wire = story.opened(0, BTC)
    story.frame(wire, 1, quote("BTCUSDT"))
    story.frame(wire, 4, b'{"op":"pong"}')
    story.frame(wire, 9, b'{"op":"ping"}', Kind.SENT)
    story.note(wire, 31, "silence", silence_ns=30 * NS)
    story.note(wire, 31, "closed", reason="silent")
    story.note(wire, 40, "shutdown")
    assert spans(story.read()) == [
        (0, 1, False, "start"),
        (1, 4, True, "silence"),
        (4, 40, False, "silence"),
    ]


def test_a_refused_market_does_not_touch_its_neighbour(story):
    wire = story.opened(0, BTC, ETH)
    story.note(wire, 0.2, "refused", market=ETH, channel="quotes", symbol="ETHUSDT", reason="no")
    story.frame(wire, 0.5, quote("BTCUSDT"))
    story.note(wire, 9, "shutdown")
    result = story.read()
    assert spans(result) == [(0, 0.5, False, "start"), (0.5, 9, True, "shutdown")]
    assert spans(result, ETH) == [(0, 9, False, "refused")]
    assert verify.verify(story.path).verdict == "untrusted"


def test_first_data_after_its_deadline_is_silence_and_not_a_slow_start(story):
    wire = story.opened(0, BTC)
    story.note(
        wire, 10, "late", market=BTC, channel="quotes", symbol="BTCUSDT", deadline_ns=10 * NS
    )
    story.frame(wire, 12, quote("BTCUSDT"))
    story.note(wire, 13, "shutdown")
    assert spans(story.read())[0] == (0, 12, False, "silence")


def test_a_market_never_heard_is_no_slow_start(story):
    wire = story.opened(0, BTC, ETH)
    story.frame(wire, 1, quote("BTCUSDT"))
    story.note(wire, 2, "shutdown")
    assert spans(story.read(), ETH) == [(0, 2, False, "silence")]
    assert verify.verify(story.path).exit_code == 3


def test_a_damaged_frame_that_names_its_market_hits_that_market_only(story):
    wire = story.opened(0, BTC, ETH)
    story.frame(wire, 1, quote("BTCUSDT"))
    story.frame(wire, 1, quote("ETHUSDT"))
    story.frame(wire, 2, quote("ETHUSDT")[:-30])
    story.frame(wire, 3, quote("BTCUSDT"))
    story.frame(wire, 4, quote("ETHUSDT"))
    story.note(wire, 5, "shutdown")
    result = story.read()
    assert [s[3] for s in spans(result)] == ["start", "shutdown"]
    assert spans(result, ETH)[1:] == [
        (1, 2, True, "damage"),
        (2, 4, False, "damage"),
        (4, 5, True, "shutdown"),
    ]
    assert result.bad == 1


def test_a_damaged_frame_that_names_nobody_hits_the_whole_wire(story):
    wire = story.opened(0, BTC, ETH)
    story.frame(wire, 1, quote("BTCUSDT"))
    story.frame(wire, 1, quote("ETHUSDT"))
    story.frame(wire, 2, b"\x00\xff")
    story.frame(wire, 3, quote("BTCUSDT"))
    story.note(wire, 5, "shutdown")
    result = story.read()
    assert (2, 3, False, "damage") in spans(result)
    assert (2, 5, False, "damage") in spans(result, ETH)


def test_a_recorder_that_was_killed_is_trusted_up_to_its_last_frame(story):
    wire = story.opened(0, BTC)
    story.frame(wire, 1, quote("BTCUSDT"))
    story.frame(wire, 6, quote("BTCUSDT"))
    story.writer.close()
    again = Story(story.path)
    again.note(0, 20, "restart")
    wire = again.opened(21, BTC)
    again.frame(wire, 22, quote("BTCUSDT"))
    again.note(wire, 23, "shutdown")
    assert spans(again.read())[1:] == [
        (1, 6, True, "restart"),
        (6, 22, False, "restart"),
        (22, 23, True, "shutdown"),
    ]


def test_a_clock_set_back_makes_the_time_that_came_twice_untrusted(story):
    wire = story.opened(0, BTC)
    for at_s in (1, 100):
        story.frame(wire, at_s, quote("BTCUSDT"))
    story.note(0, 40, "clock", step_ns=-60 * NS)
    for at_s in (41, 101, 110):
        story.frame(wire, at_s, quote("BTCUSDT"))
    story.note(wire, 120, "shutdown")
    assert spans(story.read()) == [
        (0, 1, False, "start"),
        (1, 40, True, "clock"),
        (40, 101, False, "clock"),
        (101, 120, True, "shutdown"),
    ]


def test_overload_distrusts_every_market_until_it_speaks_again(story):
    wire = story.opened(0, BTC)
    story.frame(wire, 1, quote("BTCUSDT"))
    story.note(0, 2, "overload", state="begin")
    story.note(0, 4, "overload", state="end")
    story.frame(wire, 5, quote("BTCUSDT"))
    story.note(wire, 6, "shutdown")
    assert (2, 5, False, "overload") in spans(story.read())


def test_a_planned_market_of_an_unreachable_venue_is_listed(tmp_path):
    plan = {"venues": ["bybit"], "instruments": ["BTC-USDT-PERP"], "channels": ["quotes"]}
    story = Story(tmp_path / "tape", plan)
    wire = story.writer.new_wire("bybit")
    story.note(wire, 0, "unreachable", reason="connection refused")
    story.note(0, 5, "overload", state="begin")
    result = story.read()
    assert spans(result) == [(0, 5, False, "disconnect")]


def test_an_imported_market_is_trusted_from_its_first_to_its_last_frame(story):
    first = story.opened(0, imported=True)
    story.frame(first, 0, quote("BTCUSDT"))
    story.frame(first, 5, quote("BTCUSDT"))
    second = story.opened(5.5, imported=True)
    story.frame(second, 5.5, quote("BTCUSDT"))
    story.frame(second, 9, quote("BTCUSDT"))
    third = story.opened(500, imported=True)
    story.frame(third, 500, quote("BTCUSDT"))
    result = story.read()
    trusted = [s[:2] for s in spans(result) if s[2]]
    assert trusted == [(0, 9), (500, 500)]
