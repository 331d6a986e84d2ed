"""Several venues into one tape: what one does never hurts another, and the end is bounded."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise

import msgspec
import pytest

from perptape.clock import Clock
from perptape.errors import BadUsage, Failed
from perptape.events import MS, NS, Kind, Note
from perptape.record import Plan, record
from perptape.route import at
from perptape.tape import Tape, TapeWriter
from perptape.venues.venue import Heartbeat

TEXT, CLOSE = 1, 8


def named(venue, name, origin, **changes):
    return msgspec.structs.replace(at(venue, origin), name=name, **changes)


def talker(wires, symbols=("BTC_USDT",), every_s=0.01):
    """Serve quotes of these symbols until the client goes."""

    async def script(peer):
        n = 0
        while True:
            n += 1
            await peer.send(*[wires.frame(TEXT, wires.data(s, n)) for s in symbols])
            await asyncio.sleep(every_s)

    return script


async def recorded(venues, tape, *, names=("BTC",), for_s=1.0, **more):
    plan = Plan(
        instruments=tuple(f"{name}-USDT-PERP" for name in names),
        venues=tuple(venues),
        for_ns=round(for_s * NS),
    )
    return await record(plan, tape, stop=asyncio.Event(), **more)


def notes(path, venue=None):
    return [
        (frame.wire, msgspec.json.decode(frame.payload, type=Note))
        for frame in Tape(path).frames()
        if frame.kind == Kind.NOTE and venue in {None, frame.venue}
    ]


def words(path, venue=None):
    return [note.note for _, note in notes(path, venue)]


def test_one_venue_is_down_and_another_is_recorded(wires, tmp_path):
    told = []

    async def main():
        async with wires.exchange(None) as dead:
            pass
        async with wires.exchange(talker(wires)) as alive:
            venues = [named(wires.ACME, "down", dead), named(wires.ACME, "up", alive)]
            tape = TapeWriter(tmp_path / "t")
            return await recorded(venues, tape, for_s=1.4, status=told.append)

    summary = wires.run(main())
    assert summary.heard and 1.39 < summary.seconds < 4 and summary.signal is None
    down, up = summary.markets
    assert (down.market, down.state, down.frames) == ("down:BTC-USDT-PERP", "unreachable", 0)
    assert down.error and down.last_age_s is None
    assert (up.state, up.error) == ("live", None) and up.frames > 20 and up.last_age_s < 1
    assert up.disk_free_b > 0
    assert [len(lines) for lines in told] == [2, 2]
    assert told[-1][1].ts <= time.time_ns()
    frames = list(Tape(tmp_path / "t").frames())
    assert Tape(tmp_path / "t").damage() == []
    assert up.frames == pytest.approx(sum(f.kind == Kind.TEXT for f in frames), abs=5)
    assert {f.kind for f in frames if f.venue == "down"} == {Kind.NOTE}
    assert 1 <= words(tmp_path / "t", "down").count("unreachable") <= 4
    assert words(tmp_path / "t", "up") == ["shutdown"]
    rest = [json.loads(f.payload)["what"] for f in frames if f.kind == Kind.REST]
    assert sorted(rest) == ["instruments", "time"]


def test_a_server_that_closes_is_asked_again_on_a_new_wire(wires, tmp_path):
    opened = []

    async def script(peer):
        opened.append(time.monotonic())
        await peer.until(TEXT)
        await peer.send(wires.frame(TEXT, wires.data("BTC_USDT")), wires.frame(CLOSE, b"\x03\xe8"))
        await peer.gone()

    async def main():
        async with wires.exchange(script) as origin:
            await recorded([at(wires.ACME, origin)], TapeWriter(tmp_path / "t"), for_s=2.6)

    wires.run(main())
    waits = [b - a for a, b in pairwise(opened)]
    assert waits and all(0.45 <= wait <= 1.5 for wait in waits)  # data was heard: no doubling
    frames = list(Tape(tmp_path / "t").frames())
    numbers = [f.wire for f in frames if f.kind == Kind.OPENED]
    assert len(numbers) == len(set(numbers)) == len(opened)
    first = {f.wire: f.kind for f in reversed(frames)}
    assert all(first[number] == Kind.OPENED for number in numbers)


def test_a_half_open_server_is_found_and_replaced(wires, tmp_path):
    async def script(peer):
        await peer.send(wires.frame(TEXT, wires.data("BTC_USDT")))
        await peer.gone()

    venue = msgspec.structs.replace(wires.ACME, heartbeat=Heartbeat(silence_ns=300 * MS))

    async def main():
        async with wires.exchange(script) as origin:
            return await recorded([at(venue, origin)], TapeWriter(tmp_path / "t"), for_s=2.0)

    summary = wires.run(main())
    kinds = [f.kind for f in Tape(tmp_path / "t").frames()]
    assert kinds.count(Kind.OPENED) >= 2
    assert words(tmp_path / "t")[:2] == ["silence", "closed"]
    assert summary.heard


def test_acknowledged_but_silent_backs_off(wires, tmp_path):
    opened = []

    async def script(peer):
        opened.append(time.monotonic())
        await peer.send(wires.frame(TEXT, b'{"ok":["bbo.BTC_USDT"]}'))
        await peer.gone()

    venue = msgspec.structs.replace(wires.ACME, first_data_ns=50 * MS)

    async def main():
        async with wires.exchange(script) as origin:
            return await recorded([at(venue, origin)], TapeWriter(tmp_path / "t"), for_s=3.2)

    summary = wires.run(main())
    assert not summary.heard and summary.markets[0].state in {"silent", "subscribed"}
    waits = [b - a for a, b in pairwise(opened)]
    assert waits[0] <= 1.3 and len(opened) <= 4
    assert words(tmp_path / "t")[:2] == ["late", "closed"]


def test_a_name_that_is_not_listed_is_refused_with_the_nearest(wires, tmp_path):
    async def main():
        async with wires.exchange(talker(wires)) as origin:
            tape = TapeWriter(tmp_path / "t")
            return await recorded([at(wires.ACME, origin)], tape, names=("BTCC", "BTC"))

    summary = wires.run(main())
    assert [m.state for m in summary.markets] == ["refused", "live"]
    refused = [note for _, note in notes(tmp_path / "t") if note.note == "refused"]
    assert [(n.market, n.channel, n.reason) for n in refused] == [
        ("acme:BTCC-USDT-PERP", "quotes", "not listed on acme; nearest: BTC-USDT-PERP")
    ]


def test_when_nothing_can_come_it_ends_at_once(wires, tmp_path):
    async def main():
        async with wires.exchange(None) as origin:
            tape = TapeWriter(tmp_path / "t")
            return await recorded([at(wires.ACME, origin)], tape, names=("XYZ",), for_s=30)

    summary = wires.run(main())
    assert not summary.heard and summary.seconds < 5


def test_a_refused_topic_leaves_the_other_and_the_state_says_so(wires, tmp_path):
    async def script(peer):
        await peer.send(wires.frame(TEXT, b'{"no":["bbo.ETH_USDT"],"why":"not for you"}'))
        await talker(wires)(peer)

    async def main():
        async with wires.exchange(script) as origin:
            tape = TapeWriter(tmp_path / "t")
            return await recorded([at(wires.ACME, origin)], tape, names=("BTC", "ETH"))

    btc, eth = wires.run(main()).markets
    assert (btc.state, eth.state, eth.error) == ("live", "refused", "not for you")
    assert btc.frames > 20 and eth.frames == 0


def test_all_refused_is_tried_again_slowly(wires, tmp_path):
    opened = []

    async def script(peer):
        opened.append(1)
        await peer.send(wires.frame(TEXT, b'{"no":["bbo.BTC_USDT"],"why":"never"}'))
        await peer.gone()

    async def main():
        async with wires.exchange(script) as origin:
            tape = TapeWriter(tmp_path / "t")
            return await recorded([at(wires.ACME, origin)], tape, for_s=2.5)

    summary = wires.run(main())
    assert opened == [1] and summary.markets[0].state == "refused" and not summary.heard


def test_topics_are_spread_over_wires(wires, tmp_path):
    venue = msgspec.structs.replace(wires.ACME, topics_per_wire=1)

    async def main():
        async with wires.exchange(talker(wires, ("BTC_USDT", "ETH_USDT"))) as origin:
            tape = TapeWriter(tmp_path / "t")
            return await recorded([at(venue, origin)], tape, names=("BTC", "ETH"), for_s=0.6)

    assert [m.state for m in wires.run(main()).markets] == ["live", "live"]
    frames = list(Tape(tmp_path / "t").frames())
    asked = [json.loads(f.payload)["subscriptions"] for f in frames if f.kind == Kind.OPENED]
    assert sorted(each["symbol"] for (each,) in asked) == ["BTC_USDT", "ETH_USDT"]


def test_a_venue_that_lies_or_breaks_us_hurts_itself_only(wires, tmp_path):
    def broken(*_):
        raise TypeError("a mistake of ours")

    async def main():
        async with wires.exchange(talker(wires)) as origin:
            tape = TapeWriter(tmp_path / "t")
            beat = Heartbeat(silence_ns=9 * NS, ping=broken, every_ns=50 * MS)
            venues = [
                named(wires.ACME, "list", origin, read_instruments=broken),
                named(wires.ACME, "subscribe", origin, subscribe=broken),
                named(wires.ACME, "ping", origin, heartbeat=beat),
                named(wires.ACME, "control", origin, control=broken),
                named(wires.ACME, "is_data", origin, is_data=broken),
                named(wires.ACME, "good", origin),
            ]
            return await recorded(venues, tape, for_s=1.0)

    summary = wires.run(main())
    states = {m.market.split(":")[0]: (m.state, m.error) for m in summary.markets}
    assert states["good"] == ("live", None)
    assert states["control"] == ("live", None)
    assert states["list"][0] == "unreachable" and "mistake" in states["list"][1]
    assert Tape(tmp_path / "t").damage() == []


FLOOD = """
    import asyncio, runpy, sys
    wires = runpy.run_path(sys.argv[1])
    burst = wires["frame"](1, wires["data"]("BTC_USDT")) * 5000

    async def flood(peer):
        while True:
            await peer.send(burst)

    async def main():
        async with wires["exchange"](flood) as origin:
            print(origin, flush=True)
            await asyncio.sleep(30)

    asyncio.run(main())
