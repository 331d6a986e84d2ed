"""Three Binance markets recorded at once: every pair against polars' own as-of join."""

import gzip
from itertools import permutations

import msgspec
import polars as pl
import pytest

from perptape.measures import gaps

from .tape import STEP_NS, ledger, quotes

FILES = {
    "binance:BTC-USDT-PERP": "usdm",
    "binance_coinm:BTC-USD-PERP": "cm",
    "binance_spot:BTC-USDT-SPOT": "spot",
}


class Body(msgspec.Struct):
    b: str
    a: str


class Envelope(msgspec.Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


@pytest.fixture(scope="module")
def rows(shared):
    """(ts, market, bid, ask) of every bookTicker, in order of receipt."""
    found = []
    for market, folder in FILES.items():
        root = shared / "data" / "binance-3markets-btc-20240808" / folder
        if not root.is_dir():
            pytest.skip("the recording of three Binance markets is not on this machine")
        for path in sorted(root.glob("*.gz")):
            found += _read(market, gzip.decompress(path.read_bytes()))
    return sorted(found, key=lambda row: row[0])


def _read(market, text):
    for line in text.splitlines():
        ts, _, payload = line.partition(b" ")
        if b"@bookTicker" in payload[:60]:
            body = msgspec.json.decode(msgspec.json.decode(payload, type=Envelope).data, type=Body)
            yield int(ts), market, float(body.b), float(body.a)


def test_all_six_pairs_agree_with_an_as_of_join(rows):
    table = quotes(rows)
    spans = {m: [r[0] for r in rows if r[1] == m] for m in FILES}
    trusted = [(m, ts[0], ts[-1]) for m, ts in spans.items()]
    found = gaps(table, ledger(trusted))
    assert len(found.found_pairs) == 6
    frame = table.with_columns(ts=pl.col("ts_recv").cast(pl.Int64))
    for sell, buy in permutations(FILES, 2):
        start = max(spans[sell][0], spans[buy][0])
        end = min(spans[sell][-1], spans[buy][-1])
        points = range(-(-start // STEP_NS) * STEP_NS, end + 1, STEP_NS)
        grid = _gap(pl.DataFrame({"ts": points}), frame, sell, buy)
        ours = next(p for p in found.found_pairs if (p.sell, p.buy) == (sell, buy))
        assert ours.trusted_s == pytest.approx((end - start) / 1e9)
        for name, value in _spread(grid).items():
            assert getattr(ours.grid, name) == pytest.approx(value, abs=1e-3), (sell, buy, name)
        own = pl.concat_str("venue", pl.lit(":"), "instrument").is_in([sell, buy])
        inside = pl.col("ts").is_between(start, end)
        at = _gap(frame.filter(own & inside).select("ts").unique().sort("ts"), frame, sell, buy)
        for name, value in _spread(at).items():
            assert getattr(ours.gap_bps, name) == pytest.approx(value, abs=1e-3), (sell, buy, name)
    coinm = next(
        p for p in found.found_pairs if p.sell.startswith("binance_coinm") and "PERP" in p.buy
    )
    assert coinm.grid.median == pytest.approx(0.9233, abs=1e-3)
    assert not coinm.same_quote


def _gap(points, frame, sell, buy):
    for market, side in ((sell, "bid_price"), (buy, "ask_price")):
        venue, instrument = market.split(":")
        own = (pl.col("venue") == venue) & (pl.col("instrument") == instrument)
        last = frame.filter(own).unique("ts", keep="last", maintain_order=True)
        points = points.join_asof(last.select("ts", side).sort("ts"), on="ts")
    gap = (pl.col("bid_price") / pl.col("ask_price") - 1) * 1e4
    return points.select(gap.alias("gap")).drop_nulls()["gap"]


def _spread(gap):
    return {
        "mean": gap.mean(),
        "min": gap.min(),
        "max": gap.max(),
        "p5": gap.quantile(0.05, "linear"),
        "p95": gap.quantile(0.95, "linear"),
        "median": gap.median(),
        "share_positive": (gap > 0).mean(),
    }
