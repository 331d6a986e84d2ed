"""The ranking by what could have been taken, at the size and delay that the page shows first."""

from collections.abc import Sequence

from perptape.findings import Episodes, Pair, Report, Sized, Spread, Taken
from perptape.instruments import quote_of
from perptape.sections.best import signed
from perptape.sections.elements import esc, name, number_cell, row_head
from perptape.wording import (
    NONE,
    THIN,
    bps,
    duration,
    instrument_of,
    listed,
    money,
    number,
    percent,
)

HEADS = (
    "Episodes", "per hour", "median", "still there", "mean, bps", "Takes", "Unfilled", "Earned",
    "Per trusted day", "Trusted",
)  # fmt: skip
Row = tuple[Pair, Sized]


def takes(report: Report) -> str:
    choice = report.choice
    known = [(p, s) for p in report.pairs if (s := p.sized(choice.notional)) and s.edge_bps]
    if not known:
        return ""
    opened = [row for row in known if row[1].delays]
    ranked = sorted((r for r in opened if _is_ranked(r[0])), key=lambda r: _key(r, report))
    apart = sorted((r for r in opened if not _is_ranked(r[0])), key=lambda r: _key(r, report))
    at = f"{money(choice.notional)} and {choice.delay_ms:g}{THIN}ms"
    rest = len(known) - len(opened)
    return "".join(
        [
            f'<section id="takes"><h2>What could be taken at {at}</h2>',
            _words(report, rest) if opened else _none(rest),
            _table(ranked, report) if ranked else "",
            _apart(apart, report) if apart else "",
            _other_fees([p for p, _ in known], report),
            "</section>",
        ]
    )


def _is_ranked(pair: Pair) -> bool:
    return pair.same_quote or pair.rate is not None


def _key(row: Row, report: Report) -> tuple[float, float, str, str]:
    taken = row[1].taken(report.choice.delay_ms)
    day = None if taken is None else taken.profit_per_day
    earned = 0.0 if taken is None else taken.profit
    return (-(earned if day is None else day), -earned, row[0].sell, row[0].buy)


def _words(report: Report, rest: int) -> str:
    delay = f"{report.choice.delay_ms:g}{THIN}ms"
    never = f" {rest} more never had an edge of zero or above." if rest else ""
    return (
        '<p class="soft">Pairs whose edge stood at zero or above, after both taker fees, by what '
        f"one take an episode earned {delay} after it opened, in quote currency, before funding "
        f"and without the way back. Still there, and the mean: of that time, {delay} later. "
        f"All sizes and delays are below, pair by pair.{never}</p>"
    )


def _none(rest: int) -> str:
    return (
        f'<p class="soft">Nothing: after both taker fees the edge of none of the {rest} pairs was '
        "ever at zero or above.</p>"
    )


def _apart(rows: Sequence[Row], report: Report) -> str:
    return (
        "<h3>Different quote currencies, not ranked</h3>"
        '<p class="soft">No rate between the two is on the tape: they are compared as if they '
        f"were worth the same.</p>{_table(rows, report)}"
    )


