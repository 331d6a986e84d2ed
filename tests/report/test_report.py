"""From tapes to files: every key of the JSON, the same bytes twice, one sentence for bad input."""

import gzip
import json
import shutil

import numpy as np
import pytest
from msgspec.structs import replace

from perptape import importers, manifest, report
from perptape.errors import BadUsage, Failed
from perptape.events import Kind
from perptape.findings import Interval, Latency
from perptape.manifest import ClockState
from perptape.report import Asked, build, pngs, to_html, to_json, write
from perptape.tape import TapeWriter

NS = 1_000_000_000
T0 = 1_723_075_200 * NS
SPREAD = {"mean_time", "mean", "median", "p5", "p95", "min", "max", "share_positive"}
FROM, TO = T0 + 2 * NS, T0 + 4 * NS


def quote(symbol, bid, ask, update):
    ms = T0 // 10**6 + update
    data = {"e": "bookTicker", "u": update, "s": symbol, "b": f"{bid:.1f}", "B": "2",
            "a": f"{ask:.1f}", "A": "3", "T": ms, "E": ms}  # fmt: skip
    return json.dumps({"stream": f"{symbol.lower()}@bookTicker", "data": data})


def lines(symbol, shift, seconds):
    """Ten quotes a second for some seconds, around 60,000 plus ``shift``."""
    for k in range(10 * seconds):
        mid = 60_000 + shift + 5 * np.sin(k / 7)
        ts_recv = T0 + k * NS // 10 + (k * 7919) % 1000
        yield f"{ts_recv} {quote(symbol, mid - 0.5, mid + 0.5, k + 1)}"


def import_quotes(tape, venue, symbol, shift, seconds=6):
    path = tape.parent / f"{venue}.gz"
    path.write_bytes(gzip.compress("\n".join(lines(symbol, shift, seconds)).encode()))
    importers.run("hftbacktest", [path], tape, venue=venue)


@pytest.fixture(scope="module")
def tape(tmp_path_factory):
    made = tmp_path_factory.mktemp("tapes") / "night"
    import_quotes(made, "binance", "BTCUSDT", 0.0)
    import_quotes(made, "binance_coinm", "BTCUSD_PERP", 12.0, seconds=3)
    return made


@pytest.fixture(scope="module")
def found(tape):
    return build(Asked(tapes=(tape,)))


def test_the_json_has_exactly_the_promised_keys(found):
    told = json.loads(to_json(found))
    assert set(told) == {
        "ts_from", "ts_to", "markets", "pairs", "provenance", "leads", "ties", "series", "verdict"
    }  # fmt: skip
    usdm, coinm = told["markets"]
    assert set(usdm) == {"market", "quotes", "trusted_s", "untrusted_s", "latency_ms", "intervals"}
    assert set(coinm) == {*usdm, "absent"}
    assert set(usdm["latency_ms"]) == {"p50", "p99"}
    for pair in told["pairs"]:
        assert set(pair) == {
            "sell", "buy", "same_quote", "trusted_s", "gap_bps", "grid", "edge_bps"
        }  # fmt: skip
        assert set(pair["gap_bps"]) == set(pair["edge_bps"]) == SPREAD
        assert set(pair["grid"]) == {"step_ms", *SPREAD} - {"mean_time"}


def test_what_is_not_known_is_absent_and_never_null(found, made):
    assert b"null" not in to_json(found)
    report = made()
    nan = report.pairs[0].gap_bps.__class__(mean=float("nan"), median=1.0)
    pair = replace(report.pairs[0], gap_bps=nan, grid=None, edge_bps=None)
    one = type(report)(0, 1, report.markets, (pair,), report.provenance, report.series)
    assert json.loads(to_json(one))["pairs"][0]["gap_bps"] == {"median": 1.0}


def test_times_have_no_more_digits_than_a_clock_and_words_plain_spaces(found):
    odd = Latency(0.1 + 0.2, 15.671433000000002)
    market = replace(
        found.markets[0],
        trusted_s=0.015671433000000002,
        untrusted_s=1.0,
        latency_ms=odd,
        intervals=(Interval(T0, T0 + NS, "silence"),),
    )
    told = to_json(replace(found, markets=(market, *found.markets[1:])))
    text = told.decode()
    assert '"trusted_s": 0.015671433,' in text
    assert '"p50": 0.3,' in text and '"p99": 15.671433\n' in text
    assert not set("\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}\N{NO-BREAK SPACE}") & set(text)
    assert " % trusted (silence)" in json.loads(told)["verdict"][0]


