"""One simulated exchange without its sockets: it is told what comes in and what time it is."""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec

from perptape.events import MS, NS
from perptape.sims.dialect import (
    Act,
    Answer,
    Board,
    Dialect,
    Hangup,
    Join,
    Part,
    Ping,
    Print,
    Request,
    Span,
    State,
    Stream,
    Talk,
    Ticker,
    Topic,
)
from perptape.sims.market import Contract, Feed, Path, Top
from perptape.sims.scenario import Damage, Scenario
from perptape.sims.ticker import Tickers
from perptape.sims.trades import BEFORE, Trades


class Market:
    """One contract of the venue: its book, trades and ticker in scenario time."""

    def __init__(self, scenario: Scenario, venue: str, contract: Contract) -> None:
        # Every venue makes its own copy of the common price, from the same seed.
        path = Path(scenario.seed, contract.base)
        self.trades = Trades(scenario, venue, contract, path)
        self.feed = Feed(scenario, venue, contract, path, self.trades.fill)
        self.tickers = Tickers(scenario, venue, contract, self.trades)

    @property
    def contract(self) -> Contract:
        return self.feed.contract

    @property
    def next_due_ns(self) -> int:
        """Scenario time before which nothing more is published."""
        trade_ns = self.trades.next_due_ns
        return self.feed.next_due_ns if trade_ns is None else min(self.feed.next_due_ns, trade_ns)


class News(NamedTuple):
    """What a market has published since the last turn."""

    tops: list[Top]
    trades: list[Print]


class Cast(msgspec.Struct, eq=False):
    """A topic that somebody listens to."""

    topic: Topic
    market: Market
    stream: Stream
    last: Top
    skipped: list[Top] = []
    """States newer than the last, of which nothing is said yet; likewise ``untold`` trades."""
    untold: list[Print] = []
    told: Ticker | None = None
    talks: list[Talk] = []
    nth: int = 0
    told_ns: int = 0
    """When a frame was last made, in true time; likewise ``new_ns``, of a new state."""
    new_ns: int = 0


class Hurt(msgspec.Struct):
    """A frame to be damaged, and what became of it."""

    symbol: str | None
    damage: Damage
    done: Callable[[str, int, int], None]
    """Called with the symbol, the crc32 of what is sent, and the time."""


