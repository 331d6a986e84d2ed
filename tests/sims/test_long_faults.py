"""Faults that change a venue for a while, or for good: who is struck, what is said from then on."""

import itertools
import json
import re

import numpy as np
import pytest

from perptape.decode import decoder
from perptape.errors import BadUsage
from perptape.events import MS, NS, Book
from perptape.events import Quote as QuoteEvent
from perptape.sims import VENUES
from perptape.sims.dialect import Hangup
from perptape.sims.faults import KINDS, RandomFaults, plan
from perptape.sims.market import Step
from perptape.sims.scenario import Fault
from perptape.sims.strikes import ability
from perptape.venues import VENUES as SHAPES

BTC, ETH = "BTC-USDT-PERP", "ETH-USDT-PERP"
HOUR_NS = 3600 * NS


def instruments(play):
    """The instrument list by base coin, as our venue file reads it."""
    exchange, shape = play.seat.exchange, SHAPES[play.seat.exchange.name]
    path, _, query = shape.instruments_path.partition("?")
    words = dict(word.split("=") for word in query.split("&") if word)
    headers = {name.lower(): value for name, value in shape.headers.items()}
    if shape.instruments_body:
        headers["content-type"] = "application/json"
    now_ns = play.seat.start_ns + play.now_ns
    answer = exchange.rest(path, words, headers, now_ns, shape.instruments_body)
    assert answer.status == 200
    return {i.base: i for i in shape.read_instruments(answer.body, now_ns).instruments}


def events(venue, frames, kind):
    read = decoder(venue)
    found = itertools.chain.from_iterable(map(read, frames))
    return [event for event in found if isinstance(event, kind)]


@pytest.mark.parametrize("venue", VENUES)
def test_a_half_open_connection_is_dead_for_ever_while_new_ones_work(stage, venue):
    play = stage(venue, Fault(NS, venue, "half_open"))
    talk, _ = play.seat.listen("quotes")
    assert play.until(990 * MS, talk)
    assert play.until(30 * NS, talk) == []
    assert play.seat.say(talk, b"ping", play.now_ns) == []
    assert talk.ended is None and play.told() == []
    late, _ = play.seat.listen("quotes", at_ns=play.now_ns)
    assert play.until(32 * NS, late)
    assert talk.topics and not talk.outbox
    play.schedule.close(play.seat.start_ns + play.now_ns)
    (fact,) = play.told()
    assert fact.connections == (1,) and not fact.cut


def test_a_half_open_connection_is_reset_when_the_other_side_comes_back(stage):
    play = stage("bybit", Fault(NS, "bybit", "half_open", 3 * NS))
    talk, _ = play.seat.listen("quotes")
    play.until(5 * NS, talk)
    assert talk.ended == Hangup(None, "half_open", reset=True)
    assert play.told()[0].ts_end - play.told()[0].ts_start == 3 * NS


@pytest.mark.parametrize("status", [429, 418])
def test_a_limit_turns_away_and_says_how_long_to_wait(stage, status):
    play = stage("bybit", Fault(NS, "bybit", "rate_limit", 10 * NS, status=status))
    talk, _ = play.seat.listen("quotes")
    exchange, start_ns = play.seat.exchange, play.seat.start_ns
    assert play.until(2 * NS, talk)
    answers = [exchange.limited(start_ns + at_ns) for at_ns in (2 * NS, 10_100 * MS)]
    assert [answer.status for answer in answers] == [status, status]
    assert [answer.headers["Retry-After"] for answer in answers] == ["9", "1"]
    assert play.until(12 * NS, talk), "who is connected is not struck"
    assert exchange.limited(start_ns + play.now_ns) is None
    (fact,) = play.told()
    assert (fact.requests, fact.ts_end - fact.ts_start) == (2, 10 * NS)


