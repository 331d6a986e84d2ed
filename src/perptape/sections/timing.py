"""The venues' clocks, how late their messages come, and who moves first."""

from collections.abc import Sequence

from perptape.findings import Clock, Lead, Market, Pair, Report
from perptape.sections.elements import Row, esc, number_cell, row_head, table, text_cell
from perptape.wording import NONE, THIN, labels, listed, number, percent

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
CLOCKS = (
    '<p class="soft">Offset is the venue\'s clock less ours, from questions and answers about the '
    "time; it is right to the bound behind it, whatever way the messages took. Latency is from the "
    "venue's stamp, put on our clock, to our receipt; below zero a stamp is not what it claims to "
    "be, and that is told, never clipped.</p>"
)
LEADS = (
    '<p class="soft">The lag at which the two prices move together most (Hayashi and Yoshida), '
    "with the interval of resampled blocks widened by what the clocks may be wrong. A leader is "
    "named only where that interval does not hold zero.</p>"
)


TIMED = (
    '<p class="soft">Quotes and books are in the order of the venues\' own stamps, put on our '
    "clock. The bound is how wrong a market's times may be; two markets may be wrong against each "
    "other by the bounds of both, and what lasts less than that is not resolved. A market whose "
    "clock or stamps do not allow it stays on the time of receipt.</p>"
)
STAMPS = {
    "event": "its matching time",
    "send": "its time of sending",
    "recv": "our receipt",
}


def timing(report: Report) -> str:
    has_leads = any(lead.lag_ms is not None for lead in report.leads)
    timed = [market for market in report.markets if market.clock is not None]
    if not (report.clocks or has_leads or timed):
        return ""
    return (
        '<section id="timing"><h2>Clocks, latency, and who moves first</h2>'
        f"{_timed(timed)}{_clocks(report.clocks)}{_leads(report.leads)}</section>"
    )


def _timed(markets: Sequence[Market]) -> str:
    if not markets:
        return ""
    heads = ["<Market", "<Time", "Bound", "Unstamped", "Stamped after it came", "Too late", "<Why"]
    rows = [
        [
            row_head(esc(market.market)),
            text_cell(STAMPS[clock.on]),
            number_cell(NONE if clock.error_ms is None else _bound(clock.error_ms)),
            *(number_cell(number(n, 0)) for n in (clock.unstamped, clock.early, clock.late)),
            text_cell(clock.reason or NONE, "wrap"),
        ]
        for market in markets
        if (clock := market.clock) is not None
    ]
    return TIMED + table(heads, rows, "stick")


def resolution_words(pair: Pair) -> str:
    """Say what the clocks of a pair on the venues' own time do not resolve."""
    if pair.clock_error_ms is None:
        return ""
    said = f"The two markets' times are right to {_bound(pair.clock_error_ms)} of each other"
    if not pair.unresolved_delays_ms:
        return f"{said}."
    short = listed([f"{delay:g}" for delay in pair.unresolved_delays_ms])
    return f"{said}: what lasts less, as what was left after {short} ms, is not resolved."


def _clocks(clocks: Sequence[Clock]) -> str:
    if not clocks:
        return ""
    heads = ["<Venue", "Clock offset", "Drift", "Latency least", "Median", "p99", "Bound"]
    heads += ["Below zero", "Answers", "<Not known"]
    return CLOCKS + table(heads, [_clock(c) for c in clocks], "stick")


def _clock(clock: Clock) -> Row:
    steps = f", {clock.steps} steps" if clock.steps else ""
    return [
        row_head(esc(clock.venue)),
        number_cell(_bounded(clock.offset_ms, clock.error_ms) + steps),
        number_cell(_drift(clock)),
        *(
            number_cell(_ms(x))
            for x in (clock.latency_least_ms, clock.latency_p50_ms, clock.latency_p99_ms)
        ),
        number_cell(NONE if clock.latency_error_ms is None else _bound(clock.latency_error_ms)),
        number_cell(percent(clock.share_negative)),
        number_cell(str(clock.samples)),
        text_cell(clock.reason or NONE, "wrap"),
    ]


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{number(value, 1)} ms"


def _bound(value: float) -> str:
    return f"{PLUS_MINUS}{number(value, 1)} ms"


def _bounded(value: float | None, error: float | None) -> str:
    if value is None or error is None:
        return NONE
    return f"{number(value, 1)} {PLUS_MINUS} {number(error, 1)} ms"


def _drift(clock: Clock) -> str:
    if clock.skew_low_ppm is None or clock.skew_high_ppm is None:
        return NONE
    return f"{number(clock.skew_low_ppm, 0)} to {number(clock.skew_high_ppm, 0)} ppm"


# ---- leads --------------------------------------------------------------------------------------


def _leads(leads: Sequence[Lead]) -> str:
    known = [lead for lead in leads if lead.lag_ms is not None]
    if not known:
        return ""
    known.sort(key=lambda lead: (lead.leader is None, lead.first, lead.second))
    heads = ["<Market", "<Beside", "Lag", "95 % interval", "Correlation", "<Moves first"]
    made = table(heads, [_lead(lead) for lead in known], "stick")
    named = sum(lead.leader is not None for lead in known)
    label = f"Who moves first, pair by pair ({named} of {len(known)} named)"
    return f"<h3>Who moves first</h3>{LEADS}<details><summary>{label}</summary>{made}</details>"


def _lead(lead: Lead) -> Row:
    return [
        row_head(esc(lead.first)),
        text_cell(lead.second),
        number_cell(_ms(lead.lag_ms)),
        number_cell(_interval(lead)),
        number_cell(number(lead.correlation, 2)),
        text_cell(lead.leader or f"not named: {lead.reason}", "wrap"),
    ]


def _interval(lead: Lead) -> str:
    if lead.lag_low_ms is None or lead.lag_high_ms is None:
        return NONE
    return f"{number(lead.lag_low_ms, 0)} to {number(lead.lag_high_ms, 0)} ms"


def lead_words(lead: Lead) -> str:
    """Say who moves first in a sentence, for beside the curve."""
    clock = "the venues' own stamps" if lead.clock == "event" else "when we heard of it"
    if lead.lag_ms is None:
        return f"No lag: {lead.reason}."
    first, second = labels(lead.first, lead.second)
    if lead.leader is None:
        return f"By {clock}: {lead.reason}."
    follows = second if lead.leader == lead.first else first
    leads = first if lead.leader == lead.first else second
    lag = f"{number(abs(lead.lag_ms), 0)}{THIN}ms"
    return f"By {clock} {leads} moves {lag} before {follows} (95 % interval {_interval(lead)})."