def test_the_gap_is_that_of_the_quotes(found):
    pair = next(p for p in found.pairs if p.sell == "binance_coinm:BTC-USD-PERP")
    assert not pair.same_quote
    assert pair.gap_bps.median == pytest.approx(1e4 * (12 - 1) / 60_000, abs=0.02)
    assert pair.edge_bps.median == pytest.approx(pair.gap_bps.median - 10, abs=0.02)


def test_time_that_nobody_recorded_is_neither_trusted_nor_missing(found):
    usdm, coinm = found.markets
    assert usdm.absent == ()
    assert coinm.intervals == ()
    (gone,) = coinm.absent
    assert gone.length_s == pytest.approx(3, abs=0.1) and gone.end == found.ts_to


def test_a_tape_read_twice_gives_the_same_bytes(found, tape):
    again = build(Asked(tapes=(tape,)))
    assert to_html(again) == to_html(found)
    assert to_json(again) == to_json(found)


def test_sizes_without_an_instrument_list_are_said_to_be_unknown(found):
    assert all(p.top_notional is None for p in found.pairs)
    assert any("No instrument list" in note for note in found.provenance.notes)


def test_provenance_names_the_tape_and_dates_the_fees(found, tape):
    (source,) = found.provenance.tapes
    assert source.tape == tape.name and len(source.sha256) == 64
    assert {f.venue for f in found.provenance.fees} == {"binance", "binance_coinm"}
    assert all(f.source and f.date for f in found.provenance.fees)


def test_two_tapes_are_one_report(tape, tmp_path, found):
    other = tmp_path / "other"
    import_quotes(other, "binance_spot", "BTCUSDT", 3.0)
    both = build(Asked(tapes=(tape, other)))
    assert [m.market for m in both.markets][-1] == "binance_spot:BTC-USDT-SPOT"
    assert len(both.pairs) == 6 and len(both.provenance.tapes) == 2
    first = {(p.sell, p.buy): p.gap_bps for p in both.pairs}
    assert all(first[p.sell, p.buy] == p.gap_bps for p in found.pairs)


def test_a_tape_still_being_written_says_so(tmp_path):
    growing = tmp_path / "growing"
    import_quotes(growing, "binance", "BTCUSDT", 0.0, seconds=1)
    with TapeWriter(growing) as writer:
        wire = writer.new_wire("binance")
        writer.append(wire, Kind.SENT, [b"{}"], T0 + 60 * NS, 0)
        during = build(Asked(tapes=(growing,)))
    assert any("growing is still being written" in note for note in during.provenance.notes)
    after = build(Asked(tapes=(growing,)))
    assert not any("still being written" in note for note in after.provenance.notes)


def test_a_window_is_obeyed(tape):
    part = build(Asked(tapes=(tape,), ts_from=FROM, ts_to=TO))
    assert (part.ts_from, part.ts_to) == (FROM, TO)
    assert part.markets[0].trusted_s == 2.0
    assert 20 <= part.markets[0].quotes <= 21
    assert to_html(part).count("2024-08-08 00:00:02 UTC") == 1


def test_own_fees_take_the_place_of_the_base_tier(tape, tmp_path):
    fees = tmp_path / "fees.toml"
    fees.write_text("binance = 0\nbinance_coinm = 0.0\n")
    free = build(Asked(tapes=(tape,), fees=fees))
    assert all(p.edge_bps.median == pytest.approx(p.gap_bps.median) for p in free.pairs)
    assert {f.source for f in free.provenance.fees} == {"the user's fees.toml"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("binance = 5.5", "5.5 of binance is no fraction of the notional"),
        ("binance = nan", "nan of binance is no fraction"),
        ("binance = 'x'", "the fee of binance is no number"),
        ("binance = true", "the fee of binance is no number"),
        ("[vip]\nbinance = [1]", "the fee of binance is no number"),
        ("= 3", "is no table of fees"),
        ("[[fee]]\nvenue = 3", "is no table of fees"),
        ("binanc = 0.0002", "'binanc' is no venue: did you mean binance?"),
        ("zzz = 0.1", "'zzz' is no venue: known are binance, binance_coinm, binance_spot, bitget"),
        ("krakken = 0.0005", "'krakken' is no venue"),
    ],
)
def test_fees_that_cannot_be_meant_are_refused(tape, tmp_path, text, said):
    fees = tmp_path / "fees.toml"
    fees.write_text(text)
    with pytest.raises(BadUsage) as refused:
        build(Asked(tapes=(tape,), fees=fees))
    message = str(refused.value)
    assert message.startswith("--fees") and said in message