@pytest.mark.parametrize(
    ("venue", "status", "words", "waits"),
    [
        ("bybit", 403, b"access too frequent", False),
        ("htx", 200, b'"err_code":1032', False),
        ("gateio", 429, b'"TOO_MANY_REQUESTS"', True),
        ("okx", 429, b'"50011"', True),
        ("binance", 429, b"", True),
    ],
)
def test_a_limit_is_told_in_the_venues_own_way(stage, venue, status, words, waits):
    play = stage(venue, Fault(0, venue, "rate_limit"))
    play.schedule.turn(play.seat.start_ns)
    answer = play.seat.exchange.limited(play.seat.start_ns + NS)
    assert answer.status == status and words in answer.body
    assert answer.headers.get("Retry-After") == ("60" if waits else None)


@pytest.mark.parametrize("venue", ["bybit", "htx", "gateio"])
def test_a_clock_that_jumps_is_told_and_heartbeats_keep_their_pace(stage, venue):
    play = stage(venue, Fault(10 * NS, venue, "clock_step", 20 * NS, step_ms=-7000))
    talk, _ = play.seat.listen("quotes")
    said = play.timed(40 * NS, talk)
    offsets = {}
    for at_ns, frame in said:
        for quote in events(venue, [frame], QuoteEvent):
            offset = quote.ts_send - play.seat.start_ns - at_ns
            offsets.setdefault(offset, []).append(at_ns)
    assert set(offsets) == {0, -7 * NS}
    assert min(offsets[-7 * NS]) >= 10 * NS and max(offsets[-7 * NS]) < 30 * NS
    clocks = [(c.offset_ns, c.ts_start - play.seat.start_ns) for c in play.told("clock")]
    assert clocks == [(-7 * NS, 10 * NS), (0, 30 * NS)]
    assert play.told()[0].step_ms == -7000
    if venue == "htx":  # nobody answers: pings at 5, 10, 15 and 20 s, then the end
        pings = [at_ns for at_ns, frame in said if frame.startswith(b'{"ping"')]
        assert pings == [5 * NS, 10 * NS, 15 * NS, 20 * NS] and talk.ended is not None


def test_the_end_of_a_day_is_announced_where_the_venue_does_and_strikes_only_the_old(stage):
    play = stage("okx", Fault(5 * NS, "okx", "disconnect_24h", 3 * NS))
    talk, _ = play.seat.listen("quotes")
    said = play.until(6 * NS, talk)
    assert [b'"64008"' in frame for frame in said].count(True) == 1 and talk.ended is None
    late, _ = play.seat.listen("quotes", at_ns=play.now_ns)
    play.until(9 * NS, late)
    assert talk.ended == Hangup(1001, "after 24 h")
    assert late.ended is None and not play.seat.exchange.shut
    assert play.told()[0].connections == (1,)


BEGUN = {
    "bitget": {"is_snapshot": False, "follows": -1},  # nothing: the book is void
    "gateio": {"is_snapshot": True, "follows": None},
    "bybit": {"is_snapshot": True, "update_id": 1},
    "okx": {"is_snapshot": False, "follows": "the last one's"},
}


@pytest.mark.parametrize("venue", BEGUN)
def test_ids_start_over_in_the_venues_own_form_and_follow_each_other_again(stage, venue):
    play = stage(venue, Fault(5 * NS, venue, "sequence_reset", instrument=BTC))
    talk, said = play.seat.listen("books")
    before = events(venue, said + play.until(4_990 * MS, talk), Book)
    after = events(venue, play.until(10 * NS, talk), Book)
    at = next(n for n, book in enumerate(after) if book.update_id < before[-1].update_id)
    old, (first, *rest) = [*before, *after[:at]], after[at:]
    wanted = BEGUN[venue] | ({"follows": old[-1].update_id} if venue == "okx" else {})
    assert {key: getattr(first, key) for key in wanted} == wanted
    for chain in (old, [first, *rest]):
        assert len(chain) > 10
        for was, now in itertools.pairwise(chain):
            assert now.follows == was.update_id
    (fact,) = play.told()
    assert fact.ts_start == play.seat.start_ns + 5 * NS
    assert (fact.market, fact.connections) == (f"{venue}:{BTC}", (1,))
    _, greeted = play.seat.listen("books", at_ns=play.now_ns)
    (snapshot,) = events(venue, greeted, Book)
    assert snapshot.is_snapshot and snapshot.update_id == rest[-1].update_id


