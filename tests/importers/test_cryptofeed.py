"""Lines of ``<time>: <text or bytes literal>``: whole, torn, wrong and hostile."""

import ast
import gzip
import hashlib
import json
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perptape import importers
from perptape.decode import decoder
from perptape.errors import Failed
from perptape.events import NS, Book, Kind, Note, Opened, Quote, Trade
from perptape.importers import cryptofeed
from perptape.importers.cryptofeed import venue_at
from perptape.importers.importer import Heard, Tally
from perptape.tape import Tape
from perptape.venues import VENUES
from perptape.verify import verify

T0 = 1_645_289_383
HTX = b"wss://api.hbdm.com/linear-swap-ws <-> 1645289383.84671\n"
OKX = b"wss://ws.okx.com:8443/ws/v5/public <-> 1645289390.5\n"
TEXT = b'{"ch":"market.BTC-USDT.bbo"}'
PACKED = gzip.compress(TEXT, mtime=0)


def came(payload, time="1645289384.689628"):
    return f"{time}: ".encode() + payload + b"\n"


def shown(raw):
    return repr(raw).encode()


def read(path, data, venue=None):
    path.write_bytes(data)
    tally = Tally()
    return list(cryptofeed.read(path, venue, tally)), tally


@pytest.fixture
def path(tmp_path):
    return tmp_path / "HUOBI_SWAP.ws.1.0"


TS = T0 * NS + NS + 689_628_000


def test_bytes_are_inflated_where_the_venue_gzips_and_keep_their_size(path):
    (frame,), tally = read(path, HTX + came(shown(PACKED)))
    assert frame == Heard(TS, "htx", TEXT, Kind.BINARY, len(PACKED), 1)
    assert (tally.skipped, tally.torn) == (0, 0)


def test_bytes_of_a_venue_that_does_not_gzip_stay_as_they_came(path):
    (frame,), _ = read(path, OKX + came(shown(b"\x00\xff\n")))
    assert (frame.venue, frame.payload, frame.kind) == ("okx", b"\x00\xff\n", Kind.BINARY)


def test_bytes_that_do_not_inflate_stay_as_they_came_and_say_why(path, tmp_path):
    broken = PACKED[:-9]
    (frame,), _ = read(path, HTX + came(shown(broken)))
    assert frame.payload == broken and "cut off" in frame.trouble
    importers.run("cryptofeed", [path], tmp_path / "tape")
    opened, data, note = Tape(tmp_path / "tape").frames()
    assert (opened.kind, data.kind, data.payload) == (Kind.OPENED, Kind.BINARY, broken)
    assert msgspec.json.decode(note.payload, type=Note).note == "not_inflated"


def test_text_stays_text_and_what_was_sent_is_told_apart(path):
    said = b'wss://ws.okx.com:8443/ws/v5/public <- 1645289390.6: {"op":"subscribe"}\n'
    frames, _ = read(path, OKX + said + came(b"pong", "1645289391") + came(b"a: b <- c"))
    assert frames == [
        Heard(T0 * NS + 7 * NS + 600_000_000, "okx", b'{"op":"subscribe"}', Kind.SENT, None, 1),
        Heard(T0 * NS + 8 * NS, "okx", b"pong", Kind.TEXT, None, 1),
        Heard(TS, "okx", b"a: b <- c", Kind.TEXT, None, 1),
    ]


@pytest.mark.parametrize(
    ("time", "ns"),
    [
        ("1645289384.6897821", 689_782_100),
        ("1645289384.5", 500_000_000),
        ("1645289384", 0),
        ("1645289384.000000001", 1),
    ],
)
def test_times_are_read_to_the_digit(path, time, ns):
    (frame,), _ = read(path, OKX + came(b"{}", time))
    assert frame.ts_recv == (T0 + 1) * NS + ns


def test_each_connection_is_a_wire_of_its_own(path, tmp_path):
    again = HTX.replace(b"383.84671", b"390.0")
    data = HTX + came(shown(PACKED)) + again + came(shown(PACKED), "1645289391.0")
    frames, _ = read(path, data)
    assert [frame.connection for frame in frames] == [1, 2]
    importers.run("cryptofeed", [path], tmp_path / "tape")
    opened = [f for f in Tape(tmp_path / "tape").frames() if f.kind == Kind.OPENED]
    assert len({frame.wire for frame in opened}) == len(opened) == 2


