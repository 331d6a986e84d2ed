"""Tables of a made-up tape with every channel, of which all is known: what a report must say."""

import numpy as np
import pyarrow as pa

from perptape import tables
from perptape.events import NS
from perptape.schemas import SCHEMAS, TIME
from perptape.tables import Imported, Manifest, PartitionWriter

T0 = 1_723_075_200 * NS
MS = NS // 1000
SECONDS, STEP_NS = 90, 100 * MS
NAMES = {"bybit": 60_000.0, "gateio": 59_999.0, "htx": 60_000.0}
"""Venue and mid."""
OPEN = 10
"""Each so many seconds, from the fifth on, bybit's bid stands 20 bps higher for half a second."""
EPISODES = 9
FUNDING = {"bybit": 2e-5, "gateio": -1e-5, "htx": 1e-5}
"""Per hour."""
DAY = {"base": "BTC", "date": "2024-08-08"}


def moments():
    return T0 + STEP_NS * np.arange(10 * SECONDS, dtype=np.int64)


def bids(venue):
    steps = np.arange(10 * SECONDS)
    is_open = (steps % (10 * OPEN) >= 50) & (steps % (10 * OPEN) < 55)
    wobble = np.round(np.cumsum(np.random.default_rng(3).normal(0, 0.3, len(steps))), 1)
    mid = NAMES[venue] + wobble
    return mid - 0.5 + (is_open * 120.0 if venue == "bybit" else 0.0), mid + 0.5


def write(root):
    """Make the folder of a tape that has tables alone."""
    made = root / "tables"
    made.mkdir(parents=True)
    ts = moments()
    rows = {
        "quotes": [row for v in NAMES for row in _quotes(v, ts)],
        "books": [row for v in NAMES for row in _books(v, ts)],
        "funding": [row for v in NAMES for row in _funding(v, ts)],
        "ledger": [row for v in NAMES for row in _ledger(v, ts)],
        "instruments": [
            {"venue": v, "instrument": "BTC-USDT-PERP", "symbol": "BTCUSDT", "base": "BTC",
             "quote": "USDT", "settle": "USDT", "kind": "linear", "contract_size": 1.0,
             "tick_size": 0.1, "lot_size": 0.001, "ts_seen": T0}
            for v in NAMES
        ],
    }  # fmt: skip
    files = [_file(made, table, of) for table, of in rows.items()]
    source = Imported("made-up.csv", "0" * 64, len(rows["quotes"]), T0, int(ts[-1]), "{}")
    tables.add(made, made, files, Manifest("test", [], imports=[source]))
    return root


def _file(made, table, rows):
    keys = {"date": DAY["date"]} if table == "instruments" else DAY
    time = {"ledger": "ts_start", "instruments": "ts_seen"}.get(table, "ts_recv")
    rows.sort(key=lambda row: row[time])
    schema = SCHEMAS[table]
    columns = {}
    for field in schema:
        values = [row.get(field.name) for row in rows]
        kind = pa.int64() if field.type == TIME else None
        array = pa.array(values, type=kind or _plain(field.type))
        columns[field.name] = array.cast(field.type)
    writer = PartitionWriter(made, table, **keys)
    writer.write(pa.table(columns))
    return writer.close()


def _plain(kind):
    return pa.string() if pa.types.is_dictionary(kind) else kind


def _market(venue):
    return {"venue": venue, "instrument": "BTC-USDT-PERP"}


def _quotes(venue, ts):
    bid, ask = bids(venue)
    for k, at in enumerate(ts.tolist()):
        yield {**_market(venue), "seq": k, "ts_recv": at, "ts_event": at - 20 * MS,
               "bid_price": bid[k], "bid_size": 1.0,
               "ask_price": ask[k], "ask_size": 1.0}  # fmt: skip


def _books(venue, ts):
    bid, ask = bids(venue)
    for k, at in enumerate(ts.tolist()):
        for side, best, sign in (("bid", bid[k], -1), ("ask", ask[k], 1)):
            for level in range(3):
                yield {**_market(venue), "seq": k, "ts_recv": at, "side": side,
                       "price": round(best + sign * 10 * level, 1), "size": 1.0,
                       "update_id": k, "is_snapshot": True}  # fmt: skip


def _funding(venue, ts):
    for at in ts[::50].tolist():
        yield {**_market(venue), "seq": 0, "ts_recv": at, "rate": FUNDING[venue],
               "interval_h": 8.0, "ts_funding": T0 + 8 * 3600 * NS,
               "is_settled": False}  # fmt: skip


def _ledger(venue, ts):
    for channel in ("quotes", "books", "funding"):
        yield {**_market(venue), "channel": channel, "ts_start": T0, "ts_end": int(ts[-1]),
               "state": "trusted", "reason": "start"}  # fmt: skip
