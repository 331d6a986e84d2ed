"""Anybody's quotes by a map: what becomes rows, what is trusted, what is refused."""

import gzip
import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perptape import report, tables, tabulate, verify
from perptape.cli import _run
from perptape.errors import BadUsage, Failed
from perptape.events import NS
from perptape.importers import quotes
from perptape.importers.validity import Course
from perptape.recording import Recording

T0 = 1_770_925_080  # 2026-02-12 19:38:00
MAP = """
time = "ts"
unit = "s"
venue = "{where}"
instrument = "{coin}-USDT-PERP"
bid_price = "bid"
ask_price = "ask"
"""
HEAD = "ts,where,coin,bid,ask"
MINUTES = """\
0,binance,BTC,100,101
0,bybit,BTC,100.5,101.5
60,binance,BTC,102,103
60,bybit,BTC,,
120,binance,BTC,104,105
120,bybit,BTC,103,104
300,binance,BTC,106,107
"""


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


class Place:
    """A directory with maps and files, and what was imported from them."""

    def __init__(self, path):
        self.path, self.tape = path, path / "tape"

    def csv(self, rows, head=HEAD, name="quotes.csv", shift=T0):
        lines = [line.partition(",") for line in rows.strip().splitlines()]
        moved = [f"{int(ts) + shift},{rest}" if ts.isdigit() else ts + "," + rest
                 for ts, _, rest in lines]  # fmt: skip
        (self.path / name).write_text("\n".join([head, *moved]) + "\n")
        return self.path / name

    def map(self, *more, text=MAP):
        (self.path / "map.toml").write_text(text + "\n".join(more))
        return str(self.path / "map.toml")

    def take(self, *files, map_=None, venue=None):
        return quotes.run(files, self.tape, map_=map_ or self.map(), venue=venue)

    def quotes(self, *columns):
        found = Recording(self.tape).quotes().collect()
        return found.select(columns).rows() if columns else found

    def ledger(self, venue):
        """Give (state, start, end, reason, detail), times in seconds after T0."""
        rows = Recording(self.tape).ledger().filter(pl.col("venue") == venue).collect()
        ns = rows.with_columns(pl.col("ts_start", "ts_end").cast(pl.Int64) - T0 * NS)
        columns = ("state", "ts_start", "ts_end", "reason", "detail")
        return [(a, b / NS, c / NS, d, e) for a, b, c, d, e in ns.select(columns).iter_rows()]


# ---- rows ---------------------------------------------------------------------------------------


def test_rows_come_in_order_of_time_with_their_names(place):
    done = place.take(place.csv(MINUTES))
    assert (done.quotes, done.markets, done.tally.unpriced) == (6, 2, 1)
    rows = place.quotes("venue", "instrument", "ts_recv", "bid_price", "ask_price")
    assert [(venue, bid) for venue, _, _, bid, _ in rows] == [
        *(("binance", 100), ("bybit", 100.5), ("binance", 102), ("binance", 104)),
        *(("bybit", 103), ("binance", 106)),
    ]
    assert {name for _, name, *_ in rows} == {"BTC-USDT-PERP"}
    assert rows[0][2].timestamp() == T0
    nothing = place.quotes().select("seq", "ts_event", "ts_send", "bid_size", "ask_size")
    assert nothing.null_count().row(0) == (6,) * 5


