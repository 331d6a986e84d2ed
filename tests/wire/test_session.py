"""The session alone: bytes and time in, bytes, notes and verdicts out."""

from itertools import islice
from random import Random

import msgspec
import pytest

from perptape.backoff import LONGEST_NS, asked_wait_ns, delays
from perptape.errors import BadUsage, LostSync, Refused, Silent
from perptape.events import MS, NS, Note
from perptape.session import ASK_AGAIN_NS, REPLIES_AHEAD, Session, State
from perptape.venues.venue import Heartbeat

WALL = 1_700_000_000 * NS


def states(session):
    return [line.state for line in session.lines]


def test_subscribes_are_paced_and_carry_the_wall_time(wires):
    venue = msgspec.structs.replace(wires.ACME, subscribe_every_ns=100 * MS)
    session = Session(venue, wires.wanted("A", "B"), now=0)
    assert session.wake_at == 0
    assert session.to_send(0, WALL) == [b'{"sub":"bbo.A","ts":%d}' % WALL]
    assert session.to_send(99 * MS, WALL) == []
    assert session.wake_at == 100 * MS
    assert len(session.to_send(100 * MS, WALL)) == 1
    assert session.wake_at == 100 * MS + venue.first_data_ns


def test_without_a_pace_all_goes_at_once(wires):
    session = Session(wires.ACME, wires.wanted("A", "B", "C"), now=0)
    assert len(session.to_send(0, WALL)) == 3


def test_a_topic_is_asked_accepted_heard(wires):
    session = Session(wires.ACME, wires.wanted("A"), now=0)
    session.to_send(0, WALL)
    assert states(session) == [State.ASKED]
    session.receive([b'{"ok":["bbo.A"]}'], 1)
    assert states(session) == [State.ACCEPTED]
    session.receive([wires.data("B")], 2)
    assert states(session) == [State.ACCEPTED]
    session.receive([wires.data("A")], 3)
    assert states(session) == [State.HEARD] and session.any_heard


def test_data_may_come_before_its_ack_and_in_the_same_read(wires):
    session = Session(wires.ACME, wires.wanted("A"), now=0)
    session.receive([wires.data("A"), b'{"ok":["bbo.A"]}'], 1)
    assert states(session) == [State.HEARD]


def test_an_ack_that_contains_the_marks_is_not_data(wires):
    session = Session(wires.ACME, wires.wanted("A"), now=0)
    session.receive([b'{"ok":["bbo.A"],"s":"A"}'], 1)
    assert states(session) == [State.ACCEPTED]


def test_marks_spread_over_two_frames_are_not_data_of_the_topic(wires):
    topic = msgspec.structs.replace(
        wires.wanted("A")[0],
        topic=msgspec.structs.replace(wires.wanted("A")[0].topic, marks=(b'"s":"A"', b'"px":2')),
    )
    session = Session(wires.ACME, [topic], now=0)
    session.receive([wires.data("A", 1), wires.data("B", 2)], 1)
    assert states(session) == [State.ASKED]
    session.receive([wires.data("A", 2)], 2)
    assert states(session) == [State.HEARD]


def test_a_frame_that_is_neither_ruled_out_nor_control_is_data(wires):
    session = Session(wires.ACME, wires.wanted("A"), now=0)
    session.receive([b'{"mid":3,"s":"A"}'], 1)
    assert states(session) == [State.HEARD]


def test_one_refusal_leaves_the_others_and_keeps_the_venues_words(wires):
    session = Session(wires.ACME, wires.wanted("A", "B"), now=0)
    session.receive([b'{"no":["bbo.A"],"why":"unknown symbol"}', wires.data("B")], 1)
    assert states(session) == [State.REFUSED, State.HEARD]
    assert session.urgent
    assert session.notes() == [
        Note(
            note="refused",
            market="acme:A-USDT-PERP",
            channel="quotes",
            symbol="A",
            reason="unknown symbol",
        )
    ]
    assert not session.urgent and session.notes() == []


def test_a_refused_topic_that_sends_is_heard(wires):
    session = Session(wires.ACME, wires.wanted("A", "B"), now=0)
    session.receive([wires.data("A"), wires.data("B")], 1)
    session.receive([b'{"no":["bbo.A"],"why":"later"}'], 2)
    assert states(session) == [State.REFUSED, State.HEARD]
    session.receive([wires.data("A")], 3)
    assert states(session) == [State.HEARD, State.HEARD]


def test_a_refused_topic_is_asked_for_again_for_a_refusal_may_pass(wires):
    session = Session(wires.ACME, wires.wanted("A", "B"), now=0)
    both = session.to_send(0, WALL)
    session.receive([b'{"no":["bbo.A"],"why":"suspended"}', wires.data("B")], 1)
    assert not set(session.to_send(2, WALL)) & set(both)
    at = 1 + ASK_AGAIN_NS
    assert session.wake_at <= at
    session.receive([wires.data("B")], at)
    assert [frame for frame in session.to_send(at, WALL) if frame in both] == both[:1]
    assert states(session) == [State.ASKED, State.HEARD]
    session.receive([b'{"no":["bbo.A"],"why":"suspended"}'], at + 1)
    session.receive([wires.data("B")], 2 * at)
    assert both[0] in session.to_send(2 * at, WALL)
    session.receive([wires.data("A")], 2 * at + 1)
    assert states(session) == [State.HEARD, State.HEARD]
    session.receive([wires.data("A")], 4 * at)
    assert both[0] not in session.to_send(4 * at, WALL)


