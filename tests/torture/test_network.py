"""A network that loses, cuts, swallows or lies: in a namespace of its own where it takes one."""

import asyncio
import contextlib
import datetime as dt
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections import defaultdict

import pytest
import trustme

from perptape import verify
from perptape.events import MS, NS, Kind
from perptape.record import Plan, record
from perptape.sims.truth import read_sent
from perptape.tape import Tape, TapeWriter
from perptape.venues import VENUES

BOTH = ["BTC-USDT", "ETH-USDT", "--venues", "bybit,htx"]


@pytest.fixture
def apart(torture):
    """Give words that run a program in a network namespace of its own, with loopback alone."""
    torture.needed("unshare", "nsenter", "nft", "ip")
    holder = subprocess.Popen(["/usr/bin/unshare", "-rn", "sleep", "600"])
    words = ["nsenter", "-t", str(holder.pid), "-U", "-n", "--preserve-credentials"]

    def is_up():
        up = [*words, "ip", "link", "set", "lo", "up"]
        return subprocess.run(up, check=False, capture_output=True).returncode == 0

    try:
        with contextlib.suppress(AssertionError):
            torture.until(is_up, "a namespace", 5)
        if not is_up():
            pytest.skip("a network namespace cannot be made here")
        yield words
    finally:
        holder.kill()
        holder.wait()


class Rules:
    """What the namespace does to packets that come to or from these ports."""

    def __init__(self, words, port):
        self._nft, self._port = [*words, "nft"], port

    def _run(self, *words):
        subprocess.run([*self._nft, " ".join(words)], check=True, capture_output=True)

    def put(self, what):
        self._run("add table inet t")
        self._run("add chain inet t c { type filter hook input priority 0; }")
        for side in ("sport", "dport"):
            self._run(f"add rule inet t c tcp {side} {self._port} {what}")

    def clear(self):
        self._run("delete table inet t")


def port_of(sims, venue):
    return next(url.rpartition(":")[2] for url in sims.urls if url.startswith(f"{venue}="))


def heard_since(tape, venue, ts):
    return sum(
        f.ts_recv > ts and f.kind in {Kind.TEXT, Kind.BINARY} and f.venue == venue
        for f in Tape(tape).frames()
    )


def test_loss_and_a_black_hole(torture, apart, tmp_path, figures):
    """Thirty of a hundred packets of one venue are lost; then all of them, without a word."""
    sims = torture.Simulators(tmp_path / "s", ("bybit", "htx"), torture.market(100), under=apart)
    with sims:
        rules = Rules(apart, port_of(sims, "bybit"))
        with torture.Recorder(tmp_path / "r", [*BOTH, *sims.urls], under=apart) as recorder:
            recorder.live(4)
            rules.put("numgen random mod 100 < 30 drop")
            before = time.time_ns()
            told = recorder.told
            torture.until(lambda: recorder.told > told + 500, "frames in spite of the loss")
            rules.clear()
            lossy_s = (time.time_ns() - before) / NS
            hole_at = time.time_ns()
            rules.put("drop")
            if torture.LONG:  # its silence is noticed after half a minute
                torture.until(lambda: notes_of(recorder.tape, b'"silence"'), "silence")
            else:
                time.sleep(2)
            rules.clear()
            cleared = time.time_ns()
            hole_s = (cleared - hole_at) / NS
            torture.until(lambda: heard_since(recorder.tape, "bybit", cleared), "data again")
            recorder.stop()
        torture.no_traceback(recorder.said)
    frames = torture.check(recorder.tape, sims, told=recorder.told)
    p50, p99 = lag_ms(recorder.tape, sims, before, hole_at)
    found = torture.untrusted_s(recorder.tape, "htx:BTC-USDT-PERP")
    assert found == {}, "another venue was hurt"
    found = torture.untrusted_s(recorder.tape, "bybit:BTC-USDT-PERP")
    assert set(found) == ({"silence"} if torture.LONG else set()), found
    figures(
        "30 % loss, then a black hole",
        injected=2,
        survived=2,
        lost=0,
        untrusted=", ".join(f"{reason} {s:.1f} of {hole_s:.1f} s" for reason, s in found.items()),
        rss=f"{recorder.rss_mb:.0f} MB",
        remark=f"{frames:,} frames, {lossy_s:.1f} s with loss, in which they were heard p50 "
        f"{p50:.1f}, p99 {p99:.0f} ms after they were sent; the other venue 0 s",
    )


def notes_of(tape, word):
    return [f for f in Tape(tape).frames() if f.kind == Kind.NOTE and word in f.payload]