@pytest.mark.parametrize("how", ["gzip", "parquet", "parquet of texts", "semicolon", "shuffled"])
def test_the_same_rows_in_another_form_are_the_same_tables(place, tmp_path, how):
    place.take(place.csv(MINUTES))
    other = Place(tmp_path / "other")
    other.path.mkdir()
    plain, more = other.csv(MINUTES), ()
    if how == "gzip":
        file = other.path / "q.csv.gz"
        file.write_bytes(gzip.compress(plain.read_bytes()))
    elif how.startswith("parquet"):
        file = other.path / "q.parquet"
        kinds = {"infer_schema": False} if how.endswith("texts") else {}
        pl.read_csv(plain, **kinds).write_parquet(file)
    elif how == "semicolon":
        file, more = other.path / "q.txt", ('delimiter = ";"',)
        file.write_text(plain.read_text().replace(",", ";"))
    else:
        file = other.path / "q.csv"
        head, *lines = plain.read_text().splitlines()
        lines = [lines[k] for k in (3, 6, 0, 5, 1, 4, 2)]
        file.write_text("\n".join([head, *lines]))
    other.take(file, map_=other.map(*more))
    key = ["ts_recv", "venue"]  # rows of one moment keep the file's order, which was shuffled
    assert (
        other.quotes()
        .cast({"venue": pl.String})
        .sort(key)
        .equals(place.quotes().cast({"venue": pl.String}).sort(key))
    )
    for venue in ("binance", "bybit"):
        assert other.ledger(venue) == place.ledger(venue)


