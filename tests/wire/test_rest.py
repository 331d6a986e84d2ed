"""REST: every answer is on the tape before it is read, and what fails is tried again."""

import asyncio
import time

import msgspec
import pytest

from perptape import rest as module
from perptape.clock import Clock
from perptape.errors import Unreachable
from perptape.events import NS, Kind, RestAnswer
from perptape.rest import Rest, open_client
from perptape.route import Route, at, tls_context
from perptape.venues.venue import Poll


async def ask(wires, pages, *, times=0):
    """Give the names that were listed, the tape, and what was said of failures."""
    tape, failures = wires.MemoryTape(), []
    async with wires.exchange(None, pages) as origin, open_client(Route(tls_context())) as client:
        rest = Rest(client, at(wires.ACME, origin), tape, Clock())
        async with asyncio.timeout(10):
            listed = await rest.instruments(failures.append)
        for _ in range(times):
            await rest.time()
    return [each.name for each in listed], tape, failures


def answers(tape):
    return [msgspec.json.decode(each, type=RestAnswer) for each in tape.frames(Kind.REST)]


def test_all_pages_are_read_and_all_are_on_the_tape(wires):
    pages = {
        "/instruments": (200, b'{"coins":["BTC"],"next":"/more"}'),
        "/more": (200, b'{"coins":["ETH"]}'),
        "/time": (200, b"1700000000000"),
    }
    names, tape, _ = wires.run(ask(wires, pages, times=1))
    assert names == ["BTC-USDT-PERP", "ETH-USDT-PERP"]
    got = answers(tape)
    assert [(a.what, a.status) for a in got] == [
        ("instruments", 200),
        ("instruments", 200),
        ("time", 200),
    ]
    assert got[1].body == '{"coins":["ETH"]}' and got[1].url.endswith("/more")
    assert all(0 < a.t_sent <= r.ts for a, r in zip(got, tape.records, strict=True))
    assert {record.wire for record in tape.records} == {1}


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param((503, b"<html>down</html>"), id="http-503"),
        pytest.param((200, b"<html>maintenance</html>"), id="html-with-200"),
        pytest.param((200, b'{"coins":3}'), id="another-shape"),
        pytest.param((200, b'{"coins":[]}'), id="empty"),
        pytest.param((302, b"", b"Location: http://127.0.0.1:9/\r\n"), id="redirect"),
        pytest.param((200, b"x", b"Content-Encoding: gzip\r\n"), id="compressed"),
        pytest.param((200, b" " * (module.BODY_BYTES + 1)), id="too-long"),
    ],
)
def test_a_list_that_does_not_come_is_noted_and_asked_for_again(wires, bad):
    asked = []

    def page(_):
        asked.append(time.monotonic())
        return bad if len(asked) == 1 else (200, b'{"coins":["BTC"]}')

    names, tape, failures = wires.run(ask(wires, {"/instruments": page}))
    assert names == ["BTC-USDT-PERP"] and len(failures) == 1
    assert [n.note for n in tape.notes()] == ["unreachable"]
    assert 0.4 <= asked[1] - asked[0] <= 1.5


def test_a_venue_that_names_a_time_is_not_asked_before(wires):
    asked = []

    def page(_):
        asked.append(time.monotonic())
        again = (200, b'{"coins":["BTC"]}')
        return (429, b"", b"Retry-After: 2\r\n") if len(asked) == 1 else again

    wires.run(ask(wires, {"/instruments": page}))
    assert asked[1] - asked[0] >= 2


def test_during_a_ban_nothing_is_asked(wires):
    pages = {"/time": (418, b"", b"Retry-After: 60\r\n")}
    _, tape, _ = wires.run(ask(wires, pages, times=3))
    assert [(a.what, a.status) for a in answers(tape)] == [("instruments", 200), ("time", 418)]


