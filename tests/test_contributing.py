"""The venue of CONTRIBUTING.md is put together from the page, and recorded from."""

import asyncio
import re
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.http11 import Response

from perptape import ledger
from perptape.events import NS, Quote
from perptape.record import Plan, record
from perptape.route import at
from perptape.tape import Tape, TapeWriter
from perptape.venues import VENUES
from perptape.venues.venue import Link, Venue

PAGE = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LISTED = (
    b'[{"symbol":"BTCUSDT","base":"BTC","quote":"USDT","size":"0.01","tick":"0.5","state":"open"}]'
)


@pytest.fixture(scope="module")
def acme():
    """The page's first block as a module, and its value."""
    module = ModuleType("acme")
    sys.modules["acme"] = module  # where msgspec looks up the types of annotations
    exec(compile(BLOCKS[0], "CONTRIBUTING.md", "exec"), module.__dict__)  # noqa: S102 - our page
    yield module.ACME
    del sys.modules["acme"]


def test_the_page_has_a_venue_and_its_golden_frames(acme):
    assert isinstance(acme, Venue) and len(BLOCKS) == 2
    names = {"ACME": acme, "Quote": Quote, "Link": Link}
    exec(compile(BLOCKS[1], "CONTRIBUTING.md", "exec"), names)  # noqa: S102
    golden = [value for name, value in names.items() if name.startswith("test_")]
    assert len(golden) == 2
    for test in golden:
        test()


def rest(connection, request):
    """Answer REST calls on the port of the websocket."""
    del connection
    bodies = {"/v1/contracts": LISTED, "/v1/time": b'{"now":1790000000000}'}
    if request.path not in bodies:
        return None
    body = bodies[request.path]
    return Response(200, "OK", Headers({"Content-Length": str(len(body))}), body)


async def speak(socket):
    """Answer a subscribe, and lose one change of the book."""
    async for frame in socket:
        asked = msgspec.json.decode(frame)
        for key in asked.get("sub", ()):
            await socket.send(msgspec.json.encode({"ok": key}).decode())
            for line in SAID[key]:
                await socket.send(line)


BEST = '{"ch":"best","s":"BTCUSDT","t":5,"d":{"bid":[100,2],"ask":[101,1]}}'
DEPTH = '{"ch":"depth","s":"BTCUSDT","t":5,"d":{"id":%d,%s"bids":[[100,1]],"asks":[[101,1]]}}'
SAID = {
    "best.BTCUSDT": [BEST],
    "depth.BTCUSDT": [DEPTH % (5, ""), DEPTH % (6, '"prev":5,'), DEPTH % (9, '"prev":8,')],
}


async def recorded(acme, path):
    async with serve(speak, "127.0.0.1", 0, process_request=rest) as server:
        port = server.sockets[0].getsockname()[1]
        plan = Plan(
            instruments=("BTC-USDT-PERP",),
            venues=(at(acme, f"http://127.0.0.1:{port}"),),
            channels=("quotes", "books"),
            for_ns=2 * NS,
        )
        return await record(plan, TapeWriter(path, config=plan.config()), stop=asyncio.Event())


def test_the_venue_of_the_page_is_recorded_and_its_lost_change_is_found(
    acme, tmp_path, monkeypatch
):
    monkeypatch.setitem(VENUES, "acme", acme)
    summary = asyncio.run(recorded(acme, tmp_path / "tape"))
    assert summary.heard
    result = ledger.read(Tape(tmp_path / "tape"))
    reasons = {(i.channel, i.reason) for i in result.intervals if not i.trusted}
    assert ("books", "sequence") in reasons and ("quotes", "sequence") not in reasons
    sent = [f.payload for f in Tape(tmp_path / "tape").frames() if b'"unsub"' in f.payload]
    assert sent == [b'{"unsub":["depth.BTCUSDT"]}']
