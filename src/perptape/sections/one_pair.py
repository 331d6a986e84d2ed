"""The frame of the charts of one pair, and the pair in a sentence."""

from perptape.findings import Pair, Report
from perptape.sections.elements import coin_of, esc
from perptape.wording import bps, labels, percent

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
    options = "".join(
        f'<option value="{k}">{esc(_label(p))}</option>' for k, p in enumerate(report.pairs)
    )
    zoom = "".join(
        f'<button type="button" data-zoom="{key}" aria-label="{label}">{sign}</button>'
        for key, sign, label in ZOOM
    )
    chooser = f"<select id='choice' aria-label='Pair'>{options}</select>"
    return (
        '<section id="pair"><h2>One pair in time</h2>'
        f'<div class="choose">{chooser}<div class="zoom">{zoom}</div></div>'
        f'<p id="pair-words"></p>{STEPS}<p class="at" id="at"></p>'
        '<div id="charts"><noscript>The charts need JavaScript; every number is in the tables.'
        "</noscript></div></section>"
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
    if edge := pair.edge_bps:
        said.append(
            f"Edge after both taker fees: median {bps(edge.median)}, at best {bps(edge.max)} bps, "
            f"above zero at {percent(edge.share_positive)} of the updates."
        )
    return " ".join([*said, f"No numbers: {pair.reason}."] if pair.reason else said)
