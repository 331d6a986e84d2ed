"""Seven simulated venues change what they list while they are recorded: tables, ledger, tape."""

import asyncio

import msgspec
import polars as pl
import pytest
import uvloop

from perptape import attend, ledger, sims, tabulate
from perptape.events import NS, Kind, Note, RestAnswer
from perptape.plan import venues_at
from perptape.record import Plan, record
from perptape.sims.faults import Fault
from perptape.sims.market import Step
from perptape.sims.scenario import Scenario
from perptape.tape import Tape, TapeWriter
from perptape.venues import LIVE

BTC, ETH = "BTC-USDT-PERP", "ETH-USDT-PERP"
OF_CONTRACTS = ("htx", "gateio", "okx")
"""Venues whose sizes are contracts."""
NAMES = (BTC, ETH, "BTC-USD-PERP", "ETH-USD-PERP")


def faults():
    """ETH is delisted for a while; then a contract of BTC is worth ten times as much."""
    for venue in LIVE:
        yield Fault(2 * NS, venue, "delist", 3 * NS // 2, ETH)
    for venue in OF_CONTRACTS:
        size = Step.of(sims.VENUES[venue].contracts["BTC"].size.padded(10)).padded(1)
        yield Fault(5 * NS, venue, "spec_change", None, BTC, size=size)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Give the tape and the ledger's result."""
    path = tmp_path_factory.mktemp("specs") / "tape"
    played = Scenario(seed=3, start="first-subscribe", faults=tuple(faults()))

    async def main():
        running = await sims.serve(LIVE, played)
        venues = tuple(venues_at(LIVE, running.urls))
        plan = Plan(NAMES, venues, for_ns=9 * NS)
        await record(plan, TapeWriter(path), stop=asyncio.Event())
        await running.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attend, "LIST_AGAIN_S", 0.4)
        patch.setattr(attend, "LIST_AGAIN_LOST_S", 0.2)
        patch.setattr(attend, "MISSING_AGAIN_S", 0.1)
        uvloop.run(main())
    return path, ledger.read(Tape(path))


def name_on(venue, base):
    return f"{base}-USD-PERP" if venue == "hyperliquid" else f"{base}-USDT-PERP"


@pytest.mark.parametrize("venue", LIVE)
def test_a_delisted_market_ends_and_is_heard_again_when_it_is_back(recorded, venue):
    path, result = recorded
    market = f"{venue}:{name_on(venue, 'ETH')}"
    told = [(i.trusted, i.reason) for i in result.intervals if i.market == market]
    at = told.index((False, "delisted"))
    assert told[at - 1] in {(True, "delisted"), (False, "stalled"), (False, "disconnect")}
    assert (True, "shutdown") in told[at:]
    assert told.count((False, "delisted")) == 1
    said = [
        note
        for frame in Tape(path).frames()
        if frame.kind == Kind.NOTE
        for note in [msgspec.json.decode(frame.payload, type=Note)]
        if note.note == "delisted"
    ]
    assert [note.market for note in said].count(market) == 1
    assert not any("BTC" in (note.market or "") for note in said)


@pytest.mark.parametrize("venue", OF_CONTRACTS)
def test_sizes_are_right_before_and_after_the_contract_changes(recorded, venue):
    path, _ = recorded
    made = tabulate.fresh(path)
    listed = pl.read_parquet(made / "instruments/**/*.parquet")
    sizes = listed.filter(pl.col("venue") == venue, pl.col("base") == "BTC").sort("ts_seen")
    old, new = sizes["contract_size"].to_list()
    assert new == pytest.approx(10 * old)
    at = sizes["ts_seen"][1]
    rows = pl.read_parquet(made / "quotes/**/*.parquet", hive_partitioning=True)
    rows = rows.filter(pl.col("venue") == venue, pl.col("instrument") == BTC)
    before, after = rows.filter(pl.col("ts_recv") < at), rows.filter(pl.col("ts_recv") > at)
    for part, lot_size in zip((before, after), sizes["lot_size"], strict=True):
        lots = part["bid_size"] / lot_size
        assert lots.len() > 10 and (lots - lots.round()).abs().max() < 1e-6
    assert 0.4 < after["bid_size"].median() / before["bid_size"].median() < 2.5, "coins are coins"


@pytest.mark.parametrize("venue", LIVE)
def test_each_answer_is_on_the_tape(recorded, venue):
    path, _ = recorded
    answers = [
        msgspec.json.decode(frame.payload, type=RestAnswer)
        for frame in Tape(path).frames()
        if frame.kind == Kind.REST and frame.venue == venue
    ]
    assert [answer.what for answer in answers].count("instruments") >= 5
