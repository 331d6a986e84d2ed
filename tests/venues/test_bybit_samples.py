"""Bybit's real frames: each file is decoded to what plain JSON says, or refused for a reason."""

import json
import tomllib
from pathlib import Path

import msgspec
import pytest

from perptape.events import MS, Book, Funding, Mark, Quote, Trade
from perptape.venues.bybit import BYBIT
from perptape.venues.venue import Link

REFUSED = {
    entry["file"].partition("/")[2]: entry["lines"]
    for entry in tomllib.loads(Path(__file__).with_name("refused.toml").read_text())["refused"]
    if entry["file"].startswith("bybit/")
}


def nothing(_):
    return []


def side(levels):
    return [(float(price), float(qty)) for price, qty in levels]


def times(frame):
    return frame["cts"] * MS if "cts" in frame else None, frame["ts"] * MS


def told_quote(frame):
    data = frame["data"]
    ((bid,), (ask,)) = side(data["b"]), side(data["a"])
    return [Quote(data["s"], *times(frame), *bid, *ask, data["u"])]


def told_book(frame):
    data, is_snapshot = frame["data"], frame["type"] == "snapshot"
    follows = None if is_snapshot else data["u"] - 1
    sides = side(data["b"]), side(data["a"])
    return [Book(data["s"], *times(frame), *sides, is_snapshot, data["u"], follows)]


def told_trades(frame):
    return [
        Trade(
            row["s"],
            row["T"] * MS,
            frame["ts"] * MS,
            float(row["p"]),
            float(row["v"]),
            row["S"].lower(),
            row["i"],
        )
        for row in frame["data"]
    ]


def told_ticker(frame):
    row = {key: value for key, value in frame["data"].items() if value}
    head = (row["symbol"], None, frame["ts"] * MS)
    both = row.get("openInterest")
    one = row.get("singleOpenInterest", both and float(both) / 2)
    marks = [number(row.get("markPrice")), number(row.get("indexPrice")), number(one)]
    time = row.get("nextFundingTime")
    paid = [number(row.get("fundingRate")), number(row.get("fundingIntervalHour"))]
    paid.append(time and int(time) * MS)
    found = [Mark(*head, *marks)] if any(marks) else []
    return [*found, Funding(*head, *paid)] if any(paid) else found


def number(text):
    return None if text is None else float(text)


SOCKET = {
    "acks.jsonl": (nothing, 0),
    "allLiquidation.documented.jsonl": (nothing, 0),
    "allLiquidation.jsonl": (nothing, 0),
    "errors.jsonl": (nothing, 0),
    "errors.spot-family.jsonl": (nothing, 0),
    "insurance.documented.jsonl": (nothing, 0),
    "liquidation.retired.jsonl": (nothing, 0),
    "orderbook.1.2023-retired-delta-form.jsonl": (told_quote, 1),
    "orderbook.1.jsonl": (told_quote, 1),
    "orderbook.50.documented.jsonl": (told_book, 1),
    "orderbook.50.jsonl": (told_book, 2),
    "orderbook.50.relay.jsonl": (told_book, 2),
    "orderbook.500.XRPUSDT.2024-12-01.jsonl": (told_book, 50),
    "orderbook.rpi.documented.jsonl": (nothing, 0),
    "ping_pong.jsonl": (nothing, 0),
    "priceLimit.documented.jsonl": (nothing, 0),
    "publicTrade.jsonl": (told_trades, 11),
    "tickers.documented.jsonl": (told_ticker, 3),
    "tickers.jsonl": (told_ticker, 7),
}
"""What plain JSON says of each file's frames, and how many events that are."""
INSTRUMENTS_AND_TIME = {
    "rest_instruments_info.documented.jsonl",
    "rest_instruments_info.jsonl",
    "rest_market_time.documented.jsonl",
}
"""Asserted with those of the other venues."""
PAID = "rest_funding_history.jsonl"


def lines(shared, name):
    return (shared / "samples" / "bybit" / name).read_bytes().splitlines()


