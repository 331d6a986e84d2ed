"""Every real frame at hand: its values as plain JSON tells them, or a reason why not."""

import base64
import gzip
import json
import tomllib
import zlib
from pathlib import Path

import msgspec
import pytest

from perptape.events import MS, Quote
from perptape.venues import VENUES
from perptape.venues.venue import Accepted, Alive, Complaint, Leaving, Rejected

FOLDERS = ("bitget", "htx", "gateio", "bybit", "binance")
REFUSED = {
    entry["file"]: entry
    for entry in tomllib.loads(Path(__file__).with_name("refused.toml").read_text())["refused"]
}


def number(text):
    return None if text is None else float(text)


def told_by_bitget(frame):
    (book,) = frame["data"]
    bid, ask = book["bids"][0], book["asks"][0]
    return Quote(
        frame["arg"]["instId"],
        int(book["ts"]) * MS,
        frame["ts"] * MS,
        *map(float, bid),
        *map(float, ask),
        book.get("seq"),
    )


def told_by_htx(frame):
    tick = frame["tick"]
    bid = tick["bid"] if "bid" in tick else tick["bids"][0]
    ask = tick["ask"] if "ask" in tick else tick["asks"][0]
    symbol = frame["ch"].split(".")[1]
    return Quote(symbol, tick["ts"] * MS, frame["ts"] * MS, *bid, *ask, tick["mrid"])


def told_by_gateio(frame):
    top = frame["result"]
    if top["t"] == 0:
        return None
    sent = frame["time_ms"] * MS if "time_ms" in frame else None
    sides = float(top["b"]), float(top["B"]), float(top["a"]), float(top["A"])
    return Quote(top["s"], top["t"] * MS, sent, *sides, top["u"])


def told_by_bybit(frame):
    book = frame["data"]
    bid, ask = map(float, book["b"][0]), map(float, book["a"][0])
    event = frame["cts"] * MS if "cts" in frame else None
    return Quote(book["s"], event, frame["ts"] * MS, *bid, *ask, book["u"])


def told_by_binance(frame):
    top = frame.get("data", frame)
    sides = float(top["b"]), float(top["B"]), float(top["a"]), float(top["A"])
    return Quote(top["s"], top["T"] * MS, top["E"] * MS, *sides, top["u"])


TOLD = {
    "bitget": (lambda m: "action" in m and m["arg"].get("channel") == "books1", told_by_bitget),
    "htx": (lambda m: m.get("ch", "").endswith((".bbo", ".depth.step0")), told_by_htx),
    "gateio": (
        lambda m: (m.get("channel"), m.get("event")) == ("futures.book_ticker", "update"),
        told_by_gateio,
    ),
    "bybit": (lambda m: m.get("topic", "").startswith("orderbook.1."), told_by_bybit),
    "binance": (
        lambda m: isinstance(m, dict) and m.get("data", m).get("e") == "bookTicker",
        told_by_binance,
    ),
}

QUOTES = {
    "bitget/books1.v2.jsonl": 1,
    "htx/bbo.jsonl": 3,
    "htx/depth.step0.jsonl": 125,
    "htx/raw_gzip_frames.b64.jsonl": 4,
    "htx/recorded_with_recv_time.SNX-USDT.jsonl": 71,
    "gateio/futures.book_ticker.jsonl": 4,
    "gateio/futures.book_ticker.2023-05-24.jsonl": 75,
    "gateio/session_2023-05-24.tsv": 75,
    "bybit/orderbook.1.jsonl": 1,
    "bybit/orderbook.1.2023-retired-delta-form.jsonl": 1,
    "binance/bookTicker.jsonl": 4537,
    "binance/docs_ws_examples.jsonl": 2,
    "binance/live_2026.jsonl": 1,
    "binance/usdm_btc_eth_60s.recv_ns_json.gz": 22282,
}
"""Files with quotes in them, and how many; in all others there is none."""


BARE = {"binance/docs_ws_examples.jsonl", "binance/live_2026.jsonl"}
"""Files with quotes of a socket that we do not use, without their stream's name."""


def is_rest(path):
    return "rest" in path.name


def samples(shared):
    """Give every sample file of our venues; texts about them and their times are none."""
    found = [p for name in FOLDERS for p in sorted((shared / "samples" / name).iterdir())]
    return [p for p in found if p.suffix != ".md" and not p.name.endswith(".recv_ns.txt")]


