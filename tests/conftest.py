"""What every test may ask for."""

from pathlib import Path

import pytest

from perptape import progress

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
