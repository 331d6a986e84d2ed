"""Hostile frames of all live venues and all channels, made out of frames the simulators send."""

import contextlib
import itertools
import json
import math
import random
import subprocess
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import msgspec
import polars as pl
import pytest

from perptape import cli, tables, verify
from perptape.decode import PARSER_ERRORS, Registry, decoder, rest_events
from perptape.errors import CONTROL_ERRORS, BadFrame
from perptape.events import NS, Kind, RestAnswer
from perptape.sims import VENUES as SIMULATED
from perptape.tape import Tape, TapeWriter
from perptape.venues import VENUES

CHANNELS = "quotes,books,trades,marks,funding"
WHAT_JSON_CAN_SAY = [
    *(b"null", b"true", b"-1", b"0", b"1e400", b"-1e400", b"1e-400", b"1180591620717411303424"),
    *(b'""', b'"NaN"', b'"Infinity"', b'"-1"', b'"1e400"', b'"0x10"', b'"\\ud800"', b'"\\u0000"'),
    *(b"[]", b"{}", b"[null]", b'["1"]', b'[["1"]]', b'[["NaN","1"]]', b'"' + b"9" * 400 + b'"'),
    *(b"[" * 3000 + b"]" * 3000, b"NaN", b"9" * 400, b'"' + b"x" * 70_000 + b'"'),
]
HOSTILE_TOO = [
    *(b"", b"\x00" * 64, b"\xff\xfe", b'{"topic":"\xff"}', b"[" * 100_000, b'{"a":' * 100_000),
    *(b"<html>502 Bad Gateway</html>", b'{"a":1}{"a":1}', b"null", b"[[[]]]", b"\xef\xbb\xbf{}"),
]


@pytest.fixture(scope="module")
def everything(torture, tmp_path_factory):
    """A tape of every channel of every live venue."""
    place = tmp_path_factory.mktemp("everything")
    venues = tuple(SIMULATED)
    with torture.Simulators(place / "s", venues, torture.market(5)) as sims:
        words = ["BTC-USDT", "BTC-USD", "--venues", ",".join(venues), *sims.urls]
        words += ["--channels", CHANNELS]
        with torture.Recorder(place / "r", words) as recorder:

            def every_venue():
                return sum(line["frames"] > 50 for line in recorder.status().values())

            torture.until(lambda: every_venue() >= len(venues), "frames of every venue")
            recorder.stop()
    return recorder.tape


def shape(value):
    """What a frame's JSON looks like, whatever it says."""
    match value:
        case dict():
            return tuple((key, shape(inner)) for key, inner in value.items())
        case list():
            return ("[]", *dict.fromkeys(shape(inner) for inner in value[:3]))
        case str():
            return "text" if len(value) < 30 or value.isascii() else "long"
        case _:
            return type(value).__name__


def shapes(tape):
    """Give one frame of each shape, by venue."""
    found = defaultdict(dict)
    for frame in Tape(tape).frames():
        if frame.kind in {Kind.TEXT, Kind.BINARY} and frame.payload[:1] in b"{[":
            said = json.loads(frame.payload)
            channel = str(said.get("topic") or said.get("ch") or said.get("stream") or "")
            channel = "".join(c for c in channel if not c.isdigit())
            found[frame.venue].setdefault((channel, shape(said)), frame.payload)
    return {venue: list(frames.values()) for venue, frames in found.items()}


