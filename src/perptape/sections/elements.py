"""The pieces that all sections are made of: every word that a tape said goes through ``esc``."""

import html
import re
from collections.abc import Sequence

from perptape.instruments import base_of
from perptape.wording import instrument_of, printable, venue_of

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
Row = Sequence[str]
"""Cells as HTML."""


def esc(text: object) -> str:
    """Make text of anything, safe between tags and inside double quotes.

    What cannot be seen but changes how the rest reads (controls, marks of direction) is spelled.
    """
    return html.escape(HIDDEN.sub(lambda found: printable(found[0]), str(text)), quote=True)


def number_cell(text: str, value: float | None = None, *, first: bool = False) -> str:
    """Give a cell aligned right; ``value`` is what its column is sorted by."""
    known = "" if value is None else f' data-v="{float(value)!r}"'
    return f"<td{' class=first' if first else ''}{known}>{esc(text)}</td>"


def text_cell(text: str, *classes: str) -> str:
    """Give a cell aligned left."""
    return f'<td class="{" ".join(("text", *classes))}">{esc(text)}</td>'


def row_head(inner: str) -> str:
    """Give the first cell of a row, from HTML."""
    return f'<th scope="row">{inner}</th>'


def table(heads: Sequence[str], rows: Sequence[Row], classes: str = "") -> str:
    """Make a table that scrolls where it is too wide; a head that starts with < stands left."""
    above = "".join(_head(h) for h in heads)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll {classes}" tabindex="0"><table><thead><tr>{above}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _head(text: str) -> str:
    side = " class=text" if text.startswith("<") else ""
    return f'<th scope="col"{side}>{esc(text.removeprefix("<"))}</th>'


def coin_of(market: str) -> str:
    """``BTC`` of ``bybit:BTC-USDT-PERP``."""
    return base_of(instrument_of(market))


def name(market: str, among: Sequence[str]) -> str:
    """Give the venue as HTML, with the instrument below it unless all have the same."""
    if len({instrument_of(m) for m in among}) == 1:
        return esc(venue_of(market))
    return f"{esc(venue_of(market))}<small>{esc(instrument_of(market))}</small>"
