"""What was left at the size and delay that the page shows first, and how sure that is."""

from collections.abc import Mapping, Sequence

from perptape.findings import BASE, FREE, Pair, Report, Sized, Taken
from perptape.instruments import quote_of
from perptape.wording import (
    MINUS,
    THIN,
    bps,
    duration,
    instrument_of,
    listed,
    money,
    names_of,
    percent,
    venue_of,
)

Found = tuple[Pair, Sized, Taken]
NEXT = 2
"""Further pairs named."""


def best(report: Report) -> list[str]:
    """Say in sentences which pairs earned most after all costs."""
    choice = report.choice
    names = names_of(m.market for m in report.markets)
    compared = [p for p in report.pairs if (p.same_quote or p.rate) and p.sized(choice.notional)]
    found = earners(report)
    if not found:
        return _none(compared, names, report)
    pair, sized, taken = found[0]
    at = f"At {money(choice.notional)} {_quote(pair)} and {choice.delay_ms:g}{THIN}ms"
    if taken.profit <= 0:
        first = (
            f"{at}, after {_fees(report)}, no pair earned anything: the least bad was to "
            f"{legs(pair, names)}, {_takes(taken, pair)}."
        )
    else:
        first = (
            f"{at}, after {_fees(report)}, the best was to {legs(pair, names)}: "
            f"{_takes(taken, pair)}."
        )
    free = [] if taken.profit > 0 else _without_fees(report, names)
    return [first, *_persisted(sized, report), *_sure(pair, taken), *_others(found, names), *free]


def earners(report: Report) -> list[Found]:
    """Give the pairs with a take, the best first; those of two currencies only with a rate."""
    choice, found = report.choice, []
    for pair in report.pairs:
        sized = pair.sized(choice.notional) if pair.same_quote or pair.rate else None
        taken = None if sized is None else sized.taken(choice.delay_ms)
        if sized is not None and taken is not None and taken.takes:
            found.append((pair, sized, taken))
    return sorted(found, key=lambda f: (-_rank(f[2]), f[0].sell, f[0].buy))


def _rank(taken: Taken) -> float:
    return taken.profit if taken.profit_per_day is None else taken.profit_per_day


def _none(compared: Sequence[Pair], names: Mapping[str, str], report: Report) -> list[str]:
    size = report.choice.notional
    known = [(s.edge_bps.max, p) for p in compared if (s := p.sized(size)) and s.edge_bps]
    tops = [(value, pair) for value, pair in known if value is not None]
    if not tops:
        return [f"No two books ever held {money(size)}, so nothing is known at that size."]
    value, pair = max(tops, key=lambda t: t[0])
    return [
        (
            f"At {money(size)} {_quote(pair)} nothing was left after {_fees(report)}: the best "
            f"moment ({legs(pair, names)}) was {bps(value)} bps, "
            f"in {duration(pair.trusted_s)} of common trusted time."
        ),
        *_without_fees(report, names),
    ]


def _without_fees(report: Report, names: Mapping[str, str]) -> list[str]:
    """Say what somebody would have to pay less than: what was there before any fee."""
    found = []
    for pair in report.pairs:
        is_ranked = pair.same_quote or pair.rate
        sized = pair.sized(report.choice.notional, FREE) if is_ranked else None
        if sized is not None and sized.edge_bps and sized.edge_bps.max is not None:
            found.append((sized.edge_bps.max, pair))
    if not found:
        return []
    most, pair = max(found, key=lambda f: f[0])
    if most <= 0:
        return ["Even without any fees nothing would have been left at that size."]
    return [
        (
            f"Before fees the best moment at that size ({legs(pair, names)}) was {bps(most)} bps: "
            "both taker fees together would have to be below that."
        )
    ]


def _fees(report: Report) -> str:
    tier = next(iter(report.choice.tiers), BASE)
    return "both taker fees" if tier == BASE else f"both taker fees ({tier})"


def _takes(taken: Taken, pair: Pair) -> str:
    count = "one take" if taken.takes == 1 else f"{taken.takes} takes"
    earned = "earned" if taken.profit > 0 else "lost"
    said = f"{count} {earned} {money(abs(taken.profit))} {_quote(pair)}"
    return said + (f", {taken.unfilled} more found too little to trade" if taken.unfilled else "")


def _persisted(sized: Sized, report: Report) -> list[str]:
    delay_ms = report.choice.delay_ms
    found = sized.delayed(delay_ms)
    if found is None or found.share is None or sized.episodes is None:
        return []
    count = sized.episodes.count
    times = "once" if count == 1 else f"{count} times"
    return [
        (
            f"Its edge opened {times} and stood for {duration(found.held_s)} in all; "
            f"{percent(found.share)} of that was still there {delay_ms:g}{THIN}ms later, "
            f"at {bps(found.mean_bps)} bps in the mean."
        )
    ]


def _sure(pair: Pair, taken: Taken) -> list[str]:
    behind = f"{duration(pair.trusted_s)} of common trusted time"
    if pair.depth == "top":
        behind += ", and the best prices alone: there are no books"
    if taken.profit_per_day is None:
        return [f"Behind that are {behind}: too little to say anything of a day."]
    day = f"{signed(taken.profit_per_day)} {_quote(pair)} per trusted day"
    if taken.low is None or taken.high is None:
        return [f"That is {day}, from {behind}, in too few stretches to say how sure."]
    between = f"between {signed(taken.low)} and {signed(taken.high)}"
    return [f"That is {day}, with 95{THIN}% {between}, from {behind}."]


def signed(value: float) -> str:
    return (MINUS if value < 0 else "") + money(abs(value))


def _others(found: Sequence[Found], names: Mapping[str, str]) -> list[str]:
    rest = [f for f in found[1 : NEXT + 1] if f[2].profit > 0]
    if not rest or found[0][2].profit <= 0:
        return []
    said = [f"{legs(p, names)} ({money(t.profit)} {_quote(p)})" for p, _, t in rest]
    return [f"Next: {listed(said)}."]


def _quote(pair: Pair) -> str:
    return quote_of(instrument_of(pair.buy))


def legs(pair: Pair, names: Mapping[str, str]) -> str:
    """Name what is traded where the venues alone do not say it."""
    same = instrument_of(pair.sell) == instrument_of(pair.buy)
    if same and names[pair.sell] == pair.sell and venue_of(pair.sell) != venue_of(pair.buy):
        what = instrument_of(pair.sell)
        return f"sell {what} on {venue_of(pair.sell)}, buy it on {venue_of(pair.buy)}"
    return f"sell on {names[pair.sell]}, buy on {names[pair.buy]}"
