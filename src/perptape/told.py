"""Findings -> JSON for programs: all that the page shows, and what was not computed is absent."""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from perptape.findings import Report
from perptape.sections.opening import verdict
from perptape.series import Drawn, Series
from perptape.wording import THIN

Rounded = Callable[[NDArray[np.float64]], list[float]]
PRICE_DIGITS, BPS_DIGITS = 10, 4
"""Significant digits of a drawn price; decimals of drawn bps."""
UNITS, S_DIGITS, MS_DIGITS = ("_s", "_ms"), 9, 6
"""Times are counted in whole ns, so these are all the decimals there are."""


def to_json(report: Report) -> bytes:
    """Give the figures for programs: what was not computed is absent, never null."""
    found: dict[str, object] = {
        "ts_from": report.ts_from,
        "ts_to": report.ts_to,
        "verdict": [" ".join(part) for part in verdict(report)],
        "markets": [
            {**msgspec.to_builtins(m), "intervals": msgspec.to_builtins(m.intervals)}
            for m in report.markets
        ],
        "pairs": report.pairs,
        "provenance": report.provenance,
    }
    if report.has_sizes:
        found["choice"] = report.choice
    if report.clocks:
        found["clocks"] = report.clocks
    if report.leads:
        found["leads"] = report.leads
    if report.ties:
        found["ties"] = report.ties
    said = msgspec.json.format(msgspec.json.encode(_said(msgspec.to_builtins(found))), indent=1)
    drawn = msgspec.json.encode([_said(_series(s)) for s in report.series])  # a number a line: no
    return said.removesuffix(b"\n}") + b',\n "series": ' + drawn + b"\n}\n"


def _said(value: object, key: str = "") -> object:
    """Leave out what is None or not a number, and digits that no clock has; space plainly."""
    if isinstance(value, dict):
        # What stands below a unit has it: {"latency_ms": {"p50": ...}}.
        unit = key if key.endswith(UNITS) else ""
        return {k: _said(v, unit or k) for k, v in value.items() if v is not None and v == v}  # noqa: PLR0124
    if isinstance(value, list | tuple):
        return [_said(v, key) for v in value]
    if isinstance(value, str):
        return value.replace(THIN, " ")
    if isinstance(value, float) and key.endswith(UNITS):
        return round(value, S_DIGITS if key.endswith("_s") else MS_DIGITS)
    return value


# ---- what is drawn ------------------------------------------------------------------------------


def _series(series: Series) -> dict[str, object]:
    """Give the lines of one coin: step k begins at ``ts_start + k step_ns``."""
    told: dict[str, object] = {
        "ts_start": int(series.ts[0]) if len(series.ts) else None,
        "step_ns": series.step_ns,
        "count": len(series.ts),
        "bids": _lines(series.bids, _price),
        "asks": _lines(series.asks, _price),
        "gaps_bps": [
            {"sell": sell, "buy": buy, **_line(line, _bps)}
            for (sell, buy), line in series.gaps_bps.items()
            if np.isfinite(line.last).any()
        ],
    }
    if series.edges_bps:
        told["edges_bps"] = [
            {"sell": sell, "buy": buy, "notional": notional, **_line(line, _bps)}
            for (sell, buy, notional), line in series.edges_bps.items()
            if np.isfinite(line.last).any()
        ]
    if series.funding_bps_per_h:
        told["funding_bps_per_h"] = _lines(series.funding_bps_per_h, _price)
    return told


def _price(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{v:.{PRICE_DIGITS}g}") for v in values.tolist()]


def _bps(values: NDArray[np.float64]) -> list[float]:
    return [round(v, BPS_DIGITS) for v in values.tolist()]


def _lines(lines: Mapping[str, Drawn], rounded: Rounded) -> list[dict[str, object]]:
    return [
        {"market": market, **_line(line, rounded)}
        for market, line in lines.items()
        if np.isfinite(line.last).any()
    ]


def _line(line: Drawn, rounded: Rounded) -> dict[str, object]:
    """Give the steps at which there is a value, as runs ``[first, count]``, and the values."""
    known = np.isfinite(line.last)
    turns = np.flatnonzero(np.diff(known.astype(np.int8), prepend=0, append=0))
    firsts, ends = turns[::2], turns[1::2]
    told: dict[str, object] = {"runs": np.column_stack([firsts, ends - firsts]).tolist()}
    parts = {"low": line.low, "high": line.high, "last": line.last}
    if all(np.array_equal(part, line.last, equal_nan=True) for part in parts.values()):
        parts = {"last": line.last}  # nothing moves within a step
    return told | {name: rounded(part[known]) for name, part in parts.items()}
