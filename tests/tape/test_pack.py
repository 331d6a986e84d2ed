"""A packed tape: the same frames, half of the bytes, and nothing altered that is not found."""

import itertools
import os
import random
import shutil
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape import block, cli, importers, packed, segment, tabulate, verify
from perptape.errors import BadBlock, BadUsage, Failed
from perptape.fingerprint import of_batches
from perptape.numerals import put_together, take_apart
from perptape.pack import pack
from perptape.tape import Tape, TapeWriter
from perptape.unpack import check, unpack

T0 = 1_700_000_000_000_000_000
ODD = [
    b"",
    b"\x00\xff" * 9,
    b"007 1.50 0.0 00.5 5. .5 1e400 -0 1.2.3",
    b"9" * 70,
    b"0." + b"0" * 30,
    b'{"id":"3f2a9b00-11d2-4a7e-9c55-01f2e3d4c5b6"}',
    "prix 1\u00a0234,50 \u20ac".encode(),
]


def files_of(path):
    return {p.relative_to(path): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def without_lock(path):
    found = files_of(path)
    found.pop(Path("lock"), None)
    return found


@pytest.fixture(scope="module")
def tape(tmp_path_factory, write_tape):
    """Three segments: two of live frames of all kinds, one that was imported."""
    path = tmp_path_factory.mktemp("pack") / "t"
    chance = random.Random(7)  # noqa: S311 - prices
    with write_tape(path, config={"channels": ["quotes"]}) as writer:
        wires = [writer.new_wire("bybit"), writer.new_wire("htx")]
        ts = T0
        for k in range(800):
            ts += chance.randrange(1_000_000)
            price, size = 61_000 + chance.randrange(500) / 10, chance.randrange(10**6) / 1000
            said = b'{"topic":"tickers.BTC","ts":%d,"b":"%.2f","q":"%.3f","u":%d}'
            frames = [said % (ts // 10**6, price, size, 10**9 + 3 * k)]
            sizes = [70] if k % 2 else None
            writer.append(wires[k % 2], 0, frames, ts, ts - T0, sizes)
            if k % 100 == 0:
                writer.append(wires[0], 7, ODD, ts, ts - T0)
                writer.flush(sync=True)
    with write_tape(path) as writer:
        writer.append(writer.new_wire("binance"), 0, [b'{"u":%d}' % k for k in range(99)], T0, None)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory, write_tape, feed):
    """A tape of some kilobytes, packed."""
    path = tmp_path_factory.mktemp("small")
    with write_tape(path / "t", now=lambda: (T0, 0)) as writer:
        feed(writer, writer.new_wire("bybit"), [2] * 4)
    pack(path / "t", path / "p")
    return path


def test_it_comes_back_to_the_byte_and_is_called_what_it_was(tape, tmp_path):
    done = pack(tape, tmp_path / "p")
    back = unpack(tmp_path / "p", tmp_path / "t")
    assert without_lock(tmp_path / "t") == without_lock(tape)
    assert verify.verify(tmp_path / "t") == verify.verify(tape)
    assert (done.is_exact, back.is_exact, back.damage) == (True, True, [])
    shown = of_batches(Tape(tape).batches())
    assert done.frames == back.frames == shown.frames == 800 + 8 * len(ODD) + 99
    assert done.fingerprint == back.fingerprint == shown.hexdigest()
    assert check(tmp_path / "p") == back
    assert done.bytes < done.tape_bytes / 2


def test_the_ledger_and_every_table_are_the_same(tmp_path):
    line = (
        '%d {"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":%d,"s":"BTCUSDT",'
        '"b":"%.2f","B":"%.3f","a":"%.2f","A":"2.510","T":%d,"E":%d}}\n'
    )
    ms = T0 // 10**6
    lines = [
        line % (T0 + k * 10**8, k, 6e4 + k, k / 8, 6e4 + k + 0.1, ms + k * 100, ms + k * 100)
        for k in range(1, 700)
    ]
    (tmp_path / "lines").write_text("".join(lines))
    importers.run("hftbacktest", [tmp_path / "lines"], tmp_path / "t", venue="binance")
    pack(tmp_path / "t", tmp_path / "p")
    unpack(tmp_path / "p", tmp_path / "u")
    for name in "tu":
        tabulate.tabulate(tmp_path / name)
    tables = files_of(tmp_path / "t" / "tables")
    assert len([path for path in tables if path.suffix == ".parquet"]) >= 2
    assert files_of(tmp_path / "u" / "tables") == tables
    assert verify.verify(tmp_path / "u") == verify.verify(tmp_path / "t")


def test_who_may_read_it_does_not_hang_on_the_umask(tape, tmp_path):
    before = os.umask(0)
    try:
        pack(tape, tmp_path / "new" / "p")
        unpack(tmp_path / "new" / "p", tmp_path / "t")
    finally:
        os.umask(before)
    modes = {p: p.stat().st_mode & 0o777 for p in tmp_path.rglob("*")}
    assert {mode for p, mode in modes.items() if p.is_dir()} == {0o700}
    assert {mode for p, mode in modes.items() if p.is_file()} == {0o600}


def test_many_small_blocks_are_the_same_tape(tape, tmp_path, monkeypatch):
    monkeypatch.setattr(block, "BLOCK_BYTES", 2000)
    pack(tape, tmp_path / "p")
    with packed.Packed.open(tmp_path / "p") as opened:
        assert sum(part.kind == packed.FRAMES for part in opened.parts) > 5
    assert unpack(tmp_path / "p", tmp_path / "t").is_exact
    assert without_lock(tmp_path / "t") == without_lock(tape)


def test_what_is_too_much_for_a_block_is_kept_as_it_is(tape, tmp_path, monkeypatch):
    monkeypatch.setattr(block, "MOST_WORDS", 200)
    pack(tape, tmp_path / "p")
    with packed.Packed.open(tmp_path / "p") as opened:
        assert packed.BYTES in [part.kind for part in opened.parts]
    assert unpack(tmp_path / "p", tmp_path / "t").damage == []
    assert without_lock(tmp_path / "t") == without_lock(tape)


def test_what_a_crash_left_comes_back_too(tmp_path, write_tape, feed):
    writer = write_tape(tmp_path / "live", now=lambda: (T0, 0))
    feed(writer, writer.new_wire("bybit"), [1, 2])
    writer.flush(sync=True)
    feed(writer, 0, [2, 1])
    shutil.copytree(tmp_path / "live", tmp_path / "t")
    writer.close()
    (segment_file,) = (tmp_path / "t/raw").glob("*.arrows")
    with segment_file.open("ab") as file:
        file.write(b"\xff\xff\xff\xff\x10")  # a batch that was begun
    pack(tmp_path / "t", tmp_path / "p")
    assert unpack(tmp_path / "p", tmp_path / "u").damage == []
    assert without_lock(tmp_path / "u") == without_lock(tmp_path / "t")
    assert [f.seq for f in Tape(tmp_path / "u").frames()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("where", [0.0, 0.3, 0.99])
def test_what_was_damaged_stays_damaged(where, tape, tmp_path):
    shutil.copytree(tape, tmp_path / "t")
    file = min((tmp_path / "t/raw").glob("*.arrows"))
    data = bytearray(file.read_bytes())
    data[int(len(data) * where)] ^= 1
    file.write_bytes(data)
    done = pack(tmp_path / "t", tmp_path / "p")
    assert done.damage == [str(d) for d in Tape(tmp_path / "t").damage()] != []
    assert unpack(tmp_path / "p", tmp_path / "u").damage == []
    assert without_lock(tmp_path / "u") == without_lock(tmp_path / "t")


def test_segments_of_another_library_are_proven_by_their_frames(tape, tmp_path, monkeypatch):
    """As if this Arrow wrote other bytes than the one that wrote the tape."""
    ours = segment._OPTIONS  # noqa: SLF001 - no release is at hand that compresses otherwise
    pack(tape, tmp_path / "p")
    monkeypatch.setattr(segment, "_OPTIONS", type(ours)(use_threads=False))
    back = unpack(tmp_path / "p", tmp_path / "t")
    monkeypatch.undo()
    assert (back.is_exact, back.damage) == (False, [])
    assert of_batches(Tape(tmp_path / "t").batches()).hexdigest() == back.fingerprint
    was, now = verify.verify(tape), verify.verify(tmp_path / "t")
    assert now.bytes > was.bytes
    assert msgspec.structs.replace(now, bytes=was.bytes) == was


def test_every_flipped_bit_is_found(small):
    data = bytearray((small / "p").read_bytes())
    other = small / "flipped"
    whole = check(small / "p")
    for at in range(0, len(data), 1 if os.environ.get("TORTURE") else 5):
        data[at] ^= 1 << at % 8
        other.write_bytes(data)
        try:
            assert check(other).damage, at
        except Failed:
            assert at == len(packed.MARK) - 1, "another version is no damage"
        data[at] ^= 1 << at % 8
    other.write_bytes(data)
    assert check(other) == whole


def test_a_file_that_was_cut_is_found_at_any_length(small):
    data = (small / "p").read_bytes()
    for size in itertools.chain(range(8, len(data), 11), [len(data) - 1]):
        (small / "cut").write_bytes(data[:size])
        assert "its end is missing" in check(small / "cut").damage
    (small / "cut").write_bytes(data + b"more")
    assert check(small / "cut").damage == [f"bytes {len(data)} to {len(data) + 3} are altered"]


def test_damage_costs_its_block_and_no_other(tape, tmp_path, monkeypatch):
    monkeypatch.setattr(block, "BLOCK_BYTES", 4000)
    pack(tape, tmp_path / "p")
    with packed.Packed.open(tmp_path / "p") as opened:
        hit = [part for part in opened.parts if part.kind == packed.FRAMES][3]
        lost = sum(map(len, block.decode(opened.read(hit))[1]))
    data = bytearray((tmp_path / "p").read_bytes())
    data[hit.start + 5] ^= 4
    (tmp_path / "p").write_bytes(data)
    back = unpack(tmp_path / "p", tmp_path / "t")
    assert back.damage[0].startswith(f"part {hit.number} (bytes {hit.start} to {hit.stop - 1})")
    assert f"{lost} of 856 frames are missing" in back.damage[1]
    truth, found = set(Tape(tape).frames()), set(Tape(tmp_path / "t").frames())
    assert found < truth
    assert len(truth - found) == lost
    assert verify.verify(tmp_path / "t").verdict == "damaged"


def test_either_copy_of_the_manifest_is_enough(small, tmp_path):
    data = (small / "p").read_bytes()
    with packed.Packed.open(small / "p") as opened:
        copies = [part for part in opened.parts if part.kind == packed.MANIFEST]
    for name, part in zip("ab", copies, strict=True):
        altered = bytearray(data)
        altered[part.start] ^= 1
        (tmp_path / f"{name}.p").write_bytes(altered)
        assert len(unpack(tmp_path / f"{name}.p", tmp_path / name).damage) == 1
        assert without_lock(tmp_path / name) == without_lock(small / "t")
    for part in copies:
        data = data[: part.start] + b"\0" + data[part.start + 1 :]
    (tmp_path / "c.p").write_bytes(data)
    with pytest.raises(Failed, match=r"both copies of tape\.json in .* are lost"):
        unpack(tmp_path / "c.p", tmp_path / "c")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_tape_that_is_being_recorded_is_refused(tmp_path, write_tape):
    says = rf"is being recorded by process {os.getpid()}; stop it"
    with write_tape(tmp_path / "t"), pytest.raises(Failed, match=says):
        pack(tmp_path / "t", tmp_path / "p")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]


def test_nothing_that_is_there_is_written_over(small, tmp_path):
    (tmp_path / "mine").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("mine", "link"):
        with pytest.raises(BadUsage, match="is there already"):
            pack(small / "t", tmp_path / name)
        with pytest.raises(BadUsage, match="is there already"):
            unpack(small / "p", tmp_path / name)
    with pytest.raises(BadUsage, match="is there already"):
        unpack(small / "p", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "mine"]


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x89PTPACK"], ids=["0", "zip", "cut"])
def test_what_is_no_packed_tape_is_refused(data, tmp_path):
    (tmp_path / "p").write_bytes(data)
    with pytest.raises(BadUsage, match="is not a packed tape"):
        check(tmp_path / "p")


def test_a_newer_one_is_refused(small, tmp_path):
    (tmp_path / "p").write_bytes((small / "p").read_bytes().replace(b"PTPACK1", b"PTPACK2"))
    with pytest.raises(Failed, match="by a newer perptape"):
        check(tmp_path / "p")


def test_remove_deletes_the_tape_and_nothing_of_others(tape, tmp_path):
    shutil.copytree(tape, tmp_path / "t")
    (tmp_path / "t/tables").mkdir()
    (tmp_path / "t/tables/manifest.json").write_text("{}")
    shutil.copytree(tmp_path / "t", tmp_path / "u")
    (tmp_path / "u/notes.txt").write_text("mine")
    for name in "tu":
        pack(tmp_path / name, remove=True)
    assert not (tmp_path / "t").exists()
    assert [p.name for p in (tmp_path / "u").iterdir()] == ["notes.txt"]
    assert unpack(tmp_path / "t.packed", tmp_path / "t").is_exact
    assert without_lock(tmp_path / "t") == without_lock(tape)


def test_what_does_not_read_back_is_no_packed_tape(tape, tmp_path, monkeypatch):
    def forgetful(fd, data):
        os.write(fd, bytes(data[:-1]) + b"?" if len(data) > 3000 else data)

    monkeypatch.setattr(packed, "write_all", forgetful)
    with pytest.raises(Failed, match=r"gave back other bytes .* another one"):
        pack(tape, tmp_path / "p", remove=True)
    assert [*tmp_path.iterdir()] == []
    assert Tape(tape).damage() == []


# Hostile files: all checksums are right, what they say is not


def packed_of(path, *parts):
    with path.open("wb", buffering=0) as file:
        writer = packed.Writer(file.fileno())
        for kind, raw in parts:
            writer.add(kind, raw)
    return path


def test_names_do_not_lead_out_of_the_tape(small, tmp_path):
    manifest = (small / "t/tape.json").read_bytes()
    names = ["../evil", "/etc/evil", "tape.json", "raw/tail", "a" * 60_000, "\0", "", "1.arrows"]
    parts = [(packed.BYTES, packed.with_name(name, 0, b"evil")) for name in names]
    back = unpack(packed_of(tmp_path / "p", (packed.MANIFEST, manifest), *parts), tmp_path / "t")
    assert len(back.damage) == len(names) + 1
    assert without_lock(tmp_path / "t") == {Path("tape.json"): manifest}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p", "t"]


def test_a_bomb_is_refused_by_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(block, "MOST_BYTES", 8 << 20)
    stored = block.compress(bytes(20 << 20))
    assert len(stored) < 20_000
    with pytest.raises(BadBlock, match="declares"):
        block.expand(stored, 20 << 20)
    with pytest.raises(BadBlock, match="does not hold what it declares"):
        block.expand(stored, 1 << 20)
    path = packed_of(tmp_path / "p", (packed.BYTES, packed.with_name("tail", 1 << 62, b"x")))
    assert "does not go on" in check(path).damage[1]


def test_more_than_the_disk_has_room_for_is_refused_before_it_is_written(small, tmp_path):
    manifest = (small / "t/tape.json").read_bytes()
    file = packed.File("tail", 1 << 60, "", 0, "")
    closing = msgspec.json.encode(packed.Closing(0, "", [file]))
    path = packed_of(tmp_path / "p", (packed.MANIFEST, manifest), (packed.CLOSING, closing))
    with pytest.raises(Failed, match=r"takes 1,152,921,504,606,846,976 bytes .* free some space"):
        unpack(path, tmp_path / "t")


HEADS = {
    "payload": [-1, 1 << 30, 10**30, 5],
    "words": [-1, 1 << 25, 1 << 62, 3],
    "shapes": [-1, 0, 1, 1 << 20, 1 << 62],
    "text": [-1, 0, 1 << 20, 1 << 62],
    "columns": [-1, 0, 2, 1 << 40],
    "pieces": [[], [[1, 0, True, {}]], [[0, 8, True, {"1": "bybit"}]], [[1, 8, True, {}]]],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in HEADS.items() for v in vs])
def test_a_head_that_cannot_be_meant_is_refused(field, value, tape):
    raw = block.encode("tail", list(itertools.islice(Tape(tape).batches(), 2)))
    length = int.from_bytes(raw[:4], "little")
    head = msgspec.json.decode(raw[4 : 4 + length]) | {field: value}
    said = msgspec.json.encode(head)
    with pytest.raises(BadBlock):
        block.decode(len(said).to_bytes(4, "little") + said + raw[4 + length :])


def test_a_block_of_any_bytes_is_read_or_refused(tape):
    whole = list(itertools.islice(Tape(tape).batches(), 2))
    raw, chance = block.encode("tail", whole), random.Random(3)  # noqa: S311 - bytes
    refused = 0
    for _ in range(1500):
        altered = bytearray(raw)
        for _ in range(chance.choice([1, 1, 4, 40])):
            altered[chance.randrange(len(raw))] = chance.choice([0, 1, 127, 128, 255])
        try:
            for batch in block.decode(bytes(altered))[1]:
                assert len(list(batch.frames())) == len(batch)
        except BadBlock:
            refused += 1
    assert refused > 300


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.text('0019.-e"{', max_size=40).map(str.encode)))
)
def test_any_bytes_are_put_together_as_they_were(frames):
    data = np.frombuffer(b"".join(frames), np.uint8)
    offsets = np.cumsum([0, *map(len, frames)])
    made = put_together(take_apart(data, offsets), len(frames), len(data))
    assert (made[0].tobytes(), made[1].tolist()) == (data.tobytes(), offsets.tolist())


