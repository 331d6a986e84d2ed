"""Simulated exchanges on loopback: the other half of the conversation, with a known truth.

``market``, ``trades`` and ``ticker`` make what is told, ``scenario`` says what is played, a file
per venue speaks its dialect, ``exchange`` is a venue without sockets and ``casts`` what it tells to
whom; ``faults`` may be planned, ``strikes`` and ``hurt`` do them, ``schedule`` on time; ``server``
owns the sockets, ``truth`` is what really happened.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import uvloop

from perptape.errors import BadUsage
from perptape.events import NS
from perptape.sims import scenario as scenarios
from perptape.sims.binance import BINANCE
from perptape.sims.bitget import BITGET
from perptape.sims.bybit import BYBIT
from perptape.sims.gateio import GATEIO
from perptape.sims.htx import HTX
from perptape.sims.hyperliquid import HYPERLIQUID
from perptape.sims.okx import OKX
from perptape.sims.scenario import Scenario
from perptape.sims.server import Server
from perptape.sims.truth import Truth, make_folder

VENUES = {
    dialect.name: dialect for dialect in (BITGET, HTX, GATEIO, BYBIT, BINANCE, OKX, HYPERLIQUID)
}
LAST_PORT = 65_535
INTERRUPTED = 128  # plus the signal's number: the exit code

__all__ = ["VENUES", "Running", "Scenario", "load", "run", "serve"]


class Running:
    """Simulated exchanges that are up."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.urls = server.urls
        """Origins by venue: ``http://127.0.0.1:9001``."""

    async def close(self) -> None:
        """End all connections; the truth and the send logs are complete after it."""
        await self._server.close()


def load(path: Path | None = None, *, seed: int | None = None) -> Scenario:
    """A scenario file, or the demo's scenario; a seed given here goes before the file's."""
    if path is None:
        return scenarios.demo(seed)
    found = scenarios.load(path)
    return found if seed is None else msgspec.structs.replace(found, seed=seed)


async def serve(
    venues: Sequence[str],
    scenario: Scenario,
    *,
    port: int = 0,
    truth: Path | None = None,
    log_dir: Path | None = None,
) -> Running:
    """Listen for these venues: the k-th on ``port + k``, or each on a free port if it is 0.

    ``truth`` is a file for what really happens, ``log_dir`` a folder for what is sent on each
    connection. Raises BadUsage for a venue that is not simulated, Failed for a taken port
    or a place that cannot be written.
    """
    for venue in venues:
        if venue not in VENUES:
            allowed = ", ".join(VENUES)
            raise BadUsage(f"{venue!r} is not a simulated venue; allowed are {allowed}.")
    last = LAST_PORT + 1 - len(venues)
    if not 0 <= port <= last:
        raise BadUsage(f"--port {port} is none: write one of 1 to {last}, or 0.")
    if log_dir is not None:
        make_folder(log_dir)
    dialects = [VENUES[venue] for venue in dict.fromkeys(venues)]
    server = Server(dialects, scenario, Truth(truth), log_dir)
    try:
        await server.listen(port)
    except BaseException:
        await server.close()
        raise
    return Running(server)


def run(  # noqa: PLR0913  one parameter per flag of the command
    venues: Sequence[str],
    scenario: Scenario,
    *,
    port: int = 0,
    truth: Path | None = None,
    log_dir: Path | None = None,
    for_ns: int | None = None,
    say: Callable[[str], object] = print,
) -> int:
    """Serve until ``for_ns`` are over (gives 0) or a signal comes (130 or 143).

    ``say`` is given one line: the ``--url`` words for ``perptape record``.
    """

    async def main() -> int:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _end, ended, INTERRUPTED + number)
        running = await serve(venues, scenario, port=port, truth=truth, log_dir=log_dir)
        say(" ".join(f"--url {venue}={url}" for venue, url in running.urls.items()))
        if for_ns is not None:
            loop.call_later(for_ns / NS, _end, ended, 0)
        code = await ended
        await running.close()
        return code

    return uvloop.run(main())


def _end(ended: "asyncio.Future[int]", code: int) -> None:
    if not ended.done():
        ended.set_result(code)
