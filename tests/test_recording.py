"""A tape at hand in a notebook: what it shows, and that its tables go on without being copied."""

import duckdb
import numpy as np
import pandas as pd
import pytest

from perptape.events import NS
from perptape.importers import quotes
from perptape.importers import run as import_
from perptape.recording import Recording

T0 = 1_790_000_000
BOOK = '{"u":%d,"s":"BTCUSDT","b":"%.2f","B":"1.0","a":"%.2f","A":"2.0"}'
NUMBERS = ("bid_price", "bid_size", "ask_price", "ask_size", "update_id", "ts_recv")


@pytest.fixture
def tape(tmp_path):
    lines = [f"{(T0 + n) * NS} {BOOK % (n, 100 + n % 7, 101 + n % 7)}" for n in range(1000)]
    (tmp_path / "spot.txt").write_text("\n".join(lines) + "\n")
    import_("hftbacktest", [tmp_path / "spot.txt"], tmp_path / "tape", venue="binance_spot")
    return tmp_path / "tape"


@pytest.fixture
def imported(tmp_path):
    rows = [f"{T0 + n},a<b,BTC,1,2" for n in (0, 60, 600)]
    (tmp_path / "q.csv").write_text("\n".join(["ts,where,coin,bid,ask", *rows]))
    (tmp_path / "map.toml").write_text(
        'time = "ts"\nunit = "s"\nvenue = "ab"\ninstrument = "{coin}-USDT-PERP"\n'
        'bid_price = "bid"\nask_price = "ask"\nvalid_for = "60s"\n'
    )
    quotes.run([tmp_path / "q.csv"], tmp_path / "got", map_=str(tmp_path / "map.toml"))
    return tmp_path / "got"


# ---- going on -----------------------------------------------------------------------------------


def test_arrow_and_numpy_share_a_frame_s_memory(tape):
    found = Recording(tape).quotes().collect().rechunk()
    table = found.to_arrow()
    for name in NUMBERS:
        column = table[name].chunk(0)
        again = found[name].to_arrow()
        assert column.buffers()[-1].address == again.buffers()[-1].address, name
    bids = found["bid_price"].to_numpy(allow_copy=False)
    assert np.shares_memory(bids, table["bid_price"].chunk(0).to_numpy(zero_copy_only=True))


def test_pandas_shares_numbers_and_times_and_keeps_names_as_categories(tape):
    found = Recording(tape).quotes().collect().rechunk()
    shared = found.to_pandas(use_pyarrow_extension_array=True)
    for name in NUMBERS:
        array = shared[name].array.__arrow_array__().chunk(0)
        assert array.buffers()[-1].address == found[name].to_arrow().buffers()[-1].address, name
    plain = found.to_pandas()
    assert isinstance(plain["venue"].dtype, pd.CategoricalDtype)
    assert str(plain["ts_recv"].dtype) == "datetime64[ns, UTC]"
    assert plain["ts_recv"].iloc[0].value == T0 * NS
    assert plain["bid_price"].mean() == pytest.approx(found["bid_price"].mean())


def test_duckdb_reads_a_frame_by_its_name_and_the_files_as_they_are(tape):
    found = Recording(tape).quotes().collect()
    with duckdb.connect() as db:
        own = db.sql(
            "select venue, base, count(*), max(bid_price), typeof(ts_recv), typeof(venue) "
            "from found group by all"
        )
        row = ("binance_spot", "BTC", 1000, 106.0, "TIMESTAMPTZ_NS", "VARCHAR")
        assert own.fetchall() == [row]
        files = db.read_parquet(f"{tape}/tables/quotes/*/*/*.parquet", hive_partitioning=True)
        assert files.aggregate("base, count(*), max(bid_price)").fetchall() == [
            ("BTC", 1000, 106.0)
        ]
        back = db.sql("select * from found where bid_price > 105").pl()
        assert back.height == 142 and back.columns == found.columns


def test_pandas_reads_the_files_as_they_are(tape):
    found = Recording(tape).quotes().collect()
    read = pd.read_parquet(tape / "tables" / "quotes")
    assert len(read) == found.height and read["bid_price"].tolist() == found["bid_price"].to_list()


# ---- showing ------------------------------------------------------------------------------------


def test_to_look_at_a_tape_makes_nothing(tape):
    shown = Recording(tape)
    assert repr(shown).endswith("# 1,001 frames in sealed segments")
    assert "<table>" not in shown._repr_html_()
    assert not (tape / "tables").exists()


def test_a_tape_with_tables_shows_its_markets_their_span_and_trust(tape):
    shown = Recording(tape)
    shown.quotes()
    words = "frames in sealed segments; 1 market, 2026-09-21 14:13 to 2026-09-21 14:29 UTC, 100"
    assert words in repr(shown) and repr(shown).endswith("trusted")
    page = shown._repr_html_()
    assert "<td>binance_spot:BTC-USDT-SPOT</td><td>quotes</td>" in page


def test_imported_quotes_show_how_much_of_them_is_trusted(imported):
    shown = Recording(imported)
    assert "imported quotes; 1 market, " in repr(shown) and "27.3" in repr(shown)
    (row,) = shown.markets().rows(named=True)
    assert (row["venue"], row["channel"]) == ("ab", "quotes")
    assert row["trusted_s"] == pytest.approx(180) and row["untrusted_s"] == pytest.approx(480)
    assert shown.clock_samples().collect().is_empty()


def test_what_a_name_holds_is_never_markup(tape):
    odd = tape.rename(tape.with_name("<b>&"))
    assert "<b>" not in Recording(odd)._repr_html_()
