"""All ordered pairs of a coin at a glance: a row sells, a column buys."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from perptape.findings import Choice, Pair, Report, Sized
from perptape.sections.elements import coin_of, esc, name
from perptape.wording import NONE, bps, instrument_of, money, number, percent

Value = Callable[[Pair], float | None]
Metric = tuple[str, str, Value]
GAP: Metric = ("gap", "gap, median", lambda p: p.gap_bps.median if p.gap_bps else None)
EDGE: Metric = ("edge", "edge, median", lambda p: p.edge_bps.median if p.edge_bps else None)
SHARE: Metric = (
    "share",
    "share of gap above zero",
    lambda p: p.gap_bps.share_positive if p.gap_bps else None,
)
GRID: Metric = ("grid", "gap every 100 ms, median", lambda p: p.grid.median if p.grid else None)
"""Name, label, value; the style sheet shows the chosen one."""
WRITTEN: Mapping[str, Callable[[float | None], str]] = {
    "share": percent,
    "rate": lambda x: number(x, 1),
    "earned": money,
}
"""How a value is written, if not as bps; the page's script does the same."""
CHOSEN = (
    '<p class="soft" id="chosen">Size is in the quote currency of the purchase; the delay is that '
    "of both legs, from seeing an edge above zero to trading. An edge after the delay, and what "
    "was earned, are of takes that were worth it when they were decided: what is seen later may "
    "be a loss.</p>"
)
Cells = Mapping[tuple[str, str], tuple[int, Pair]]


def matrix(report: Report) -> str:
    if not report.pairs:
        return ""
    metrics = metrics_of(report)
    switch = "".join(
        f'<label><input type="radio" name="by" id="by-{key}"{" checked" if key == "gap" else ""}> '
        f"{label}</label>"
        for key, label, _ in metrics
    )
    coins = sorted({coin_of(p.sell) for p in report.pairs})
    return (
        '<section id="matrix"><h2>Every pair at a glance</h2>'
        '<p class="soft">A row sells at its bid, a column buys at its ask. In bps; blue is above '
        "zero, orange below. Choose a cell to see the pair in time."
        f"{_dashed(report.pairs)}</p><fieldset><legend>Show</legend>{switch}</fieldset>"
        f"{chooser(report)}{CHOSEN if report.has_sizes else ''}"
        '<div class="matrices">'
        f"{''.join(_matrix(coin, report, metrics) for coin in coins)}</div></section>"
    )


def metrics_of(report: Report) -> tuple[Metric, ...]:
    """Name what a cell can show: without sizes what the gaps alone say."""
    if not report.has_sizes:
        return (GAP, EDGE, SHARE, GRID)
    choice = report.choice
    per_day = any(
        t.profit_per_day is not None for p in report.pairs for s in p.sizes for t in s.takes
    )
    return (
        GAP,
        ("edge", "edge at the size, median", lambda p: _of_size(p, choice, _median)),
        ("kept", "edge after the delay, mean", lambda p: _kept(p, choice)),
        ("rate", "episodes per hour", lambda p: _of_size(p, choice, _per_hour)),
        (
            "earned",
            "earned per trusted day" if per_day else "earned in this time",
            lambda p: _earned(p, choice, per_day=per_day),
        ),
        SHARE,
        GRID,
    )


def _of_size(pair: Pair, choice: Choice, value: Callable[[Sized], float | None]) -> float | None:
    sized = pair.sized(choice.notional)
    return None if sized is None else value(sized)


def _median(sized: Sized) -> float | None:
    return sized.edge_bps.median if sized.edge_bps else None


def _per_hour(sized: Sized) -> float | None:
    return sized.episodes.per_hour if sized.episodes else None


def _kept(pair: Pair, choice: Choice) -> float | None:
    sized = pair.sized(choice.notional)
    found = None if sized is None else sized.delayed(choice.delay_ms)
    return None if found is None else found.mean_bps


def _earned(pair: Pair, choice: Choice, *, per_day: bool) -> float | None:
    sized = pair.sized(choice.notional)
    taken = None if sized is None else sized.taken(choice.delay_ms)
    if taken is None:
        return None
    return taken.profit_per_day if per_day else taken.profit


def chooser(report: Report) -> str:
    """Choose size, delay and fees; the page has it twice, and both say the same."""
    if not report.has_sizes:
        return ""
    choice = report.choice
    sizes = _options([(n, money(n)) for n in choice.notionals], [choice.notional])
    delays = _options([(d, f"{d:g} ms") for d in choice.delays_ms], [choice.delay_ms])
    names = [(tier, esc(tier)) for tier in choice.tiers]
    fees = f'<label>Fees <select class="tier">{_options(names, choice.tiers[:1])}</select></label>'
    return (
        f'<div class="choose by"><label>Size <select class="size">{sizes}</select></label>'
        f'<label>Delay <select class="delay">{delays}</select></label>'
        f"{fees if len(names) > 1 else ''}</div>"
    )


def _options(values: Sequence[tuple[object, str]], chosen: Sequence[object]) -> str:
    return "".join(
        f'<option value="{k}"{" selected" if value in chosen else ""}>{text}</option>'
        for k, (value, text) in enumerate(values)
    )


def _dashed(pairs: Sequence[Pair]) -> str:
    other = any(not p.same_quote for p in pairs)
    return " A dashed cell compares different quote currencies." if other else ""


def _matrix(coin: str, report: Report, metrics: Sequence[Metric]) -> str:
    own = [m for m in report.markets if coin_of(m.market) == coin]
    markets = [m.market for m in own if m.trusted_s] or [m.market for m in own]
    cells = {(p.sell, p.buy): (k, p) for k, p in enumerate(report.pairs) if coin_of(p.sell) == coin}
    tops = {key: _top(value, (p for _, p in cells.values())) for key, _, value in metrics}
    above = "".join(f'<th scope="col" title="{esc(m)}">{name(m, markets)}</th>' for m in markets)
    rows = "".join(_row(sell, markets, cells, tops, metrics) for sell in markets)
    same = {instrument_of(m) for m in markets}
    return (
        '<div class="scroll matrix stick" tabindex="0"><table>'
        f"<caption>{esc(same.pop() if len(same) == 1 else coin)}</caption><thead><tr>"
        '<th class="corner">sell \N{DOWNWARDS ARROW} &nbsp; buy \N{RIGHTWARDS ARROW}</th>'
        f"{above}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(
    sell: str,
    markets: Sequence[str],
    cells: Cells,
    tops: Mapping[str, float],
    metrics: Sequence[Metric],
) -> str:
    inner = "".join(f"<td>{_cell(cells.get((sell, buy)), tops, metrics)}</td>" for buy in markets)
    return f'<tr><th scope="row" title="{esc(sell)}">{name(sell, markets)}</th>{inner}</tr>'


def _top(value: Value, pairs: Iterable[Pair]) -> float:
    return max((abs(v) for p in pairs if (v := value(p)) is not None), default=0.0)


def _cell(
    found: tuple[int, Pair] | None, tops: Mapping[str, float], metrics: Sequence[Metric]
) -> str:
    if found is None:
        return ""
    index, pair = found
    if pair.gap_bps is None:
        return f'<span class="none" title="{esc(pair.reason or "")}">{NONE}</span>'
    return "".join(_shown(key, value(pair), tops[key], index, pair) for key, _, value in metrics)


def _shown(key: str, value: float | None, top: float, index: int, pair: Pair) -> str:
    text = WRITTEN.get(key, bps)(value)
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
