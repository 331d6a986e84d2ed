"""The notebook's dicts: whose they are, when they came, and their text."""

import json
import pickle
import time
from decimal import Decimal

import msgspec
import pytest

from perptape.errors import Failed
from perptape.events import NS
from perptape.importers import notebook
from perptape.importers.importer import Heard, Tally
from perptape.venues import VENUES

SHAPES = [
    pytest.param(
        "bitget",
        {"action": "snapshot", "arg": {"instType": "USDT-FUTURES", "channel": "books1",
         "instId": "BTCUSDT"}, "data": [{"asks": [["101.5", "2"]], "bids": [["101.4", "3"]],
         "checksum": 0, "ts": "1730332859988"}], "ts": 1730332859989},
        id="bitget",
    ),
    pytest.param(
        "bitget",
        {"event": "subscribe", "arg": {"instType": "USDT-FUTURES", "channel": "books1",
         "instId": "BTCUSDT"}},
        id="bitget-ack",
    ),
    pytest.param(
        "htx",
        {"ch": "market.BTC-USDT.depth.step0", "ts": 1645289384831,
         "tick": {"mrid": 1, "bids": [[101.4, 250]], "asks": [[101.5, 2]], "ts": 1645289384830}},
        id="htx",
    ),
    pytest.param(
        "htx",
        {"id": "1", "subbed": "market.BTC-USDT.depth.step0", "ts": 1, "status": "ok"},
        id="htx-ack",
    ),
    pytest.param(
        "gateio",
        {"time": 1684930165, "time_ms": 1684930165631, "channel": "futures.book_ticker",
         "event": "update", "result": {"t": 1684930165621, "u": 6, "s": "BTC_USDT", "b": "101.4",
         "B": 814, "a": "101.5", "A": 677}},
        id="gateio",
    ),
    pytest.param(
        "bybit",
        {"topic": "orderbook.1.BTCUSDT", "ts": 1786659828109, "type": "snapshot",
         "data": {"s": "BTCUSDT", "b": [["101.4", "1"]], "a": [["101.5", "4"]], "u": 3, "seq": 7},
         "cts": 1786659828107},
        id="bybit",
    ),
    pytest.param(
        "bybit", {"success": True, "ret_msg": "", "conn_id": "x", "op": "subscribe"}, id="bybit-ack"
    ),
    pytest.param(
        "binance",
        {"e": "bookTicker", "u": 5, "s": "BTCUSDT", "ps": "BTCUSDT", "b": "101.4", "B": "2",
         "a": "101.5", "A": "2", "T": 1723161256313, "E": 1723161256313},
        id="binance",
    ),
    pytest.param(
        "binance_coinm",
        {"stream": "btcusd_perp@bookTicker", "data": {"u": 5, "e": "bookTicker",
         "s": "BTCUSD_PERP", "ps": "BTCUSD", "b": "101.4", "B": "1", "a": "101.5", "A": "8",
         "T": 1723161601262, "E": 1723161601269}},
        id="binance-coinm",
    ),
    pytest.param(
        "binance_spot",
        {"stream": "btcusdt@bookTicker", "data": {"u": 5, "s": "BTCUSDT", "b": "101.40000000",
         "B": "1.25", "a": "101.50000000", "A": "2.4"}},
        id="binance-spot",
    ),
    pytest.param(None, {"op": "notify", "topic": "public.BTC-USDT.funding_rate"}, id="htx-notice"),
    pytest.param(None, {"ping": 1645289389594}, id="htx-ping"),
    pytest.param(None, {"channel": 5, "ch": None, "arg": "x"}, id="nobody"),
    pytest.param(None, {}, id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("venue", "frame"), SHAPES)
def test_the_venue_is_known_by_the_shape(venue, frame):
    assert notebook.recognise(frame) == venue


@pytest.mark.parametrize(
    "file",
    [
        "bitget/books1.v2.jsonl", "bitget/ack.jsonl", "htx/bbo.jsonl",
        "htx/depth.step0.jsonl", "gateio/futures.book_ticker.jsonl",
        "gateio/acks.jsonl", "bybit/orderbook.1.jsonl", "bybit/acks.jsonl",
        "bybit/tickers.jsonl", "binance/bookTicker.jsonl",
    ],
)  # fmt: skip
def test_captured_frames_are_known_by_their_shape(shared, file):
    lines = (shared / "samples" / file).read_bytes().splitlines()
    assert lines
    assert {notebook.recognise(json.loads(line)) for line in lines} == {file.split("/")[0]}


def test_every_shape_is_of_a_venue_that_decodes():
    assert {venue for venue, _ in notebook.SHAPES} <= VENUES.keys()


@pytest.mark.parametrize(
    ("stamp", "ns"),
    [
        pytest.param(1723161255.030315, 1723161255030315000, id="float-seconds"),
        pytest.param(1723161255.0303147, 1723161255030314700, id="float-of-all-digits"),
        pytest.param(1723161255, 1723161255000000000, id="int-seconds"),
        pytest.param(1723161255030, 1723161255030000000, id="ms"),
        pytest.param(1723161255030.25, 1723161255030250000, id="float-ms"),
        pytest.param(1723161255030314, 1723161255030314000, id="us"),
        pytest.param(1723161255030314667, 1723161255030314667, id="ns"),
        pytest.param(0, None, id="1970"),
        pytest.param(17231612550, None, id="between-s-and-ms"),
        pytest.param(2**63, None, id="beyond-int64"),
        pytest.param(-1723161255, None, id="negative"),
        pytest.param(2**500, None, id="huge"),
        pytest.param(float("nan"), None, id="nan"),
        pytest.param(float("inf"), None, id="inf"),
        pytest.param(True, None, id="bool"),
        pytest.param("1723161255", None, id="text"),
        pytest.param(None, None, id="absent"),
    ],
)
def test_the_unit_of_a_time_is_told_by_its_size(stamp, ns):
    assert notebook.as_ns(stamp) == ns


def test_now_is_read_to_the_float_it_was():
    now = time.time()
    ns = notebook.as_ns(now)
    assert ns is not None
    assert float(Decimal(ns) / NS) == now


def read(path, venue=None):
    tally = Tally()
    return list(notebook.read(path, venue, tally)), tally


def dump(path, *frames):
    with path.open("ab") as file:
        for frame in frames:
            pickle.dump(frame, file)


def test_the_text_is_compact_json_in_the_order_of_the_keys(tmp_path):
    frame = {"ts": 1, "ch": "market.x.bbo", "tick": {"bid": [86859.8, 6172]}, "\u00e9": "\ud800"}
    dump(tmp_path / "f", {**frame, "local_ts": 1723161255.5})
    [heard], _ = read(tmp_path / "f")
    assert heard == Heard(
        1723161255_500000000,
        "htx",
        b'{"ts":1,"ch":"market.x.bbo","tick":{"bid":[86859.8,6172]},"\\u00e9":"\\ud800"}',
    )


@pytest.mark.parametrize(("venue", "frame"), SHAPES)
def test_the_text_says_what_the_dict_said(tmp_path, venue, frame):
    dump(tmp_path / "f", {"local_ts": 1723161255.5, **frame})
    [heard], _ = read(tmp_path / "f", venue or "htx")
    assert msgspec.json.decode(heard.payload) == frame


def test_what_is_no_frame_is_counted(tmp_path):
    frame = {"topic": "orderbook.1.BTCUSDT", "type": "snapshot"}
    dump(
        tmp_path / "f",
        {**frame, "local_ts": 1723161255.5},
        frame,
        {"ping": 5, "local_ts": 1723161255.5},
        [frame],
        None,
    )
    frames, tally = read(tmp_path / "f")
    assert len(frames) == 1
    assert (tally.skipped, tally.torn) == (4, 0)


def test_venue_names_only_the_frames_that_do_not_say_it(tmp_path):
    stamp = {"local_ts": 1723161255.5}
    dump(tmp_path / "f", {"ping": 5, **stamp}, {"ch": "market.x.bbo", **stamp})
    assert [frame.venue for frame in read(tmp_path / "f", "bybit")[0]] == ["bybit", "htx"]


def test_a_file_that_is_no_pickle_is_said_in_a_sentence(tmp_path):
    (tmp_path / "frames.pkl").write_bytes(b'{"json":1}\n')
    with pytest.raises(Failed, match=r"^frames\.pkl, byte 0: opcode 0x7b .*nothing was imported"):
        read(tmp_path / "frames.pkl")