@pytest.mark.parametrize("block", [40, 100, 1 << 20])
def test_cut_into_blocks_of_any_size_it_is_the_same(place, monkeypatch, block):
    monkeypatch.setattr("perptape.importers.quote_files.BLOCK_BYTES", block)
    monkeypatch.setattr("perptape.importers.quotes.ROWS_PER_BATCH", 2)
    monkeypatch.setattr("perptape.importers.quotes.ROWS_SORTED", block // 20)
    lines = MINUTES.strip().splitlines()
    place.take(place.csv("\n".join(lines[4:] + lines[:4])), map_=place.map('valid_for = "60s"'))
    assert [bid for (bid,) in place.quotes("bid_price")] == [100, 100.5, 102, 104, 103, 106]
    assert place.ledger("bybit")[0] == ("trusted", 0, 60 - 1e-9, "stale", "a row without a price")


def test_sizes_are_in_coins(place):
    rows = "0,okx,BTC,100,101,7,8\n1,bybit,1000PEPE,0.02,0.04,5,6\n2,gateio,BTC,100,101,7,8"
    text = MAP + 'bid_size = "bq"\nask_size = "aq"\ncontracts = ["okx", "gateio"]\n'
    place.take(
        place.csv(rows, HEAD + ",bq,aq"),
        map_=place.map("contract_size = { okx = 0.01 }", text=text),
    )
    rows = place.quotes("venue", "instrument", "bid_price", "bid_size", "ask_size")
    assert sorted(rows) == [
        ("bybit", "PEPE-USDT-PERP", pytest.approx(2e-5), 5000, 6000),
        ("gateio", "BTC-USDT-PERP", 100, None, None),
        ("okx", "BTC-USDT-PERP", 100, pytest.approx(0.07), pytest.approx(0.08)),
    ]
    listed = Recording(place.tape).instruments().collect()
    assert sorted(listed.select("venue", "contract_size", "price_unit", "symbol").rows()) == [
        ("bybit", 1000.0, 1000.0, "1000PEPE-USDT-PERP"),
        ("okx", 0.01, 1.0, "BTC-USDT-PERP"),
    ]


def test_a_price_of_zero_or_none_is_missing_and_one_side_is_a_quote(place):
    rows = "0,a,BTC,0,0\n1,a,BTC,0.0,101\n2,a,BTC,nan,inf\n3,a,BTC,-1,null\n4,a,BTC,100,"
    done = place.take(place.csv(rows))
    assert place.quotes("bid_price", "ask_price") == [(None, 101), (100, None)]
    assert done.tally.unpriced == 3


def test_where_leaves_rows_out_as_if_they_were_not_there(place):
    rows = "0,a,BTC,1,2,5\n1,a,BTC,3,4,4\n2,b,BTC,5,6,\n3,c,BTC,x,y,5"
    more = 'where = { where = ["a", "b"], figures = ["", 5] }'
    done = place.take(place.csv(rows, HEAD + ",figures"), map_=place.map(more))
    assert [bid for (bid,) in place.quotes("bid_price")] == [1, 5]
    assert done.tally.filtered == 2


@pytest.mark.parametrize(("cell", "kept"), [("true", [1]), ("2", [2]), ('"x"', [3]), ('""', [4])])
def test_where_compares_by_the_kind_of_its_value(place, cell, kept):
    rows = "0,a,BTC,1,9,True\n1,a,BTC,2,9,2.0\n2,a,BTC,3,9, x\n3,a,BTC,4,9,"
    place.take(place.csv(rows, HEAD + ",k"), map_=place.map(f"where = {{ k = {cell} }}"))
    assert [bid for (bid,) in place.quotes("bid_price")] == kept


def test_names_of_venues_and_their_own_instruments(place):
    more = 'venues = { Aster = "aster" }\ninstruments = { aster = "{coin}-USD-PERP" }'
    place.take(place.csv("0,Aster,btc,1,2\n1,ByBit,BTC,1,2"), map_=place.map(more))
    assert place.quotes("venue", "instrument") == [
        ("aster", "BTC-USD-PERP"),
        ("bybit", "BTC-USDT-PERP"),
    ]


def test_a_symbol_of_a_venue_that_is_known_names_its_instrument(place):
    text = MAP.replace("{coin}-USDT-PERP", "{coin}")
    rows = "0,okx,ETH-USDT-SWAP,1,2\n1,hyperliquid,kPEPE,1000,2000\n2,binance,BTCUSDT,1,2"
    place.take(place.csv(rows), map_=place.map(text=text))
    assert place.quotes("instrument", "bid_price") == [
        ("BTC-USDT-PERP", 1),
        ("ETH-USDT-PERP", 1),
        ("PEPE-USD-PERP", 1),
    ]


def test_rows_without_a_time_or_a_name_are_counted_and_left_out(place):
    done = place.take(place.csv("0,a,BTC,1,2\n,a,BTC,3,4\n2,,BTC,5,6"))
    assert (done.quotes, done.tally.undated, done.tally.unnamed) == (1, 1, 1)


def test_the_venue_may_come_from_the_command(place):
    text = MAP.replace('venue = "{where}"', "")
    place.take(place.csv(MINUTES), map_=place.map(text=text), venue="kraken")
    assert place.quotes("venue")[0] == ("kraken",)


# ---- Tardis -------------------------------------------------------------------------------------

TARDIS = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount"


def test_tardis_is_known(place):
    rows = [
        "binance-futures,BTCUSDT,1582155384000001,1582155385000002,3,101,100,2",
        "okex-swap,BTC-USDT-SWAP,1582155384000003,1582155385000004,300,102,101,200",
        "bybit,1000PEPEUSDT,1582155384000005,1582155385000006,1,0.02,,",
    ]
    (place.path / "t.csv.gz").write_bytes(gzip.compress("\n".join([TARDIS, *rows]).encode()))
    place.take(place.path / "t.csv.gz", map_="tardis")
    found = place.quotes().sort("ts_recv").with_columns(pl.col("ts_recv", "ts_event").cast(int))
    assert found.select("venue", "instrument", "ts_event", "ts_recv").rows() == [
        ("binance", "BTC-USDT-PERP", 1582155384000001000, 1582155385000002000),
        ("okx", "BTC-USDT-PERP", 1582155384000003000, 1582155385000004000),
        ("bybit", "PEPE-USDT-PERP", 1582155384000005000, 1582155385000006000),
    ]
    assert found.select("bid_price", "bid_size", "ask_price", "ask_size").rows() == [
        (100, 2, 101, 3),
        (101, None, 102, None),
        (None, None, pytest.approx(2e-5), 1000),
    ]


def test_a_map_may_begin_with_tardis(place):
    row = "okex-swap,BTC-USDT-SWAP,1582155384000003,1582155385000004,300,102,101,200"
    file = place.path / "t.csv"
    file.write_text(f"{TARDIS}\n{row}\n")
    place.take(file, map_=place.map(text='like = "tardis"\ncontract_size = { okx = 0.01 }'))
    assert place.quotes("bid_size", "ask_size") == [(2, 3)]


# ---- trust --------------------------------------------------------------------------------------


def test_without_valid_for_a_market_is_trusted_from_its_first_row_to_its_last(place):
    place.take(place.csv(MINUTES))
    assert place.ledger("binance") == [("trusted", 0, 300, "shutdown", "")]
    assert place.ledger("bybit") == [
        ("trusted", 0, 60 - 1e-9, "stale", "a row without a price"),
        ("untrusted", 60 - 1e-9, 120, "stale", "a row without a price"),
        ("trusted", 120, 120, "shutdown", ""),
    ]


def test_a_row_is_trusted_for_so_long_and_no_longer(place):
    place.take(place.csv(MINUTES), map_=place.map('valid_for = "90s"'))
    assert place.ledger("binance") == [
        ("trusted", 0, 210 - 1e-9, "stale", "no row for 90s"),
        ("untrusted", 210 - 1e-9, 300, "stale", "no row for 90s"),
        ("trusted", 300, 390 - 1e-9, "shutdown", ""),
    ]
    assert place.ledger("bybit")[:2] == [
        ("trusted", 0, 60 - 1e-9, "stale", "a row without a price"),
        ("untrusted", 60 - 1e-9, 120, "stale", "a row without a price"),
    ]


def test_rows_that_follow_exactly_leave_no_hole(place):
    place.take(place.csv(MINUTES), map_=place.map('valid_for = "1m"'))
    assert place.ledger("binance")[0][:3] == ("trusted", 0, 180 - 1e-9)


def test_a_market_that_never_has_a_price_is_never_trusted(place):
    place.take(place.csv("0,a,BTC,1,2\n0,b,BTC,,\n9,b,BTC,,"))
    assert place.ledger("b") == [("untrusted", 0, 9, "stale", "a row without a price")]
    assert verify.verify(place.tape).verdict == "untrusted"


def is_trusted(rows, valid, at):
    """The definition, moment by moment: rows are (time, has a price) in order."""
    before = [(ts, priced) for ts, priced in rows if ts <= at]
    return bool(before) and before[-1][1] and at < before[-1][0] + valid


@given(
    gaps=st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12),
    valid=st.integers(1, 5),
    cut=st.integers(1, 12),
)
def test_trust_is_what_its_definition_says(gaps, valid, cut):
    times = list(itertools.accumulate(gap for gap, _ in gaps))
    rows = list(zip(times, (priced for _, priced in gaps), strict=True))
    course = Course("a:BTC-USDT-PERP", valid, "so long")
    for start in range(0, len(rows), cut):
        part = rows[start : start + cut]
        course.feed(
            np.array([ts for ts, _ in part], np.int64), np.array([priced for _, priced in part])
        )
    found = course.intervals()
    for at in range(times[-1] + valid + 1):
        assert any(i.start <= at <= i.end for i in found if i.trusted) == is_trusted(
            rows, valid, at
        )
    assert found[0].start == times[0] and found[-1].end >= times[-1]
    for a, b in itertools.pairwise(found):
        assert b.start - a.end in {0, 1}


