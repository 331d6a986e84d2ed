"""What is refused, each in one sentence that names the next step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from perptape import manifest
from perptape.errors import BadUsage, Failed
from perptape.tape import Tape

T0 = 1_700_000_000_000_000_000


def test_a_second_writer_is_told_who_the_first_is(tmp_path, write_tape):
    says = rf"t is being recorded by process {os.getpid()}; .* another directory"
    with write_tape(tmp_path / "t"), pytest.raises(Failed, match=says):
        write_tape(tmp_path / "t")
    write_tape(tmp_path / "t").close()


def test_the_lock_of_a_dead_process_is_no_lock(tmp_path, write_tape):
    code = "import sys, os; from perptape.tape import TapeWriter; from pathlib import Path\n"
    code += "TapeWriter(Path(sys.argv[1]), half_bytes=65536); os._exit(9)"
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path / "t")], check=False)
    assert died.returncode == 9
    write_tape(tmp_path / "t").close()


def test_what_is_no_tape_is_not_read(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in ("", "nowhere", "file"):
        with pytest.raises(
            BadUsage, match=r"is not a tape .*; give the directory that record made"
        ):
            Tape(tmp_path / place)


def test_what_is_not_empty_and_no_tape_is_not_recorded_into(tmp_path, write_tape):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis.tex").write_text("x")
    with pytest.raises(BadUsage, match="is not a tape and not empty; give a new directory"):
        write_tape(tmp_path / "t")
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["thesis.tex"]
    with pytest.raises(BadUsage, match="is not a directory"):
        write_tape(tmp_path / "t" / "thesis.tex")


def test_segments_whose_manifest_is_gone_are_not_recorded_over(tmp_path, write_tape):
    with write_tape(tmp_path / "t") as writer:
        writer.append(0, 0, [b"x"], T0, 1)
    (tmp_path / "t/tape.json").unlink()
    with pytest.raises(BadUsage, match="not a tape and not empty"):
        write_tape(tmp_path / "t")


def test_a_directory_left_half_made_is_taken(tmp_path, write_tape):
    (tmp_path / "t/raw").mkdir(parents=True)
    (tmp_path / "t/lock").touch()
    (tmp_path / "t/tape.json.new").write_text("{")
    write_tape(tmp_path / "t").close()


@pytest.mark.parametrize("version", ["2", "99"])
def test_a_newer_format_is_neither_read_nor_written(version, tmp_path, write_tape):
    write_tape(tmp_path / "t").close()
    file = tmp_path / "t/tape.json"
    file.write_text(file.read_text().replace('"format_version": 1', f'"format_version": {version}'))
    says = rf"t has format version {version}, .* install a newer perptape"
    with pytest.raises(Failed, match=says):
        Tape(tmp_path / "t")
    with pytest.raises(Failed, match=says):
        write_tape(tmp_path / "t")


def test_an_unreadable_manifest_is_damage_and_the_frames_are_read(tmp_path, write_tape):
    with write_tape(tmp_path / "t") as writer:
        writer.append(0, 0, [b"x"], T0, 1)
    (tmp_path / "t/tape.json").write_bytes(b"\xff\x00")
    tape = Tape(tmp_path / "t")
    assert [f.payload for f in tape.frames()] == [b"x"]
    assert [d.file for d in tape.damage()] == ["tape.json"]


def test_an_unwritable_directory_is_one_sentence(write_tape):
    with pytest.raises(Failed, match=r"cannot write to /proc/t: .*; check its permissions"):
        write_tape(Path("/proc/t"))


@pytest.mark.parametrize(
    "name", ["../../../../dev/zero", "/dev/zero", "tail", "1.arrows", "a/b", ""]
)
def test_a_manifest_does_not_lead_out_of_the_tape(name, tmp_path, write_tape):
    """A tape of somebody else's making; its manifest's own hash is right."""
    with write_tape(tmp_path / "t") as writer:
        writer.append(0, 0, [b"x"], T0, 1)
    known = manifest.load(tmp_path / "t")
    segments = tuple(replace(segment, name=name) for segment in known.segments)
    manifest.save(tmp_path / "t", replace(known, segments=segments))
    tape = Tape(tmp_path / "t")
    assert [frame.payload for frame in tape.frames()] == [b"x"]
    assert [str(d) for d in tape.damage()] == [f"tape.json: {name!r} is no name of a segment"]
    with pytest.raises(Failed, match=r"tape\.json is damaged"):
        write_tape(tmp_path / "t")


@pytest.mark.parametrize("name", ["00000000000000000001.arrows", "tail"])
@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_what_is_no_file_is_not_waited_for(kind, name, tmp_path, write_tape):
    with write_tape(tmp_path / "t") as writer:
        writer.append(0, 0, [b"x"], T0, 1)
    place = tmp_path / "t/raw" / name
    place.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")
    tape = Tape(tmp_path / "t")
    lost = [] if name == "tail" else [f"raw/{name}: it is missing"]
    assert [str(d) for d in tape.damage()] == lost
    assert len(list(tape.frames())) == 1 - len(lost)


def test_a_pipe_in_the_manifest_s_place_is_no_tape(tmp_path):
    os.mkfifo(tmp_path / "tape.json")
    with pytest.raises(BadUsage, match="is not a tape"):
        Tape(tmp_path)