def frames_in(path):
    """Give the frames of a file as they stood on the wire, from whatever wraps them."""
    read = gzip.open if path.suffix == ".gz" else open
    with read(path, "rb") as file:
        lines = file.read().splitlines()
    if path.suffix == ".gz":
        return [line.split(b" ", 1)[1] for line in lines]
    if path.suffix == ".tsv":
        return [line.split(b"\t")[2] for line in lines if b"\thttp" not in line]
    if path.name == "raw_gzip_frames.b64.jsonl":
        return [zlib.decompress(base64.b64decode(json.loads(x)["gzip_b64"]), 31) for x in lines]
    inner = {"recorded_with_recv_time.SNX-USDT.jsonl": "frame", "docs_ws_examples.jsonl": "example"}
    if key := inner.get(path.name):
        return [json.dumps(json.loads(line)[key], separators=(",", ":")).encode() for line in lines]
    return lines


def test_every_real_frame_decodes_to_what_it_says_or_is_refused_for_a_reason(shared):
    counts = {}
    for path in samples(shared):
        if is_rest(path):
            continue
        venue, name = path.parent.name, f"{path.parent.name}/{path.name}"
        refused = REFUSED.get(name, {"lines": []})["lines"]
        for line, frame in enumerate(frames_in(path), start=1):
            if line in refused:
                with pytest.raises((msgspec.MsgspecError, ValueError)):
                    VENUES[venue].decode(frame)
                continue
            events = VENUES[venue].decode(frame)  # other channels: in each venue's own tests
            heard = [event for event in events if isinstance(event, Quote)]
            assert heard == expected(venue, frame), f"{name}:{line}"
            counts[name] = counts.get(name, 0) + len(heard)
    assert {name: count for name, count in counts.items() if count} == QUOTES


def expected(venue, frame):
    """What plain JSON says of a frame, by the sheet's field names; no code of ours."""
    concerns, told = TOLD[venue]
    message = json.loads(frame)
    quote = told(message) if concerns(message) else None
    return [] if quote is None else [quote]


def test_refusals_have_reasons_and_their_files_exist(shared):
    for name, entry in REFUSED.items():
        assert (shared / "samples" / name).is_file()
        assert len(entry["reason"]) > 20


def test_golden_prices_of_the_sheets(shared):
    """Values read by eye in the protocol sheets, one quote a venue."""
    eye = {
        "bitget/books1.v2.jsonl": (44.82, 3.5344, 44.9, 0.6927),
        "htx/bbo.jsonl": (86859.8, 6172.0, 86859.9, 817.0),
        "gateio/futures.book_ticker.jsonl": (45534.7, 2500.0, 45534.8, 15227.0),
        "bybit/orderbook.1.jsonl": (63561.5, 1.776, 63561.6, 4.848),
        "binance/bookTicker.jsonl": (2681.62, 1.165, 2681.63, 73.077),
    }
    for name, sides in eye.items():
        frame = frames_in(shared / "samples" / name)[0]
        (quote,) = VENUES[name.split("/")[0]].decode(frame)
        assert (quote.bid_price, quote.bid_qty, quote.ask_price, quote.ask_qty) == sides


SAID = {
    "bitget/ack.jsonl": [
        Accepted(("books.BTCUSDT",)),
        None,
        Accepted(()),
        Accepted(()),
        None,
    ],
    "bitget/error.jsonl": [
        Rejected(
            ("books.NOPEUSDT",),
            "instType:USDT-FUTURES,channel:books,instId:NOPEUSDT,precision:null doesn't exist",
        ),
        Rejected(("books50.BTCUSDT",), "Param error"),
        Complaint(
            '30001 {"instType":"usdt-futures","symbol":"NOPEUSDT","topic":"books"} doesn\'t exist'
        ),
        Complaint("30006 request too many"),
        Complaint('30002 Unrecognized request:{"ping":1559291007437691}'),
        Complaint("30001 instType:SP, channel:ticker, instId:XRPETH_SPBL doesn't exist"),
    ],
    "htx/ack.jsonl": [
        *(
            Accepted((f"market.{coin}-USDT.{channel}",))
            for channel in ("trade.detail", "depth.step0")
            for coin in ("GRT", "SNX", "BTT", "SOS", "ACH")
        ),
        Accepted(("market.BTC-USDT.depth.size_20.high_freq",)),
        None,
        Accepted(("orders.*",)),
    ],
    "htx/error.jsonl": [
        Rejected(("e-size400",), "invalid topic market.BTC-USDT.depth.size_400.high_freq"),
        Complaint("not json, is not json string"),
        Complaint("error"),
        Rejected(("1649149285",), "Contract doesn't exist."),
        Rejected(("1649152947",), "Missing required parameter."),
    ],
    "htx/ping.jsonl": [
        Alive(b'{"pong":%d}' % ms)
        for ms in (
            1645289389594,
            1645289394596,
            1645289399592,
            1645289404590,
            1645289409591,
            1645289414592,
            1790134831961,
        )
    ],
    "gateio/acks.jsonl": [
        Accepted(()),
        Accepted(()),
        Accepted(()),
        Accepted(()),
        Accepted(("futures.obu.ob.BTC_USDT.50",)),
        None,
        Accepted(tuple(f"futures.obu.ob.{c}_USDT.50" for c in ("BTC", "ETH", "CHR", "INIT"))),
        Accepted(("futures.obu.ob.NOPE_USDT.50",)),
    ],
    "gateio/errors.jsonl": [
        Accepted(("futures.obu.ob.BTC_USDT.50",)),  # it is there and goes on
        Accepted(("futures.obu.ob.BTC_USDT.400",)),  # it is there and goes on
        Rejected(
            ("futures.candlesticks.1m_BTC_USDT",), "request payload does not follow json schema"
        ),
        Rejected(
            ("spot.trades.LUNARLENS_USDT", "spot.trades.ETH_USDT"),
            "unknown currency pair: LUNARLENS_USDT",
        ),
    ],
    "gateio/ping_pong.jsonl": [None, Alive()],
    "gateio/futures.system.jsonl": [
        Leaving("The connection will soon be closed for a service upgrade. Please reconnect.")
    ],
    "bybit/acks.jsonl": [
        Accepted(("4000001",)),
        None,
        Accepted(()),
        Accepted(("t1",)),
        Accepted(()),
    ],
    "bybit/errors.jsonl": [
        Rejected(("old",), "error:handler not found,topic:liquidation.BTCUSDT"),
        Rejected(("e1",), "error:handler not found,topic:orderbook.50.NOPEUSDT"),
        Accepted(("e6",)),
    ],
    "bybit/errors.spot-family.jsonl": [Rejected(("2000001",), "args size >10")],
    "bybit/ping_pong.jsonl": [Alive()] * 4,
}


