"""Gate.io's books, trades and tickers, frame by frame; our own values in the venue's shapes."""

import msgspec
import pytest

from perptape.events import MS, NS, Book, Funding, Mark, Trade
from perptape.venues import gateio as wire
from perptape.venues.gateio import GATEIO
from perptape.venues.venue import Accepted, Link, Rejected

MADE, SENT = 1_700_000_000_001 * MS, 1_700_000_000_004 * MS
T = b'"t":1700000000001'


def update(channel, result):
    head = b'{"time":1700000000,"time_ms":1700000000004,"channel":"futures.%b","event":"update",'
    return head % channel + b'"result":%b}' % result


def obu(result):
    return update(b"obu", b'{%b,"s":"ob.ABC_USDT.50",%b}' % (T, result))


def changes(result):
    return update(b"order_book_update", b'{%b,%b,"s":"ABC_USDT","l":"100"}' % (T, result))


def book(bids, asks, update_id, follows=None):
    is_snapshot = follows is None
    return Book("ABC_USDT", MADE, SENT, bids, asks, is_snapshot, update_id, follows)


OBU_FULL = obu(b'"full":true,"u":70,"b":[["20.25","1.5"],["20","3"]],"a":[["20.5","2"]]')
OBU_CHANGE = obu(b'"U":71,"u":77,"b":[["20","0"],["20.25","4.5"]],"a":[["20.5","7"]]')


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(
            OBU_FULL, book([(20.25, 1.5), (20.0, 3.0)], [(20.5, 2.0)], 70), id="obu-full-replaces"
        ),
        pytest.param(
            OBU_CHANGE,
            book([(20.0, 0.0), (20.25, 4.5)], [(20.5, 7.0)], 77, 70),
            id="obu-change-follows-the-id-before-its-first",
        ),
        pytest.param(
            obu(b'"U":78,"u":90'), book([], [], 90, 77), id="obu-of-ids-alone-still-advances"
        ),
        pytest.param(
            obu(b'"U":78,"u":90,"a":[["21","2"]]'),
            book([], [(21.0, 2.0)], 90, 77),
            id="obu-a-side-not-there-did-not-change",
        ),
        *(
            pytest.param(
                obu(b'"full":true,"u":70%b,"a":[["21","2"]]' % bids),
                book([], [(21.0, 2.0)], 70),
                id=f"obu-one-sided-{name}",
            )
            for name, bids in (("absent", b""), ("empty", b',"b":[]'), ("null", b',"b":null'))
        ),
        pytest.param(
            OBU_FULL.replace(b'"time":1700000000,', b"").replace(b'"event":"update",', b""),
            book([(20.25, 1.5), (20.0, 3.0)], [(20.5, 2.0)], 70),
            id="obu-as-documented-without-an-event",
        ),
        pytest.param(
            OBU_FULL.replace(b'":', b'": '),
            book([(20.25, 1.5), (20.0, 3.0)], [(20.5, 2.0)], 70),
            id="obu-spaces-after-colons-lose-nothing",
        ),
        pytest.param(
            changes(b'"U":71,"u":77,"a":[{"p":"20.5","s":"1.5"},{"p":"21","s":"0"}],"b":[]'),
            book([], [(20.5, 1.5), (21.0, 0.0)], 77, 70),
            id="update-with-decimal-sizes",
        ),
        pytest.param(
            changes(b'"U":71,"u":77,"a":[{"p":"20.5","s":15}],"b":[{"p":"20","s":0}]'),
            book([(20.0, 0.0)], [(20.5, 15.0)], 77, 70),
            id="update-with-integer-sizes",
        ),
        pytest.param(
            changes(b'"full":true,"u":77,"a":[{"p":"20.5","s":15}],"b":[]'),
            book([], [(20.5, 15.0)], 77),
            id="update-full-as-documented-replaces",
        ),
        pytest.param(
            changes(b'"full":true,"U":71,"u":77,"a":[],"b":[{"p":"20","s":1}]'),
            book([(20.0, 1.0)], [], 77),
            id="update-full-with-a-first-id-replaces",
        ),
    ],
)
def test_books(frame, expected):
    assert GATEIO.decode(frame) == [expected]
    if b'"event":"update"' in frame:
        assert GATEIO.is_data(frame)
    if b'": ' not in frame:
        place = (expected.is_snapshot, expected.update_id, expected.follows)
        key = "futures.obu.ob.ABC_USDT.50" if b".obu" in frame else UPDATES_KEY
        assert GATEIO.link(frame) == Link(key, *place)


