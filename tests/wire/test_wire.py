"""One wire over a real socket: the conversation, and each thing a hostile server may try."""

import asyncio
import gzip
import resource
import socket
import ssl
import time

import msgspec
import pytest
import trustme

from perptape.clock import Clock
from perptape.errors import BadUsage, LostSync, PerptapeError, Refused, Silent, Unreachable
from perptape.events import MS, NS, Kind, Opened
from perptape.guard import FRAGMENTS, INFLATED_BYTES, MESSAGE_BYTES
from perptape.route import Route, at, tls_context
from perptape.venues.venue import Alive, Heartbeat
from perptape.wire import UNSENT_BYTES, Wire

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
MIB = 1 << 20


def code_of(payload):
    return int.from_bytes(payload[:2], "big")


# The conversation


def test_a_wire_from_opened_to_closed(wires):
    asked = []

    async def script(peer):
        asked.append(peer.request)
        asked.append((await peer.said())[1])
        await peer.send(
            wires.frame(TEXT, b'{"ok":["bbo.BTC"]}'),
            wires.frame(TEXT, wires.data("BTC", 1)),
            wires.frame(PING, b"x"),
            wires.frame(TEXT, wires.data("BTC", 2)),
        )
        asked.append(await peer.until(PONG))
        await peer.send(wires.frame(CLOSE, b"\x03\xebping check expired"))
        asked.append(code_of(await peer.until(CLOSE)))

    lost, tape = wires.run(wires.live(script))
    assert str(lost) == "the venue closed the connection: 1003 ping check expired"
    assert b"x-acme: 1" in asked[0].lower() and b"permessage-deflate" not in asked[0]
    assert asked[1].startswith(b'{"sub":"bbo.BTC","ts":17') and asked[2:] == [b"x", 1000]
    kinds = [(r.kind, len(r.payloads)) for r in tape.records]
    assert kinds[:2] == [(Kind.OPENED, 1), (Kind.SENT, 1)]
    assert kinds[-2:] == [(Kind.CLOSE, 1), (Kind.NOTE, 1)]
    order = [(r.kind, p) for r in tape.records[2:-2] for p in r.payloads]
    assert order == [
        (Kind.TEXT, b'{"ok":["bbo.BTC"]}'),
        (Kind.TEXT, wires.data("BTC", 1)),
        (Kind.PING, b"x"),
        (Kind.TEXT, wires.data("BTC", 2)),
    ]
    opened = msgspec.json.decode(tape.records[0].payloads[0], type=Opened)
    assert (opened.venue, opened.subscriptions[0].market) == ("acme", "acme:BTC-USDT-PERP")
    assert [(n.note, n.reason) for n in tape.notes()] == [("closed", str(lost))]
    stamps = [(r.ts, r.mono) for r in tape.records]
    assert stamps == sorted(stamps) and abs(stamps[0][0] - time.time_ns()) < 60 * NS


def test_frames_of_one_read_are_one_record(wires):
    async def script(peer):
        await peer.send(b"".join(wires.frame(TEXT, wires.data("BTC", n)) for n in range(50)))
        await asyncio.sleep(0.05)

    _, tape = wires.run(wires.live(script))
    counts = [len(r.payloads) for r in tape.records if r.kind is Kind.TEXT]
    assert sum(counts) == 50 and len(counts) <= 3


def test_frames_in_the_handshakes_packet_come_after_opened(wires):
    async def script(peer):
        await peer.send(wires.frame(TEXT, wires.data("BTC")))

    _, tape = wires.run(wires.live(script))
    kinds = [r.kind for r in tape.records]
    assert kinds[0] is Kind.OPENED and kinds.count(Kind.TEXT) == 1


def test_a_server_heartbeat_is_answered_and_both_are_on_the_tape(wires):
    async def script(peer):
        await peer.send(wires.frame(TEXT, b'{"ping":42}'))
        assert await peer.until(TEXT) != b""
        assert await peer.until(TEXT) == b'{"pong":42}'

    _, tape = wires.run(wires.live(script))
    assert tape.frames(Kind.SENT)[-1] == b'{"pong":42}'


