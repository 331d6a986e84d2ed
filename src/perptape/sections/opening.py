"""What was heard, how completely, and what a difference was worth, in plain words."""

from collections.abc import Mapping, Sequence

from perptape.events import NS
from perptape.findings import Heard, Market, Pair, Report, ranked
from perptape.sections.best import best, earners, legs
from perptape.sections.elements import coin_of, esc
from perptape.wording import (
    bps,
    duration,
    listed,
    names_of,
    number,
    percent,
    utc,
    venue_of,
)

NUMERALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
REASONS_NAMED = 4
NEVER_NAMED = 3
"""Of more markets that were never heard, so many are named."""
PARTLY = 0.02
"""A market not recorded for longer than this share of its time is named."""
WORDS = {
    "Market": """one instrument on one venue, such as bybit:BTC-USDT-PERP; prices are per one
        base coin.""",
    "bps": """basis points: 1 bps is 0.01 %, so 1 bps of 60 000 is 6.""",
    "Gap": """sell at the bid of one market, buy at the ask of another at the same moment:
        10 000 (bid / ask - 1) bps. Above zero the two prices
        cross. Nothing is paid yet.""",
    "Edge": """the gap after paying both taker fees, at the size that stood at the top of both
        books. Only an edge above zero could have been kept, and only by someone fast enough.""",
    "Trusted": """time in which the connection and its data were known to be whole. Every number
        here is from trusted time only.""",
    "Time": """UTC, and always when a message reached the recorder, never when a venue says that
        it was sent.""",
    "Mean, median, share": """over the moments at which either market changed. The grid instead
        looks every 100 ms.""",
    "Top size": """median of what both sides offered at their best price, in quote currency.""",
}
DEEP_WORDS = {
    "Edge": """what both books left of the gap at a size, after both taker fees: the mean price of
        selling it into the one, over that of buying it from the other.""",
    "Episode": """a stretch of trusted time with the edge at zero or above. One that was open when
        trust began has no known beginning and is in no rate and no duration.""",
    "Take": """one trade of both legs for each episode, so long after it opened, at what the books
        were then. It may lose.""",
}
ALONE = (
    "With one market there is nothing to compare: record at least two venues that trade "
    "the same coin, for example: perptape record BTC-USDT --venues bybit,htx."
)
TWO_CURRENCIES = (
    "All pairs compare different quote currencies, so none is ranked: "
    "their gap contains the exchange rate of the two currencies."
)


def opening(report: Report) -> str:
    """Say what this is, the verdict, and the words it uses."""
    tapes = ", ".join(s.tape for s in report.provenance.tapes)
    thoughts = "".join(f"<p>{esc(' '.join(part))}</p>" for part in verdict(report))
    notes = "".join(f'<p class="note">{esc(n)}</p>' for n in report.provenance.notes)
    known = WORDS | DEEP_WORDS if report.has_sizes else WORDS
    words = "".join(
        f"<div><dt>{term}</dt><dd>{' '.join(meaning.split())}</dd></div>"
        for term, meaning in known.items()
    )
    return (
        f'<header><p class="over">Perptape report on {esc(tapes)}</p>'
        f"<h1>{esc(title(report))}</h1>"
        f'<div class="verdict">{thoughts}</div>{notes}'
        '<details class="glossary" open><summary>What the words mean</summary>'
        f'<dl class="words">{words}</dl></details></header>'
    )


def title(report: Report) -> str:
    """``BTC on bitget, bybit and htx``."""
    venues = sorted({venue_of(m.market) for m in report.markets})
    bases = sorted({coin_of(m.market) for m in report.markets})
    return f"{listed(bases)} on {listed(venues)}"


def verdict(report: Report) -> tuple[Sequence[str], Sequence[str]]:
    """Say in a few sentences what was heard and how completely, and what a gap was worth."""
    return [_heard(report), *_complete(report)], _worth(report)


def _heard(report: Report) -> str:
    count = len(report.markets)
    numeral = NUMERALS[count] if count < len(NUMERALS) else str(count)
    quotes = number(sum(m.quotes for m in report.markets), 0)
    span = duration((report.ts_to - report.ts_from) / NS)
    plural = "market" if count == 1 else "markets"
    return (
        f"{numeral.capitalize()} {plural}, {span} from {utc(report.ts_from, 0)} "
        f"to {utc(report.ts_to, 0)} UTC, {quotes} quotes."
    )


def _complete(report: Report) -> list[str]:
    """Say what was not heard and what not whole; last, of the others, that nothing is missing."""
    names = names_of(m.market for m in report.markets)
    unheard = [m for m in report.markets if not m.trusted_s]
    said = [*_never(unheard, names), *_partly(report.markets)]
    heard = [m for m in report.markets if m.trusted_s]
    if not heard:
        return said
    torn = [(m, part) for m in heard for part in _parts(m, report) if part.missing]
    if not torn:
        who = " on the others" if unheard else " on any of them" if len(heard) > 1 else ""
        return [
            *said,
            f"Nothing is missing{' of what was recorded' if _partly(heard) else ''}{who}.",
        ]
    worst, part = min(torn, key=lambda t: (t[1].trusted_share, t[0].market))
    share = f"{percent(part.trusted_share)} trusted{_reasons(part.missing)}"
    of = "" if part.channel == "quotes" else f"of its {part.channel} "
    if len(heard) == 1:
        return [
            *said,
            f"Not all of {'the other' if unheard else 'it'} was heard whole: {of}{share}.",
        ]
    complete = len(heard) - len({m.market for m, _ in torn})
    are = "none is" if not complete else "one is" if complete == 1 else f"{complete} are"
    whole = f"Of {'the other ' if unheard else ''}{len(heard)} markets {are} complete"
    return [*said, f"{whole}; {names[worst.market]} is the least so, {of}{share}."]


