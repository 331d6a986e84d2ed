"""Who does not keep a connection alive as the venue demands is cut off, and only they."""

import json

from perptape.events import MS, NS
from perptape.sims.dialect import Hangup

HTX_SUB = b'{"sub":"market.BTC-USDT.bbo","id":"1"}'


def pings(seat, talk, until_ns, since_ns=0):
    found = []
    for at_ns in range(since_ns, until_ns, 100 * MS):
        found += [
            (at_ns, json.loads(frame)["ping"])
            for frame in seat.turn(talk, at_ns)
            if b'"ping"' in frame
        ]
    return found


def test_htx_pings_every_five_seconds_and_closes_after_the_fourth_without_an_answer(table):
    seat = table("htx")
    talk = seat.connect()
    seat.say(talk, HTX_SUB)
    sent = pings(seat, talk, 20_900 * MS)
    assert [at_ns // NS for at_ns, _ in sent] == [5, 10, 15, 20]
    assert [ping - seat.start_ns // MS for _, ping in sent] == [5_000, 10_000, 15_000, 20_000]
    assert talk.ended is None
    seat.turn(talk, 21_000 * MS)
    assert talk.ended == Hangup(1003, "ping check expired")


def test_htx_lets_live_who_answers(table):
    seat = table("htx")
    talk = seat.connect()
    at_ns = 0
    for _ in range(12):
        ((at_ns, ping),) = pings(seat, talk, at_ns + 5_050 * MS, at_ns + 100 * MS)
        assert seat.say(talk, b'{"pong":%d}' % ping, at_ns) == []
    assert at_ns == 60 * NS
    assert talk.ended is None


def test_htx_does_not_take_any_pong_for_an_answer(table):
    seat = table("htx")
    talk = seat.connect()
    for at_ns, _ in pings(seat, talk, 20_900 * MS):
        seat.say(talk, b'{"pong":1}', at_ns)
    seat.turn(talk, 21 * NS)
    assert talk.ended is not None


def test_bitget_drops_who_has_not_pinged_for_two_minutes_though_data_flow(table):
    seat = table("bitget")
    talk = seat.connect()
    seat.say(
        talk,
        b'{"op":"subscribe","args":[{"instType":"USDT-FUTURES","channel":"books1",'
        b'"instId":"BTCUSDT"}]}',
    )
    seat.turn(talk, 119_900 * MS)
    assert talk.ended is None
    seat.turn(talk, 120 * NS)
    assert talk.ended == Hangup(None, "no ping for 120 s")


def test_bitget_counts_the_two_minutes_from_the_last_ping(table):
    seat = table("bitget")
    talk = seat.connect()
    assert seat.say(talk, b"ping", 100 * NS) == [b"pong"]
    seat.turn(talk, 219_900 * MS)
    assert talk.ended is None
    seat.turn(talk, 220 * NS)
    assert talk.ended is not None


def test_bitget_takes_ten_messages_a_second_and_drops_at_the_eleventh(table):
    seat = table("bitget")
    talk = seat.connect()
    for k in range(10):
        assert seat.say(talk, b"ping", k * 90 * MS) == [b"pong"]
    assert talk.ended is None
    assert seat.say(talk, b"ping", 950 * MS) == [
        b'{"event":"error","code":30006,"msg":"request too many"}'
    ]
    assert talk.ended == Hangup(None, "30006 request too many")


def test_bitget_allows_more_when_the_second_is_over(table):
    seat = table("bitget")
    talk = seat.connect()
    for k in range(40):
        assert seat.say(talk, b"ping", k * 101 * MS) == [b"pong"]
    assert talk.ended is None


def test_gate_drops_an_idle_socket_after_thirty_seconds(table):
    seat = table("gateio")
    talk = seat.connect()
    for at_ns in range(0, 30 * NS, NS // 2):
        seat.turn(talk, at_ns)
        assert talk.ended is None
    seat.turn(talk, 30 * NS)
    assert talk.ended == Hangup(None, "idle for 30 s")


def test_gate_keeps_who_pings_or_listens(table):
    seat = table("gateio")
    pinging, listening, polite = (seat.connect() for _ in range(3))
    seat.say(
        listening,
        b'{"time":1,"channel":"futures.obu","event":"subscribe","payload":["ob.BTC_USDT.50"]}',
    )
    for at_ns in range(0, 100 * NS, NS):
        if at_ns % (25 * NS) == 0:
            seat.say(pinging, b'{"time":1,"channel":"futures.ping"}', at_ns)
        if at_ns % (10 * NS) == 0:
            seat.exchange.touch(polite, seat.start_ns + at_ns)
        seat.turn(pinging, at_ns)
    assert pinging.ended is None and listening.ended is None and polite.ended is None


def test_bybit_closes_after_ten_idle_minutes(table):
    seat = table("bybit")
    talk = seat.connect()
    for at_ns in range(0, 600 * NS, 10 * NS):
        seat.turn(talk, at_ns)
        assert talk.ended is None
    seat.turn(talk, 600 * NS)
    assert talk.ended == Hangup(1000, "idle")