def test_the_clients_ping_is_sent_on_its_beat(wires):
    beat = Heartbeat(silence_ns=30 * NS, ping=lambda _: b"ping", every_ns=30 * MS)

    async def script(peer):
        assert (await peer.until(TEXT)).startswith(b'{"sub"')
        for _ in range(3):
            assert await peer.until(TEXT) == b"ping"

    venue = msgspec.structs.replace(wires.ACME, heartbeat=beat)
    wires.run(wires.live(script, venue=venue))


def test_a_half_open_server_is_left_after_its_silence(wires):
    async def script(peer):
        await peer.until(TEXT)
        await peer.send(wires.frame(TEXT, wires.data("BTC")))
        await peer.gone()

    begun = time.monotonic()
    lost, tape = wires.run(wires.live(script, venue=wires.silence(300 * MS)))
    assert isinstance(lost, Silent) and 0.3 <= time.monotonic() - begun < 3
    assert [(n.note, n.silence_ns) for n in tape.notes()] == [
        ("silence", 300 * MS),
        ("closed", None),
    ]


def test_a_server_that_never_hangs_up_is_cut(wires):
    async def script(peer):
        await peer.until(CLOSE)
        await asyncio.sleep(30)

    begun = time.monotonic()
    lost, _ = wires.run(wires.live(script, venue=wires.silence(50 * MS)))
    assert isinstance(lost, Silent) and time.monotonic() - begun < 3


def test_acknowledged_and_silent_is_left_though_it_pings(wires):
    async def script(peer):
        await peer.send(wires.frame(TEXT, b'{"ok":["bbo.BTC"]}'))
        while True:
            await peer.send(wires.frame(TEXT, b'{"ping":1}'))
            await asyncio.sleep(0.02)

    venue = msgspec.structs.replace(wires.ACME, first_data_ns=200 * MS)
    lost, tape = wires.run(wires.live(script, venue=venue))
    assert isinstance(lost, Silent) and [n.note for n in tape.notes()] == ["late", "closed"]


def test_refused_topic_by_topic(wires):
    async def script(peer):
        await peer.send(wires.frame(TEXT, b'{"no":["bbo.NOPE"],"why":"unknown"}'))
        await peer.send(wires.frame(TEXT, wires.data("BTC")))
        await peer.send(wires.frame(TEXT, b'{"no":["bbo.BTC"],"why":"gone"}'))
        await peer.gone()

    lost, tape = wires.run(wires.live(script, symbols=("NOPE", "BTC")))
    assert isinstance(lost, Refused)
    assert [(n.note, n.symbol, n.reason) for n in tape.notes("refused")] == [
        ("refused", "NOPE", "unknown"),
        ("refused", "BTC", "gone"),
    ]


def test_an_error_of_our_own_ends_the_wire_and_is_told(wires):
    async def script(peer):
        await peer.send(wires.frame(TEXT, wires.data("BTC")))
        await peer.gone()

    class FailingTape(wires.MemoryTape):
        def append(self, wire, kind, *rest):
            if kind == Kind.TEXT:
                raise PerptapeError("the disk is gone")
            return super().append(wire, kind, *rest)

    lost, _ = wires.run(wires.live(script, tape=FailingTape()))
    assert isinstance(lost, PerptapeError)


def test_what_a_venue_cannot_be_asked_anew_ends_its_wire_and_nothing_else(wires):
    async def script(peer):
        await peer.send(wires.frame(TEXT, wires.data("BTC")))
        await peer.gone()

    def leave(topics, ts):
        raise KeyError(topics[0].key, ts)

    async def main():
        async with wires.serving(script) as port:
            there = msgspec.structs.replace(
                wires.ACME, url=f"ws://127.0.0.1:{port}/", unsubscribe=leave
            )
            asked = wires.wanted("BTC")
            wire = Wire(there, asked, wires.MemoryTape(), Clock(), lambda *_: None)
            await wire.connect(Route(tls_context()))
            wire.ask_anew([asked[0].topic])
            async with asyncio.timeout(3):
                return await wire.over()

    assert isinstance(wires.run(main()), KeyError)


# The guard


