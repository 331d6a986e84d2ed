"""What befalls single frames: the same run with and without it differs in just that."""

import gzip
import itertools
import zlib

import msgspec
import pytest

from perptape.errors import BadUsage
from perptape.events import MS, NS
from perptape.guard import INFLATED_BYTES, MESSAGE_BYTES, inflate
from perptape.sims import VENUES
from perptape.sims.scenario import Fault

BTC, ETH = "BTC-USDT-PERP", "ETH-USDT-PERP"
END_NS = 8 * NS


def crcs(frames):
    return [zlib.crc32(frame) for frame in frames]


def books(stage, venue, *faults):
    """A book of BTC, heard until the end: (time, frame) of what came after the greeting."""
    play = stage(venue, *faults)
    talk, _ = play.seat.listen("books")
    return play.timed(END_NS, talk), play


def name(venue, base="BTC"):
    return f"{venue}:{VENUES[venue].contracts[base].instrument}"


@pytest.mark.parametrize("venue", VENUES)
def test_a_dropped_frame_is_the_only_one_missing(stage, venue):
    clean, _ = books(stage, venue)
    said, play = books(stage, venue, Fault(NS, venue, "drop", instrument=BTC, channel="book"))
    (fact,) = play.told()
    at = next(n for n, (was, now) in enumerate(itertools.zip_longest(clean, said)) if was != now)
    assert said == clean[:at] + clean[at + 1 :]
    lost_at_ns, lost = clean[at]
    assert (fact.ts_start, fact.crc32) == (play.seat.start_ns + lost_at_ns, zlib.crc32(lost))
    assert lost_at_ns >= NS and fact.ts_end == fact.ts_start
    assert (fact.market, fact.connections) == (name(venue), (1,))
    assert fact.stream in VENUES[venue].streams


@pytest.mark.parametrize("venue", VENUES)
def test_a_duplicate_comes_twice_at_once(stage, venue):
    clean, _ = books(stage, venue)
    said, play = books(stage, venue, Fault(NS, venue, "duplicate"))
    (fact,) = play.told()
    at = crcs(frame for _, frame in clean).index(fact.crc32)
    assert said == clean[: at + 1] + clean[at:]


@pytest.mark.parametrize("venue", VENUES)
def test_two_frames_change_places(stage, venue):
    clean, _ = books(stage, venue)
    said, play = books(stage, venue, Fault(NS, venue, "reorder"))
    (fact,) = play.told()
    order = [frame for _, frame in clean]
    at = crcs(order).index(fact.crc32)
    order[at], order[at + 1] = order[at + 1], order[at]
    assert [frame for _, frame in said] == order
    times = tuple(play.seat.start_ns + at_ns for at_ns, _ in clean[at : at + 2])
    assert (fact.ts_start, fact.ts_end) == times


@pytest.mark.parametrize("venue", VENUES)
def test_a_delayed_frame_and_what_follows_come_late_in_order(stage, venue):
    clean, _ = books(stage, venue)
    said, play = books(stage, venue, Fault(NS, venue, "delay", 1500 * MS))
    (fact,) = play.told()
    assert [frame for _, frame in said] == [frame for _, frame in clean]
    late = [(was, now) for (was, _), (now, _) in zip(clean, said, strict=True) if was != now]
    assert len(late) == fact.frames or len(late) == fact.frames - 1  # the last may be on time
    assert late and {now for _, now in late} == {fact.ts_end - play.seat.start_ns}
    assert fact.ts_end - fact.ts_start == 1500 * MS
    assert fact.crc32 in crcs(frame for _, frame in clean)


def test_so_many_in_a_row(stage):
    clean, _ = books(stage, "bybit")
    said, play = books(stage, "bybit", Fault(NS, "bybit", "drop", frames=3))
    assert len(clean) - len(said) == len(play.told()) == 3
    lost = [fact.crc32 for fact in play.told()]
    order = crcs(frame for _, frame in clean)
    at = order.index(lost[0])
    assert order[at : at + 3] == lost


