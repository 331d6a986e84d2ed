"""The docs say what is so: layers, venues, commands, the ledger, and the blocks of the README."""

import ast
import re
import shlex
import tomllib
from importlib import resources
from pathlib import Path

import msgspec
import pytest

import perptape
from perptape import cli, config, plan, sims
from perptape.config import RunConfig
from perptape.events import CHANNELS, NS
from perptape.importers import run as import_
from perptape.sims import scenario
from perptape.venues import DEFAULT, LIVE, VENUES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def section(page, head):
    """The text below a heading, up to the next of its kind."""
    text = (ROOT / "docs" / page).read_text()
    return text.split(f"\n## {head}\n", 1)[1].split("\n## ", 1)[0]


def table(text):
    """Rows of all its tables; an empty first cell is the one above."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and not cells[0].startswith("---"):
            rows.append([cells[0] or rows[-1][0], *cells[1:]])
    return rows


def ticked(cell):
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def seconds(ns):
    return f"{ns // NS} s"


def layers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = [c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    return contract["layers"]


def test_the_architecture_lists_the_layers_of_the_contract():
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    (listed,) = [b for b in blocks(text, "text") if "cli" in b]
    assert listed.strip().splitlines() == layers()


@pytest.mark.parametrize("name", VENUES)
def test_every_venue_has_a_page_and_a_place_in_the_readme(name):
    assert (ROOT / "docs" / "venues" / f"{name}.md").is_file()
    assert f"docs/venues/{name}.md" in README


@pytest.mark.parametrize("name", VENUES)
def test_every_field_mapping_is_written_down(name):
    assert name in (ROOT / "docs" / "mapping.md").read_text()


@pytest.mark.parametrize("channel", CHANNELS.values())
def test_the_mapping_has_every_stream_of_every_channel(channel):
    told = {}
    for venue, streams, *_ in table(section("mapping.md", channel)):
        told.setdefault(venue, set()).update(ticked(streams))
    for name in LIVE:
        assert set(VENUES[name].streams[channel]) <= told[name], name


def test_the_mapping_has_every_call_and_how_often_it_is_made():
    rows = table(section("mapping.md", "Asked for by REST"))[1:]
    told = {(venue, ticked(call)[0], every) for venue, call, _, every in rows}
    polls = [(v, poll) for v in LIVE for poll in VENUES[v].polls]
    assert told == {(v, poll.what, seconds(poll.every_ns)) for v, poll in polls}
    for_all = {(venue, ticked(call)[0]) for venue, call, *_ in rows if "all at once" in call}
    is_for_all = [(v, p) for v, p in polls if "{symbol}" not in p.path and not p.body]
    assert for_all == {(v, poll.what) for v, poll in is_for_all}


def test_the_readme_has_the_default_stream_of_every_channel():
    rows = [row for row in table(README) if len(row) == 6 and "docs/venues" in row[0]]
    told = {re.search(r"venues/(\w+)\.md", name)[1]: cells for name, *cells in rows}
    assert set(told) == set(LIVE)
    for name, cells in told.items():
        defaults = [VENUES[name].streams[channel][0] for channel in CHANNELS.values()]
        assert ["+".join(ticked(cell)) for cell in cells] == defaults


TELLING = {"distrust", "_distrust", "_void", "_hurt", "hole", "repeat", "turn"}
"""Calls that are given a reason."""
NAMES = {"reason", "STALE", "SHUTDOWN", "BETWEEN"}


def constants(node):
    """Single words in it, but for those of texts that are put together."""
    if isinstance(node, ast.JoinedStr):
        return set()
    if isinstance(node, ast.Constant):
        is_word = isinstance(node.value, str) and re.fullmatch("[a-z_]+", node.value)
        return {node.value} if is_word else set()
    return set().union(*map(constants, ast.iter_child_nodes(node)))


def said(node):
    """Reasons that one node of the source gives."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name), args=args) if name in TELLING:
            return set().union(*map(constants, args))
        case ast.keyword(arg="reason", value=value):
            return constants(value)
        case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=value):
            names = {getattr(n, "id", None) or getattr(n, "attr", None) for n in ast.walk(target)}
            return constants(value) if names & NAMES and value is not None else set()
    return set()


def source(name):
    return ast.parse((ROOT / "src" / "perptape" / f"{name}.py").read_text())


def noted():
    """What ``Trust.note`` understands."""
    (match,) = [n for n in ast.walk(source("trust")) if isinstance(n, ast.Match)]
    return set().union(*(constants(case.pattern) for case in match.cases))


def test_every_reason_of_the_ledger_is_explained():
    files = ("checks", "ledger", "trust", "timeline", "importers/validity")
    found = set().union(*(said(n) for name in files for n in ast.walk(source(name))))
    found |= {"overload", "disk"}  # notes that are reasons by their own name
    assert found >= {"start", "sequence", "crossed", "stalled", "clock", "quarantine", "stale"}
    rows = table(section("ledger.md", "Reasons"))[1:]
    assert {ticked(reason)[0] for reason, *_ in rows} == found