@pytest.mark.parametrize(
    ("url", "venue"),
    [
        (b"wss://api.hbdm.com/linear-swap-ws", "htx"),
        (b"wss://api.hbdm.com/swap-ws", None),
        (b"wss://fx-ws.gateio.ws/v4/ws/usdt", "gateio"),
        (b"wss://fx-ws.gateio.ws/v4/ws/btc", None),
        (b"wss://ws.bitget.com/mix/v1/stream", "bitget"),
        (b"wss://stream.bybit.com/v5/public/linear", "bybit"),
        (b"wss://stream.bybit.com/v5/public/spot", None),
        (b"wss://fstream.binance.com/stream?streams=a@b", "binance"),
        (b"wss://dstream.binance.com/ws", "binance_coinm"),
        (b"wss://stream.binance.com:9443/ws", "binance_spot"),
        (b"wss://ws-feed.exchange.coinbase.com", None),
    ],
)
def test_the_address_names_the_venue(url, venue):
    assert venue_at(url) == venue


def test_the_addresses_of_live_venues_are_known():
    for name, venue in VENUES.items():
        for url in (venue.url, *venue.sockets.values()) if venue.live else ():
            assert venue_at(url.encode()) == name


def test_a_strangers_frames_are_skipped_or_the_users_word_counts(path):
    data = b"wss://ws.example.com <-> 1645289383.0\n" + came(b"{}") * 3
    frames, tally = read(path, data)
    assert (frames, tally.skipped) == ([], 3)
    frames, tally = read(path, data, "bybit")
    assert [frame.venue for frame in frames] == ["bybit"] * 3 and not tally.skipped
    frames, _ = read(path, came(b"{}"), "gateio")  # it does not say where it listened
    assert frames == [Heard(TS, "gateio", b"{}")]


@pytest.mark.parametrize("last", [came(shown(PACKED)), came(b'{"a":[1,2]}')])
def test_a_torn_last_line_is_counted_and_left_out(path, last):
    whole, _ = read(path, HTX + last)
    for cut in range(1, len(last)):
        frames, tally = read(path, HTX + last + last[:cut])
        if cut == len(last) - 1:  # only the end of the line is missing
            assert (frames, tally.torn) == (whole * 2, 0)
        else:
            assert (frames, tally.torn) == (whole, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"hello\n",
        b'{"no":"time"}\n',
        b"164528938.5: too few digits\n",
        b"9999999999.5: after 2262\n",
        b"https://api.hbdm.com/x -> 1645289384.0: {}\n",
        came(b"b'\\x1'"),
        came(b"b'\\xZZ'"),
        came(b"b'\\u0041'"),
        came(b"b'\\N{DIGIT ONE}'"),
        came(b"b'\\141'"),
        came(b"b'a' + b'b'"),
        came(b"b'a''b'"),
        came(b"b'it's'"),
        came(b"b'\xc3\xa4'"),
        came(b"b'"),
        came(b"b'a\\'"),
        came(b"b'a'.__class__"),
        came(b"b'' if __import__('os').system('touch executed') else b''"),
    ],
)
def test_a_line_that_tells_of_nothing_is_named(path, line):
    with pytest.raises(Failed, match=r"^HUOBI_SWAP\.ws\.1\.0, line 2 tells neither .*nothing was"):
        read(path, HTX + line + came(b"{}"))
    assert not (path.parent / "executed").exists()


def test_a_line_without_end_is_refused(path, monkeypatch):
    monkeypatch.setattr(cryptofeed, "LINE_AT_MOST", 1 << 20)
    with pytest.raises(Failed, match=r"line 2 is longer than 1 MiB"):
        read(path, HTX + b"1645289384.5: " + bytes(2 << 20))


