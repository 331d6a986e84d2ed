"""The ledger and the tables of a tape of which the oldest part was deleted, as was asked."""

import msgspec
import polars as pl

from perptape import ledger, tabulate, verify
from perptape.events import NS, Kind, Note, Opened, Subscription
from perptape.instruments import base_of
from perptape.tape import KEEP_ALL, Retention, Tape, TapeWriter

T0 = 1_790_000_000 * NS
BTC, ETH = "bybit:BTC-USDT-PERP", "bybit:ETH-USDT-PERP"


def quote(coin, u):
    return (
        f'{{"topic":"orderbook.1.{coin}USDT","ts":1790000000000,"type":"snapshot","data":'
        f'{{"s":"{coin}USDT","b":[["100","1"]],"a":[["101","2"]],"u":{u},"seq":{u}}},'
        f'"cts":1790000000000}}'
    ).encode()


def run(path, at_s, *markets, until_s, keep_s=None, leaves=True):
    """One run of the recorder: a quote of each market every second, a segment every ten."""
    begun = T0 + at_s * NS
    names = [market.split(":")[1] for market in markets]
    config = {"venues": ["bybit"], "instruments": names, "channels": ["quotes"]}
    retention = KEEP_ALL if keep_s is None else Retention(keep_ns=keep_s * NS)
    writer = TapeWriter(
        path, config=config, now=lambda: (begun, begun), retention=retention, segment_bytes=1
    )

    def frame(wire, kind, payload, s):
        writer.append(wire, kind, [payload], T0 + s * NS, T0 + s * NS)

    if writer.ts_before is not None:
        frame(0, Kind.NOTE, msgspec.json.encode(Note("restart")), at_s)
    wire, coins = writer.new_wire("bybit"), [base_of(name) for name in names]
    asked = tuple(
        Subscription(market, "quotes", "orderbook.1", f"{coin}USDT")
        for market, coin in zip(markets, coins, strict=True)
    )
    frame(wire, Kind.OPENED, msgspec.json.encode(Opened("bybit", "ws://x", asked)), at_s)
    for s in range(at_s + 1, until_s):
        for coin in coins:
            frame(wire, Kind.TEXT, quote(coin, s), s)
        if s % 10 == 9:
            writer.flush(sync=True)
    if leaves:
        frame(wire, Kind.NOTE, msgspec.json.encode(Note("shutdown")), until_s)
    writer.close()


def spans(path, market=BTC):
    """(start, end, trusted, reason) in seconds since T0."""
    return [
        ((i.start - T0) / NS, (i.end - T0) / NS, i.trusted, i.reason)
        for i in ledger.read(Tape(path)).intervals
        if i.market == market
    ]


def test_what_was_deleted_is_said_to_be_expired_and_the_rest_is_trusted(tmp_path):
    path = tmp_path / "t"
    run(path, 0, BTC, ETH, until_s=60, keep_s=25)
    assert (
        spans(path)
        == spans(path, ETH)
        == [
            (0, 30, False, "expired"),
            (30, 60, True, "shutdown"),
        ]
    )
    found = verify.verify(path)
    assert (found.verdict, found.damage) == ("untrusted", [])
    assert {i.reason for m in found.markets for i in m.intervals} == {"expired"}
    detail = next(i.detail for m in found.markets for i in m.intervals)
    assert "--keep" in detail and found.unreadable == 0


def test_a_real_hole_is_still_damage(tmp_path):
    path = tmp_path / "t"
    run(path, 0, BTC, until_s=60, keep_s=35)
    (path / "raw" / Tape(path).segments[1].name).unlink()
    reasons = [reason for *_, reason in spans(path)]
    assert reasons == ["expired", "damage", "damage", "shutdown"]
    assert verify.verify(path).verdict == "damaged"


def test_a_run_that_is_gone_altogether_and_the_next(tmp_path):
    """The second run did not ask for ETH any more; its own first part is gone too."""
    path = tmp_path / "t"
    run(path, 0, BTC, ETH, until_s=40)
    run(path, 100, BTC, until_s=160, keep_s=25)
    assert spans(path) == [(0, 130, False, "expired"), (130, 160, True, "shutdown")]
    assert spans(path, ETH) == [(0, 129, False, "expired"), (129, 160, False, "restart")]


def test_a_run_whose_end_is_left(tmp_path):
    path = tmp_path / "t"
    run(path, 0, BTC, until_s=40)
    run(path, 50, BTC, until_s=70, keep_s=45)
    assert spans(path) == [
        (0, 20, False, "expired"),
        (20, 40, True, "shutdown"),
        (40, 51, False, "restart"),
        (51, 70, True, "shutdown"),
    ]


def test_when_all_is_gone_the_time_is_still_told(tmp_path):
    path = tmp_path / "t"
    run(path, 0, BTC, until_s=40)
    tape = Tape(path)
    expired = [msgspec.structs.replace(s, state="expired") for s in tape.segments]
    found = ledger.Ledger(ledger.asked(tape), expired).finish()
    ((market, start, end, reason),) = [
        (i.market, i.start, i.end, i.reason) for i in found.intervals
    ]
    assert (market, reason) == (BTC, "expired") and (end - start) == 40 * NS


def test_segments_that_go_while_the_tape_is_read(tmp_path):
    path = tmp_path / "t"
    run(path, 0, BTC, until_s=60)
    tape = Tape(path)
    book, batches = ledger.Ledger(ledger.asked(tape), tape.expired), tape.batches()
    book.batch(next(batches))
    run(path, 100, BTC, until_s=101, keep_s=65)
    for batch in batches:
        book.batch(batch)
    found = [((i.start - T0) / NS, (i.end - T0) / NS, i.trusted, i.reason)
             for i in book.finish(*ledger.end_of(tape)).intervals]  # fmt: skip
    assert found == [
        (0, 1, False, "start"),
        (1, 9, True, "expired"),
        (9, 30, False, "expired"),
        (30, 60, True, "shutdown"),
    ]
    assert tape.damage() == []


def test_the_tables_are_made_anew_without_what_is_gone(tmp_path):
    path = tmp_path / "t"
    run(path, 0, BTC, until_s=60)
    before = pl.read_parquet(tabulate.fresh(path) / "quotes/**/*.parquet")
    run(path, 100, BTC, until_s=160, keep_s=85)
    root = tabulate.fresh(path)
    after = pl.read_parquet(root / "quotes/**/*.parquet")
    assert before.height == 59 and after["ts_recv"].min().timestamp() == T0 // NS + 101
    told = pl.read_parquet(root / "ledger/**/*.parquet")
    assert "expired" in told["reason"].to_list()