def test_a_ban_is_of_every_call_and_no_later_answer_shortens_it(wires):
    asked = []

    def page(status, *headers):
        def answer(request):
            asked.append(request.split()[1].decode())
            return (status, b"", *headers)

        return answer

    async def main():
        tape = wires.MemoryTape()
        pages = {"/time": page(429, b"Retry-After: 60\r\n"), "/instruments": page(500)}
        async with wires.exchange(None, pages) as origin, open_client(Route(tls_context())) as web:
            rest = Rest(web, at(wires.ACME, origin), tape, Clock())
            waiting = []

            async def list_too():
                with pytest.raises(Unreachable):
                    await rest.ask()

            await asyncio.gather(rest.time(), list_too())  # both are on their way at once
            with pytest.raises(Unreachable, match="stay away") as told:
                await rest.ask()
            waiting.append(told.value.wait_ns)
            return waiting

    (wait_ns,) = wires.run(main())
    assert sorted(asked) == ["/instruments", "/time"] and wait_ns > 50 * NS


def test_a_list_without_end_is_left(wires, monkeypatch):
    monkeypatch.setattr(module, "PAGES", 3)
    pages = {"/instruments": (200, b'{"coins":["BTC"],"next":"/instruments"}')}
    _, tape, _ = wires.run(ask(wires, pages))
    assert len(answers(tape)) == 3


def test_a_body_that_drips_for_ever_is_given_up(wires, monkeypatch):
    monkeypatch.setattr(module, "REST_S", 0.3)

    async def main():
        async def drip(peer):
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                await peer.send(b" ")
                await asyncio.sleep(0.05)

        tape = wires.MemoryTape()
        async with (
            wires.serving(drip, handshake=False) as port,
            open_client(Route(tls_context())) as client,
        ):
            venue = at(wires.ACME, f"http://127.0.0.1:{port}")
            await asyncio.wait_for(Rest(client, venue, tape, Clock()).time(), 5)
        return tape

    (note,) = wires.run(main()).notes("unreachable")
    assert "no answer within" in note.reason


def test_the_venues_headers_go_along_and_bytes_that_are_no_text_survive(wires):
    seen = []

    def page(request):
        seen.append(request.lower())
        return (200, b'{"coins":["BTC"],"note":"\xff"}')

    with_time = {"/time": page}
    _, tape, _ = wires.run(ask(wires, with_time, times=1))
    assert b"x-acme: 1" in seen[0] and b"accept-encoding: identity" in seen[0]
    assert "\ufffd" in answers(tape)[-1].body


def by_post(wires, use):
    """What ``use(rest)`` gives, the tape, and what was asked: head and body."""
    heard, page = [], b'{"coins":["BTC"]}'

    async def main():
        async def reply(peer):
            head = (await peer.reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length: ")[2].split()[0])
            heard.append((head, await peer.reader.readexactly(size)))
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page))

        tape = wires.MemoryTape()
        async with (
            wires.serving(reply, handshake=False) as port,
            open_client(Route(tls_context())) as client,
        ):
            venue = msgspec.structs.replace(wires.ACME, instruments_body=b'{"type":"meta"}')
            rest = Rest(client, at(venue, f"http://127.0.0.1:{port}"), tape, Clock())
            return await asyncio.wait_for(use(rest), 5), tape

    return *wires.run(main()), heard


def test_a_question_goes_by_post(wires):
    found, tape, ((head, body),) = by_post(wires, lambda rest: rest.ask())
    assert [each.name for each in found] == ["BTC-USDT-PERP"]
    assert head.startswith(b"post /instruments http/1.1\r\n") and body == b'{"type":"meta"}'
    assert b"content-type: application/json" in head and b"x-acme: 1" in head
    assert [a.body for a in answers(tape)] == ['{"coins":["BTC"]}']


def test_a_poll_may_be_a_question_about_each_symbol(wires):
    def body(symbol, ts):
        return f"{symbol} {ts > 10**18}".encode()

    poll = Poll("paid", "funding", "/info", 1, body)
    _, tape, heard = by_post(wires, lambda rest: rest.poll(poll, ["A", "B"]))
    assert [body for _, body in heard] == [b"A True", b"B True"]
    assert {head.partition(b" http/1.1")[0] for head, _ in heard} == {b"post /info"}
    assert [(a.what, a.symbol) for a in answers(tape)] == [("paid", "A"), ("paid", "B")]
