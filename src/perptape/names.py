"""Sockets by name; where a name was last found stands in for a name server that does not answer."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

import uvloop
from aiohappyeyeballs import start_connection

NAME_S = 4.0
"""A name that takes longer is not found."""
EYEBALLS_S = 0.25
"""How long one address is tried alone before the next is tried beside it."""


class Loop(uvloop.Loop):
    """Looks names up in threads of its own, one for each name, and leaves them behind at its end.

    uvloop has two for all names together, so two that hang would keep back all others; and it ends
    only when they do.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[Any, asyncio.Future[list[Any]]] = {}

    async def getaddrinfo(self, host: Any, port: Any, **more: int) -> list[Any]:
        """As :func:`socket.getaddrinfo`; who asks what is being asked waits with the others."""
        what = host, port, *sorted(more.items())
        asked = self._asked.get(what)
        if asked is None:
            asked = self._asked[what] = self.create_future()
            asked.add_done_callback(lambda done: self._answered(what, done))
            Thread(target=self._look_up, args=(asked, host, port, more), daemon=True).start()
        return await asyncio.shield(asked)

    def _answered(self, what: Any, done: asyncio.Future[list[Any]]) -> None:
        del self._asked[what]
        done.exception()  # whoever asked may have left

    def _look_up(
        self, asked: asyncio.Future[list[Any]], host: Any, port: Any, more: dict[str, int]
    ) -> None:
        tell: Callable[[Any], None] = asked.set_result
        answer: Any
        try:
            answer = socket.getaddrinfo(host, port, **more)
        except Exception as error:  # noqa: BLE001 - raised where the name was asked for
            tell, answer = asked.set_exception, error
        with suppress(RuntimeError):  # the loop has ended
            self.call_soon_threadsafe(tell, answer)


class Names:
    """The addresses of each name to which a connection was made."""

    def __init__(self) -> None:
        self._good: dict[tuple[str, int], list[Any]] = {}
        """As many as venues have hosts."""

    async def connected(self, host: str, port: int, on_found: Callable[[], None]) -> socket.socket:
        """Connect; ``on_found`` is told when there are addresses. Raises OSError."""
        loop = asyncio.get_running_loop()
        where = host, port
        try:
            async with asyncio.timeout(NAME_S):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, TimeoutError) as error:
            if where not in self._good:
                words = str(error) or f"the name was not found within {NAME_S:g} s"
                raise OSError(words) from error
            found = self._good[where]
        on_found()
        try:
            there = await start_connection(found, happy_eyeballs_delay=EYEBALLS_S, loop=loop)
        except RuntimeError as error:  # uvloop's, for some addresses that it cannot reach
            raise OSError(str(error)) from error
        self._good[where] = found
        return there
