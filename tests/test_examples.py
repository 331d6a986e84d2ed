"""Every example runs on a tape and says something."""

import subprocess
import sys
from pathlib import Path

import pytest

from perptape.importers import run as import_

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))
BOOKS = {
    "binance": '{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":%d,"s":"BTCUSDT",'
    '"b":"%.2f","B":"1.0","a":"%.2f","A":"2.0","T":1790000000000,"E":1790000000001}}',
    "binance_spot": '{"stream":"btcusdt@bookTicker","data":{"u":%d,"s":"BTCUSDT","b":"%.2f",'
    '"B":"1.0","a":"%.2f","A":"2.0"}}',
}


@pytest.fixture(scope="module")
def tape(tmp_path_factory):
    place = tmp_path_factory.mktemp("examples")
    for shift, (venue, book) in enumerate(BOOKS.items()):
        lines = [
            f"{1_790_000_000_000_000_000 + n * 50_000_000} "
            + book % (n, 100 + shift + n % 5, 100.5 + shift + n % 5)
            for n in range(100)
        ]
        file = place / f"{venue}.txt"
        file.write_text("\n".join(lines) + "\n")
        import_("hftbacktest", [file], place / "tape", venue=venue)
    return place / "tape"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(example, tape, tmp_path):
    words = [sys.executable, str(example), str(tape), str(tmp_path / "pictures")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "binance" in done.stdout or "shape" in done.stdout


def test_there_are_examples():
    assert EXAMPLES
