"""Files that lie: flipped bits anywhere, hostile pickles and literals, in every command."""

import pickle
import random
import shutil

import msgspec
import pytest

from perptape import cli, tables, verify
from perptape.errors import PerptapeError
from perptape.events import NS, Kind, Opened, Subscription
from perptape.tape import Tape, TapeWriter

T0 = 1_700_000_000 * NS
BOOK = (
    b'{"topic":"orderbook.1.BTCUSDT","ts":%d,"type":"snapshot","data":{"s":"BTCUSDT",'
    b'"b":[["%d.5","1.5"]],"a":[["%d.75","3"]],"u":%d,"seq":70},"cts":%d}'
)


def fill(tape, frames=40):
    wire = tape.new_wire("bybit")
    stream = Subscription("bybit:BTC-USDT-PERP", "quotes", "orderbook.1", "BTCUSDT")
    opened = msgspec.json.encode(Opened("bybit", "ws://x", (stream,)))
    tape.append(wire, Kind.OPENED, [opened], T0, 1)
    for n in range(frames):
        ts = T0 + n * NS // 10
        frame = BOOK % (ts // 10**6, 100 + n % 3, 100 + n % 3, n + 1, ts // 10**6)
        tape.append(wire, Kind.TEXT, [frame], ts + 5_000_000, n + 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A tape as a crash leaves it: a sealed segment, a torn one, a tail; and with its tables."""
    place = tmp_path_factory.mktemp("whole")
    with TapeWriter(place / "live", half_bytes=1 << 14) as tape:
        fill(tape)
    tape = TapeWriter(place / "live", half_bytes=1 << 14)
    fill(tape, 5)
    tape.flush(sync=True)
    fill(tape, 3)
    shutil.copytree(place / "live", place / "t")
    tape.close()
    assert run("tabulate", place / "t") == 0
    assert verify.verify(place / "t").damage == []
    return place / "t"


def run(*words):
    return cli._run([*map(str, words)], debug=False)  # noqa: SLF001 - main() would exit


def written(file):
    """Where a file says something: the tail is mostly room."""
    data = file.read_bytes()
    if file.name != "tail":
        return range(len(data))
    half = len(data) // 2
    return [at for at in range(len(data)) if any(data[max(at - 64, at // half * half) : at + 1])]


def flips(whole, kind, rng, count):
    """Give (file, byte, bit) of so many flips of files of this kind, or of all there are."""
    files = [f for f in sorted(whole.rglob("*")) if f.is_file() and kind in str(f)]
    every = [(f, at, bit) for f in files for at in written(f) for bit in range(8)]
    return every if count is None or count >= len(every) else rng.sample(every, count)


KINDS = {
    "raw/0": "segments",
    "raw/tail": "the tail",
    "t/tape.json": "tape.json",
    "tables/": "tables",
}
FOUND_IN_TABLES = "tables/"


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_and_never_believed(torture, whole, tmp_path, figures, kind):
    """``verify`` names each that changes what was written; no frame is ever read wrong."""
    shutil.copytree(whole, tmp_path / "t")
    truth = set(Tape(whole).frames())
    rng = random.Random(11)  # noqa: S311 - a sample
    places = flips(tmp_path / "t", kind, rng, None if torture.LONG else 25)
    missed = []
    find = damage if torture.LONG else lambda path: verify.verify(path).damage
    for number, (file, at, bit) in enumerate(places):
        data = file.read_bytes()
        file.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        try:
            if not find(tmp_path / "t"):
                missed.append((file.name, at, bit))
            elif kind != FOUND_IN_TABLES and number % (20 if torture.LONG else 1) == 0:
                assert set(Tape(tmp_path / "t").frames()) <= truth, (file, at, bit)
        except PerptapeError as error:
            said = str(error)
            if not any(
                word in said
                for word in ("damaged", "format version", "not what was", "cannot be read")
            ):
                raise
        file.write_bytes(data)
    if kind == "raw/tail":  # room between records is nobody's
        missed = [m for m in missed if not is_room(whole, m)]
    assert missed == []
    figures(
        f"flipped bits: {KINDS[kind]}",
        injected=f"{len(places):,}",
        survived=f"{len(places):,}",
        remark="all found, no frame read wrong",
    )


def damage(path):
    """What ``verify`` asks of bytes, without the ledger."""
    manifest = tables.read_manifest(path / "tables")
    return Tape(path).damage() or tables.damaged(path / "tables", manifest)


def is_room(whole, place):
    """Tell whether a byte of the tail is zero and after all records of its half."""
    _, at, _ = place
    data = (whole / "raw/tail").read_bytes()
    half = len(data) // 2
    end = (at // half + 1) * half
    return not any(data[at:end])


@pytest.mark.parametrize("command", ["verify", "tabulate", "report"])
def test_every_command_tells_of_damage_in_sentences(  # noqa: PLR0913, PLR0917 - fixtures
    torture, whole, tmp_path, figures, capsys, command
):
    shutil.copytree(whole, tmp_path / "t")
    rng = random.Random(command)  # noqa: S311 - a sample
    codes = []
    for file, at, bit in flips(tmp_path / "t", "", rng, 200 if torture.LONG else 4):
        data = file.read_bytes()
        file.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        more = ["-o", tmp_path / "page.html"] if command == "report" else []
        codes.append(run(command, tmp_path / "t", *more))
        told = capsys.readouterr()
        torture.no_traceback(told.out, told.err)
        shutil.rmtree(tmp_path / "t")
        shutil.copytree(whole, tmp_path / "t")
    assert set(codes) <= {0, 1, 3, 4}
    figures(
        f"{command} of damaged tapes",
        injected=len(codes),
        survived=len(codes),
        remark=", ".join(f"exit {code}: {codes.count(code)}" for code in sorted(set(codes))),
    )


FOREIGN = ["notes.txt", "raw/notes.txt", "raw/1.arrows.bak", "tables/.DS_Store", "raw/x.arrows"]


def test_foreign_files_are_left_alone_and_a_newer_format_is_refused(
    torture, whole, tmp_path, figures, capsys
):
    shutil.copytree(whole, tmp_path / "t")
    for name in FOREIGN:
        (tmp_path / "t" / name).write_bytes(b"somebody's")
    assert Tape(tmp_path / "t").damage() == []
    assert set(Tape(tmp_path / "t").frames()) == set(Tape(whole).frames())
    with TapeWriter(tmp_path / "t", half_bytes=1 << 14) as tape:
        fill(tape, 2)
    assert run("tabulate", tmp_path / "t") == 0
    assert all((tmp_path / "t" / name).read_bytes() == b"somebody's" for name in FOREIGN)
    manifest = tmp_path / "t/tape.json"
    newer = manifest.read_text().replace('"format_version": 1', '"format_version": 2')
    manifest.write_text(newer)
    capsys.readouterr()
    commands = ("verify", "tabulate", "report", "pack")
    for command in commands:
        more = ["-o", tmp_path / "page.html"] if command == "report" else []
        assert run(command, tmp_path / "t", *more) == 1
        told = capsys.readouterr()
        torture.no_traceback(told.out, told.err)
        assert "has format version 2" in told.err and "install a newer perptape" in told.err
    assert manifest.read_text() == newer
    count = len(FOREIGN) + len(commands)
    figures("foreign files; a newer format", injected=count, survived=count, lost=0)


LITERALS = [
    "__import__('os').system('touch HERE')",
    "b'\\xff' * 10**9",
    "'x' * 10**10",
    "(" * 9000,
    "{'a': 1}",
    "f'{1}'",
    "'\\ud800'",
    "'\\N{BULLET}'",
    "b'\\x'",
    "'unclosed",
    "1e400",
    "9" * 9000,
    "''" * 5000,
    "b'a' 'b'",
    "-" * 9000 + "1",
    "[" * 9000,
    "lambda: 0",
    "\x00",
    "b'\u2603'",
]


@pytest.mark.parametrize("literal", LITERALS, ids=range(len(LITERALS)))
def test_hostile_literals_of_cryptofeed(torture, tmp_path, capsys, literal):
    file = tmp_path / "wss:stream.bybit.com.raw"
    file.write_text(f"1700000000.5: {literal.replace('HERE', str(tmp_path / 'HERE'))}\n")
    code = run("import", "cryptofeed", file, "--venue", "bybit", "--tape", tmp_path / "t")
    told = capsys.readouterr()
    torture.no_traceback(told.out, told.err)
    assert code in {0, 1, 2} and not (tmp_path / "HERE").exists()


class Evil:
    """Unpickled in earnest it would make a file."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


def pickles(place, rng):
    """Give pickles that call, and honest ones with bytes changed, cut out and put in."""
    yield from (pickle.dumps([{"a": Evil(place)}], protocol) for protocol in range(6))
    honest = [
        pickle.dumps([[{"topic": "orderbook.1.X", "ts": 1, "b": [1.5, None, True]}, "x", 1.0]], p)
        for p in range(6)
    ]
    while True:
        data = bytearray(rng.choice(honest))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        yield bytes(data)


def test_hostile_pickles(torture, tmp_path, figures, capsys):
    """The machine that reads them knows no opcode that calls anything."""
    rng = random.Random(3)  # noqa: S311 - a sample
    count = 5000 if torture.LONG else 40
    for number, data in zip(range(count), pickles(tmp_path / "HERE", rng), strict=False):
        (tmp_path / "frames.pkl").write_bytes(data)
        code = run("import", "notebook", tmp_path / "frames.pkl", "--tape", tmp_path / "t")
        told = capsys.readouterr()
        torture.no_traceback(told.out, told.err)
        assert code in {0, 1, 2} and not (tmp_path / "HERE").exists(), number
        shutil.rmtree(tmp_path / "t", ignore_errors=True)
    figures("hostile pickles", injected=count, survived=count, remark="nothing ran")


NAMES = [
    "../../x-USDT",
    "BTC-USDT\x00-PERP",
    "A" * 10_000 + "-USDT",
    "<img src=x onerror=alert(1)>",
    "..",
    "",
    "BTC/USDT",
    "CON",
    "\u202eBTC-USDT",
    "$(touch x)-USDT",
    "'; DROP TABLE x;--",
]


def test_hostile_names_on_their_way_to_paths_and_page(torture, tmp_path, figures, capsys):
    """They lead to no file outside the tables and to no element of the page."""
    with TapeWriter(tmp_path / "t", half_bytes=1 << 20) as tape:
        fill(tape)
        for name in NAMES:
            wire = tape.new_wire("bybit")
            stream = Subscription(f"bybit:{name}", "quotes", "orderbook.1", name)
            opened = msgspec.json.encode(Opened("bybit", name, (stream,)))
            tape.append(wire, Kind.OPENED, [opened], T0 + 5 * NS, 100)
            frame = msgspec.json.encode(
                {
                    "topic": f"orderbook.1.{name}",
                    "ts": 1_700_000_006_000,
                    "type": "snapshot",
                    "data": {"s": name, "b": [["1", "1"]], "a": [["2", "1"]], "u": 1, "seq": 1},
                    "cts": 1_700_000_006_000,
                }
            )
            tape.append(wire, Kind.TEXT, [frame], T0 + 6 * NS, 101)
    before = {p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "t")}
    page = tmp_path / "page.html"
    codes = [
        run("verify", tmp_path / "t"),
        run("tabulate", tmp_path / "t"),
        run("report", tmp_path / "t", "-o", page),
    ]
    told = capsys.readouterr()
    torture.no_traceback(told.out, told.err)
    assert set(codes) <= {0, 3}
    assert "\u202e" not in told.out and "\x00" not in told.out
    made = {p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "t")}
    assert made - before == {page}
    assert not any(".." in p.parts for p in (tmp_path / "t").rglob("*"))
    assert "<img src=x" not in page.read_text()
    figures(
        "hostile names",
        injected=len(NAMES),
        survived=len(NAMES),
        remark="no path outside the tables, text on the page",
    )
