"""HTX (Huobi), USDT-margined linear swaps.

Odd here: every frame is one gzip member (the wire inflates it; we read the text). The server
pings in JSON every 5 s and closes after four unanswered. Data may come before its ack; a
suspended contract is acked and then silent. Sizes are contracts. Two channels can feed quotes:
``bbo``, and the notebook's ``depth.step0``, whose first level a side is taken.
"""

import re
from collections.abc import Sequence

import msgspec

from perptape.events import MS, NS, Event, Quote
from perptape.fees import fee_of
from perptape.instruments import Instrument, canonical, step
from perptape.venues.venue import (
    Accepted,
    Alive,
    Complaint,
    Control,
    Heartbeat,
    Id,
    Listing,
    Ms,
    Price,
    Qty,
    Rejected,
    Topic,
    Venue,
)

DATA = b'"tick":'
BBO = b'.bbo"'
STEP0 = b'.depth.step0"'
SYMBOL = re.compile(r"([A-Z0-9]{1,32})-(USDT)")
STATUS = {
    0: "delisted",
    1: "trading",
    2: "pending",
    3: "suspended",
    4: "suspending",
    5: "in settlement",
    6: "delivering",
    7: "settlement completed",
    8: "delivered",
}
PING_LEN = 32  # an echo is bounded, whatever the other side sends


class Bbo(msgspec.Struct, frozen=True):
    """Best bid and ask, ``[price, contracts]``; a side without orders is ``null``."""

    mrid: Id
    id: int
    bid: tuple[Price, Qty] | None
    ask: tuple[Price, Qty] | None
    ts: Ms
    version: int
    ch: str


class BboPush(msgspec.Struct, frozen=True):
    """A frame of ``bbo``, keys in the venue's order."""

    ch: str
    ts: Ms
    tick: Bbo


class Depth(msgspec.Struct, frozen=True):
    """A whole book of up to 150 levels a side, best first; only the best is ever parsed."""

    mrid: Id
    id: int
    bids: msgspec.Raw
    asks: msgspec.Raw
    ts: Ms
    version: int
    ch: str


class DepthPush(msgspec.Struct, frozen=True):
    """A frame of ``depth.step0``."""

    ch: str
    ts: Ms
    tick: Depth


class Head(msgspec.Struct, frozen=True):
    """What every frame can be sorted by."""

    ch: str = ""


class Answer(msgspec.Struct, frozen=True, rename={"err_msg": "err-msg", "err_code": "err-code"}):
    """A ping, an ack or an error of the market socket."""

    ping: msgspec.Raw = msgspec.Raw()
    id: str = ""
    status: str = ""
    subbed: str = ""
    ts: int = 0
    err_code: str | int = ""
    err_msg: str = ""