@pytest.mark.parametrize("venue", VENUES)
def test_a_new_tick_is_in_the_list_and_on_the_wire(stage, venue):
    tick = Step.of(VENUES[venue].contracts["BTC"].tick.padded(50))
    fault = Fault(5 * NS, venue, "spec_change", None, BTC, tick=tick.padded(1))
    play = stage(venue, fault)
    talk, _ = play.seat.listen("quotes")
    old = instruments(play)["BTC"]
    play.until(5 * NS, talk)
    assert talk.ended.reason == "specification changed"
    new = instruments(play)["BTC"]
    if venue != "hyperliquid":  # five figures are its tick: nothing that could change
        assert new.tick_size == pytest.approx(tick.value)
    assert (new.contract_size, new.lot_size) == (old.contract_size, old.lot_size)
    again, said = play.seat.listen("quotes", at_ns=play.now_ns)
    quotes = events(venue, said + play.until(8 * NS, again), QuoteEvent)
    assert len(quotes) > 10
    for quote in quotes:
        for price in (quote.bid_price, quote.ask_price):
            assert price / tick.value == pytest.approx(round(price / tick.value), abs=1e-6)
            assert price == pytest.approx(64_000, rel=0.01)
    assert play.told()[0].tick == tick.padded(1)


@pytest.mark.parametrize("venue", ["htx", "gateio", "okx"])
def test_a_new_contract_size_leaves_sizes_in_coins_what_they_were(stage, venue):
    size = Step.of(VENUES[venue].contracts["BTC"].size.padded(10)).padded(1)
    play = stage(venue, Fault(30 * NS, venue, "spec_change", None, BTC, size=size))
    talk, said = play.seat.listen("quotes")
    sizes = []
    for until_ns in (29 * NS, 60 * NS):
        quotes = events(venue, said + play.until(until_ns, talk), QuoteEvent)
        contract = instruments(play)["BTC"].contract_size
        sizes.append(np.median([quote.bid_qty for quote in quotes]) * contract)
        play.until(31 * NS, talk)
        talk, said = play.seat.listen("quotes", at_ns=play.now_ns)
    assert sizes[1] == pytest.approx(sizes[0], rel=0.2)
    assert contract == pytest.approx(float(size))


@pytest.mark.parametrize("venue", VENUES)
def test_books_fit_their_deltas_after_a_change_of_specification(stage, venue):
    tick = VENUES[venue].contracts["ETH"].tick.padded(2)
    play = stage(venue, Fault(2 * NS, venue, "spec_change", None, ETH, tick=tick))
    talk, _ = play.seat.listen("books", "ETH")
    play.until(2 * NS, talk)
    again, said = play.seat.listen("books", "ETH", at_ns=play.now_ns)
    books = events(venue, said + play.until(6 * NS, again), Book)
    sides = {}, {}
    for book in books:
        if book.is_snapshot:
            sides = {}, {}
        for side, levels in zip(sides, (book.bids, book.asks), strict=True):
            side.update(levels)
    if books[0].is_snapshot:
        best = max(p for p, q in sides[0].items() if q), min(p for p, q in sides[1].items() if q)
        assert best[0] < best[1]
    assert len(books) > 5