UPDATES_KEY = "futures.order_book_update.ABC_USDT"


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(obu(b'"u":70,"b":[["20.25","1"]]'), id="a-change-without-its-first-id"),
        pytest.param(OBU_FULL.replace(b"ob.ABC_USDT.50", b"ABC_USDT"), id="not-a-books-name"),
        pytest.param(OBU_FULL.replace(b'"3"', b'"-3"'), id="a-signed-size"),
        pytest.param(OBU_FULL.replace(b'"20.25"', b'""'), id="a-level-without-a-price"),
        pytest.param(OBU_FULL.replace(b'"20.25","1.5"', b'"20.25"'), id="a-level-without-a-size"),
        pytest.param(update(b"trades", b'[{"price":"nan"}]'), id="a-trade-without-fields"),
        pytest.param(update(b"tickers", b'{"contract":"BTC_USD"}'), id="2022-ticker-of-inverse"),
        pytest.param(update(b"tickers", b'[[{"contract":"BTC_USD"}]]'), id="2021-ticker-nested"),
    ],
)
def test_what_no_frame_shows_is_refused(frame):
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        GATEIO.decode(frame)


def test_a_change_without_its_first_id_links_to_nothing():
    frame = obu(b'"u":70,"b":[["20.25","1"]]')
    assert GATEIO.link(frame) == Link(
        "futures.obu.ob.ABC_USDT.50", is_snapshot=False, update_id=70, follows=-1
    )


TRADE = b'{"id":9,"size":%b,"create_time":1700000000,"create_time_ms":1700000000001,"price":"20.25"'
ABC = b',"contract":"ABC_USDT"'


@pytest.mark.parametrize(
    ("size", "qty", "side"),
    [
        pytest.param(b"3", 3.0, "buy", id="positive-the-taker-bought"),
        pytest.param(b"-3", 3.0, "sell", id="negative-the-taker-sold"),
        pytest.param(b'"-0.4"', 0.4, "sell", id="decimal-sizes-are-strings"),
    ],
)
def test_the_sign_of_a_trade_is_the_takers_side(size, qty, side):
    frame = update(b"trades", b"[%b%b}]" % (TRADE % size, ABC))
    assert GATEIO.decode(frame) == [Trade("ABC_USDT", MADE, SENT, 20.25, qty, side, "9")]


def test_takeovers_and_sizes_cut_to_nothing_are_no_trades():
    rows = (TRADE % b"5" + ABC + b',"is_internal":true}', TRADE % b"0" + ABC + b"}")
    more = TRADE % b"2" + ABC + b',"is_internal":false}'
    frame = update(b"trades", b"[%b]" % b",".join((*rows, more)))
    (only,) = GATEIO.decode(frame)
    assert (only.qty, only.side, only.is_history) == (2.0, "buy", False)


def ticker(result):
    return update(b"tickers", b'[{"contract":"ABC_USDT",%b}]' % result)


NOW = b'"t":1700000000001,"mark_price":"20.5","index_price":"20.25","total_size":"10",'
PAID = b'"funding_rate":"0.0004","funding_interval":28800,"funding_next_apply":1700006400'
MARK = Mark("ABC_USDT", MADE, SENT, 20.5, 20.25, 5.0)
NEXT = 1_700_006_400 * NS


