"""Lines of ``<ns> <json>``, whole, torn and wrong."""

import gzip

import pytest

from perptape.errors import Failed
from perptape.importers import hftbacktest
from perptape.importers.importer import Heard, Tally

NS = 1723161255030314667
GOOD = b'%d {"stream":"btcusdt@bookTicker","data":{"u":1}}\n' % NS
FRAME = Heard(NS, "binance", b'{"stream":"btcusdt@bookTicker","data":{"u":1}}')


def read(path, data):
    path.write_bytes(data)
    tally = Tally()
    return list(hftbacktest.read(path, "binance", tally)), tally


@pytest.fixture
def path(tmp_path):
    return tmp_path / "btcusdt.gz"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_lines_as_they_came(path, pack):
    not_json = b"%d {broken \xff json\r\n" % (NS + 1)
    frames, tally = read(path, pack(GOOD + not_json + b"\n" + GOOD[:-1]))
    assert frames == [FRAME, Heard(NS + 1, "binance", b"{broken \xff json"), FRAME]
    assert (tally.skipped, tally.torn) == (1, 0)


@pytest.mark.parametrize("cut", [1, 19, 20, 21, 40, len(GOOD) - 2])
def test_a_torn_last_line_is_counted_and_left_out(path, cut):
    frames, tally = read(path, GOOD + GOOD[:cut])
    assert frames == [FRAME]
    assert (tally.skipped, tally.torn) == (0, 1)


def test_a_gzip_stream_whose_writer_was_killed(path):
    lines = [GOOD.replace(b'"u":1', b'"u":%d' % (n * 7919 % 10_007)) for n in range(10_000)]
    packed = gzip.compress(b"".join(lines))
    frames, tally = read(path, packed[: len(packed) // 2])
    assert 1000 < len(frames) < 10_000
    assert [frame.payload for frame in frames] == [line[20:-1] for line in lines[: len(frames)]]
    assert tally.torn == 1


def test_damaged_gzip_is_said(path):
    packed = bytearray(gzip.compress(GOOD * 1000))
    packed[-6] ^= 1  # the checksum
    with pytest.raises(Failed, match=r"btcusdt\.gz is damaged after line \d+ .*nothing was"):
        read(path, bytes(packed))


@pytest.mark.parametrize(
    "line",
    [
        b'{"no":"time"}\n',
        b'1723161255030 {"ms":1}\n',
        b'9999999999999999999 {"beyond":"int64"}\n',
        b'-1723161255030314667 {"before":1970}\n',
        b'1723161255030314667{"no":"space"}\n',
        b"1723161255030314667 \n",
        b"\x00\x01\x02\n",
    ],
)
def test_a_line_without_a_receive_time_is_named(path, line):
    with pytest.raises(Failed, match=r"btcusdt\.gz, line 2 does not begin with a receive time"):
        read(path, GOOD + line + GOOD)


def test_a_line_that_inflates_without_end_is_refused(path):
    with pytest.raises(Failed, match=r"line 1 is longer than 16 MiB"):
        read(path, gzip.compress(bytes(40 << 20), compresslevel=1))
