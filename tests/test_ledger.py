"""The ledger on tapes made frame by frame: which time is trusted, and why the rest is not."""

import msgspec
import pytest

from perptape import ledger, verify
from perptape.events import NS, Kind, Note, Opened, Subscription
from perptape.tape import Tape, TapeWriter
from perptape.venues import VENUES

T0 = 1_790_000_000 * NS
BTC = "bybit:BTC-USDT-PERP"
ETH = "bybit:ETH-USDT-PERP"


@pytest.fixture(autouse=True, scope="module")
def no_promises():
    """No stream is to be repeated: these stories are long and tell little."""
    with pytest.MonkeyPatch.context() as patch:
        quiet = msgspec.structs.replace(VENUES["bybit"], cadence={})
        patch.setattr(ledger, "VENUES", VENUES | {"bybit": quiet})
        yield


def quote(symbol, u=1, price=100):
    return (
        f'{{"topic":"orderbook.1.{symbol}","ts":1790000000000,"type":"snapshot","data":{{"s":"{symbol}",'
        f'"b":[["{price}","1"]],"a":[["{price + 1}","2"]],"u":{u},"seq":{u}}},"cts":1790000000000}}'
    ).encode()


class Story:
    """Writes a tape in seconds since T0."""

    def __init__(self, path, config=None, at_s=0):
        self.path = path
        begun = T0 + at_s * NS
        self.writer = TapeWriter(path, config=config or {}, now=lambda: (begun, begun))

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


def plan(*names):
    return {"venues": ["bybit"], "instruments": list(names), "channels": ["quotes"]}


def test_a_market_that_a_later_run_adds_is_not_missing_from_the_first(tmp_path):
    first = Story(tmp_path / "tape", plan("BTC-USDT-PERP"), at_s=0)
    wire = first.opened(0, BTC)
    first.frame(wire, 1, quote("BTCUSDT"))
    first.note(wire, 10, "shutdown")
    first.writer.close()
    again = Story(first.path, plan("BTC-USDT-PERP", "ETH-USDT-PERP"), at_s=99)
    again.note(0, 100, "restart")
    wire = again.opened(101, BTC, ETH)
    again.frame(wire, 102, quote("BTCUSDT"))
    again.frame(wire, 103, quote("ETHUSDT"))
    again.note(wire, 110, "shutdown")
    result = again.read()
    assert spans(result)[2] == (10, 102, False, "restart")
    assert spans(result, ETH) == [(100, 103, False, "start"), (103, 110, True, "shutdown")]


def test_a_market_that_a_later_run_leaves_out_was_shut_down(tmp_path):
    first = Story(tmp_path / "tape", plan("BTC-USDT-PERP", "ETH-USDT-PERP"), at_s=0)
    wire = first.opened(0, BTC, ETH)
    first.frame(wire, 1, quote("ETHUSDT"))
    first.note(wire, 10, "shutdown")
    first.writer.close()
    again = Story(first.path, plan("BTC-USDT-PERP"), at_s=99)
    again.note(0, 100, "restart")
    wire = again.opened(101, BTC)
    again.note(wire, 110, "shutdown")
    assert spans(again.read(), ETH)[1:] == [
        (1, 10, True, "shutdown"),
        (10, 110, False, "shutdown"),
    ]


def test_an_older_file_imported_later_does_not_move_the_end_of_a_recording(story):
    wire = story.opened(100, BTC)
    story.frame(wire, 101, quote("BTCUSDT"))
    story.note(wire, 110, "shutdown")
    file = story.opened(0, imported=True)
    story.frame(file, 0, quote("ETHUSDT"))
    story.frame(file, 50, quote("ETHUSDT"))
    result = story.read()
    assert spans(result) == [(100, 101, False, "start"), (101, 110, True, "shutdown")]
    assert spans(result, ETH) == [(0, 50, True, "shutdown")]


def test_a_market_both_recorded_and_imported_is_one(story):
    wire = story.opened(100, BTC)
    story.frame(wire, 101, quote("BTCUSDT"))
    story.note(wire, 110, "shutdown")
    file = story.opened(90, imported=True)
    story.frame(file, 90, quote("BTCUSDT"))
    story.frame(file, 105, quote("BTCUSDT"))
    result = story.read()
    assert spans(result) == [(90, 110, True, "shutdown")]
    (market,) = verify.by_market(result)
    assert market.frames == 3 and market.trusted_s == 20


def test_a_damaged_end_of_a_file_is_not_joined_to_the_next_file(story):
    first = story.opened(0, imported=True)
    story.frame(first, 0, quote("BTCUSDT"))
    story.frame(first, 5, quote("BTCUSDT"))
    story.frame(first, 5.2, quote("BTCUSDT")[:-20])
    second = story.opened(5.5, imported=True)
    story.frame(second, 5.5, quote("BTCUSDT"))
    story.frame(second, 9, quote("BTCUSDT"))
    assert spans(story.read()) == [
        (0, 5.2, True, "damage"),
        (5.2, 5.5, False, "damage"),
        (5.5, 9, True, "shutdown"),
    ]