def _parts(market: Market, report: Report) -> list[Heard]:
    """Give what figures of a market rest on: its quotes, and of its other channels those used."""
    own = [p for p in report.pairs if market.market in {p.sell, p.buy}]
    used = {
        "books": any(p.depth == "books" for p in own),
        "funding": market.funding is not None or any(p.carry for p in own),
    }
    quotes = Heard("quotes", market.trusted_s, market.untrusted_s, _why(market))
    return [quotes, *(c for c in market.channels if used.get(c.channel))]


def _never(unheard: Sequence[Market], names: Mapping[str, str]) -> list[str]:
    """Name those that were never heard; of many of one reason the first."""
    if len(unheard) <= NEVER_NAMED:
        return [f"{names[m.market]} was never heard{_because(m)}." for m in unheard]
    reasons: dict[str, list[str]] = {}
    for market in unheard:
        reasons.setdefault(_because(market), []).append(names[market.market])
    return [f"Never heard{why}: {_some(who)}." for why, who in reasons.items()]


def _some(who: Sequence[str]) -> str:
    if len(who) <= NEVER_NAMED + 1:
        return listed(who)
    return listed([*who[:NEVER_NAMED], f"{len(who) - NEVER_NAMED} more"])


def _partly(markets: Sequence[Market]) -> list[str]:
    names = names_of(m.market for m in markets)
    parts = [
        f"{names[m.market]} for {duration(m.trusted_s + m.untrusted_s)} of it"
        for m in markets
        if m.trusted_s and sum(i.length_s for i in m.absent) > PARTLY * m.trusted_s
    ]
    return [f"Recorded only in part: {listed(parts)}."] if parts else []


def _because(market: Market) -> str:
    return _reasons(_why(market))


def _why(market: Market) -> tuple[str, ...]:
    return tuple(dict.fromkeys(i.reason for i in market.missing))


def _reasons(reasons: Sequence[str]) -> str:
    return f" ({', '.join(reasons[:REASONS_NAMED])})" if reasons else ""


def _worth(report: Report) -> list[str]:
    if len(report.markets) == 1:
        return [ALONE]
    widest_of = next(iter(ranked(report.pairs)), None)
    if widest_of is None or widest_of.gap_bps is None:
        return [_nothing_ranked(report.pairs)]
    names = names_of(m.market for m in report.markets)
    gap = widest_of.gap_bps
    widest = (
        f"The widest gap before fees: {legs(widest_of, names)}, "
        f"{bps(gap.median)} bps at the median and {bps(gap.max)} bps at best, "
        f"over {duration(widest_of.trusted_s)} in which both were trusted."
    )
    if report.has_sizes:
        return [widest, *best(report)]
    return [widest, *_left(widest_of, report.pairs, names)]


def shown_first(report: Report) -> Pair | None:
    """Give the pair that earned most, or that with the widest gap."""
    earned = earners(report)
    if earned and earned[0][2].profit > 0:
        return earned[0][0]
    return next(iter(ranked(report.pairs)), None)


def _nothing_ranked(pairs: Sequence[Pair]) -> str:
    if any(p.gap_bps for p in pairs):
        return TWO_CURRENCIES
    if pairs:
        return "No two markets were trusted at the same time, so no gap is known."
    return "No two markets trade the same coin, so there is nothing to compare."


def _left(best: Pair, pairs: Sequence[Pair], names: Mapping[str, str]) -> list[str]:
    top = max(ranked(pairs), key=lambda p: p.best_edge_bps)
    if top.edge_bps is None:
        return ["What fees leave of it is not known: the taker fees of these venues are not."]
    where = "" if top is best else f" ({legs(top, names)})"
    if top.best_edge_bps <= 0:
        return [f"After both taker fees nothing was left: the best moment{where} was {_edge(top)}."]
    said = [] if best.edge_bps is None or top is best else [_of_best(best)]
    share = percent(top.edge_bps.share_positive)
    kept = (
        f"After both taker fees the best moment{where} left {_edge(top)} at the top of the book; "
        f"the edge was above zero at {share} of the updates."
    )
    return [*said, kept]


def _edge(pair: Pair) -> str:
    return f"{bps(pair.best_edge_bps)} bps"


def _of_best(best: Pair) -> str:
    if best.best_edge_bps <= 0:
        return f"Of that nothing was left after both taker fees: at best {_edge(best)}."
    return f"After both taker fees it left {_edge(best)} at best."
