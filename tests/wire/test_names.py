"""Connections by name, while name servers fail."""

import asyncio
import socket
import threading
import time

import pytest

from perptape import names
from perptape.names import Names


def running(story, monkeypatch):
    """Run ``story(names, port, server, name_server)`` beside a server that closes what it gets."""

    async def main():
        async def on(_, writer):
            writer.close()

        server = await asyncio.start_server(on, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        answers = []

        async def getaddrinfo(host, there, **_):
            assert (host, there) == ("venue.example", port)
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, float):
                await asyncio.sleep(answer)  # longer than anybody waits
            kinds = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
            return [(*kinds, "", (each, port)) for each in answer]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        async with server:
            await story(Names(), port, answers)

    asyncio.run(main())


async def peer(known, port, found=lambda: None):
    there = await known.connected("venue.example", port, found)
    with there:
        return there.getpeername()


@pytest.mark.parametrize("fails", [socket.gaierror(-3, "Temporary failure"), 5.0])
def test_the_last_good_address_stands_in_for_a_name_server_that_is_gone(monkeypatch, fails):
    monkeypatch.setattr(names, "NAME_S", 0.05)

    async def story(known, port, answers):
        answers += [["127.0.0.1"], fails, fails]
        told = []
        for _ in range(3):
            assert await peer(known, port, lambda: told.append(1)) == ("127.0.0.1", port)
        assert len(told) == 3 and not answers

    running(story, monkeypatch)


@pytest.mark.parametrize(
    ("fails", "words"), [(socket.gaierror(-2, "Name not known"), "not known"), (5.0, "0.05 s")]
)
def test_a_name_that_was_never_found_is_said(monkeypatch, fails, words):
    monkeypatch.setattr(names, "NAME_S", 0.05)

    async def story(known, port, answers):
        answers.append(fails)
        with pytest.raises(OSError, match=words):
            await peer(known, port)

    running(story, monkeypatch)


def test_an_address_that_was_not_reached_is_not_good(monkeypatch):
    async def story(known, port, answers):
        answers += [["127.0.0.1"], ["127.0.0.9"], socket.gaierror(-3, "Temporary failure")]
        await peer(known, port)
        with pytest.raises(ConnectionRefusedError):
            await peer(known, port)
        assert await peer(known, port) == ("127.0.0.1", port)

    running(story, monkeypatch)


def test_a_name_that_means_another_address_is_followed(monkeypatch):
    async def story(known, port, answers):
        answers += [["127.0.0.9", "127.0.0.1"], ["127.0.0.1"]]
        assert await peer(known, port) == ("127.0.0.1", port)
        assert await peer(known, port) == ("127.0.0.1", port)

    running(story, monkeypatch)


def in_threads(monkeypatch, look_up, story):
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with asyncio.Runner(loop_factory=names.Loop) as runner:
        return runner.run(story(runner.get_loop()))


def test_names_that_hang_keep_nothing_back(monkeypatch):
    """Neither other names, nor connections, nor the end."""
    hangs, asked, real = threading.Event(), [], socket.getaddrinfo

    def look_up(host, *words, **more):
        asked.append(host)
        if host.endswith("example"):
            hangs.wait(30)
        return real("127.0.0.1", *words, **more)

    async def story(loop):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            lost = [f"{k % 8}.example" for k in range(24)]
            waiting = [asyncio.ensure_future(loop.getaddrinfo(each, 80)) for each in lost]
            there = await Names().connected("good.test", port, lambda: None)
            with there:
                return there.getpeername()[1] == port and not any(w.done() for w in waiting)

    began = time.monotonic()
    try:
        assert in_threads(monkeypatch, look_up, story)
        assert time.monotonic() - began < 5
    finally:
        hangs.set()
    lost = [f"{k}.example" for k in range(8)]
    assert sorted(each for each in asked if each != "127.0.0.1") == [*lost, "good.test"]


def test_a_lookup_raises_what_it_met(monkeypatch):
    def look_up(*_, **__):
        raise socket.gaierror(-2, "Name not known")

    async def story(loop):
        both = (loop.getaddrinfo("x.test", 80) for _ in range(2))
        return await asyncio.gather(*both, return_exceptions=True)

    found = in_threads(monkeypatch, look_up, story)
    assert [type(each) for each in found] == [socket.gaierror] * 2
