"""Frames to tables: order, units, bytes."""

import errno
import hashlib
import resource
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape import gather, tables, tabulate, verify
from perptape import runs as on_disk
from perptape.errors import BadUsage, Failed
from perptape.events import NS, Kind, Opened, RestAnswer, Subscription
from perptape.recording import Recording
from perptape.runs import Runs, Stretch, merge, run_schema
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


@settings(deadline=None)
@given(
    runs=st.lists(
        st.lists(st.integers(0, 40), min_size=1, max_size=30).map(sorted), min_size=1, max_size=5
    ),
    rows_a_batch=st.integers(1, 7),
)
def test_merging_runs_is_sorting_them(tmp_path_factory, runs, rows_a_batch):
    root, schema = tmp_path_factory.mktemp("runs"), run_schema("quotes")
    files, seq, expected = [], 0, []
    for number, times in enumerate(runs):
        rows = defaultdict(list)
        for ts in times:
            seq += 1
            expected.append((ts, seq))
            for name in schema.names:
                rows[name].append(None)
            rows["seq"][-1], rows["ts_recv"][-1] = seq, ts
        table = pa.table(dict(rows), schema=schema)
        path = root / f"{number}.arrow"
        with pa.ipc.new_file(path, schema) as writer:
            writer.write_table(table, max_chunksize=rows_a_batch)
        files.append(Stretch(path, times[0]))
    merged = pa.concat_tables(merge(files))
    found = list(zip(merged["ts_recv"].to_pylist(), merged["seq"].to_pylist(), strict=True))
    assert found == sorted(expected)


def test_runs_hold_no_more_coins_in_memory_than_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(gather, "ROWS_HELD", 3)
    quotes = [(n, f"{c}_USDT", "1", "2", "5") for n in range(4) for c in ("BTC", "ETH", "SOL")]
    made = tabulate.tabulate(gate_tape(tmp_path / "tape", quotes))
    rows = [f.rows for f in made.manifest.files if f.path.startswith("quotes")]
    assert rows == [4, 4, 4] and Runs(tmp_path).merged


def test_more_coins_than_files_may_be_open(tmp_path, monkeypatch):
    """A universe of five channels has thousands of them; what is closed goes on in another file."""
    monkeypatch.setattr(gather, "ROWS_HELD", 3)
    quotes = [(n, f"C{k}_USDT", "1", "2", "5") for n in range(3) for k in range(40)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, limits[1]))
    try:
        made = tabulate.tabulate(gate_tape(tmp_path / "many", quotes))
        monkeypatch.setattr(on_disk, "FILES", on_disk.FILES_OF_OTHERS + 2)
        again = tabulate.tabulate(tmp_path / "many", tmp_path / "again")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [f.rows for f in made.manifest.files if f.path.startswith("quotes")] == [3] * 40
    assert made.manifest.files == again.manifest.files, "to the byte"


def test_the_instrument_list_in_force_makes_the_sizes(tmp_path):
    path = tmp_path / "tape"
    gate_tape(path, [(1, "BTC_USDT", "1", "2", 5), (1, "ETH_USDT", "1", "2", 5)])
    other = GATE_LIST.replace(b"0.0001", b"0.01")
    with TapeWriter(path) as tape:
        rest, wire = tape.new_wire("gateio"), tape.new_wire("gateio")
        opened = msgspec.json.encode(Opened("gateio", "ws://x", (), imported=True))
        tape.append(wire, Kind.OPENED, [opened], T0 + NS, T0)
        tape.append(wire, Kind.TEXT, [gate_quote("BTC_USDT", "1", "2", "5")], T0 + 2 * NS, T0)
        answer = RestAnswer("instruments", "http://x", 200, T0, other.decode())
        tape.append(rest, Kind.REST, [msgspec.json.encode(answer)], T0 + 3 * NS, T0)
        tape.append(wire, Kind.TEXT, [gate_quote("BTC_USDT", "1", "2", "5")], T0 + 4 * NS, T0)
    recording = Recording(path)
    sizes = recording.quotes("BTC-USDT").collect()["bid_size"].to_list()
    assert sizes == pytest.approx([0.0005, 0.0005, 0.05])
    assert recording.quotes("ETH-USDT").collect()["bid_size"].to_list() == [None]
    assert recording.instruments().collect()["contract_size"].to_list() == [0.0001, 0.01]