"""


def test_a_flood_on_one_venue_does_not_delay_another(wires):
    """The flood comes from another process; the quiet venue writes our clock into its frames."""

    class CalmTape(wires.MemoryTape):
        def append(self, wire, kind, *rest):
            loud = kind == Kind.TEXT and self.venues[wire] == "loud"
            return 0 if loud else super().append(wire, kind, *rest)

    async def quiet(peer):
        while True:
            await peer.send(wires.frame(TEXT, wires.data("BTC_USDT", time.monotonic_ns())))
            await asyncio.sleep(0.01)

    async def main():
        tape = CalmTape()
        program = [sys.executable, "-c", textwrap.dedent(FLOOD), wires.file]
        process = await asyncio.create_subprocess_exec(*program, stdout=subprocess.PIPE)
        try:
            loud = (await process.stdout.readline()).decode().strip()
            async with wires.exchange(quiet) as calm:
                venues = [named(wires.ACME, "loud", loud), named(wires.ACME, "calm", calm)]
                return await recorded(venues, tape, for_s=1.5), tape
        finally:
            process.kill()
            await process.wait()

    summary, tape = wires.run(main())
    loud, calm = summary.markets
    assert loud.frames > 100 * calm.frames
    late = [
        record.mono - json.loads(payload)["px"]
        for record in tape.records
        if record.kind is Kind.TEXT
        for payload in record.payloads
    ]
    assert len(late) > 20 and sorted(late)[len(late) // 2] < 100 * MS


def test_a_full_tape_stops_the_reading_and_says_so(wires):
    tape = wires.MemoryTape()

    async def main():
        async with wires.exchange(talker(wires)) as origin:
            loop = asyncio.get_running_loop()

            def turn(trouble):
                tape.full, tape.trouble = trouble is not None, trouble
                tape.troubles += trouble is not None

            loop.call_later(0.5, turn, "no space left")
            loop.call_later(1.1, turn, None)
            return await recorded([at(wires.ACME, origin)], tape, for_s=1.6)

    summary = wires.run(main())
    assert summary.heard
    said = [(n.note, n.state, n.reason) for n in tape.notes(venue="")]
    assert said == [
        ("disk", "begin", "no space left"),
        ("overload", "begin", None),
        ("disk", "end", None),
        ("overload", "end", None),
    ]
    begin, end = (r.mono for r in tape.records if r.payloads[0].startswith(b'{"note":"overload"'))
    data = [r for r in tape.records if r.kind is Kind.TEXT]
    assert sum(begin + 20 * MS < r.mono < end for r in data) == 0
    sent = [json.loads(p)["px"] for r in data for p in r.payloads]
    assert sent == list(range(1, len(sent) + 1)) and data[-1].mono > end
    assert tape.ticks > 10


def test_a_clock_step_is_noted(wires):
    tape, shift = wires.MemoryTape(), [0]

    async def main():
        clock = Clock(wall=lambda: time.time_ns() + shift[0])
        async with wires.exchange(talker(wires)) as origin:
            asyncio.get_running_loop().call_later(0.4, shift.__setitem__, 0, -3600 * NS)
            await recorded([at(wires.ACME, origin)], tape, for_s=1.0, clock=clock)

    wires.run(main())
    (note,) = tape.notes("clock")
    assert note.step_ns == pytest.approx(-3600 * NS, abs=50 * MS)
    stamps = [r.ts for r in tape.records]
    assert stamps[0] - stamps[-1] > 3500 * NS
    assert [r.mono for r in tape.records] == sorted(r.mono for r in tape.records)


def test_a_second_run_begins_with_restart_on_new_wires(wires, tmp_path):
    async def main():
        async with wires.exchange(talker(wires)) as origin:
            for _ in range(2):
                tape = TapeWriter(tmp_path / "t")
                await recorded([at(wires.ACME, origin)], tape, for_s=0.4)

    wires.run(main())
    frames = list(Tape(tmp_path / "t").frames())
    assert words(tmp_path / "t") == ["shutdown", "restart", "shutdown"]
    at_restart = next(n for n, f in enumerate(frames) if b"restart" in f.payload)
    before = {f.wire for f in frames[:at_restart]}
    after = {f.wire for f in frames[at_restart:]} - {0}
    assert frames[at_restart].wire == 0 and not before & after


def test_stop_is_quick_whatever_the_peers_do(wires, tmp_path):
    async def deaf(peer):
        peer.reader._transport.pause_reading()  # noqa: SLF001 - it never sees our close
        await asyncio.sleep(60)

    async def mute(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(60)

    async def main():
        stop = asyncio.Event()
        async with (
            wires.exchange(deaf) as one,
            wires.exchange(talker(wires)) as two,
            wires.serving(mute, handshake=False) as port,
        ):
            mute_socket = f"ws://127.0.0.1:{port}/"
            venues = (
                named(wires.ACME, "deaf", one),
                named(wires.ACME, "good", two),
                named(wires.ACME, "mute", f"http://127.0.0.1:{port}"),
                named(wires.ACME, "shut", two, url=mute_socket),
            )
            tape = TapeWriter(tmp_path / "t")
            plan = Plan(instruments=("BTC-USDT-PERP",), venues=venues)
            recording = asyncio.create_task(record(plan, tape, stop=stop))
            await asyncio.sleep(0.7)
            begun = time.monotonic()
            stop.set()
            await recording
            return time.monotonic() - begun

    assert wires.run(main()) < 5
    assert [words(tmp_path / "t", v) for v in ("deaf", "good")] == [["shutdown"], ["shutdown"]]
    assert Tape(tmp_path / "t").damage() == []


def test_a_tape_that_fails_ends_the_recording_with_its_words(wires):
    class FailingTape(wires.MemoryTape):
        def append(self, wire, kind, *rest):
            if kind == Kind.TEXT:
                raise Failed("the disk is too slow; record to a faster one")
            return super().append(wire, kind, *rest)

    async def main():
        async with wires.exchange(talker(wires)) as origin:
            await recorded([at(wires.ACME, origin)], FailingTape(), for_s=20)

    with pytest.raises(Failed, match="too slow"):
        wires.run(main())


def test_a_stream_that_a_venue_does_not_have_is_bad_usage(wires):
    plan = Plan(("BTC-USDT-PERP",), (wires.ACME,), streams={"acme": {"quotes": "depth9"}})
    with pytest.raises(BadUsage, match=r"depth9.*bbo"):
        wires.run(record(plan, wires.MemoryTape(), stop=asyncio.Event()))


PROGRAM = """
    import sys
    from pathlib import Path
    from perptape.record import Plan, run
    from perptape.route import at
    from perptape.venues import VENUES
    plan = Plan(("BTC-USDT-PERP",), (at(VENUES["bybit"], sys.argv[1]),))
    def status(markets):
        print(markets[0].state, flush=True)
    summary = run(plan, Path(sys.argv[2]), status=status)
    print("signal", summary.signal, summary.heard, flush=True)
