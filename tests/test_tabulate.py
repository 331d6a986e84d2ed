"""Frames to tables: order, units, bytes."""

import hashlib
from collections import defaultdict

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perptape import tables, tabulate
from perptape.errors import BadUsage, Failed
from perptape.events import NS, Kind, Opened, RestAnswer
from perptape.recording import Recording
from perptape.runs import SCHEMA, Runs, Stretch, merge
from perptape.tape import TapeWriter

T0 = 1_790_000_000 * NS
DAY = 86_400 * NS


def gate_quote(symbol, bid, ask, size):
    return (
        '{"time":1790000000,"time_ms":1790000000123,"channel":"futures.book_ticker",'
        f'"event":"update","result":{{"t":1790000000120,"u":7,"s":"{symbol}","b":"{bid}",'
        f'"B":"{size}","a":"{ask}","A":"{size}"}}}}'
    ).encode()


GATE_LIST = msgspec.json.encode(
    [
        {
            "name": "BTC_USDT",
            "type": "direct",
            "quanto_multiplier": "0.0001",
            "order_price_round": "0.1",
            "order_size_min": "1",
            "enable_decimal": False,
            "status": "trading",
            "in_delisting": False,
            "funding_interval": 28800,
        }
    ]
)


def gate_tape(path, quotes, *, listed=True, start=T0):
    """A tape of one Gate wire; quotes are (seconds, symbol, bid, ask, size)."""
    with TapeWriter(path) as tape:
        rest, wire = tape.new_wire("gateio"), tape.new_wire("gateio")
        if listed:
            answer = RestAnswer("instruments", "http://x", 200, start, GATE_LIST.decode())
            tape.append(rest, Kind.REST, [msgspec.json.encode(answer)], start, start)
        opened = msgspec.json.encode(Opened("gateio", "ws://x", (), imported=True))
        tape.append(wire, Kind.OPENED, [opened], start, start)
        for at_s, *quote in quotes:
            ts = start + round(at_s * NS)
            tape.append(wire, Kind.TEXT, [gate_quote(*quote)], ts, ts)
    return path


def test_contracts_become_coins(tmp_path):
    tape = gate_tape(tmp_path / "tape", [(1, "BTC_USDT", "100.5", "100.6", "2500")])
    row = Recording(tape).quotes("BTC-USDT").collect().row(0, named=True)
    assert (row["bid_price"], row["ask_price"]) == (100.5, 100.6)
    assert row["bid_size"] == pytest.approx(0.25)
    assert (row["venue"], row["instrument"], row["base"]) == ("gateio", "BTC-USDT-PERP", "BTC")
    assert row["update_id"] == 7 and row["seq"] == 3


def test_sizes_are_unknown_without_an_instrument_list(tmp_path):
    tape = gate_tape(tmp_path / "tape", [(1, "BTC_USDT", "1", "2", "5")], listed=False)
    row = Recording(tape).quotes().collect().row(0, named=True)
    assert row["bid_price"] == 1 and row["bid_size"] is None and row["ask_size"] is None


def test_a_day_and_a_coin_have_a_file_each(tmp_path):
    late = (DAY - T0 % DAY) / NS
    quotes = [(late + at, s, "1", "2", "5") for at in (-1, 1) for s in ("BTC_USDT", "ETH_USDT")]
    made = tabulate.tabulate(gate_tape(tmp_path / "tape", quotes))
    assert [f.path for f in made.manifest.files if f.path.startswith("quotes")] == [
        "quotes/base=BTC/date=2026-09-21/part-0.parquet",
        "quotes/base=BTC/date=2026-09-22/part-0.parquet",
        "quotes/base=ETH/date=2026-09-21/part-0.parquet",
        "quotes/base=ETH/date=2026-09-22/part-0.parquet",
    ]


