"""How much of each market was heard: a table, strips in time, and every hole by itself."""

from collections.abc import Iterable, Sequence

from perptape.findings import Interval, Latency, Market, Report
from perptape.sections.elements import Row, esc, number_cell, row_head, table, text_cell
from perptape.wording import NONE, duration, number, percent, utc

STRIP_PARTS = 1500
"""Untrusted stretches closer than this part of the whole are drawn as one."""
INTERVALS_LISTED = 200
"""Rows of the table of untrusted time; more are counted, not shown."""


def completeness(report: Report) -> str:
    return (
        '<section id="complete"><h2>How complete it is</h2>'
        f"{_heard(report.markets)}{_channels(report.markets)}{_strips(report)}"
        f"{_intervals(report.markets)}</section>"
    )


def _channels(markets: Sequence[Market]) -> str:
    """Tell how much of the other channels is trusted, if any were recorded."""
    names = sorted({c.channel for m in markets for c in m.channels})
    if not names:
        return ""
    rows = [
        [row_head(esc(m.market)), *(number_cell(_share(m, name)) for name in names)]
        for m in markets
    ]
    heads = ["<Market", *(name.capitalize() for name in names)]
    made = table(heads, rows, "stick")
    return f"<details><summary>Share of the other channels trusted</summary>{made}</details>"


def _share(market: Market, name: str) -> str:
    found = next((c for c in market.channels if c.channel == name), None)
    whole = 0.0 if found is None else found.trusted_s + found.untrusted_s
    return NONE if found is None or not whole else percent(found.trusted_s / whole)


def _heard(markets: Sequence[Market]) -> str:
    is_timed = any(m.latency_ms for m in markets)
    heads = ["<Market", "Quotes", "Trusted", "Untrusted", "Share trusted"]
    heads += ["Latency median", "Latency p99"] if is_timed else []
    note = (
        '<p class="note">Latency is receive time minus the venue\'s matching time: transit and the '
        "difference of two clocks together, so it can be negative.</p>"
    )
    made = table(heads, [_heard_row(m, is_timed=is_timed) for m in markets], "stick")
    return made + (note if is_timed else "")


def _heard_row(market: Market, *, is_timed: bool) -> Row:
    return [
        row_head(esc(market.market)),
        number_cell(number(market.quotes, 0)),
        number_cell(duration(market.trusted_s)),
        number_cell(duration(market.untrusted_s) if market.untrusted_s else "none"),
        number_cell(percent(market.trusted_share)),
        *(_latency_cells(market.latency_ms) if is_timed else ()),
    ]


def _latency_cells(latency: Latency | None) -> Iterable[str]:
    known = (None, None) if latency is None else (latency.p50, latency.p99)
    return (number_cell(NONE if ms is None else f"{number(ms, 1)} ms") for ms in known)


# ---- strips -------------------------------------------------------------------------------------


def _strips(report: Report) -> str:
    rows = "".join(
        f'<div class="strip"><span class="name">{esc(m.market)}</span>{_strip(m, report)}</div>'
        for m in report.markets
    )
    ends = "".join(f"<span>{utc(t, 0)} UTC</span>" for t in (report.ts_from, report.ts_to))
    return (
        '<div class="strips"><p class="soft"><span class="key ok"></span>trusted'
        '<span class="key not"></span>not trusted: point at it or tap it for the reason'
        f'<span class="key idle"></span>not begun, ended, or not recorded</p>{rows}'
        f'<div class="ends">{ends}</div>'
        '<p class="why soft" id="why" aria-live="polite"></p></div>'
    )


def _strip(market: Market, report: Report) -> str:
    holes = "".join(
        _hole(market, i, report)
        for i in coalesced((*market.intervals, *market.absent), report.ts_from, report.ts_to)
    )
    whole = f'<rect class="{"ok" if market.trusted_s else "not"}" width="1000" height="16"/>'
    return (
        '<svg viewBox="0 0 1000 16" preserveAspectRatio="none" role="img" aria-label="'
        f'{esc(market.market)}: {percent(market.trusted_share)} trusted">{whole}{holes}</svg>'
    )


def _hole(market: Market, interval: Interval, report: Report) -> str:
    span = max(report.ts_to - report.ts_from, 1)
    left = 1000 * (interval.start - report.ts_from) / span
    width = max(1000 * (interval.end - interval.start) / span, 1.5)
    why = esc(_why(market, interval))
    return (
        f'<rect class="{"idle" if interval.is_expected else "not"}" x="{min(left, 998.5):.3f}" '
        f'width="{width:.3f}" height="16" data-why="{why}"><title>{why}</title></rect>'
    )


def _why(market: Market, interval: Interval) -> str:
    detail = f" ({interval.detail})" if interval.detail else ""
    return (
        f"{market.market}: {interval.reason}{detail}, {utc(interval.start)} UTC, "
        f"{duration(interval.length_s)}"
    )


def coalesced(intervals: Iterable[Interval], ts_from: int, ts_to: int) -> list[Interval]:
    """Clip to the report's time and join what cannot be told apart when drawn: a bounded list."""
    near = max((ts_to - ts_from) // STRIP_PARTS, 1)
    joined: list[Interval] = []
    for i in sorted(intervals, key=lambda i: (i.start, i.end)):
        one = Interval(max(i.start, ts_from), min(i.end, ts_to), i.reason, i.detail)
        if one.start > one.end:
            continue
        if joined and _is_one(joined[-1], one, near):
            joined[-1] = _join(joined[-1], one)
        else:
            joined.append(one)
    return joined


def _is_one(last: Interval, then: Interval, near: int) -> bool:
    """Two that are both long enough to be seen, and do not overlap, keep their own reasons."""
    is_seen = min(last.end - last.start, then.end - then.start) > near and then.start >= last.end
    return then.start - last.end <= near and not is_seen


def _join(one: Interval, then: Interval) -> Interval:
    reasons = dict.fromkeys([*one.reason.split(", "), *then.reason.split(", ")])
    detail = one.detail if one.detail == then.detail else None
    return Interval(one.start, max(one.end, then.end), ", ".join(reasons), detail)


# ---- one by one ---------------------------------------------------------------------------------


def _intervals(markets: Sequence[Market]) -> str:
    found = [(m.market, i) for m in markets for i in m.intervals]
    found.sort(key=lambda f: (f[1].start, f[0], f[1].end))
    if not found:
        return ""
    rows = [_interval_row(market, i) for market, i in found[:INTERVALS_LISTED]]
    heads = ["<Market", "From (UTC)", "To (UTC)", "For", "<Reason", "<Detail"]
    more = len(found) - len(rows)
    rest = f'<p class="note">And {more} more: perptape verify --json lists all.</p>' if more else ""
    return (
        f"<details><summary>Untrusted time, one by one ({len(found)})</summary>"
        f"{table(heads, rows, 'stick')}{rest}</details>"
    )


def _interval_row(market: str, interval: Interval) -> Row:
    return [
        row_head(esc(market)),
        number_cell(utc(interval.start)),
        number_cell(utc(interval.end)),
        number_cell(duration(interval.length_s)),
        text_cell(interval.reason),
        text_cell(interval.detail or "", "wrap"),
    ]