@pytest.mark.parametrize(
    ("frame", "events"),
    [
        pytest.param(
            ticker(NOW + PAID),
            [MARK, Funding("ABC_USDT", MADE, SENT, 0.0004, 8.0, NEXT)],
            id="open-interest-counts-both-sides-so-it-is-halved",
        ),
        pytest.param(
            ticker(b'"mark_price":"20.5","index_price":"20.25","funding_rate":"-0.0004"'),
            [
                Mark("ABC_USDT", None, SENT, 20.5, 20.25),
                Funding("ABC_USDT", None, SENT, -0.0004),
            ],
            id="2023-ticker-does-not-say-when-nor-how-often",
        ),
        pytest.param(
            ticker(b'"total_size":"0","mark_price":"20.5","index_price":"0"'),
            [Mark("ABC_USDT", None, SENT, 20.5, None, 0.0)],
            id="an-index-of-zero-is-none-and-no-interest-is-zero",
        ),
        pytest.param(
            ticker(b'"funding_rate":"0"'),
            [Funding("ABC_USDT", None, SENT, 0.0)],
            id="a-rate-of-zero-is-said",
        ),
        pytest.param(ticker(b'"last":"20.5"'), [], id="nothing-of-ours-is-no-event"),
    ],
)
def test_tickers(frame, events):
    assert GATEIO.decode(frame) == events


def test_a_funding_interval_that_changes_is_in_force_from_its_frame_on():
    later = NOW + PAID.replace(b"28800", b"14400")
    told = [e for result in (NOW + PAID, later) for e in GATEIO.decode(ticker(result))]
    assert [e.interval_h for e in told if isinstance(e, Funding)] == [8.0, 4.0]


STREAMS = [
    ("books", "futures.obu.50", b'"ob.A_USDT.50"', "futures.obu.ob.A_USDT.50"),
    ("books", "futures.obu.400", b'"ob.A_USDT.400"', "futures.obu.ob.A_USDT.400"),
    (
        *("books", "futures.order_book_update.100ms.100"),
        *(b'"A_USDT","100ms","100"', "futures.order_book_update.A_USDT"),
    ),
    (
        *("books", "futures.order_book_update.20ms.20"),
        *(b'"A_USDT","20ms","20"', "futures.order_book_update.A_USDT"),
    ),
    ("trades", "futures.trades", b'"A_USDT"', "futures.trades.A_USDT"),
    ("marks", "futures.tickers", b'"A_USDT"', "futures.tickers.A_USDT"),
    ("funding", "futures.tickers", b'"A_USDT"', "futures.tickers.A_USDT"),
]


@pytest.mark.parametrize(("channel", "stream", "payload", "key"), STREAMS)
def test_asking_and_leaving(channel, stream, payload, key):
    assert stream in GATEIO.streams[channel]
    topic = GATEIO.topic(channel, stream, "A_USDT")
    name = ".".join(stream.split(".")[:2]).encode()
    ask = b'{"time":12,"id":1,"channel":"%b","event":"%b","payload":[%b]}'
    assert GATEIO.subscribe([topic], 12 * NS) == [ask % (name, b"subscribe", payload)]
    assert GATEIO.unsubscribe([topic], 12 * NS) == [ask % (name, b"unsubscribe", payload)]
    ack = b'{"channel":"%b","event":"subscribe","payload":[%b],"result":{"status":"success"}}'
    assert topic.key == key
    assert GATEIO.control(ack % (name, payload)) == Accepted((key,))


def test_marks_and_funding_are_one_subscription():
    assert (
        len({GATEIO.topic(c, "futures.tickers", "A_USDT").key for c in ("marks", "funding")}) == 1
    )


def test_an_obu_that_does_not_exist_is_acknowledged_so_an_ack_is_no_data():
    ack = (
        b'{"time":1,"time_ms":1,"channel":"futures.obu","event":"subscribe",'
        b'"payload":["ob.NOPE_USDT.50"],"result":{"status":"success"}}'
    )
    topic = GATEIO.topic("books", "futures.obu.50", "NOPE_USDT")
    assert GATEIO.control(ack) == Accepted((topic.key,))
    assert not all(mark in ack for mark in topic.marks) and not GATEIO.is_data(ack)
    assert GATEIO.decode(ack) == [] and GATEIO.link(ack) is None
    assert "futures.obu.50" not in GATEIO.slow  # its silence is late after the general deadline


REFUSED = b'{"channel":"%b","event":"subscribe"%b,"error":{"code":2,"message":"%b"}}'