# ---- adding -------------------------------------------------------------------------------------

LATER = "400,binance,BTC,110,111\n400,bybit,BTC,112,113\n100000,bybit,BTC,112,113"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_importing_again_adds(place, order):
    files = [place.csv(MINUTES), place.csv(LATER, name="later.csv")]
    map_ = place.map('valid_for = "60s"')
    for k in order:
        place.take(files[k], map_=map_)
    apart = place.quotes().drop("base"), place.ledger("binance"), place.ledger("bybit")
    both = Place(place.path / "both")
    both.path.mkdir()
    both.take(*files, map_=map_)
    assert both.quotes().drop("base").equals(apart[0])
    assert [row[:3] for row in both.ledger("bybit")] == [row[:3] for row in apart[2]]
    assert sum(b - a for state, a, b, *_ in apart[1] if state == "trusted") == sum(
        b - a for state, a, b, *_ in both.ledger("binance") if state == "trusted"
    )
    manifest = tables.read_manifest(place.tape / "tables")
    assert [one.name for one in manifest.imports] == [files[k].name for k in order]
    listed = {place.tape / "tables" / file.path for file in manifest.files}
    assert listed == set((place.tape / "tables").rglob("*.parquet"))
    assert verify.verify(place.tape).damage == []


def test_a_later_first_row_ends_what_an_earlier_import_still_trusted(place):
    map_ = place.map('valid_for = "60s"')
    place.take(place.csv("0,a,BTC,1,2"), map_=map_)
    place.take(place.csv("30,a,BTC,,\n50,a,BTC,1,2", name="b.csv"), map_=map_)
    assert [row[:3] for row in place.ledger("a")] == [
        ("trusted", 0, 30 - 1e-9),
        ("untrusted", 30 - 1e-9, 50),
        ("trusted", 50, 110 - 1e-9),
    ]