def test_the_same_tape_gives_the_same_bytes(tmp_path):
    quotes = [(n / 10, "BTC_USDT", 100 + n % 7, 108, n) for n in range(500)]
    tape = gate_tape(tmp_path / "tape", quotes)
    first, second = (tabulate.tabulate(tape, tmp_path / out) for out in ("a", "b"))
    assert first.manifest == second.manifest
    for file in first.manifest.files:
        data = (tmp_path / "a" / file.path).read_bytes()
        assert data == (tmp_path / "b" / file.path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file.sha256


def test_a_flipped_bit_of_a_table_is_found(tmp_path):
    tape = gate_tape(tmp_path / "tape", [(1, "BTC_USDT", "1", "2", "5")])
    made = tabulate.tabulate(tape)
    file = made.root / made.manifest.files[0].path
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert tables.damaged(made.root, made.manifest) == [made.manifest.files[0].path]


def test_two_imports_of_overlapping_time_are_one_table_in_order(tmp_path):
    path = tmp_path / "tape"
    gate_tape(path, [(n, "BTC_USDT", "1", "2", n) for n in (1, 3, 5, 7)])
    gate_tape(path, [(n, "BTC_USDT", "1", "2", n) for n in (0, 2, 3, 6)], listed=False)
    rows = Recording(path).quotes("BTC-USDT").collect()
    assert rows["bid_size"].to_list() == pytest.approx([n / 1e4 for n in (0, 1, 2, 3, 3, 5, 6, 7)])
    assert rows.select(pl.struct("ts_recv", "seq").rank("ordinal").diff().drop_nulls().eq(1).all())[
        0, 0
    ]


def test_tables_are_made_again_only_for_another_tape(tmp_path):
    tape = gate_tape(tmp_path / "tape", [(1, "BTC_USDT", "1", "2", "5")])
    root = tabulate.fresh(tape)
    before = (root / "manifest.json").stat().st_mtime_ns
    assert (tabulate.fresh(tape) / "manifest.json").stat().st_mtime_ns == before
    gate_tape(tape, [(9, "BTC_USDT", "1", "2", "5")])
    assert Recording(tape).quotes().collect().height == 2


def test_an_unwritable_place_is_one_sentence(tmp_path):
    tape = gate_tape(tmp_path / "tape", [(1, "BTC_USDT", "1", "2", "5")])
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(Failed, match="--out"):
        tabulate.tabulate(tape, blocked / "tables")


def test_a_directory_that_is_no_tape_is_named(tmp_path):
    with pytest.raises(BadUsage, match="not a tape"):
        tabulate.tabulate(tmp_path)


@given(
    runs=st.lists(
        st.lists(st.integers(0, 40), min_size=1, max_size=30).map(sorted), min_size=1, max_size=5
    ),
    rows_a_batch=st.integers(1, 7),
)
def test_merging_runs_is_sorting_them(tmp_path_factory, runs, rows_a_batch):
    root = tmp_path_factory.mktemp("runs")
    files, seq, expected = [], 0, []
    for number, times in enumerate(runs):
        rows = defaultdict(list)
        for ts in times:
            seq += 1
            expected.append((ts, seq))
            for name in SCHEMA.names:
                rows[name].append(None)
            rows["seq"][-1], rows["ts_recv"][-1] = seq, ts
        table = pa.table(dict(rows), schema=SCHEMA)
        path = root / f"{number}.arrow"
        with pa.ipc.new_file(path, SCHEMA) as writer:
            writer.write_table(table, max_chunksize=rows_a_batch)
        files.append(Stretch(path, times[0]))
    merged = pa.concat_tables(merge(files))
    found = list(zip(merged["ts_recv"].to_pylist(), merged["seq"].to_pylist(), strict=True))
    assert found == sorted(expected)


def test_runs_hold_no_more_coins_in_memory_than_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(tabulate, "ROWS_HELD", 3)
    quotes = [(n, f"{c}_USDT", "1", "2", "5") for n in range(4) for c in ("BTC", "ETH", "SOL")]
    made = tabulate.tabulate(gate_tape(tmp_path / "tape", quotes))
    rows = [f.rows for f in made.manifest.files if f.path.startswith("quotes")]
    assert rows == [4, 4, 4] and Runs(tmp_path).merged
