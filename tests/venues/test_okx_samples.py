"""OKX's real frames: all of them, against what plain JSON says."""

import json
from pathlib import Path

from perptape.events import MS, NS, Book, Mark, Quote, Trade
from perptape.venues.okx import OKX
from perptape.venues.venue import Accepted, checksum


def lines(shared, name):
    return (shared / "samples" / "okx" / name).read_bytes().splitlines()


def said_book(message):
    """What plain JSON says of a book, by the sheet's field names."""
    (depth,) = message["data"]
    bids, asks = ([(float(p), float(q)) for p, q, *_ in depth[k]] for k in ("bids", "asks"))
    whole = message["action"] == "snapshot"
    follows = None if whole else depth.get("prevSeqId")
    name = message["arg"]["instId"]
    return Book(name, int(depth["ts"]) * MS, None, bids, asks, whole, depth.get("seqId"), follows)


def said_trade(row):
    price, size = float(row["px"]), float(row["sz"])
    return Trade(row["instId"], int(row["ts"]) * MS, None, price, size, row["side"], row["tradeId"])


def test_all_books_of_2022_decode_and_all_their_checksums_match(shared):
    books, matched, snapshots = {}, 0, 0
    for line in lines(shared, "books_2022.jsonl"):
        message = json.loads(line)
        assert OKX.decode(line) == [said_book(message)]
        assert OKX.link(line).update_id is None
        (depth,) = message["data"]
        if message["action"] == "snapshot":
            snapshots += 1
            books[message["arg"]["instId"]] = {"bids": {}, "asks": {}}
        sides = books[message["arg"]["instId"]]
        for key, side in sides.items():
            side.update({price: size for price, size, *_ in depth[key]})
            for price, size, *_ in depth[key]:
                if float(size) == 0:
                    del side[price]
        bids = sorted(sides["bids"].items(), key=lambda level: -float(level[0]))
        asks = sorted(sides["asks"].items(), key=lambda level: float(level[0]))
        matched += checksum(bids, asks) == depth["checksum"]
    assert (snapshots, matched) == (3, 290)


def test_trades_of_2022_and_the_first_of_each_market_are_of_before(shared):
    heard = [
        float(text) for text in (shared / "samples/okx/trades_2022.recv_s.txt").read_text().split()
    ]
    first = {}
    for line, recv_s in zip(lines(shared, "trades_2022.jsonl"), heard, strict=True):
        told = OKX.decode(line)
        assert told == [said_trade(row) for row in json.loads(line)["data"]]
        first.setdefault(told[0].symbol, recv_s - told[0].ts_event / NS)
    assert {name: round(age_s, 1) for name, age_s in first.items()} == {
        "BTC-USD-220527": 25.5,
        "UNI-USD-SWAP": 10.4,
        "BTC-USDT": 0.7,
    }
    assert OKX.replays_trades


def test_tickers_of_2022_are_no_channel_of_ours(shared):
    found = lines(shared, "tickers_2022.jsonl")
    assert len(found) == 28
    for line in found:
        assert OKX.is_data(line) and OKX.decode(line) == []


def test_acks_of_2022(shared):
    for line in lines(shared, "ack_2022.jsonl"):
        arg = json.loads(line)["arg"]
        assert OKX.control(line) == Accepted((f"{arg['channel']}.{arg['instId']}",))
        assert not OKX.is_data(line) and OKX.decode(line) == []


def test_documented_frames(shared):
    bbo, whole, change, ticker, trade, contracts = lines(shared, "docs_ws_examples.jsonl")
    ts = 1597026383085 * MS
    assert OKX.decode(bbo) == [Quote("BTC-USDT", ts, None, 8476.97, 256.0, 8476.98, 415.0, 123456)]
    for line in (whole, change):
        (told,) = OKX.decode(line)
        assert told == said_book(json.loads(line))
        assert len(told.bids) == len(told.asks) == 8
    assert (told.follows, told.update_id) == (123456, 123457)
    assert OKX.decode(ticker) == OKX.decode(contracts) == []
    assert OKX.decode(trade) == [
        Trade("BTC-USD", 1630048897897 * MS, None, 42219.9, 0.12060306, "buy", "130639474")
    ]


def test_live_frames(shared):
    interest, whole, change = lines(shared, "live_2025_2026.jsonl")
    assert OKX.decode(interest) == [
        Mark("BTC-USDT-SWAP", 1743041250440 * MS, None, open_interest=2216113.01000000309)
    ]
    (first,), (second,) = OKX.decode(whole), OKX.decode(change)
    assert [first, second] == [said_book(json.loads(line)) for line in (whole, change)]
    assert second.follows == first.update_id == 32032594283
    assert second.bids == [(120.66, 0.0)]


def test_lists_of_2022_and_2025_hold_their_linear_swaps(shared):
    def sizes(name):
        found = OKX.read_instruments(*lines(shared, name), 7).instruments
        return {one.symbol: (one.contract_size, one.tick_size, one.lot_size) for one in found}

    assert sizes("instruments_swap_2022_trimmed.rest.jsonl") == {
        "BTC-USDT-SWAP": (0.01, 0.1, 0.01),
        "ETH-USDT-SWAP": (0.1, 0.01, 0.1),
        "SHIB-USDT-SWAP": (1e6, 1e-8, 1e6),
    }
    assert sizes("instruments_swap_2025.rest.jsonl") == {
        "BTC-USDT-SWAP": (0.01, 0.1, 0.0001),
        "ETH-USDT-SWAP": (0.1, 0.01, 0.001),
    }


def test_no_file_is_forgotten(shared):
    """Each is decoded and asserted above, but for what we heard when: that is no frame."""
    text = Path(__file__).read_text()
    files = [path.name for path in (shared / "samples" / "okx").iterdir()]
    frames = [name for name in files if name.endswith(".jsonl")]
    assert len(frames) == 8
    assert [name for name in frames if f'"{name}"' not in text] == []
    assert all(name.endswith((".jsonl", ".recv_s.txt", ".md")) for name in files)
