"""Answers about the time: by REST and by pings, of each venue what its frames really say."""

import msgspec
import pytest

import perptape as pt
from perptape.events import Kind, RestAnswer
from perptape.tape import TapeWriter
from perptape.venues import VENUES

NS, MS = 10**9, 10**6
T0 = 1_790_000_000 * NS
OFFSET = 250 * MS
PONG = (
    b'{"time":%d,"time_ms":%d,"conn_id":"c59a69fd3702aa1d","channel":"futures.pong","event":"",'
    b'"result":null}'
)
QUOTE = (
    b'{"time":1,"time_ms":1,"channel":"futures.book_ticker","event":"update","result":{"t":1,'
    b'"u":1,"s":"BTC_USDT","b":"1","B":"1","a":"2","A":"1"}}'
)
OTHERS = {
    "bitget": b"pong",
    "bybit": b'{"success":true,"ret_msg":"pong","conn_id":"d9","req_id":"p1","op":"ping"}',
    "okx": b"pong",
    "hyperliquid": b'{"channel":"pong"}',
    "htx": b'{"ping":1645289389594}',
    "binance": b'{"result":[],"id":1}',
}
"""What keeps the other venues' wires alive, as their sheets show it: no answer with a time."""


class Tape:
    """Writes frames of one wire at times that are said."""

    def __init__(self, path, venue="gateio"):
        self._writer = TapeWriter(path, now=lambda: (T0, 0))
        self.venue, self.path = VENUES[venue], path

    def __enter__(self):
        self._writer.__enter__()
        self.open_wire()
        return self

    def __exit__(self, *error):
        self._writer.__exit__(*error)

    def open_wire(self):
        self.wire = self._writer.new_wire(self.venue.name)

    def put(self, kind, payload, at_ms):
        self._writer.append(self.wire, kind, [payload], T0 + at_ms * MS, at_ms * MS)

    def ping(self, at_ms):
        self.put(Kind.SENT, self.venue.heartbeat.ping(T0 + at_ms * MS), at_ms)

    def pong(self, heard_ms, at_ms):
        ts = T0 + heard_ms * MS + OFFSET
        self.put(Kind.TEXT, PONG % (ts // NS, ts // MS), at_ms)


def trips(path):
    rows = pt.open(path).clock_samples().collect().rows()
    return [(v, *((int(ts.timestamp() * 1000) - T0 // MS) for ts in times)) for v, *times in rows]


def test_a_pong_of_gateio_is_a_round_trip(tmp_path):
    with Tape(tmp_path / "t") as tape:
        tape.put(Kind.SENT, b'{"channel":"futures.book_ticker","event":"subscribe"}', 0)
        tape.ping(100)
        tape.put(Kind.TEXT, QUOTE, 110)
        tape.pong(130, 180)
        tape.ping(10_100)
        tape.pong(10_110, 10_120)
    assert trips(tmp_path / "t") == [("gateio", 100, 380, 180), ("gateio", 10_100, 10_360, 10_120)]
    (found,) = pt.clocks(pt.open(tmp_path / "t").clock_samples()).windows.rows(named=True)
    assert found["samples"] == 2 and found["delay_ms"] == 20
    assert abs(found["offset_ms"] - OFFSET / MS) <= found["error_ms"] == 11  # 20 / 2 and whole ms


def test_a_ping_without_an_answer_only_widens_the_bound(tmp_path):
    with Tape(tmp_path / "t") as tape:
        tape.ping(0)  # never answered
        tape.ping(10_000)
        tape.pong(10_020, 10_050)
    ((_, sent, told, recv),) = trips(tmp_path / "t")
    assert (sent, recv) == (0, 10_050)
    assert told - recv <= OFFSET / MS <= told - sent


def test_what_answers_nothing_is_no_round_trip(tmp_path):
    with Tape(tmp_path / "t") as tape:
        tape.pong(5, 10)  # before any ping
        tape.ping(20)
        tape.put(Kind.TEXT, b'{"channel":"futures.trades","x":"futures.pong"}', 30)
        tape.put(Kind.TEXT, b'{"channel":"futures.pong"}', 40)  # tells no time
        tape.put(Kind.CLOSE, b"futures.pong", 50)
    assert trips(tmp_path / "t") == []


def test_each_wire_has_its_own_pings(tmp_path):
    with Tape(tmp_path / "t") as tape:
        tape.ping(0)
        tape.open_wire()
        tape.pong(20, 40)
    assert trips(tmp_path / "t") == []


def test_pings_and_rest_are_told_together_in_order(tmp_path):
    body = f'{{"server_time":{(T0 + 60 * MS + OFFSET) // MS}}}'
    answer = RestAnswer(what="time", url="", status=200, t_sent=T0 + 50 * MS, body=body)
    with Tape(tmp_path / "t") as tape:
        tape.ping(0)
        tape.put(Kind.REST, msgspec.json.encode(answer), 70)
        tape.pong(20, 90)
    assert trips(tmp_path / "t") == [("gateio", 50, 310, 70), ("gateio", 0, 270, 90)]


@pytest.mark.parametrize("venue", OTHERS)
def test_the_heartbeats_of_the_others_tell_no_time(venue, tmp_path):
    heartbeat = VENUES[venue].heartbeat
    assert heartbeat.echo is None
    with Tape(tmp_path / "t", venue) as tape:
        if heartbeat.ping is not None:
            tape.ping(0)
        tape.put(Kind.TEXT, OTHERS[venue], 30)
    assert trips(tmp_path / "t") == []


def test_every_recorded_venue_is_spoken_of():
    live = {name for name, venue in VENUES.items() if venue.live}
    assert live == {*OTHERS, "gateio"}
