"""Findings -> one HTML page that needs no server and trusts nothing that a tape said.

The page holds one script and one style sheet, each allowed by its hash; the data is a block that
no browser executes. There is no time of making in it: the same findings give the same bytes.
"""

import base64
import hashlib
import html
import json
from functools import cache
from importlib.resources import files

from perptape.drawing import drawing
from perptape.findings import Report
from perptape.sections import SECTIONS
from perptape.sections.opening import title

ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def to_html(report: Report) -> str:
    """Make the whole page: one string, self-contained."""
    body = "".join(section(report) for section in SECTIONS)
    script, style = _script(), _style()
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(script, style)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{html.escape(title(report))} \N{MIDDLE DOT} perptape</title>\n"
        f"<style>{style}</style>\n</head>\n<body>\n<main>{body}</main>\n"
        f'<script type="application/json" id="series">{script_json(drawing(report))}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def policy(script: str, style: str) -> str:
    """Write the content security policy: this script, this style sheet, nothing from anywhere."""
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def script_json(value: object) -> str:
    """Write JSON that can stand inside a script element: no character of it can end the element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(
        ESCAPES
    )


@cache
def _asset(name: str) -> str:
    return (files("perptape") / "assets" / name).read_text(encoding="utf-8")


def _script() -> str:
    licence = f"/*\nuPlot 1.6.32\n{_asset('uplot.LICENSE')}\n*/\n"
    return licence + _asset("uPlot.iife.min.js") + "\n" + _asset("report.js")


def _style() -> str:
    return _asset("uPlot.min.css") + "\n" + _asset("report.css")