def test_a_coin_named_by_a_number_in_a_directory_with_an_equals_sign(tmp_path):
    quotes = [(n, s, "1", "2", 5) for n in (1, 90_000) for s in ("4_USDT", "BTC_USDT")]
    recording = Recording(gate_tape(tmp_path / "run=3", quotes))
    rows = recording.quotes().collect()
    assert rows["base"].to_list() == ["4", "4", "BTC", "BTC"] and "run" not in rows.columns
    dates = recording.quotes("4-USDT").collect()["date"]
    assert [str(date) for date in dates] == ["2026-09-21", "2026-09-22"]


def test_an_empty_table_has_the_columns_of_a_full_one(tmp_path):
    full = Recording(gate_tape(tmp_path / "full", [(1, "BTC_USDT", "1", "2", 5)]))
    empty = Recording(gate_tape(tmp_path / "empty", [], listed=False))
    for table in ("quotes", "ledger", "instruments"):
        schemas = [getattr(r, table)().collect_schema() for r in (full, empty)]
        assert schemas[0] == schemas[1]


def test_tables_of_which_a_file_is_altered_or_gone_are_made_again(tmp_path):
    tape = gate_tape(tmp_path / "tape", [(1, "BTC_USDT", "1", "2", 5)])
    made = tabulate.tabulate(tape)
    quotes = made.root / made.manifest.files[-1].path
    assert quotes.parts[-4] == "quotes"
    quotes.write_bytes(quotes.read_bytes()[:-1] + b"?")
    assert Recording(tape).quotes().collect().height == 1
    quotes.unlink()
    with pytest.raises(Failed, match="gone: tabulate again"):
        tables.scan(made.root, "quotes")
    tabulate.tabulate(tape)
    assert tables.scan(made.root, "quotes").collect().height == 1


@pytest.mark.parametrize("part", [0.01, 0.2, 0.5, 0.8, 0.99])
def test_a_flipped_bit_of_the_manifest_is_found_and_mended(tmp_path, part):
    tape = gate_tape(tmp_path / "tape", [(1, "BTC_USDT", "1", "2", 5)])
    file = tabulate.tabulate(tape).root / "manifest.json"
    data = bytearray(file.read_bytes())
    data[int(len(data) * part)] ^= 1
    file.write_bytes(data)
    verdict = verify.verify(tape)
    assert verdict.damage == ["tables/manifest.json is not what was written: tabulate again"]
    assert Recording(tape).quotes().collect().height == 1
    assert verify.verify(tape).damage == []


def test_trouble_in_the_middle_leaves_the_tables_that_were_there(tmp_path, monkeypatch):
    tape = gate_tape(tmp_path / "tape", [(1, "BTC_USDT", "1", "2", 5)])
    before = tabulate.tabulate(tape)
    gate_tape(tape, [(9, "BTC_USDT", "1", "2", 5)])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tabulate, "write_ledger", full)
    with pytest.raises(Failed, match="No space"):
        tabulate.tabulate(tape)
    assert tables.read_manifest(before.root) == before.manifest
    assert tables.damaged(before.root, before.manifest) == []
    assert [p.name for p in before.root.iterdir() if p.name.startswith(".")] == []


def test_several_at_once_take_turns(tmp_path):
    tape = gate_tape(tmp_path / "tape", [(n, "BTC_USDT", "1", "2", 5) for n in range(200)])
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(tabulate.tabulate, [tape] * 4))
    assert len({m.manifest.manifest_sha256 for m in made}) == 1
    assert tables.damaged(made[0].root, made[0].manifest) == []


def test_what_a_killed_one_left_is_cleared(tmp_path):
    tape = gate_tape(tmp_path / "tape", [(1, "BTC_USDT", "1", "2", 5)])
    (tape / "tables" / ".new-killed" / "runs").mkdir(parents=True)
    tabulate.tabulate(tape)
    assert not (tape / "tables" / ".new-killed").exists()


