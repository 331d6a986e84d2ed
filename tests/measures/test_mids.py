"""Mids as step functions: known only where trust, a quote and its age allow it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.errors import BadUsage
from perptape.measures.mids import mids

from .tape import MS, ledger, quotes
from .test_laws import END, moments, tables

A, B = "a:BTC-USDT-PERP", "b:BTC-USDT-PERP"


def slowly(rows, trusted, venue, t, max_age):
    """The mid of a venue at a moment, straight from its definition; and its stretch's start."""
    spans = [(s, e) for v, s, e in trusted if v == venue and s <= t <= e]
    heard = [r for r in rows if r[1] == venue and spans and spans[0][0] <= r[0] <= t]
    if not heard or None in heard[-1][2:4] or (max_age is not None and t - heard[-1][0] > max_age):
        return None, None
    return (heard[-1][2] + heard[-1][3]) / 2, spans[0][0]


ages = st.one_of(st.none(), st.sampled_from([0, 50 * MS, 130 * MS]))


@settings(max_examples=150, deadline=None)
@given(tables(venues=("a", "b")), ages, st.sets(moments, max_size=12))
def test_a_pair_is_known_where_both_are_and_nowhere_else(table, max_age, asked):
    rows, trusted = table
    heard = ledger(trusted, [(venue, END, END) for venue in "ab"])
    found = mids(quotes(rows), heard, max_age_s=None if max_age is None else max_age / 1e9)
    joint = found.joint(A, B)
    assert (joint.until > joint.ts).all() and (np.diff(joint.ts) > 0).all()
    for t in asked | {r[0] for r in rows}:
        (x, _), (y, _) = (slowly(rows, trusted, v, t, max_age) for v in "ab")
        at = np.flatnonzero((joint.ts <= t) & (t < joint.until))
        assert len(at) == (x is not None and y is not None)
        if len(at):
            assert np.exp([joint.x[at[0]], joint.y[at[0]]]) == pytest.approx([x, y])


@settings(max_examples=100, deadline=None)
@given(tables(venues=("a", "b")), ages)
def test_nothing_reaches_over_a_stretch(table, max_age):
    """Neighbours of one stretch touch, and lie in the same trusted intervals of both."""
    rows, trusted = table
    heard = ledger(trusted, [(venue, END, END) for venue in "ab"])
    found = mids(quotes(rows), heard, max_age_s=None if max_age is None else max_age / 1e9)
    joint = found.joint(A, B)
    for k, m in pairwise(range(len(joint.ts))):
        starts = [
            [slowly(rows, trusted, v, int(joint.ts[at]), max_age)[1] for v in "ab"] for at in (k, m)
        ]
        is_same = joint.until[k] == joint.ts[m] and starts[0] == starts[1]
        assert (joint.stretch[k] == joint.stretch[m]) == is_same


@settings(max_examples=60, deadline=None)
@given(tables(venues=("a", "b")), st.sampled_from([1, 7 * MS, 50 * MS, 10**12]))
def test_samples_are_the_values_at_multiples_of_the_step(table, step_ns):
    rows, trusted = table
    rows = [r for r in rows if r[0] < 200 * max(step_ns, MS)][:12]
    joint = mids(quotes(rows), ledger([*trusted, ("a", 0, 0), ("b", 0, 0)])).joint(A, B)
    spans = zip(joint.ts.tolist(), joint.until.tolist(), strict=True)
    expected = [
        (k * step_ns, joint.x[at], joint.stretch[at])
        for at, (a, b) in enumerate(spans)
        for k in range(-(-a // step_ns), min((b - 1) // step_ns + 1, -(-a // step_ns) + 50))
    ]
    if step_ns == 1:
        joint = joint._replace(until=np.minimum(joint.until, joint.ts + 50))
    found = joint.sampled(step_ns)
    assert list(zip(found.ts, found.x, found.stretch, strict=True)) == expected


def test_by_the_venues_own_stamps():
    """A late stamp counts when it was made; one that goes back, or is not there, is left out."""
    rows = [
        (10, "a", 9, 11, 1, 1, 5),
        (20, "a", 19, 21, 1, 1, 15),
        (25, "a", 1, 3, 1, 1, 12),
        (30, "a", 29, 31, 1, 1, None),
        (40, "a", 39, 41, 1, 1, 35),
        (11, "b", 9, 11, 1, 1, 0),
        (41, "b", 9, 11, 1, 1, 99),
    ]
    heard = ledger([("a", 0, 50), ("b", 0, 50)])
    joint = mids(quotes(sorted(rows)), heard, clock="event").joint(A, B)
    assert joint.ts.tolist() == [5, 15, 35] and joint.until.tolist() == [15, 35, 36]
    assert np.exp(joint.x) == pytest.approx([10, 20, 40])
    with pytest.raises(BadUsage, match="sundial"):
        mids(quotes(rows), heard, clock="sundial")
