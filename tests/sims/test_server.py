"""On real sockets, with a third party's client: frames, faults, the truth file, the send log."""

import asyncio
import gzip
import json
import os
import signal
import socket
import urllib.parse
import zlib

import httpx2
import msgspec
import pytest
import uvloop
import websockets
from websockets.asyncio.client import connect

from perptape import sims
from perptape.decode import decoder
from perptape.errors import BadUsage, Failed
from perptape.events import MS, NS
from perptape.sims import connection, scenario
from perptape.sims.dialect import Answer
from perptape.sims.truth import read_sent, read_truth
from perptape.venues import VENUES

BTC = "BTC-USDT-PERP"
WITHIN_S = 20


def go(test):
    """Run a test's conversation, with a bound."""

    async def bounded():
        async with asyncio.timeout(WITHIN_S):
            return await test

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the command runs
        return runner.run(bounded())


def fast(faults=(), **changes):
    return scenario.Scenario(start="first-subscribe", faults=tuple(faults), **changes)


def visit(running, venue):
    """A client's websocket; its own pings are off, as this venue's users are told."""
    origin = running.urls[venue].replace("http", "ws")
    headers = dict(VENUES[venue].headers)
    return connect(
        origin + sims.VENUES[venue].paths[0],
        ping_interval=None,
        additional_headers=headers,
        compression=None,
    )


async def subscribe(client, venue, base="BTC"):
    shape = VENUES[venue]
    symbol = sims.VENUES[venue].contracts[base].symbol
    stream = shape.streams["quotes"][0]
    for frame in shape.subscribe([shape.topic("quotes", stream, symbol)], NS):
        await client.send(frame.decode())


def inflated(message):
    return gzip.decompress(message) if isinstance(message, bytes) else message.encode()


@pytest.mark.parametrize("venue", sims.VENUES)
def test_a_third_partys_client_hears_quotes_and_the_log_says_the_same(venue, tmp_path):
    async def talk():
        running = await sims.serve([venue], fast(), truth=tmp_path / "t", log_dir=tmp_path)
        async with visit(running, venue) as client:
            port = client.local_address[1]
            await subscribe(client, venue)
            heard = [inflated(await client.recv()) for _ in range(20)]
        await running.close()
        return port, heard

    port, heard = go(talk())
    read = decoder(venue)
    quotes = [quote for frame in heard for quote in read(frame)]
    assert len(quotes) == 19
    assert all(quote.bid_price < quote.ask_price for quote in quotes)
    header, sent = read_sent(tmp_path / f"{venue}-1.sent")
    assert (header.venue, header.connection, header.port) == (venue, 1, port)
    assert [(zlib.crc32(f), len(f)) for f in heard] == [(s.crc32, s.size) for s in sent[:20]]
    assert [s.ts_send for s in sent] == sorted(s.ts_send for s in sent)
    facts = {fact.what: fact for fact in read_truth(tmp_path / "t")}
    assert facts["connection"].port == port
    assert facts["connection"].reason == "the client left"
    assert facts["heard"].market == f"{venue}:{sims.VENUES[venue].contracts['BTC'].instrument}"
    assert facts["heard"].frames >= 19
    assert facts["start"].ts_start <= facts["heard"].ts_start <= facts["heard"].ts_end


def test_rest_and_socket_share_a_port_and_each_venue_has_its_own():
    async def talk():
        running = await sims.serve(list(sims.VENUES), fast())
        answers = {}
        async with httpx2.AsyncClient(trust_env=False) as client:
            for venue, origin in running.urls.items():
                shape = VENUES[venue]
                body, kind = shape.instruments_body, {"content-type": "application/json"}
                url = origin + shape.instruments_path
                answer = await (
                    client.post(url, content=body, headers=kind) if body else client.get(url)
                )
                assert answer.headers["content-type"] == "application/json"
                answers[venue] = shape.read_instruments(answer.content, 0).instruments
                assert (await client.get(origin + "/nope")).status_code == 404
        await running.close()
        return running.urls, answers

    urls, answers = go(talk())
    assert len(set(urls.values())) == len(sims.VENUES)
    names = {BTC, "ETH-USDT-PERP", "BTC-USD-PERP", "ETH-USD-PERP"}
    assert {i.name for found in answers.values() for i in found} == names


def said_to(running, venue, request):
    """What the server answers to these bytes before it ends the connection."""

    async def ask():
        port = urllib.parse.urlsplit(running.urls[venue]).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for part in request:
            writer.write(part)
            await writer.drain()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    return ask()