def lag_ms(tape, sims, begin, end):
    """Give the p50 and p99 of what lies between sent and heard, of frames heard in this time."""
    sent = defaultdict(list)
    for path in sims.log.glob("*.sent"):
        header, told = read_sent(path)
        for one in told:
            sent[header.venue, one.crc32].append(one.ts_send)
    lags = []
    for frame in Tape(tape).frames():
        if frame.kind in {Kind.TEXT, Kind.BINARY} and begin <= frame.ts_recv < end:
            crc = zlib.crc32(frame.payload)
            lags += [(frame.ts_recv - ts) / MS for ts in sent[frame.venue, crc][:1]]
    lags.sort()
    return lags[len(lags) // 2], lags[len(lags) * 99 // 100]


def test_a_throttled_link(torture, apart, tmp_path, figures):
    """A link that takes a fraction of what is sent: all comes in order, later and later."""
    if not torture.LONG:
        pytest.skip("the long form: TORTURE=1")
    torture.needed("tc")
    sims = torture.Simulators(tmp_path / "s", ("bybit", "htx"), torture.market(100), under=apart)
    with sims, torture.Recorder(tmp_path / "r", [*BOTH, *sims.urls], under=apart) as recorder:
        recorder.live(4)
        rate = ["rate", "400kbit", "burst", "32kb", "latency", "5s"]
        begin = time.time_ns()
        lo = ["tc", "qdisc", "replace", "dev", "lo", "root"]
        subprocess.run([*apart, *lo, "tbf", *rate], check=True, capture_output=True)
        time.sleep(10)  # how long it is slow
        subprocess.run([*apart, "tc", "qdisc", "del", "dev", "lo", "root"], check=True)
        end = time.time_ns()
        told = recorder.told
        torture.until(lambda: recorder.told > told + 500, "frames at full speed")
        recorder.stop()
        torture.no_traceback(recorder.said)
        frames = torture.check(recorder.tape, sims, told=recorder.told)
        p50, p99 = lag_ms(recorder.tape, sims, begin, end)
    found = torture.untrusted_s(recorder.tape)
    figures(
        "a link of 400 kbit/s for 10 s",
        injected=1,
        survived=1,
        lost=0,
        untrusted=f"{sum(found.values()):.1f} s",
        rss=f"{recorder.rss_mb:.0f} MB",
        remark=f"{frames:,} frames; heard p50 {p50:.0f}, p99 {p99:.0f} ms after it was sent",
    )


NAMES = """
    import socket, struct, sys, time
    from pathlib import Path
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked.bind(("127.0.0.1", 53))
    print("ready", flush=True)
    while True:
        query, who = asked.recvfrom(512)
        address, late_s = Path(sys.argv[1]).read_text().split()
        time.sleep(float(late_s))
        is_a = query[-4:-2] == b"\\0\\1"
        answer = b"\\xc0\\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
        head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, is_a, 0, 0)
        asked.sendto(head + query[12:] + answer * is_a, who)
"""
"""A name server whose answer is in a file: an address, and how late it comes."""

RELAY = """
    import asyncio, sys
    port = int(sys.argv[1])

    async def copy(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def on(reader, writer):
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, outer), copy(inner, writer), return_exceptions=True)

    async def main():
        await asyncio.start_server(on, "127.0.0.2", port)
        print("ready", flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""


@contextlib.contextmanager
def helping(under, code, *words):
    command = [*under, sys.executable, "-c", textwrap.dedent(code), *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def names_of_ours(torture, place):
    """Give how to run under a name server of ours, and the file of what that one tells."""
    torture.needed("unshare", "nsenter", "ip")
    (place / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:10\n")
    told = place / "told"
    told.write_text("127.0.0.2 0")
    mount = f"mount --bind {place}/resolv.conf /etc/resolv.conf && ip link set lo up"
    words = ["unshare", "-rnm", "sh", "-c", f"{mount} && echo ready && exec sleep 600"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        if holder.stdout.readline() != "ready\n":
            pytest.skip("a namespace with names of its own cannot be made here")
        under = ["nsenter", "-t", str(holder.pid), "-U", "-n", "-m", "--preserve-credentials"]
        try:
            with helping(under, NAMES, told):
                yield under, told
        finally:
            holder.kill()


@pytest.mark.parametrize(
    "later",
    [
        ("a name that takes 3 s and means another address", "127.0.0.1 1.5", False),
        ("a name server that is gone: the last good address", "127.0.0.2 60", True),
    ],
    ids=["moved", "gone"],
)
def test_names(torture, tmp_path, figures, later):
    """A connection by name ends while names fail; it comes back, and the other is not touched."""
    if not torture.LONG:
        pytest.skip("the long form: TORTURE=1")
    with names_of_ours(torture, tmp_path) as (under, told):
        recorder, sims, took = by_name(torture, under, tmp_path, told, later[1:])
    torture.no_traceback(recorder.said)
    frames = torture.check(recorder.tape, sims, told=recorder.told)
    assert torture.untrusted_s(recorder.tape, "htx:BTC-USDT-PERP") == {}
    found = torture.untrusted_s(recorder.tape, "bybit:BTC-USDT-PERP")
    assert set(found) <= {"disconnect", "unreachable"}
    figures(
        later[0],
        injected=1,
        survived=1,
        lost=0,
        untrusted=f"{sum(found.values()):.1f} of {took:.1f} s; the other venue 0 s",
        recovery=f"{took:.1f} s",
        rss=f"{recorder.rss_mb:.0f} MB",
        remark=f"{frames:,} frames",
    )


def by_name(torture, under, place, told, later):
    """Record from a relay; end it while names are found as ``later`` tells; give how long it took.

    ``later`` says, too, whether the relay begins again at once where it was.
    """
    then, stays = later
    with contextlib.ExitStack() as all_end:
        sims = torture.Simulators(place / "s", ("bybit", "htx"), torture.market(100), under=under)
        all_end.enter_context(sims)
        port = port_of(sims, "bybit")
        urls = [u.replace("127.0.0.1", "bybit.example") if "bybit" in u else u for u in sims.urls]
        with helping(under, RELAY, port):
            recorder = torture.Recorder(place / "r", [*BOTH, *urls], under=under)
            all_end.enter_context(recorder)
            recorder.live(4)
            told.write_text(then)
        gone = time.time_ns()
        if stays:
            all_end.enter_context(helping(under, RELAY, port))
        torture.until(lambda: heard_since(recorder.tape, "bybit", gone + NS), "data again")
        took = (time.time_ns() - gone) / NS
        told_to_end = time.monotonic()
        recorder.stop()
        assert time.monotonic() - told_to_end < 5, "it waited for names"
    return recorder, sims, took


def test_a_ban_is_kept_to(torture, tmp_path, figures):
    """Who is told to stay away for a minute asks nothing more in it, by socket or by REST."""
    ban_s = 60 if torture.LONG else 3
    banned = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n"

    async def main():
        async with Counting(banned % ban_s) as server:
            words = ["BTC-USDT", "--venues", "bybit", "--for", f"{ban_s - 1}s"]
            words += ["--url", f"bybit=http://127.0.0.1:{server.port}"]
            return await asyncio.to_thread(
                refused, torture, tmp_path / "r", words, {}
            ), server.count

    recorder, count = asyncio.run(main())
    assert "429" in recorder.status()["bybit:BTC-USDT-PERP"]["error"]
    assert count <= 2, "one by REST, one by socket"
    figures(
        f"a ban of {ban_s} s",
        injected=1,
        survived=1,
        lost=0,
        remark=f"{count} requests in it, the first of which was told so",
    )


def test_no_name_is_found(torture, apart, tmp_path, figures):
    """One venue's name cannot be resolved; the other, on loopback, is recorded whole."""
    with torture.Simulators(tmp_path / "s", ("bybit",), torture.market(100), under=apart) as sims:
        words = [*BOTH, *sims.urls, "--for", "4s"]
        with torture.Recorder(tmp_path / "r", words, under=apart) as recorder:
            assert recorder.wait() == 0
    torture.no_traceback(recorder.said)
    torture.check(recorder.tape, sims, told=recorder.told)
    last = recorder.status()
    assert last["htx:BTC-USDT-PERP"]["state"] == "unreachable"
    assert "name" in last["htx:BTC-USDT-PERP"]["error"].lower()
    assert torture.untrusted_s(recorder.tape, "bybit:BTC-USDT-PERP") == {}
    assert verify.verify(recorder.tape).verdict == "untrusted"
    figures("DNS failure of one venue", injected=1, survived=1, lost=0, untrusted="other venue 0 s")


class Slow:
    """A proxy on loopback that passes everything on, late."""

    def __init__(self, port, late_s):
        self._loop, self._late_s, self._port = asyncio.new_event_loop(), late_s, port
        self._tasks = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self):
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self):
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _on_connection(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        there = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._pass(reader, there[1]), self._pass(there[0], writer))
        finally:
            there[1].transport.abort()
            writer.transport.abort()

    async def _pass(self, reader, writer):
        while data := await reader.read(1 << 16):
            self._loop.call_later(self._late_s, writer.write, data)
        await asyncio.sleep(self._late_s)
        writer.close()


