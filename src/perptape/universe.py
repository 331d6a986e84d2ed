"""The markets that a rule chooses: all that enough venues list, of those the most traded."""

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from perptape.errors import BadUsage
from perptape.instruments import Instrument, quote_of

WORD = re.compile(r"ALL-(USDT|USDC|USD)(-PERP)?", re.IGNORECASE | re.ASCII)
NAMED = 5
"""So many of the chosen are named where the choice is told in one line."""


class Rule(msgspec.Struct, frozen=True):
    """``ALL-USDT --min-venues 2 --top 50``."""

    quotes: tuple[str, ...]
    min_venues: int = 1
    top: int | None = None
    """Those with the largest turnover of 24 h, summed over venues; ``None``: all."""


def quotes_in(words: Iterable[str]) -> tuple[str, ...]:
    """Give the quote currencies of the words that name a universe: ``ALL-USDT`` -> ``USDT``."""
    found = (WORD.fullmatch(word) for word in words)
    return tuple(dict.fromkeys(match[1].upper() for match in found if match))


class Universe:
    """What a rule chooses of the venues' lists, and what it adds as these change.

    Once chosen a market stays. A name that comes to be listed by enough venues later is added, if
    by then it is among the first ``top``; one that they listed all along is not.
    """

    def __init__(self, rule: Rule, venues: Sequence[str]) -> None:
        self.rule = rule
        self.chosen: dict[str, float] = {}
        """Names, the most traded first, and what each turned over."""
        self.missing: list[str] = []
        """What could not be asked for, in words."""
        self._symbols: dict[str, dict[str, str]] = {venue: {} for venue in venues}
        """By venue and name, of what trades."""
        self._traded: dict[str, Mapping[str, float]] = {}
        """By venue and symbol."""
        self._passed: set[str] = set()
        """Names that were there to be chosen, and were not."""

    def listed(self, venue: str, instruments: Iterable[Instrument]) -> None:
        """Take in the whole list of a venue."""
        found: dict[str, str] = {}
        for each in instruments:
            is_meant = each.name.endswith("-PERP") and quote_of(each.name) in self.rule.quotes
            if is_meant and each.status == "trading":
                found.setdefault(each.name, each.symbol)
        self._symbols[venue] = found

    def traded(self, venue: str, turnover: Mapping[str, float]) -> None:
        """Take in what the symbols of a venue turned over in 24 h, in quote currency."""
        self._traded[venue] = turnover

    def choose(self) -> None:
        """Choose, the first time. Raises BadUsage where there is nothing to choose."""
        found = self._ranked()
        if not found:
            missing = "".join(f"; {words}" for words in self.missing)
            raise BadUsage(
                f"There are no {self._meant()} list as trading{missing}: "
                "lower --min-venues, or choose other --venues."
            )
        self.chosen = dict(list(found.items())[: self.rule.top])
        self._passed = set(found) - set(self.chosen)

    @property
    def has_news(self) -> bool:
        """Whether there is a name that was not there when the others were chosen."""
        return any(name not in self.chosen and name not in self._passed for name in self._where())

    def grow(self) -> list[str]:
        """Choose of what has come to be listed; give it."""
        ranked = list(self._ranked().items())[: self.rule.top]
        new = {n: t for n, t in ranked if n not in self.chosen and n not in self._passed}
        self.chosen |= new
        return list(new)

    def names(self, venue: str) -> list[str]:
        """Give what is chosen and listed there."""
        return [name for name in self.chosen if name in self._symbols.get(venue, ())]

    def markets(self) -> list[str]:
        """Give all that is chosen, on each venue that lists it."""
        return [f"{v}:{name}" for name in self.chosen for v in self._venues_of(name)]

    def _venues_of(self, name: str) -> list[str]:
        return [venue for venue, symbols in self._symbols.items() if name in symbols]

    def _where(self) -> dict[str, list[str]]:
        """Give the venues of each name that enough of them list."""
        found: dict[str, list[str]] = {}
        for venue, symbols in self._symbols.items():
            for name in symbols:
                found.setdefault(name, []).append(venue)
        return {name: v for name, v in found.items() if len(v) >= self.rule.min_venues}

    def _ranked(self) -> dict[str, float]:
        """Give what may be chosen with its turnover, the most traded first."""
        sums = {name: self._turnover(name, venues) for name, venues in self._where().items()}
        return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))

    def _turnover(self, name: str, venues: Iterable[str]) -> float:
        told = ((self._symbols[v][name], self._traded.get(v, {})) for v in venues)
        return sum(traded.get(symbol, 0.0) for symbol, traded in told)

    # In words

    def config(self) -> dict[str, object]:
        """Give what the tape says of the choice."""
        return {
            **msgspec.structs.asdict(self.rule),
            "why": self.why(),
            "chosen": {
                name: {"venues": self._venues_of(name), "turnover": turnover}
                for name, turnover in self.chosen.items()
            },
        }

    def why(self) -> str:
        """Tell the choice in one line."""
        count, of = len(self.chosen), len(self.chosen) + len(self._passed)
        named = ", ".join(name.removesuffix("-PERP") for name in list(self.chosen)[:NAMED])
        rest = ", ..." if count > NAMED else ""
        ranked = "" if self.rule.top is None else ", those with the largest turnover of 24 h"
        missing = "".join(f"; {words}" for words in self.missing)
        return (
            f"{count} of {of} {self._meant()} list as trading{ranked}: {named}{rest} "
            f"({len(self.markets())} markets){missing}"
        )

    def _meant(self) -> str:
        quotes, venues = " or ".join(self.rule.quotes), ", ".join(self._symbols)
        return f"perpetuals quoted in {quotes} that at least {self.rule.min_venues} of {venues}"
