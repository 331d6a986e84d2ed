"""The trades of one simulated market: seeded, and at the best price of the book in force."""

import zlib
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from perptape.events import MS, NS
from perptape.sims.dialect import Print
from perptape.sims.market import (
    BLOCK_NS,
    Contract,
    Floats,
    Ints,
    Path,
    Top,
    converted,
    levels,
    rescale,
)
from perptape.sims.scenario import Scenario

PAST_NS = 60 * NS
BEFORE = 30  # trades in that time before the doors open
KEPT = 500  # trades that REST and new listeners can be told of
SWEEP_SHARE = 0.1  # of the taker orders walk through several levels
SWEEP_LEVELS = 3
DRIFT = 0.3  # how much more (less) often than half a taker buys before a rise (a fall)
DAY_S = 86_400


class Trades:
    """What was traded, in the order and at the times of publication.

    ``fill`` is given the book's states block by block; a trade is never published before the
    state that it was made on.
    """

    def __init__(self, scenario: Scenario, venue: str, contract: Contract, path: Path) -> None:
        self.contract = contract
        self.recent: deque[Print] = deque(maxlen=KEPT)
        """Those published, the newest last."""
        self.path = path
        self._character = scenario.venues[venue]
        name = f"{venue}:{contract.instrument}:trades"
        self._key = (scenario.seed, zlib.crc32(name.encode()))
        self._ahead: deque[Print] = deque()
        self._last_top: Top | None = None
        self._last_due_ns = 0
        self._number = 0
        self.volume = round(self._character.trades_per_s * DAY_S * contract.typical_lots / 8)
        """Lots traded in the last 24 h: it only grows, for a run is short."""

    @property
    def next_due_ns(self) -> int | None:
        """When the next one known so far is published."""
        return self._ahead[0].due_ns if self._ahead else None

    def due(self, now_ns: int) -> list[Print]:
        """All trades published since the last call and up to now."""
        found = []
        while self._ahead and self._ahead[0].due_ns <= now_ns:
            found.append(self._ahead.popleft())
        self.recent += found
        self.volume += sum(made.lots for made in found)
        return found

    def last(self, count: int) -> tuple[Print, ...]:
        """The last ones published, the newest last."""
        return tuple(islice(self.recent, max(0, len(self.recent) - count), None))

    def change(self, contract: Contract) -> None:
        """From now on this is the contract's specification."""
        old, self.contract = self.contract, contract
        ticks, lots = rescale(old, contract)
        for made in (self.recent, self._ahead):
            for n, trade in enumerate(made):
                price = max(1, round(trade.price * ticks))
                made[n] = trade._replace(price=price, lots=max(1, round(trade.lots * lots)))
        self.volume = round(self.volume * lots)
        if self._last_top is not None:
            self._last_top = converted(self._last_top, old, contract)

    def fill(self, block: int, tops: list[Top]) -> None:
        """Make the trades of a block, given its states."""
        rng = np.random.default_rng((*self._key, block))
        if self._last_top is None:
            self._last_top = tops[0]
            self._make_past(rng, tops[0])
        states = [self._last_top, *tops]
        at = 0
        for order in self._orders(rng, block):
            while at + 1 < len(states) and states[at + 1].at_ns <= order.at_ns:
                at += 1
            self._last_due_ns = max(order.due_ns, states[at].due_ns, self._last_due_ns)
            self._execute(order._replace(due_ns=self._last_due_ns), states[at])
        self._last_top = states[-1]

    def _orders(self, rng: np.random.Generator, block: int) -> Iterator["Order"]:
        character = self._character
        count = int(rng.poisson(character.trades_per_s * BLOCK_NS / NS))
        offsets = np.unique(rng.integers(1, BLOCK_NS, count))
        latency_ms = character.latency_ms + rng.exponential(character.jitter_ms, len(offsets))
        at_ns = offsets + block * BLOCK_NS
        columns = (
            at_ns,
            at_ns + (latency_ms * MS).astype(np.int64),
            rng.random(len(offsets)) < self._odds(block, offsets),
            rng.lognormal(-2.5, 1.2, len(offsets)),
            rng.random(len(offsets)) < SWEEP_SHARE,
        )
        return map(Order, *(column.tolist() for column in columns))

    def _odds(self, block: int, offsets: Ints) -> Floats:
        """How likely each taker buys: more so where the price rises to the block's end."""
        prices = self.path.at(block, np.append(offsets, BLOCK_NS))
        moves = (prices[-1] / prices[:-1] - 1) / self.path.typical_move
        odds: Floats = 0.5 + DRIFT * np.tanh(moves)
        return odds

    def _make_past(self, rng: np.random.Generator, top: Top) -> None:
        """Some trades from before the first state, at its prices."""
        for age_ns in np.sort(rng.integers(1, PAST_NS, BEFORE))[::-1].tolist():
            is_buy, part = bool(rng.integers(2)), float(rng.random()) / 4
            self._execute(Order(-age_ns, -age_ns, is_buy, part, is_sweep=False), top)
        self.recent += self._ahead
        self._ahead.clear()

    def _execute(self, order: "Order", top: Top) -> None:
        """A fill at the best price, or several through the levels."""
        price, lots = (top.ask, top.ask_lots) if order.is_buy else (top.bid, top.bid_lots)
        fills = [(price, min(lots, max(1, round(order.part * lots))))]
        if order.is_sweep:
            bids, asks = levels(self.contract, top, SWEEP_LEVELS)
            *whole, (price, lots) = asks if order.is_buy else bids
            fills = [*whole, (price, max(1, lots // 2))]
        for price, lots in fills:
            self._number += 1
            at_ns, due_ns, is_buy, *_ = order
            self._ahead.append(Print(at_ns, due_ns, price, lots, is_buy, self._number))


class Order(NamedTuple):
    """What a taker does."""

    at_ns: int
    due_ns: int
    is_buy: bool
    part: float
    """Of what stands at the best price."""
    is_sweep: bool
    """Takes several levels."""
