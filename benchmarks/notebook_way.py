"""The notebook's way: a thread with ``websockets``, ``json.loads``, a queue, and pickles."""

import gzip
import json
import pickle
import queue
import ssl
import threading
import time
from pathlib import Path

from took import GO, Stopwatch, Took
from websockets.sync.client import ClientConnection, connect

WRITE_EVERY_S = 5


def notebook(url: str, count: int, folder: Path, ca: Path | None) -> Took:
    """Record the old way: a thread, json.loads, a queue, pickles every five seconds."""
    with connect(url, ssl=trust(ca), max_size=None) as socket:
        return _notebook(socket, count, folder / "notebook.pkl")


def _notebook(socket: ClientConnection, count: int, path: Path) -> Took:
    heard: queue.Queue[dict[str, object]] = queue.Queue()
    watch = Stopwatch()
    socket.send(GO.decode())

    def listen() -> None:
        for _ in range(count):
            data = socket.recv()
            message = json.loads(gzip.decompress(data) if isinstance(data, bytes) else data)
            message["local_ts"] = time.time()
            heard.put(message)

    listener = threading.Thread(target=listen)
    listener.start()
    while listener.is_alive() or not heard.empty():
        listener.join(WRITE_EVERY_S)
        with path.open("ab") as file:
            while not heard.empty():
                pickle.dump(heard.get(), file)
    return watch.stop(path.stat().st_size)


def trust(ca: Path | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=ca) if ca else None