def test_a_tape_and_its_copy_are_refused_together(tape, tmp_path):
    copy = shutil.copytree(tape, tmp_path / "n2")
    with pytest.raises(BadUsage) as refused:
        build(Asked(tapes=(tape, copy)))
    assert str(refused.value) == f"{tape} and {copy} hold the same data: give one of them."
    with TapeWriter(copy) as writer:
        writer.append(writer.new_wire("binance"), Kind.SENT, [b"{}"], T0 + 60 * NS, 0)
    with pytest.raises(BadUsage, match="hold the same data"):
        build(Asked(tapes=(copy, tape)))


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        (
            ClockState(synchronised=False, max_error_us=16_000_000, estimated_error_us=0),
            "was not synchronised: ",
        ),
        (
            ClockState(synchronised=True, max_error_us=250_000, estimated_error_us=0),
            "was sure of itself to 0.25 s only: ",
        ),
        (ClockState(synchronised=True, max_error_us=20_000, estimated_error_us=0), ""),
        (None, ""),
    ],
)
def test_a_recorder_that_was_not_sure_of_the_time_is_told_of(tmp_path, monkeypatch, clock, said):
    monkeypatch.setattr(manifest, "clock_state", lambda: clock)
    with TapeWriter(tmp_path / "own", config={"instruments": []}) as writer:
        writer.append(writer.new_wire("binance"), Kind.SENT, [b"{}"], T0, 0)
    import_quotes(tmp_path / "others", "binance", "BTCUSDT", 0.0, seconds=1)
    told = build(Asked(tapes=(tmp_path / "own", tmp_path / "others"))).provenance.notes
    notes = [note for note in told if "The clock that" in note]
    assert len(notes) == bool(said) and all(f"own was recorded by {said}" in n for n in notes)


def test_other_arguments_that_cannot_be_meant_are_refused(tape, tmp_path):
    for asked in (
        Asked(tapes=(tape,), max_age_s=0.0),
        Asked(tapes=(tape,), ts_from=TO, ts_to=FROM),
        Asked(tapes=(tape,), fees=tmp_path / "none.toml"),
        Asked(tapes=(tmp_path,)),
    ):
        with pytest.raises(BadUsage):
            build(asked)


def test_an_empty_tape_gets_one_sentence(tmp_path):
    TapeWriter(tmp_path / "empty").close()
    with pytest.raises(Failed, match=r"empty holds no quotes: see why with `perptape verify"):
        build(Asked(tapes=(tmp_path / "empty",)))


def test_a_window_without_quotes_gets_one_sentence(tape):
    with pytest.raises(Failed, match="leave out --from and --to"):
        build(Asked(tapes=(tape,), ts_from=T0 + 1000 * NS, ts_to=T0 + 2000 * NS))


def test_one_market_makes_a_page(tmp_path):
    import_quotes(tmp_path / "one", "binance", "BTCUSDT", 0.0, seconds=1)
    alone = build(Asked(tapes=(tmp_path / "one",)))
    assert alone.pairs == ()
    assert "record at least two venues" in to_html(alone)
    assert json.loads(to_json(alone))["pairs"] == []


# ---- files --------------------------------------------------------------------------------------


def test_what_is_asked_for_is_written_and_named(found, tmp_path):
    page, told, pictures = tmp_path / "a" / "r.html", tmp_path / "r.json", tmp_path / "png"
    written = write(found, page=page, json=told, png=pictures)
    picture = pictures / "binance_BTC-USDT-PERP__binance_coinm_BTC-USD-PERP.png"
    assert written == [page, told, picture]
    assert page.read_text(encoding="utf-8") == to_html(found)
    assert told.read_bytes() == to_json(found)
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 20_000
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == sorted(
        p.name for p in written
    )


def test_json_on_the_screen_stands_alone(found, tmp_path, monkeypatch, capsysbinary):
    monkeypatch.chdir(tmp_path)
    assert write(found, json=report.Path("-")) == []
    assert capsysbinary.readouterr().out == to_json(found)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_gets_one_sentence(found, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Failed, match="cannot be written"):
        write(found, page=tmp_path / "file" / "r.html")


def test_hostile_names_stay_in_the_directory(made, tmp_path):
    evil = made({"htx": "BTC-USDT-PERP", "bybit": "BTC-USDT-PERP"}, rename=lambda n: f"../../{n}/x")
    (path,) = pngs(evil, tmp_path / "png")
    assert path.parent == tmp_path / "png" and path.exists()
    assert path.name == ".._.._htx_BTC-USDT-PERP_x__.._.._bybit_BTC-USDT-PERP_x.png"
    assert [p.name for p in tmp_path.iterdir()] == ["png"]
