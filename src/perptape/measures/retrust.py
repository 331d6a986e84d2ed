"""The ledger's time by receipt -> the time for which the moved rows speak."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from perptape.align import TIME, Spans, union
from perptape.events import MS, NS
from perptape.kernels import NEVER, Ints
from perptape.measures.placing import MOST_LATE_NS, Tally
from perptape.measures.round_trips import Course


class Cut(NamedTuple):
    """A stretch that is not trusted after all."""

    start: int
    end: int
    reason: str
    detail: str


def moved_spans(spans: Spans, tally: Tally) -> Spans:
    """Give where each trusted stretch [k] goes, one for one.

    From its first row on a market's news is known in order, so it begins there; but what a market
    said last before it was heard is not known to be older than any news ever was. What was made
    less than the longest delay before the end may have been under way; not so before the last row.
    """
    has_rows = tally.first != NEVER
    delay = tally.delay_ns
    starts = np.where(has_rows, np.maximum(tally.first, spans.starts - delay), spans.starts)
    ends = np.maximum(np.where(has_rows, tally.last, spans.starts), spans.ends - delay)
    return Spans(starts, np.maximum(starts, ends))


def _cuts(tally: Tally, course: Course) -> list[Cut]:
    detail = f"came more than {MOST_LATE_NS / NS:g} s after it was made"
    late = union(tally.missed)
    found = [Cut(s, e, "late", detail) for s, e in zip(late.starts, late.ends, strict=True)]
    for k in np.flatnonzero(np.diff(course.number)).tolist():
        step_ms = abs(float(course.offset_ms[k + 1] - course.offset_ms[k]))
        end = int(course.ts[k + 1]) + round(step_ms * MS)
        words = f"its clock stepped by {step_ms:.3f} ms at some time in this"
        found.append(Cut(int(course.ts[k]), end, "clock", words))
    return sorted(found)


def worst_ms(course: Course, spans: Spans, tally: Tally) -> float:
    """Give the largest bound of a clock's offset on a market's trusted time, as moved."""
    moved, cuts = moved_spans(spans, tally), _cuts(tally, course)
    points = np.unique(
        np.concatenate([moved.starts, moved.ends, course.ts, *([c.start, c.end] for c in cuts)])
    ).astype(np.int64)
    inside = np.zeros(len(points), np.bool_)
    for start, end in zip(moved.starts, moved.ends, strict=True):
        inside |= (points >= start) & (points <= end)
    for cut in cuts:
        inside &= (points <= cut.start) | (points >= cut.end)
    return float(course.at(points[inside])[1].max(initial=0.0))


class Stretch(NamedTuple):
    """A row of the ledger of one market and channel."""

    start: int
    end: int
    state: str
    reason: str
    detail: str


FIELDS = ("ts_start", "ts_end", "state", "reason", "detail")


def retrusted(rows: pl.DataFrame, spans: Spans, tally: Tally, course: Course) -> pl.DataFrame:
    """Move the ledger's rows of one market and channel; ``spans``: the trusted ones, joined."""
    moved, cuts = moved_spans(spans, tally), _cuts(tally, course)
    start_of, end_of = _by(spans.starts, moved.starts), _by(spans.ends, moved.ends)
    times = pl.col("ts_start", "ts_end").cast(pl.Int64)
    old = [Stretch(*row) for row in rows.with_columns(times).select(FIELDS).iter_rows()]
    found = [new for row in old for new in _moved(row, start_of, end_of, cuts)]
    found += _ends(old, start_of, end_of)
    told = pl.DataFrame(found, schema=[*FIELDS], orient="row", infer_schema_length=None)
    same = (pl.lit(rows[name][0]).alias(name) for name in rows.columns if name not in FIELDS)
    return told.with_columns(pl.col("ts_start", "ts_end").cast(TIME), *same).select(rows.columns)


def _by(old: Ints, new: Ints) -> Mapping[int, int]:
    return dict(zip(old.tolist(), new.tolist(), strict=True))


def _moved(
    row: Stretch, start_of: Mapping[int, int], end_of: Mapping[int, int], cuts: Sequence[Cut]
) -> Iterator[Stretch]:
    if row.state == "trusted":
        start, end = start_of.get(row.start, row.start), end_of.get(row.end, row.end)
        yield from _pieces(row._replace(start=start, end=max(start, end)), cuts)
    else:
        start, end = end_of.get(row.start, row.start), start_of.get(row.end, row.end)
        yield row._replace(start=start, end=max(start, end))


def _pieces(row: Stretch, cuts: Sequence[Cut]) -> Iterator[Stretch]:
    """Take the cuts out of trusted time."""
    at = row.start
    for cut in cuts:
        if cut.end <= at or cut.start >= row.end:
            continue
        start, end = max(cut.start, at), min(cut.end, row.end)
        if start > at:
            yield row._replace(start=at, end=start, reason=cut.reason, detail=cut.detail)
        yield Stretch(start, end, "untrusted", cut.reason, cut.detail)
        at = end
    if at < row.end or at == row.start:
        yield row._replace(start=at)


def _ends(
    old: Sequence[Stretch], start_of: Mapping[int, int], end_of: Mapping[int, int]
) -> Iterator[Stretch]:
    """Say what is between trusted time and where it was by receipt, if nothing else does."""
    untrusted = [row for row in old if row.state != "trusted"]
    begun, ended = {row.start for row in untrusted}, {row.end for row in untrusted}
    for row in old:
        if row.state != "trusted":
            continue
        if row.end not in begun and end_of.get(row.end, row.end) < row.end:
            yield row._replace(start=end_of[row.end], state="untrusted")
        if row.start not in ended and start_of.get(row.start, row.start) > row.start:
            yield Stretch(row.start, start_of[row.start], "untrusted", "start", "")