@pytest.mark.parametrize("name", SAID)
def test_what_the_venues_say_of_themselves(shared, name):
    venue = VENUES[name.split("/")[0]]
    frames = frames_in(shared / "samples" / name)
    assert [venue.control(frame) for frame in frames] == SAID[name]
    assert not any(venue.is_data(frame) or venue.data_mark in frame for frame in frames)


def test_data_frames_are_ruled_out_of_control_and_carry_their_marks(shared):
    seen = 0
    for name in QUOTES:
        venue = VENUES[name.split("/")[0]]
        is_heard = venue.live and name not in BARE
        for frame in frames_in(shared / "samples" / name) if is_heard else ():
            concerns, _ = TOLD[venue.name]
            if not concerns(json.loads(frame)):
                continue
            seen += 1
            assert venue.is_data(frame)
            for quote in venue.decode(frame) if name not in REFUSED else ():
                topics = [venue.topic("quotes", s, quote.symbol) for s in venue.streams["quotes"]]
                assert any(all(mark in frame for mark in topic.marks) for topic in topics)
    assert seen > 350


def body(shared, name, line=0):
    return (shared / "samples" / name).read_bytes().splitlines()[line]


def listed(shared, name, line=0):
    venue = VENUES[name.split("/")[0]]
    found = venue.read_instruments(body(shared, name, line), 7).instruments
    return {instrument.symbol: instrument for instrument in found}


def test_bybit_lists(shared):
    found = listed(shared, "bybit/rest_instruments_info.jsonl")
    nft, bonk = found["10000NFTUSDT"], found["1000BONKUSDT"]
    assert (nft.name, nft.price_unit, nft.lot_size) == ("NFT-USDT-PERP", 1e4, 1e5)
    assert nft.tick_size == pytest.approx(5e-10, rel=1e-12)
    assert (bonk.name, bonk.contract_size, bonk.funding_interval_h) == ("BONK-USDT-PERP", 1e3, 8)
    documented = "bybit/rest_instruments_info.documented.jsonl"
    assert listed(shared, documented)["BTCUSDT"].tick_size == 0.1
    assert listed(shared, documented, 1)["BIOUSDT"].status == "PreLaunch"


def test_gateio_lists(shared):
    lines = (
        body(shared, "gateio/rest_contracts.jsonl"),
        body(shared, "gateio/rest_contracts.jsonl", 1),
    )
    old = (shared / "samples/gateio/rest_contracts.2023-05-24.jsonl").read_bytes().splitlines()
    read = VENUES["gateio"].read_instruments
    btc, aria = read(b"[%b,%b]" % lines, 7).instruments
    assert (btc.name, btc.contract_size, btc.tick_size) == ("BTC-USDT-PERP", 0.0001, 0.1)
    assert (btc.funding_interval_h, btc.taker_fee) == (8.0, 0.0005)
    assert (aria.contract_size, aria.lot_size, aria.funding_interval_h) == (100.0, None, 4.0)
    found = read(b"[%b]" % b",".join(old), 7).instruments
    assert len(found) == len(old) == 17
    assert sorted({one.status for one in found}) == ["delisting", "trading"]
    assert {one.symbol: one.contract_size for one in found}["ETH_USDT"] == 0.01


