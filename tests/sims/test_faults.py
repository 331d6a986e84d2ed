"""Every fault on its schedule, without sockets: who is struck, what is said, what is told."""

import gzip
import json
import zlib

import pytest

from perptape.decode import decoder
from perptape.errors import BadFrame
from perptape.events import MS, NS
from perptape.sims.dialect import Hangup
from perptape.sims.scenario import Episode, Fault

BTC, ETH = "BTC-USDT-PERP", "ETH-USDT-PERP"
VENUES = ("bybit", "htx", "gateio", "bitget")


@pytest.mark.parametrize("venue", VENUES)
def test_silence_says_nothing_to_anybody_and_ends(stage, venue):
    play = stage(venue, Fault(NS, venue, "silence", 6 * NS))
    talk = play.seat.connect()
    play.join(talk, "BTC")
    assert play.until(990 * MS, talk)
    assert play.until(7 * NS - 10 * MS, talk) == []
    late = play.seat.connect(at_ns=play.now_ns)
    assert play.join(late, "BTC", play.now_ns) == []
    assert play.seat.say(talk, b"ping", play.now_ns) == []
    assert talk.ended is None and late.ended is None
    assert play.told() == []
    assert play.until(9 * NS, talk)
    assert play.seat.take(late)
    (fact,) = play.told()
    assert (fact.kind, fact.venue, fact.connections) == ("silence", venue, (1,))
    assert (fact.ts_start, fact.ts_end) == (play.seat.start_ns + NS, play.seat.start_ns + 7 * NS)


def test_a_silence_of_one_symbol_leaves_the_others(stage):
    play = stage("bybit", Fault(NS, "bybit", "silence", 2 * NS, BTC))
    talk = play.seat.connect()
    play.join(talk, "BTC"), play.join(talk, "ETH")
    play.until(990 * MS, talk)
    topics = {json.loads(frame)["topic"] for frame in play.until(2_990 * MS, talk)}
    assert topics == {"orderbook.1.ETHUSDT"}
    topics = {json.loads(frame)["topic"] for frame in play.until(4 * NS, talk)}
    assert topics == {"orderbook.1.ETHUSDT", "orderbook.1.BTCUSDT"}
    assert play.told()[0].market == f"bybit:{BTC}"


@pytest.mark.parametrize(
    ("kind", "hangup"),
    [("disconnect", Hangup(1001, "disconnect")), ("reset", Hangup(None, "reset", reset=True))],
)
def test_a_cut_ends_all_connections_and_shuts_the_door_for_so_long(stage, kind, hangup):
    play = stage("bybit", Fault(NS, "bybit", kind, 2 * NS))
    talks = [play.seat.connect(), play.seat.connect()]
    play.join(talks[0], "BTC")
    play.until(NS, talks[0])
    assert [talk.ended for talk in talks] == [hangup, hangup]
    assert play.seat.exchange.shut
    play.until(3 * NS, talks[0])
    assert not play.seat.exchange.shut
    (fact,) = play.told()
    assert (fact.kind, fact.connections) == (kind, (1, 2))
    assert fact.ts_end - fact.ts_start == 2 * NS


def test_a_cut_without_length_lets_everybody_in_again_at_once(stage):
    play = stage("bybit", Fault(NS, "bybit", "disconnect"))
    talk = play.seat.connect()
    play.until(NS, talk)
    assert talk.ended is not None and not play.seat.exchange.shut
    assert play.told()[0].ts_start == play.told()[0].ts_end


def test_gate_says_that_it_leaves(stage):
    play = stage("gateio", Fault(NS, "gateio", "disconnect"))
    talk = play.seat.connect()
    play.join(talk, "BTC")
    assert b'"channel":"futures.system"' in b"".join(play.until(NS, talk))