"""
CONTRACT = {
    "symbol": "BTCUSDT",
    "contractType": "LinearPerpetual",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "settleCoin": "USDT",
    "fundingInterval": 480,
    "priceFilter": {"tickSize": "0.1"},
    "lotSizeFilter": {"qtyStep": "0.001"},
}
LISTING = {
    "retCode": 0,
    "retMsg": "OK",
    "result": {"category": "linear", "list": [CONTRACT], "nextPageCursor": ""},
}
BOOK = (
    b'{"topic":"orderbook.1.BTCUSDT","ts":1700000000004,"type":"snapshot","data":{"s":"BTCUSDT",'
    b'"b":[["20.25","1.5"]],"a":[["20.5","3"]],"u":%d,"seq":70},"cts":1700000000001}'
)


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT, signal.SIGTERM)],
    ids=["sigterm", "sigint-again-and-again"],
)
def test_signals_end_it_cleanly_within_five_seconds(wires, tmp_path, signals):
    sent = []

    async def script(peer):
        while True:
            sent.append(BOOK % len(sent))
            await peer.send(wires.frame(TEXT, sent[-1]))
            await asyncio.sleep(0.005)

    async def main():
        page = (200, json.dumps(LISTING).encode())
        path = "/v5/market/instruments-info?category=linear&limit=1000"
        async with wires.exchange(script, {path: page}) as origin:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                textwrap.dedent(PROGRAM),
                origin,
                str(tmp_path / "t"),
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONWARNINGS": "error"},
            )
            async with asyncio.timeout(60):
                while await process.stdout.readline() != b"live\n":
                    pass
                begun = time.monotonic()
                for number in signals:
                    process.send_signal(number)
                    await asyncio.sleep(0.01)
                said = await process.stdout.read()
                code = await process.wait()
        return said, code, time.monotonic() - begun

    said, code, seconds = wires.run(main())
    assert (said.splitlines()[-1], code) == (b"signal %d True" % signals[0], 0)
    assert seconds < 5
    tape = Tape(tmp_path / "t")
    assert tape.damage() == []
    got = [f.payload for f in tape.frames() if f.kind == Kind.TEXT]
    assert got and got == sent[: len(got)]
    assert words(tmp_path / "t")[-1] == "shutdown"
