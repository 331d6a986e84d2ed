"""The venue's list is asked again and again: what changes on it applies while we record."""

import asyncio
import json

import msgspec
import polars as pl
import pytest

from perptape import attend, ledger, tabulate
from perptape.events import MS, NS, Kind, Note, RestAnswer
from perptape.instruments import Instrument
from perptape.record import Plan, record
from perptape.roster import Listed, Request, Roster
from perptape.route import at
from perptape.status import Track
from perptape.tape import Tape, TapeWriter
from perptape.universe import Rule, Universe
from perptape.venues import VENUES
from perptape.venues.venue import Link, Listing, Poll

TEXT = 1
AGAIN_S = 0.15
LONG = 20 * NS


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Ask again after moments, not minutes."""
    monkeypatch.setattr(attend, "LIST_AGAIN_S", AGAIN_S)
    monkeypatch.setattr(attend, "LIST_AGAIN_LOST_S", 0.1)
    monkeypatch.setattr(attend, "MISSING_AGAIN_S", 0.05)


def instrument(symbol, name=None, status="trading", size=1.0):
    coin = (name or symbol).partition("_")[0]
    names = (f"{coin}-USDT-PERP", symbol, coin, "USDT", "USDT", "linear", size, 1.0)
    return Instrument("acme", *names, *[None] * 5, status, 0)


def read_list(body, ts_seen):
    del ts_seen
    return Listing([instrument(*each) for each in msgspec.json.decode(body)])


def listing(venue):
    """A venue whose list says symbol, name and status, and that can be unsubscribed."""
    return msgspec.structs.replace(
        venue,
        read_instruments=read_list,
        unsubscribe=lambda topics, _: [msgspec.json.encode({"unsub": [t.key for t in topics]})],
    )


class Lists:
    """What the venue answers: each list once, the last for ever; three more and it is enough."""

    def __init__(self, *lists):
        self.lists, self.asked, self.stop = lists, 0, asyncio.Event()

    def __call__(self, _):
        now = self.lists[min(self.asked, len(self.lists) - 1)]
        self.asked += 1
        if self.asked > len(self.lists) + 3:
            self.stop.set()
        return now if isinstance(now, tuple) else (200, json.dumps(now).encode())


def teller(wires, said, symbols=("BTC_USDT", "ETH_USDT")):
    """Serve quotes of all of these for ever, and keep what the client says."""

    async def script(peer):
        async def listen():
            while True:
                said.append(await peer.until(TEXT))

        listening = asyncio.create_task(listen())
        try:
            while True:
                await peer.send(*[wires.frame(TEXT, wires.data(s)) for s in symbols])
                await asyncio.sleep(0.01)
        finally:
            listening.cancel()

    return script


async def ended(venue, path, lists, **plan):
    """Record until the lists have been told."""
    plan = Plan(**{"instruments": (), "venues": (venue,), "for_ns": LONG, **plan})
    summary = await record(plan, TapeWriter(path), stop=lists.stop)
    assert summary.seconds < LONG / NS
    return summary, list(Tape(path).frames())


def recorded(wires, path, lists, names=("BTC", "ETH"), script=None, **changes):
    """Record with these lists; give the summary, what was said on sockets, and the frames."""
    said = []

    async def main():
        pages = {"/instruments": lists}
        async with wires.exchange(script or teller(wires, said), pages) as origin:
            venue = msgspec.structs.replace(at(listing(wires.ACME), origin), **changes)
            named = tuple(f"{name}-USDT-PERP" for name in names)
            return await ended(venue, path, lists, instruments=named)

    summary, frames = wires.run(main())
    return summary, said, frames


def notes(frames, word):
    found = [msgspec.json.decode(f.payload, type=Note) for f in frames if f.kind == Kind.NOTE]
    return [note for note in found if note.note == word]


def opened(frames):
    """The symbols that each wire was opened for."""
    said = [json.loads(f.payload)["subscriptions"] for f in frames if f.kind == Kind.OPENED]
    return [[each["symbol"] for each in asked] for asked in said]


BOTH = [["BTC_USDT"], ["ETH_USDT"]]


def test_a_market_that_leaves_the_list_ends_and_the_others_go_on(wires, tmp_path):
    lists = Lists(BOTH, [["BTC_USDT"]])
    summary, said, frames = recorded(wires, tmp_path / "t", lists)
    (note,) = notes(frames, "delisted")
    assert (note.market, note.channel, note.symbol, note.reason) == (
        "acme:ETH-USDT-PERP",
        "quotes",
        "ETH_USDT",
        "ETH_USDT is no longer listed on acme",
    )
    assert opened(frames) == [["BTC_USDT", "ETH_USDT"]]
    assert b'{"unsub":["bbo.ETH_USDT"]}' in said
    assert {m.market: m.state for m in summary.markets} == {
        "acme:BTC-USDT-PERP": "live",
        "acme:ETH-USDT-PERP": "delisted",
    }
    answers = [msgspec.json.decode(f.payload, type=RestAnswer) for f in frames if f.kind == 7]
    assert [a.what for a in answers].count("instruments") == lists.asked


def test_a_status_that_no_longer_trades_ends_it_too(wires, tmp_path):
    lists = Lists(BOTH, [["BTC_USDT"], ["ETH_USDT", None, "settling"]])
    _, _, frames = recorded(wires, tmp_path / "t", lists)
    (note,) = notes(frames, "delisted")
    assert note.reason == "ETH_USDT no longer trades: its status is settling"


def test_one_that_never_traded_yet_is_awaited(wires, tmp_path):
    lists = Lists([["BTC_USDT"], ["ETH_USDT", None, "prelaunch"]])
    _, _, frames = recorded(wires, tmp_path / "t", lists)
    assert notes(frames, "delisted") == [] and opened(frames) == [["BTC_USDT", "ETH_USDT"]]


def test_what_one_list_misses_and_the_next_has_goes_on(wires, tmp_path):
    lists = Lists(BOTH, [["BTC_USDT"]], BOTH)
    _, said, frames = recorded(wires, tmp_path / "t", lists)
    assert notes(frames, "delisted") == [] and not any(b"unsub" in each for each in said)


@pytest.mark.parametrize("bad", [(503, b""), (200, b"[]"), (200, b"<html>"), (200, b'[["BT')])
def test_a_list_that_does_not_come_ends_nothing(wires, tmp_path, bad):
    lists = Lists(BOTH, bad, BOTH)
    _, _, frames = recorded(wires, tmp_path / "t", lists)
    assert notes(frames, "delisted") == [] and notes(frames, "unreachable")
    assert opened(frames) == [["BTC_USDT", "ETH_USDT"]]


def test_a_wire_with_nothing_left_is_closed_for_good(wires, tmp_path):
    lists = Lists(BOTH, [["BTC_USDT"]])
    summary, _, frames = recorded(wires, tmp_path / "t", lists, topics_per_wire=1)
    assert sorted(opened(frames)) == [["BTC_USDT"], ["ETH_USDT"]]
    (wire,) = [f.wire for f in frames if f.kind == Kind.OPENED and b"ETH_USDT" in f.payload]
    last = [f for f in frames if f.wire == wire][-1]
    assert b"shutdown" in last.payload or last.kind == Kind.CLOSE
    assert last.ts_recv < frames[-1].ts_recv - 200 * MS
    assert [m.state for m in summary.markets] == ["live", "delisted"]


def test_a_delisted_one_that_is_refused_is_not_asked_for_for_ever(wires, tmp_path):
    asked = []

    async def script(peer):
        while True:
            word = await peer.until(TEXT)
            asked.append(word)
            await peer.send(wires.frame(TEXT, b'{"no":["bbo.ETH_USDT"],"why":"unknown"}'))
            await peer.gone()

    lists = Lists([["ETH_USDT"]], [["BTC_USDT"]])
    summary, _, frames = recorded(wires, tmp_path / "t", lists, names=("ETH",), script=script)
    assert len(asked) == 1 == len(notes(frames, "delisted"))
    assert summary.markets[0].state == "delisted"


def test_one_that_ends_while_its_wire_is_being_opened(wires, tmp_path):
    late, lists = [], Lists(BOTH, *[[["BTC_USDT"]]] * 8)

    async def main():
        async def either(peer):
            if not await peer.answer({"/instruments": lists, "/time": (200, b"1")}):
                while lists.asked < 4:  # noqa: ASYNC110 - it is the list that has no event
                    await asyncio.sleep(0.01)
                late.append(lists.asked)
                await peer.handshake()
                await teller(wires, [])(peer)

        async with wires.serving(either, handshake=False) as port:
            venue = at(listing(wires.ACME), f"http://127.0.0.1:{port}")
            names = ("BTC-USDT-PERP", "ETH-USDT-PERP")
            return await ended(venue, tmp_path / "t", lists, instruments=names)

    summary, frames = wires.run(main())
    assert late, "the list had changed before the wire was open"
    assert [m.state for m in summary.markets] == ["live", "delisted"]
    sent = [f.payload for f in frames if f.kind == Kind.SENT]
    assert b'{"unsub":["bbo.ETH_USDT"]}' in sent


def test_polls_ask_for_what_is_recorded_now(wires, tmp_path):
    """Not of a channel that nobody records, nor of a market that has ended."""
    polls = (
        Poll("interest", "quotes", "/interest?{symbol}", 20 * MS),
        Poll("rates", "funding", "/rates", 20 * MS),
    )
    lists = Lists(BOTH, [["BTC_USDT"]])
    _, _, frames = recorded(wires, tmp_path / "t", lists, polls=polls)
    answers = [
        (f.seq, msgspec.json.decode(f.payload, type=RestAnswer))
        for f in frames
        if f.kind == Kind.REST
    ]
    ended = next(f.seq for f in frames if f.kind == Kind.NOTE and b"delisted" in f.payload)
    before = {a.symbol for seq, a in answers if a.what == "interest" and seq < ended}
    after = [a.symbol for seq, a in answers if a.what == "interest" and seq > ended]
    assert before == {"BTC_USDT", "ETH_USDT"}
    assert set(after[2:]) == {"BTC_USDT"}, "a round may have been on its way"
    assert "rates" not in {a.what for _, a in answers}


def test_a_venue_that_ends_a_connection_is_asked_sooner(wires, tmp_path, monkeypatch):
    monkeypatch.setattr(attend, "LIST_AGAIN_S", 3600.0)
    lists = Lists(BOTH, [["BTC_USDT"]])

    async def script(peer):
        if lists.asked == 1:
            await peer.send(wires.frame(TEXT, wires.data("BTC_USDT")), wires.frame(8, b"\x03\xe9"))
        await teller(wires, [])(peer)

    async def main():
        async with wires.exchange(script, {"/instruments": lists}) as origin:
            plan = Plan(("BTC-USDT-PERP", "ETH-USDT-PERP"), (at(listing(wires.ACME), origin),))
            plan = msgspec.structs.replace(plan, for_ns=2 * NS)
            return await record(plan, TapeWriter(tmp_path / "t"), stop=asyncio.Event())

    summary = wires.run(main())
    assert [m.state for m in summary.markets] == ["live", "delisted"]
    assert lists.asked == 3, "once at first, and twice when the connection was lost"


def test_a_renamed_symbol_is_an_end_and_a_beginning(wires, tmp_path):
    lists = Lists(BOTH, [["BTC_USDT"], ["NEW_USDT", "ETH_USDT"]])
    script = teller(wires, [], ("BTC_USDT", "ETH_USDT", "NEW_USDT"))
    summary, _, frames = recorded(wires, tmp_path / "t", lists, script=script)
    (note,) = notes(frames, "delisted")
    words = "ETH_USDT is no longer listed on acme, ETH-USDT-PERP is NEW_USDT now"
    assert (note.symbol, note.reason) == ("ETH_USDT", words)
    assert opened(frames) == [["BTC_USDT", "ETH_USDT"], ["NEW_USDT"]]
    assert [m.state for m in summary.markets] == ["live", "live"]


def test_one_that_comes_back_is_heard_on_a_further_wire(wires, tmp_path):
    gone = [["BTC_USDT"]]
    lists = Lists(BOTH, gone, gone, BOTH)
    summary, _, frames = recorded(wires, tmp_path / "t", lists)
    assert opened(frames) == [["BTC_USDT", "ETH_USDT"], ["ETH_USDT"]]
    assert [m.state for m in summary.markets] == ["live", "live"]


# A new listing


def chosen(venues, lists, **rule):
    universe = Universe(Rule(("USDT",), **rule), venues)
    for venue, names in lists.items():
        universe.listed(venue, [instrument(name) for name in names])
    universe.choose()
    return universe


def test_a_new_listing_of_a_universe_is_heard_on_a_further_wire(wires, tmp_path):
    lists = Lists(BOTH, [*BOTH, ["SOL_USDT"], ["XRP_USDT", None, "prelaunch"]])

    async def main():
        script = teller(wires, [], ("BTC_USDT", "ETH_USDT", "SOL_USDT"))
        async with wires.exchange(script, {"/instruments": lists}) as origin:
            universe = chosen(["acme"], {"acme": ["BTC_USDT", "ETH_USDT"]})
            venue = at(listing(wires.ACME), origin)
            return await ended(venue, tmp_path / "t", lists, universe=universe)

    summary, frames = wires.run(main())
    assert opened(frames) == [["BTC_USDT", "ETH_USDT"], ["SOL_USDT"]]
    assert [(m.market, m.state) for m in summary.markets] == [
        ("acme:BTC-USDT-PERP", "live"),
        ("acme:ETH-USDT-PERP", "live"),
        ("acme:SOL-USDT-PERP", "live"),
    ]
    assert notes(frames, "refused") == []


def test_a_venue_that_could_not_be_asked_at_first_joins(wires, tmp_path):
    async def main():
        lists = Lists((503, b""), BOTH)
        async with wires.exchange(teller(wires, []), {"/instruments": lists}) as origin:
            universe = chosen(["acme", "other"], {"other": ["BTC_USDT"]})
            assert universe.names("acme") == []
            venue = at(listing(wires.ACME), origin)
            return await ended(venue, tmp_path / "t", lists, universe=universe)

    summary, frames = wires.run(main())
    assert opened(frames) == [["BTC_USDT", "ETH_USDT"]]
    assert [m.state for m in summary.markets] == ["live", "live"]


def test_a_new_listing_is_held_against_the_most_traded(wires, tmp_path):
    """Of two new ones the first beats one of those chosen, the other none."""
    lists = Lists(BOTH, [*BOTH, ["SOL_USDT"], ["XRP_USDT"]])
    turnover = b'{"BTC_USDT":9.0,"ETH_USDT":4.0,"SOL_USDT":5.0,"XRP_USDT":3.0}'

    async def main():
        pages = {"/instruments": lists, "/day": (200, turnover)}
        async with wires.exchange(teller(wires, []), pages) as origin:
            universe = chosen(["acme"], {"acme": ["BTC_USDT", "ETH_USDT"]}, top=2)
            venue = msgspec.structs.replace(
                at(listing(wires.ACME), origin),
                turnover_path="/day",
                read_turnover=msgspec.json.decode,
            )
            return await ended(venue, tmp_path / "t", lists, universe=universe)

    summary, frames = wires.run(main())
    names = [m.market.partition(":")[2].partition("-")[0] for m in summary.markets]
    assert names == ["BTC", "ETH", "SOL"]
    asked = [json.loads(f.payload)["what"] for f in frames if f.kind == Kind.REST]
    assert "turnover" in asked


# The ledger and the tables of a real venue's frames


def contract(name, size="0.0001", status="trading"):
    return {
        "name": name,
        "type": "direct",
        "quanto_multiplier": size,
        "order_price_round": "0.1",
        "order_size_min": 1,
        "enable_decimal": False,
        "funding_interval": 28800,
        "status": status,
        "in_delisting": False,
    }


def gate_pages(lists):
    return {
        "/api/v4/futures/usdt/contracts": lists,
        "/api/v4/spot/time": (200, b'{"server_time":1}'),
    }


def gate_teller(wires, symbols):
    async def script(peer):
        u = 0
        while True:
            u += 1
            for symbol in symbols:
                top = {"t": 1, "u": u, "s": symbol, "b": "10.0", "B": 7, "a": "10.1", "A": 9}
                push = {"time": 1, "time_ms": 1, "channel": "futures.book_ticker"}
                push |= {"event": "update", "result": top}
                await peer.send(wires.frame(TEXT, json.dumps(push, separators=(",", ":")).encode()))
            await asyncio.sleep(0.01)

    return script


def gate_recorded(wires, path, lists, names=("BTC", "ETH")):
    symbols = [f"{name}_USDT" for name in names]

    async def main():
        async with wires.exchange(gate_teller(wires, symbols), gate_pages(lists)) as origin:
            named = tuple(f"{name}-USDT-PERP" for name in names)
            return await ended(at(VENUES["gateio"], origin), path, lists, instruments=named)

    return wires.run(main())[1]


def test_a_base_that_does_not_come_is_asked_for_once_at_a_time(wires, tmp_path, monkeypatch):
    asked = []

    async def never(_, topic, is_needed):
        assert is_needed()
        asked.append(topic.symbol)
        await asyncio.sleep(LONG / NS)

    monkeypatch.setattr(attend.Rest, "book", never)
    lists = Lists(*[BOTH] * 8)
    books = {
        "streams": {"books": ("depth",)},
        "bases": {"depth": "/book"},
        "link": lambda payload: Link(
            f"depth.{json.loads(payload)['s']}", is_snapshot=False, update_id=5, follows=4
        ),
        "is_data": lambda payload: b'"px"' in payload,
        "read_rest": lambda *_: [],
    }

    async def main():
        async with wires.exchange(teller(wires, []), {"/instruments": lists}) as origin:
            venue = msgspec.structs.replace(at(listing(wires.ACME), origin), **books)
            named = ("BTC-USDT-PERP", "ETH-USDT-PERP")
            await ended(venue, tmp_path / "t", lists, instruments=named, channels=("books",))
            return [t for t in asyncio.all_tasks() if "fetch" in repr(t)]

    left = wires.run(main())
    assert sorted(asked) == ["BTC_USDT", "ETH_USDT"]
    assert left == [], "none outlives its venue"


def test_a_contract_size_that_changes_applies_from_the_answer_on(wires, tmp_path):
    lists = Lists([contract("BTC_USDT")], [contract("BTC_USDT")], [contract("BTC_USDT", "0.001")])
    frames = gate_recorded(wires, tmp_path / "t", lists, names=("BTC",))
    changed = next(f.seq for f in frames if f.kind == Kind.REST and b'\\"0.001\\"' in f.payload)
    made = tabulate.tabulate(tmp_path / "t")
    rows = pl.read_parquet(made.root / "quotes/**/*.parquet")
    before, after = rows.filter(pl.col("seq") < changed), rows.filter(pl.col("seq") > changed)
    assert before.height > 10 and after.height > 10
    assert set(before["bid_size"].round(9)) == {0.0007}
    assert set(after["bid_size"].round(9)) == {0.007}
    said = pl.read_parquet(made.root / "instruments/**/*.parquet").sort("ts_seen")
    assert said["contract_size"].to_list() == [0.0001, 0.001], "each list that says it anew, once"


def test_the_ledger_tells_of_an_end_and_trusts_again_what_comes_back(wires, tmp_path):
    both = [contract("BTC_USDT"), contract("ETH_USDT")]
    gone = [contract("BTC_USDT"), contract("ETH_USDT", status="delisted")]
    gate_recorded(wires, tmp_path / "t", Lists(both, gone, gone, gone, gone, both))
    result = ledger.read(Tape(tmp_path / "t"))
    told = {
        name: [
            (i.trusted, i.reason)
            for i in result.intervals
            if i.market == f"gateio:{name}-USDT-PERP"
        ]
        for name in ("BTC", "ETH")
    }
    trusted = (True, "shutdown")
    assert [each for each in told["BTC"] if each != (False, "shutdown")] == [
        (False, "start"),
        trusted,
    ]
    assert [each for each in told["ETH"] if each != (False, "shutdown")] == [
        (False, "start"),
        (True, "delisted"),
        (False, "delisted"),
        trusted,
    ]
    assert result.bad == 0
    (end,) = [i for i in result.intervals if i.reason == "delisted" and not i.trusted]
    assert end.detail == "ETH_USDT no longer trades: its status is delisted"
    assert end.end - end.start > AGAIN_S * NS


# The roster alone


def roster(*names, channels=("quotes",)):
    return {Request(f"{n}-USDT-PERP", c, "bbo"): Track(n, c) for n in names for c in channels}


def test_of_two_symbols_with_one_name_the_one_recorded_stays(wires):
    """Their order on the list is nobody's promise."""
    old, new = instrument("A1_USDT", "A_USDT"), instrument("A2_USDT", "A_USDT")
    held = Roster(wires.ACME, roster("A"))
    ((wanted, _),) = held.read([old, new]).opened
    assert wanted.topic.symbol == "A1_USDT" and held.symbols("quotes") == ["A1_USDT"]
    assert not held.would_end([new, old])
    news = held.read([new, old])
    assert (news.opened, news.ended) == ([], [])


