"""What a dialect is told to say: trades, tickers and greetings, by what kind of stream it is."""

import itertools

import msgspec
import pytest

from perptape.events import MS, NS
from perptape.sims import VENUES
from perptape.sims.dialect import Join, Part, Stream, Topic
from perptape.sims.trades import BEFORE

STREAMS = {
    "orders": {"tells": "trades"},
    "fills": {"tells": "trades", "singly": True},
    "batches": {"tells": "trades", "every_ns": 500 * MS, "greets": False},
    "ticker": {"tells": "ticker", "every_ns": 200 * MS},
    "mute": {"tells": "ticker", "every_ns": 200 * MS},
}


@pytest.fixture
def heard(table, monkeypatch):
    """``heard("fills")``: the states of that stream of BTC, and the seat."""

    def listen(stream, until_ns=20 * NS, step_ns=10 * MS):
        states = []

        def encode(state):
            states.append(state)
            return b"" if state.topic.stream == "mute" else b"%d" % len(states)

        streams = {name: Stream(encode, **how) for name, how in STREAMS.items()}
        dialect = msgspec.structs.replace(VENUES["bybit"], streams=streams, hear=join)
        monkeypatch.setitem(VENUES, "bybit", dialect)
        seat = table("bybit")
        talk = seat.connect()
        seat.say(talk, stream.encode())
        for at_ns in range(0, until_ns, step_ns):
            seat.turn(talk, at_ns)
        return states, seat

    return listen


def join(talk, payload, _board, _now_ns):
    topic = Topic(payload.decode(), "BTCUSDT")
    return [Part(topic) if topic in talk.topics else Join(topic)]


def test_a_new_listener_is_told_the_last_trades_and_then_each_takers_order(heard):
    (greeting, *rest), seat = heard("orders")
    assert greeting.is_greeting and greeting.previous is None
    assert [trade.number for trade in greeting.trades] == list(range(1, BEFORE + 1))
    assert not any(state.is_greeting for state in rest)
    numbers = [trade.number for state in rest for trade in state.trades]
    assert numbers == list(range(BEFORE + 1, BEFORE + 1 + len(numbers)))
    assert all(len({trade.at_ns for trade in state.trades}) == 1 for state in rest)
    assert any(len(state.trades) > 1 for state in rest)
    for state in rest:
        assert state.ts_event_ns == state.ts_made_ns(state.trades[-1].at_ns)
        assert state.ts_send_ns >= state.ts_event_ns
        assert state.top.at_ns <= state.ts_send_ns - seat.start_ns


def test_each_fill_may_be_a_frame_of_its_own(heard):
    (_, *rest), _ = heard("fills")
    assert {len(state.trades) for state in rest} == {1}
    assert [state.nth for state in rest] == [rest[0].nth + n for n in range(len(rest))]


def test_trades_may_be_gathered_for_a_while(heard):
    states, _ = heard("batches")
    assert any(len({trade.at_ns for trade in state.trades}) > 1 for state in states)
    assert all(
        now.ts_send_ns - was.ts_send_ns >= 500 * MS for was, now in itertools.pairwise(states)
    )
    numbers = [trade.number for state in states for trade in state.trades]
    assert numbers == list(range(BEFORE + 1, BEFORE + 1 + len(numbers)))


def test_a_ticker_is_told_at_its_pace_with_what_was_told_before(heard):
    (greeting, *rest), seat = heard("ticker")
    assert greeting.is_greeting and greeting.told is None and greeting.ticker is not None
    assert {now.ts_send_ns - was.ts_send_ns for was, now in itertools.pairwise(rest)} == {200 * MS}
    assert rest[0].told == greeting.ticker
    assert all(now.told == was.ticker for was, now in itertools.pairwise(rest))
    assert all(state.ticker.at_ns == state.ts_send_ns - seat.start_ns for state in rest)


def test_what_is_encoded_to_nothing_is_not_sent(heard):
    states, seat = heard("mute")
    assert len(states) > 50
    (talk,) = seat.exchange.talks
    ((_, span),) = talk.topics.items()
    assert (span.frames, talk.outbox) == (0, [])


def test_what_was_sent_is_remembered_when_a_client_unsubscribes(heard):
    _, seat = heard("ticker", NS)
    (talk,) = seat.exchange.talks
    seat.say(talk, b"ticker")
    ((topic, span),) = seat.exchange.leave(talk, seat.start_ns + NS)
    assert (topic.stream, span.frames) == ("ticker", 5)