class Exchange:
    """The venue's side of all its connections. Times are true wall time in ns.

    ``on_start`` is called with the time of the first accepted subscription, before its data.
    """

    def __init__(
        self, dialect: Dialect, scenario: Scenario, on_start: Callable[[int], None]
    ) -> None:
        self.dialect = dialect
        self.name = dialect.name
        listed = [dialect.contracts[name.partition("-")[0]] for name in scenario.instruments]
        self.board = Board({contract.symbol: contract for contract in listed})
        self.markets = {c.symbol: Market(scenario, dialect.name, c) for c in listed}
        self.feeds = {symbol: market.feed for symbol, market in self.markets.items()}
        self.talks: list[Talk] = []
        self.connections = 0
        self.offset_ns = round(scenario.venues[dialect.name].clock_offset_ms * MS)
        self.hurt: list[Hurt] = []
        self._mute: list[str | None] = []
        """Symbols of which nothing is sent; ``None`` is the whole venue. Likewise ``_shut``:
        symbols that are refused, and whether new connections are."""
        self._shut: list[str | None] = []
        self._on_start = on_start
        self._start_ns: int | None = None
        self._casts: dict[Topic, Cast] = {}

    def start(self, now_ns: int) -> None:
        """Let scenario time run from here."""
        self._start_ns = now_ns

    def symbol(self, instrument: str) -> str:
        return self.dialect.contracts[instrument.partition("-")[0]].symbol

    def connect(self, path: str, headers: Mapping[str, str], now_ns: int) -> Talk:
        """A client's websocket is open."""
        self.connections += 1
        token = hashlib.blake2b(f"{self.name} {self.connections}".encode(), digest_size=16)
        there_ns = now_ns + self.offset_ns
        name = token.hexdigest()
        talk = Talk(self.connections, name, path, headers, there_ns, there_ns, there_ns)
        self._act(talk, self.dialect.beat(talk, there_ns), now_ns)
        self.talks.append(talk)
        return talk

    def leave(self, talk: Talk) -> list[tuple[Topic, Span]]:
        """The connection is gone; returns what was sent on it."""
        if talk in self.talks:
            self.talks.remove(talk)
        for topic in list(talk.topics):
            self._part(talk, topic)
        return talk.parted

    def hear(self, talk: Talk, payload: bytes, now_ns: int) -> None:
        """A client's message; what follows is in ``talk.outbox`` and ``talk.ended``."""
        there_ns = now_ns + self.offset_ns
        acts = self.dialect.hear(talk, payload, self.board, there_ns)
        talk.heard_ns = there_ns
        self._act(talk, acts, now_ns)

    def touch(self, talk: Talk, now_ns: int, *, is_pong: bool = False) -> None:
        """A client's protocol-level ping or pong."""
        talk.heard_ns = now_ns + self.offset_ns
        if is_pong:
            talk.ponged_ns = talk.heard_ns

    def rest(
        self,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        now_ns: int,
        body: bytes = b"",
    ) -> Answer:
        """Answer an HTTP GET, or a POST."""
        there_ns, at_ns = now_ns + self.offset_ns, self._scenario_ns(now_ns)
        markets = self.markets
        request = Request(
            path,
            query,
            headers,
            there_ns,
            tops=lambda symbol: markets[symbol].feed.current,
            ts_event_ns=lambda top: self._made_ns(top.at_ns),
            ts_made_ns=self._made_ns,
            ticker=lambda symbol: markets[symbol].tickers.at(at_ns, there_ns),
            trades=lambda symbol: tuple(markets[symbol].trades.recent),
            settled=lambda symbol: markets[symbol].tickers.settled(at_ns, there_ns),
            body=body,
        )
        return self.dialect.rest(request, self.board)

    def turn(self, now_ns: int) -> int:
        """Say everything that is due; returns when to come again."""
        wake = [now_ns + NS]
        for talk in self.talks if not self.silent else ():
            there_ns = now_ns + self.offset_ns
            if talk.beat_ns <= there_ns and talk.ended is None:
                self._act(talk, self.dialect.beat(talk, there_ns), now_ns)
            wake.append(talk.beat_ns - self.offset_ns)
        if self._start_ns is not None:
            wake += self._publish(now_ns, now_ns - self._start_ns)
        return max(now_ns, min(wake))

    @property
    def silent(self) -> bool:
        """Whether the whole venue says nothing at all."""
        return None in self._mute

    @property
    def shut(self) -> bool:
        """Whether new connections are refused."""
        return None in self._shut

    def is_deaf(self, talk: Talk) -> bool:
        """Whether nothing is said on this connection, not even in answer."""
        return self.silent or talk.is_dead

    def market_name(self, symbol: str) -> str:
        """``bybit:BTC-USDT-PERP``."""
        return f"{self.name}:{self.markets[symbol].contract.instrument}"

    def mute(self, symbol: str | None) -> None:
        """From now on say nothing of a symbol; of ``None``, nothing at all."""
        self._mute.append(symbol)

    def unmute(self, symbol: str | None) -> None:
        self._mute.remove(symbol)

    def refuse(self, symbol: str | None) -> None:
        """From now on refuse a symbol; of ``None``, new connections."""
        self._shut.append(symbol)
        self.board.refused = {shut for shut in self._shut if shut is not None}

    def admit(self, symbol: str | None) -> None:
        self._shut.remove(symbol)
        self.board.refused = {shut for shut in self._shut if shut is not None}

    def hang_up(self, talks: Iterable[Talk], hangup: Hangup, now_ns: int) -> None:
        """End these connections, with a farewell where the venue has one."""
        for talk in talks:
            if hangup.code is not None and self.dialect.farewell is not None:
                self._act(talk, [self.dialect.farewell(now_ns + self.offset_ns)], now_ns)
            talk.ended = talk.ended or hangup

    def listeners(self, symbol: str | None) -> list[Talk]:
        """The connections that listen to a symbol; of ``None`` all."""
        return [
            talk
            for talk in self.talks
            if symbol is None or any(topic.symbol == symbol for topic in talk.topics)
        ]

    def _publish(self, now_ns: int, scenario_ns: int) -> list[int]:
        news = {
            symbol: News(market.feed.due(scenario_ns), market.trades.due(scenario_ns))
            for symbol, market in self.markets.items()
        }
        wake = [now_ns - scenario_ns + market.next_due_ns for market in self.markets.values()]
        for cast in self._casts.values():
            if cast.talks:
                self._tell(cast, news[cast.topic.symbol], now_ns)
                wake += _again(cast)
        return wake

    def _tell(self, cast: Cast, news: News, now_ns: int) -> None:
        if cast.stream.tells == "trades":
            self._tell_trades(cast, news.trades, now_ns)
        elif cast.stream.tells == "ticker":
            self._tell_ticker(cast, now_ns)
        else:
            self._tell_book(cast, news.tops, now_ns)

    def _tell_trades(self, cast: Cast, new: Sequence[Print], now_ns: int) -> None:
        cast.untold += new
        cast.last = cast.market.feed.current
        if not cast.untold or now_ns - cast.new_ns < cast.stream.every_ns:
            return
        for trades in _frames(cast.stream, cast.untold):
            cast.nth += 1
            state = self._state(cast, cast.last, cast.last, now_ns, trades[-1].at_ns)
            self._cast(cast, state._replace(trades=trades), now_ns)
        cast.untold.clear()
        cast.new_ns = now_ns

    def _tell_ticker(self, cast: Cast, now_ns: int) -> None:
        if now_ns - cast.new_ns < cast.stream.every_ns:
            return
        cast.nth += 1
        cast.last = cast.market.feed.current
        ticker = self._ticker(cast.market, now_ns)
        state = self._state(cast, cast.last, cast.last, now_ns, ticker.at_ns)
        self._cast(cast, state._replace(ticker=ticker, told=cast.told), now_ns)
        cast.told, cast.new_ns = ticker, now_ns

    def _tell_book(self, cast: Cast, new: Sequence[Top], now_ns: int) -> None:
        stream = cast.stream
        if not stream.every_ns:
            for top in new:
                self._say(cast, top, (), now_ns)
        else:
            cast.skipped += new
            if cast.skipped and now_ns - cast.new_ns >= stream.every_ns:
                *skipped, top = cast.skipped
                cast.skipped.clear()
                self._say(cast, top, tuple(skipped), now_ns)
        if stream.repeat_ns and now_ns - cast.told_ns >= stream.repeat_ns:
            self._cast(cast, self._state(cast, cast.last, None, now_ns), now_ns)

    def _say(self, cast: Cast, top: Top, skipped: tuple[Top, ...], now_ns: int) -> None:
        cast.nth += 1
        state = self._state(cast, top, cast.last, now_ns)._replace(skipped=skipped)
        cast.last = top
        cast.new_ns = now_ns
        self._cast(cast, state, now_ns)

    def _greeting(self, cast: Cast, now_ns: int) -> State:
        """What one who knows nothing is told at once."""
        market, tells = cast.market, cast.stream.tells
        state = self._state(cast, cast.last, None, now_ns)._replace(is_greeting=True)
        if tells == "trades":
            trades = market.trades.last(BEFORE)
            made_ns = self._made_ns(trades[-1].at_ns)
            return state._replace(trades=trades, ts_event_ns=made_ns)
        if tells == "ticker":
            ticker = self._ticker(market, now_ns)
            return state._replace(ticker=ticker, ts_event_ns=self._made_ns(ticker.at_ns))
        return state

    def _state(
        self, cast: Cast, top: Top, previous: Top | None, now_ns: int, made_ns: int | None = None
    ) -> State:
        at_ns = top.at_ns if made_ns is None else made_ns
        return State(
            cast.market.contract, cast.topic, previous, top, cast.nth,
            self._made_ns(at_ns), now_ns + self.offset_ns, self._made_ns,
        )  # fmt: skip

    def _ticker(self, market: Market, now_ns: int) -> Ticker:
        return market.tickers.at(self._scenario_ns(now_ns), now_ns + self.offset_ns)

    def _cast(self, cast: Cast, state: State, now_ns: int) -> None:
        cast.told_ns = now_ns
        if self.silent or cast.topic.symbol in self._mute:
            return
        frame = self._frame(state)
        if frame is not None:
            for talk in cast.talks:
                _send(talk, cast.topic, frame, now_ns)

    def _frame(self, state: State) -> tuple[bytes, bytes] | None:
        payload = self.dialect.streams[state.topic.stream].encode(state)
        if not payload:
            return None
        if not self.hurt:
            return payload, self.dialect.wrap(payload)
        for hurt in self.hurt:
            if hurt.symbol in (None, state.topic.symbol):
                self.hurt.remove(hurt)
                frame = damaged(payload, hurt.damage, self.dialect)
                now_ns = state.ts_send_ns - self.offset_ns
                hurt.done(state.topic.symbol, zlib.crc32(frame[0]), now_ns)
                return frame
        return payload, self.dialect.wrap(payload)

    def _act(self, talk: Talk, acts: Sequence[Act], now_ns: int) -> None:
        for act in acts:
            if isinstance(act, Join):
                self._join(talk, act.topic, now_ns)
            elif isinstance(act, Part):
                self._part(talk, act.topic)
            elif self.silent:
                continue
            elif isinstance(act, Ping):
                talk.pings.append(act.payload)
            elif isinstance(act, Hangup):
                talk.ended = talk.ended or act
            else:
                talk.outbox.append((act, self.dialect.wrap(act)))

    def _join(self, talk: Talk, topic: Topic, now_ns: int) -> None:
        if self._start_ns is None:
            self._on_start(now_ns)
        cast = self._casts.get(topic)
        if cast is None:
            market = self.markets[topic.symbol]
            stream = self.dialect.streams[topic.stream]
            cast = Cast(topic, market, stream, market.feed.current)
            self._casts[topic] = cast
        if not cast.talks:  # nobody listened: what comes next follows the present state
            cast.last = cast.market.feed.current
            cast.skipped.clear()
            cast.untold.clear()
            cast.told = self._ticker(cast.market, now_ns)
            cast.told_ns = cast.new_ns = now_ns
            cast.nth += 1
        talk.topics.setdefault(topic, Span())
        if cast.stream.greets and not self.silent and topic.symbol not in self._mute:
            frame = self._frame(self._greeting(cast, now_ns))
            if frame is not None:
                _send(talk, topic, frame, now_ns)
        if talk not in cast.talks:
            cast.talks.append(talk)

    def _part(self, talk: Talk, topic: Topic) -> None:
        if topic in talk.topics:
            talk.parted.append((topic, talk.topics.pop(topic)))
        cast = self._casts.get(topic)
        if cast is not None and talk in cast.talks:
            cast.talks.remove(talk)

    def _scenario_ns(self, now_ns: int) -> int:
        return 0 if self._start_ns is None else now_ns - self._start_ns

    def _made_ns(self, at_ns: int) -> int:
        return (self._start_ns or 0) + at_ns + self.offset_ns


