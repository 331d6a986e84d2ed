"""Files as the recorders of others write them."""

import os
import pickle
import queue
import threading
from pathlib import Path

import pytest


def run(path: Path, *streams: list[dict], protocol: int | None = None) -> None:
    """Write by the old notebook's own method: a thread per exchange, one queue, pickles.

    Each stream's dicts are put as they are, ``local_ts`` included; the file is appended to.
    """
    heard: queue.Queue[dict] = queue.Queue()

    def listen(messages: list[dict]) -> None:
        for message in messages:
            heard.put(message)

    threads = [threading.Thread(target=listen, args=(messages,)) for messages in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with path.open("ab") as file:  # what the notebook's writer does every five seconds
        while not heard.empty():
            pickle.dump(heard.get(), file, protocol=protocol)


@pytest.fixture
def run_notebook():
    return run


class Bomb:
    """Leaves a file behind if anybody unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.fixture
def bomb(tmp_path):
    return Bomb(tmp_path / "executed")
