"""The three Binance families, imports only; our own values in the shapes that they send."""

import msgspec
import pytest

from perptape.events import MS, Quote
from perptape.venues.binance import BINANCE
from perptape.venues.binance_coinm import BINANCE_COINM
from perptape.venues.binance_spot import BINANCE_SPOT

T1, T2 = 1_700_000_000_001, 1_700_000_000_004
SIX = b'"u":77,"s":"ABCUSDT","b":"20.25","B":"1.5","a":"20.5","A":"3"'
TIMES = b',"T":1700000000001,"E":1700000000004'
FUT = b'{"e":"bookTicker",%b%b}' % (SIX, TIMES)
SPOT = b"{%b}" % SIX
CM = FUT.replace(b"ABCUSDT", b"ABCUSD_PERP")
QUOTE = Quote("ABCUSDT", T1 * MS, T2 * MS, 20.25, 1.5, 20.5, 3.0, 77)
CM_QUOTE = Quote("ABCUSD_PERP", T1 * MS, T2 * MS, 20.25, 1.5, 20.5, 3.0, 77)
SPOT_QUOTE = Quote("ABCUSDT", None, None, 20.25, 1.5, 20.5, 3.0, 77)
SNAPSHOT = b'{"lastUpdateId":7,"E":1,"T":1,"bids":[["1","2"]],"asks":[]}'
DEPTH = b'{"e":"depthUpdate","E":1,"T":1,"s":"A","U":1,"u":2,"pu":0,"b":[["1","0"]],"a":[]}'
SPOT_DEPTH = b'{"e":"depthUpdate","E":1,"s":"A","U":1,"u":2,"b":[["1","0"]],"a":[]}'
PARTIAL = b'{"lastUpdateId":7,"bids":[["1","2"]],"asks":[]}'


def wrapped(data, stream=b"abcusdt@bookTicker"):
    return b'{"stream":"%b","data":%b}' % (stream, data)


ST2 = FUT[:-1] + b',"ps":"ABCUSDT","st":2}'


@pytest.mark.parametrize(
    ("venue", "frame", "quotes"),
    [
        pytest.param(BINANCE, wrapped(FUT), [QUOTE], id="usdm-combined"),
        pytest.param(BINANCE, FUT, [QUOTE], id="usdm-bare"),
        pytest.param(
            BINANCE, FUT[:-1] + b',"ps":"ABCUSDT","st":1}', [QUOTE], id="usdm-2026-keys-added"
        ),
        pytest.param(BINANCE, wrapped(ST2, b"!bookTicker"), [], id="usdm-all-market-has-coin-m"),
        pytest.param(
            BINANCE, wrapped(FUT, b"!bookTicker"), [QUOTE], id="usdm-all-market-stream-name"
        ),
        pytest.param(
            BINANCE, wrapped(FUT).replace(b'":', b'": '), [QUOTE], id="usdm-spaces-lose-nothing"
        ),
        pytest.param(
            BINANCE, FUT.replace(b'":', b'": '), [QUOTE], id="usdm-bare-spaces-lose-nothing"
        ),
        pytest.param(BINANCE, wrapped(DEPTH, b"a@depth"), [], id="usdm-depth"),
        pytest.param(BINANCE, DEPTH, [], id="usdm-bare-depth"),
        pytest.param(BINANCE, SNAPSHOT, [], id="usdm-rest-snapshot-line"),
        pytest.param(BINANCE, b'{"result":null,"id":1}', [], id="usdm-ack"),
        pytest.param(BINANCE, b'[{"e":"24hrTicker","s":"A"}]', [], id="usdm-array-of-all"),
        pytest.param(BINANCE_COINM, wrapped(CM), [CM_QUOTE], id="coinm-combined"),
        pytest.param(BINANCE_COINM, CM, [CM_QUOTE], id="coinm-bare"),
        pytest.param(BINANCE_COINM, SNAPSHOT, [], id="coinm-rest-snapshot-line"),
        pytest.param(BINANCE_COINM, wrapped(DEPTH, b"a@depth"), [], id="coinm-depth"),
        pytest.param(BINANCE_COINM, b'[{"e":"x"}]', [], id="coinm-array-of-all"),
        pytest.param(
            BINANCE_COINM, wrapped(CM).replace(b'":', b'": '), [CM_QUOTE], id="coinm-spaces"
        ),
        pytest.param(BINANCE_COINM, CM.replace(b'":', b'": '), [CM_QUOTE], id="coinm-bare-spaces"),
        pytest.param(BINANCE_SPOT, wrapped(SPOT), [SPOT_QUOTE], id="spot-has-no-time"),
        pytest.param(BINANCE_SPOT, SPOT, [SPOT_QUOTE], id="spot-bare-has-no-event-name"),
        pytest.param(
            BINANCE_SPOT, wrapped(SPOT).replace(b'":', b'": '), [SPOT_QUOTE], id="spot-spaces"
        ),
        pytest.param(BINANCE_SPOT, wrapped(SPOT_DEPTH, b"a@depth"), [], id="spot-depth"),
        pytest.param(BINANCE_SPOT, SPOT_DEPTH, [], id="spot-bare-depth"),
        pytest.param(BINANCE_SPOT, PARTIAL, [], id="spot-rest-snapshot-line"),
        pytest.param(BINANCE_SPOT, b'[{"e":"x"}]', [], id="spot-array-of-all"),
    ],
)
def test_decode(venue, frame, quotes):
    assert venue.decode(frame) == quotes


