"""Binance USD-M: every real frame at hand, read in place; each says what plain JSON says."""

import gzip
import json
from bisect import bisect_right
from collections import Counter
from itertools import pairwise

import pytest

from perptape.events import MS, Book, Funding, Mark, Quote, Trade
from perptape.venues.binance import BINANCE


def rest(what, body):
    return BINANCE.read_rest(what, "ABCUSDT", body)


def lines(shared, name):
    return (shared / "samples" / "binance" / name).read_bytes().splitlines()


def session(shared):
    """Give 60 s of two markets: [(symbol, REST book)] and the frames of each stream."""
    path = shared / "samples" / "binance" / "usdm_btc_eth_60s.recv_ns_json.gz"
    frames = [line.split(b" ", 1)[1] for line in gzip.decompress(path.read_bytes()).splitlines()]
    books = [json.loads(frame) for frame in frames if frame.startswith(b'{"rest_depth_symbol"')]
    bodies = {book["rest_depth_symbol"]: json.dumps(book["data"]) for book in books}
    return bodies, frames


def replay(start, changes):
    """Apply the one rule of continuity; give each change that was applied, and the top after it."""
    sides = [dict(start.bids), dict(start.asks)]
    last, is_first = start.update_id, True
    for change in changes:
        if change.update_id <= last:
            continue
        assert change.follows <= last if is_first else change.follows == last
        is_first, last = False, change.update_id
        for side, levels in zip(sides, (change.bids, change.asks), strict=True):
            side.update(levels)
            for price in [price for price, qty in levels if not qty]:
                del side[price]
        bid, ask = max(sides[0]), min(sides[1])
        yield change, (bid, sides[0][bid], ask, sides[1][ask])


def long_session(shared):
    """Give near 6 min of one market, likewise; its REST books stand bare among the frames."""
    path = shared / "data/binance-3markets-btc-20240808/usdm/btcusdt_20240808.gz"
    frames = [line.split(b" ", 1)[1] for line in gzip.decompress(path.read_bytes()).splitlines()]
    body = next(frame for frame in frames if frame.startswith(b'{"lastUpdateId"'))
    return {"BTCUSDT": body}, frames


@pytest.mark.parametrize(
    ("load", "events_applied"),
    [(session, {"BTCUSDT": 1144, "ETHUSDT": 1146}), (long_session, {"BTCUSDT": 6547})],
)
def test_the_top_of_the_book_is_the_last_quote_in_every_event_of_2024(shared, load, events_applied):
    bodies, frames = load(shared)
    events = [event for frame in frames for event in BINANCE.decode(frame)]
    applied = Counter()
    for symbol, body in bodies.items():
        (start,) = BINANCE.read_rest("book", symbol, body)
        tops = [e for e in events if isinstance(e, Quote) and e.symbol == symbol]
        told = [top.update_id for top in tops]
        assert told == sorted(told)
        changes = [e for e in events if isinstance(e, Book) and e.symbol == symbol]
        assert all(b.follows == a.update_id for a, b in pairwise(changes))
        for change, best in replay(start, changes):
            top = tops[bisect_right(told, change.update_id) - 1]
            assert best == (top.bid_price, top.bid_qty, top.ask_price, top.ask_qty)
            assert best[0] < best[2]
            applied[symbol] += 1
    assert applied == events_applied


def test_the_splice_of_the_sheet(shared):
    bodies, frames = session(shared)
    links = [(frame, link) for frame in frames if (link := BINANCE.link(frame))]
    first = {}
    for symbol, body in bodies.items():
        (book,) = BINANCE.read_rest("book", symbol, body)
        mine = [(f, x) for f, x in links if x.key == f"{symbol.lower()}@depth@0ms"]
        dropped = [x for _, x in mine if x.update_id <= book.update_id]
        frame, link = mine[len(dropped)]
        first[symbol] = (book.update_id, len(dropped), json.loads(frame)["data"]["U"], link)
    key = "btcusdt@depth@0ms"
    assert first["BTCUSDT"][:3] == (5123107852948, 4, 5123107850310)
    assert first["BTCUSDT"][3].update_id == 5123107853551
    after = [x for _, x in links if x.key == key and x.follows == 5123107853551]
    assert len(after) == 1
    last, _, _, link = first["ETHUSDT"]
    assert (last, link.follows) == (5123107856276, 5123107856276)  # it continues exactly


def told(frame):
    """What plain JSON says of a frame, by the sheet's field names; no code of ours."""
    message = json.loads(frame)
    data = message.get("data", message) if isinstance(message, dict) else {}
    stream = message.get("stream") if isinstance(message, dict) else None
    read = TOLD.get(data.get("e"))
    return read(data, stream) if read else []


def told_depth(data, stream):
    if stream is None:
        return []
    sides = [[(float(p), float(q)) for p, q in data[key]] for key in "ba"]
    times = data["T"] * MS, data["E"] * MS
    return [
        Book(data["s"], *times, *sides, is_snapshot=False, update_id=data["u"], follows=data["pu"])
    ]


