"""One flipped bit, anywhere in what was written, is found; and what is read is never wrong."""

import shutil

import pytest

from perptape import records
from perptape.errors import Failed
from perptape.segment import HEAD, head_is_damaged, scan
from perptape.tape import Tape

T0 = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def sealed(tmp_path_factory, write_tape, feed):
    path = tmp_path_factory.mktemp("sealed") / "t"
    with write_tape(path) as writer:
        wire = writer.new_wire("bybit")
        feed(writer, wire, [1, 2])
        writer.flush(sync=True)
        feed(writer, wire, [2])
    return path


@pytest.fixture(scope="module")
def crashed(tmp_path_factory, write_tape, feed):
    """What a crash leaves: two batches in an unsealed segment, all reads in the tail, two alone."""
    path = tmp_path_factory.mktemp("crashed")
    writer = write_tape(path / "live", now=lambda: (T0, 0))
    wire = writer.new_wire("bybit")
    feed(writer, wire, [1, 2])
    writer.flush(sync=True)
    feed(writer, wire, [1])
    writer.flush(sync=True)
    feed(writer, wire, [2, 1])
    shutil.copytree(path / "live", path / "t")
    writer.close()
    return path / "t"


def written_in_tail(path):
    half = path.stat().st_size // 2
    stretches = []
    for k in range(2):
        found = records.walk(path.read_bytes()[k * half : (k + 1) * half])
        if found.offsets:
            stretches += range(k * half, k * half + len(found.data))
    return stretches


def flip_some(file, places, check, *, bits=2):
    """Flip so many bits of each place, each alone; give those that ``check`` did not notice."""
    whole = file.read_bytes()
    missed = []
    with file.open("r+b", buffering=0) as f:
        for at in places:
            for bit in {(at + 3 * k) % 8 for k in range(bits)}:
                f.seek(at)
                f.write(bytes([whole[at] ^ (1 << bit)]))
                if not check():
                    missed.append((at, bit))
            f.seek(at)
            f.write(whole[at : at + 1])
    assert file.read_bytes() == whole
    return missed


def is_noticed(path, truth):
    def check():
        tape = Tape(path)
        assert set(tape.frames()) <= truth
        return tape.damage() != []

    return check


def segment_of(path):
    (file,) = (path / "raw").glob("*.arrows")
    return file


def test_in_a_sealed_segment(sealed):
    file, check = segment_of(sealed), is_noticed(sealed, set(Tape(sealed).frames()))
    assert flip_some(file, range(0, file.stat().st_size, 3), check, bits=1) == []


def test_in_an_unsealed_segment(crashed):
    tape, file = Tape(crashed), segment_of(crashed)
    assert (tape.damage(), [s.frames for s in tape.segments]) == ([], [4, 3])
    check = is_noticed(crashed, set(tape.frames()))
    assert flip_some(file, range(0, file.stat().st_size, 2), check) == []


