"""What every test may ask for."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared():
    """The folder of real frames and recordings beside the project."""
    if not (SHARED / "samples").is_dir():
        pytest.skip("the folder of real frames (../shared) is not on this machine")
    return SHARED