def test_a_symbol_that_is_another_coin_now_has_ended(wires):
    held = Roster(wires.ACME, roster("A", "B"))
    held.read([instrument("A_USDT")])
    news = held.read([instrument("A_USDT", "B_USDT")])
    assert [(v.symbol, v.reason) for v in news.ended] == [("A_USDT", "A_USDT is B-USDT-PERP now")]
    assert [w.topic.symbol for w, _ in news.opened] == ["A_USDT"]


def test_all_channels_of_a_symbol_end_together_and_a_refusal_is_said_once(wires):
    tracks = roster("A", "B", channels=("quotes", "trades"))
    held = Roster(wires.ACME, tracks)
    first = held.read([instrument("A_USDT")])
    assert (
        len(first.opened) == 2 and [v.reason for v in first.refused] == ["not listed on acme"] * 2
    )
    second = held.read([instrument("C_USDT")])
    assert [(v.track.channel, v.symbol) for v in second.ended] == [
        ("quotes", "A_USDT"),
        ("trades", "A_USDT"),
    ]
    assert second.refused == [] == held.symbols("quotes")
    assert held.read([instrument("C_USDT")]).ended == []


def test_what_trades_is_found_before_what_does_not():
    both = [instrument("A1_USDT", "A_USDT", "settling"), instrument("A2_USDT", "A_USDT")]
    assert Listed(both).names["A-USDT-PERP"].symbol == "A2_USDT"
