"""Mark and index price, open interest and funding of one simulated market."""

import zlib
from bisect import bisect_right

import numpy as np

from perptape.events import NS
from perptape.sims.dialect import Ticker
from perptape.sims.market import BPS, Contract
from perptape.sims.scenario import Scenario
from perptape.sims.trades import Trades

HOUR_NS = 3600 * NS
NODES = 256  # of a walk, made at once
WAVE_BPS = 0.5  # how far the premium swings
INTEREST = 1e-4  # of funding, per INTEREST_H
INTEREST_H = 8
OPEN_BPS = 2.0  # how far open interest walks in a second
OPEN_NOTIONAL = 2e8  # quote units that are typically open
PAST = 100  # settlements before the start that can be told


class Walk:
    """A seeded random walk from 0 with a node a second, the same in whatever steps it is asked."""

    def __init__(self, key: tuple[int, int], step: float) -> None:
        self._key, self._step = key, step
        self._nodes = [0.0]

    def at(self, at_ns: int) -> float:
        """Its value; before its first node it stands."""
        n, rest = divmod(max(0, at_ns), NS)
        while len(self._nodes) < n + 2:
            rng = np.random.default_rng((*self._key, len(self._nodes)))
            moves = rng.normal(0.0, self._step, NODES)
            self._nodes += (self._nodes[-1] + np.cumsum(moves)).tolist()
        low, high = self._nodes[n : n + 2]
        return low + (high - low) * rest / NS


class Tickers:
    """What one market's ticker says at any time; ``there_ns`` is the venue's clock."""

    def __init__(self, scenario: Scenario, venue: str, contract: Contract, trades: Trades) -> None:
        self.contract = contract
        self._path, self._trades = trades.path, trades
        self._premium_bps = scenario.venues[venue].premium_bps
        key = (scenario.seed, zlib.crc32(f"{venue}:{contract.instrument}:ticker".encode()))
        self._key = key
        self._wave = Walk((*key[:1], key[1] ^ 1), 0.05)
        self._open = Walk((*key[:1], key[1] ^ 2), OPEN_BPS / BPS)
        self._phase = float(np.random.default_rng(key).uniform(0, 2 * np.pi))
        self._lots_open = self._typically_open()
        self._changes = [(-(1 << 62), scenario.interval_h(venue, contract.base))]
        """From which scenario time on which interval holds."""

    def change(self, contract: Contract) -> None:
        """From now on this is the specification."""
        self.contract = contract
        self._lots_open = self._typically_open()

    def _typically_open(self) -> float:
        contract = self.contract
        per_lot = contract.price * contract.lot.value * contract.size.value / contract.unit
        return OPEN_NOTIONAL / per_lot

    def change_interval(self, at_ns: int, interval_h: int) -> None:
        """From scenario time ``at_ns`` on the rate is for another interval."""
        self._changes.append((at_ns, interval_h))

    def interval_h(self, at_ns: int) -> int:
        return self._changes[bisect_right(self._changes, at_ns, key=lambda c: c[0]) - 1][1]

    def premium_bps(self, at_ns: int) -> float:
        """The mark price over the index, smooth in time."""
        return self._premium_bps + WAVE_BPS * float(np.sin(self._phase + self._wave.at(at_ns)))

    def rate(self, at_ns: int) -> float:
        """What is paid per interval, to eight decimals."""
        premium = self.premium_bps(at_ns) / BPS / 2
        return round((INTEREST + premium) * self.interval_h(at_ns) / INTEREST_H, 8)

    def at(self, at_ns: int, there_ns: int) -> Ticker:
        """The ticker at a scenario time, which is ``there_ns`` on the venue's clock."""
        index = self._path.price(at_ns) * self.contract.unit
        interval_ns = self.interval_h(at_ns) * HOUR_NS
        return Ticker(
            at_ns,
            mark_price=index * (1 + self.premium_bps(at_ns) / BPS),
            index_price=index,
            last=self._trades.recent[-1].price,
            open_interest=round(self._lots_open * float(np.exp(self._open.at(at_ns)))),
            volume=self._trades.volume,
            rate=self.rate(at_ns),
            interval_h=self.interval_h(at_ns),
            ts_funding_ns=(there_ns // interval_ns + 1) * interval_ns,
        )

    def settled(self, at_ns: int, there_ns: int) -> tuple[tuple[int, float], ...]:
        """The last payments up to now (venue's clock, rate), the newest last."""
        found: list[tuple[int, float]] = []
        until_ns = there_ns
        for from_ns, interval_h in reversed(self._changes):
            interval_ns = interval_h * HOUR_NS
            paid_ns = until_ns // interval_ns * interval_ns
            while paid_ns > there_ns - at_ns + from_ns and len(found) < PAST:
                found.append((paid_ns, self._paid(paid_ns, at_ns + paid_ns - there_ns)))
                paid_ns -= interval_ns
            until_ns = min(until_ns, there_ns - at_ns + from_ns)
        return tuple(found[::-1])

    def _paid(self, paid_ns: int, at_ns: int) -> float:
        """What was foretold for that moment; before the start, near it."""
        if at_ns >= 0:
            return self.rate(at_ns)
        noise = np.random.default_rng((*self._key, paid_ns // HOUR_NS)).uniform(0.8, 1.2)
        return round(self.rate(at_ns) * noise, 8)
