"""All ordered pairs of a coin at a glance: a row sells, a column buys."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from perptape.findings import Pair, Report
from perptape.sections.elements import coin_of, esc, name
from perptape.wording import NONE, bps, instrument_of, percent

Value = Callable[[Pair], float | None]
METRICS: tuple[tuple[str, str, Value], ...] = (
    ("gap", "gap, median", lambda p: p.gap_bps.median if p.gap_bps else None),
    ("edge", "edge, median", lambda p: p.edge_bps.median if p.edge_bps else None),
    ("share", "share of gap above zero", lambda p: p.gap_bps.share_positive if p.gap_bps else None),
    ("grid", "gap every 100 ms, median", lambda p: p.grid.median if p.grid else None),
)
"""Name, label, value; the style sheet shows the chosen one."""
Cells = Mapping[tuple[str, str], tuple[int, Pair]]


def matrix(report: Report) -> str:
    if not report.pairs:
        return ""
    switch = "".join(
        f'<label><input type="radio" name="by" id="by-{key}"{" checked" if key == "gap" else ""}> '
        f"{label}</label>"
        for key, label, _ in METRICS
    )
    coins = sorted({coin_of(p.sell) for p in report.pairs})
    return (
        '<section id="matrix"><h2>Every pair at a glance</h2>'
        '<p class="soft">A row sells at its bid, a column buys at its ask. In bps; blue is above '
        "zero, orange below. Choose a cell to see the pair in time."
        f"{_dashed(report.pairs)}</p><fieldset><legend>Show</legend>{switch}</fieldset>"
        f'<div class="matrices">{"".join(_matrix(coin, report) for coin in coins)}</div></section>'
    )


def _dashed(pairs: Sequence[Pair]) -> str:
    other = any(not p.same_quote for p in pairs)
    return " A dashed cell compares different quote currencies." if other else ""


def _matrix(coin: str, report: Report) -> str:
    markets = [m.market for m in report.markets if coin_of(m.market) == coin]
    cells = {(p.sell, p.buy): (k, p) for k, p in enumerate(report.pairs) if coin_of(p.sell) == coin}
    tops = {key: _top(value, (p for _, p in cells.values())) for key, _, value in METRICS}
    above = "".join(f'<th scope="col" title="{esc(m)}">{name(m, markets)}</th>' for m in markets)
    rows = "".join(_row(sell, markets, cells, tops) for sell in markets)
    same = {instrument_of(m) for m in markets}
    return (
        '<div class="scroll matrix stick" tabindex="0"><table>'
        f"<caption>{esc(same.pop() if len(same) == 1 else coin)}</caption><thead><tr>"
        '<th class="corner">sell \N{DOWNWARDS ARROW} &nbsp; buy \N{RIGHTWARDS ARROW}</th>'
        f"{above}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(sell: str, markets: Sequence[str], cells: Cells, tops: Mapping[str, float]) -> str:
    inner = "".join(f"<td>{_cell(cells.get((sell, buy)), tops)}</td>" for buy in markets)
    return f'<tr><th scope="row" title="{esc(sell)}">{name(sell, markets)}</th>{inner}</tr>'


def _top(value: Value, pairs: Iterable[Pair]) -> float:
    return max((abs(v) for p in pairs if (v := value(p)) is not None), default=0.0)


def _cell(found: tuple[int, Pair] | None, tops: Mapping[str, float]) -> str:
    if found is None:
        return ""
    index, pair = found
    if pair.gap_bps is None:
        return f'<span class="none" title="{esc(pair.reason or "")}">{NONE}</span>'
    return "".join(_shown(key, value(pair), tops[key], index, pair) for key, _, value in METRICS)


def _shown(key: str, value: float | None, top: float, index: int, pair: Pair) -> str:
    text = percent(value) if key == "share" else bps(value)
    shade = shade_of(value, 1.0 if key == "share" else top)
    other = "" if pair.same_quote else " other"
    title = esc(f"sell {pair.sell}, buy {pair.buy}")
    return (
        f'<a class="{key} {shade}{other}" href="#pair" data-pair="{index}" '
        f'title="{title}">{text}</a>'
    )


def shade_of(value: float | None, top: float) -> str:
    """``p1``..``p4`` above zero, ``n1``..``n4`` below, in quarters of the largest; ``z`` for 0."""
    if value is None or not value or not top:
        return "z"
    quarter = min(4, 1 + int(3.999 * abs(value) / top))
    return f"{'p' if value > 0 else 'n'}{quarter}"
