"""The notebook's way as a client of the comparison."""

import gzip
import json
import pickle
import queue
import threading
from collections.abc import Callable

import notebook_way
from peer_job import Job, Ran, Watch, ran_of, taker
from took import GO
from websockets.sync.client import connect


def record_notebook(job: Job) -> Ran:
    """A thread, ``json.loads``, a queue, pickles; of gzip frames what they hold."""
    took = notebook_way.notebook(job.url, job.count, job.folder, job.ca)
    ran, watch = ran_of(took), Watch(job)
    with (job.folder / "notebook.pkl").open("rb") as file:
        while message := _unpickled(file):
            watch.stamps.append(round(message["local_ts"] * 1e9))
    ran.got = len(watch.stamps)
    return watch.with_latency(ran)


def _unpickled(file) -> dict[str, object] | None:  # noqa: ANN001
    try:
        return pickle.load(file)  # noqa: S301 - what we wrote a moment ago
    except EOFError:
        return None


def quotes_notebook(job: Job) -> Ran:
    """A thread, ``json.loads``, a queue, and floats of the four numbers at its other end."""
    heard: queue.Queue[dict] = queue.Queue()
    read = _numbers[job.venue]
    watch = Watch(job)
    take = taker(watch)
    with connect(job.url, ssl=notebook_way.trust(job.ca), max_size=None) as socket:
        watch.begin()
        socket.send(GO.decode())

        def listen() -> None:
            for _ in range(job.count):
                data = socket.recv()
                heard.put(json.loads(gzip.decompress(data) if isinstance(data, bytes) else data))

        listener = threading.Thread(target=listen)
        listener.start()
        for _ in range(job.count):
            take(tuple(map(float, read(heard.get()))))
        return watch.stop()


_numbers: dict[str, Callable[[dict], tuple]] = {
    "binance": lambda m: (m["data"]["b"], m["data"]["B"], m["data"]["a"], m["data"]["A"]),
    "bybit": lambda m: (*m["data"]["b"][0], *m["data"]["a"][0]),
    "htx": lambda m: (*m["tick"]["bids"][0], *m["tick"]["asks"][0]),
    "gateio": lambda m: tuple(m["result"][key] for key in "bBaA"),
    "bitget": lambda m: (*m["data"][0]["bids"][0], *m["data"][0]["asks"][0]),
}


CLIENTS = {("record", "notebook"): record_notebook, ("quotes", "notebook"): quotes_notebook}