@pytest.mark.parametrize("venue", [BINANCE, BINANCE_COINM, BINANCE_SPOT])
@pytest.mark.parametrize(
    "change",
    [(b'"20.25"', b'"0"'), (b'"20.25"', b'"nan"'), (b'"20.25"', b"[]"), (b'"s":"ABCUSDT",', b"")],
)
def test_decode_refuses(venue, change):
    with pytest.raises(msgspec.MsgspecError):
        venue.decode(wrapped(FUT.replace(*change)))


@pytest.mark.parametrize(
    ("venue", "symbol", "name"),
    [
        (BINANCE, "BTCUSDT", "BTC-USDT-PERP"),
        (BINANCE, "1000SHIBUSDC", "SHIB-USDC-PERP"),
        (BINANCE, "1MBABYDOGEUSDT", "BABYDOGE-USDT-PERP"),
        (BINANCE, "BTCUSDT_260327", None),
        (BINANCE, "BTCUSD_PERP", None),
        (BINANCE_COINM, "BTCUSD_PERP", "BTC-USD-PERP"),
        (BINANCE_COINM, "BTCUSD_240927", None),
        (BINANCE_COINM, "BTCUSDT", None),
        (BINANCE_SPOT, "BTCUSDT", "BTC-USDT-SPOT"),
        (BINANCE_SPOT, "ETHBTC", "ETH-BTC-SPOT"),
        (BINANCE_SPOT, "BTCFDUSD", "BTC-FDUSD-SPOT"),
        (BINANCE_SPOT, "1000SATSUSDT", "SATS-USDT-SPOT"),
        (BINANCE_SPOT, "牛来USDT", None),
    ],
)
def test_name_without_a_list(venue, symbol, name):
    assert venue.instrument_name(symbol) == name


ROW = {
    "symbol": "BTCUSDT",
    "contractType": "PERPETUAL",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "marginAsset": "USDT",
    "filters": [
        {"filterType": "PRICE_FILTER", "tickSize": "0.10"},
        {"filterType": "LOT_SIZE", "stepSize": "0.001"},
    ],
}


def listed(**changes):
    body = msgspec.json.encode({"symbols": [ROW | changes]})
    return BINANCE.read_instruments(body, 9).instruments


def test_exchange_info():
    (found,) = listed()
    assert (found.name, found.tick_size, found.lot_size) == ("BTC-USDT-PERP", 0.1, 0.001)
    assert (found.status, found.funding_interval_h, found.ts_seen) == ("trading", None, 9)


def test_1000sats_counts_single_coins():
    (found,) = listed(symbol="1000SATSUSDT", baseAsset="1000SATS")
    assert (found.name, found.contract_size, found.lot_size) == ("SATS-USDT-PERP", 1000, 1)


def test_filters_may_be_missing_and_status_is_told():
    (found,) = listed(filters=[], status="SETTLING", contractType="TRADIFI_PERPETUAL")
    assert (found.tick_size, found.lot_size, found.status) == (None, None, "SETTLING")


def test_quarterly_contracts_are_left_out():
    assert listed(contractType="CURRENT_QUARTER") == []
