"""Exchanges without sockets, told what time it is."""

from urllib.parse import urlsplit

import pytest

from perptape.events import MS, NS
from perptape.sims import VENUES, scenario
from perptape.sims.exchange import Exchange
from perptape.sims.schedule import Schedule
from perptape.venues import VENUES as SHAPES

JOIN = {
    "bybit": b'{"op":"subscribe","req_id":"%(n)d","args":["orderbook.1.%(base)sUSDT"]}',
    "htx": b'{"sub":"market.%(base)s-USDT.bbo","id":"%(n)d"}',
    "gateio": (
        b'{"time":1,"id":%(n)d,"channel":"futures.book_ticker","event":"subscribe",'
        b'"payload":["%(base)s_USDT"]}'
    ),
    "bitget": (
        b'{"op":"subscribe","args":[{"instType":"USDT-FUTURES","channel":"books1",'
        b'"instId":"%(base)sUSDT"}]}'
    ),
}
"""One quotes stream, asked for by hand."""
START_NS = 1_800_000_000 * NS


class Table:
    """One exchange and what it said."""

    def __init__(self, venue, played):
        self.start_ns = START_NS
        self.exchange = Exchange(VENUES[venue], played, self.start)

    def start(self, now_ns):
        self.exchange.start(now_ns)

    def connect(self, headers=(), at_ns=0, path=None):
        path = path or self.exchange.dialect.paths[0]
        return self.exchange.connect(path, dict(headers), START_NS + at_ns)

    def say(self, talk, payload, at_ns=0):
        """Say it, and take the answers."""
        self.exchange.hear(talk, payload, START_NS + at_ns)
        return self.take(talk)

    def listen(self, channel="quotes", base="BTC", stream=None, at_ns=0):
        """A connection that asks as our own venue file does, and what is said at once."""
        shape, dialect = SHAPES[self.exchange.name], self.exchange.dialect
        stream = stream or shape.streams[channel][0].partition("+")[0]
        topic = shape.topic(channel, stream, dialect.contracts[base].symbol)
        url = shape.sockets.get(topic.socket, shape.url)
        headers = {name.lower(): value for name, value in shape.headers.items()}
        talk = self.connect(headers, at_ns, urlsplit(url).path)
        said = []
        for ask in shape.subscribe([topic], START_NS + at_ns):
            said += self.say(talk, ask, at_ns)
        return talk, [frame for frame in said if all(mark in frame for mark in topic.marks)]

    def turn(self, talk, at_ns):
        """Let it be so late, and take what is said by then."""
        wake_ns = self.exchange.turn(START_NS + at_ns)
        assert wake_ns >= START_NS + at_ns
        return self.take(talk)

    @staticmethod
    def take(talk):
        said, talk.outbox = talk.outbox, []
        return [payload for payload, _ in said]


class Play:
    """One exchange with its schedule."""

    now_ns = 0

    def __init__(self, seat, faults=(), episodes=(), randoms=()):
        self.seat = seat
        self.facts = []
        played = scenario.Scenario(
            faults=tuple(faults), episodes=tuple(episodes), random_faults=tuple(randoms)
        )
        names = {episode.buy for episode in episodes} | {seat.exchange.name}
        self.schedule = Schedule(played, dict.fromkeys(names, seat.exchange), self.facts.append)
        self.schedule.start(seat.start_ns)

    def join(self, talk, base, at_ns=0):
        name = self.seat.exchange.name
        return self.seat.say(talk, JOIN[name] % {b"base": base.encode(), b"n": 1}, at_ns)

    def told(self, what="fault"):
        return [fact for fact in self.facts if fact.what == what]

    def until(self, at_ns, talk, step_ns=10 * MS):
        """Play on, 10 ms a time; what is said on one connection."""
        return [frame for _, frame in self.timed(at_ns, talk, step_ns)]

    def timed(self, at_ns, talk, step_ns=10 * MS):
        """Likewise, each frame with its time."""
        said = []
        while self.now_ns < at_ns:
            self.now_ns += step_ns
            self.schedule.turn(self.seat.start_ns + self.now_ns)
            said += [(self.now_ns, frame) for frame in self.seat.turn(talk, self.now_ns)]
        return said


@pytest.fixture
def stage(table):
    """``stage("bybit", Fault(…))``: an exchange on which this goes wrong."""

    def play(venue, *faults, episodes=(), randoms=(), **changes):
        seat = table(venue, episodes=tuple(episodes), **changes)
        return Play(seat, faults, episodes, randoms)

    return play


@pytest.fixture
def table():
    """``table("bybit")``: one exchange with a venue clock that is right, unless told otherwise."""

    def seat(venue, **changes):
        exact = {
            name: scenario.Character(updates_per_s=50, latency_ms=5, jitter_ms=1)
            for name in scenario.VENUES
        }
        return Table(venue, scenario.Scenario(**{"venues": exact, "seed": 5, **changes}))

    return seat