def test_two_seconds_of_latency(torture, tmp_path, figures):
    """All comes late, and nothing is lost: the time of receipt is ours, and says so."""
    if not torture.LONG:
        pytest.skip("the long form: TORTURE=1")
    sims = torture.Simulators(tmp_path / "s", ("bybit",), torture.market(100))
    with sims:  # noqa: SIM117 - the second needs the first
        with Slow(int(port_of(sims, "bybit")), 2.0) as slow:
            words = [
                "BTC-USDT",
                "--venues",
                "bybit",
                "--url",
                f"bybit=http://127.0.0.1:{slow.port}",
            ]
            with torture.Recorder(tmp_path / "r", words) as recorder:
                recorder.live(1)
                torture.until(lambda: recorder.told > 300, "frames")
                recorder.stop()
            torture.no_traceback(recorder.said)
    frames = torture.check(recorder.tape, sims, told=recorder.told)
    assert torture.untrusted_s(recorder.tape) == {}
    figures(
        "2 s of latency",
        injected=1,
        survived=1,
        lost=0,
        untrusted="0 of 0 s",
        remark=f"{frames:,} frames",
    )


class Counting:
    """A server that counts connections and answers each with these bytes."""

    def __init__(self, answer, tls=None):
        self._answer, self._tls, self.count = answer, tls, 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._on, "127.0.0.1", 0, backlog=50)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _on(self, reader, writer):
        self.count += 1
        try:
            if self._tls is not None:
                await writer.start_tls(self._tls)
            await reader.read(100)
            writer.write(self._answer)
            await writer.drain()
        except (OSError, ssl.SSLError):
            pass
        writer.transport.abort()


