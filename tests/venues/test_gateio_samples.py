"""Gate.io's real frames of all channels, against plain JSON; and books made of a real session."""

import json
import tomllib
from pathlib import Path

import msgspec
import pytest

from perptape.events import MS, NS, Book, Funding, Mark, Quote, Trade
from perptape.venues.gateio import GATEIO

REFUSED = {
    entry["file"]: entry["lines"]
    for entry in tomllib.loads(Path(__file__).with_name("refused.toml").read_text())["refused"]
}
COUNTS = {
    "futures.book_ticker.2023-05-24.jsonl": {Quote: 75},
    "futures.book_ticker.jsonl": {Quote: 4},
    "futures.obu.documented.jsonl": {Book: 2},
    "futures.obu.jsonl": {Book: 4},
    "futures.order_book_update.2023-05-24.jsonl": {Book: 352},
    "futures.order_book_update.jsonl": {Book: 6},
    "futures.tickers.jsonl": {Mark: 2, Funding: 2},
    "futures.trades.jsonl": {Trade: 5},
    "session_2023-05-24.tsv": {Quote: 75, Book: 352},
}
"""Events by file; frames of all others are words of the conversation, or of channels that we do
not take."""
REST = {
    "rest_contracts.2023-05-24.jsonl": "open_interest",
    "rest_contracts.jsonl": "open_interest",
    "rest_funding_rate.jsonl": "funding_paid",
    "rest_order_book.2023-05-24.jsonl": "book",
}
OTHERS = {"rest_spot_time.jsonl"}
"""Read elsewhere: with the clocks of all venues."""


def lines_of(path):
    return path.read_bytes().splitlines()


def frames_of(path):
    if path.suffix != ".tsv":
        return lines_of(path)
    rows = (line.split(b"\t") for line in lines_of(path))
    return [row[2] for row in rows if not row[1].startswith(b"http")]


def levels(side):
    """Both forms of a side, as numbers."""
    return [
        (float(row["p"]), float(row["s"])) if isinstance(row, dict) else tuple(map(float, row))
        for row in side
    ]


def told(frame):
    """What plain JSON says of a frame, by the sheet's field names; no code of ours."""
    said = json.loads(frame)
    result, ts_send = said.get("result"), said["time_ms"] * MS if "time_ms" in said else None
    match said.get("channel"), said.get("event", "update"):
        case ("futures.book_ticker", "update"):
            return [told_quote(result, ts_send)] if result["t"] else []
        case (("futures.obu" | "futures.order_book_update"), "update"):
            return [told_book(result, ts_send)]
        case ("futures.trades", "update"):
            return [told_trade(row, ts_send) for row in result]
        case ("futures.tickers", "update"):
            return [event for row in result for event in told_ticker(row, ts_send)]
    return []


def told_quote(top, ts_send):
    sides = float(top["b"]), float(top["B"]), float(top["a"]), float(top["A"])
    return Quote(top["s"], top["t"] * MS, ts_send, *sides, top["u"])


def told_book(book, ts_send):
    symbol = book["s"].split(".")[1] if "." in book["s"] else book["s"]
    bids, asks = levels(book.get("b", [])), levels(book.get("a", []))
    is_full = book.get("full", False)
    follows = None if is_full else book["U"] - 1
    return Book(symbol, book["t"] * MS, ts_send, bids, asks, is_full, book["u"], follows)


def told_trade(row, ts_send):
    side = "buy" if row["size"] > 0 else "sell"
    price, qty, number = float(row["price"]), float(abs(row["size"])), str(row["id"])
    return Trade(row["contract"], row["create_time_ms"] * MS, ts_send, price, qty, side, number)


def told_ticker(row, ts_send):
    head = row["contract"], row["t"] * MS if "t" in row else None, ts_send
    mark, index = float(row["mark_price"]), float(row["index_price"])
    is_new = "funding_interval" in row
    terms = (row["funding_interval"] / 3600, row["funding_next_apply"] * NS) if is_new else ()
    return [
        Mark(*head, mark, index, float(row["total_size"]) / 2),
        Funding(*head, float(row["funding_rate"]), *terms),
    ]


def test_every_frame_decodes_to_what_it_says(shared):
    counts = {}
    for path in sorted((shared / "samples/gateio").glob("[!S]*")):
        if path.name.startswith("rest_"):
            continue
        found = counts.setdefault(path.name, {})
        for frame in frames_of(path):
            events = GATEIO.decode(frame)
            assert events == told(frame), frame
            for event in events:
                found[type(event)] = found.get(type(event), 0) + 1
            said = json.loads(frame)
            if events and "event" in said:
                assert GATEIO.is_data(frame)
    assert {name: found for name, found in counts.items() if found} == COUNTS


def test_no_rest_file_is_forgotten(shared):
    names = {path.name for path in (shared / "samples/gateio").glob("rest_*")}
    refused = {name.partition("/")[2] for name in REFUSED if name.startswith("gateio/rest_")}
    assert names == {*REST, *OTHERS, *refused}
    for name in refused:
        for body in lines_of(shared / "samples/gateio" / name):
            for what in REST.values():
                with pytest.raises((msgspec.MsgspecError, ValueError)):
                    GATEIO.read_rest(what, "BTC_USDT", body)


@pytest.mark.parametrize("name", [name for name, what in REST.items() if what == "open_interest"])
def test_rows_of_the_contract_list_tell_the_next_funding_and_the_open_interest(shared, name):
    for body in lines_of(shared / "samples/gateio" / name):
        row = json.loads(body)
        symbol, next_ns = row["name"], row["funding_next_apply"] * NS
        (mark,) = GATEIO.read_rest("open_interest", symbol, body)
        assert mark == Mark(symbol, None, None, None, None, float(row["position_size"]))
        (terms,) = GATEIO.read_rest("funding_terms", symbol, body)
        interval_h = row["funding_interval"] / 3600
        assert terms == Funding(symbol, None, None, None, interval_h, next_ns)