def test_another_market_of_the_same_time_is_added(place):
    file = place.csv(MINUTES)
    for venue in ("binance", "bybit"):
        place.take(file, map_=place.map(f'where = {{ where = "{venue}" }}'))
    whole = Place(place.path / "whole")
    whole.path.mkdir()
    whole.take(file)
    assert (
        place.quotes().cast({"venue": pl.String}).equals(whole.quotes().cast({"venue": pl.String}))
    )


def test_rows_of_a_time_that_is_there_are_refused_and_nothing_changes(place):
    place.take(place.csv(MINUTES))
    before = (place.tape / "tables" / tables.MANIFEST).read_bytes()
    with pytest.raises(BadUsage, match=r"binance:BTC-USDT-PERP is in these tables from 2026-02-12"):
        place.take(place.csv("200,binance,BTC,1,2", name="b.csv"))
    assert (place.tape / "tables" / tables.MANIFEST).read_bytes() == before
    assert verify.verify(place.tape).damage == []


def test_the_same_file_twice_is_refused(place):
    file = place.csv(MINUTES)
    copy = place.path / "copy.csv"
    copy.write_bytes(file.read_bytes())
    with pytest.raises(BadUsage, match="same file"):
        place.take(file, copy)


def test_whatever_interrupts_an_addition_the_former_tables_stay(place, monkeypatch):
    place.take(place.csv(MINUTES))
    before = place.quotes()

    def die(*_):
        raise KeyboardInterrupt

    for step in ("_write", "_move"):
        with monkeypatch.context() as patch:
            patch.setattr(tables, step, die)
            with pytest.raises(KeyboardInterrupt):
                place.take(place.csv(LATER, name="later.csv"))
        assert place.quotes().equals(before)
    place.take(place.csv(LATER, name="later.csv"))
    assert place.quotes().height == before.height + 3


# ---- what is not a tape -------------------------------------------------------------------------


def test_the_directory_is_taken_where_a_tape_is(place, capsys):
    place.take(place.csv(MINUTES), map_=place.map('valid_for = "60s"'))
    made = report.build(report.Asked(tapes=(place.tape,)))
    assert {m.market: m.trusted_s for m in made.markets} == {
        "binance:BTC-USDT-PERP": pytest.approx(240),
        "bybit:BTC-USDT-PERP": pytest.approx(120),
    }
    (pair,) = [p for p in made.pairs if p.sell.startswith("bybit")]
    assert pair.gap_bps.max == pytest.approx(1e4 * (100.5 / 101 - 1))
    (source,) = made.provenance.tapes
    assert source.recorded_by.endswith("from quotes.csv")
    verdict = verify.verify(place.tape)
    assert (verdict.verdict, verdict.frames, verdict.exit_code) == ("untrusted", 6, 3)
    with pytest.raises(BadUsage, match="no tape to make any from"):
        tabulate.tabulate(place.tape)
    assert _run(["record", "BTC-USDT", "--tape", str(place.tape)], debug=False) == 2
    assert "not a tape" in capsys.readouterr().err


