"""Whole imports: files to a tape, all of it or nothing."""

import gzip
import hashlib
import json
import os
import pickle

import msgspec
import pytest

from perptape import importers
from perptape.decode import decoder
from perptape.errors import BadUsage, Failed
from perptape.events import NS, Kind, Opened, Quote, RestAnswer
from perptape.tape import Tape
from perptape.venues import VENUES

T0 = 1723161255 * NS


def bybit(n, seconds):
    return {
        "topic": "orderbook.1.BTCUSDT", "ts": T0 // 1_000_000, "type": "snapshot",
        "data": {"s": "BTCUSDT", "b": [[str(100 + n), "1"]], "a": [[str(101 + n), "4"]],
                 "u": n, "seq": n},
        "cts": T0 // 1_000_000, "local_ts": T0 / NS + seconds,
    }  # fmt: skip


def htx(n, seconds):
    return {
        "ch": "market.BTC-USDT.bbo", "ts": T0 // 1_000_000,
        "tick": {"mrid": n, "id": n, "bid": [100.5 + n, 6172], "ask": [100.75 + n, 817],
                 "ts": T0 // 1_000_000, "version": n, "ch": "market.BTC-USDT.bbo"},
        "local_ts": T0 / NS + seconds,
    }  # fmt: skip


def gateio(n, seconds):
    return {
        "time": T0 // NS, "time_ms": T0 // 1_000_000, "channel": "futures.book_ticker",
        "event": "update",
        "result": {"t": T0 // 1_000_000, "u": n, "s": "BTC_USDT", "b": str(100 + n), "B": 814,
                   "a": str(101 + n), "A": 677},
        "local_ts": T0 / NS + seconds,
    }  # fmt: skip


def bitget(n, seconds):
    return {
        "action": "snapshot",
        "arg": {"instType": "USDT-FUTURES", "channel": "books1", "instId": "BTCUSDT"},
        "data": [{"asks": [[str(101 + n), "2"]], "bids": [[str(100 + n), "3"]], "checksum": 0,
                  "seq": n, "ts": str(T0 // 1_000_000)}],
        "ts": T0 // 1_000_000, "local_ts": T0 / NS + seconds,
    }  # fmt: skip


def line(ns, body):
    return b"%d %s\n" % (ns, json.dumps(body).encode())


def frames(tape):
    return list(Tape(tape).frames())


def test_the_notebooks_own_file_becomes_quotes_of_four_venues(tmp_path, run_notebook):
    makers = {"bitget": bitget, "htx": htx, "gateio": gateio, "bybit": bybit}
    run_notebook(
        tmp_path / "mixed.pkl",
        *([make(n, n / 8) for n in range(50)] for make in makers.values()),
    )
    summary = importers.run("notebook", [tmp_path / "mixed.pkl"], tmp_path / "tape")
    last = T0 + 49 * NS // 8
    assert summary == (200, 0, 0, 1, T0, last)
    text = [frame for frame in frames(tmp_path / "tape") if frame.kind == Kind.TEXT]
    assert [frame.ts_recv for frame in text] == sorted(
        T0 + n * NS // 8 for n in range(50) for _ in makers
    )
    for venue in makers:
        mine = [frame for frame in text if frame.venue == venue]
        quotes = [quote for frame in mine for quote in decoder(venue)(frame.payload)]
        assert [quote.update_id for quote in quotes] == list(range(50))
        assert all(isinstance(quote, Quote) for quote in quotes)
        assert [quote.bid_price for quote in quotes] == [
            100 + n + (0.5 if venue == "htx" else 0) for n in range(50)
        ]
        assert all(frame.ts_mono is None for frame in mine)
        assert all(frame.wire_size == len(frame.payload) for frame in mine)


def test_a_wire_is_opened_by_the_files_name_and_hash_not_its_folder(tmp_path, run_notebook):
    secret = tmp_path / "home-of-somebody"
    secret.mkdir()
    run_notebook(secret / "a.pkl", [bybit(1, 1.0)], [htx(1, 0.5)])
    run_notebook(secret / "b.pkl", [bybit(2, 2.0)])
    importers.run("notebook", [secret / "a.pkl", secret / "b.pkl"], tmp_path / "tape")
    on_tape = frames(tmp_path / "tape")
    opened = [frame for frame in on_tape if frame.kind == Kind.OPENED]
    sha = {
        name: hashlib.sha256((secret / name).read_bytes()).hexdigest()
        for name in ("a.pkl", "b.pkl")
    }
    assert [
        (frame.ts_recv, msgspec.json.decode(frame.payload, type=Opened)) for frame in opened
    ] == [
        (ts, Opened(venue, f"import:notebook:{name}:sha256={sha[name]}", (), imported=True))
        for ts, venue, name in (
            (T0 + NS // 2, "htx", "a.pkl"),
            (T0 + NS, "bybit", "a.pkl"),
            (T0 + 2 * NS, "bybit", "b.pkl"),
        )
    ]
    assert len({frame.wire for frame in opened}) == 3
    for wire in {frame.wire for frame in on_tape}:
        assert next(frame for frame in on_tape if frame.wire == wire).kind == Kind.OPENED
    assert not any(b"home-of-somebody" in frame.payload for frame in on_tape)
    assert b"home-of-somebody" not in (tmp_path / "tape" / "tape.json").read_bytes()


def test_frames_out_of_order_within_the_window_are_put_right_and_ties_keep_theirs(tmp_path):
    order = [5, 3, 4, 1, 1, 2, 9, 8, 7, 6]
    with (tmp_path / "f").open("wb") as file:
        for place, n in enumerate(order):
            pickle.dump(bybit(place, n), file)
    importers.run("notebook", [tmp_path / "f"], tmp_path / "tape")
    text = [frame for frame in frames(tmp_path / "tape") if frame.kind == Kind.TEXT]
    assert [(frame.ts_recv - T0) // NS for frame in text] == sorted(order)
    assert [msgspec.json.decode(frame.payload)["data"]["u"] for frame in text][:2] == [3, 4]


def test_a_frame_beyond_the_window_is_still_on_the_tape(tmp_path, monkeypatch):
    monkeypatch.setattr("perptape.importers.merge.WINDOW_FRAMES", 2)
    order = [5, 6, 7, 8, 1, 9]
    (tmp_path / "f").write_bytes(b"".join(line(T0 + n, {"n": n}) for n in order))
    importers.run("hftbacktest", [tmp_path / "f"], tmp_path / "tape", venue="binance")
    assert sorted(f.ts_recv - T0 for f in frames(tmp_path / "tape") if f.kind == Kind.TEXT) == (
        sorted(order)
    )
    assert Tape(tmp_path / "tape").damage() == []


def test_files_are_merged_by_time_whatever_their_order(tmp_path):
    for name, start in (("c", 2), ("a", 0), ("b", 1)):
        stamps = range(start, 300, 3)
        packed = gzip.compress(b"".join(line(T0 + n, {"n": n}) for n in stamps))
        (tmp_path / name).write_bytes(packed)
    summary = importers.run(
        "hftbacktest", [tmp_path / name for name in "cab"], tmp_path / "tape", venue="binance_spot"
    )
    text = [frame for frame in frames(tmp_path / "tape") if frame.kind == Kind.TEXT]
    assert [frame.payload for frame in text] == [b'{"n": %d}' % n for n in range(300)]
    assert summary == (300, 0, 0, 3, T0, T0 + 299)


def test_importing_again_adds_to_the_tape(tmp_path, run_notebook):
    run_notebook(tmp_path / "f", [bybit(1, 1.0)])
    for _ in range(2):
        importers.run("notebook", [tmp_path / "f"], tmp_path / "tape")
    on_tape = frames(tmp_path / "tape")
    opened = [frame.wire for frame in on_tape if frame.kind == Kind.OPENED]
    assert len(set(opened)) == len(opened) == 2
    assert [frame.seq for frame in on_tape] == sorted({frame.seq for frame in on_tape})
    assert Tape(tmp_path / "tape").damage() == []


def test_a_torn_pickle_file_is_imported_up_to_the_tear(tmp_path, run_notebook):
    run_notebook(tmp_path / "f", [bybit(n, n) for n in range(10)])
    whole = (tmp_path / "f").read_bytes()
    (tmp_path / "f").write_bytes(whole[:-7])
    summary = importers.run("notebook", [tmp_path / "f"], tmp_path / "tape")
    assert (summary.frames, summary.torn, summary.ts_last) == (9, 1, T0 + 8 * NS)


@pytest.mark.parametrize("where", ["alone", "nested", "after-good", "second-file"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_bomb_is_refused_in_a_sentence_and_leaves_no_trace(tmp_path, bomb, where, protocol):
    good, bad, marker = tmp_path / "good.pkl", tmp_path / "bad.pkl", bomb.marker
    good.write_bytes(pickle.dumps(bybit(1, 1.0)))
    importers.run("notebook", [good], tmp_path / "tape")
    before = {path: path.read_bytes() for path in (tmp_path / "tape").rglob("*") if path.is_file()}
    with bad.open("wb") as file:
        if where == "after-good":
            pickle.dump(bybit(1, 1.0), file, protocol)
        pickle.dump({**bybit(2, 2.0), "x": [bomb]} if where == "nested" else bomb, file, protocol)
    paths = [good, bad] if where == "second-file" else [bad]
    with pytest.raises(Failed, match=r"^bad\.pkl, byte \d+: opcode \w+ .*nothing was") as refused:
        importers.run("notebook", paths, tmp_path / "tape")
    assert "\n" not in str(refused.value)
    assert not marker.exists()
    after = {path: path.read_bytes() for path in (tmp_path / "tape").rglob("*") if path.is_file()}
    assert after == before
    pickle.loads(pickle.dumps(bomb, protocol))  # noqa: S301  # the bomb is a real one
    assert marker.exists()


def test_a_refusal_makes_no_tape(tmp_path, bomb):
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(bomb))
    with pytest.raises(Failed):
        importers.run("notebook", [tmp_path / "bad.pkl"], tmp_path / "tape")
    assert not (tmp_path / "tape").exists()


LISTING = {
    "retCode": 0, "retMsg": "OK",
    "result": {"category": "linear", "list": [{
        "symbol": "BTCUSDT", "contractType": "LinearPerpetual", "status": "Trading",
        "baseCoin": "BTC", "quoteCoin": "USDT", "settleCoin": "USDT", "fundingInterval": 480,
        "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
        "lotSizeFilter": {"maxOrderQty": "100", "minOrderQty": "0.001", "qtyStep": "0.001"},
    }], "nextPageCursor": ""},
    "retExtInfo": {}, "time": 1707186451514,
}  # fmt: skip


def test_an_instrument_list_comes_before_the_data_as_the_venue_gave_it(tmp_path, run_notebook):
    run_notebook(tmp_path / "f", [bybit(1, 1.0)])
    (tmp_path / "list.json").write_text(json.dumps(LISTING))
    importers.run(
        "notebook", [tmp_path / "f"], tmp_path / "tape",
        venue="bybit", instruments=tmp_path / "list.json",
    )  # fmt: skip
    rest, opened, data = frames(tmp_path / "tape")
    assert [rest.kind, opened.kind, data.kind] == [Kind.REST, Kind.OPENED, Kind.TEXT]
    assert rest.wire != opened.wire == data.wire
    assert rest.ts_recv == T0 + NS
    answer = msgspec.json.decode(rest.payload, type=RestAnswer)
    assert (answer.what, answer.url, answer.status) == ("instruments", "import:list.json", 200)
    assert answer.body == json.dumps(LISTING)
    read = VENUES["bybit"].read_instruments
    assert read is not None
    assert [i.name for i in read(answer.body.encode(), rest.ts_recv).instruments] == (
        ["BTC-USDT-PERP"]
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(b"{not json", r"is not bybit's instrument list \(", id="not-json"),
        pytest.param(b'{"code":"00000","data":[]}', "bybit", id="another-venues"),
        pytest.param(b"\xff\xfe", "bybit", id="not-text"),
        pytest.param(b"", "is empty", id="empty"),
    ],
)
def test_an_instrument_list_that_is_none_is_refused(tmp_path, run_notebook, body, why):
    run_notebook(tmp_path / "f", [bybit(1, 1.0)])
    (tmp_path / "list.json").write_bytes(body)
    with pytest.raises(BadUsage, match=why) as refused:
        importers.run(
            "notebook", [tmp_path / "f"], tmp_path / "tape",
            venue="bybit", instruments=tmp_path / "list.json",
        )  # fmt: skip
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "tape").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param({"format": "csv"}, "FORMAT is one of notebook, hftbacktest", id="format"),
        pytest.param({"venue": "binanse"}, "no venue 'binanse': --venue is one of", id="venue"),
        pytest.param({"format": "hftbacktest"}, "add --venue, one of binance", id="no-venue"),
        pytest.param({"paths": []}, "no file to import", id="no-file"),
        pytest.param({"paths": ["nowhere"]}, "nowhere cannot be read .No such file", id="missing"),
        pytest.param({"paths": ["folder"]}, "folder is a directory: name", id="directory"),
        pytest.param({"paths": ["empty"]}, "empty is empty: leave it out", id="empty"),
        pytest.param({"paths": ["fifo"]}, "fifo is no plain file", id="fifo"),
        pytest.param({"instruments": "good"}, "name it with --venue", id="list-of-nobody"),
        pytest.param(
            {"instruments": "good", "venue": "binance_spot"}, "leave it out", id="list-unread"
        ),
    ],
)
def test_bad_words_get_one_sentence_and_no_tape(tmp_path, run_notebook, words, why):
    run_notebook(tmp_path / "good", [bybit(1, 1.0)])
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    instruments = words.get("instruments")
    with pytest.raises(BadUsage, match=why) as refused:
        importers.run(
            words.get("format", "notebook"),
            [tmp_path / name for name in words.get("paths", ["good"])],
            tmp_path / "tape",
            venue=words.get("venue"),
            instruments=instruments and tmp_path / instruments,
        )
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "tape").exists()


def test_a_file_of_nobodys_frames_says_what_was_skipped(tmp_path, run_notebook):
    run_notebook(tmp_path / "f", [{"ping": 1, "local_ts": 1.0}] * 3)
    with pytest.raises(Failed, match=r"\(3 records skipped\).*--venue"):
        importers.run("notebook", [tmp_path / "f"], tmp_path / "tape")
    assert not (tmp_path / "tape").exists()


def test_progress_ends_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(importers, "PROGRESS_EVERY", 4)
    (tmp_path / "f").write_bytes(b"".join(line(T0 + n, {"n": n}) for n in range(10)))
    told = []
    importers.run(
        "hftbacktest", [tmp_path / "f"], tmp_path / "tape",
        venue="binance", progress=lambda *done: told.append(done),
    )  # fmt: skip
    assert told == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize(
    ("venue", "file", "quotes"),
    [
        ("binance", "usdm/btcusdt_20240808.gz", 66_089),
        ("binance_coinm", "cm/btcusd_perp_20240808.gz", 19_136),
        ("binance_spot", "spot/btcusdt_20240808.gz", 28_040),
    ],
)
def test_a_real_recording_is_on_the_tape_byte_for_byte(tmp_path, shared, venue, file, quotes):
    path = shared / "data" / "binance-3markets-btc-20240808" / file
    importers.run("hftbacktest", [path], tmp_path / "tape", venue=venue)
    lines = gzip.decompress(path.read_bytes()).splitlines()
    opened, *text = frames(tmp_path / "tape")
    assert (opened.kind, opened.ts_recv) == (Kind.OPENED, int(lines[0].split()[0]))
    assert [b"%d %s" % (frame.ts_recv, frame.payload) for frame in text] == lines
    decode = decoder(venue)
    events = [event for frame in text for event in decode(frame.payload)]
    assert sum(isinstance(event, Quote) for event in events) == quotes
