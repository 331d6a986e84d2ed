"""Open a websocket; whatever goes wrong in that is :class:`Unreachable`."""

import asyncio
import gc
from typing import Any
from urllib.parse import urlsplit

from picows import WSError, WSHandshakeError, WSListener, ws_connect
from python_socks import ProxyError

from perptape.backoff import asked_wait_ns
from perptape.errors import Unreachable
from perptape.guard import MESSAGE_BYTES
from perptape.names import NAME_S
from perptape.route import Route
from perptape.venues.venue import Venue

CONNECT_S = 5.0
"""TCP, TLS and the websocket handshake together, once the name is found."""
CLOSE_S = 1.0
"""How long a peer may take over its half of the closing."""
YOUNG = 1
"""The generations of objects that a collection soon after looks at, in less than a millisecond."""


async def dial(listener: WSListener, venue: Venue, route: Route, ts_wall: int) -> None:
    """Connect to the venue; the listener is told. Raises Unreachable."""
    try:
        async with asyncio.timeout(NAME_S + CONNECT_S) as limit:
            await _connect(listener, venue, route, limit)
    except WSHandshakeError as error:
        # picows keeps it where its frames, and so all that waits for them, are kept by it.
        raise _turned_away(error.with_traceback(None), ts_wall) from error
    except TimeoutError as error:
        raise Unreachable(f"no answer within {CONNECT_S:g} s") from error
    except (OSError, WSError, ProxyError, ValueError) as error:
        raise Unreachable(str(error) or type(error).__name__) from error
    finally:
        gc.collect(YOUNG)  # asyncio's race of addresses leaves tasks that hold each other


async def _connect(
    listener: WSListener, venue: Venue, route: Route, limit: asyncio.Timeout
) -> None:
    def found() -> None:
        limit.reschedule(asyncio.get_running_loop().time() + CONNECT_S)

    secure = urlsplit(venue.url).scheme == "wss"
    more: dict[str, Any] = {"ssl_shutdown_timeout": CLOSE_S} if secure else {}
    await ws_connect(
        lambda: listener,
        venue.url,
        ssl_context=route.tls if secure else None,
        websocket_handshake_timeout=CONNECT_S,
        enable_auto_pong=False,
        max_frame_size=MESSAGE_BYTES,
        extra_headers=dict(venue.headers),
        max_redirects=0,
        proxy=route.proxy,
        socket_factory=lambda url: route.names.connected(url.host, url.port, found),
        **more,
    )


def _turned_away(error: WSHandshakeError, ts_wall: int) -> Unreachable:
    response = error.response
    if response is None:
        return Unreachable(str(error))
    wait_ns = asked_wait_ns(response.status, response.headers, ts_wall)
    return Unreachable(f"HTTP {int(response.status)} instead of a websocket", wait_ns)
