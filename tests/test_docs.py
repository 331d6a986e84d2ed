"""The docs say what is so: layers, venues, commands, and the blocks of the README."""

import re
import shlex
import tomllib
from pathlib import Path

import msgspec
import pytest

import perptape
from perptape import cli, config, plan
from perptape.config import RunConfig
from perptape.sims import scenario
from perptape.venues import DEFAULT, LIVE, VENUES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


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
    assert len(records) == 3
    (tmp_path / "run.toml").write_text(blocks(README, "toml")[0])
    for words in records:
        placed = [str(tmp_path / w) if w == "run.toml" else w for w in words]
        _, bound, _ = cli.app.parse_args(["record", *placed])
        assert bound.arguments


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
    with pytest.raises(AttributeError, match="gossip"):
        perptape.gossip  # noqa: B018