def test_numbers_become_columns():
    frames = [b'{"p":"0.50","q":12}', b'{"p":"61000.25","q":007}']
    words = take_apart(np.frombuffer(b"".join(frames), np.uint8), np.array([0, 19, 43]))
    texts = [words.text[a:b].tobytes() for a, b in itertools.pairwise(words.offsets.tolist())]
    said = [
        (texts[k], int(words.decimals[k]), n)
        for k, n in zip(words.shape, words.number, strict=True)
    ]
    assert said == [
        (b'{"p":"', 2, 50), (b'","q":', 0, 12), (b"}", -1, 0),
        (b'{"p":"', 2, 6100025), (b'","q":00', 0, 7), (b"}", -1, 0),
    ]  # fmt: skip


def test_memory_does_not_grow_with_the_tape(tmp_path, monkeypatch):
    monkeypatch.setattr(block, "BLOCK_BYTES", 1 << 18)
    most = []
    for reads in (4, 40):
        path = tmp_path / str(reads)
        with TapeWriter(path) as writer:
            wire = writer.new_wire("bybit")
            for k in range(reads):
                writer.append(wire, 0, [b'{"u":%d}' % k * 100] * 250, T0 + k, k)
                writer.flush(sync=True)
        tracemalloc.start()
        pack(path, tmp_path / f"{reads}.p")
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert most[1] < 1.25 * most[0], most


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    return ended.value.code, *capsys.readouterr()


def test_the_commands_say_what_they_did(tape, tmp_path, capsys):
    shutil.copytree(tape, tmp_path / "t")
    sha256 = of_batches(Tape(tape).batches()).hexdigest()
    code, out, err = run(capsys, "pack", tmp_path / "t", "--remove")
    assert (code, err) == (0, "")
    assert f"955 frames, SHA-256 {sha256}\nread back: the same to the byte; " in out
    assert out.endswith("t is deleted\n")
    code, out, err = run(capsys, "unpack", tmp_path / "t.packed", "--tape", tmp_path / "u")
    assert (code, out, err) == (0, f"{tmp_path / 'u'}: 955 frames, SHA-256 {sha256}\n", "")
    data = bytearray((tmp_path / "t.packed").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "t.packed").write_bytes(data)
    code, out, err = run(capsys, "unpack", tmp_path / "t.packed")
    assert (code, err) == (4, "")
    assert "is no part of a tape: it is altered" in out
