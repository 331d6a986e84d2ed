import gzip
import time
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.errors import BadUsage, Failed
from perptape.events import NS, Frame, Kind
from perptape.tape import Tape, TapeWriter

T0 = 1_700_000_000_000_000_000
HALF_BYTES = 1 << 16


def until(condition, step, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        step()


def test_every_wire_and_kind_comes_back_in_order_of_arrival(tmp_path, write_tape):
    with write_tape(tmp_path / "t", config={"markets": ["BTC-USDT"]}) as writer:
        bybit, htx = writer.new_wire("bybit"), writer.new_wire("htx")
        assert writer.append(bybit, Kind.OPENED, [b"{}"], T0, 1) == 1
        assert writer.append(htx, Kind.BINARY, [b"a", b"", b"ccc"], T0 + 1, 2, [30, 1, 40]) == 2
        assert writer.append(bybit, Kind.PING, [b""], T0 + 1, 3) == 5
        assert writer.append(0, Kind.NOTE, [b'{"note":"clock"}'], T0 + 2, 4) == 6
        assert (writer.frames, writer.recovered, writer.ts_before) == (6, None, None)
    tape = Tape(tmp_path / "t")
    assert list(tape.frames()) == [
        Frame(1, bybit, "bybit", Kind.OPENED, T0, 1, 2, b"{}"),
        Frame(2, htx, "htx", Kind.BINARY, T0 + 1, 2, 30, b"a"),
        Frame(3, htx, "htx", Kind.BINARY, T0 + 1, 2, 1, b""),
        Frame(4, htx, "htx", Kind.BINARY, T0 + 1, 2, 40, b"ccc"),
        Frame(5, bybit, "bybit", Kind.PING, T0 + 1, 3, 0, b""),
        Frame(6, 0, "", Kind.NOTE, T0 + 2, 4, 16, b'{"note":"clock"}'),
    ]
    (batch,) = tape.batches()
    assert (batch.first_seq, batch.last_seq, len(batch)) == (1, 6, 6)
    assert batch.venues == {0: "", bybit: "bybit", htx: "htx"}
    assert bytes(batch.payload[batch.offsets[3] : batch.offsets[4]]) == b"ccc"
    assert [c.dtype for c in (batch.wire, batch.kind, batch.ts_recv, batch.wire_size)] == [
        np.uint32,
        np.uint8,
        np.int64,
        np.uint32,
    ]
    assert [f.seq for f in batch.rows(2, 5).frames()] == [3, 4, 5]
    assert tape.damage() == []
    assert tape.meta.config == {"markets": ["BTC-USDT"]}


def test_a_closed_tape_has_only_sealed_segments_and_nothing_for_other_users(tmp_path, write_tape):
    with write_tape(tmp_path / "t") as writer:
        writer.append(0, 0, [b"x"], T0, 1)
    names = sorted(p.name for p in (tmp_path / "t").rglob("*"))
    assert names == ["00000000000000000001.arrows", "lock", "raw", "tape.json"]
    assert [s.state for s in Tape(tmp_path / "t").segments] == ["sealed"]
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "t").rglob("*")}
    assert {name for name, mode in modes.items() if mode & 0o077} == set()


def test_a_tape_without_frames_is_a_tape(tmp_path, write_tape):
    write_tape(tmp_path / "t").close()
    tape = Tape(tmp_path / "t")
    assert (tape.segments, list(tape.frames()), tape.damage()) == ([], [], [])


def test_what_is_imported_has_no_monotonic_time(tmp_path, write_tape):
    with write_tape(tmp_path / "t") as writer:
        writer.append(0, 0, [b"a"], T0, None)
        writer.append(0, 0, [b"b", b"c"], T0 + 1, 7)
        writer.append(0, 0, [b"d"], T0 + 1, None)
    batches = list(Tape(tmp_path / "t").batches())
    assert [None if b.ts_mono is None else b.ts_mono.tolist() for b in batches] == [
        None,
        [7, 7],
        None,
    ]


def test_time_that_falls_begins_a_new_segment(tmp_path, write_tape):
    with write_tape(tmp_path / "t") as writer:
        for ts in (5, 6, 6, 4, 9, 8):
            writer.append(0, 0, [b"x"], T0 + ts, ts)
    tape = Tape(tmp_path / "t")
    assert [(s.first_seq, s.ts_first - T0, s.ts_last - T0) for s in tape.segments] == [
        (1, 5, 6),
        (4, 4, 9),
        (6, 8, 8),
    ]
    assert [[f.seq for b in tape.batches(s) for f in b.frames()] for s in tape.segments] == [
        [1, 2, 3],
        [4, 5],
        [6],
    ]


def test_a_segment_ends_at_its_size(tmp_path, write_tape, feed, seqs_of):
    with write_tape(tmp_path / "t", segment_bytes=1) as writer:
        wire = writer.new_wire("bybit")
        for _ in range(6):
            feed(writer, wire, [20])
            writer.flush(sync=True)
    segments = Tape(tmp_path / "t").segments
    assert len(segments) == 6
    assert all(a.last_seq + 1 == b.first_seq for a, b in pairwise(segments))
    assert seqs_of(tmp_path / "t") == list(range(1, 121))


def test_a_segment_ends_after_a_quarter_of_an_hour(tmp_path, write_tape):
    with write_tape(tmp_path / "t") as writer:
        for minute in range(0, 45, 5):
            writer.append(0, 0, [b"x"], T0 + minute * 60 * NS, minute * 60 * NS)
            writer.flush(sync=True)
    assert [s.frames for s in Tape(tmp_path / "t").segments] == [4, 4, 1]