@pytest.mark.parametrize("venue", VENUES)
def test_another_funding_interval_is_listed_and_paid_from_then_on(stage, venue):
    play = stage(venue, Fault(NS, venue, "funding_interval", None, BTC, interval_h=2))
    talk, _ = play.seat.listen("quotes")
    tickers = play.seat.exchange.markets[VENUES[venue].contracts["BTC"].symbol].tickers
    start_ns = play.seat.start_ns
    before = tickers.at(play.now_ns, start_ns)
    play.until(2 * NS, talk)
    after = tickers.at(play.now_ns, start_ns + play.now_ns)
    assert (before.interval_h, after.interval_h) == (8, 2)
    assert after.rate == pytest.approx(before.rate / 4, rel=0.05)
    assert after.ts_funding_ns == (start_ns // (2 * HOUR_NS) + 1) * 2 * HOUR_NS
    paid = tickers.settled(play.now_ns + 5 * HOUR_NS, start_ns + play.now_ns + 5 * HOUR_NS)
    times = [at_ns for at_ns, _ in paid]
    assert all(at_ns % (8 * HOUR_NS) == 0 for at_ns in times if at_ns <= start_ns)
    assert [at_ns - after.ts_funding_ns for at_ns in times if at_ns > start_ns + NS] in (
        [0, 2 * HOUR_NS],
        [0, 2 * HOUR_NS, 4 * HOUR_NS],
    )
    if venue == "binance":  # its list has no interval, another call tells of the unusual ones
        now_ns = start_ns + play.now_ns
        answer = play.seat.exchange.rest("/fapi/v1/fundingInfo", {}, {}, now_ns)
        (row,) = [row for row in json.loads(answer.body) if row["symbol"] == "BTCUSDT"]
        assert row["fundingIntervalHours"] == 2
    elif venue != "hyperliquid":  # which knows no other than its hour
        assert instruments(play)["BTC"].funding_interval_h in (None, 2)


@pytest.mark.parametrize("venue", VENUES)
def test_a_delisted_symbol_leaves_the_list_its_streams_end_and_it_may_come_back(stage, venue):
    play = stage(venue, Fault(2 * NS, venue, "delist", 3 * NS, BTC))
    talk, _ = play.seat.listen("quotes")
    other, _ = play.seat.listen("quotes", "ETH")
    assert set(instruments(play)) == {"BTC", "ETH"}
    assert play.until(1_990 * MS, talk)
    assert events(venue, play.until(4_900 * MS, talk), QuoteEvent) == []
    assert set(instruments(play)) == {"ETH"}
    assert talk.ended is None and play.seat.take(other)
    assert [topic.symbol for topic, _ in talk.parted] == [VENUES[venue].contracts["BTC"].symbol]
    play.until(6 * NS, talk)
    assert set(instruments(play)) == {"BTC", "ETH"}
    again, said = play.seat.listen("quotes", at_ns=play.now_ns)
    assert events(venue, said + play.until(8 * NS, again), QuoteEvent)


def abilities(*venues):
    return {venue: ability(VENUES[venue]) for venue in venues}


def test_a_star_strikes_every_venue_that_can_suffer_it():
    faults = [Fault(NS, "*", "reset"), Fault(0, "*", "gzip_bomb")]
    found = plan(faults, [], 1, abilities("bybit", "htx"), (BTC,))
    assert [(f.kind, f.venue) for f in found] == [
        ("gzip_bomb", "htx"), ("reset", "bybit"), ("reset", "htx"),
    ]  # fmt: skip
    with pytest.raises(BadUsage, match=r"None of the venues .*'gzip_bomb'"):
        plan(faults[1:], [], 1, abilities("bybit", "okx"), (BTC,))


def test_what_is_planned_for_a_venue_that_is_not_served_is_left_out():
    assert plan([Fault(0, "htx", "reset")], [], 1, abilities("bybit"), (BTC,)) == []


def randoms(*kinds, count=24, **choices):
    model = Fault(0, "*", ", ".join(kinds), **choices)
    return RandomFaults(model, kinds, count, ("bybit", "htx"), 10 * NS, 250 * NS)


def test_random_faults_are_spread_evenly_and_the_seed_fixes_them():
    kinds = ("drop", "silence", "gzip_bomb")
    drawn = randoms(*kinds, lasts_ns=2 * NS, instrument="*")
    both = abilities("bybit", "htx")
    found = plan([], [drawn], 7, both, (BTC, ETH))
    assert found == plan([], [drawn], 7, both, (BTC, ETH))
    assert found != plan([], [drawn], 8, both, (BTC, ETH))
    assert found == sorted(found, key=lambda fault: fault.at_ns)
    for venue, suffered in (("bybit", kinds[:2]), ("htx", kinds)):
        here = [fault for fault in found if fault.venue == venue]
        times = [fault.at_ns for fault in here]
        assert [(at_ns - 10 * NS) // (10 * NS) for at_ns in times] == list(range(24))
        counts = {kind: [f.kind for f in here].count(kind) for kind in suffered}
        assert set(counts.values()) == {24 // len(suffered)}
        assert {fault.instrument for fault in here} == {BTC, ETH}
        assert {f.lasts_ns for f in here if f.kind == "silence"} == {2 * NS}
        assert {f.lasts_ns for f in here if f.kind != "silence"} == {None}


EVERY = (
    ("clock_step", {"step_ms": 40.0, "lasts_ns": NS}),
    ("funding_interval", {"interval_h": 4}),
    ("delist", {"instrument": "*", "lasts_ns": NS}),
    ("spec_change", {"instrument": "*", "size": "0.002"}),
)


@pytest.mark.parametrize("venue", VENUES)
def test_every_planned_fault_of_every_kind_is_told_once(stage, venue):
    """A recorder's day at its worst: each kind three times in two minutes."""
    able = [k for k in ability(VENUES[venue]).kinds() if not KINDS[k].needs]
    blocks = [randoms(*able, count=3 * len(able), lasts_ns=NS)]
    blocks += [randoms(kind, count=3, **choices) for kind, choices in EVERY]
    blocks = [RandomFaults(b.model, b.kinds, b.count, (venue,), 5 * NS, 125 * NS) for b in blocks]
    play = stage(venue, randoms=blocks)
    talks = []
    while play.now_ns < 150 * NS:
        now_ns = play.now_ns
        talks = [talk for talk in talks if talk.ended is None and not talk.is_dead]
        for talk in [t for t in play.seat.exchange.talks if t.ended is not None]:
            play.seat.exchange.leave(talk, play.seat.start_ns + now_ns)
        while len(talks) < 2:
            channel = "quotes" if talks else "books"
            talks.append(play.seat.listen(channel, at_ns=now_ns)[0])
        if any(not talk.topics for talk in talks):  # its symbol is delisted
            for talk in talks:
                play.seat.exchange.leave(talk, play.seat.start_ns + now_ns)
            talks = []
            play.until(now_ns + 100 * MS, play.seat.connect(at_ns=now_ns))
            continue
        play.until(now_ns + 100 * MS, talks[0], 50 * MS)
        for talk in play.seat.exchange.talks:
            talk.outbox.clear()
    play.schedule.close(play.seat.start_ns + play.now_ns)
    told = [fact.kind for fact in play.told()]
    wanted = dict.fromkeys(able, 3) | {kind: 3 for kind, _ in EVERY}
    assert {kind: told.count(kind) for kind in wanted} == wanted
    assert len(told) == sum(wanted.values())


def test_the_kinds_in_the_page_are_the_kinds_there_are(request):
    page = (request.config.rootpath / "docs" / "scenario.md").read_text()
    section = page.partition("## Faults")[2].partition("## The truth")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", section, re.MULTILINE))
    del rows["kind"]
    frames = "`symbol` `channel` `stream` `frames`"
    taken = {kind: takes.replace("*frames*", frames) for kind, takes in rows.items()}
    assert taken == {
        kind: " ".join(f"`{key}`" for key in form.takes) for kind, form in KINDS.items()
    }
    assert list(rows) == list(KINDS)
