"""A venue's REST side: every answer becomes a frame before it is read."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import urlsplit

import httpx2
import msgspec
import stamina

from perptape.backoff import LONGEST_NS, asked_wait_ns
from perptape.clock import Clock
from perptape.dial import CONNECT_S
from perptape.errors import CONTROL_ERRORS, Unreachable
from perptape.events import MS, NS, Book, Kind, Note, RestAnswer
from perptape.instruments import Instrument
from perptape.route import Route
from perptape.venues.venue import Listing, Poll, Topic, Venue
from perptape.wire import Sink

REST_S = 15.0
"""One call, from the name to the last byte."""
BODY_BYTES = 5 << 20
"""Escaped into a frame of the tape it may be twice as long."""
BOOK_EVERY_NS = 600 * MS
"""Books are the dearest of calls (Binance: 20 of 2,400 a minute), and a start asks for all."""
PAGES = 64
"""The most pages of one instrument list."""
HTTP_OK = 200

logging.getLogger("stamina").addHandler(logging.NullHandler())


def open_client(route: Route) -> httpx2.AsyncClient:
    """Make the one HTTP client of a recording: no redirects, nothing from the environment."""
    return httpx2.AsyncClient(
        verify=route.tls,
        proxy=route.proxy if route.proxy and urlsplit(route.proxy).scheme[:4] == "http" else None,
        timeout=httpx2.Timeout(REST_S, connect=CONNECT_S),
        follow_redirects=False,
        trust_env=False,
    )


class Rest:
    """The calls of one venue, under a wire number of their own."""

    def __init__(self, client: httpx2.AsyncClient, venue: Venue, tape: Sink, clock: Clock) -> None:
        self._client, self._venue, self._tape, self._clock = client, venue, tape, clock
        self._banned_until = clock.mono()
        self._one_book, self._book_at = asyncio.Lock(), clock.mono()
        self.number = tape.new_wire(venue.name)

    async def instruments(self, failed: Callable[[str], None]) -> list[Instrument]:
        """Ask for the whole list until it comes; ``failed`` is told why it did not."""
        async for attempt in stamina.retry_context(
            on=_wait_asked,
            attempts=None,
            timeout=None,
            wait_initial=0.5,
            wait_jitter=0.5,
            wait_max=LONGEST_NS / NS,
        ):
            with attempt:
                try:
                    return await self.ask()
                except Unreachable as error:
                    self.note(Note(note="unreachable", reason=str(error)))
                    failed(str(error))
                    raise
        raise AssertionError

    async def turnover(self) -> dict[str, float]:
        """Ask what each symbol turned over in 24 h, in quote currency. Raises Unreachable."""
        venue, read = self._venue, self._venue.read_turnover
        if read is None:
            raise Unreachable(f"{venue.name} does not tell its turnover")
        body = await self._get("turnover", venue.turnover_path, question=venue.turnover_body)
        try:
            return read(body)
        except Exception as error:  # a lying venue must not end the others
            raise Unreachable(f"its turnover cannot be read: {error}") from error

    async def time(self) -> None:
        """Ask for the venue's clock, for the tape alone."""
        if self._venue.time_path and self._clock.mono() >= self._banned_until:
            try:
                await self._get("time", self._venue.time_path, question=self._venue.time_body)
            except Unreachable as error:
                self.note(Note(note="unreachable", reason=str(error)))

    async def poll(self, poll: Poll, symbols: Sequence[str]) -> None:
        """Ask once for what a poll is for, for the tape alone."""
        each = symbols if poll.body or "{symbol}" in poll.path else ("",)
        for symbol in each:
            ts, mono = self._clock.now()
            if mono < self._banned_until:
                return
            path = poll.path.format(symbol=symbol)
            question = poll.body(symbol, ts) if poll.body else b""
            try:
                await self._get(poll.what, path, symbol=symbol, question=question)
            except Unreachable as error:
                self.note(Note(note="unreachable", reason=str(error)))

    async def book(self, topic: Topic, is_needed: Callable[[], bool]) -> Book | None:
        """Ask for the book that a stream of changes goes on from; ``None`` if none comes.

        ``is_needed`` is asked when its turn has come.
        """
        read = self._venue.read_rest
        if read is None:
            return None
        path = self._venue.bases[topic.stream].format(symbol=topic.symbol)
        try:
            async with self._one_book:
                await asyncio.sleep(max(0, self._book_at - self._clock.mono()) / NS)
                if not is_needed() or self._clock.mono() < self._banned_until:
                    return None
                self._book_at = self._clock.mono() + BOOK_EVERY_NS
            body = await self._get("book", path, symbol=topic.symbol, stream=topic.stream)
            events = read("book", topic.symbol, body)
        except Unreachable as error:
            self.note(Note(note="unreachable", reason=str(error)))
            return None
        except CONTROL_ERRORS:
            return None  # it is on the tape, and its readers will say what it is
        return next((event for event in events if isinstance(event, Book)), None)

    def note(self, note: Note) -> None:
        """Write a remark about the venue that belongs to no socket."""
        self._write(Kind.NOTE, msgspec.json.encode(note))

    async def ask(self) -> list[Instrument]:
        """Ask for the whole list once. Raises Unreachable."""
        found = [each async for page in self._pages() for each in page.instruments]
        if not found:
            raise Unreachable("its instrument list is empty")
        return found

    async def _pages(self) -> AsyncIterator[Listing]:
        path: str | None = self._venue.instruments_path
        for _ in range(PAGES):
            if path is None:
                return
            question = self._venue.instruments_body
            body = await self._get("instruments", path, question=question)
            page = self._read(body)
            path = page.next_path
            yield page

    def _read(self, body: bytes) -> Listing:
        read = self._venue.read_instruments
        if read is None:
            raise Unreachable(f"{self._venue.name} has no instrument list")
        try:
            return read(body, self._clock.now()[0])
        except Exception as error:  # a lying venue must not end the others
            raise Unreachable(f"its instrument list cannot be read: {error}") from error

    async def _get(
        self, what: str, path: str, *, symbol: str = "", stream: str = "", question: bytes = b""
    ) -> bytes:
        """Give the body of one answer, to a POST where there is a question. Raises Unreachable."""
        url = self._venue.rest + path
        sent, mono = self._clock.now()
        if mono < self._banned_until:
            raise Unreachable(f"{url}: it told us to stay away", self._banned_until - mono)
        try:
            async with asyncio.timeout(REST_S):
                status, headers, body = await self._fetch(url, question)
        except TimeoutError as error:
            raise Unreachable(f"{url}: no answer within {REST_S:g} s") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            raise Unreachable(f"{url}: {str(error) or type(error).__name__}") from error
        answer = RestAnswer(
            what=what,
            url=url,
            status=status,
            t_sent=sent,
            body=body.decode(errors="replace"),
            symbol=symbol,
            stream=stream,
        )
        self._write(Kind.REST, msgspec.json.encode(answer))
        if status != HTTP_OK:
            ts, mono = self._clock.now()
            wait_ns = asked_wait_ns(status, headers, ts)
            self._banned_until = max(self._banned_until, mono + wait_ns)
            raise Unreachable(f"{url}: HTTP {status}", wait_ns)
        return body

    async def _fetch(self, url: str, question: bytes) -> tuple[int, httpx2.Headers, bytes]:
        method, headers = "GET", {**self._venue.headers, "Accept-Encoding": "identity"}
        if question:
            method, headers["Content-Type"] = "POST", "application/json"
        call = self._client.stream(method, url, headers=headers, content=question or None)
        async with call as answer:
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise ValueError("it is compressed, which we did not ask for")
            body = bytearray()
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > BODY_BYTES:
                    raise ValueError(f"it is longer than {BODY_BYTES} bytes")
            return answer.status_code, answer.headers, bytes(body)

    def _write(self, kind: Kind, payload: bytes) -> None:
        ts, mono = self._clock.now()
        self._tape.append(self.number, kind, [payload], ts, mono)


def _wait_asked(error: Exception) -> bool | float:
    """Retry what failed outside; when the venue named a time, not before."""
    return isinstance(error, Unreachable) and (error.wait_ns / NS or True)
