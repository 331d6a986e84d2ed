"""The frame of the charts of one pair, and the pair in a sentence."""

from perptape.findings import Carry, Pair, Report
from perptape.sections.elements import coin_of, esc
from perptape.sections.matrix import chooser
from perptape.wording import bps, duration, labels, number, percent

ZOOM = (
    ("in", "+", "zoom in"),
    ("out", "\N{MINUS SIGN}", "zoom out"),
    ("left", "\N{LEFTWARDS ARROW}", "earlier"),
    ("right", "\N{RIGHTWARDS ARROW}", "later"),
    ("all", "All", "show all"),
)
STEPS = (
    '<p class="soft">Each step of a line is <span id="step"></span> long: the line is the last '
    "value in it, the band around it runs from the lowest to the highest, "
    "so no extreme is lost.</p>"
)


def one_pair(report: Report) -> str:
    """The script of the page fills it."""
    if not report.pairs:
        return ""
    known = any(p.gap_bps for p in report.pairs)
    options = "".join(
        f'<option value="{k}">{esc(_label(p))}</option>'
        for k, p in enumerate(report.pairs)
        if p.gap_bps or not known
    )
    zoom = "".join(
        f'<button type="button" data-zoom="{key}" aria-label="{label}">{sign}</button>'
        for key, sign, label in ZOOM
    )
    which = f"<select id='choice' aria-label='Pair'>{options}</select>"
    heading = "One pair" if report.has_sizes or report.leads else "One pair in time"
    return (
        f'<section id="pair"><h2>{heading}</h2>'
        f'<div class="choose">{which}<div class="zoom">{zoom}</div></div>'
        f"{chooser(report)}"
        '<p id="pair-words"></p><p id="size-words"></p><p id="funding-words"></p>'
        '<p id="tie-words"></p>'
        f'{STEPS}<p class="at" id="at"></p>'
        '<div id="charts"><noscript>The charts need JavaScript; every number is in the tables.'
        '</noscript></div><div id="curves"></div></section>'
    )


def _label(pair: Pair) -> str:
    coin = coin_of(pair.sell)
    other = "" if pair.same_quote else " (different quote currencies)"
    sell, buy = labels(pair.sell, pair.buy)
    return f"{coin}: sell {sell}, buy {buy}{other}"


def pair_words(pair: Pair) -> str:
    """Say a pair's numbers in sentences, for above its charts."""
    said = [f"Sell at the bid of {pair.sell}, buy at the ask of {pair.buy}."]
    if gap := pair.gap_bps:
        said.append(
            f"Gap: median {bps(gap.median)}, mean {bps(gap.mean)}, "
            f"from {bps(gap.min)} to {bps(gap.max)} bps."
        )
    if grid := pair.grid:
        said.append(f"Looked at every {grid.step_ms} ms its median is {bps(grid.median)} bps.")
    if (edge := pair.edge_bps) and not pair.sizes:  # with sizes the script says it of the chosen
        said.append(
            f"Edge after both taker fees: median {bps(edge.median)}, at best {bps(edge.max)} bps, "
            f"above zero at {percent(edge.share_positive)} of the updates."
        )
    return " ".join([*said, f"No numbers: {pair.reason}."] if pair.reason else said)


def funding_words(pair: Pair, report: Report) -> str:
    """Say what funding does to a pair: what is expected, and what was paid."""
    carry = pair.carry
    if carry is None:
        return ""
    sell, buy = labels(pair.sell, pair.buy)
    return " ".join([*_expected(pair, carry, report, (sell, buy)), *_paid(carry)])


def _expected(pair: Pair, carry: Carry, report: Report, names: tuple[str, str]) -> list[str]:
    known = {m.market: m.funding for m in report.markets}
    short, long = known[pair.sell], known[pair.buy]
    if short is None or long is None or carry.expected_carry_bps_per_h is None:
        return []
    legs = " and ".join(
        f"{bps(leg.rate_bps_per_h)} bps per hour on {name}"
        + (f" (paid each {leg.interval_h:g} h)" if leg.interval_h else "")
        for leg, name in ((short, names[0]), (long, names[1]))
    )
    gains = carry.expected_carry_bps_per_h
    does = f"{'earns' if gains > 0 else 'pays'} {bps(abs(gains))} bps per hour"
    said = [f"Funding told last: {legs}; short the first and long the second {does}."]
    if carry.expected_break_even_h is not None and carry.cost_bps is not None:
        held = duration(3600 * carry.expected_break_even_h)
        said.append(f"Held for {held} that pays a round trip of {bps(carry.cost_bps)} bps.")
    return said


def _paid(carry: Carry) -> list[str]:
    if carry.carry_bps_per_h is None:
        return []
    hours = number(carry.common_h, 0)
    rate = f"{bps(carry.carry_bps_per_h)} bps per hour"
    said = [f"Over the {hours} h that settlements of both paid for it was {rate}."]
    if carry.break_even_h is not None:
        said.append(
            f"At that the round trip is paid for after {duration(3600 * carry.break_even_h)}."
        )
    return said