def flood(peer_frames):
    async def script(peer):
        await peer.until(TEXT)
        for each in peer_frames:
            await peer.send(each)
        script.code = code_of(await peer.until(CLOSE))
        await peer.gone()

    return script


def fragments(wires, count, size):
    yield wires.frame(TEXT, b"a" * size, fin=False)
    for _ in range(count):
        yield wires.frame(CONT, b"a" * size, fin=False)


HOSTILE = {
    "header-of-a-tebibyte": (1009, lambda w: [w.frame(TEXT, b"", length=1 << 40)]),
    "one-byte-too-long": (1009, lambda w: [w.frame(TEXT, b"", length=MESSAGE_BYTES + 1)]),
    "fragments-beyond-the-size": (1009, lambda w: fragments(w, MESSAGE_BYTES // MIB, MIB)),
    "fragments-beyond-the-count": (1009, lambda w: fragments(w, 3 * FRAGMENTS, 1)),
    "empty-fragments-without-end": (1009, lambda w: fragments(w, 3 * FRAGMENTS, 0)),
    "reserved-bit-1": (1002, lambda w: [w.frame(TEXT, b"x", rsv=4)]),
    "reserved-bit-2": (1002, lambda w: [w.frame(TEXT, b"x", rsv=2)]),
    "reserved-bit-3-on-a-ping": (1002, lambda w: [w.frame(PING, b"x", rsv=1)]),
    "not-utf-8": (1007, lambda w: [w.frame(TEXT, b'{"s":"\xff"}')]),
    "not-utf-8-over-two-fragments": (
        1007,
        lambda w: [w.frame(TEXT, b"\xc3", fin=False), w.frame(CONT, b"\x28")],
    ),
    "masked": (1002, lambda w: [w.frame(TEXT, b"x", mask=b"abcd")]),
    "huge-ping": (1002, lambda w: [w.frame(PING, b"x" * 4096)]),
    "fragmented-ping": (1002, lambda w: [w.frame(PING, b"x", fin=False)]),
    "continuation-of-nothing": (1002, lambda w: [w.frame(CONT, b"x")]),
    "message-inside-another": (
        1002,
        lambda w: [w.frame(TEXT, b"x", fin=False), w.frame(TEXT, b"y")],
    ),
    "unknown-opcode": (1002, lambda w: [w.frame(3, b"x")]),
}


@pytest.mark.parametrize(("code", "attack"), HOSTILE.values(), ids=HOSTILE)
def test_a_breach_of_the_protocol_ends_the_wire_with_its_code(wires, code, attack):
    good = wires.frame(TEXT, wires.data("BTC"))
    script = flood([good, *attack(wires)])
    lost, tape = wires.run(wires.live(script))
    assert isinstance(lost, LostSync) and "broke the protocol" in str(lost)
    assert script.code == code
    assert wires.data("BTC") in tape.frames(Kind.TEXT)
    assert [n.note for n in tape.notes()] == ["closed"]


def test_what_came_before_a_breach_in_the_same_read_is_kept(wires):
    good = wires.frame(TEXT, wires.data("BTC"))
    script = flood([good + wires.frame(TEXT, b"x", rsv=2) + good])
    _, tape = wires.run(wires.live(script))
    assert tape.frames(Kind.TEXT) == [wires.data("BTC")]


def test_text_that_is_not_utf_8_is_on_the_tape_first(wires):
    _, tape = wires.run(wires.live(flood([wires.frame(TEXT, b"\xff")])))
    assert tape.frames(Kind.TEXT) == [b"\xff"]


def test_a_lawful_fragmented_message_is_one_frame_with_a_ping_in_its_midst(wires):
    async def script(peer):
        await peer.send(wires.frame(TEXT, b'{"px":1,', fin=False))
        await peer.send(wires.frame(PING, b"p"))
        await peer.send(wires.frame(CONT, b"", fin=False), wires.frame(CONT, b'"s":"BTC"}'))
        await peer.send(wires.frame(TEXT, "é".encode()))
        await peer.until(PONG)

    lost, tape = wires.run(wires.live(script))
    assert tape.frames(Kind.TEXT) == [b'{"px":1,"s":"BTC"}', "é".encode()]
    assert str(lost) == "the connection ended without a close frame"


def test_the_longest_message_is_taken(wires):
    long = b"a" * MESSAGE_BYTES

    async def script(peer):
        await peer.send(wires.frame(TEXT, long))
        await asyncio.sleep(0.2)

    _, tape = wires.run(wires.live(script))
    assert tape.frames(Kind.TEXT) == [long]


def test_a_flood_of_pings_whose_answers_are_not_read_is_ended_in_bounded_memory(wires):
    pings = wires.frame(PING, b"x" * 125) * 2000

    async def script(peer):
        peer.writer.transport.get_extra_info("socket")
        peer.reader._transport.pause_reading()  # noqa: SLF001 - a peer that does not read
        while True:
            await peer.send(pings)

    class CountingTape(wires.MemoryTape):
        def append(self, wire, kind, payloads, *rest):
            return 0 if kind == Kind.PING else super().append(wire, kind, payloads, *rest)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lost, _ = wires.run(wires.live(script, tape=CountingTape()))
    assert str(UNSENT_BYTES) in str(lost)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


def test_a_peer_that_reads_no_answer_of_ours_is_cut_and_not_waited_for(wires):
    """What is left to be written keeps a lawful end away for ever."""

    async def script(peer):
        peer.reader._transport.pause_reading()  # noqa: SLF001 - a peer that does not read
        while True:
            await peer.send(wires.frame(TEXT, b'{"ping":1}'))

    venue = msgspec.structs.replace(wires.ACME, control=lambda _: Alive(b"x" * (64 << 10)))
    begun = time.monotonic()
    lost, _ = wires.run(wires.live(script, venue=venue))
    assert str(UNSENT_BYTES) in str(lost) and time.monotonic() - begun < 8


# Gzip


def gzipped(wires, *payloads):
    venue = msgspec.structs.replace(wires.ACME, inflates=True)

    async def script(peer):
        await peer.send(b"".join(wires.frame(BINARY, each) for each in payloads))
        await asyncio.sleep(0.3)

    return wires.run(wires.live(script, venue=venue))


def test_gzip_is_stored_inflated_with_its_size_on_the_wire(wires):
    member = gzip.compress(wires.data("BTC"))
    _, tape = gzipped(wires, member, member)
    (record,) = (r for r in tape.records if r.kind is Kind.BINARY)
    assert record.payloads == [wires.data("BTC")] * 2 and record.sizes == [len(member)] * 2


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        pytest.param(gzip.compress(bytes(INFLATED_BYTES + 1)), "inflates past", id="bomb"),
        pytest.param(b"garbage", "", id="garbage"),
        pytest.param(gzip.compress(b"x" * 99)[:-9], "cut off", id="torn"),
        pytest.param(gzip.compress(b"x") + b"more", "more follows", id="trailing"),
        pytest.param(gzip.compress(b"x")[:-8] + bytes(8), "", id="wrong-checksum"),
        pytest.param(b"", "cut off", id="empty"),
    ],
)
def test_what_does_not_inflate_is_kept_as_it_came(wires, bad, why):
    good = gzip.compress(wires.data("BTC"))
    lost, tape = gzipped(wires, good, bad, good)
    assert tape.frames(Kind.BINARY) == [wires.data("BTC"), bad, wires.data("BTC")]
    (note,) = tape.notes("not_inflated")
    assert why in note.reason
    assert str(lost) == "the connection ended without a close frame"