@given(raw=st.binary(max_size=300))
def test_any_bytes_come_back_from_what_python_shows_of_them(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "OKX.ws.1.0"
    (frame,), _ = read(path, OKX + came(shown(raw)))
    assert (frame.payload, frame.wire_size) == (raw, len(raw))


# Real recordings


def on_tape(path, tape):
    summary = importers.run("cryptofeed", [path], tape)
    return summary, list(Tape(tape).frames())


def plain_lines(path):
    """The frames of a file by the plainest reading: (kind, text or bytes)."""
    for line in path.read_text().splitlines():
        head, _, rest = line.partition(": ")
        if " <-> " not in line:
            yield " <- " in head, rest


class Real(NamedTuple):
    """A real recording, and what is in it by its README."""

    file: str
    venue: str
    received: int
    sent: int
    events: dict


REAL = (
    Real("htx-linear-swap-raw-20220219/HUOBI_SWAP.ws.2.0", "htx", 1617, 16, {Quote: 1588}),
    Real("raw-short-recordings/BINANCE_FUTURES.ws.1.0", "binance", 1535, 0, {Quote: 613}),
    Real("raw-short-recordings/BITGET.ws.2.0", "bitget", 473, 1, {}),
    Real("raw-short-recordings/GATEIO_FUTURES.ws.1.0", "gateio", 450, 22, {Quote: 75, Book: 352}),
    Real("raw-short-recordings/OKX.ws.1.0", "okx", 410, 3, {Book: 290, Trade: 74}),
)


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.venue)
def test_frames_in_are_frames_on_the_tape(tmp_path, shared, real):
    path = shared / "data" / real.file
    summary, frames = on_tape(path, tmp_path / "tape")
    assert (summary.frames, summary.skipped, summary.torn) == (real.received + real.sent, 0, 0)
    opened, *rest = frames
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert msgspec.json.decode(opened.payload, type=Opened).url == (
        f"import:cryptofeed:{path.name}:sha256={sha256}"
    )
    assert {frame.venue for frame in rest} == {real.venue}
    assert sum(frame.kind == Kind.SENT for frame in rest) == real.sent
    assert [frame.ts_recv for frame in rest] == sorted(frame.ts_recv for frame in rest)
    for frame, (was_sent, text) in zip(rest, plain_lines(path), strict=True):
        raw = ast.literal_eval(text) if text.startswith("b") else text.encode()
        assert (frame.kind == Kind.SENT) == was_sent
        assert frame.wire_size == len(raw)
        assert frame.payload == (gzip.decompress(raw) if text.startswith("b") else raw)
    heard = told(real.venue, [frame.payload for frame in rest if frame.kind != Kind.SENT])
    assert {kind: heard.count(kind) for kind in real.events} == real.events


def told(venue, payloads):
    """What of a recording our decoder reads; frames that it refuses tell nothing."""
    found = []
    for payload in payloads:
        try:
            found += [type(event) for event in VENUES[venue].decode(payload)]
        except (msgspec.MsgspecError, ValueError):
            continue
    return found


def test_the_real_gzip_frames_shrank_on_the_wire(tmp_path, shared):
    path = shared / "data/htx-linear-swap-raw-20220219/HUOBI_SWAP.ws.2.0"
    _, frames = on_tape(path, tmp_path / "tape")
    binary = [frame for frame in frames if frame.kind == Kind.BINARY]
    assert sum(frame.wire_size for frame in binary) == 1_215_511
    assert sum(len(frame.payload) for frame in binary) == 3_694_157
    assert all(json.loads(frame.payload) for frame in binary)
    channels = {quote.symbol for frame in binary for quote in decoder("htx")(frame.payload)}
    assert channels == {f"{coin}-USDT" for coin in ("SOS", "SNX", "ACH", "GRT", "BTT")}
    assert verify(tmp_path / "tape").verdict == "complete"


def test_the_other_short_recording_with_times_is_another_formats(tmp_path, shared):
    path = shared / "data/raw-short-recordings/hyperliquid_btc_20250126.gz"
    summary = importers.run("hftbacktest", [path], tmp_path / "tape", venue="hyperliquid")
    text = [f for f in Tape(tmp_path / "tape").frames() if f.kind == Kind.TEXT]
    assert summary.frames == len(text) == 55
    heard = told("hyperliquid", [frame.payload for frame in text])
    assert (heard.count(Book), heard.count(Trade)) == (46, 64)