def places(value, path=()):
    """Give the path of every value, those inside lists only of the first two."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2])
    for key, inner in inside if isinstance(value, dict | list) else ():
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))
        else:
            yield (*path, key)


HERE = "\u2603here"
HERE_AS_JSON = json.dumps(HERE).encode()


def replaced(frame, path):
    """Give the frame in two halves, around the value at this place."""
    said = json.loads(frame)
    part = said
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = HERE
    return json.dumps(said, separators=(",", ":")).encode().split(HERE_AS_JSON)


def mutants(frame, rng, share):
    """Wrong type in every field, cut at every byte, keys twice: a share of them all."""
    for path in places(json.loads(frame)):
        before, after = replaced(frame, path)
        for value in WHAT_JSON_CAN_SAY:
            if rng.random() < share:
                yield before + value + after
        if isinstance(path[-1], str):
            for value in (b"null", b'"NaN"', b"[]"):
                if rng.random() < share:
                    yield before + value + b',"' + path[-1].encode() + b'":' + value + after
    for cut in range(len(frame)):
        if rng.random() < share:
            yield frame[:cut]
            yield frame[:cut] + b"\xff" + frame[cut:]
            yield frame[:cut] + frame[cut + 1 :]


def numbers(event):
    for value in msgspec.structs.astuple(event):
        if isinstance(value, float):
            yield value
        elif isinstance(value, list | tuple):
            yield from (float(n) for level in value for n in level)


def survives(name, payload):
    """Decode it as the recorder and the tables do: only what is foreseen may be raised."""
    venue = VENUES[name]
    with contextlib.suppress(BadFrame):
        for event in decoder(name)(payload):
            assert all(map(math.isfinite, numbers(event))), (name, payload, event)
    with contextlib.suppress(*CONTROL_ERRORS):
        venue.control(payload)
    venue.is_data(payload)
    if venue.link is not None:
        with contextlib.suppress(*PARSER_ERRORS):
            venue.link(payload)


def test_hostile_frames_of_every_channel_break_no_decoder(torture, everything, figures):
    rng, share = random.Random(5), 1.0 if torture.LONG else 0.01  # noqa: S311 - a sample
    found = shapes(everything)
    assert set(found) == set(SIMULATED)
    count = 0
    for name, frames in sorted(found.items()):
        for payload in HOSTILE_TOO:
            survives(name, payload)
        for frame in frames:
            for payload in mutants(frame, rng, share):
                survives(name, payload)
                count += 1
    figures(
        f"hostile frames of {sum(map(len, found.values()))} shapes, {len(found)} venues",
        injected=f"{count:,}",
        survived=f"{count:,}",
    )


def rest_answers(tape):
    found = {}
    for frame in Tape(tape).frames():
        if frame.kind == Kind.REST:
            answer = msgspec.json.decode(frame.payload, type=RestAnswer)
            found.setdefault((frame.venue, answer.what), answer)
    return found


def test_hostile_rest_answers_break_no_reader(torture, everything, figures):
    rng, share = random.Random(6), 0.2 if torture.LONG else 0.002  # noqa: S311 - a sample
    count = 0
    for (name, _), answer in sorted(rest_answers(everything).items(), key=lambda item: item[0]):
        for body in itertools.chain(HOSTILE_TOO, mutants(answer.body.encode(), rng, share)):
            text = body.decode(errors="surrogateescape").encode(errors="replace").decode()
            hostile = msgspec.structs.replace(answer, body=text)
            with contextlib.suppress(BadFrame):
                for event in rest_events(name, hostile):
                    assert all(map(math.isfinite, numbers(event))), (name, body, event)
            with contextlib.suppress(*PARSER_ERRORS):
                VENUES[name].read_instruments(text.encode(), 0)
            count += 1
    figures("hostile REST answers", injected=f"{count:,}", survived=f"{count:,}")


def test_a_step_that_is_no_number_is_a_bad_list_not_a_mistake():
    """Decimal's errors are neither ValueErrors nor OverflowErrors."""
    contract = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "priceEndStep": "x"}
    contract |= {"pricePlace": "1", "sizeMultiplier": "1", "symbolType": "perpetual"}
    contract |= {"symbolStatus": "normal", "fundInterval": "8"}
    body = {"code": "00000", "msg": "success", "requestTime": 1, "data": [contract]}
    answer = RestAnswer("instruments", "https://x", 200, 1, json.dumps(body))
    with pytest.raises(BadFrame, match="bitget"):
        Registry().answer("bitget", msgspec.json.encode(answer), 0)


def test_a_tape_full_of_hostile_frames_is_verified_tabulated_and_reported(
    torture, everything, tmp_path, figures, capsys
):
    """Between the good frames lie bad ones: every command ends as it should, in sentences."""
    rng = random.Random(7)  # noqa: S311 - a sample
    bad = {
        name: [m for frame in frames for m in mutants(frame, rng, 0.002)][:400]
        for name, frames in shapes(everything).items()
    }
    injected, wires = 0, {}
    with TapeWriter(tmp_path / "t", half_bytes=8 << 20) as tape:
        for frame in Tape(everything).frames():
            key = frame.venue, frame.wire
            if frame.venue and key not in wires:
                wires[key] = tape.new_wire(frame.venue)
            wire = wires.get(key, 0)
            tape.append(wire, frame.kind, [frame.payload], frame.ts_recv, frame.ts_mono)
            if frame.kind in {Kind.TEXT, Kind.BINARY} and bad[frame.venue] and rng.random() < 0.3:
                hostile = bad[frame.venue].pop()
                tape.append(wire, frame.kind, [hostile], frame.ts_recv, frame.ts_mono)
                injected += 1
    codes = {}
    for command in ("verify", "tabulate", "report"):
        words = [command, str(tmp_path / "t")]
        words += ["-o", str(tmp_path / "page.html")] if command == "report" else []
        codes[command] = cli._run(words, debug=False)  # noqa: SLF001 - main() would exit
        told = capsys.readouterr()
        torture.no_traceback(told.out, told.err)
    assert codes == {"verify": 3, "tabulate": 0, "report": 0}
    verdict = verify.verify(tmp_path / "t")
    assert verdict.damage == [] and verdict.unreadable > injected / 10
    for table in ("quotes", "trades", "books", "marks", "funding"):
        rows = tables.scan(tmp_path / "t/tables", table).collect()
        floats = rows.select(pl.col(pl.Float64))
        assert floats.select(pl.any_horizontal(pl.all().is_infinite().any()))[0, 0] in {False, None}
    figures(
        "hostile frames on a tape, to the report",
        injected=injected,
        survived=injected,
        remark=f"{verdict.unreadable} counted as unreadable",
    )