def test_a_clean_import_is_complete(place):
    place.take(place.csv("0,a,BTC,1,2\n9,a,BTC,1,2"))
    assert verify.verify(place.tape).verdict == "complete"


def test_damage_is_found_and_nothing_is_made_in_its_place(place):
    place.take(place.csv(MINUTES))
    (file,) = (place.tape / "tables" / "quotes").rglob("*.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert verify.verify(place.tape).verdict == "damaged"
    with pytest.raises(Failed, match="import again"):
        tabulate.fresh(place.tape)
    (place.tape / "tables" / tables.MANIFEST).write_text("{}")
    with pytest.raises(Failed, match="import again into a new directory"):
        Recording(place.tape)


def test_a_tape_is_no_place_for_imported_quotes(place):
    place.tape.mkdir()
    (place.tape / "tape.json").write_text("{}")
    with pytest.raises(BadUsage, match="is a tape"):
        place.take(place.csv(MINUTES))
    assert [path.name for path in place.tape.iterdir()] == ["tape.json"]


def test_a_directory_of_something_else_is_left_alone(place):
    place.tape.mkdir()
    (place.tape / "letter.txt").write_text("dear")
    with pytest.raises(BadUsage, match="not empty"):
        place.take(place.csv(MINUTES))
    assert [path.name for path in place.tape.iterdir()] == ["letter.txt"]


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time = 5", "Expected `str`"),
        ("nonsense", "Expected '='"),
        (MAP + 'bidprice = "x"', "unknown field `bidprice`"),
        (MAP.replace('ask_price = "ask"', ""), "missing required field `ask_price`"),
        (MAP.replace('"s"', '"h"'), "Invalid enum value 'h'"),
        (MAP + 'valid_for = "soon"', "'soon' is not a duration"),
        (MAP.replace('venue = "{where}"', ""), "--venue"),
        ('like = "kaiko"', "none of tardis"),
        (MAP + "contract_size = { okx = 0 }", "> 0"),
    ],
)  # fmt: skip
def test_a_map_that_cannot_be_meant(place, text, words):
    with pytest.raises(BadUsage, match=words):
        place.take(place.csv(MINUTES), map_=place.map(text=text))
    assert not place.tape.exists()