def test_exactly_the_bound_inflates(wires):
    _, tape = gzipped(wires, gzip.compress(bytes(INFLATED_BYTES)))
    assert [len(p) for p in tape.frames(Kind.BINARY)] == [INFLATED_BYTES]


def test_many_bombs_in_one_read_are_many_records(wires):
    bomb = gzip.compress(bytes(3 * MIB), 9)
    _, tape = gzipped(wires, *[bomb] * 5)
    records = [r for r in tape.records if r.kind is Kind.BINARY]
    assert sum(len(r.payloads) for r in records) == 5
    assert max(sum(map(len, r.payloads)) for r in records) <= 6 * MIB


def test_a_full_tape_gets_them_as_they_came(wires):
    tape = wires.MemoryTape()
    tape.full = True
    venue = msgspec.structs.replace(wires.ACME, inflates=True)
    member = gzip.compress(wires.data("BTC"))

    async def script(peer):
        await peer.send(wires.frame(BINARY, member))
        await asyncio.sleep(0.1)

    wires.run(wires.live(script, venue=venue, tape=tape))
    assert tape.frames(Kind.BINARY) == [member]
    assert [n.note for n in tape.notes("not_inflated")] == ["not_inflated"]


# Pausing


def test_a_paused_wire_reads_nothing_and_loses_nothing(wires):
    async def script(peer):
        await peer.until(TEXT)
        for n in range(200):
            await peer.send(wires.frame(TEXT, wires.data("BTC", n)))
            await asyncio.sleep(0.002)
        await peer.send(wires.frame(CLOSE, b"\x03\xe8"))
        await peer.gone()

    async def main():
        tape = wires.MemoryTape()
        async with wires.serving(script) as port:
            venue = msgspec.structs.replace(wires.silence(100 * MS), url=f"ws://127.0.0.1:{port}")
            wire = Wire(venue, wires.wanted("BTC"), tape, Clock(), lambda *_: None)
            await wire.connect(Route(tls_context()))
            await asyncio.sleep(0.05)
            wire.pause()
            before = len(tape.frames(Kind.TEXT))
            await asyncio.sleep(0.25)  # longer than its silence
            assert len(tape.frames(Kind.TEXT)) == before
            wire.resume()
            lost = await asyncio.wait_for(wire.over(), 5)
        return lost, tape

    lost, tape = wires.run(main())
    assert "1000" in str(lost)
    assert tape.frames(Kind.TEXT) == [wires.data("BTC", n) for n in range(200)]


