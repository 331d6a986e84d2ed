"""Measures in parts, by whoever does them."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

from perptape.kernels import NEVER
from perptape.measures import edges as edges_of
from perptape.measures import gaps, parts
from perptape.measures.edges import edges

from .depth import books, heard
from .tape import ledger, quotes
from .test_depth_laws import FEES, NONE, tapes

SCRIPT = """
import os, sys
import polars as pl
from perptape.measures import gaps, parts

parts.ROWS_OF_PART, parts.ROWS_FOR_PROCESSES = 100, 100
quotes, ledger = (pl.scan_parquet(path) for path in sys.argv[1:3])
told = []
found = gaps(quotes, ledger, progress=lambda *done: told.append(done))
assert told == [(k + 1, 6) for k in range(6)], told
sys.stdout.buffer.write(found.to_json())
print(os.getpid(), file=sys.stderr)
"""


def test_parts_meet_and_cover():
    assert parts.cuts(-NEVER, NEVER, (0, 100), 1) == [(-NEVER, NEVER)]
    assert parts.cuts(-NEVER, NEVER, (0, 100), 4) == [
        (-NEVER, 25), (25, 50), (50, 75), (75, NEVER)
    ]  # fmt: skip
    assert parts.cuts(40, 42, (0, 100), 4) == [(40, 41), (41, 42)]
    assert parts.cuts(200, NEVER, (0, 100), 4) == [(200, NEVER)]


def test_only_plans_without_rows_go_to_processes(tmp_path):
    frame = pl.DataFrame({"x": [1]})
    frame.write_parquet(tmp_path / "x.parquet")
    file = pl.scan_parquet(tmp_path / "x.parquet")
    assert parts.is_on_disk(file.filter(pl.col("x") > 0))
    assert not parts.is_on_disk(frame)
    assert not parts.is_on_disk(frame.lazy())
    assert not parts.is_on_disk(pl.concat([file, frame.lazy()]))


def test_processes_need_no_guard_in_the_script_and_give_the_same_bytes(tmp_path):
    rows = [(k * 10**8 + 1, "abc"[k % 3], 100 + k % 7, 100.5 + k % 5) for k in range(550)]
    trusted = ledger([(venue, 0, 10**11) for venue in "abc"])
    quotes(rows).write_parquet(tmp_path / "quotes.parquet", row_group_size=50)
    trusted.write_parquet(tmp_path / "ledger.parquet")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", "quotes.parquet", "ledger.parquet"],
        cwd=tmp_path, capture_output=True, check=False, env=os.environ,
    )  # fmt: skip
    assert len(done.stderr.split()) == 1, done.stderr.decode()  # the script ran once
    assert done.stdout == gaps(quotes(rows), trusted).to_json()


@settings(max_examples=15, deadline=None)
@given(tapes())
def test_no_executor_shows_in_edges(tape):
    updates, trusted = tape
    given = {"fees": FEES, "notionals": [30, 160], "delays_ms": [0, 30]}
    expected = edges(books(updates), NONE, heard(trusted), **given)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as threads:
        patch.setattr(parts, "ROWS_OF_PART", 1)
        patch.setattr(edges_of, "processors", lambda: 3)
        told = []
        found = edges(
            books(updates), NONE, heard(trusted), executor=threads, **given,
            progress=lambda *done: told.append(done),
        )  # fmt: skip
    assert told == [(1, 3), (2, 3), (3, 3)]
    for name in ("edges", "delays", "sizes"):
        assert_frame_equal(getattr(found, name), getattr(expected, name), check_exact=True)
