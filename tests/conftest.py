"""What every test may ask for."""

from pathlib import Path

import pytest

from perptape import progress

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared"
REAL_TIME = {
    "report", "sims", "tape", "torture", "wire", "test_channels.py", "test_cli.py",
    "test_contributing.py", "test_docs.py", "test_examples.py", "test_faults.py", "test_kill.py",
    "test_planted.py", "test_planted_clocks.py", "test_progress.py", "test_screen.py",
    "test_workers.py",
}  # fmt: skip
"""Folders and files whose tests start processes, open sockets or wait."""


@pytest.fixture(scope="session")
def shared():
    """The folder of real frames and recordings beside the project."""
    if not (SHARED / "samples").is_dir():
        pytest.skip("the folder of real frames (../shared) is not on this machine")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def quiet():
    """Let no command tell how far it is, however slow the machine: its words are looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "QUIET_S", 1e9)
        yield


def pytest_collection_modifyitems(items):
    """Give what plays in real time a second try, which is told: machines have neighbours."""
    again = pytest.mark.flaky(reruns=1, reruns_delay=1)
    for item in items:
        if REAL_TIME.intersection(item.path.relative_to(TESTS).parts):
            item.add_marker(again)
