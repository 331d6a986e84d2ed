"""What a client is asked to do, and what it says of it; the same for all."""

import resource
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec
from took import Took

WARM_UP = 0.1
"""So large a part of a paced run, its beginning, is not counted in the latency."""
FIRST_ID = 5_123_107_839_020
"""Of the first of Binance's frames; each has the next."""
US, PERCENTILES = 1000.0, (50, 99, 99.9)


class Job(msgspec.Struct, frozen=True):
    """One run of one client."""

    client: str
    path: str
    """``record``: socket to disk; ``quotes``: socket to a callback."""
    venue: str
    url: str
    count: int
    """Frames that are played."""
    folder: Path
    ca: Path | None = None
    log: Path | None = None
    """Where the server notes when it sent each frame; ``None``: it plays a burst."""


class Ran(msgspec.Struct):
    """What it took."""

    cpu_s: float
    """Of the whole process, all threads, user and system."""
    wall_s: float
    rss_mb: float
    """The most that it held at once."""
    got: int
    """Frames on disk, or quotes given to the callback."""
    disk_b: int = 0
    latency_us: tuple[float, ...] | None = None
    """From the server's stamp to ours, at :data:`PERCENTILES`."""


class Without(Exception):
    """A client has nothing to do this with."""


class Watch:
    """Counts what is given to a callback, with the time where it is asked for."""

    def __init__(self, job: Job) -> None:
        self.job, self.got = job, 0
        self.stamps = array("q")
        self.numbers: array[int] | None = None
        """Which frames, of a client that does not give all of them."""
        self._cpu, self._wall = _cpu_s(), time.perf_counter()

    def begin(self) -> None:
        """Count from here."""
        self._cpu, self._wall = _cpu_s(), time.perf_counter()

    def stop(self) -> Ran:
        """Say what it took; what is read back from the disk afterwards costs nothing."""
        cpu_s, wall_s = _cpu_s() - self._cpu, time.perf_counter() - self._wall
        ran = Ran(cpu_s, wall_s, peak_mb(), self.got + len(self.stamps))
        return self.with_latency(ran)

    def with_latency(self, ran: Ran) -> Ran:
        """Hold the stamps against the server's, if nothing is missing or it is known what."""
        job = self.job
        if job.log is None or (self.numbers is None and len(self.stamps) != job.count):
            return ran
        import numpy as np  # noqa: PLC0415 - not before the memory was measured

        sent = np.fromfile(job.log, np.int64)
        rows = np.arange(job.count) if self.numbers is None else np.array(self.numbers)
        late = (np.array(self.stamps) - sent[rows])[rows >= WARM_UP * job.count]
        if len(late):
            ran.latency_us = tuple(float(q) / US for q in np.percentile(late, PERCENTILES))
        return ran


def taker(watch: Watch) -> Callable[[object], None]:
    """Give the callback that all clients' quotes go to: it counts, or notes the time."""
    stamp, now = watch.stamps.append, time.time_ns

    def note(_quote: object) -> None:
        stamp(now())

    def count(_quote: object) -> None:
        watch.got += 1

    return count if watch.job.log is None else note


def ran_of(took: Took) -> Ran:
    return Ran(took.cpu_s, took.wall_s, peak_mb(), 0, took.bytes_on_disk)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    """Give the peak since the process began; ``ru_maxrss`` would count its parent's too."""
    rows = Path("/proc/self/status").read_text().splitlines()
    kib = next(row.split()[1] for row in rows if row.startswith("VmHWM"))
    return int(kib) * 1024 / 1e6


def written(job: Job) -> str:
    """Give a job as a word of a command."""
    return msgspec.json.encode(job, enc_hook=str).decode()


def read(word: str) -> Job:
    """Take what :func:`written` gave."""
    return msgspec.json.decode(word, type=Job, dec_hook=lambda kind, text: kind(text))