def certificates(tmp_path):
    """Give server contexts that must be refused, with what the refusal says."""
    ours, other = trustme.CA(), trustme.CA()
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    made = {
        "expired": ours.issue_cert("localhost", not_after=past + dt.timedelta(days=9)),
        "wrong-name": ours.issue_cert("other.example"),
        "other-authority": other.issue_cert("localhost"),
        "tls-1.1": ours.issue_cert("localhost"),
    }
    ours.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    contexts = {}
    for name, certificate in made.items():
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(contexts[name])
    contexts["tls-1.1"].set_ciphers("ALL:@SECLEVEL=0")
    return contexts


OTHER_WORDS = {"tls-1.1": ("legacy sigalg", "unsupported protocol", "protocol version")}
"""Of other releases of OpenSSL."""
REFUSALS = {
    "expired": "certificate has expired",
    "wrong-name": "not valid for 'localhost'",
    "other-authority": "unable to get local issuer",
    "tls-1.1": "ConnectError",  # the library has no words for an alert of the peer
}


def refused(torture, place, words, env):
    with torture.Recorder(place, words, env=env) as recorder:
        assert recorder.wait() == 5
    torture.no_traceback(recorder.said)
    return recorder


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_certificates_that_prove_nothing_are_refused_by_socket_and_rest(torture, tmp_path, figures):
    """Never is there data, never plain text, and no storm of attempts."""
    contexts = certificates(tmp_path)
    contexts["tls-1.1"].minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    contexts["tls-1.1"].maximum_version = ssl.TLSVersion.TLSv1_1

    async def main():
        servers = {name: Counting(b"", tls) for name, tls in contexts.items()}
        for server in servers.values():
            await server.__aenter__()
        venues = dict(zip(("bybit", "htx", "gateio", "bitget"), servers, strict=True))
        words = ["BTC-USDT", "--venues", ",".join(venues), "--for", "4s"]
        for venue, name in venues.items():
            words += ["--url", f"{venue}=https://localhost:{servers[name].port}"]
        env = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        recorder = await asyncio.to_thread(refused, torture, tmp_path / "r", words, env)
        for server in servers.values():
            await server.__aexit__()
        return recorder, venues, servers

    recorder, venues, servers = asyncio.run(main())
    for venue, name in venues.items():
        told = recorder.status()[f"{venue}:BTC-USDT-PERP"]
        words = (REFUSALS[name], *OTHER_WORDS.get(name, ()))
        assert any(each.lower() in told["error"].lower() for each in words), told
        assert 1 <= servers[name].count <= 8, "a storm of attempts"
    assert not any(f.kind in {Kind.TEXT, Kind.BINARY} for f in Tape(recorder.tape).frames())
    figures(
        "TLS: expired, wrong name, other authority, 1.1 only",
        injected=4,
        survived=4,
        lost=0,
        remark=f"all refused, at most {max(s.count for s in servers.values())} attempts in 4 s",
    )


def test_a_proxy_that_refuses(tmp_path, figures):
    """It is neither passed by nor asked without end."""

    async def main():
        async with Counting(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as proxy:
            plan = Plan(
                ("BTC-USDT-PERP",),
                (VENUES["bybit"],),
                for_ns=3 * NS,
                proxy=f"http://127.0.0.1:{proxy.port}",
            )
            tape = TapeWriter(tmp_path / "t", half_bytes=1 << 20)
            return await record(plan, tape, stop=asyncio.Event()), proxy.count

    summary, count = asyncio.run(main())
    (market,) = summary.markets
    assert market.state == "unreachable" and "403" in market.error and 1 <= count <= 8
    figures("proxy that refuses", injected=count, survived=count, lost=0, remark=market.error)