@pytest.mark.parametrize(
    ("rows", "head", "words"),
    [
        (MINUTES, "ts,where,coin,bids,ask", "no column 'bid', which the map names: did you mean"),
        (MINUTES, "ts,where,coin,bid,bid", "more than one column 'bid'"),
        ("x,a,BTC,1,2", HEAD, "row 1, column 'ts': 'x' in s"),
        ("1770925080000,a,BTC,1,2", HEAD, 'unit = "ms"'),
        ("2026-02-12T19:38:00Z,a,BTC,1,2", HEAD, 'unit = "iso"'),
        ("0,a,BTC,1,2\n1,a,BTC,one,2", HEAD, "row 2, column 'bid': 'one' is no number"),
        ("0,a b,BTC,1,2", HEAD, "'a b' cannot be the name of a venue"),
        ("0,a,B/C,1,2", HEAD, "'B/C-USDT-PERP' of a is no instrument"),
        ("0,bybt,B/C,1,2", HEAD, "is the venue bybit"),
        (",a,BTC,1,2", HEAD, "Not one row to import in 1 files: 0 are left out"),
        ("0,a,BTC,1,2,9", HEAD, "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_whole(place, rows, head, words):
    shift = 0 if rows.startswith("177") else T0
    with pytest.raises((BadUsage, Failed), match=words):
        place.take(place.csv(rows, head, shift=shift))
    assert not place.tape.exists()


@pytest.mark.parametrize(
    "data", [b"", b"\x1f\x8bnot gzip", b"PAR1 not Parquet", b"\xff\xfe\x00", b"ts\n", b"\n\n"]
)
def test_bytes_that_are_no_quotes(place, data):
    (place.path / "q.csv").write_bytes(data)
    with pytest.raises((BadUsage, Failed)):
        place.take(place.path / "q.csv")


def test_columns_of_a_kind_that_no_quote_is_of(place):
    file = place.path / "q.parquet"
    odd = {"ts": [T0], "where": ["a"], "coin": [b"\xff"], "bid": [[1.0]], "ask": [2.0]}
    pl.DataFrame(odd).write_parquet(file)
    with pytest.raises(Failed, match="cannot be read"):
        place.take(file)


def test_a_torn_gzip_is_refused(place):
    whole = gzip.compress(place.csv(MINUTES).read_bytes())
    (place.path / "q.csv.gz").write_bytes(whole[:-12])
    with pytest.raises(Failed, match="cannot be read"):
        place.take(place.path / "q.csv.gz")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["quotes", "x.csv", "--tape", "t"], "need --map"),
        (["quotes", "x.csv", "--tape", "t", "--map", "gone.toml"], "gone.toml: No such file"),
        (["quotes", "--tape", "t", "--map", "tardis"], "no file to import"),
        (["quotes", "x.csv", "--tape", "t", "--map", "tardis"], "x.csv cannot be read"),
        (["notebook", "x", "--tape", "t", "--map", "tardis"], "--map is for quotes"),
        (["quotes", "x", "--tape", "t", "--instruments", "y"], "--instruments is not for quotes"),
    ],
)
def test_the_command_refuses_in_a_sentence(place, monkeypatch, capsys, words, told):
    monkeypatch.chdir(place.path)
    assert _run(["import", *words], debug=False) == 2
    assert told in capsys.readouterr().err


def test_the_command_says_what_was_left_out(place, capsys):
    words = [str(place.csv(MINUTES)), "--map", place.map(), "--tape", str(place.tape)]
    assert _run(["import", "quotes", *words], debug=False) == 0
    told = capsys.readouterr().out
    assert "6 quotes of 2 markets, 5 min 00 s (rows 1 without a price). Next: perptape" in told


# ---- real recordings ----------------------------------------------------------------------------


def test_five_spot_venues_have_the_rows_that_their_author_counted(shared, tmp_path):
    text = """
        time = "ts_local"
        unit = "ms"
        time_event = "ts_exchange"
        venue = "{exchange}"
        instrument = "BTC-USDT-SPOT"
        instruments = { coinbase = "BTC-USD-SPOT", kraken = "BTC-USD-SPOT" }
        bid_price = "best_bid"
        ask_price = "best_ask"
        valid_for = "10s"
    """
    place = Place(tmp_path)
    files = sorted((shared / "data" / "spot-quotes-5venues-20250926").rglob("*.parquet"))
    done = place.take(*files, map_=place.map(text=text))
    assert (done.files, done.tally.unpriced) == (225, 7427)  # Bybit's stream has no quotes
    counts = place.quotes().group_by(pl.col("venue").cast(pl.String)).len().rows()
    assert dict(counts) == {"binance": 2639, "okx": 16308, "coinbase": 15843, "kraken": 800}
    assert {state for state, *_ in place.ledger("bybit")} == {"untrusted"}
    latency = place.quotes().with_columns(
        ms=(pl.col("ts_recv") - pl.col("ts_event")).dt.total_microseconds() / 1000
    )
    (okx,) = latency.filter(pl.col("venue") == "okx").select(pl.median("ms")).row(0)
    assert okx == pytest.approx(-703, abs=1)
    assert verify.verify(place.tape).verdict == "untrusted"
