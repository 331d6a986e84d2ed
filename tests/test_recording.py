"""A tape at hand: what is read from it that is not a table."""

import msgspec
import polars as pl

import perptape as pt
from perptape.events import MS, NS, Kind
from perptape.tape import TapeWriter

T0 = 1_700_000_000 * NS


def answered(venue, body, ts=T0, **told):
    said = {"what": "time", "url": "http://x", "status": 200, "t_sent": T0, **told}
    return venue, msgspec.json.encode({**said, "body": body}), ts


def tape_of(path, answers):
    with TapeWriter(path) as tape:
        for venue, payload, ts in answers:
            tape.append(tape.new_wire(venue), Kind.REST, [payload], ts, ts)
    return pt.open(path)


GATE = '{"server_time":1700000000050}'


def test_what_the_clocks_said(tmp_path):
    tape = tape_of(
        tmp_path / "tape",
        [
            answered("gateio", GATE, T0 + 90 * MS),
            answered("okx", '{"code":"0","data":[{"ts":"1700000000001"}]}', T0 + 1),
        ],
    )
    rows = tape.clock_samples().collect()
    assert rows["venue"].to_list() == ["gateio", "okx"]
    times = rows.select(pl.col("t_sent", "ts_venue", "t_recv").cast(pl.Int64) - T0).rows()
    assert times == [(0, 50 * MS, 90 * MS), (0, MS, 1)]
    (window,) = pt.clocks(tape.clock_samples()).windows.filter(venue="gateio").rows(named=True)
    assert (window["offset_ms"], window["error_ms"]) == (5, 46)


def test_answers_that_are_none_are_passed_over(tmp_path):
    tape = tape_of(
        tmp_path / "tape",
        [
            answered("gateio", GATE, status=503),
            answered("gateio", "[]", what="instruments"),
            answered("gateio", "<html>"),
            answered("gateio", '{"server_time":99999999999999999999}'),
            answered("gateio", GATE, t_sent=-(1 << 70)),
            answered("atlantis", GATE),
            ("gateio", b"\xff", T0),
        ],
    )
    rows = tape.clock_samples().collect()
    assert rows.height == 0 and rows.schema["ts_venue"] == pl.Datetime("ns", "UTC")
    assert pt.clocks(rows).venues.height == 0