def told_trade(data, stream):
    del stream
    number = data["t"] if data["e"] == "trade" else data["a"]
    side, sizes = ("buy", "sell")[data["m"]], (float(data["p"]), float(data["q"]))
    return [Trade(data["s"], data["T"] * MS, data["E"] * MS, *sizes, side, str(number))]


def told_mark(data, stream):
    del stream
    ts = data["E"] * MS
    return [
        Mark(data["s"], ts, None, float(data["p"]), float(data["i"])),
        Funding(data["s"], ts, None, float(data["r"]), ts_funding=data["T"] * MS),
    ]


def told_quote(data, stream):
    del stream
    sides = [float(data[key]) for key in "bBaA"]
    return [Quote(data["s"], data["T"] * MS, data["E"] * MS, *sides, data["u"])]


TOLD = {
    "depthUpdate": told_depth,
    "trade": told_trade,
    "aggTrade": told_trade,
    "markPriceUpdate": told_mark,
    "bookTicker": told_quote,
}
FILES = {  # file -> events by type
    "aggTrade_2021.jsonl": {"Trade": 91},
    "bookTicker.jsonl": {"Quote": 4537},
    "depth_0ms.jsonl": {"Book": 460},
    "depth_100ms_2021.jsonl": {"Book": 200},
    "depth_snapshot_rest.jsonl": {},
    "docs_ws_examples.jsonl": {"Quote": 2, "Trade": 1, "Mark": 2, "Funding": 2},
    "kline_2021.jsonl": {},
    "live_2026.jsonl": {"Quote": 1, "Trade": 2, "Mark": 2, "Funding": 2},
    "trade.jsonl": {"Trade": 886},
    "usdm_btc_eth_60s.recv_ns_json.gz": {"Quote": 22282, "Book": 2300, "Trade": 4598},
}
REST = {"docs_rest_examples.jsonl", "exchangeInfo_2021_trimmed.rest.jsonl"}


@pytest.mark.parametrize("name", FILES)
def test_every_real_frame_says_what_plain_json_says(shared, name):
    frames = session(shared)[1] if name.endswith(".gz") else lines(shared, name)
    if name == "docs_ws_examples.jsonl":
        frames = [json.dumps(json.loads(line)["example"]).encode() for line in frames]
    counts = Counter()
    for frame in frames:
        events = BINANCE.decode(frame)
        message = json.loads(frame)
        if isinstance(message, list):  # an all-market array: row by row
            assert events == [e for row in message for e in told(json.dumps(row))]
        else:
            assert events == told(frame)
        counts.update(type(event).__name__ for event in events)
    assert counts == FILES[name]


def test_no_sample_is_forgotten(shared):
    names = {path.name for path in (shared / "samples" / "binance").iterdir()}
    texts_and_times = {n for n in names if n.endswith((".md", ".recv_ns.txt"))}
    assert names - texts_and_times == set(FILES) | REST


def test_trade_ids_have_no_hole_in_2024(shared):
    trades = [BINANCE.decode(frame)[0] for frame in lines(shared, "trade.jsonl")]
    for symbol in ("BTCUSDT", "ETHUSDT"):
        numbers = [int(t.trade_id) for t in trades if t.symbol == symbol]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


UNREAD = {
    "basis", "compressed_aggregate_trades_list", "recent_trades_list", "symbol_order_book_ticker",
    "mark_price",
}  # fmt: skip
"""Calls that we do not make: streams tell the same."""


def test_documented_rest_answers(shared):
    found = [json.loads(line) for line in lines(shared, "docs_rest_examples.jsonl")]
    bodies = {each["endpoint"]: json.dumps(each["example"]).encode() for each in found}
    assert BINANCE.read_time(bodies.pop("check_server_time")) == 1499827319559 * MS
    (listed,) = BINANCE.read_instruments(bodies.pop("exchange_information"), 0).instruments
    assert listed.name == "BLZ-USDT-PERP"
    assert rest("book", bodies.pop("order_book")) == [
        Book(
            "ABCUSDT", 1589436922959 * MS, 1589436922972 * MS, [(4.0, 431.0)], [(4.000002, 12.0)],
            is_snapshot=True, update_id=1027024,
        )
    ]  # fmt: skip
    assert rest("open_interest", bodies.pop("open_interest")) == [
        Mark("BTCUSDT", 1589437530011 * MS, None, open_interest=10659.509)
    ]
    assert rest("funding_info", bodies.pop("get_funding_rate_info")) == [
        Funding("BLZUSDT", None, None, interval_h=8.0)
    ]
    assert rest("funding_history", bodies.pop("get_funding_rate_history")) == [
        Funding("BTCUSDT", None, None, -0.0375, ts_funding=1570608000000 * MS, is_settled=True)
    ]
    assert set(bodies) == UNREAD


def test_a_real_snapshot_of_a_thousand_levels(shared):
    for body in lines(shared, "depth_snapshot_rest.jsonl"):
        (book,) = rest("book", body)
        assert (len(book.bids), len(book.asks)) == (1000, 1000)
        assert max(book.bids) == book.bids[0] < min(book.asks) == book.asks[0]
        assert book.ts_event < book.ts_send