def _frames(stream: Stream, trades: Sequence[Print]) -> Iterator[tuple[Print, ...]]:
    """Which trades go into one frame: all, those of one taker order, or each alone."""
    if stream.singly:
        yield from ((made,) for made in trades)
    elif stream.every_ns:
        yield tuple(trades)
    else:
        for _, fills in groupby(trades, key=lambda made: made.at_ns):
            yield tuple(fills)


def _again(cast: Cast) -> list[int]:
    """When this topic has more to say, whatever its market does."""
    stream, moments = cast.stream, []
    if stream.repeat_ns:
        moments.append(cast.told_ns + stream.repeat_ns)
    if cast.skipped or cast.untold or stream.tells == "ticker":
        moments.append(cast.new_ns + stream.every_ns)
    return moments


def _send(talk: Talk, topic: Topic, frame: tuple[bytes, bytes], now_ns: int) -> None:
    span = talk.topics[topic]
    span.first_ns = span.first_ns or now_ns
    span.last_ns = now_ns
    span.frames += 1
    talk.outbox.append(frame)


def damaged(payload: bytes, damage: Damage, dialect: Dialect) -> tuple[bytes, bytes]:
    """A frame (payload, wire form) that its decoder cannot read.

    ``truncate`` keeps the first half of the text. ``flip`` turns bits: of the first byte of text
    (a brace becomes a letter), or in the middle of a compressed frame, which then does not
    inflate and has no payload but itself.
    """
    if damage == "truncate":
        half = payload[: len(payload) // 2]
        return half, dialect.wrap(half)
    wire = bytearray(dialect.wrap(payload))
    if not dialect.binary:
        wire[0] ^= 0x01
        return bytes(wire), bytes(wire)
    middle = len(wire) // 2
    wire[middle : middle + 8] = bytes(b ^ 0xFF for b in wire[middle : middle + 8])
    return bytes(wire), bytes(wire)