# Reaching


async def reach(wires, url, route=None, venue=None):
    tape = wires.MemoryTape()
    there = msgspec.structs.replace(venue or wires.ACME, url=url)
    wire = Wire(there, wires.wanted("BTC"), tape, Clock(), lambda *_: None)
    try:
        await wire.connect(route or Route(tls_context()))
    finally:
        wire.cut()
    return tape


def unreachable(wires, script, *, tls=None, handshake=False, route=None, host="127.0.0.1"):  # noqa: PLR0913
    async def main():
        async with wires.serving(script, tls=tls, handshake=handshake) as port:
            scheme = "ws" if tls is None else "wss"
            with pytest.raises(Unreachable) as caught:
                await reach(wires, f"{scheme}://{host}:{port}/", route)
        return caught.value

    return wires.run(main())


async def idle(peer):
    await peer.gone()


def answering(reply):
    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(reply)

    return script


def test_a_refused_connection_is_unreachable(wires):
    async def main():
        async with wires.serving(idle) as port:
            pass
        with pytest.raises(Unreachable):
            await reach(wires, f"ws://127.0.0.1:{port}/")

    wires.run(main())


@pytest.mark.parametrize(
    ("reply", "words", "wait_s"),
    [
        (b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\n\r\n", "429", 7),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "503", 0),
        (b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:9/\r\n\r\n", "302", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "200", 0),
        (b"\x00\xff garbage\r\n\r\n", "", 0),
        (b"", "ended during the handshake", 0),
    ],
)
def test_what_is_no_websocket_is_unreachable(wires, reply, words, wait_s):
    error = unreachable(wires, answering(reply))
    assert words in str(error) and error.wait_ns == wait_s * NS


def test_a_server_that_never_answers_is_given_up(wires, monkeypatch):
    monkeypatch.setattr("perptape.dial.CONNECT_S", 0.2)
    assert "no answer" in str(unreachable(wires, idle))


def test_a_handshake_that_comes_too_late_opens_nothing(wires):
    async def main():
        tape = wires.MemoryTape()

        async def script(peer):
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.gone()

        async with wires.serving(script, handshake=False) as port:
            venue = msgspec.structs.replace(wires.ACME, url=f"ws://127.0.0.1:{port}/")
            wire = Wire(venue, wires.wanted("BTC"), tape, Clock(), lambda *_: None)
            task = asyncio.create_task(wire.connect(Route(tls_context())))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

            class Transport:
                aborted = False

                def disconnect(self, *, graceful):
                    self.aborted = not graceful

            transport = Transport()
            wire.opened(transport)
            assert transport.aborted
        assert tape.records == []

    wires.run(main())


def test_a_dead_first_address_costs_a_quarter_of_a_second(wires, monkeypatch):
    resolve = socket.getaddrinfo

    def both(host, port, *rest, **more):
        if host != "acme.test":
            return resolve(host, port, *rest, **more)
        return [found for ip in ("127.0.0.2", "127.0.0.1") for found in resolve(ip, port, *rest)]

    async def main():
        async with wires.serving(idle) as port:
            with socket.create_server(("127.0.0.2", port), backlog=0) as dead:
                callers = [socket.socket() for _ in range(4)]  # its queue is full: no answer
                for caller in callers:
                    caller.settimeout(0)
                    caller.connect_ex(dead.getsockname())
                begun = time.monotonic()
                await reach(wires, f"ws://acme.test:{port}/")
                for caller in callers:
                    caller.close()
        return time.monotonic() - begun

    monkeypatch.setattr(socket, "getaddrinfo", both)
    assert 0.2 <= asyncio.run(main()) < 2


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def served_as(authority, name):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority, tmp_path):
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return Route(tls_context(file))


def test_tls_with_a_trusted_authority_and_the_right_host_opens(wires, authority, tmp_path):
    async def script(peer):
        await peer.send(wires.frame(TEXT, wires.data("BTC")))
        await peer.gone()

    async def main():
        tls = served_as(authority, "localhost")
        async with wires.serving(script, tls=tls) as port:
            return await reach(wires, f"wss://localhost:{port}/", trusting(authority, tmp_path))

    assert wires.run(main()).records[0].kind is Kind.OPENED


def test_tls_of_an_unknown_authority_is_refused(wires, authority):
    error = unreachable(wires, idle, tls=served_as(authority, "localhost"), host="localhost")
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


def test_tls_of_another_host_is_refused(wires, authority, tmp_path):
    error = unreachable(
        wires,
        idle,
        tls=served_as(authority, "other.example"),
        host="localhost",
        route=trusting(authority, tmp_path),
    )
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


def test_no_plain_socket_answers_for_tls(wires, authority, tmp_path):
    async def refuse(peer):
        await peer.reader.read(10)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main():
        async with wires.serving(refuse, handshake=False) as port:
            with pytest.raises(Unreachable):
                await reach(wires, f"wss://localhost:{port}/", trusting(authority, tmp_path))

    wires.run(main())


def test_a_file_without_certificates_is_bad_usage(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(BadUsage, match=r"ca\.pem"):
        tls_context(tmp_path / "ca.pem")


def test_an_origin_takes_the_sockets_and_the_rest(wires):
    there = at(wires.ACME, "http://127.0.0.1:9001")
    assert (there.url, there.rest) == ("ws://127.0.0.1:9001/v3", "http://127.0.0.1:9001")
    there = at(wires.ACME, "https://acme.test")
    assert (there.url, there.rest) == ("wss://acme.test/v3", "https://acme.test")


@pytest.mark.parametrize(
    "origin", ["", "127.0.0.1:9001", "ws://h:1", "http://", "http://h:99999", "http://h/path"]
)
def test_what_is_no_origin_is_bad_usage(wires, origin):
    with pytest.raises(BadUsage, match="acme"):
        at(wires.ACME, origin)


# The clock


def test_a_step_of_the_wall_clock_is_found_and_followed():
    wall, mono = [1_000 * NS], [0]
    clock = Clock(wall=lambda: wall[0], mono=lambda: mono[0])
    assert clock.now() == (1_000 * NS, 0)
    mono[0] += NS
    wall[0] += NS + MS // 2
    assert clock.check() is None and clock.now()[0] == 1_001 * NS
    wall[0] += 3600 * NS
    assert clock.check() == 3600 * NS + MS // 2
    assert clock.now() == (4_601 * NS + MS // 2, NS)
    assert clock.check() is None
