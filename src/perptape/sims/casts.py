"""Topics that somebody listens to: when each is told, and what of."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import msgspec

from perptape.sims.dialect import Dialect, Print, Span, State, Stream, Talk, Ticker, Topic
from perptape.sims.hurt import Frame, Hurt, Late, Struck, altered, held_until
from perptape.sims.market import Top
from perptape.sims.markets import Clock, Market, News
from perptape.sims.trades import BEFORE


class Cast(msgspec.Struct, eq=False):
    """A topic that somebody listens to, or did."""

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
    resets: int = 0
    """How often its ids have started over; ``begins``: nothing has been said since."""
    begins: bool = False
    late: Late | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the connections that listen."""
        return tuple(talk.number for talk in self.talks)


class Casts:
    """All topics of one venue."""

    def __init__(self, dialect: Dialect, markets: Mapping[str, Market], clock: Clock) -> None:
        self.hurts: list[Hurt] = []
        self.muted: list[str | None] = []
        """Symbols of which nothing is sent; ``None`` is the whole venue."""
        self._dialect = dialect
        self._markets = markets
        self._clock = clock
        self._all: dict[Topic, Cast] = {}

    def publish(self, now_ns: int) -> list[int]:
        """Say what is due; returns when there may be more."""
        at_ns = self._clock.scenario_ns(now_ns)
        news = {symbol: market.due(at_ns) for symbol, market in self._markets.items()}
        wake = [now_ns - at_ns + market.next_due_ns for market in self._markets.values()]
        for cast in self._all.values():
            if cast.talks:
                self._release(cast, now_ns)
                self._tell(cast, news[cast.topic.symbol], now_ns)
                wake += _again(cast)
        return wake

    def join(self, talk: Talk, topic: Topic, now_ns: int) -> None:
        """From now on this connection listens."""
        cast = self._all.get(topic)
        if cast is None:
            market = self._markets[topic.symbol]
            stream = self._dialect.streams[topic.stream]
            cast = self._all[topic] = Cast(topic, market, stream, market.feed.current)
        if not cast.talks:
            self._begin(cast, now_ns)
        talk.topics.setdefault(topic, Span())
        if cast.stream.greets and not self.is_mute(topic.symbol):
            frame = self._frame(cast, self._greeting(cast, now_ns))
            if frame is not None:
                _send(talk, topic, frame, now_ns)
        if talk not in cast.talks:
            cast.talks.append(talk)

    def part(self, talk: Talk, topic: Topic, now_ns: int) -> None:
        """From now on it does not."""
        if topic in talk.topics:
            talk.parted.append((topic, talk.topics.pop(topic)))
        cast = self._all.get(topic)
        if cast is not None and talk in cast.talks:
            cast.talks.remove(talk)
            if cast.late is not None and not cast.talks:
                cast.late.tell(topic, now_ns, cut=True)
                cast.late = None

    def end(self, symbol: str, now_ns: int) -> None:
        """Nobody listens to a symbol any more."""
        for topic, cast in self._all.items():
            for talk in list(cast.talks) if topic.symbol == symbol else ():
                self.part(talk, topic, now_ns)

    def is_mute(self, symbol: str) -> bool:
        return None in self.muted or symbol in self.muted

    def restart_ids(self, symbol: str) -> None:
        """From now on the ids of a symbol's book start over."""
        self._markets[symbol].feed.restart_ids()
        for topic, cast in self._all.items():
            if topic.symbol == symbol and cast.stream.reset is not None:
                cast.resets += 1
                cast.nth, cast.begins = 0, True

    def _begin(self, cast: Cast, now_ns: int) -> None:
        """Nobody listened: what comes next follows the present state."""
        cast.last = cast.market.feed.current
        cast.skipped.clear()
        cast.untold.clear()
        cast.told = self._ticker(cast, now_ns)
        cast.told_ns = cast.new_ns = now_ns
        cast.begins = False
        cast.nth += 1

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
        for trades in _portions(cast.stream, cast.untold):
            cast.nth += 1
            state = self._state(cast, cast.last, now_ns, trades[-1].at_ns)
            self._cast(cast, state._replace(previous=cast.last, trades=trades), now_ns)
        cast.untold.clear()
        cast.new_ns = now_ns

    def _tell_ticker(self, cast: Cast, now_ns: int) -> None:
        if now_ns - cast.new_ns < cast.stream.every_ns:
            return
        cast.nth += 1
        cast.last = cast.market.feed.current
        ticker = self._ticker(cast, now_ns)
        state = self._state(cast, cast.last, now_ns, ticker.at_ns)
        state = state._replace(previous=cast.last, ticker=ticker, told=cast.told)
        self._cast(cast, state, now_ns)
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
            self._cast(cast, self._state(cast, cast.last, now_ns, cast.last.at_ns), now_ns)

    def _say(self, cast: Cast, top: Top, skipped: tuple[Top, ...], now_ns: int) -> None:
        cast.nth += 1
        state = self._state(cast, top, now_ns, top.at_ns)
        state = state._replace(previous=cast.last, skipped=skipped, is_reset=cast.begins)
        cast.last, cast.begins = top, False
        cast.new_ns = now_ns
        self._cast(cast, state, now_ns)

    def _greeting(self, cast: Cast, now_ns: int) -> State:
        """What one who knows nothing is told at once."""
        clock = self._clock
        state = self._state(cast, cast.last, now_ns, cast.last.at_ns)._replace(is_greeting=True)
        if cast.stream.tells == "trades":
            trades = cast.market.trades.last(BEFORE)
            return state._replace(trades=trades, ts_event_ns=clock.made_ns(trades[-1].at_ns))
        if cast.stream.tells == "ticker":
            ticker = self._ticker(cast, now_ns)
            return state._replace(ticker=ticker, ts_event_ns=clock.made_ns(ticker.at_ns))
        return state

    def _state(self, cast: Cast, top: Top, now_ns: int, at_ns: int) -> State:
        clock = self._clock
        return State(
            cast.market.contract, cast.topic, None, top, cast.nth,
            clock.made_ns(at_ns), clock.there_ns(now_ns), clock.made_ns, resets=cast.resets,
        )  # fmt: skip

    def _ticker(self, cast: Cast, now_ns: int) -> Ticker:
        clock = self._clock
        return cast.market.tickers.at(clock.scenario_ns(now_ns), clock.there_ns(now_ns))

    def _frame(self, cast: Cast, state: State) -> Frame | None:
        again = cast.stream.reset if cast.resets else None
        payload = (again or cast.stream.encode)(state)
        return Frame(payload, self._dialect.wrap(payload)) if payload else None

    def _cast(self, cast: Cast, state: State, now_ns: int) -> None:
        cast.told_ns = now_ns
        if self.is_mute(cast.topic.symbol):
            return
        frame = self._frame(cast, state)
        if frame is None:
            return
        if not self.hurts and cast.late is None:
            _send_all(cast, [frame], now_ns)
        elif cast.late is None:
            _send_all(cast, self._hurt(cast, frame, now_ns), now_ns)
        elif cast.late.until_ns is not None:
            cast.late.frames.append(frame)
        else:
            _send_all(cast, [frame, *cast.late.frames], now_ns)
            cast.late.tell(cast.topic, now_ns)
            cast.late = None

    def _hurt(self, cast: Cast, frame: Frame, now_ns: int) -> list[Frame]:
        """What is sent of a frame that a fault may be waiting for."""
        topic = cast.topic
        hurt = next((h for h in self.hurts if h.fits(topic, cast.stream.tells)), None)
        if hurt is None:
            return [frame]
        hurt.left -= 1
        if not hurt.left:
            self.hurts.remove(hurt)
        if hurt.fault.kind in ("delay", "reorder"):
            cast.late = Late(hurt, cast.numbers, now_ns, held_until(hurt, now_ns), [frame])
            return []
        frames = altered(hurt.fault, frame, self._dialect)
        crc32 = (frames or [frame])[0].crc32
        hurt.done(Struck(topic, cast.numbers, now_ns, now_ns, crc32))
        return frames

    def _release(self, cast: Cast, now_ns: int) -> None:
        """Send what was held back for a while."""
        late = cast.late
        if late is not None and late.until_ns is not None and late.until_ns <= now_ns:
            if not self.is_mute(cast.topic.symbol):
                _send_all(cast, late.frames, now_ns)
            late.tell(cast.topic, now_ns, cut=self.is_mute(cast.topic.symbol))
            cast.late = None


def _portions(stream: Stream, trades: Sequence[Print]) -> Iterator[tuple[Print, ...]]:
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
    if cast.late is not None and cast.late.until_ns is not None:
        moments.append(cast.late.until_ns)
    return moments


def _send_all(cast: Cast, frames: Sequence[Frame], now_ns: int) -> None:
    for frame in frames:
        for talk in cast.talks:
            _send(talk, cast.topic, frame, now_ns)


def _send(talk: Talk, topic: Topic, frame: Frame, now_ns: int) -> None:
    if talk.is_dead or talk.ended is not None:
        return
    span = talk.topics[topic]
    span.first_ns = span.first_ns or now_ns
    span.last_ns = now_ns
    span.frames += 1
    talk.outbox.append(frame)
