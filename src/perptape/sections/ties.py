"""How the prices of two markets hang together: the basis, and where the price is made."""

from collections.abc import Sequence

from perptape.findings import Report, Tie
from perptape.sections.elements import Row, name, number_cell, row_head, table, text_cell
from perptape.wording import NONE, THIN, bps, duration, labels, number, percent

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
HALF = 0.5
SURE, SURE_P = 0.05, 0.001
WORDS = (
    '<p class="soft">The basis is the mid of the one market over that of the other. Its half-life '
    "is the time in which a deviation halves if it returns at all (Ornstein and Uhlenbeck): noise "
    "within the steps makes it shorter. That it returns is said where the augmented Dickey-Fuller "
    "test rules out that it never does (5 %). The share of information is how much of the common "
    "price is made in the first of the two (Hasbrouck): its two bounds are wide where both move "
    "within the same step; the component share (Gonzalo and Granger) has no bounds. By our receive "
    "times a slow feed looks like a market that follows.</p>"
)


def ties(report: Report) -> str:
    """Give a row for each two markets of which anything is known."""
    known = [t for t in report.ties if t.mean_bps is not None]
    if not known:
        return ""
    markets = [m.market for m in report.markets]
    basis = ["<Market", "<Over", "Mean, bps", "Deviation", "Last", "z-score", "Half-life"]
    basis += ["95 % interval", "<Returns", "Steps"]
    made = ["<Share of", "<Beside", "Bounds", "Middle", "Component", "Correlation", "Windows"]
    made += ["<Not known"]
    label = f"pair by pair ({len(known)})"
    return (
        f'<section id="ties"><h2>The basis, and where the price is made</h2>{WORDS}'
        f"<details><summary>The basis, {label}</summary>"
        f"{table(basis, [_basis(t, markets) for t in known], 'stick')}</details>"
        f"<details><summary>Where the price is made, {label}</summary>"
        f"{table(made, [_made_in(t, markets) for t in known], 'stick')}</details></section>"
    )


def _basis(tie: Tie, markets: Sequence[str]) -> Row:
    return [
        *_names(tie, markets),
        number_cell(bps(tie.mean_bps)),
        number_cell(bps(tie.std_bps)),
        number_cell(bps(tie.last_bps)),
        number_cell(number(tie.last_z, 1)),
        number_cell(NONE if tie.half_life_s is None else duration(tie.half_life_s)),
        number_cell(_interval(tie)),
        text_cell(_returns(tie), "wrap"),
        number_cell(duration(tie.step_s)),
    ]


def _made_in(tie: Tie, markets: Sequence[str]) -> Row:
    error = "" if tie.share_error is None else f" {PLUS_MINUS} {_percent(tie.share_error)}"
    middle = NONE if tie.share_mid is None else f"{_percent(tie.share_mid)}{error}{THIN}%"
    apart = f", {tie.windows_apart} left out" if tie.windows_apart else ""
    return [
        *_names(tie, markets),
        number_cell(_shares(tie)),
        number_cell(middle),
        number_cell(percent(tie.component)),
        number_cell(number(tie.correlation, 2)),
        number_cell(f"{tie.windows}{apart}"),
        text_cell(tie.shares_reason or NONE, "wrap"),
    ]


def _names(tie: Tie, markets: Sequence[str]) -> Row:
    return [
        row_head(name(tie.first, markets)),
        f'<td class="text">{name(tie.second, markets)}</td>',
    ]


def _interval(tie: Tie) -> str:
    if tie.half_life_s is None or tie.half_life_low_s is None:
        return NONE
    high = "any" if tie.half_life_high_s is None else duration(tie.half_life_high_s)
    return f"{duration(tie.half_life_low_s)} to {high}"


def _returns(tie: Tie) -> str:
    if tie.adf_p_value is None:
        return tie.reason or NONE
    p = f"p < {SURE_P:g}" if tie.adf_p_value < SURE_P else f"p = {tie.adf_p_value:.2g}"
    return f"{'yes' if tie.adf_p_value < SURE else 'not sure'}, {p}"


def _shares(tie: Tie) -> str:
    if tie.share_low is None or tie.share_high is None:
        return NONE
    return f"{_percent(tie.share_low)} to {_percent(tie.share_high)}{THIN}%"


def _percent(share: float) -> str:
    """Round to whole percents, but never to none or all."""
    if 0 < min(share, 1 - share) < HALF / 100:
        return "< 1" if share < HALF else "> 99"
    return number(100 * share, 0)


# ---- in a sentence ------------------------------------------------------------------------------


def tie_words(tie: Tie) -> str:
    """Say the basis of two markets, and where the price is made, for above their charts."""
    if tie.mean_bps is None:
        return ""
    names = labels(tie.first, tie.second)
    return " ".join([_lying(tie, names), *_returning(tie), *_made(tie, names)])


def _lying(tie: Tie, names: Sequence[str]) -> str:
    last = f", {bps(tie.last_bps)} at the end"
    z = "" if tie.last_z is None else f" (z-score {number(tie.last_z, 1)})"
    return (
        f"Basis, mid of {names[0]} over mid of {names[1]}: {bps(tie.mean_bps)} {PLUS_MINUS} "
        f"{bps(tie.std_bps)} bps{last}{z}."
    )


def _returning(tie: Tie) -> list[str]:
    if tie.half_life_s is None:
        return []
    if tie.half_life_high_s is None:
        return ["That it returns to its mean is not sure from this."]
    halves = f"A deviation halves in {duration(tie.half_life_s)} (95{THIN}%: {_interval(tie)})"
    return [f"{halves}, looked at every {duration(tie.step_s)}."]


def _made(tie: Tie, names: Sequence[str]) -> list[str]:
    if tie.share_low is None or tie.share_high is None:
        return []
    said = f"Of the common price {_shares(tie)} is made on {names[0]} (share of information"
    said += "" if tie.component is None else f"; component share {percent(tie.component)}"
    if tie.share_low > HALF:
        return [f"{said}): more than on {names[1]}."]
    if tie.share_high < HALF:
        return [f"{said}): less than on {names[1]}."]
    return [f"{said}): it does not say on which more."]