def test_a_tape_that_cannot_be_written_gets_its_tables_elsewhere(tmp_path, monkeypatch, caplog):
    tape = gate_tape(tmp_path / "tape", [(1, "BTC_USDT", "1", "2", 5)])
    take_hold = tabulate.alone

    def alone(root, name):
        if root.is_relative_to(tmp_path):
            raise OSError(errno.EROFS, "Read-only file system")
        return take_hold(root, name)

    monkeypatch.setattr(tabulate, "alone", alone)
    assert Recording(tape).quotes().collect().height == 1
    assert tabulate.fresh(tape) == tabulate.fresh(tape)
    assert len(caplog.messages) == 1 and "cannot be written" in caplog.text
    assert not (tape / "tables").exists()


def test_no_name_leads_out_of_the_tables(tmp_path):
    for name in ("../x", "a/b", "..", "", "btc", "A" * 65):
        with pytest.raises(Failed, match="part of a path"):
            tables.PartitionWriter(tmp_path, "quotes", base=name, date="2026-01-01")
    assert list(tmp_path.iterdir()) == []


BYBIT = {
    "quotes": '{"topic":"orderbook.1.%(s)s","ts":%(ms)d,"type":"snapshot","data":{"s":"%(s)s",'
    '"b":[["1","%(n)d"]],"a":[["2","2"]],"u":%(n)d,"seq":1},"cts":%(ms)d}',
    "books": '{"topic":"orderbook.50.%(s)s","type":"%(kind)s","ts":%(ms)d,"data":{"s":"%(s)s",'
    '"b":[["1","%(n)d"],["0.5","1"]],"a":[["2","2"]],"u":%(n)d,"seq":1},"cts":%(ms)d}',
    "trades": '{"topic":"publicTrade.%(s)s","type":"snapshot","ts":%(ms)d,"data":[{"T":%(ms)d,'
    '"s":"%(s)s","S":"Buy","v":"1","p":"1.5","i":"%(n)d","BT":false},{"T":%(ms)d,"s":"%(s)s",'
    '"S":"Sell","v":"2","p":"1.5","i":"b%(n)d","BT":false}]}',
    "marks": '{"topic":"tickers.%(s)s","type":"delta","data":{"symbol":"%(s)s",'
    '"markPrice":"1.%(n)d","fundingRate":"-0.000%(n)d","nextFundingTime":"%(ms)d"},"cs":1,"ts":%(ms)d}',
}


@pytest.mark.parametrize(("segment_bytes", "every"), [(1, 1), (1, 7), (1 << 20, 3)])
def test_where_batches_and_segments_are_cut_changes_no_byte(tmp_path, segment_bytes, every):
    """All channels of two coins, several events a frame, one time for many frames, and a hole."""
    made = []
    for path, size, flush in (("one", 1 << 28, 1 << 30), ("other", segment_bytes, every)):
        with TapeWriter(tmp_path / path, segment_bytes=size, now=lambda: (T0, T0)) as tape:
            wire = tape.new_wire("bybit")
            streams = {"quotes": "orderbook.1", "books": "orderbook.50", "trades": "publicTrade"}
            streams |= {"marks": "tickers", "funding": "tickers"}
            asked = tuple(
                Subscription(f"bybit:{coin}-USDT-PERP", channel, stream, f"{coin}USDT")
                for coin in ("BTC", "ETH")
                for channel, stream in streams.items()
            )
            opened = msgspec.json.encode(Opened("bybit", "ws://x", asked))
            tape.append(wire, Kind.OPENED, [opened], T0, T0)
            for n in range(1, 60):
                ts = T0 + n // 5 * NS
                words = {
                    "s": ("BTCUSDT", "ETHUSDT")[n % 2],
                    "ms": ts // 10**6,
                    "n": n // 2 + n // 44,
                }
                words["kind"] = "delta" if n > 3 and n % 25 else "snapshot"
                told = [(text % words).encode() for text in BYBIT.values()]
                tape.append(wire, Kind.TEXT, told, ts, ts)
                if n % flush == 0:
                    tape.flush(sync=True)
        files = tabulate.tabulate(tmp_path / path).manifest.files
        made.append({file.path: file.sha256 for file in files})
    assert made[0] == made[1]
    assert {path.split("/")[0] for path in made[0]} == {*streams, "ledger"}
