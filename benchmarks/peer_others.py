"""Other projects as clients of the comparison, pointed at the loopback server.

Each is used through its public interface, as its user would.
"""

import asyncio
import time
from collections.abc import Callable

from peer_job import FIRST_ID, Job, Ran, Watch, Without

FIRST_S, NEXT_S = 5.0, 1.0
"""So long without an update, and there are no more."""
STD, PAIR = "BTC-USDT-PERP", "BTC/USDT:USDT"


# cryptofeed: the frames go through its parser, whether they are recorded or not

CRYPTOFEED = {  # its class, its symbol, its channel
    "binance": ("BinanceFutures", "BTCUSDT", "ticker"),
    "bybit": ("Bybit", "BTCUSDT", "l2_book"),
    "htx": ("HTXSwap", "BTC-USDT", "l2_book"),
    "gateio": ("GateFutures", "BTC_USDT", "ticker"),
    "bitget": ("Bitget", "BTCUSDT_USDT-FUTURES", "l1_book"),
}


def record_cryptofeed(job: Job) -> Ran:
    """``FeedHandler(record=…)`` to a pcap.zst, its own recording facility."""
    from cryptofeed.capture import read_capture  # noqa: PLC0415

    path = job.folder / "cryptofeed.pcap.zst"
    ran = _cryptofeed(job, str(path), _count)
    ran.disk_b, watch = path.stat().st_size, Watch(job)
    for session in read_capture(str(path)).ws:
        watch.stamps.extend(ns for ns, way, _ in session.messages if way == "in")
    ran.got, ran.latency_us = len(watch.stamps), None
    return watch.with_latency(ran)


def quotes_cryptofeed(job: Job) -> Ran:
    """Its ticker, or its book where it has no other best prices, in an async callback."""
    return _cryptofeed(job, None, _count if job.log is None else _note)


def _cryptofeed(job: Job, record: str | None, taker: Callable[[Watch], Callable[[], None]]) -> Ran:
    from cryptofeed import FeedHandler  # noqa: PLC0415

    handler = FeedHandler(config={"uvloop": True, "log": {"disabled": True}}, record=record)
    watch = Watch(job)
    take, seen = taker(watch), 0

    async def callback(_quote: object, _receipt: float) -> None:
        nonlocal seen
        take()
        seen += 1
        if seen >= job.count:
            handler.request_stop()

    handler.add_feed(_feed(job, callback))
    watch.begin()
    handler.run(install_signal_handlers=False)
    return watch.stop()


def _feed(job: Job, callback: Callable[..., object]) -> object:
    import ssl  # noqa: PLC0415

    from cryptofeed import exchanges  # noqa: PLC0415
    from cryptofeed.connection import WebsocketEndpoint  # noqa: PLC0415
    from cryptofeed.symbols import Symbols  # noqa: PLC0415

    name, symbol, channel = CRYPTOFEED[job.venue]
    base, options = getattr(exchanges, name), {"compression": None}
    if job.ca is not None:
        options["ssl"] = ssl.create_default_context(cafile=job.ca)
    secure = job.url.replace("ws://", "wss://").removesuffix("/stream")

    class Here(base):
        """It takes only wss:// addresses; without TLS the connection is told another."""

        websocket_endpoints = (WebsocketEndpoint(secure, options=options),)

        def connect(self) -> list:
            found = super().connect()
            for connection, _, _ in found if job.ca is None else ():
                connection.address = connection.address.replace("wss://", "ws://")
            return found

    info = {"instrument_type": {STD: "perpetual"}, "tick_size": {STD: "0.1"}}
    Symbols.set(base.id, {STD: symbol}, info)
    return Here(symbols=[STD], channels=[channel], callbacks={channel: callback}, timeout=-1)


# ccxt Pro: gives the newest state to whoever waits, so a flood is thinned out

CCXT = {  # its class, its id of the market, where its URL goes
    "binance": ("binanceusdm", "BTCUSDT", lambda u: {"ws": {"future": u, "linear": u}}),
    "bybit": ("bybit", "BTCUSDT", lambda u: {"ws": {"public": {"linear": u}}}),
    "gateio": ("gate", "BTC_USDT", lambda u: {"swap": {"usdt": u}}),
}


def quotes_ccxt(job: Job) -> Ran:
    """``watch_bids_asks`` in a loop."""
    if job.venue not in CCXT:
        raise Without(f"ccxt has no watch_bids_asks on this stream of {job.venue}")
    import uvloop  # noqa: PLC0415

    return uvloop.run(_ccxt(job))