def test_all_refused_is_refused_with_its_note(wires):
    session = Session(wires.ACME, wires.wanted("A", "B"), now=0)
    session.receive([b'{"no":["bbo.A"],"why":"x"}'], 1)
    with pytest.raises(Refused, match="no such thing"):
        session.receive([b'{"no":["bbo.B"],"why":"no such thing"}'], 2)
    assert [note.note for note in session.notes()] == ["refused", "refused"]


def test_a_refusal_of_nothing_we_asked_is_a_complaint(wires):
    session = Session(wires.ACME, wires.wanted("A"), now=0)
    session.receive([b'{"no":["bbo.Z"],"why":"x"}', b'{"oops":"slow down"}'], 1)
    assert [(n.note, n.reason) for n in session.notes()] == [
        ("complaint", "x"),
        ("complaint", "slow down"),
    ]


def test_late_is_noted_once_and_the_topic_goes_on_waiting(wires):
    session = Session(wires.ACME, wires.wanted("A", "B"), now=0)
    session.to_send(0, WALL)
    session.receive([wires.data("A")], 1)
    assert session.wake_at == 10 * NS
    assert session.to_send(10 * NS, WALL) == []
    (note,) = session.notes()
    assert (note.note, note.symbol, note.deadline_ns) == ("late", "B", 10 * NS)
    session.receive([wires.data("A")], 11 * NS)
    session.to_send(25 * NS, WALL)
    assert session.notes() == [] and states(session) == [State.HEARD, State.LATE]
    session.receive([wires.data("B")], 26 * NS)
    assert states(session) == [State.HEARD, State.HEARD]


def test_acknowledged_but_silent_is_lost_at_the_deadline(wires):
    session = Session(wires.ACME, wires.wanted("A", "B"), now=0)
    session.to_send(5, WALL)
    session.receive([b'{"ok":["bbo.A"]}', b'{"no":["bbo.B"],"why":"x"}'], 6)
    session.notes()
    session.to_send(10 * NS + 4, WALL)
    with pytest.raises(Silent, match="acknowledged but silent"):
        session.to_send(10 * NS + 5, WALL)
    assert [(n.note, n.symbol) for n in session.notes()] == [("late", "A")]


def test_silence_counts_from_the_last_sign_of_life(wires):
    session = Session(wires.silence(3 * NS), wires.wanted("A"), now=0)
    session.to_send(0, WALL)
    session.receive([wires.data("A")], 1 * NS)
    session.heard(2 * NS)
    assert session.wake_at == 5 * NS
    session.to_send(5 * NS - 1, WALL)
    with pytest.raises(Silent):
        session.to_send(5 * NS, WALL)
    assert session.notes() == [Note(note="silence", silence_ns=3 * NS)]


def test_excused_silence_is_forgiven(wires):
    session = Session(wires.silence(3 * NS), wires.wanted("A"), now=0)
    session.to_send(0, WALL)
    session.excuse(60 * NS)
    assert session.to_send(62 * NS, WALL) == [] and session.notes() == []


def test_the_clients_ping_keeps_its_beat_and_the_pace(wires):
    venue = msgspec.structs.replace(
        wires.ACME,
        subscribe_every_ns=1 * NS,
        heartbeat=Heartbeat(silence_ns=100 * NS, ping=lambda ts: b"p%d" % ts, every_ns=2 * NS),
    )
    session = Session(venue, wires.wanted("A", "B", "C", "D"), now=0)
    sent = {second: session.to_send(second * NS, second) for second in range(7)}
    assert [len(frames) for frames in sent.values()] == [1] * 7
    assert sent[2] == [b"p2"] and sent[4] == [b"p4"] and sent[6] == [b"p6"]


def test_a_server_ping_is_answered_at_once_whatever_the_pace(wires):
    venue = msgspec.structs.replace(wires.ACME, subscribe_every_ns=NS)
    session = Session(venue, wires.wanted("A"), now=0)
    session.to_send(0, WALL)
    session.notes()
    session.receive([b'{"ping":7}'], 1)
    assert session.urgent and session.to_send(1, WALL) == [b'{"pong":7}']
    session.notes()
    assert not session.urgent


def test_a_flood_of_pings_is_answered_in_part(wires):
    session = Session(wires.ACME, wires.wanted("A"), now=0)
    session.to_send(0, WALL)
    session.receive([b'{"ping":%d}' % n for n in range(1000)], 1)
    replies = session.to_send(1, WALL)
    assert len(replies) == REPLIES_AHEAD and replies[-1] == b'{"pong":999}'


