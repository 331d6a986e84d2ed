"""Seven simulated venues, every channel, on one tape each: what comes out of the tables."""

import subprocess
import sys

import polars as pl
import pytest

import perptape as pt
from perptape import verify
from perptape.book import Books
from perptape.events import CHANNELS, Book
from perptape.venues import LIVE

SECONDS = 15
SCENARIO = 'seed = 3\nstart = "serve"\ninstruments = ["BTC-USDT"]\nupdates_per_s = 20\n'
NAMES = {"hyperliquid": "BTC-USD"}


@pytest.fixture(scope="module")
def tapes(tmp_path_factory):
    """Folder of the tape of each venue; they are recorded side by side."""
    place = tmp_path_factory.mktemp("channels")
    (place / "scenario.toml").write_text(SCENARIO)
    perptape = [sys.executable, "-m", "perptape"]
    words = ["sim", "--venues", ",".join(LIVE), "--port", "0"]
    words += ["--scenario", str(place / "scenario.toml")]
    with subprocess.Popen([*perptape, *words], stdout=subprocess.PIPE, text=True) as sim:
        urls = dict(word.split("=", 1) for word in sim.stdout.readline().split()[1::2])
        six = [venue for venue in LIVE if venue not in NAMES]
        runs = [
            record(perptape, "BTC-USDT", six, urls, place / "six"),
            *(record(perptape, name, [v], urls, place / v) for v, name in NAMES.items()),
        ]
        told = [run.communicate(timeout=120) for run in runs]
        sim.terminate()
    assert [run.returncode for run in runs] == [0] * len(runs), told
    return {venue: place / ("six" if venue in six else venue) for venue in LIVE}


def record(perptape, name, venues, urls, tape):
    words = [
        "record",
        name,
        "--venues",
        ",".join(venues),
        "--channels",
        ",".join(CHANNELS.values()),
    ]
    words += ["--for", f"{SECONDS}s", "--tape", str(tape)]
    for venue in venues:
        words += ["--url", f"{venue}={urls[venue]}"]
    return subprocess.Popen([*perptape, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def rows(tapes, venue, table):
    scan = getattr(pt.open(tapes[venue]), table)()
    return scan.filter(pl.col("venue") == venue).collect()


def test_all_of_it_was_heard(tapes):
    for path in set(tapes.values()):
        verdict = verify.verify(path)
        assert verdict.verdict == "complete", verify.sentence(verdict)
        assert verdict.unreadable == 0
        heard = {(m.market.partition(":")[0], m.channel): m.frames for m in verdict.markets}
        assert set(heard) == {
            (v, c) for v, p in tapes.items() if p == path for c in CHANNELS.values()
        }
        assert min(heard.values()) > 0


@pytest.mark.parametrize("venue", LIVE)
def test_books_are_never_crossed_and_agree_with_the_quotes(tapes, venue):
    table = rows(tapes, venue, "books")
    assert table["is_snapshot"][0]
    books = Books()
    number, tops = books.new(), {}
    for (seq,), frame in table.group_by("seq", maintain_order=True):
        sides = {
            side: list(zip(part["price"], part["size"], strict=True))
            for (side,), part in frame.group_by("side")
        }
        update = Book(
            "", None, None, sides.get("bid", []), sides.get("ask", []),
            is_snapshot=frame["is_snapshot"][0],
        )  # fmt: skip
        tops[seq] = books.one(number, update)
    assert all(bid < ask for bid, ask in tops.values())
    bids, asks = books.sides(number)
    assert len(bids) >= 5 and len(asks) >= 5
    quotes = rows(tapes, venue, "quotes")
    known = set(zip(quotes["bid_price"], quotes["ask_price"], strict=True))
    agree = sum(top in known for top in tops.values())
    assert agree >= 0.9 * len(tops), "the book's best prices are prices that were quoted"


@pytest.mark.parametrize("venue", LIVE)
def test_trades_are_at_prices_that_were_quoted_and_each_is_told_once(tapes, venue):
    table = rows(tapes, venue, "trades")
    assert table["size"].min() > 0 and set(table["side"]) <= {"buy", "sell"}
    assert table["trade_id"].n_unique() == len(table)
    quotes = rows(tapes, venue, "quotes")
    low, high = quotes["bid_price"].min(), quotes["ask_price"].max()
    assert low * 0.999 <= table["price"].min() and table["price"].max() <= high * 1.001


@pytest.mark.parametrize("venue", LIVE)
def test_marks_and_funding_are_whole_and_in_one_unit(tapes, venue):
    marks = rows(tapes, venue, "marks")
    last = {name: marks[name].drop_nulls() for name in ("mark_price", "index_price")}
    mid = rows(tapes, venue, "quotes")["bid_price"][-1]
    for prices in last.values():
        assert prices[-1] == pytest.approx(mid, rel=0.005)
    assert marks["open_interest"].drop_nulls()[-1] > 1, "base coins, not contracts of a thousandth"
    funding = rows(tapes, venue, "funding").filter(~pl.col("is_settled"))
    now = funding.filter(pl.col("rate").is_not_null())
    hours = 1 if venue == "hyperliquid" else 8
    assert set(now["interval_h"]) == {hours}
    assert now["rate"].abs().max() < 0.001 / hours, "a fraction per hour"
    until = (now["ts_funding"] - now["ts_recv"]).drop_nulls().dt.total_seconds()
    if venue == "hyperliquid":  # every full hour, which its frames do not say
        assert until.is_empty()
    else:
        assert until.min() > 0 and until.max() <= hours * 3600 + 5
