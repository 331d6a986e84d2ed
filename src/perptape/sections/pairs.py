"""Pairs in a table, ranked; those of two quote currencies apart and unranked."""

from collections.abc import Sequence

from perptape.findings import Pair, Report, Spread, ranked
from perptape.instruments import quote_of
from perptape.sections.elements import esc, name, number_cell, row_head
from perptape.wording import NONE, bps, duration, instrument_of, money, names_of, percent

GAP, EDGE, REST = (
    ("mean", "median", "p5", "p95", "max"),
    ("median", "max", "above 0"),
    ("Top size", "Trusted"),
)
OTHER = (
    "<h3>Different quote currencies, not ranked</h3>"
    '<p class="soft">These gaps contain the exchange rate of the two quote currencies '
    "(USDT against USD, for example), so they are not comparable with those of one currency, "
    "nor with each other.</p>"
)


def pairs(report: Report) -> str:
    if not report.pairs:
        return ""
    markets = [m.market for m in report.markets]
    same = ranked(report.pairs)
    other = [p for p in report.pairs if not p.same_quote and p.gap_bps]
    heard = {m.market for m in report.markets if m.trusted_s}
    dead = [m for m in markets if m not in heard]
    silent = [p for p in report.pairs if not p.gap_bps and {p.sell, p.buy} <= heard]
    head = "The pairs, ranked by median gap" if same else "The pairs"
    hint = "In bps, on time in which both were trusted. A heading sorts the table by its column."
    return "".join(
        [
            f'<section id="pairs"><h2>{head}</h2><p class="soft">{hint}</p>',
            _table(same, markets, report) if same else "",
            OTHER + _table(other, markets, report) if other else "",
            _silent(silent, dead, markets) if silent or dead else "",
            "</section>",
        ]
    )


def _silent(pairs: Sequence[Pair], dead: Sequence[str], markets: Sequence[str]) -> str:
    names = names_of(markets)
    said = [
        f"<li>sell {esc(names[p.sell])}, buy {esc(names[p.buy])}: {esc(p.reason or NONE)}</li>"
        for p in pairs
    ]
    if dead:
        who = ", ".join(names[m] for m in dead)
        said.append(f"<li>all pairs of {esc(who)}: never trusted at the same time</li>")
    return f'<h3>Pairs without a number</h3><ul class="soft">{"".join(said)}</ul>'


def _table(pairs: Sequence[Pair], markets: Sequence[str], report: Report) -> str:
    sized = {p.edge_notional for p in pairs}
    at = f" at {money(report.choice.notional)}" if sized == {report.choice.notional} else ""
    rows = "".join(f"<tr>{_row(p, markets)}</tr>" for p in pairs)
    return (
        '<div class="scroll wide stick" tabindex="0"><table class="sortable"><thead>'
        f"<tr><th></th><th></th>{_group('Gap, before fees', GAP)}"
        f"{_group(f'Edge{at}, after both taker fees', EDGE)}<th></th><th></th></tr>"
        '<tr><th scope="col" class="text">Sell at bid of</th>'
        f'<th scope="col" class="text">Buy at ask of</th>{_heads()}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _group(label: str, columns: Sequence[str]) -> str:
    span = len(columns)
    return f'<th class="group" colspan="{span}" scope="colgroup"><span>{label}</span></th>'


def _heads() -> str:
    firsts = {0, len(GAP), len(GAP) + len(EDGE)}
    return "".join(
        f'<th scope="col"{" class=first" if k in firsts else ""}>'
        f'<button type="button" data-column="{k + 2}">{head}</button></th>'
        for k, head in enumerate((*GAP, *EDGE, *REST))
    )


def _row(pair: Pair, markets: Sequence[str]) -> str:
    gap, edge = pair.gap_bps or Spread(), pair.edge_bps or Spread()
    in_gap = (gap.mean, gap.median, gap.p5, gap.p95, gap.max)
    top = money(pair.top_notional)
    size = top if pair.top_notional is None else f"{top} {quote_of(instrument_of(pair.buy))}"
    cells = [
        row_head(name(pair.sell, markets)),
        f'<td class="text">{name(pair.buy, markets)}</td>',
        *(number_cell(bps(v), v, first=k == 0) for k, v in enumerate(in_gap)),
        number_cell(bps(edge.median), edge.median, first=True),
        number_cell(bps(edge.max), edge.max),
        number_cell(percent(edge.share_positive), edge.share_positive),
        number_cell(size, pair.top_notional, first=True),
        number_cell(duration(pair.trusted_s), pair.trusted_s),
    ]
    return "".join(cells)