def test_htx_lists(shared):
    found = listed(shared, "htx/rest_swap_contract_info.jsonl")
    assert found["BTC-USDT"].contract_size == 0.001
    assert (found["PEPE-USDT"].contract_size, found["PEPE-USDT"].tick_size) == (1e6, 1e-10)
    assert found["CYBER-USDT"].status == "suspended"
    assert found["JP225-USDT"].name == "JP225-USDT-PERP"
    assert {s: i.funding_interval_h for s, i in found.items()}["JP225-USDT"] == 1.0
    full = listed(shared, "htx/rest_swap_contract_info.2022-02-19.full.jsonl")
    assert len(full) == 121
    assert all(i.funding_interval_h is None and i.contract_size > 0 for i in full.values())


def test_bitget_lists_no_inverse_contracts(shared):
    name = "bitget/rest_contracts.v2.jsonl"
    assert listed(shared, name) == {}
    row = json.loads(body(shared, name))
    row["data"][0] |= {"symbol": "BTCUSDT", "quoteCoin": "USDT"}
    (found,) = VENUES["bitget"].read_instruments(json.dumps(row).encode(), 7).instruments
    assert (found.name, found.tick_size, found.lot_size) == ("BTC-USDT-PERP", 0.1, 0.0001)
    assert (found.status, found.funding_interval_h) == ("trading", 8.0)


def test_binance_lists(shared):
    found = listed(shared, "binance/exchangeInfo_2021_trimmed.rest.jsonl")
    assert {s: (i.name, i.tick_size, i.lot_size) for s, i in found.items()} == {
        "BTCUSDT": ("BTC-USDT-PERP", 0.01, 0.001),
        "ETHUSDT": ("ETH-USDT-PERP", 0.01, 0.001),
        "SUSHIUSDT": ("SUSHI-USDT-PERP", 0.001, 1.0),
    }


@pytest.mark.parametrize(
    ("name", "line", "ts"),
    [
        ("bitget/rest_misc.v2.jsonl", 0, 1688008631614 * MS),
        ("htx/rest_documented.jsonl", 3, 1578124684692 * MS),
        ("gateio/rest_spot_time.jsonl", 0, 1789456236538 * MS),
        ("bybit/rest_market_time.documented.jsonl", 0, 1688639403423213947),
    ],
)
def test_clocks(shared, name, line, ts):
    assert VENUES[name.split("/")[0]].read_time(body(shared, name, line)) == ts


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("bitget/rest_errors.jsonl", 0, "40034 Parameter NOPEUSDT does not exist"),
        ("bitget/rest_errors.jsonl", 1, "40019 Parameter NOPE-FUTURES cannot be empty"),
        ("htx/rest_errors.jsonl", 0, "404 Not Found"),
        ("htx/rest_errors.jsonl", 1, "maintain"),
    ],
)
def test_rest_errors(shared, name, line, words):
    with pytest.raises(ValueError, match=words):
        VENUES[name.split("/")[0]].read_instruments(body(shared, name, line), 7)


def test_no_file_is_forgotten(shared):
    """Whatever is not a file of quotes holds none: the walk above went over all of them."""
    names = {f"{p.parent.name}/{p.name}" for p in samples(shared)}
    assert set(QUOTES) | set(SAID) <= names
    assert {name.split("/")[0] for name in names} == set(FOLDERS)
    assert len(names) > 90


NOT_OURS = {
    "aster": "no venue yet",
    "bitmex": "closed in 2026",
    "deribit": "no venue yet",
    "dydx": "no venue yet",
    "kraken_futures": "no venue yet",
    "kucoin_futures": "no venue yet",
    "lighter": "no venue yet",
    "mexc_futures": "no venue yet",
}
ELSEWHERE = {"okx": "test_okx_samples.py", "hyperliquid": "test_hyperliquid.py"}
"""Venues whose files are counted in a test of their own."""


def test_no_folder_is_forgotten(shared):
    folders = {p.name for p in (shared / "samples").iterdir()}
    assert folders == {*FOLDERS, *ELSEWHERE, *NOT_OURS}
    assert {*FOLDERS, *ELSEWHERE} <= set(VENUES)
    assert not set(NOT_OURS) & set(VENUES), "its frames are to be asserted now"
    here = Path(__file__).parent
    assert all((here / name).exists() for name in ELSEWHERE.values())
