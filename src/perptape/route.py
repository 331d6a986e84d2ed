"""How to reach the outside: whom to trust, by which proxy, at which host."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import certifi
import msgspec

from perptape.errors import BadUsage
from perptape.names import Names
from perptape.venues.venue import Venue


class Route(msgspec.Struct, frozen=True):
    """One for all connections of a recording."""

    tls: ssl.SSLContext
    proxy: str | None = None
    """``http://``, ``https://``, ``socks4://`` or ``socks5://``; REST takes the first two."""
    names: Names = msgspec.field(default_factory=Names)


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Trust the system's authorities, certifi's where it has none, or those of ``ca_file`` alone.

    Raises BadUsage if ``ca_file`` holds none.
    """
    if ca_file is None:
        ours = None if _system_has_authorities() else certifi.where()
        return ssl.create_default_context(cafile=ours)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # an SSLError is one
        raise BadUsage(f"{ca_file} is no file of PEM certificates: {error}.") from error


def _system_has_authorities() -> bool:
    paths = ssl.get_default_verify_paths()
    return paths.cafile is not None or (
        paths.capath is not None and any(Path(paths.capath).iterdir())
    )


def at(venue: Venue, origin: str) -> Venue:
    """Give the venue at another host: ``http://127.0.0.1:9001`` takes its sockets and its REST.

    Paths stay; ws stands for http and wss for https. Raises BadUsage.
    """
    try:
        there = urlsplit(origin)
        meant = there.scheme in {"http", "https"} and there.hostname and there.port != 0
        meant = meant and origin.isascii() and origin.isprintable() and "@" not in there.netloc
    except ValueError:
        meant = None
    if not meant or there.path.strip("/") or there.query or there.fragment:
        raise BadUsage(
            f"--url {venue.name}={origin} is not an origin: write {venue.name}=http://HOST:PORT."
        )
    socket = "wss" if there.scheme == "https" else "ws"

    def moved(url: str, scheme: str) -> str:
        return urlunsplit(urlsplit(url)._replace(scheme=scheme, netloc=there.netloc))

    return msgspec.structs.replace(
        venue,
        url=moved(venue.url, socket),
        sockets={name: moved(url, socket) for name, url in venue.sockets.items()},
        rest=moved(venue.rest, there.scheme),
    )
