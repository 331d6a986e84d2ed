"""The pages that teach are run as they stand: maps are written, commands and Python executed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from perptape.importers.quote_map import QuoteMap, load

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^```(toml|sh|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Page:
    """A page's blocks in order, in one directory and one session of Python."""

    def __init__(self, name, place):
        self.text, self.place = (DOCS / name).read_text(), place
        self.session, self.said = [], []

    def follow(self, *claims):
        """Run all blocks, and hold what the page claims against what its session found."""
        for language, block in BLOCK.findall(self.text):
            getattr(self, language)(block)
        asserts = [f"assert {claim}" for claim in claims]
        self.run([sys.executable, "-W", "error", "-c", "\n".join([*self.session, *asserts])])
        return "\n".join(self.said)

    def toml(self, block):
        """The first line of a file in a page is its name."""
        (self.place / block.splitlines()[0].removeprefix("# ")).write_text(block)

    def python(self, block):
        self.session.append(block)

    def sh(self, block):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if not words:
                continue
            may_fail = words[-2:] == ["||", "true"]
            words = words[:-2] if may_fail else words
            assert words.pop(0) in {"perptape", "./run"}, line
            self.run([sys.executable, "-m", "perptape", *words], may_fail=may_fail)

    def run(self, words, *, may_fail=False):
        done = subprocess.run(
            words,
            cwd=self.place,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"MPLBACKEND": "agg"},
        )
        assert may_fail or done.returncode == 0, f"{words}: {done.stderr}"
        assert "Traceback" not in done.stderr
        self.said.append(done.stdout)


@pytest.fixture
def minutes(shared, tmp_path):
    """The public file's place is taken by the selection of its lines that is at hand."""
    (tmp_path / "2026-02.csv").symlink_to(
        shared / "data" / "perp-minute-bbo-6venues-202602" / "perp_bbo_minute.csv"
    )
    return tmp_path


def test_the_tutorial_is_as_it_says(tmp_path):
    page = Page("tutorial.md", tmp_path)
    said = page.follow(
        'set(gaps.filter(pl.col("edge_max_bps") > 0)["sell"]) == '
        '{"bitget:BTC-USDT-PERP", "bybit:BTC-USDT-PERP"}',
        'gaps.filter(pl.col("edge_max_bps") > 0).height == 6',
        'gaps["gap_median_bps"].abs().max() < 3 and 15 < gaps["gap_max_bps"].max() < 25',
        "all(abs(row['offset_ms'] - told) <= row['error_ms'] for row in clocks.to_dicts() "
        "for venue, told in (('htx', -32), ('bitget', 11)) if row['venue'] == venue)",
        'sorted(episodes["sell"].unique()) == ["bitget:BTC-USDT-PERP", "bybit:BTC-USDT-PERP"]',
        "episodes.height == 6",
        "all(abs(row['duration_s'] - (2 if 'bybit' in row['sell'] else 1)) < 0.2 "
        "for row in episodes.to_dicts())",
        "truth.height >= 3 and edges.delays.filter(best).height == 6",
    )
    assert "complete: " in said and "The report: " in said
    assert (tmp_path / "night.html").is_file() and (tmp_path / "night.json").is_file()


def test_importing_quotes_is_as_its_page_says(minutes):
    said = Page("import-quotes.md", minutes).follow()
    assert "377 quotes of 3 markets" in said and "114 without a price" in said
    assert "binance:BTC-USDT-PERP" in said and (minutes / "minutes.json").is_file()


def test_every_map_of_the_page_is_one(tmp_path):
    page = Page("import-quotes.md", tmp_path)
    for language, block in BLOCK.findall(page.text):
        if language == "toml":
            page.toml(block)
    venues = {path.name: load(str(path)).venue for path in tmp_path.iterdir()}
    assert venues == {"tardis-okx.toml": "{exchange}", "minutes.toml": "{exchange}"}


def test_the_page_lists_every_key_of_a_map():
    text = (DOCS / "import-quotes.md").read_text()
    table = "".join(line for line in text.splitlines() if line.startswith("| `"))
    for key in (*QuoteMap.__struct_fields__, "like"):
        assert f"`{key}`" in table, key