class Request(msgspec.Struct, frozen=True):
    """What the client says."""

    sub: str
    id: str


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A row of swap_contract_info."""

    symbol: str
    contract_code: str
    contract_size: float
    price_tick: float
    contract_status: int
    settlement_period: str = ""
    """Hours; absent in 2022."""
    business_type: str = "swap"
    trade_partition: str = "USDT"


class Rest(msgspec.Struct, frozen=True, rename={"err_msg_": "err-msg"}):
    """The envelope of every REST answer; errors come in two spellings."""

    status: str | int
    data: list[Contract] | None = None
    ts: int = 0
    err_msg: str = ""
    err_msg_: str = ""
    error: str = ""


heads = msgspec.json.Decoder(Head)
bbos = msgspec.json.Decoder(BboPush)
depths = msgspec.json.Decoder(DepthPush)
levels = msgspec.json.Decoder(tuple[Price, Qty])
answers = msgspec.json.Decoder(Answer)
rests = msgspec.json.Decoder(Rest)


def topic(channel: str, stream: str, symbol: str) -> Topic:
    key = f"market.{symbol}.{stream}"
    return Topic(channel, stream, symbol, key, (f'"ch":"{key}"'.encode(), DATA))


def subscribe(topics: Sequence[Topic], ts: int) -> list[bytes]:
    del ts
    return [msgspec.json.encode(Request(sub=topic.key, id=topic.key)) for topic in topics]


def is_data(payload: bytes) -> bool:
    return DATA in payload


def control(payload: bytes) -> Control | None:
    answer = answers.decode(payload)
    if echo := bytes(answer.ping):
        return Alive(b'{"pong":%b}' % echo) if len(echo) <= PING_LEN else None
    if answer.status == "error":
        reason = answer.err_msg or str(answer.err_code)
        return Rejected((answer.id,), reason) if answer.id else Complaint(reason)
    return Accepted((answer.subbed,)) if answer.subbed else None


def decode(payload: bytes) -> list[Event]:
    if DATA in payload:
        if BBO in payload:
            return [_bbo(bbos.decode(payload))]
        if STEP0 in payload:
            return [_step0(depths.decode(payload))]
    channel = heads.decode(payload).ch.partition(".")[2].partition(".")[2]
    if channel == "bbo":
        return [_bbo(bbos.decode(payload))]
    if channel == "depth.step0":
        return [_step0(depths.decode(payload))]
    return []


def _bbo(push: BboPush) -> Quote:
    tick = push.tick
    bid_price, bid_qty = tick.bid or (None, None)
    ask_price, ask_qty = tick.ask or (None, None)
    _, symbol, _ = push.ch.split(".", 2)
    ts_event, ts_send = tick.ts * MS, push.ts * MS
    return Quote(symbol, ts_event, ts_send, bid_price, bid_qty, ask_price, ask_qty, tick.mrid)


def _step0(push: DepthPush) -> Quote:
    tick = push.tick
    bid_price, bid_qty = _best(bytes(tick.bids)) or (None, None)
    ask_price, ask_qty = _best(bytes(tick.asks)) or (None, None)
    _, symbol, _ = push.ch.split(".", 2)
    ts_event, ts_send = tick.ts * MS, push.ts * MS
    return Quote(symbol, ts_event, ts_send, bid_price, bid_qty, ask_price, ask_qty, tick.mrid)


def _best(side: bytes) -> tuple[float, float] | None:
    if side in {b"[]", b"null"}:
        return None
    return levels.decode(side[1 : side.index(b"]") + 1])


def instrument_name(symbol: str) -> str | None:
    match = SYMBOL.fullmatch(symbol)
    return f"{match[1]}-{match[2]}-PERP" if match else None


def read_instruments(body: bytes, ts_seen: int) -> Listing:
    rows = _ok(body).data or []
    found = (_instrument(row, ts_seen) for row in rows if row.business_type == "swap")
    return Listing([instrument for instrument in found if instrument])


def _instrument(row: Contract, ts_seen: int) -> Instrument | None:
    fee = fee_of("htx")
    return canonical(
        Instrument(
            venue="htx",
            name="",
            symbol=row.contract_code,
            base=row.contract_code.removesuffix(f"-{row.trade_partition}"),
            quote=row.trade_partition,
            settle=row.trade_partition,
            kind="linear",
            contract_size=row.contract_size,
            price_unit=1.0,
            tick_size=step(row.price_tick),
            lot_size=1.0,
            taker_fee=fee.taker,
            maker_fee=fee.maker,
            funding_interval_h=step(row.settlement_period),
            status=STATUS.get(row.contract_status, str(row.contract_status)),
            ts_seen=ts_seen,
        ),
        bundles=False,
    )


def read_time(body: bytes) -> int:
    return _ok(body).ts * MS


def _ok(body: bytes) -> Rest:
    answer = rests.decode(body)
    if answer.status != "ok":
        reason = answer.err_msg or answer.err_msg_ or answer.error
        raise ValueError(f"{answer.status} {reason}".strip())
    return answer


HTX = Venue(
    name="htx",
    docs="https://huobiapi.github.io/docs/usdt_swap/v1/en/",
    streams={"quotes": ("bbo", "depth.step0")},
    decode=decode,
    instrument_name=instrument_name,
    url="wss://api.hbdm.com/linear-swap-ws",
    rest="https://api.hbdm.com",
    topic=topic,
    subscribe=subscribe,
    subscribe_every_ns=30 * MS,
    topics_per_wire=150,
    is_data=is_data,
    data_mark=DATA,
    control=control,
    heartbeat=Heartbeat(silence_ns=15 * NS),
    first_data_ns=30 * NS,
    inflates=True,
    instruments_path="/linear-swap-api/v1/swap_contract_info?business_type=swap",
    read_instruments=read_instruments,
    time_path="/api/v1/timestamp",
    read_time=read_time,
)