@pytest.mark.parametrize("payload", [b',"payload":["NO_USDT","100ms","100"]', b""])
def test_a_refused_update_is_found_by_payload_or_by_words(payload):
    words = b"unknown currency pair NO_USDT"
    topic = GATEIO.topic("books", "futures.order_book_update.100ms.100", "NO_USDT")
    frame = REFUSED % (b"futures.order_book_update", payload, words)
    assert GATEIO.control(frame) == Rejected((topic.key,), words.decode())


def test_the_same_obu_again_is_no_refusal_because_the_first_goes_on():
    again = REFUSED % (b"futures.obu", b',"payload":["ob.A_USDT.50"]', b"Alert sub ob.A_USDT.50")
    topic = GATEIO.topic("books", "futures.obu.50", "A_USDT")
    assert GATEIO.control(again) == Accepted((topic.key,))


def test_every_stream_of_changes_alone_has_a_base_of_its_own_depth():
    assert GATEIO.bases == {
        f"futures.order_book_update.{form}": "/api/v4/futures/usdt/order_book"
        f"?contract={{symbol}}&interval=0&limit={limit}&with_id=true"
        for form, limit in (("100ms.100", 100), ("20ms.20", 20))
    }


@pytest.mark.parametrize("size", [b'"1.5"', b"1.5"])
def test_a_base_by_rest(size):
    body = (
        b'{"current":1700000000.004,"update":1700000000.001,'
        b'"asks":[{"s":%b,"p":"20.5"}],"bids":[{"s":3,"p":"20.25"}],"id":77}' % size
    )
    assert GATEIO.read_rest("book", "ABC_USDT", body) == [book([(20.25, 3.0)], [(20.5, 1.5)], 77)]


CONTRACT = b'{"name":"ABC_USDT","funding_rate":"0.0004",%b}'


def test_rest_tells_the_next_funding_but_not_its_rate_which_may_be_the_last_one():
    body = CONTRACT % b'"funding_interval":14400,"funding_next_apply":1700006400'
    told = GATEIO.read_rest("funding_terms", "ABC_USDT", body)
    assert told == [Funding("ABC_USDT", None, None, None, 4.0, NEXT)]
    assert GATEIO.read_rest("funding_terms", "ABC_USDT", CONTRACT % b'"x":1') == []


@pytest.mark.parametrize("size", [b"5", b'"5"'])
def test_rest_counts_one_side_of_the_open_interest(size):
    told = GATEIO.read_rest("open_interest", "ABC_USDT", CONTRACT % b'"position_size":%b' % size)
    assert told == [Mark("ABC_USDT", None, None, open_interest=5.0)]
    assert GATEIO.read_rest("open_interest", "ABC_USDT", CONTRACT % b'"x":1') == []


def test_paid_funding_is_due_at_the_full_hour_and_over_the_time_since_the_one_before():
    body = (
        b'[{"r":"0.0002","t":1699977601},{"r":"-0.0001","t":1699963202},'
        b'{"r":"0.0004","t":1699934400}]'
    )
    told = GATEIO.read_rest("funding_paid", "ABC_USDT", body)
    hour = 3600 * NS
    first = 1_699_934_400 * NS
    assert told == [
        Funding("ABC_USDT", None, None, -0.0001, 8.0, first + 8 * hour, is_settled=True),
        Funding("ABC_USDT", None, None, 0.0002, 4.0, first + 12 * hour, is_settled=True),
    ]
    assert GATEIO.read_rest("funding_paid", "ABC_USDT", b"[]") == []


def test_the_only_payment_of_a_new_contract_is_told_without_an_interval():
    told = GATEIO.read_rest("funding_paid", "ABC_USDT", b'[{"r":"0.0004","t":1699934401}]')
    due = 1_699_934_400 * NS
    assert told == [Funding("ABC_USDT", None, None, 0.0004, None, due, is_settled=True)]


@pytest.mark.parametrize("what", ["book", "open_interest", "funding_terms", "funding_paid", "nope"])
def test_a_rest_error_is_refused(what):
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        GATEIO.read_rest(what, "NO_USDT", b'{"label":"CONTRACT_NOT_FOUND"}')


def test_every_poll_can_be_read():
    assert {poll.what for poll in GATEIO.polls} | {"book"} == set(wire.RESTS)
    assert all("{symbol}" in poll.path and poll.channel in GATEIO.streams for poll in GATEIO.polls)
