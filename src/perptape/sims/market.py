"""One seeded market: a common efficient price, and what each venue makes of it.

All is a function of the seed and of scenario time (ns after the start), made in blocks, so it is
the same however often and in whatever steps it is asked.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from perptape.events import MS, NS
from perptape.sims.scenario import COINS, Episode, Scenario, model_of

BLOCK_NS = NS // 4
STEP_NS = 10 * MS  # between two nodes of the efficient price
STEPS = BLOCK_NS // STEP_NS
BPS = 1e4
TOP_NOTIONAL = 60_000.0  # quote units that typically stand at the best price
MAX_ID_STEP = 40  # an engine's ids grow by up to so much from one state to the next

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Step(msgspec.Struct, frozen=True):
    """A tick or a lot: ``step / 10**decimals``; numbers are counted in it."""

    step: int
    decimals: int

    @classmethod
    def of(cls, text: str) -> "Step":
        """``"0.05"`` is 5 of two decimals, ``"1"`` is 1 of none."""
        whole, _, fraction = text.partition(".")
        return cls(int(whole + fraction), len(fraction))

    @property
    def value(self) -> float:
        return self.step / float(10**self.decimals)

    def text(self, count: int) -> str:
        """The number, without trailing zeros."""
        padded = self.padded(count)
        return padded.rstrip("0").rstrip(".") if self.decimals else padded

    def padded(self, count: int) -> str:
        """The number with all its decimals."""
        if not self.decimals:
            return str(count * self.step)
        digits = str(count * self.step).rjust(self.decimals + 1, "0")
        return f"{digits[: -self.decimals]}.{digits[-self.decimals :]}"


class Contract(msgspec.Struct, frozen=True):
    """One instrument as a venue lists it."""

    instrument: str
    symbol: str
    base: str
    tick: Step
    lot: Step
    """Step of ``qty``, the number that the venue prints."""
    size: Step
    """Base coins per ``qty``."""
    price: float
    """About what it costs; for limits in instrument lists and for sizes."""
    unit: int = 1
    """Coins that the printed price is of: 1000 of ``1000PEPE``."""

    @property
    def typical_lots(self) -> int:
        """Lots that typically stand at the best price."""
        lot = self.price / self.unit * self.lot.value * self.size.value
        return max(1, round(TOP_NOTIONAL / lot))


class Top(NamedTuple):
    """The best bid and ask of one market at one moment; prices in ticks, sizes in lots."""

    at_ns: int
    """Scenario time at which the engine made it."""
    due_ns: int
    """Scenario time at which the venue publishes it."""
    bid: int
    bid_lots: int
    ask: int
    ask_lots: int
    update_id: int


def rescale(old: Contract, new: Contract) -> tuple[float, float]:
    """What a price in ticks and a size in lots are multiplied with when a contract changes."""
    ticks = old.tick.value / new.tick.value
    return ticks, old.lot.value * old.size.value / (new.lot.value * new.size.value)


def converted(top: Top, old: Contract, new: Contract) -> Top:
    """The same state under another specification; it does not get crossed."""
    ticks, lots = rescale(old, new)
    bid = max(1, int(np.floor(top.bid * ticks + 1e-6)))
    return top._replace(
        bid=bid,
        ask=max(bid + 1, int(np.ceil(top.ask * ticks - 1e-6))),
        bid_lots=max(1, round(top.bid_lots * lots)),
        ask_lots=max(1, round(top.ask_lots * lots)),
    )


class Path:
    """The efficient price of one coin."""

    def __init__(self, seed: int, base: str) -> None:
        self._key = (seed, zlib.crc32(f"{base}-USDT-PERP".encode()))
        coin = COINS[model_of(base)]
        self._step = coin.volatility_bps / BPS * (STEP_NS / NS) ** 0.5
        self.typical_move = self._step * STEPS**0.5
        """Standard deviation of the log price over one block."""
        self._starts = [float(np.log(coin.price))]  # log price where each block begins
        self._known: dict[int, Floats] = {}  # the moves of the last blocks asked for

    def price(self, at_ns: int) -> float:
        """The price at one moment."""
        block, offset = divmod(max(0, at_ns), BLOCK_NS)
        return float(self.at(block, np.array([offset]))[0])

    def at(self, block: int, offsets_ns: Ints) -> Floats:
        """Prices at offsets within a block."""
        while len(self._starts) <= block:
            moves = self._moves(len(self._starts) - 1)
            self._starts.append(self._starts[-1] + float(moves.sum()))
        nodes = np.concatenate(([0.0], np.cumsum(self._moves(block)))) + self._starts[block]
        prices: Floats = np.exp(np.interp(offsets_ns / STEP_NS, np.arange(STEPS + 1), nodes))
        return prices

    def _moves(self, block: int) -> Floats:
        if block not in self._known:
            self._known = {n: moves for n, moves in self._known.items() if abs(n - block) <= 1}
            rng = np.random.default_rng((*self._key, block))
            self._known[block] = rng.normal(0.0, self._step, STEPS)
        return self._known[block]


class Feed:
    """The states of one market of one venue, in the order and at the times they are published."""

    def __init__(
        self,
        scenario: Scenario,
        venue: str,
        contract: Contract,
        path: Path,
        on_block: Callable[[int, list[Top]], None] | None = None,
    ) -> None:
        self.contract = contract
        self.path = path
        self.scenario = scenario
        self._on_block = on_block
        self._character = scenario.venues[venue]
        self._key = (scenario.seed, zlib.crc32(f"{venue}:{contract.instrument}".encode()))
        self._sells = [_Planted(e, scenario) for e in _episodes(scenario, contract, sell=venue)]
        self._buys = _episodes(scenario, contract, buy=venue)
        self._block = 0
        self._last_id = 0
        self._last_due_ns = 0
        self._ahead: list[Top] = []  # the next at the end
        self._fill()
        self.current = self._ahead.pop()

    @property
    def next_due_ns(self) -> int:
        """Scenario time before which nothing more is published."""
        return self._ahead[-1].due_ns if self._ahead else self._block * BLOCK_NS

    def due(self, now_ns: int) -> list[Top]:
        """All states published since the last call and up to now."""
        found = []
        while self.next_due_ns <= now_ns:
            if self._ahead:
                found.append(self._ahead.pop())
            else:
                self._fill()
        if found:
            self.current = found[-1]
        return found

    def change(self, contract: Contract) -> None:
        """From now on this is the specification."""
        old, self.contract = self.contract, contract
        self.current = converted(self.current, old, contract)
        self._ahead = [converted(top, old, contract) for top in self._ahead]

    def restart_ids(self) -> None:
        """From the next state on ids count from 1 again, or a little more."""
        self._last_id -= self.current.update_id
        self._ahead = [
            top._replace(update_id=top.update_id - self.current.update_id) for top in self._ahead
        ]

    def _fill(self) -> None:
        rng = np.random.default_rng((*self._key, self._block))
        offsets = self._times(rng)
        at_ns = offsets + self._block * BLOCK_NS
        bid, ask = self._prices(rng, offsets, at_ns)
        lots = rng.lognormal(0.0, 0.7, (2, len(at_ns))) * self.contract.typical_lots
        lots = np.maximum(1, lots).astype(np.int64)
        ids = self._last_id + np.cumsum(rng.integers(1, MAX_ID_STEP + 1, len(at_ns)))
        due_ns = self._due(rng, at_ns)
        columns = (at_ns, due_ns, bid, lots[0], ask, lots[1], ids)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        made = [Top(*row) for row in rows]
        self._ahead = made[::-1]
        if self._on_block is not None:
            self._on_block(self._block, made)
        if len(ids):
            self._last_id = int(ids[-1])
            self._last_due_ns = int(due_ns[-1])
        self._block += 1

    def _times(self, rng: np.random.Generator) -> Ints:
        mean = self._character.updates_per_s * BLOCK_NS / NS
        drawn = rng.integers(1, BLOCK_NS, rng.poisson(mean))
        return np.unique(np.concatenate((drawn, np.array(self._forced(), dtype=np.int64))))

    def _forced(self) -> list[int]:
        """Moments with a new state for sure: the start, and both ends of each episode."""
        begin = self._block * BLOCK_NS
        moments = [0]
        for episode in [planted.episode for planted in self._sells] + self._buys:
            moments += [episode.at_ns, episode.end_ns]
        return [t - begin for t in moments if begin <= t < begin + BLOCK_NS]

    def _prices(self, rng: np.random.Generator, offsets: Ints, at_ns: Ints) -> tuple[Ints, Ints]:
        efficient = self.path.at(self._block, offsets) * self.contract.unit
        noise_bps = rng.normal(0.0, self._character.noise_bps, len(at_ns))
        for episode in self._buys:
            noise_bps[_inside(episode, at_ns)] = 0.0
        mid = efficient * (1 + (self._character.premium_bps + noise_bps) / BPS)
        half = self._character.spread_bps / BPS / 2
        tick = self.contract.tick.value
        bid = np.floor(mid * (1 - half) / tick + 1e-6)
        ask = np.ceil(mid * (1 + half) / tick - 1e-6)
        for planted in self._sells:
            inside = _inside(planted.episode, at_ns)
            bid[inside] = np.ceil(planted.bid(efficient[inside], tick) / tick - 1e-6)
            ask[inside] = np.ceil(bid[inside] * (1 + 2 * half))
        bid = np.maximum(bid, 1.0)
        return bid.astype(np.int64), np.maximum(ask, bid + 1).astype(np.int64)

    def _due(self, rng: np.random.Generator, at_ns: Ints) -> Ints:
        character = self._character
        latency_ms = character.latency_ms + rng.exponential(character.jitter_ms, len(at_ns))
        due_ns = at_ns + (latency_ms * MS).astype(np.int64)
        if self._block == 0:
            due_ns[0] = 0  # a book exists when the doors open
        ordered: Ints = np.maximum(np.maximum.accumulate(due_ns), self._last_due_ns)
        return ordered


class _Planted:
    """Where the selling venue's bid must stand in an episode."""

    def __init__(self, episode: Episode, scenario: Scenario) -> None:
        self.episode = episode
        self._buy = scenario.venues[episode.buy]
        sell_fee = scenario.venues[episode.sell].taker_fee
        edge = episode.edge_bps / BPS
        self._ratio = (1 + edge) * (1 + self._buy.taker_fee) / (1 - sell_fee)

    def bid(self, efficient: Floats, tick: float) -> Floats:
        """The other venue's ask, with a tick for its rounding, times what the edge needs."""
        ask = efficient * (1 + self._buy.premium_bps / BPS) * (1 + self._buy.spread_bps / BPS / 2)
        return (ask + tick) * self._ratio