def _table(rows: Sequence[Row], report: Report) -> str:
    markets = [m.market for m in report.markets]
    heads = "".join(
        f'<th scope="col"><button type="button" data-column="{k + 2}">{head}</button></th>'
        for k, head in enumerate(HEADS)
    )
    body = "".join(f"<tr>{_row(*row, report, markets)}</tr>" for row in rows)
    return (
        '<div class="scroll wide stick" tabindex="0"><table class="sortable"><thead><tr>'
        '<th scope="col" class="text">Sell on</th><th scope="col" class="text">Buy on</th>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(pair: Pair, sized: Sized, report: Report, markets: Sequence[str]) -> str:
    delay_ms = report.choice.delay_ms
    found, taken, open_ = sized.delayed(delay_ms), sized.taken(delay_ms), sized.episodes
    share = None if found is None else found.share
    mean = None if found is None else found.mean_bps
    count = None if open_ is None else open_.count
    per_hour = None if open_ is None else open_.per_hour
    hourly = NONE if open_ is None else rate_words(open_)
    median_s = None if open_ is None else open_.median_s
    return "".join(
        [
            row_head(name(pair.sell, markets)),
            f'<td class="text">{name(pair.buy, markets)}</td>',
            number_cell(number(count, 0), count),
            number_cell(hourly, per_hour),
            number_cell(NONE if median_s is None else duration(median_s), median_s),
            number_cell(percent(share), share),
            number_cell(bps(mean), mean),
            *_earned(taken, pair),
            number_cell(duration(pair.trusted_s), pair.trusted_s),
        ]
    )


def rate_words(found: Episodes) -> str:
    """Write ``12.5 (8.1 to 19.0)``: openings per trusted hour, with their 95 % interval."""
    said = number(found.per_hour, 1)
    if found.per_hour_low is None or found.per_hour_high is None:
        return said
    return f"{said} ({number(found.per_hour_low, 1)} to {number(found.per_hour_high, 1)})"


def _earned(taken: Taken | None, pair: Pair) -> Sequence[str]:
    if taken is None:
        return [number_cell(NONE)] * 4
    quote = quote_of(instrument_of(pair.buy))
    return (
        number_cell(str(taken.takes), taken.takes),
        number_cell(str(taken.unfilled), taken.unfilled),
        number_cell(f"{signed(taken.profit)} {quote}", taken.profit),
        _per_day(taken),
    )


def _per_day(taken: Taken) -> str:
    if taken.profit_per_day is None:
        return f'<td title="{esc(taken.reason or "")}">{NONE}</td>'
    said = signed(taken.profit_per_day)
    if taken.low is not None and taken.high is not None:
        said += f" ({signed(taken.low)} to {signed(taken.high)})"
    return number_cell(said, taken.profit_per_day)


# ---- other fees ---------------------------------------------------------------------------------

AT_FEES = ("median", "best", "per hour", "Earned")


def _other_fees(pairs: Sequence[Pair], report: Report) -> str:
    """Put what each tier of fees leaves side by side."""
    tiers = report.choice.tiers
    if len(tiers) < 2:  # noqa: PLR2004 - nothing to compare
        return ""
    rows = sorted((p for p in pairs if _is_ranked(p)), key=lambda p: _last_key(p, report))
    markets = [m.market for m in report.markets]
    groups = "".join(
        f'<th class="group" colspan="{len(AT_FEES)}" scope="colgroup"><span>{esc(t)}</span></th>'
        for t in tiers
    )
    heads = "".join(
        f'<th scope="col"{" class=first" if k % len(AT_FEES) == 0 else ""}>'
        f'<button type="button" data-column="{k + 2}">{head}</button></th>'
        for k, head in enumerate(AT_FEES * len(tiers))
    )
    body = "".join(f"<tr>{_at_fees(p, report, markets)}</tr>" for p in rows)
    return (
        f"<details><summary>The same at other fees: {esc(listed(tiers))}</summary>"
        '<p class="soft">Median and best edge in bps, episodes per trusted hour, and what was '
        "earned in quote currency.</p>"
        '<div class="scroll wide stick" tabindex="0"><table class="sortable"><thead>'
        f"<tr><th></th><th></th>{groups}</tr>"
        '<tr><th scope="col" class="text">Sell on</th><th scope="col" class="text">Buy on</th>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def _last_key(pair: Pair, report: Report) -> tuple[float, str, str]:
    sized = pair.sized(report.choice.notional, report.choice.tiers[-1])
    taken = None if sized is None else sized.taken(report.choice.delay_ms)
    return (-taken.profit if taken else 0.0, pair.sell, pair.buy)


def _at_fees(pair: Pair, report: Report, markets: Sequence[str]) -> str:
    choice = report.choice
    cells = [row_head(name(pair.sell, markets)), f'<td class="text">{name(pair.buy, markets)}</td>']
    for tier in (None, *choice.tiers[1:]):
        sized = pair.sized(choice.notional, tier) or Sized(choice.notional)
        edge, open_ = sized.edge_bps or Spread(), sized.episodes
        taken = sized.taken(choice.delay_ms)
        profit = None if taken is None else taken.profit
        cells += [
            number_cell(bps(edge.median), edge.median, first=True),
            number_cell(bps(edge.max), edge.max),
            number_cell(*_hourly(open_)),
            number_cell(NONE if profit is None else signed(profit), profit),
        ]
    return "".join(cells)


def _hourly(open_: Episodes | None) -> tuple[str, float | None]:
    per_hour = None if open_ is None else open_.per_hour
    return number(per_hour, 1), per_hour