def test_tick_brings_frames_to_the_disk_by_itself(tmp_path, write_tape):
    with write_tape(tmp_path / "t", sync_ms=1000, now=lambda: (T0, 0)) as writer:
        writer.append(0, 0, [b"x"], T0, 0)
        writer.tick(200_000_000)
        assert writer.backlog_frames == 1
        mono = count(250_000_000, 1_000_000)
        until(lambda: writer.backlog_frames == 0, lambda: writer.tick(next(mono)))
        assert [s.state for s in Tape(tmp_path / "t").segments] == ["open"]


def test_a_tape_is_read_while_it_is_written(tmp_path, write_tape, feed, seqs_of):
    with write_tape(tmp_path / "t", half_bytes=1 << 15) as writer:
        wire = writer.new_wire("bybit")
        for k in range(200):
            last = feed(writer, wire, [3, 1, 5])
            if writer.full:
                writer.flush(sync=True)
            if k % 10 == 0:
                assert seqs_of(tmp_path / "t") == list(range(1, last + 1))
                assert Tape(tmp_path / "t").damage() == []
            writer.tick(k * 100_000_000)
    assert seqs_of(tmp_path / "t") == list(range(1, 1801))


def test_an_open_tape_stays_as_it_was_when_opened(tmp_path, write_tape, feed):
    with write_tape(tmp_path / "t") as writer:
        wire = writer.new_wire("bybit")
        feed(writer, wire, [2])
        writer.flush(sync=True)
        feed(writer, wire, [2])
        tape = Tape(tmp_path / "t")
        feed(writer, wire, [2])
    assert [f.seq for f in tape.frames()] == [1, 2, 3, 4]


def test_a_later_run_goes_on_above_in_a_new_segment(tmp_path, write_tape, feed, seqs_of):
    for run in range(3):
        with write_tape(tmp_path / "t", config={"run": run}) as writer:
            assert writer.ts_before == (T0 + 3 * run - 1 if run else None)
            assert writer.new_wire("bybit") == run + 1
            feed(writer, run + 1, [1, 2])
    tape = Tape(tmp_path / "t")
    assert [s.first_seq for s in tape.segments] == [1, 4, 7]
    assert [run.config for run in tape.meta.runs] == [{"run": 0}, {"run": 1}, {"run": 2}]
    assert seqs_of(tmp_path / "t") == list(range(1, 10))


def test_a_read_larger_than_the_tail_is_refused_and_the_rest_is_kept(tmp_path, write_tape):
    with write_tape(tmp_path / "t") as writer:
        writer.append(0, 0, [b"x"], T0, 1)
        with pytest.raises(Failed, match="larger than the tape's tail"):
            writer.append(0, 0, [b"y" * HALF_BYTES], T0, 1)
        writer.append(0, 0, [b"z"], T0, 1)
    assert [f.payload for f in Tape(tmp_path / "t").frames()] == [b"x", b"z"]


def test_a_venue_must_have_a_plain_name(tmp_path, write_tape):
    with write_tape(tmp_path / "t") as writer, pytest.raises(BadUsage, match="name of a venue"):
        writer.new_wire('{"crc32":"')


READS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(list(Kind)),
        st.lists(st.binary(max_size=300), max_size=70),
        st.integers(-(2**40), 2**40),
        st.none() | st.integers(0, 2**62),
        st.booleans(),
        st.sampled_from(["", "", "tick", "flush", "reopen"]),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(reads=READS)
def test_whatever_is_appended_comes_back(tmp_path_factory, write_tape, reads):
    path = tmp_path_factory.mktemp("any") / "t"
    writer, truth = write_tape(path), []
    wires = [writer.new_wire(f"v{k}") for k in range(4)]
    for which, kind, payloads, ts, mono, is_sized, then in reads:
        sizes = [len(p) * 3 for p in payloads] if is_sized else None
        seq = writer.append(wires[which], kind, payloads, T0 + ts, mono, sizes)
        for k, p in enumerate(payloads):
            size = len(p) * 3 if is_sized else len(p)
            row = (seq + k, wires[which], f"v{which}", kind, T0 + ts, mono, size, p)
            truth.append(Frame(*row))
        if then == "tick":
            writer.tick(2**62)
        elif then == "flush":
            writer.flush(sync=True)
        elif then == "reopen":
            writer.close()
            writer = write_tape(path)
            wires = [writer.new_wire(f"v{k}") for k in range(4)]
    assert list(Tape(path).frames()) == truth
    writer.close()
    tape = Tape(path)
    assert list(tape.frames()) == truth
    assert tape.damage() == []
    assert [f for s in tape.segments for b in tape.batches(s) for f in b.frames()] == truth
    for segment in tape.segments:
        times = [f.ts_recv for b in tape.batches(segment) for f in b.frames()]
        assert times == sorted(times)


def test_at_rest_real_quotes_take_few_bytes(tmp_path, shared):
    source = shared / "data/binance-3markets-btc-20240808/usdm/btcusdt_20240808.gz"
    with gzip.open(source, "rb") as lines:
        quotes = [line.rstrip().split(b" ", 1) for line in lines if b"bookTicker" in line][:20000]
    with TapeWriter(tmp_path / "t") as writer:
        wire = writer.new_wire("binance")
        for ts, quote in quotes:
            writer.append(wire, Kind.TEXT, [quote], int(ts), int(ts) - T0)
    tape = Tape(tmp_path / "t")
    assert [f.payload for f in tape.frames()] == [quote for _, quote in quotes]
    assert sum(s.bytes for s in tape.segments) / len(quotes) < 14