def _episodes(
    scenario: Scenario, contract: Contract, *, sell: str | None = None, buy: str | None = None
) -> list[Episode]:
    return [
        episode
        for episode in scenario.episodes
        if episode.instrument.partition("-")[0] == contract.base
        and sell in (None, episode.sell)
        and buy in (None, episode.buy)
    ]


def _inside(episode: Episode, at_ns: Ints) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (at_ns >= episode.at_ns) & (at_ns < episode.end_ns)
    return inside


Levels = list[tuple[int, int]]  # (ticks, lots), the best first


def levels(contract: Contract, top: Top, depth: int) -> tuple[Levels, Levels]:
    """Bids and asks, a price a tick, as a function of the best ones: nothing to remember.

    What stands behind the best price depends on the price alone, so two books differ where the
    best price moved, as real ones do.
    """
    most = 2 * contract.typical_lots
    bids = [(top.bid, top.bid_lots)] + [
        (price, _lots(price, most)) for price in range(top.bid - 1, max(0, top.bid - depth), -1)
    ]
    asks = [(top.ask, top.ask_lots)] + [
        (price, _lots(price, most)) for price in range(top.ask + 1, top.ask + depth)
    ]
    return bids, asks


def _lots(price: int, most: int) -> int:
    return 1 + (price * 2_654_435_761 % 4_294_967_296) % most


def changes(old: Levels, new: Levels) -> dict[int, int]:
    """What turns one side into the other: absolute sizes by price, 0 removes."""
    before, after = dict(old), dict(new)
    found = {price: 0 for price in before if price not in after}
    return found | {price: lots for price, lots in after.items() if before.get(price) != lots}


def delta(contract: Contract, olds: Sequence[Top], new: Top, depth: int) -> tuple[Levels, Levels]:
    """Bids and asks that differ between the last book and any of the older ones.

    So it holds for whoever took a snapshot at one of the states that a slow stream has skipped.
    """
    bids, asks = levels(contract, new, depth)
    bid_prices: dict[int, int] = {}
    ask_prices: dict[int, int] = {}
    for old in olds:
        old_bids, old_asks = levels(contract, old, depth)
        bid_prices |= changes(old_bids, bids)
        ask_prices |= changes(old_asks, asks)
    return sorted(bid_prices.items(), reverse=True), sorted(ask_prices.items())
