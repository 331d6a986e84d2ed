"""How long to wait before trying again."""

from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import Random

from perptape.events import NS

FIRST_NS = 1 * NS
"""The first wait is at most this, and at least half of it: a venue that closes every wire
at once is not hammered."""
LONGEST_NS = 30 * NS
LONGEST_ASKED_NS = 3600 * NS
"""The longest stay away that a venue's ``Retry-After`` is believed for."""
TURNED_AWAY = frozenset({403, 418, 429})
"""HTTP statuses that mean: you ask too much, stay away."""


def delays(random: Random) -> Iterator[int]:
    """Give the waits before each next attempt, in ns: doubling to 30 s, the upper half jitter."""
    ceiling = FIRST_NS
    while True:
        yield random.randint(ceiling // 2, ceiling)
        ceiling = min(2 * ceiling, LONGEST_NS)


def asked_wait_ns(status: int, headers: Mapping[str, str], ts_wall: int) -> int:
    """Read how long an HTTP answer asks us to stay away; 0 if it does not."""
    said = headers.get("Retry-After")
    if said is None:
        return LONGEST_NS if status in TURNED_AWAY else 0
    try:
        wait_ns = int(said) * NS if said.strip().isdigit() else _until(said) - ts_wall
    except ValueError:
        return LONGEST_NS
    return min(max(wait_ns, 0), LONGEST_ASKED_NS)


def _until(date: str) -> int:
    """``Wed, 21 Oct 2026 07:28:00 GMT`` -> ns. Raises ValueError."""
    return int(parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp()) * NS
