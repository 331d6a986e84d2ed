"""One contract of one venue: its book, trades and ticker, and what may change about it."""

from typing import NamedTuple

import msgspec

from perptape.sims.dialect import Print
from perptape.sims.market import Contract, Feed, Path, Top
from perptape.sims.scenario import Scenario
from perptape.sims.ticker import Tickers
from perptape.sims.trades import Trades


class News(NamedTuple):
    """What a market has published since the last turn."""

    tops: list[Top]
    trades: list[Print]


class Market:
    """A market in scenario time."""

    def __init__(self, scenario: Scenario, venue: str, contract: Contract) -> None:
        # Every venue makes its own copy of the common price, from the same seed.
        path = Path(scenario.seed, contract.base)
        self.trades = Trades(scenario, venue, contract, path)
        self.feed = Feed(scenario, venue, contract, path, self.trades.fill)
        self.tickers = Tickers(scenario, venue, contract, self.trades)

    @property
    def contract(self) -> Contract:
        return self.feed.contract

    @property
    def next_due_ns(self) -> int:
        """Scenario time before which nothing more is published."""
        trade_ns = self.trades.next_due_ns
        return self.feed.next_due_ns if trade_ns is None else min(self.feed.next_due_ns, trade_ns)

    def due(self, at_ns: int) -> News:
        """All that is published since the last call and up to now."""
        return News(self.feed.due(at_ns), self.trades.due(at_ns))

    def change(self, contract: Contract) -> None:
        """From now on this is the specification; prices stay about what they were."""
        self.feed.change(contract)
        self.trades.change(contract)
        self.tickers.change(contract)


class Clock(msgspec.Struct):
    """A venue's clock, and the scenario's; true wall time in ns is what it is asked with."""

    offset_ns: int
    """The venue's minus true time."""
    start_ns: int | None = None
    """When scenario time began."""

    def there_ns(self, now_ns: int) -> int:
        """The time on the venue's clock."""
        return now_ns + self.offset_ns

    def scenario_ns(self, now_ns: int) -> int:
        """Scenario time, which stands until it has begun."""
        return 0 if self.start_ns is None else now_ns - self.start_ns

    def made_ns(self, at_ns: int) -> int:
        """Scenario time -> the venue's clock."""
        return (self.start_ns or 0) + at_ns + self.offset_ns