@pytest.mark.parametrize(
    ("venue", "words"),
    [
        ("bitget", b'"code":30001'),
        ("htx", b'"err-msg":"invalid topic market.BTC-USDT.bbo"'),
        ("gateio", b'"message":"unknown currency pair: BTC_USDT"'),
        ("bybit", b'"ret_msg":"error:handler not found,topic:orderbook.1.BTCUSDT"'),
    ],
)
def test_a_refused_symbol_is_refused_in_the_venues_words_and_others_are_not(stage, venue, words):
    play = stage(venue, Fault(NS, venue, "refuse", 2 * NS, BTC))
    both, other = play.seat.connect(), play.seat.connect()
    play.join(both, "BTC"), play.join(both, "ETH"), play.join(other, "ETH")
    play.until(NS, both)
    assert both.ended == Hangup(1001, "refused from now on")
    assert other.ended is None
    talk = play.seat.connect(at_ns=NS)
    (refusal,) = play.join(talk, "BTC", NS)
    assert words in refusal
    assert BTC not in str(talk.topics) and not talk.topics
    play.join(talk, "ETH", NS)
    assert talk.topics
    play.until(3 * NS, talk)
    assert not any(words in frame for frame in play.join(talk, "BTC", 3 * NS))
    assert play.told()[0].market == f"{venue}:{BTC}"


def test_a_refusal_of_everything_shuts_the_door(stage):
    play = stage("htx", Fault(NS, "htx", "refuse"))
    talk = play.seat.connect()
    play.until(2 * NS, talk)
    assert talk.ended is not None and play.seat.exchange.shut
    assert play.told() == []
    play.schedule.close(play.seat.start_ns + 3 * NS)
    assert play.told()[0].ts_end == play.seat.start_ns + 3 * NS
    assert not play.told()[0].cut


@pytest.mark.parametrize("damage", ["truncate", "flip"])
@pytest.mark.parametrize("venue", VENUES)
def test_one_frame_is_damaged_and_the_next_is_not(stage, venue, damage):
    play = stage(venue, Fault(NS, venue, "corrupt", instrument=BTC, damage=damage))
    talk = play.seat.connect()
    play.join(talk, "BTC"), play.join(talk, "ETH")
    read, broken, sent = decoder(venue), [], []
    while play.now_ns < 2 * NS:
        play.now_ns += 10 * MS
        play.schedule.turn(play.seat.start_ns + play.now_ns)
        play.seat.exchange.turn(play.seat.start_ns + play.now_ns)
        sent += talk.outbox
        talk.outbox = []
    for payload, wire in sent:
        try:
            if venue == "htx":
                assert gzip.decompress(wire) == payload
            read(payload)
        except (BadFrame, gzip.BadGzipFile, zlib.error, EOFError):
            broken.append(payload)
    (payload,) = broken
    (fact,) = play.told()
    assert fact.crc32 == zlib.crc32(payload)
    assert (fact.kind, fact.market, fact.connections) == ("corrupt", f"{venue}:{BTC}", (1,))
    assert NS <= fact.ts_start - play.seat.start_ns < 2 * NS
    assert len(sent) > 20


def test_an_episode_is_told_with_the_times_of_its_publication(stage):
    episode = Episode(NS, 2 * NS, BTC, "bybit", "htx", 3.0)
    play = stage("bybit", episodes=(episode,))
    talk = play.seat.connect()
    play.join(talk, "BTC")
    play.until(2_900 * MS, talk)
    assert play.told("episode") == []
    play.until(3_100 * MS, talk)
    (fact,) = play.told("episode")
    assert (fact.market, fact.buy, fact.edge_bps) == (f"bybit:{BTC}", f"htx:{BTC}", 3.0)
    assert (fact.ts_start, fact.ts_end) == tuple(play.seat.start_ns + k * NS for k in (1, 3))
    assert 0 < fact.ts_sent_start - fact.ts_start < 50 * MS
    assert 0 < fact.ts_sent_end - fact.ts_end < 50 * MS


def test_an_episode_cut_short_is_told_as_far_as_it_went(stage):
    episode = Episode(NS, 2 * NS, BTC, "bybit", "htx", 3.0)
    play = stage("bybit", episodes=(episode,))
    talk = play.seat.connect()
    play.join(talk, "BTC")
    play.until(2 * NS, talk)
    play.schedule.close(play.seat.start_ns + 2 * NS)
    (fact,) = play.told("episode")
    assert fact.cut and fact.ts_end == play.seat.start_ns + 2 * NS