@pytest.mark.parametrize("name", SOCKET)
def test_every_real_frame(shared, name):
    told, count = SOCKET[name]
    heard = []
    for line, frame in enumerate(lines(shared, name), start=1):
        if line in REFUSED.get(name, ()):
            with pytest.raises(msgspec.ValidationError):
                BYBIT.decode(frame)
            continue
        events = BYBIT.decode(frame)
        assert events == told(json.loads(frame)), f"{name}:{line}"
        assert BYBIT.is_data(frame) == (b'"topic":' in frame)
        heard += events
    assert len(heard) == count


def test_no_file_is_forgotten(shared):
    names = {path.name for path in (shared / "samples" / "bybit").glob("*.jsonl")}
    assert {*SOCKET, *INSTRUMENTS_AND_TIME, PAID, *REFUSED} == names


def test_answers_to_calls_that_we_do_not_make_are_refused(shared):
    names = [name for name in REFUSED if name.startswith("rest_")]
    assert len(names) == 5
    for name in names:
        for body in lines(shared, name):
            with pytest.raises((msgspec.MsgspecError, ValueError)):
                BYBIT.read_rest("funding_history", "", body)


def test_paid_rates(shared):
    (body,) = lines(shared, PAID)
    heard = BYBIT.read_rest("funding_history", "XTZUSDT", body)
    sent, last = 1752954048348 * MS, 1752940800000 * MS
    assert len(heard) == 10
    assert heard[-1] == Funding("XTZUSDT", None, sent, -0.00249093, None, last, is_settled=True)
    whole = [funding.ts_funding for funding in heard]
    assert whole == [last - k * 8 * 3600 * 1000 * MS for k in range(9, -1, -1)]


class Books:
    """A book in the plainest way: a dict a side."""

    def __init__(self):
        self.bids, self.asks, self.last = {}, {}, None

    def take(self, book):
        if book.is_snapshot:
            self.bids, self.asks = {}, {}
        else:
            assert book.follows == self.last
        for levels, changed in ((self.bids, book.bids), (self.asks, book.asks)):
            levels.update(changed)
            for price in [price for price, qty in levels.items() if not qty]:
                del levels[price]
        self.last = book.update_id

    @property
    def best(self):
        bid, ask = max(self.bids), min(self.asks)
        return bid, self.bids[bid], ask, self.asks[ask]


def test_golden_book_of_500_levels(shared):
    books = Books()
    for frame in lines(shared, "orderbook.500.XRPUSDT.2024-12-01.jsonl"):
        (book,) = BYBIT.decode(frame)
        books.take(book)
        assert len(books.bids) == len(books.asks) == 500
        assert max(books.bids) < min(books.asks)
        place = Link("orderbook.500.XRPUSDT", book.is_snapshot, book.update_id, book.follows)
        assert BYBIT.link(frame) == place
    assert books.last == 20254918
    assert books.best == (1.9537, 10605.0, 1.9538, 6702.0)


def test_golden_book_of_50_levels(shared):
    books = Books()
    for frame in lines(shared, "orderbook.50.jsonl"):
        books.take(BYBIT.decode(frame)[0])
        assert len(books.bids) == len(books.asks) == 50
    assert books.best[::2] == (71423.8, 71423.9)
    assert (min(books.bids), max(books.asks)) == (71413.2, 71435.4)


def test_golden_values_read_by_eye(shared):
    (mark, funding), (index,) = map(BYBIT.decode, lines(shared, "tickers.jsonl")[:2])
    assert (mark.mark_price, mark.index_price, mark.open_interest) == (63560.8, 63585.51, 29986.128)
    assert (funding.rate, funding.interval_h) == (0.00005013, 8.0)
    assert funding.ts_funding == 1786665600000 * MS
    assert (index.mark_price, index.index_price, index.open_interest) == (None, 63585.74, None)
    fills = BYBIT.decode(lines(shared, "publicTrade.jsonl")[0])
    assert len(fills) == 9 and {fill.side for fill in fills} == {"sell"}
    assert {fill.ts_event for fill in fills} == {1774021164272 * MS}


def test_a_dated_future_has_no_funding(shared):
    (mark,) = BYBIT.decode(lines(shared, "tickers.documented.jsonl")[1])
    assert isinstance(mark, Mark) and mark.open_interest == 3.311
    assert BYBIT.instrument_name(mark.symbol) is None