async def _ccxt(job: Job) -> Ran:
    import ccxt.pro  # noqa: PLC0415

    name, symbol, at = CCXT[job.venue]
    client = getattr(ccxt.pro, name)({"enableRateLimit": False, "urls": {"api": at(job.url)}})
    client.cafile = job.ca and str(job.ca)
    client.set_markets([_ccxt_market(client, symbol)])
    watch = Watch(job)
    watch.numbers, last = type(watch.stamps)("q"), FIRST_ID + job.count - 1
    watch.begin()
    try:
        while True:
            patience_s = NEXT_S if watch.stamps else FIRST_S
            told = await asyncio.wait_for(client.watch_bids_asks([PAIR]), patience_s)
            info = told[PAIR]["info"]
            watch.stamps.append(time.time_ns())
            if job.venue == "binance":
                watch.numbers.append(int(info["u"]) - FIRST_ID)
                if int(info["u"]) == last:
                    break
    except TimeoutError:
        pass  # its last update was the last
    ran = watch.stop()
    ran.wall_s -= 0 if job.venue == "binance" else NEXT_S
    await client.close()
    return ran


def _ccxt_market(client: object, symbol: str) -> dict:
    said = {"id": symbol, "symbol": PAIR, "base": "BTC", "quote": "USDT", "settle": "USDT"}
    said |= {"type": "swap", "spot": False, "swap": True, "contract": True, "contractSize": 1.0}
    said |= {"linear": True, "inverse": False, "active": True, "lowercaseId": symbol.lower()}
    return client.safe_market_structure(said | {"precision": {"price": 0.1, "amount": 0.001}})


# NautilusTrader: its Binance adapter alone, what it gives the data engine is the callback


def quotes_nautilus(job: Job) -> Ran:
    if job.venue != "binance":
        raise Without(f"nautilus_trader is compared on binance alone, not {job.venue}")
    if job.ca is not None:
        raise Without("nautilus_trader's websocket cannot be told an authority of one's own")
    import uvloop  # noqa: PLC0415

    return uvloop.run(_nautilus(job))


async def _nautilus(job: Job) -> Ran:
    from nautilus_trader.adapters.binance.config import BinanceDataClientConfig  # noqa: PLC0415
    from nautilus_trader.adapters.binance.futures import data, providers  # noqa: PLC0415
    from nautilus_trader.adapters.binance.http.client import BinanceHttpClient  # noqa: PLC0415
    from nautilus_trader.cache.cache import Cache  # noqa: PLC0415
    from nautilus_trader.common.component import LiveClock, MessageBus  # noqa: PLC0415
    from nautilus_trader.core.uuid import UUID4  # noqa: PLC0415
    from nautilus_trader.data.messages import SubscribeQuoteTicks  # noqa: PLC0415
    from nautilus_trader.model.identifiers import ClientId, InstrumentId, TraderId  # noqa: PLC0415

    loop, clock, done = asyncio.get_running_loop(), LiveClock(), asyncio.Event()
    http = BinanceHttpClient(clock, None, None, "http://127.0.0.1:1")
    bus, watch = MessageBus(TraderId("BENCHMARK-001"), clock), Watch(job)
    take, seen = _count(watch) if job.log is None else _note(watch), 0

    def callback(_quote: object) -> None:
        nonlocal seen
        take()
        seen += 1
        if seen >= job.count:
            loop.call_soon_threadsafe(done.set)

    bus.register("DataEngine.process", callback)
    client = data.BinanceFuturesDataClient(
        *(loop, http, bus, Cache(), clock, providers.BinanceFuturesInstrumentProvider(http, clock)),
        base_url_ws=job.url.removesuffix("/stream"),
        config=BinanceDataClientConfig(),
    )
    market = InstrumentId.from_str("BTCUSDT-PERP.BINANCE")
    watch.begin()
    client.subscribe_quote_ticks(
        SubscribeQuoteTicks(market, ClientId("BINANCE"), None, UUID4(), clock.timestamp_ns())
    )
    await done.wait()
    return watch.stop()


def _count(watch: Watch) -> Callable[[], None]:
    def count() -> None:
        watch.got += 1

    return count


def _note(watch: Watch) -> Callable[[], None]:
    stamp, now = watch.stamps.append, time.time_ns

    def note() -> None:
        stamp(now())

    return note


CLIENTS = {
    ("record", "cryptofeed"): record_cryptofeed,
    ("quotes", "cryptofeed"): quotes_cryptofeed,
    ("quotes", "ccxt"): quotes_ccxt,
    ("quotes", "nautilus_trader"): quotes_nautilus,
}