FLOOD = """
    import asyncio, json, runpy, sys
    wires = runpy.run_path(sys.argv[1])
    book = (b'{"topic":"orderbook.1.BTCUSDT","ts":%d,"type":"snapshot","data":{"s":"BTCUSDT",'
            b'"b":[["20.25","1.5"]],"a":[["20.5","3"]],"u":%d,"seq":70},"cts":1700000000001}')
    contract = {"symbol": "BTCUSDT", "contractType": "LinearPerpetual", "status": "Trading",
                "baseCoin": "BTC", "quoteCoin": "USDT", "settleCoin": "USDT",
                "fundingInterval": 480, "priceFilter": {"tickSize": "0.1"},
                "lotSizeFilter": {"qtyStep": "0.001"}}
    listing = {"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": [contract],
               "nextPageCursor": ""}}
    path = "/v5/market/instruments-info?category=linear&limit=1000"

    async def flood(peer):
        number = 1
        while True:
            await peer.send(*[wires["frame"](1, book % (1700000000004, n))
                              for n in range(number, number + 2000)])
            number += 2000

    async def main():
        pages = {path: (200, json.dumps(listing).encode())}
        async with wires["exchange"](flood, pages) as origin:
            print(origin, flush=True)
            await asyncio.sleep(600)

    asyncio.run(main())
"""
WIRES = Path(__file__).parents[1] / "wire" / "conftest.py"
SLOW_S = 1.0
"""How long a sync takes: with halves of 2 MiB the disk takes 2 MiB a second."""


def test_a_flood_beyond_what_the_disk_takes(torture, tmp_path, figures):
    """Reading stops and says so; memory has its bound; not a frame is missing in between."""
    torture.needed("strace")
    command = [sys.executable, "-c", textwrap.dedent(FLOOD), str(WIRES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        origin = server.stdout.readline().strip()
        under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]
        under += ["-e", f"inject=fdatasync:delay_enter={round(SLOW_S * 1e6)}"]
        words = ["BTC-USDT", "--venues", "bybit", "--url", f"bybit={origin}"]
        seconds = "30s" if torture.LONG else "4s"
        bounds = {"half_bytes": 2 << 20, "sync_ms": 100}
        words += ["--for", seconds]
        with torture.Recorder(tmp_path / "r", words, under=under, bounds=bounds) as recorder:
            assert recorder.wait() == 0, recorder.said
        server.kill()
    torture.no_traceback(recorder.said)
    frames = list(Tape(recorder.tape).frames())
    numbered = [json.loads(f.payload)["data"]["u"] for f in frames if f.kind == Kind.TEXT]
    assert numbered == list(range(1, len(numbered) + 1)) and len(numbered) >= recorder.told
    overloads = [f.ts_recv for f in frames if b'"overload"' in f.payload]
    assert overloads
    stopped_s = sum((b - a) / NS for a, b in zip(overloads[::2], overloads[1::2], strict=False))
    found = torture.untrusted_s(recorder.tape).get("overload", 0.0)
    assert found >= stopped_s * 0.9
    assert recorder.rss_mb < 400
    figures(
        "flood beyond what the disk takes",
        injected=1,
        survived=1,
        lost=0,
        untrusted=f"{found:.1f} s, reading stopped {stopped_s:.1f} s",
        rss=f"{recorder.rss_mb:.0f} MB",
        remark=f"{len(numbered):,} frames without a hole in {seconds}",
    )
