"""What one client used, and the word that makes the server play."""

import time

import msgspec

GO = b'{"method":"SUBSCRIBE"}'


class Took(msgspec.Struct):
    """CPU and wall time of one client, and what it left on the disk."""

    cpu_s: float
    wall_s: float
    bytes_on_disk: int
    reads: int | None = None


class Stopwatch:
    """Runs from when it is made; the CPU time is the whole process's, all threads."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def stop(self, on_disk: int, reads: int | None = None) -> Took:
        return Took(time.process_time() - self.cpu, time.perf_counter() - self.wall, on_disk, reads)
