"""The columns of each table."""

import pyarrow as pa

TIME = pa.timestamp("ns", tz="UTC")
ENUM = pa.dictionary(pa.int32(), pa.string())

ORIGIN = [
    ("venue", ENUM),
    ("instrument", ENUM),
    ("seq", pa.uint64()),
    ("ts_recv", TIME),
    ("ts_event", TIME),
    ("ts_send", TIME),
]
SCHEMAS = {
    "quotes": pa.schema(
        [
            *ORIGIN,
            ("bid_price", pa.float64()),
            ("bid_size", pa.float64()),
            ("ask_price", pa.float64()),
            ("ask_size", pa.float64()),
            ("update_id", pa.int64()),
        ]
    ),
    "trades": pa.schema(
        [
            *ORIGIN,
            ("price", pa.float64()),
            ("size", pa.float64()),
            ("side", ENUM),
            ("trade_id", pa.string()),
        ]
    ),
    "books": pa.schema(
        [
            *ORIGIN,
            ("side", ENUM),
            ("price", pa.float64()),
            ("size", pa.float64()),
            ("update_id", pa.int64()),
            ("is_snapshot", pa.bool_()),
        ]
    ),
    "marks": pa.schema(
        [
            *ORIGIN,
            ("mark_price", pa.float64()),
            ("index_price", pa.float64()),
            ("open_interest", pa.float64()),
        ]
    ),
    "funding": pa.schema(
        [
            *ORIGIN,
            ("rate", pa.float64()),
            ("interval_h", pa.float64()),
            ("ts_funding", TIME),
            ("is_settled", pa.bool_()),
        ]
    ),
    "ledger": pa.schema(
        [
            ("venue", ENUM),
            ("instrument", ENUM),
            ("channel", ENUM),
            ("ts_start", TIME),
            ("ts_end", TIME),
            ("state", ENUM),
            ("reason", ENUM),
            ("detail", pa.string()),
        ]
    ),
    "instruments": pa.schema(
        [
            ("venue", ENUM),
            ("instrument", ENUM),
            ("symbol", pa.string()),
            ("base", pa.string()),
            ("quote", pa.string()),
            ("settle", pa.string()),
            ("kind", ENUM),
            ("contract_size", pa.float64()),
            ("price_unit", pa.float64()),
            ("tick_size", pa.float64()),
            ("lot_size", pa.float64()),
            ("taker_fee", pa.float64()),
            ("maker_fee", pa.float64()),
            ("funding_interval_h", pa.float64()),
            ("status", ENUM),
            ("ts_seen", TIME),
        ]
    ),
}
TIME_OF = {"ledger": "ts_start", "instruments": "ts_seen"}
"""The column that a table is ordered by, where it is not ``ts_recv``."""
HEARD = ("quotes", "trades", "books", "marks", "funding")
"""The tables that are made of events, one for each channel."""
DATED_COINS = (*HEARD, "ledger")
"""Tables that are cut by coin and day; the others by day only."""