def test_a_post_reaches_the_dialect_with_its_body(monkeypatch):
    asked = []

    def rest(request, _board):
        asked.append((request.path, request.query, request.body))
        return Answer(200, request.body)

    speaking = msgspec.structs.replace(sims.VENUES["bybit"], rest=rest)
    monkeypatch.setitem(sims.VENUES, "bybit", speaking)

    async def talk():
        running = await sims.serve(["bybit"], fast())
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.post(running.urls["bybit"] + "/info?a=1", content=b'{"x":1}')
        await running.close()
        return answer.content

    assert go(talk()) == b'{"x":1}'
    assert asked == [("/info", {"a": "1"}, b'{"x":1}')]


@pytest.mark.parametrize(
    ("request_parts", "status"),
    [
        ([b"GET /v5/market/time HT", b"TP/1.1\r\nHost: x\r", b"\n\r\n"], 200),
        ([b"POST /v5/market/time HTTP/1.1\r\nContent-Length: 2\r\n\r\n", b"{}"], 200),
        ([b"PUT / HTTP/1.1\r\n\r\n"], 405),
        ([b"hello\r\n\r\n"], 400),
        ([b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"], 411),
        ([b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"], 413),
        ([b"GET /" + b"a" * 70_000], 431),
        ([b"GET /v5/public/linear HTTP/1.1\r\nConnection: Upgrade\r\n\r\n"], 400),
    ],
)
def test_requests_are_read_in_whatever_pieces_they_come(request_parts, status):
    async def talk():
        running = await sims.serve(["bybit"], fast())
        answer = await said_to(running, "bybit", request_parts)
        await running.close()
        return answer

    assert go(talk()).split(b" ", 2)[:2] == [b"HTTP/1.1", str(status).encode()]


HANDSHAKE = (
    b"GET /v5/public/linear HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x01\x80mask", 1003),
        (b"\x81\x01a", 1002),
        (b"\xc1\x80mask", 1002),
        (b"\x81\xff" + (1 << 30).to_bytes(8) + b"mask", 1009),
    ],
    ids=["fragment", "unmasked", "reserved-bit", "too-long"],
)
def test_a_client_that_breaks_the_protocol_is_told_so(frame, code):
    async def talk():
        running = await sims.serve(["bybit"], fast())
        answer = await said_to(running, "bybit", [HANDSHAKE, frame])
        await running.close()
        return answer

    head, _, rest = go(talk()).partition(b"\r\n\r\n")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # RFC 6455, 1.3
    assert rest[:1] == b"\x88" and int.from_bytes(rest[2:4]) == code


def test_it_listens_on_loopback_only():
    async def talk():
        running = await sims.serve(["bybit"], fast())
        port = urllib.parse.urlsplit(running.urls["bybit"]).port
        reached = []
        for host in ("127.0.0.1", *elsewhere()):
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                continue
            writer.close()
            await writer.wait_closed()
            reached.append(host)
        await running.close()
        return reached

    assert go(talk()) == ["127.0.0.1"]


def elsewhere():
    """Addresses of this machine under which another one could reach it, and another loopback."""
    found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    return {"127.0.0.2", "::1"} | {host for host in found if not host.startswith("127.0.0.1")}


async def until_closed(client):
    """The last of what comes, and how it ends."""
    try:
        while True:
            await client.recv()
    except websockets.ConnectionClosed as end:
        return end


@pytest.mark.parametrize("venue", sims.VENUES)
def test_a_disconnect_comes_with_a_close_frame(venue, tmp_path):
    async def talk():
        fault = scenario.Fault(200 * MS, venue, "disconnect")
        running = await sims.serve([venue], fast([fault]), truth=tmp_path / "t")
        async with visit(running, venue) as client:
            await subscribe(client, venue)
            end = await until_closed(client)
        async with visit(running, venue) as client:
            await subscribe(client, venue)
            assert await client.recv()
        await running.close()
        return end

    assert go(talk()).rcvd.code == 1001
    (fact,) = [f for f in read_truth(tmp_path / "t") if f.what == "fault"]
    assert (fact.kind, fact.venue, fact.connections) == ("disconnect", venue, (1,))
    gone = next(f for f in read_truth(tmp_path / "t") if f.what == "connection")
    assert gone.reason == "disconnect" and 0 <= gone.ts_end - fact.ts_start < NS


def test_a_reset_is_a_tcp_reset(tmp_path):
    async def talk():
        fault = scenario.Fault(200 * MS, "bybit", "reset")
        running = await sims.serve(["bybit"], fast([fault]), truth=tmp_path / "t")
        async with visit(running, "bybit") as client:
            await subscribe(client, "bybit")
            end = await until_closed(client)
        await running.close()
        return end

    end = go(talk())
    assert end.rcvd is None
    assert isinstance(end.__cause__, ConnectionResetError)


def test_in_a_silence_not_even_a_ping_is_answered_and_then_all_goes_on(tmp_path):
    async def talk():
        fault = scenario.Fault(200 * MS, "bybit", "silence", 1200 * MS)
        running = await sims.serve(["bybit"], fast([fault]), truth=tmp_path / "t")
        async with visit(running, "bybit") as client:
            await subscribe(client, "bybit")
            while await heard_within(client, 0.5):
                pass
            pong = await client.ping()
            await client.send('{"op":"ping","req_id":"late"}')
            heard = await client.recv()
            assert not pong.done()
        await running.close()
        return heard

    assert json.loads(go(talk()))["topic"] == "orderbook.1.BTCUSDT"
    (fact,) = [f for f in read_truth(tmp_path / "t") if f.what == "fault"]
    assert 1150 * MS <= fact.ts_end - fact.ts_start < 1700 * MS


def test_a_half_open_connection_answers_no_ping_and_no_close_while_a_new_one_works(tmp_path):
    async def talk():
        fault = scenario.Fault(200 * MS, "bybit", "half_open")
        running = await sims.serve(["bybit"], fast([fault]), truth=tmp_path / "t")
        async with visit(running, "bybit") as dead:
            await subscribe(dead, "bybit")
            while await heard_within(dead, 0.5):
                pass
            pong = await dead.ping()
            closing = asyncio.create_task(dead.close())
            async with visit(running, "bybit") as alive:
                await subscribe(alive, "bybit")
                heard = [await alive.recv() for _ in range(10)]
            assert not pong.done() and not closing.done()
            await running.close()
            await closing
        return heard

    assert len(go(talk())) == 10
    (fact,) = [f for f in read_truth(tmp_path / "t") if f.what == "fault"]
    assert (fact.kind, fact.connections, fact.streams) == ("half_open", (1,), ("orderbook.1",))


def test_a_limit_answers_rest_and_handshakes_alike_and_then_lets_them_in(tmp_path):
    async def talk():
        fault = scenario.Fault(0, "bybit", "rate_limit", 1500 * MS, status=418)
        played = scenario.Scenario(faults=(fault,))
        running = await sims.serve(["bybit"], played, truth=tmp_path / "t")
        async with httpx2.AsyncClient(trust_env=False) as client:
            refused = await client.get(running.urls["bybit"] + "/v5/market/time")
            with pytest.raises(websockets.InvalidStatus) as shut:
                await visit(running, "bybit")
            await asyncio.sleep(float(refused.headers["retry-after"]))  # as it was told
            answered = await client.get(running.urls["bybit"] + "/v5/market/time")
        async with visit(running, "bybit"):
            pass
        await running.close()
        return refused.status_code, shut.value.response, answered.status_code

    status, shut, answered = go(talk())
    assert (status, shut.status_code, answered) == (418, 418, 200)
    assert int(shut.headers["Retry-After"]) in (1, 2)
    (fact,) = [f for f in read_truth(tmp_path / "t") if f.what == "fault"]
    assert (fact.kind, fact.requests) == ("rate_limit", 2)


def test_a_fault_that_the_venue_cannot_suffer_is_said_before_the_doors_open(tmp_path):
    fault = scenario.Fault(0, "bybit", "gzip_bomb")
    with pytest.raises(BadUsage, match=r"bybit cannot suffer .*gzip_bomb"):
        go(sims.serve(["bybit"], fast([fault]), truth=tmp_path / "t"))


async def heard_within(client, seconds):
    try:
        async with asyncio.timeout(seconds):
            return await client.recv()
    except TimeoutError:
        return None


def told(truth):
    return any(fact.what == "connection" for fact in read_truth(truth))


def test_who_reads_too_slowly_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "MOST_BUFFERED", 1_000)
    rapid = {**scenario.CHARACTERS, "bybit": scenario.Character(updates_per_s=40_000)}

    async def talk():
        running = await sims.serve(["bybit"], fast(venues=rapid), truth=tmp_path / "t")
        async with visit(running, "bybit") as client:
            client.transport.pause_reading()
            await subscribe(client, "bybit")
            while not told(tmp_path / "t"):  # noqa: ASYNC110  a file cannot wake us
                await asyncio.sleep(0.02)
            client.transport.resume_reading()
            await until_closed(client)
        await running.close()

    go(talk())
    gone = next(f for f in read_truth(tmp_path / "t") if f.what == "connection")
    assert gone.reason == "reads too slowly"


def test_a_shut_door_answers_503_and_opens_again(tmp_path):
    async def talk():
        fault = scenario.Fault(100 * MS, "htx", "refuse", 400 * MS)
        running = await sims.serve(["htx"], fast([fault]), truth=tmp_path / "t")
        async with visit(running, "htx") as client:
            await subscribe(client, "htx")
            await until_closed(client)
        statuses = []
        while not statuses or statuses[-1] != 101:
            try:
                async with visit(running, "htx"):
                    statuses.append(101)
            except websockets.InvalidStatus as refused:
                statuses.append(refused.response.status_code)
                await asyncio.sleep(0.02)
        await running.close()
        return statuses

    assert set(go(talk())[:-1]) == {503}
    (fact,) = [f for f in read_truth(tmp_path / "t") if f.what == "fault"]
    assert fact.kind == "refuse" and 350 * MS <= fact.ts_end - fact.ts_start < 900 * MS


def test_a_corrupted_frame_is_in_the_truth_and_in_the_log(tmp_path):
    async def talk():
        fault = scenario.Fault(100 * MS, "htx", "corrupt", damage="flip", instrument=BTC)
        running = await sims.serve(["htx"], fast([fault]), truth=tmp_path / "t", log_dir=tmp_path)
        async with visit(running, "htx") as client:
            await subscribe(client, "htx")
            while True:
                message = await client.recv()
                try:
                    gzip.decompress(message)
                except (gzip.BadGzipFile, zlib.error, EOFError):
                    break
            after = gzip.decompress(await client.recv())
        await running.close()
        return message, after

    message, after = go(talk())
    assert len(decoder("htx")(after)) == 1
    (fact,) = [f for f in read_truth(tmp_path / "t") if f.what == "fault"]
    assert fact.crc32 == zlib.crc32(message)
    _, sent = read_sent(tmp_path / "htx-1.sent")
    assert (zlib.crc32(message), len(message)) in [(s.crc32, s.size) for s in sent]


def test_faults_of_one_venue_do_not_touch_another():
    async def talk():
        fault = scenario.Fault(100 * MS, "htx", "reset", 10 * NS)
        running = await sims.serve(["htx", "bybit"], fast([fault]))
        async with visit(running, "htx") as struck, visit(running, "bybit") as other:
            await subscribe(struck, "htx")
            await subscribe(other, "bybit")
            await until_closed(struck)
            for _ in range(20):
                await other.recv()
        await running.close()

    go(talk())


def test_clients_are_told_when_the_simulation_ends():
    async def talk():
        running = await sims.serve(["gateio"], fast())
        async with visit(running, "gateio") as client:
            await subscribe(client, "gateio")
            await client.recv()
            await running.close()
            return await until_closed(client)

    assert go(talk()).rcvd.code == 1001


def test_a_taken_port_is_said_in_a_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Failed, match=f"Port {port} for bybit .*--port"):
            go(sims.serve(["bybit"], fast(), port=port))