def test_only_the_named_stream_of_the_named_market_is_struck(stage):
    fault = Fault(NS, "bybit", "drop", instrument=ETH, stream="publicTrade")
    play = stage("bybit", fault)
    for channel, base in itertools.product(("quotes", "books", "trades", "marks"), ("BTC", "ETH")):
        talk, _ = play.seat.listen(channel, base)
    play.until(10 * NS, talk)
    (fact,) = play.told()
    assert (fact.market, fact.stream, fact.symbol) == (f"bybit:{ETH}", "publicTrade", "ETHUSDT")
    assert fact.connections == (6,)  # that of ETH's trades


@pytest.mark.parametrize("tells", ["book", "trades", "ticker"])
def test_a_fault_may_name_what_a_stream_tells(stage, tells):
    play = stage("okx", Fault(NS, "okx", "duplicate", channel=tells))
    talks = [play.seat.listen(channel)[0] for channel in ("trades", "marks", "books")]
    play.until(10 * NS, talks[0])
    (fact,) = play.told()
    assert VENUES["okx"].streams[fact.stream].tells == tells


def test_a_greeting_is_never_struck(stage):
    play = stage("bybit", Fault(0, "bybit", "drop"))
    play.schedule.turn(play.seat.start_ns)
    _, said = play.seat.listen("books")
    assert b'"type":"snapshot"' in said[0] and play.told() == []


def test_what_is_held_back_when_the_last_listener_goes_is_never_sent(stage):
    play = stage("bybit", Fault(NS, "bybit", "delay", 5 * NS))
    talk, _ = play.seat.listen("books")
    play.until(2 * NS, talk)
    assert play.told() == []
    play.seat.exchange.leave(talk, play.seat.start_ns + 2 * NS)
    (fact,) = play.told()
    assert fact.cut and fact.ts_end == play.seat.start_ns + 2 * NS


def wires(stage, venue, kind):
    """The wire forms of a book's frames, and the fact of what was done to one."""
    play = stage(venue, Fault(NS, venue, kind))
    talk, _ = play.seat.listen("books")
    found = []
    while play.now_ns < 3 * NS:
        play.now_ns += 10 * MS
        play.schedule.turn(play.seat.start_ns + play.now_ns)
        play.seat.exchange.turn(play.seat.start_ns + play.now_ns)
        found += [wire for _, wire in talk.outbox]
        talk.outbox = []
    (fact,) = play.told()
    return found, fact


@pytest.mark.parametrize("venue", VENUES)
def test_an_oversized_frame_is_longer_than_a_recorder_takes(stage, venue):
    found, fact = wires(stage, venue, "oversized")
    (monster,) = [wire for wire in found if len(wire) > MESSAGE_BYTES]
    assert fact.crc32 == zlib.crc32(monster)


def test_a_gzip_bomb_is_short_and_inflates_beyond_what_a_recorder_takes(stage):
    found, fact = wires(stage, "htx", "gzip_bomb")
    (bomb,) = [wire for wire in found if zlib.crc32(wire) == fact.crc32]
    assert len(bomb) < 1 << 17
    assert len(gzip.decompress(bomb)) > INFLATED_BYTES
    with pytest.raises(ValueError, match="inflates past"):
        inflate(bomb)


def test_a_wrong_checksum_is_the_dialects_own_doing(stage, monkeypatch):
    spoiling = msgspec.structs.replace(VENUES["okx"], spoil=lambda frame: frame + b" ")
    monkeypatch.setitem(VENUES, "okx", spoiling)
    found, fact = wires(stage, "okx", "wrong_checksum")
    (spoiled,) = [wire for wire in found if wire.endswith(b" ")]
    assert fact.crc32 == zlib.crc32(spoiled)


@pytest.mark.parametrize(
    ("venue", "kind", "reason"),
    [
        ("bybit", "gzip_bomb", "compresses nothing"),
        ("okx", "wrong_checksum", "no checksum"),
        ("htx", "sequence_reset", "never start over"),
    ],
)
def test_what_a_venue_cannot_suffer_is_bad_usage_that_names_what_it_can(stage, venue, kind, reason):
    with pytest.raises(BadUsage, match=rf"{venue} .*{kind}.*{reason}; its kinds are .*drop"):
        stage(venue, Fault(NS, venue, kind))


def test_an_unknown_stream_is_bad_usage_that_names_the_streams(stage):
    with pytest.raises(BadUsage, match=r"its streams are .*orderbook\.50"):
        stage("bybit", Fault(NS, "bybit", "drop", stream="orderbook.51"))