def test_leaving_is_lost_but_what_came_before_counts(wires):
    session = Session(wires.ACME, wires.wanted("A"), now=0)
    with pytest.raises(LostSync, match="upgrade"):
        session.receive([wires.data("A"), b'{"bye":"upgrade"}'], 1)
    assert session.any_heard


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\xff\xfe", b"null", b"[" * 100_000, b'{"no":3,"why":4}', b"<html>", b'{"ping":1'],
)
def test_garbage_is_no_news(wires, garbage):
    session = Session(wires.ACME, wires.wanted("A"), now=0)
    session.receive([garbage], 1)
    session.receive([wires.data("A")], 2)
    session.receive([garbage], 3)
    assert states(session) == [State.HEARD]


def test_only_control_frames_are_read_once_all_are_heard(wires):
    read = []

    def control(payload):
        read.append(payload)
        return wires.ACME.control(payload)

    venue = msgspec.structs.replace(wires.ACME, control=control)
    session = Session(venue, wires.wanted("A"), now=0)
    session.receive([wires.data("A")], 1)
    session.receive([wires.data("A"), b'{"pong":1}', wires.data("A")], 2)
    assert read == [b'{"pong":1}']


@pytest.mark.parametrize("mark", [b'"px"', b'{"s":"A"', b""])
@pytest.mark.parametrize("place", [0, 1, 50, 99, None])
def test_one_control_frame_in_a_long_read_is_found_wherever_it_is(wires, mark, place):
    read = []

    def control(payload):
        read.append(payload)
        return wires.ACME.control(payload)

    venue = msgspec.structs.replace(wires.ACME, control=control, data_mark=mark)
    session = Session(venue, wires.wanted("A"), now=0)
    session.receive([wires.data("A")], 1)
    payloads = [wires.data("A", number) for number in range(100)]
    if place is not None:
        payloads[place] = b'{"pong":1}'
    session.receive(payloads, 2)
    assert read == [b'{"pong":1}'] * (place is not None)


def test_a_read_of_which_nothing_could_be_inflated_says_nothing(wires):
    session = Session(wires.ACME, wires.wanted("A"), now=0)
    session.receive([wires.data("A")], 1)
    session.receive([], 2)
    assert states(session) == [State.HEARD]


def test_an_import_only_venue_is_refused(wires):
    with pytest.raises(BadUsage, match="acme"):
        Session(msgspec.structs.replace(wires.ACME, heartbeat=None), wires.wanted("A"), now=0)


def test_delays_begin_within_a_second_double_and_stay_below_thirty():
    for seed in range(50):
        waits = list(islice(delays(Random(seed)), 12))  # noqa: S311 - jitter
        assert NS / 2 <= waits[0] <= NS
        for n, wait in enumerate(waits):
            ceiling = min(2**n, 30) * NS
            assert ceiling // 2 <= wait <= ceiling
    assert len({next(delays(Random(seed))) for seed in range(50)}) == 50  # noqa: S311


@pytest.mark.parametrize(
    ("status", "headers", "wait_ns"),
    [
        (503, {}, 0),
        (429, {}, LONGEST_NS),
        (418, {"Retry-After": "7"}, 7 * NS),
        (503, {"Retry-After": "Tue, 14 Nov 2023 22:13:25 GMT"}, 5 * NS),
        (503, {"Retry-After": "Tue, 14 Nov 2000 22:13:25 GMT"}, 0),
        (429, {"Retry-After": "soon"}, LONGEST_NS),
        (429, {"Retry-After": "9" * 30}, 3600 * NS),
    ],
)
def test_a_venue_that_turns_us_away_is_obeyed(status, headers, wait_ns):
    assert asked_wait_ns(status, headers, WALL) == wait_ns


def test_what_has_ended_is_left_and_neither_asked_for_nor_awaited(wires):
    venue = msgspec.structs.replace(
        wires.ACME, unsubscribe=lambda topics, _: [t.key for t in topics]
    )
    session = Session(venue, wires.wanted("A", "B"), now=0)
    session.to_send(0, WALL)
    session.receive([b'{"no":["bbo.A"],"why":"not now"}', wires.data("B")], 1)
    session.notes()
    session.end(["A"])
    assert session.urgent and session.to_send(2, WALL) == ["bbo.A"]
    session.end(["A"])
    assert session.to_send(3, WALL) == []
    assert states(session) == [State.ENDED, State.HEARD] and not session.is_over
    later = ASK_AGAIN_NS + venue.first_data_ns
    session.heard(later)
    assert session.to_send(later, WALL) == [] == session.notes()
    session.end(["B"])
    assert session.is_over and session.to_send(later, WALL) == ["bbo.B"]


def test_what_ends_before_it_was_asked_for_is_never(wires):
    session = Session(wires.ACME, wires.wanted("A", "B"), now=0)
    session.end(["A"])
    assert session.to_send(0, WALL) == [b'{"sub":"bbo.B","ts":%d}' % WALL]


def test_when_all_others_are_refused_what_has_ended_holds_nothing_up(wires):
    session = Session(wires.ACME, wires.wanted("A", "B"), now=0)
    session.to_send(0, WALL)
    session.end(["A"])
    with pytest.raises(Refused):
        session.receive([b'{"no":["bbo.B"],"why":"not now"}'], 1)
