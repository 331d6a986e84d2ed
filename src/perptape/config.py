"""What to record: ``run.toml`` into frozen structs. Flags go before the file."""

import re
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from perptape.errors import BadUsage
from perptape.events import CHANNELS, NS

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_S = 36_525 * UNITS_S["d"]
"""In ns it still fits a 64 bit integer."""
SIZES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(MB|GB|TB)", re.IGNORECASE)
LARGEST = 10**18
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
LEAST_KEEP_S = UNITS_S["h"]
LEAST_DISK = 500 * SIZES["MB"]
"""The tail and the open segment alone take a good part of it."""


class VenueChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``[venues.NAME]`` may say."""

    quotes: str | None = None
    """Which of the venue's streams feeds the quotes: ``depth.step0``; likewise the others."""
    books: str | None = None
    trades: str | None = None
    marks: str | None = None
    funding: str | None = None
    url: str | None = None
    """An origin that takes the place of the venue's hosts: ``http://127.0.0.1:9001``."""

    @property
    def streams(self) -> dict[str, str]:
        """Channel -> stream, of those that are chosen."""
        chosen = {channel: getattr(self, channel) for channel in CHANNELS.values()}
        return {channel: stream for channel, stream in chosen.items() if stream}


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """The whole of ``run.toml``; every key may be left out."""

    instruments: tuple[str, ...] = ()
    channels: tuple[str, ...] = ("quotes",)
    min_venues: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Of a universe (``ALL-USDT``): how many venues must list a market."""
    top: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Of a universe: so many, those with the largest turnover."""
    for_: str | None = None
    tape: str | None = None
    keep: str | None = None
    """How long frames are kept: ``30d``."""
    max_disk: str | None = None
    """How much room they may take: ``200GB``."""
    sync_ms: Annotated[int, msgspec.Meta(ge=10, le=60_000)] = 1000
    venues: dict[str, VenueChoice] = {}


def load(path: Path | None) -> RunConfig:
    """Read ``run.toml``; without one give the defaults. Raises BadUsage."""
    if path is None:
        return RunConfig()
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), RunConfig)
    except OSError as error:
        raise BadUsage(f"--config {path}: {error.strerror or error}; name a file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadUsage(f"--config {path}: {error}.") from error


def duration_ns(text: str, argument: str = "--for") -> int:
    """``90``, ``90s``, ``5m``, ``1h30m`` in ns. Raises BadUsage."""
    plain = f"{text}s" if re.fullmatch(r"\d+(\.\d+)?", text) else text
    parts = DURATION.findall(plain)
    if not parts or "".join(n + u for n, u in parts) != plain:
        raise BadUsage(f"{argument} {text!r} is not a duration: write 40s, 5m or 1h30m.")
    total = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    if total > LONGEST_S:
        raise BadUsage(f"{argument} {text!r} is longer than a century: leave it out to go on.")
    ns = round(total * NS)
    if not ns:
        raise BadUsage(f"{argument} {text!r} is no time at all: write 40s, 5m or 1h30m.")
    return ns


def retention_ns(text: str) -> int:
    """``12h``, ``30d`` in ns; what is older is deleted, so the unit is to be written. BadUsage."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        raise BadUsage(f"--keep {text!r} has no unit: write {text}d for days, {text}h for hours.")
    ns = duration_ns(text, "--keep")
    if ns < LEAST_KEEP_S * NS:
        raise BadUsage(f"--keep {text!r} deletes what is not an hour old: give 1h or more.")
    return ns


def size_b(text: str, argument: str = "--max-disk") -> int:
    """``500MB``, ``200GB``, ``1TB`` in bytes, a thousand to each. Raises BadUsage."""
    match = SIZE.fullmatch(text.strip())
    size = round(float(match[1]) * SIZES[match[2].upper()]) if match else 0
    if match is None or size > LARGEST:
        raise BadUsage(f"{argument} {text!r} is not a size: write 500MB, 200GB or 1TB.")
    if size < LEAST_DISK:
        raise BadUsage(f"{argument} {text!r} is too small to record into: give 500MB or more.")
    return size
