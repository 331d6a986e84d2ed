"""What the recorder does about a book's hole: it sees it by ids alone, and asks anew."""

import msgspec
import pytest

from perptape.errors import LostSync
from perptape.events import NS
from perptape.resync import AGAIN_NS, BASE_AGAIN_NS, PATIENCE_NS
from perptape.session import Session, Wanted
from perptape.venues.venue import Link, Topic


def link(payload):
    """``book A 5 8`` changes state 5 to 8, ``book A 8`` is whole."""
    word, key, *ids = payload.split()
    if word != b"book":
        return None
    first, last = int(ids[0]), int(ids[-1])
    return Link(key.decode(), len(ids) == 1, last, None if len(ids) == 1 else first)


def leave(topics, ts):
    del ts
    return [f"unsub {topic.key}".encode() for topic in topics]


@pytest.fixture
def listen(wires):
    """A session of books that has heard all of its topics."""

    def begin(*keys, bases=()):
        venue = msgspec.structs.replace(
            wires.ACME, link=link, unsubscribe=leave, bases=dict.fromkeys(bases, "/book"),
            is_data=lambda payload: payload.startswith(b"book"), data_mark=b"",
        )  # fmt: skip
        topics = [Topic("books", "depth", key, key, (b"book " + key.encode(),)) for key in keys]
        wanted = [Wanted(f"acme:{topic.symbol}-USDT-PERP", topic) for topic in topics]
        session = Session(venue, wanted, now=0)
        session.to_send(0, 0)
        return session

    return begin


def said(session, now):
    """All that is sent from now on within some seconds."""
    found = []
    for step in range(5):
        found += session.to_send(now + step * NS, 0)
    return [frame for frame in found if b"unsub" in frame or b"sub" in frame]


def test_a_hole_is_noted_and_the_topic_asked_for_anew(listen):
    session = listen("A", "B")
    session.receive([b"book A 5", b"book B 7", b"book A 5 6"], NS)
    assert session.notes() == [] and said(session, NS) == []
    session.receive([b"book A 8 9", b"book B 7 8"], 2 * NS)
    assert session.urgent
    (note,) = session.notes()
    assert (note.note, note.market, note.channel) == ("resync", "acme:A-USDT-PERP", "books")
    assert note.reason == "update 9 follows 8, and we have 6"
    frames = said(session, 2 * NS)
    assert frames[0] == b"unsub A" and len(frames) == 2 and b"B" not in frames[1]
    session.receive([b"book A 20", b"book A 20 21"], 4 * NS)
    assert session.books.wake_at is None and said(session, 20 * NS) == []


def test_a_book_that_stays_void_is_asked_for_again_and_at_last_ends_the_wire(listen):
    session = listen("A")
    session.receive([b"book A 5", b"book A 6 9"], NS)
    assert b"unsub A" in said(session, NS)
    assert session.books.due(NS + AGAIN_NS - 1) == []
    assert len(session.books.due(NS + AGAIN_NS)) == 1
    with pytest.raises(LostSync, match="did not become whole"):
        session.books.due(NS + PATIENCE_NS)


def test_a_book_that_is_refused_when_asked_anew_does_not_end_the_wire(listen):
    session = listen("A", "B")
    session.receive([b"book A 5", b"book B 7", b"book A 6 9"], NS)
    assert b"unsub A" in said(session, NS)
    session.receive([b'{"no":["A"],"why":"no such symbol"}'], 2 * NS)
    for second in range(3, 100):
        session.receive([b"book B 7"], second * NS)
        session.to_send(second * NS, 0)
    session.receive([b"book A 12", b"book A 20 21"], 100 * NS)
    assert len(session.books.due(100 * NS)) == 1, "it is followed when it comes back"


def test_changes_before_their_snapshot_are_waited_for(listen):
    session = listen("A")
    session.receive([b"book A 5 6"], NS)
    assert session.books.due(NS) == [] and session.notes() == []
    session.receive([b"book A 6", b"book A 6 7"], NS)
    assert session.books.wake_at is None


def test_a_stream_of_changes_asks_for_its_base_and_again_if_that_is_too_old(listen):
    session = listen("A", bases=["depth"])
    session.receive([b"book A 50 60"], NS)
    (topic,) = session.books.bases_due(NS)
    assert topic.key == "A" and session.books.bases_due(NS) == [] and said(session, NS) == []
    session.books.base("A", 40, 2 * NS)
    assert session.books.bases_due(2 * NS) == []
    assert len(session.books.bases_due(2 * NS + BASE_AGAIN_NS)) == 1
    session.books.base("A", 55, 3 * NS)
    session.receive([b"book A 60 61"], 3 * NS)
    assert session.books.bases_due(60 * NS) == [] and session.notes() == []
    session.receive([b"book A 70 71"], 4 * NS)
    assert len(session.notes()) == 1 and len(session.books.bases_due(4 * NS)) == 1


def test_a_base_is_asked_for_once_while_the_call_goes_on(listen):
    session = listen("A", bases=["depth"])
    session.receive([b"book A 50 60"], NS)
    assert len(session.books.bases_due(NS)) == 1
    assert session.books.bases_due(60 * NS) == [], "it waits its turn among many"
    session.books.no_base("A", 60 * NS)
    assert session.books.bases_due(60 * NS) == []
    assert len(session.books.bases_due(60 * NS + BASE_AGAIN_NS)) == 1
    session.receive([b"book A 70"], 62 * NS)
    assert not session.books.needs_base("A"), "it came another way"


def test_a_frame_that_cannot_be_read_does_not_end_a_wire(listen):
    session = listen("A")
    session.receive([b"book A 5", b"book", b"book A x y", b"book A 5 6"], NS)
    assert session.notes() == []
