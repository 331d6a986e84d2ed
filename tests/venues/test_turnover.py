"""What each venue says it turned over in 24 h: in quote currency, one side of each trade."""

import json
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from perptape.decode import PARSER_ERRORS
from perptape.events import NS
from perptape.sims import VENUES as SIMS
from perptape.sims.exchange import Exchange
from perptape.sims.scenario import Scenario
from perptape.venues import LIVE, VENUES

PAGES = Path(__file__).resolve().parents[2] / "docs" / "venues"
T0 = 1_800_000_000 * NS

GOLDEN = [
    pytest.param(
        "bitget",
        b'{"code":"00000","msg":"success","requestTime":1,"data":['
        b'{"symbol":"BTCUSDT","baseVolume":"2","quoteVolume":"120.5","usdtVolume":"120.5"},'
        b'{"symbol":"NEWUSDT","baseVolume":"","quoteVolume":""},{"symbol":"ODDUSDT"}]}',
        {"BTCUSDT": 120.5},
        id="bitget-a-new-one-has-none",
    ),
    pytest.param(
        "htx",
        b'{"status":"ok","ts":1,"ticks":['
        b'{"contract_code":"BTC-USDT","amount":"4","vol":"4000","trade_turnover":"250.5"},'
        b'{"contract_code":"ETH-USDT","trade_turnover":0,"ask":null},'
        b'{"contract_code":"OLD-USDT"}]}',
        {"BTC-USDT": 125.25, "ETH-USDT": 0.0},
        id="htx-counts-both-sides",
    ),
    pytest.param(
        "gateio",
        b'[{"contract":"BTC_USDT","volume_24h":"20000","volume_24h_base":"2",'
        b'"volume_24h_quote":"120","volume_24h_settle":"120"},'
        b'{"contract":"NEW_USDT","volume_24h_quote":""}]',
        {"BTC_USDT": 120.0},
        id="gateio-not-contracts",
    ),
    pytest.param(
        "bybit",
        b'{"retCode":0,"retMsg":"OK","result":{"category":"linear","list":['
        b'{"symbol":"BTCUSDT","volume24h":"2","turnover24h":"120.5"},'
        b'{"symbol":"NEWUSDT","turnover24h":""}]}}',
        {"BTCUSDT": 120.5},
        id="bybit-not-coins",
    ),
    pytest.param(
        "binance",
        b'[{"symbol":"BTCUSDT","volume":"2","quoteVolume":"120.50","count":9},'
        b'{"symbol":"NEWUSDT"}]',
        {"BTCUSDT": 120.5},
        id="binance",
    ),
    pytest.param(
        "okx",
        b'{"code":"0","msg":"","data":['
        b'{"instId":"BTC-USDT-SWAP","last":"60.5","vol24h":"200","volCcy24h":"2"},'
        b'{"instId":"UNI-USD-SWAP","last":"5","vol24h":"10","volCcy24h":"20"},'
        b'{"instId":"NEW-USDT-SWAP","last":"","vol24h":"0","volCcy24h":"0"}]}',
        {"BTC-USDT-SWAP": 121.0, "UNI-USD-SWAP": 100.0},
        id="okx-coins-at-the-last-price-contracts-and-inverse-alike",
    ),
    pytest.param(
        "hyperliquid",
        b'[{"universe":[{"szDecimals":5,"name":"BTC"},{"szDecimals":0,"name":"kPEPE"},'
        b'{"szDecimals":1,"name":"OLD","isDelisted":true}]},'
        b'[{"dayNtlVlm":"120.5","dayBaseVlm":"2"},{"dayNtlVlm":"7.0"},{}]]',
        {"BTC": 120.5, "kPEPE": 7.0},
        id="hyperliquid-by-place",
    ),
]


@pytest.mark.parametrize(("venue", "body", "turnover"), GOLDEN)
def test_turnover_is_in_quote_currency_and_one_sided(venue, body, turnover):
    assert VENUES[venue].read_turnover(body) == turnover


@pytest.mark.parametrize(
    ("venue", "body"),
    [
        pytest.param("bitget", b'{"code":"40034","msg":"no","data":null}', id="bitget-error"),
        pytest.param("htx", b'{"status":"error","err_msg":"no","ts":1}', id="htx-error-with-200"),
        pytest.param("gateio", b'{"label":"INVALID","message":"no"}', id="gateio-error"),
        pytest.param("bybit", b'{"retCode":10001,"retMsg":"no","result":{}}', id="bybit-error"),
        pytest.param("binance", b'{"code":-1121,"msg":"no"}', id="binance-error"),
        pytest.param("okx", b'{"code":"50011","msg":"no","data":[]}', id="okx-error"),
        pytest.param("hyperliquid", b'[{"universe":[]},[{}]]', id="hyperliquid-lengths-differ"),
        pytest.param("binance", b'[{"symbol":"X","quoteVolume":"NaN"}]', id="not-a-number"),
        pytest.param("bybit", b"<html>maintenance</html>", id="html"),
    ],
)
def test_what_cannot_be_read_is_refused(venue, body):
    with pytest.raises(PARSER_ERRORS):
        VENUES[venue].read_turnover(body)


def test_turnover_of_htx_in_a_real_answer_is_its_coins_at_its_prices(shared):
    for line in (shared / "samples/htx/rest_batch_merged.jsonl").read_bytes().splitlines():
        said, traded = VENUES["htx"].read_turnover(line), 0
        for tick in json.loads(line)["ticks"]:
            one_sided = said[tick["contract_code"]]
            assert one_sided == float(tick["trade_turnover"]) / 2
            if float(tick["amount"]):
                traded += 1
                price = 2 * one_sided / float(tick["amount"])
                assert price == pytest.approx(float(tick["close"]), rel=0.02)
        assert traded > 1


def test_turnover_of_okx_in_real_tickers_is_near_contracts_times_their_worth(shared):
    """Inverse contracts of 10 USD: what they are worth in all is known without any price."""
    seen = 0
    for line in (shared / "samples/okx/tickers_2022.jsonl").read_bytes().splitlines():
        push = json.loads(line)
        for row in push.get("data", ()):
            if row["instId"].endswith("-USD-SWAP") and row["instId"] != "BTC-USD-SWAP":
                body = json.dumps({"code": "0", "msg": "", "data": [row]}).encode()
                told = VENUES["okx"].read_turnover(body)[row["instId"]]
                assert told == pytest.approx(10 * float(row["vol24h"]), rel=0.2)
                seen += 1
    assert seen


@pytest.mark.parametrize("name", LIVE)
def test_the_page_says_where_it_comes_from(name):
    venue, text = VENUES[name], (PAGES / f"{name}.md").read_text()
    assert venue.turnover_path in text and venue.turnover_body.decode() in text


@pytest.mark.parametrize("name", LIVE)
def test_a_simulated_venue_says_what_its_market_traded(name):
    """A side too many, or a contract's size left out, would be seen."""
    venue = VENUES[name]
    exchange = Exchange(SIMS[name], Scenario(), lambda _: None)
    path, _, query = venue.turnover_path.partition("?")
    headers = {"content-type": "application/json"}
    answer = exchange.rest(path, dict(parse_qsl(query)), headers, T0, venue.turnover_body)
    told = venue.read_turnover(answer.body)
    assert answer.status == 200 and len(told) == 2
    for symbol, market in exchange.markets.items():
        contract, now = market.contract, market.tickers.at(0, T0)
        coins = now.volume * contract.lot.value * contract.size.value
        assert told[symbol] == pytest.approx(coins * now.last * contract.tick.value, rel=0.001)