def test_a_place_that_cannot_be_written_is_said_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ({"truth": tmp_path / "file" / "t"}, {"log_dir": tmp_path / "file"}):
        with pytest.raises(Failed, match="cannot be written"):
            go(sims.serve(["bybit"], fast(), **place))


def test_an_unknown_venue_is_said_in_a_sentence():
    with pytest.raises(BadUsage, match="'kraken' is not a simulated venue"):
        go(sims.serve(["kraken"], fast()))


def test_run_says_the_words_for_record_and_ends_in_time():
    lines = []
    code = sims.run(["bybit", "htx"], fast(), for_ns=50 * MS, say=lines.append)
    assert code == 0
    (line,) = lines
    words = line.split()
    assert words[::2] == ["--url", "--url"]
    assert [word.partition("=")[0] for word in words[1::2]] == ["bybit", "htx"]
    assert all(word.partition("=")[2].startswith("http://127.0.0.1:") for word in words[1::2])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_ends_cleanly_when_interrupted(number, tmp_path):
    played = scenario.Scenario(faults=(scenario.Fault(0, "bybit", "silence"),))

    def interrupt(_line):
        os.kill(os.getpid(), number)

    code = sims.run(["bybit"], played, truth=tmp_path / "t", say=interrupt)
    assert code == 128 + number
    assert read_truth(tmp_path / "t")[-1].kind == "silence"
