"""Exchanges without sockets, told what time it is."""

import pytest

from perptape.events import NS
from perptape.sims import VENUES, scenario
from perptape.sims.exchange import Exchange

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

    def turn(self, talk, at_ns):
        """Let it be so late, and take what is said by then."""
        wake_ns = self.exchange.turn(START_NS + at_ns)
        assert wake_ns >= START_NS + at_ns
        return self.take(talk)

    @staticmethod
    def take(talk):
        said, talk.outbox = talk.outbox, []
        return [payload for payload, _ in said]


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
