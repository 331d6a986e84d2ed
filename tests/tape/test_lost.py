"""The directory of a tape that goes away while it is recorded; and who may look into one."""

import os
import shutil

import pytest

from perptape import importers, tabulate
from perptape.errors import Failed
from perptape.events import NS
from perptape.tape import Tape

T0 = 1_700_000_000_000_000_000
SAYS = r"t was deleted, moved or replaced while it was being recorded; .* record again"


@pytest.fixture
def recording(tmp_path, write_tape, feed):
    """A writer with frames in its tail and in its open segment."""
    writer = write_tape(tmp_path / "t", now=lambda: (T0, 0))
    feed(writer, writer.new_wire("bybit"), [2, 1])
    writer.flush(sync=True)
    feed(writer, 0, [1])
    yield writer
    with pytest.raises(Failed, match=SAYS):
        writer.close()


def test_a_deleted_directory_ends_the_recording(tmp_path, recording):
    shutil.rmtree(tmp_path / "t")
    with pytest.raises(Failed, match=SAYS):
        recording.tick(2 * NS)
    assert list(tmp_path.iterdir()) == []


def test_a_new_recorder_in_its_place_is_left_alone(tmp_path, recording, write_tape, feed, seqs_of):
    shutil.rmtree(tmp_path / "t")
    with write_tape(tmp_path / "t", now=lambda: (T0, 0)) as second:
        feed(second, second.new_wire("htx"), [5])
        second.flush(sync=True)
        before = {p: p.stat().st_ino for p in (tmp_path / "t").rglob("*")}
        with pytest.raises(Failed, match=SAYS):
            recording.tick(2 * NS)
        recording.flush(sync=True)
        with pytest.raises(OSError, match="deleted, moved or replaced"):
            recording._segments.seal()  # noqa: SLF001 - as at 256 MB, before a tick has looked
        assert {p: p.stat().st_ino for p in (tmp_path / "t").rglob("*")} == before
    assert seqs_of(tmp_path / "t") == [1, 2, 3, 4, 5]
    assert Tape(tmp_path / "t").damage() == []


def test_what_was_moved_is_whole_where_it_went(tmp_path, recording, seqs_of):
    (tmp_path / "t").rename(tmp_path / "moved")
    with pytest.raises(Failed, match=SAYS):
        recording.tick(2 * NS)
    assert seqs_of(tmp_path / "moved") == [1, 2, 3, 4]


def test_another_file_system_in_its_place_is_no_tape_of_ours(tmp_path, recording):
    (tmp_path / "t").rename(tmp_path / "moved")
    (tmp_path / "t").write_text("x")
    with pytest.raises(Failed, match=SAYS):
        recording.tick(2 * NS)
    assert (tmp_path / "t").read_text() == "x"


def test_a_planted_link_is_not_followed(tmp_path, write_tape):
    """Whoever made the directory must not choose which of our files is emptied."""
    mine = tmp_path / "mine"
    mine.write_text("precious")
    for number, name in enumerate(("lock", "tape.json.new", "raw/tail.new")):
        write_tape(place := tmp_path / str(number)).close()
        (place / name).unlink(missing_ok=True)
        (place / name).symlink_to(mine)
        with pytest.raises(Failed):
            write_tape(place)
        assert mine.read_text() == "precious", name


@pytest.fixture
def careless():
    """A umask that keeps nothing from anybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(path):
    return {
        str(p.relative_to(path.parent)): p.stat().st_mode & 0o777 for p in [path, *path.rglob("*")]
    }


@pytest.mark.usefixtures("careless")
def test_nobody_else_may_look_into_a_tape_or_its_tables(tmp_path, write_tape, feed):
    with write_tape(tmp_path / "t") as writer:
        feed(writer, writer.new_wire("bybit"), [2])
        writer.flush(sync=True)
        live = modes(tmp_path / "t")
    said = (
        '%d {"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":%d,"s":"BTCUSDT",'
        '"b":"60000.00","B":"1.5","a":"60000.10","A":"2.510","T":%d,"E":%d}}\n'
    )
    ms = T0 // 10**6
    lines = (said % (T0 + k * 10**9, k, ms + k * 1000, ms + k * 1000) for k in range(1, 40))
    (tmp_path / "lines").write_text("".join(lines))
    importers.run("hftbacktest", [tmp_path / "lines"], tmp_path / "u", venue="binance")
    tabulate.tabulate(tmp_path / "u")
    tabulate.tabulate(tmp_path / "u", tmp_path / "out")
    found = live | modes(tmp_path / "t") | modes(tmp_path / "u") | modes(tmp_path / "out")
    assert {"t/raw/tail", "t/lock", "u/tape.json", "u/tables/manifest.json"} <= found.keys()
    assert len([name for name in found if name.endswith(".parquet")]) >= 4
    is_file = {
        name: (tmp_path / name).suffix != "" or "tail" in name or "lock" in name for name in found
    }
    assert found == {name: 0o600 if is_file[name] else 0o700 for name in found}
