"""Hostile and torn pickles: refused in a sentence with the place, nothing built or executed."""

import collections
import io
import pickle
import pickletools
import struct

import pytest

from perptape.importers import pickles
from perptape.importers.pickles import Torn, Unreadable, read_pickles

PLAIN = {
    "ch": "market.BTC-USDT.bbo",
    "tick": {"bid": [86859.8, 6172], "ask": [86859.9, -1], "empty": {}, "none": []},
    "again": "market.BTC-USDT.bbo",
    "big": [255, 256, 65536, -(2**31), 2**31, 2**63, -(2**70), 1e-5, float("inf")],
    "words": ["", "\u00e9\n'\"\\", "\U0001f600", "\ud800", "x" * 70_000],
    "flags": [True, False, None],
}


def read(data: bytes) -> list[object]:
    return list(read_pickles(io.BytesIO(data)))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_gives_back_what_json_can_say(protocol):
    data = b"".join(pickle.dumps(PLAIN, protocol) for _ in range(3))
    assert read(data) == [PLAIN] * 3


def test_a_pickle_longer_than_a_chunk_is_read_whole():
    long = {"words": ["x" * 1000 + str(n) for n in range(3 * pickles.CHUNK // 1000)]}
    assert read(pickle.dumps(PLAIN) + pickle.dumps(long) + pickle.dumps(PLAIN)) == [
        PLAIN,
        long,
        PLAIN,
    ]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_torn_end_gives_all_before_it_wherever_it_is_torn(protocol):
    one = pickle.dumps({"ch": "market.x", "tick": [1, 2.5, None, 70_000]}, protocol)
    for cut in range(1, len(one)):
        values = read_pickles(io.BytesIO(one + one[:cut]))
        assert next(values) == {"ch": "market.x", "tick": [1, 2.5, None, 70_000]}
        with pytest.raises(Torn):
            next(values)


def test_no_opcode_that_imports_calls_or_builds_is_known():
    known = {op.name for op in pickletools.opcodes if ord(op.code) in pickles.OPCODES}
    assert known == set(pickles.BY_NAME)
    assert not known & {
        "GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX",
        "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER",
    }  # fmt: skip


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


LAUGHS = b"".join(b"(" + b"h%c" % n * 10 + b"lq%c" % (n + 1) for n in range(30))
REFUSED = [
    pytest.param(b"cos\nsystem\n(S'true'\ntR.", "GLOBAL", id="os-system"),
    pytest.param(b"}(" + text(b"a") + b"cos\nsystem\nu.", "GLOBAL", id="nested-class"),
    pytest.param(b"\x8c\x02os\x8c\x06system\x93)R.", "STACK_GLOBAL", id="stack-global"),
    pytest.param(b"(S'true'\nios\nsystem\n.", "STRING", id="inst"),
    pytest.param(b"(ios\nsystem\n.", "INST", id="inst-bare"),
    pytest.param(b"Pfoo\n.", "PERSID", id="persistent-id"),
    pytest.param(text(b"foo") + b"Q.", "BINPERSID", id="binary-persistent-id"),
    pytest.param(b"\x82\x01.", "EXT1", id="extension"),
    pytest.param(b"})R.", "EMPTY_TUPLE", id="reduce-of-a-tuple"),
    pytest.param(b"}}b.", "BUILD", id="build"),
    pytest.param(b"\xff.", "0xff", id="unknown-opcode"),
    pytest.param(b"\x8e" + struct.pack("<Q", 2**40) + b"x", "BINBYTES8", id="bytes-of-a-tebibyte"),
    pytest.param(b"\x8d" + struct.pack("<Q", 2**40) + b"x", "16 MiB", id="text-of-a-tebibyte"),
    pytest.param(b"\x8d" + b"\xff" * 8 + b"x", "16 MiB", id="text-of-all-memory"),
    pytest.param(b"X\xff\xff\xff\xff", "16 MiB", id="text-of-4-gibibytes"),
    pytest.param(b"\x8b" + struct.pack("<I", 2**31) + b"\x01", "64 bytes", id="long-of-2-gib"),
    pytest.param(b"\x8b\x00\x00\x10\x00" + b"\x7f" * (1 << 20) + b".", "64 bytes", id="huge-long"),
    pytest.param(b"L" + b"9" * 5000 + b"L\n.", "64 bytes", id="huge-decimal"),
    pytest.param(b"Inine\n.", "INT", id="a-number-that-is-none"),
    pytest.param(text(b"\xff\xfe") + b".", "BINUNICODE", id="text-that-is-no-utf-8"),
    pytest.param(b"V\\uXXXX\n.", "UNICODE", id="escape-that-is-none"),
    pytest.param(b"]" * 40 + b"a" * 39 + b".", "deeper than 32", id="deep-nesting"),
    pytest.param(b"]" * 500_000 + b"a" * 499_999 + b".", "deeper than 32", id="very-deep"),
    pytest.param(b"]" * 1_000_001 + b".", "1,000,000 opcodes", id="million-lists"),
    pytest.param(b"]q\x00h\x00a.", "repeats a list", id="a-list-that-holds-itself"),
    pytest.param(b"]q\x00(" + LAUGHS[1:] + b".", "repeats a list", id="billion-laughs"),
    pytest.param(b"](" + text(b"x" * 65_536) + b"q\x00" + b"h\x00" * 300 + b"e.", "repeated",
                 id="billion-laughs-of-text"),
    pytest.param(b"}r\xff\xff\xff\xff0.", "POP", id="pop-behind-a-memo-of-4-gib"),
    pytest.param(b"h\x07.", "BINGET", id="memo-that-is-not-there"),
    pytest.param(b"gfoo\n.", "GET", id="memo-of-no-number"),
    pytest.param(b"a.", "APPEND", id="append-to-nothing"),
    pytest.param(b"}Na.", "no list", id="append-to-a-dict"),
    pytest.param(b"]NNs.", "no dict", id="key-of-a-list"),
    pytest.param(b"}]Ns.", "key is no string", id="key-that-is-a-list"),
    pytest.param(b"(Nd.", "key is no string", id="dict-of-one"),
    pytest.param(b"}u.", "SETITEMS", id="no-mark"),
    pytest.param(b"NN.", "one value", id="two-values"),
    pytest.param(b"N(.", "one value", id="open-mark"),
    pytest.param(b".", "one value", id="no-value"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "why"), REFUSED)
def test_refused_with_the_place_and_what_was_before_is_kept(data, why):
    good = pickle.dumps(PLAIN)
    values = read_pickles(io.BytesIO(good + data))
    assert next(values) == PLAIN
    with pytest.raises(Unreadable, match=why) as refused:
        next(values)
    assert len(good) <= refused.value.at <= len(good + data)
    assert "\n" not in refused.value.why


def test_a_memo_index_of_four_gibibytes_takes_no_memory():
    assert read(b"}r\xff\xff\xff\xff.") == [{}]


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1}, b"bytes", bytearray(b"x"), 1 + 2j, collections.OrderedDict(a=1), len, {1: 2}],
    ids=repr,
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_honest_values_that_json_cannot_say_are_refused(value, protocol):
    with pytest.raises(Unreadable):
        read(pickle.dumps({"v": value}, protocol))