def test_every_note_of_the_recorder_is_explained():
    rows = table(section("ledger.md", "Notes of the recorder"))[1:]
    assert {ticked(note)[0] for note, _ in rows} == noted()


def test_the_limits_of_silence_are_those_of_the_code():
    text = section("ledger.md", "When silence is too long")
    limits = [row for row in table(text) if row[0] in LIVE and row[1][0].isdigit()]
    for name, dead, first, slow in limits:
        venue = VENUES[name]
        assert (dead, first) == (seconds(venue.heartbeat.silence_ns), seconds(venue.first_data_ns))
        later = [f"`{stream}` {seconds(ns)}" for stream, ns in venue.slow.items()]
        assert slow.split(", ") == later
    assert [name for name, *_ in limits] == list(LIVE)
    promised = {(v, s, ns) for v in LIVE for s, ns in VENUES[v].cadence.items()}
    told = {tuple(row) for row in table(text) if row[0] in LIVE and row[1].startswith("`")}
    assert told == {(v, f"`{s}`", seconds(ns)) for v, s, ns in promised}


COMMANDS = ["demo", "record", "verify", "tabulate", "report", "sim", "import", "venues"]


@pytest.mark.parametrize("command", [*COMMANDS, "instruments"])
def test_every_command_has_help_and_a_place_in_the_docs(command):
    assert cli.app[command].help
    docs = README + "".join(p.read_text() for p in (ROOT / "docs").glob("*.md"))
    assert re.search(rf"(perptape|\./run) {command}\b|`{command}`", docs), command


def test_the_run_toml_of_the_readme_is_one():
    (text,) = blocks(README, "toml")
    read = msgspec.convert(tomllib.loads(text), RunConfig)
    assert read.venues["htx"].quotes == "depth.step0" and config.duration_ns(read.for_ or "")


def test_the_record_lines_of_the_readme_parse(tmp_path):
    text = "".join(blocks(README, "sh")).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    records = [line[2:] for line in lines if line[:2] == ["./run", "record"]]
    assert len(records) == 6
    (tmp_path / "run.toml").write_text(blocks(README, "toml")[0])
    for words in records:
        placed = [str(tmp_path / w) if w == "run.toml" else w for w in words]
        _, bound, _ = cli.app.parse_args(["record", *placed])
        assert bound.arguments


def test_the_simulated_exchanges_of_the_readme_are_at_its_ports():
    (block,) = [b for b in blocks(README, "sh") if "./run sim" in b]
    first = int(re.search(r"--port (\d+)", block)[1])
    places = dict(re.findall(r"--url (\w+)=http://127\.0\.0\.1:(\d+)", block))
    order = list(sims.VENUES)
    assert places == {name: str(first + order.index(name)) for name in DEFAULT}


BOOK = (
    '{"topic":"orderbook.1.%s","ts":1790000000001,"type":"snapshot","data":{"s":"%s",'
    '"b":[["100.0","1"]],"a":[["100.5","2"]],"u":%d,"seq":1},"cts":1790000000000}'
)


def test_the_notebook_of_the_readme_runs(tmp_path, monkeypatch):
    lines = [
        f"{1_790_000_000_000_000_000 + n * NS} {BOOK % (symbol, symbol, n + 1)}"
        for n in range(5)
        for symbol in ("BTCUSDT", "BTCPERP")
    ]
    (tmp_path / "bybit.txt").write_text("\n".join(lines) + "\n")
    import_("hftbacktest", [tmp_path / "bybit.txt"], tmp_path / "mine", venue="bybit")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(README, "python")
    names = {}
    exec(block, names)  # noqa: S102 - our own page
    assert names["quotes"].collect().height == 5
    assert len(names["found"].markets)


def test_the_scenario_of_its_page_is_one():
    (text,) = blocks((ROOT / "docs" / "scenario.md").read_text(), "toml")
    found = scenario.parse(text)
    assert found.episodes and found.faults


def test_the_default_is_the_four_first_venues():
    chosen = plan.choose(instruments=["BTC-USDT"])
    assert [venue.name for venue in chosen.plan.venues] == list(DEFAULT)


def test_no_lock_names_an_address():
    for lock in ROOT.glob("requirements*.lock"):
        text = lock.read_text()
        assert "://" not in text and text.count("--hash=sha256:") > 100


def test_the_public_names_are_there_and_no_others():
    assert all(getattr(perptape, name) is not None for name in perptape.__all__)
    assert dir(perptape) == sorted(perptape.__all__)
    assert resources.files(perptape).joinpath("py.typed").is_file()  # else its types are not read
    with pytest.raises(AttributeError, match="gossip"):
        perptape.gossip  # noqa: B018