def test_data_during_overload_proves_nothing(story):
    wire = story.opened(0, BTC)
    story.frame(wire, 1, quote("BTCUSDT"))
    story.note(0, 2, "overload", state="begin")
    story.frame(wire, 3, quote("BTCUSDT"))
    story.note(0, 4, "overload", state="end")
    story.frame(wire, 5, quote("BTCUSDT"))
    story.note(wire, 6, "shutdown")
    assert (2, 5, False, "overload") in spans(story.read())


def test_data_on_a_wire_that_the_market_has_left_proves_nothing(story):
    old = story.opened(0, BTC)
    story.frame(old, 1, quote("BTCUSDT"))
    new = story.opened(2, BTC)
    story.frame(old, 3, quote("BTCUSDT"))
    story.frame(new, 4, quote("BTCUSDT"))
    story.note(old, 5, "closed", reason="its time was over")
    story.note(new, 6, "shutdown")
    assert spans(story.read())[1:] == [(1, 4, False, "disconnect"), (4, 6, True, "shutdown")]


def test_a_venue_whose_clock_cannot_be_asked_spoils_no_start(story):
    rest = story.writer.new_wire("bybit")
    wire = story.opened(0, BTC)
    story.note(rest, 0.1, "unreachable", reason="no answer within 10 s")
    story.frame(wire, 0.5, quote("BTCUSDT"))
    story.note(wire, 9, "shutdown")
    story.read()
    assert verify.verify(story.path).verdict == "complete"


def test_lost_frames_at_the_end_of_a_tape_end_its_trust(story):
    wire = story.opened(0, BTC)
    for at_s in (1, 2):
        story.frame(wire, at_s, quote("BTCUSDT"))
    story.writer.close()
    book = ledger.Ledger()
    for batch in Tape(story.path).batches():
        book.batch(batch)
    result = book.finish(last_seq=5, ts_last=T0 + 9 * NS)
    assert spans(result)[1:] == [(1, 2, True, "damage"), (2, 9, False, "damage")]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        pytest.param(Kind.NOTE, b'{"note":"clo', id="torn-note"),
        pytest.param(Kind.NOTE, b'{"note":"refused"}', id="refused-nobody"),
        pytest.param(Kind.NOTE, b'{"note":"late","market":"x","channel":"quotes"}', id="no-market"),
        pytest.param(Kind.NOTE, b'{"note":"prophecy"}', id="newer-note"),
        pytest.param(Kind.OPENED, b'{"venue":1}', id="newer-opened"),
        pytest.param(9, b"", id="newer-kind"),
    ],
)
def test_a_frame_of_ours_that_cannot_be_read_is_counted_and_feared(story, kind, payload):
    wire = story.opened(0, BTC)
    story.frame(wire, 1, quote("BTCUSDT"))
    story.frame(wire, 2, quote("BTCUSDT"))
    story.frame(wire, 4, payload, kind)
    story.frame(wire, 6, quote("BTCUSDT"))
    story.note(wire, 8, "shutdown")
    result = story.read()
    assert result.bad == 1
    assert spans(result)[1:] == [
        (1, 2, True, "damage"),
        (2, 6, False, "damage"),
        (6, 8, True, "shutdown"),
    ]


def test_names_that_are_none_and_lists_that_cannot_be_read_are_counted(story):
    hostile = Subscription("bybit:../../X", "quotes", "orderbook.1", "X")
    wire = story.opened(0, BTC)
    story.frame(wire, 1, quote("BTCUSDT"))
    other = story.writer.new_wire("bybit")
    story.frame(other, 2, msgspec.json.encode(Opened("bybit", "", (hostile,))), Kind.OPENED)
    story.frame(other, 3, b"{}", Kind.REST)
    story.note(wire, 8, "shutdown")
    result = story.read()
    assert result.bad == 2 and {s.market for s in result.streams} == {BTC}
    assert spans(result) == [(0, 1, False, "start"), (1, 8, True, "shutdown")]


def test_a_step_of_any_size_is_told(story):
    wire = story.opened(0, BTC)
    story.frame(wire, 1, quote("BTCUSDT"))
    story.frame(wire, 4, b'{"note":"clock","step_ns":' + b"9" * 400 + b"}", Kind.NOTE)
    assert "stepped by +9223372036." in story.read().intervals[-1].detail


def test_answers_and_heartbeats_are_not_undecoded_data(story):
    wire = story.opened(0, BTC)
    story.frame(wire, 1, b'{"success":true,"ret_msg":"","req_id":"x","op":"subscribe"}')
    story.frame(wire, 2, b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1,"data":[]}')
    assert story.read().undecoded == 1
