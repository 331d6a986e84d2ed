"""Tables on the venues' own time: order, trust, bounds, and what is said where it cannot be."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perptape as pt
from perptape.align import coin
from perptape.errors import Failed
from perptape.measures import reorder
from perptape.measures.placing import MOST_LATE_NS
from perptape.measures.round_trips import Course

from .tape import ledger, quotes
from .test_clocks import MS, NS, T0, asked, trips

OFFSETS_MS = {"a": 100, "b": -50}
WHOLE = {"a:BTC-USDT-PERP": "a", "b:BTC-USDT-PERP": "b"}


def clocks(offsets=OFFSETS_MS, *, step=None, way_ms=1.0, until_s=3600):
    """Answers every ten seconds, each under way for as long there as back."""
    rows = []
    for venue, offset in offsets.items():
        sent = T0 + np.arange(-60, until_s, 10) * NS
        heard = sent + round(way_ms * MS)
        told = heard + offset * MS
        if step is not None:
            told = told + np.where(heard >= step[0], step[1] * MS, 0)
        back = heard + round(way_ms * MS)
        rows.append(trips(list(zip(sent, told + 1, back, strict=True)), venue))  # not whole in ms
    return pt.clocks(pl.concat(rows))


def said(made_ms, venue, price, delay_ms, *, offsets=OFFSETS_MS):
    """A quote that its venue made at a true time, and that took so long."""
    made = T0 + round(made_ms * MS)
    stamp = made + offsets[venue] * MS
    return (made + round(delay_ms * MS), venue, price, price + 1, 1, 1, stamp)


def in_order(rows):
    return quotes(sorted(rows, key=lambda row: row[0]))


def times(frames):
    (frame,) = frames
    rows = frame.select("venue", "bid_price", pl.col("ts_recv").cast(pl.Int64)).collect().rows()
    return [(str(venue), price, (ts - T0) / MS) for venue, price, ts in rows]


def spans(found, state="trusted"):
    rows = found.ledger.filter(pl.col("state") == state)
    times = rows.select("venue", pl.col("ts_start", "ts_end").cast(pl.Int64)).rows()
    return [(venue, (start - T0) / MS, (end - T0) / MS) for venue, start, end in times]


def test_rows_are_put_in_the_order_in_which_they_were_made():
    rows = [
        said(0, "a", 10, 5),
        said(1, "b", 20, 300),
        said(100, "a", 11, 5),
        said(400, "b", 21, 2),
    ]
    table, heard = in_order(rows), ledger([("a", T0, T0 + NS), ("b", T0, T0 + NS)])
    found = pt.retimed(table, heard, clocks())
    assert [(v, p) for v, p, _ in times(found.quotes)] == [
        ("a", 10),
        ("b", 20),
        ("a", 11),
        ("b", 21),
    ]
    assert [ms for *_, ms in times(found.quotes)] == pytest.approx([0, 1, 100, 400], abs=1e-3)
    frame = found.quotes[0].collect()
    assert frame["ts_heard"].sort().equals(table["ts_recv"].rename("ts_heard"))
    assert frame["ts_event"].null_count() == 4  # used up: what is left of it is no latency
    a, b = found.markets.rows(named=True)
    assert a["on"] == b["on"] == "event" and a["reason"] is None
    assert a["clock_error_ms"] == pytest.approx(1, abs=1e-3) and a["stamp_ms"] == 1
    assert a["error_ms"] == a["clock_error_ms"] + a["stamp_ms"]
    assert found.error_ms(*WHOLE) == a["error_ms"] + b["error_ms"]
    assert found.error_ms("a:BTC-USDT-PERP", "a:BTC-USDT-PERP") == 2  # one clock: the stamps alone


def test_a_gap_that_only_receipt_made_is_gone():
    """Both jump at once; a's news comes at once, b's 200 ms later. Then a leads by 100 ms."""
    rows = [
        said(ms, v, p, {"a": 5, "b": 200}[v]) for ms, p in ((0, 100), (1000, 110)) for v in "ab"
    ]
    rows += [said(2000, "a", 120, 5), said(2100, "b", 120, 200), said(3000, "a", 120, 5)]
    heard = ledger([("a", T0 + 5 * MS, T0 + 4 * NS), ("b", T0 + 200 * MS, T0 + 4 * NS)])
    found = pt.retimed(in_order(rows), heard, clocks())

    def above_s(table, heard):
        (row,) = pt.gaps(table, heard).pairs.filter(pl.col("sell") == "a:BTC-USDT-PERP").to_dicts()
        # What lies above its usual level, as an area, over the height of one jump.
        return (row["gap_mean_time_bps"] - 1e4 * (110 / 111 - 1)) * row["trusted_s"] / 900

    assert above_s(in_order(rows), heard) == pytest.approx(0.2 + 0.3, rel=0.2)
    assert above_s(found.quotes, found.ledger) == pytest.approx(0.1, rel=0.2)


def test_trust_goes_along_and_ends_before_what_may_be_under_way():
    rows = [
        said(0, "a", 10, 80),
        said(100, "a", 11, 20),
        said(300, "a", 12, 40),
        said(900, "a", 13, 5),
    ]
    holes = [("a", T0 + 500 * MS, T0 + 905 * MS)]
    heard = ledger([("a", T0 + 80 * MS, T0 + 500 * MS), ("a", T0 + 905 * MS, T0 + 2 * NS)], holes)
    found = pt.retimed(in_order(rows), heard, clocks())
    # The first row was 80 ms late, but 40 is the most that news was known to take.
    near = pytest.approx
    assert spans(found) == [("a", near(40, abs=1e-3), near(460, abs=1e-3)),
                            ("a", near(900, abs=1e-3), near(1960, abs=1e-3))]  # fmt: skip
    assert spans(found, "untrusted") == [("a", near(460, abs=1e-3), near(900, abs=1e-3)),
                                         ("a", near(1960, abs=1e-3), 2000)]  # fmt: skip
    assert times(found.quotes)[0][2] == pytest.approx(40, abs=1e-3)
    assert found.markets["delay_ms"][0] == pytest.approx(40, abs=1e-3)


def test_what_a_venue_says_in_order_stays_in_order():
    rows = [said(0, "a", 10, 5), said(50, "a", 11, 5), said(20, "a", 12, 60), said(90, "a", 13, 5)]
    found = pt.retimed(in_order(rows), ledger([("a", T0, T0 + NS)]), clocks())
    assert [p for _, p, _ in times(found.quotes)] == [10, 11, 12, 13]
    assert [ms for *_, ms in times(found.quotes)] == pytest.approx([0, 50, 50, 90], abs=1e-3)


def test_a_state_told_again_is_no_news_and_no_delay():
    rows = [
        said(0, "a", 10, 5),
        said(100, "a", 11, 5),
        said(100, "a", 11, 3000),
        said(4000, "a", 12, 5),
    ]
    found = pt.retimed(in_order(rows), ledger([("a", T0, T0 + 9 * NS)]), clocks())
    assert found.markets["delay_ms"][0] == pytest.approx(5, abs=1e-3)
    assert times(found.quotes)[2][2] == pytest.approx(100, abs=1e-3)


def test_what_comes_too_late_is_counted_and_the_time_it_was_missing_is_not_trusted():
    rows = [said(0, "a", 10, 5), said(1000, "a", 11, 5), said(2000, "a", 12, 15_000)]
    rows += [said(17_500, "a", 13, 5)]
    found = pt.retimed(in_order(rows), ledger([("a", T0, T0 + 60 * NS)]), clocks())
    (row,) = found.markets.rows(named=True)
    assert row["late"] == 1 and row["delay_ms"] == MOST_LATE_NS / MS
    assert times(found.quotes)[2][2] == pytest.approx(17_000 - 10_000)
    (late, end) = found.ledger.filter(pl.col("state") == "untrusted").rows(named=True)
    assert late["reason"] == "late" and "10 s" in late["detail"]
    assert spans(found, "untrusted")[0][1:] == pytest.approx((2000, 7000), abs=1e-3)
    assert end["reason"] == "shutdown"


def test_a_step_of_the_clock_is_not_trusted_and_not_in_the_bound():
    at = T0 + 1800 * NS
    found = clocks({"a": 0}, step=(at, 400), until_s=7200)
    rows = [said(s * 1000, "a", s, 5, offsets={"a": 400 if s > 1800 else 0}) for s in range(7000)]
    moved = pt.retimed(in_order(rows), ledger([("a", T0, T0 + 7000 * NS)]), found)
    assert moved.markets["clock_error_ms"][0] < 3
    (cut, _) = moved.ledger.filter(pl.col("state") == "untrusted").rows(named=True)
    assert cut["reason"] == "clock" and "400." in cut["detail"]
    assert cut["ts_start"].timestamp() * NS < at < cut["ts_end"].timestamp() * NS
    ts = moved.quotes[0].select(pl.col("ts_recv").cast(pl.Int64), "bid_price").collect().to_numpy()
    known = (ts[:, 0] < cut["ts_start"].timestamp() * NS) | (
        ts[:, 0] > cut["ts_end"].timestamp() * NS
    )
    wrong = np.abs(ts[known, 0] - T0 - ts[known, 1] * NS) / MS
    assert wrong.max() <= moved.markets["error_ms"][0]


def test_a_leader_whom_the_clocks_hid_is_named():
    """Market a moves 60 ms before b; by bare stamps b seems to lead by 90, by receipt by 140."""
    rng = np.random.default_rng(8)
    walk = 1000 + np.cumsum(rng.normal(0, 0.1, 600))
    rows = [said(50 * k, "a", p, 5 + 200) for k, p in enumerate(walk)]
    rows += [said(50 * k + 60, "b", p, 5) for k, p in enumerate(walk)]
    table, heard = in_order(rows), ledger([(v, T0 + 205 * MS, T0 + 31 * NS) for v in "ab"])
    moved = pt.retimed(table, heard, clocks())
    how = {"max_lag_ms": 200, "block_s": 1, "step_ms": 5}
    zero, errors = {"a": 0.0, "b": 0.0}, dict.fromkeys("ab", moved.markets["error_ms"].max())
    by = {
        "stamps": pt.lead_lag(table, heard, clock="event", offsets_ms=zero, **how),
        "receipt": pt.lead_lag(table, heard, offsets_ms=zero, **how),
        "ours": pt.lead_lag(moved.quotes, moved.ledger, offsets_ms=zero, errors_ms=errors, **how),
    }
    (lag,) = by["ours"].pairs.rows(named=True)
    assert lag["leader"] == "a:BTC-USDT-PERP" and abs(lag["lag_ms"] - 60) <= 5
    assert lag["lag_low_ms"] <= 60 <= lag["lag_high_ms"]
    wrong = {name: found.pairs["lag_ms"][0] for name, found in by.items()}
    assert wrong["stamps"] == pytest.approx(-90, abs=5)
    assert wrong["receipt"] == pytest.approx(-140, abs=5)


NONE = pl.lit(None, pl.Datetime("ns", "UTC"))


@pytest.mark.parametrize(
    ("change", "found", "why"),
    [
        (None, {"b": 0}, "no answer of a about the time"),
        (pl.lit(None), None, "its quotes carry no time of a"),
        (pl.when(pl.int_range(pl.len()) % 2 == 1).then(pl.col("ts_event")), None, "carry no time"),
        (pl.col("ts_event") + pl.duration(milliseconds=50), None, "after they came"),
    ],
)
def test_without_a_clock_or_stamps_a_market_stays_on_receive_time_and_says_so(change, found, why):
    rows = [said(10 * k, v, 100 + k, 5) for k in range(200) for v in "ab"]
    table = in_order(rows)
    if change is not None:
        changed = change.cast(pl.Datetime("ns", "UTC"))
        own = pl.col("venue").cast(pl.String) == "a"
        table = table.with_columns(ts_event=pl.when(own).then(changed).otherwise("ts_event"))
    heard = ledger([("a", T0, T0 + 9 * NS), ("b", T0, T0 + 9 * NS)])
    moved = pt.retimed(table, heard, clocks(found or OFFSETS_MS))
    a, b = moved.markets.rows(named=True)
    assert a["on"] == "recv" and why in a["reason"] and a["error_ms"] is None
    assert b["on"] == "event" and b["reason"] is None
    assert moved.error_ms(*WHOLE) is None
    as_heard = table.filter(pl.col("venue").cast(pl.String) == "a")["ts_recv"]
    now = moved.quotes[0].filter(pl.col("venue").cast(pl.String) == "a").collect()["ts_recv"]
    assert now.equals(as_heard)
    assert ("a", 0, 9000) in spans(moved)


def test_the_time_of_sending_is_taken_where_that_of_matching_is_not_said():
    table = in_order([said(10 * k, "a", 100 + k, 5) for k in range(20)])
    table = table.with_columns(ts_send=pl.col("ts_event"), ts_event=NONE)
    moved = pt.retimed(table, ledger([("a", T0, T0 + 9 * NS)]), clocks())
    assert moved.markets["on"].to_list() == ["send"]
    assert times(moved.quotes)[3][2] == pytest.approx(30, abs=1e-3)


def test_rows_that_are_not_in_order_are_refused():
    rows = [said(500, "a", 10, 5), said(0, "a", 11, 5)]
    with pytest.raises(Failed, match="not in receive order"):
        pt.retimed(quotes(rows), ledger([("a", T0, T0 + NS)]), clocks())


moments = st.lists(
    st.tuples(st.integers(0, 3000), st.sampled_from("ab"), st.integers(0, 12_000)),
    min_size=1, max_size=40,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(moments, st.integers(1, 7))
def test_no_row_is_lost_and_batches_change_nothing(drawn, size):
    table = in_order([said(ms, v, k + 1, delay) for k, (ms, v, delay) in enumerate(drawn)])
    heard, found = ledger([("a", T0, T0 + 60 * NS), ("b", T0, T0 + 60 * NS)]), clocks()
    whole = pt.retimed(table, heard, found)
    rows = whole.quotes[0].collect()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reorder, "ROWS", size)
        cut = pt.retimed(table, heard, found)
        assert cut.quotes[0].collect().equals(rows)
    assert cut.ledger.equals(whole.ledger) and cut.markets.equals(whole.markets)
    assert rows["ts_recv"].is_sorted() and sorted(rows["bid_price"]) == sorted(table["bid_price"])
    late_ns = (rows["ts_heard"] - rows["ts_recv"]).cast(pl.Int64) * 1
    assert late_ns.max() <= MOST_LATE_NS


def test_two_tapes_are_as_one():
    rows = [said(20 * k, v, 100 + (k * 7) % 5, 5 + (k * 13) % 40) for k in range(300) for v in "ab"]
    table, found = in_order(rows), clocks()
    heard = ledger([(v, T0 + 45 * MS, T0 + 6 * NS) for v in "ab"])
    whole = pt.retimed(table, heard, found)
    halves = pt.retimed([table[:311], table[311:]], heard, found)
    assert len(halves.quotes) == 2
    assert halves.ledger.equals(whole.ledger) and halves.markets.equals(whole.markets)
    one, two = (pt.gaps(moved.quotes, moved.ledger) for moved in (whole, halves))
    assert one.to_json() == two.to_json() and b"gap_bps" in one.to_json()


def test_few_rows_wait_however_long_the_tape(monkeypatch):
    """Of an hour those of ten seconds, ten a second, and one batch are in hand."""
    monkeypatch.setattr(reorder, "ROWS", 100)
    table = in_order([said(100 * k, "a", k + 1, 5 + k % 90) for k in range(36_000)])
    of, taken = coin(ledger([("a", T0, T0 + 3601 * NS)])), []

    def counted(*words):
        for batch, each in reorder_read(*words):
            taken.append(len(batch))
            yield batch, each

    reorder_read = reorder.read
    monkeypatch.setattr(reorder, "read", counted)
    course = Course.of(clocks().windows, "a")
    given, most = 0, 0
    for frame in reorder.ordered(table, of, {0: (course, of.trusted["a:BTC-USDT-PERP"], 0)}):
        most = max(most, sum(taken) - given)
        given += len(frame)
    assert given == 36_000 and 100 < most <= 100 + 100 + 1


def test_the_bound_of_a_table_holds_with_drift_and_heavy_tails():
    """Offset -37 ms, 20 ppm: every row's new time is right to the bound that is stated."""
    rng = np.random.default_rng(3)
    made = T0 + np.arange(1, 20_000) * 300 * MS
    offset = -37 * MS + ((made - T0) * 20e-6).astype(np.int64)
    came = made + ((3 + rng.pareto(1.5, len(made))) * MS).clip(0, 9e9).astype(np.int64)
    stamp = (made + offset) // MS * MS
    each = zip(np.maximum.accumulate(came).tolist(), made.tolist(), stamp.tolist(), strict=True)
    rows = [(came, "a", made / NS, made / NS + 1, 1, 1, stamp) for came, made, stamp in each]
    found = pt.clocks(trips(asked(2, offset_ms=-37, skew_ppm=20, seed=4)), window_s=60)
    moved = pt.retimed(quotes(rows), ledger([("a", rows[0][0], rows[-1][0])]), found)
    (row,) = moved.markets.rows(named=True)
    frame = moved.quotes[0].select(pl.col("ts_recv").cast(pl.Int64)).collect()
    wrong = np.abs(frame["ts_recv"].to_numpy() - made) / MS
    assert row["on"] == "event" and (wrong <= row["error_ms"]).all() and row["error_ms"] < 30