def test_in_an_unsealed_segment_every_bit(crashed):
    data = bytearray(segment_of(crashed).read_bytes())
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        found = list(scan(memoryview(data)))
        if bit < len(HEAD) * 8:
            assert head_is_damaged(memoryview(data), found[-1])
        else:
            assert [f.torn for f in found if f.mark is None] == [False], bit
        data[bit // 8] ^= 1 << bit % 8


def test_in_the_records_of_the_tail(crashed):
    file = crashed / "raw" / "tail"
    places = written_in_tail(file)
    assert len(places) > 500
    check = is_noticed(crashed, set(Tape(crashed).frames()))
    assert flip_some(file, places, check) == []


def test_in_the_records_of_the_tail_every_bit(crashed):
    file = crashed / "raw" / "tail"
    data = bytearray(file.read_bytes()[: written_in_tail(file)[-1] + 1])
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        assert len(records.walk(bytes(data)).damaged) == 1, bit
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("tape", ["sealed", "crashed"])
def test_in_the_manifest(tape, request):
    path = request.getfixturevalue(tape)
    truth = set(Tape(path).frames())
    file = path / "tape.json"

    def check():
        tape = Tape(path)
        assert set(tape.frames()) == truth
        return "tape.json" in [d.file for d in tape.damage()]

    every = 8 if tape == "sealed" else 2
    assert flip_some(file, range(file.stat().st_size), check, bits=every) == []


def test_a_torn_end_is_no_damage_at_any_length(crashed, tmp_path):
    truth = list(Tape(crashed).frames())
    shutil.copytree(crashed, tmp_path / "t")
    file = segment_of(tmp_path / "t")
    whole = file.read_bytes()
    for length in [*range(0, len(whole), 7), *range(700, 720), len(whole) - 1]:
        file.write_bytes(whole[:length])
        tape = Tape(tmp_path / "t")
        assert tape.damage() == []
    assert list(tape.frames()) == truth


def test_frames_around_a_damaged_batch_are_read_and_the_damage_has_its_time(
    tmp_path, write_tape, feed, seqs_of
):
    with write_tape(tmp_path / "t") as writer:
        for _ in range(3):
            feed(writer, 0, [1, 1])
            writer.flush(sync=True)
    file = segment_of(tmp_path / "t")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert seqs_of(tmp_path / "t") == [1, 2, 5, 6]
    (damage,) = Tape(tmp_path / "t").damage()
    assert damage.file == f"raw/{file.name}"
    assert (damage.ts_first - T0, damage.ts_last - T0) == (2, 5)


def test_what_is_gone_is_damage(tmp_path, write_tape, feed):
    for _ in range(3):
        with write_tape(tmp_path / "t") as writer:
            feed(writer, 0, [2])
    (tmp_path / "t/raw/00000000000000000003.arrows").unlink()
    tape = Tape(tmp_path / "t")
    assert [f.seq for f in tape.frames()] == [1, 2, 5, 6]
    (damage,) = tape.damage()
    assert (damage.detail, damage.ts_first - T0, damage.ts_last - T0) == ("it is missing", 1, 5)


def test_a_segment_cut_at_a_batch_is_damage(tmp_path, write_tape, feed, seqs_of):
    with write_tape(tmp_path / "t") as writer:
        for _ in range(2):
            feed(writer, 0, [2])
            writer.flush(sync=True)
    file = segment_of(tmp_path / "t")
    data = file.read_bytes()
    file.write_bytes(data[: data.index(b"\xff\xff\xff\xff", 704 + 8)])
    assert seqs_of(tmp_path / "t") == [1, 2]
    assert len(Tape(tmp_path / "t").damage()) == 1


def test_files_of_others_are_left_alone(sealed, tmp_path):
    shutil.copytree(sealed, tmp_path / "t")
    (tmp_path / "t/raw/notes.txt").write_text("mine")
    (tmp_path / "t/raw/1.arrows").write_text("not ours")
    assert Tape(tmp_path / "t").damage() == []


def test_a_damaged_record_leaves_a_hole_for_ever(crashed, tmp_path, write_tape):
    """Without it the next run would take the lost frame's number, and nobody would know."""
    shutil.copytree(crashed, tmp_path / "t")
    tail = tmp_path / "t/raw/tail"
    data = bytearray(tail.read_bytes())
    data[written_in_tail(tail)[-1]] ^= 1
    tail.write_bytes(data)
    with write_tape(tmp_path / "t") as writer:
        assert writer.recovered.frames == 2
        writer.append(0, 0, [b"later"], T0 + 100, 100)
    tape = Tape(tmp_path / "t")
    assert [f.seq for f in tape.frames()] == [1, 2, 3, 4, 5, 6, 8]
    (hole,) = tape.damage()
    assert (hole.detail, hole.ts_first - T0, hole.ts_last - T0) == (
        "frames 7 to 7 are missing",
        5,
        100,
    )


def test_nothing_is_recorded_over_a_damaged_manifest(sealed, tmp_path, write_tape):
    shutil.copytree(sealed, tmp_path / "t")
    file = tmp_path / "t/tape.json"
    file.write_bytes(file.read_bytes().replace(b'"frames": 5', b'"frames": 4'))
    before = file.read_bytes()
    with pytest.raises(Failed, match=r"tape\.json is damaged .* another directory"):
        write_tape(tmp_path / "t")
    assert file.read_bytes() == before