def test_the_ticker_counts_both_sides_of_what_rest_counts_once(shared):
    folder = shared / "samples/gateio"
    mark, _ = GATEIO.decode(lines_of(folder / "futures.tickers.jsonl")[1])
    body = lines_of(folder / "rest_contracts.jsonl")[0]  # of the same day
    (one_sided,) = GATEIO.read_rest("open_interest", "BTC_USDT", body)
    assert mark.open_interest == 288_888_431.0
    assert mark.open_interest == pytest.approx(one_sided.open_interest, rel=1e-3)


def test_paid_funding(shared):
    (body,) = lines_of(shared / "samples/gateio/rest_funding_rate.jsonl")
    paid = GATEIO.read_rest("funding_paid", "BTC_USDT", body)
    assert [(one.rate, one.interval_h) for one in paid] == [
        (-0.000008, 8.0), (0.000007, 8.0), (0.000028, 8.0), (-0.000007, 8.0),
    ]  # fmt: skip
    assert paid[-1].ts_funding == 1_790_352_000 * NS and all(one.is_settled for one in paid)


def test_the_real_gap_of_525_ids_is_seen(shared):
    """After the last of these frames the one that reported them got U 52478818813."""
    frames = lines_of(shared / "samples/gateio/futures.order_book_update.jsonl")[2:4]
    first, second = map(GATEIO.link, frames)
    assert second.follows == first.update_id == 52_478_818_263
    assert 52_478_818_813 - 1 - second.update_id == 525


def test_documented_obu_frames_are_consecutive(shared):
    for name, start in (("futures.obu.documented.jsonl", 0), ("futures.obu.jsonl", 2)):
        frames = lines_of(shared / "samples/gateio" / name)[start : start + 2]
        before, after = map(GATEIO.link, frames)
        assert after.follows == before.update_id


class Splice:
    """A small book: a REST snapshot, and the changes that go on from it."""

    def __init__(self):
        self.early = []
        self.last = None
        self.sides = {}
        self.breaks = 0
        self.applied = 0
        self.dropped = 0

    def base(self, whole):
        self.last = whole.update_id
        self.sides = {"bids": dict(whole.bids), "asks": dict(whole.asks)}
        for change in self.early:
            self.change(change)

    def change(self, change):
        if self.last is None:
            self.early.append(change)
        elif change.update_id <= self.last:
            self.dropped += 1
        else:
            is_first = not self.applied
            follows = change.follows <= self.last if is_first else change.follows == self.last
            self.breaks += not follows
            self.applied += 1
            for name, side in self.sides.items():
                side.update(getattr(change, name))
            self.last = change.update_id

    def top(self):
        bids, asks = ({p: q for p, q in self.sides[s].items() if q} for s in ("bids", "asks"))
        bid, ask = max(bids), min(asks)
        return bid, bids[bid], ask, asks[ask]


def session(shared):
    """Give events in the order in which one client of 2023 heard them."""
    for line in lines_of(shared / "samples/gateio/session_2023-05-24.tsv"):
        _, kind, body = line.split(b"\t")
        if kind.startswith(b"http"):
            symbol = kind.decode().partition("contract=")[2].partition("&")[0]
            yield from GATEIO.read_rest("book", symbol, body)
        elif kind == b"recv":
            yield from GATEIO.decode(body)


def test_updates_splice_over_a_rest_book_and_every_quote_agrees(shared):
    """The session of 2023-05-24: ten contracts, 352 changes, no break, 18 quotes equal the book."""
    books, deltas, links = {}, 0, {}
    quotes, tops = {}, {}
    for event in session(shared):
        splice = books.setdefault(event.symbol, Splice())
        if isinstance(event, Quote):
            quotes[event.symbol, event.update_id] = (
                *(event.bid_price, event.bid_qty),
                *(event.ask_price, event.ask_qty),
            )
            continue
        if event.is_snapshot:
            splice.base(event)
        else:
            deltas += 1
            assert links.get(event.symbol, event.follows) == event.follows
            links[event.symbol] = event.update_id
            splice.change(event)
        if splice.last is not None:
            tops[event.symbol, splice.last] = splice.top()
    spliced = list(books.values())
    assert (len(books), deltas, sum(book.breaks for book in spliced)) == (10, 352, 0)
    assert sum(book.applied + book.dropped for book in spliced) == 352
    both = quotes.keys() & tops.keys()
    assert len(both) == 18
    assert {at: quotes[at] for at in both} == {at: tops[at] for at in both}


def test_where_two_real_books_are_joined(shared):
    """The sheet's worked example: the numbers of the wire, read by eye."""
    rdnt = [event for event in session(shared) if event.symbol == "RDNT_USDT"]
    books = [event for event in rdnt if isinstance(event, Book)]
    (base,) = [event for event in books if event.is_snapshot]
    changes = [event for event in books if not event.is_snapshot]
    old = [change for change in changes if change.update_id <= base.update_id]
    first, *more = changes[len(old) :]
    assert (base.update_id, len(old), old[-1].update_id) == (203_083_287, 9, 203_083_287)
    assert first.follows + 1 <= base.update_id + 1 <= first.update_id
    assert (first.follows + 1, first.update_id) == (203_083_288, 203_083_299)
    assert len(more) == 60
