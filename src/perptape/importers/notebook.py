"""The old notebook's files: consecutive pickles of dicts, one per websocket message.

Each dict is a message after ``json.loads`` with the key ``local_ts`` (``time.time()``) beside the
venue's own. The text that came is gone: a frame's payload is the dict written again as compact
JSON in its own order of keys, so numbers that the venue did not quote (HTX's) may be spelled
otherwise than on the wire. The receive time is as exact as a float of seconds, about 0.24 us.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path

from perptape.errors import Failed
from perptape.events import NS
from perptape.importers.importer import Heard, Importer, Tally
from perptape.importers.pickles import Torn, Unreadable, read_pickles

LOCAL_TS = "local_ts"
SECONDS = (1_000_000_000, 9_200_000_000)  # 2001 to 2261, the last that int64 ns can say


def read(path: Path, venue: str | None, tally: Tally) -> Iterator[Heard]:
    """Yield the frames of one file; those of no venue's shape are ``venue``'s, if it is given.

    Raises Failed at a pickle that holds more than plain values.
    """
    with path.open("rb") as file:
        try:
            for value in read_pickles(file):
                heard = _heard(value, venue)
                if heard is None:
                    tally.skipped += 1
                else:
                    yield heard
        except Torn:
            tally.torn += 1
        except Unreadable as error:
            raise Failed(
                f"{path.name}, byte {error.at}: {error.why}; nothing was imported or executed: "
                "if you trust the bytes before it, import a copy that ends where this pickle begins"
            ) from None


def _heard(value: object, venue: str | None) -> Heard | None:
    if not isinstance(value, dict):
        return None
    ts_recv = as_ns(value.pop(LOCAL_TS, None))
    venue = recognise(value) or venue
    if ts_recv is None or venue is None:
        return None
    # ASCII, because json.loads lets a lone surrogate through, which UTF-8 cannot say.
    return Heard(ts_recv, venue, json.dumps(value, separators=(",", ":")).encode())


def as_ns(stamp: object) -> int | None:
    """Read a time since 1970 in s, ms, us or ns, told apart by its size; None if it is none."""
    if isinstance(stamp, bool) or not isinstance(stamp, (int, float)):
        return None
    for unit in (1, 1_000, 1_000_000, NS):
        if SECONDS[0] <= stamp / unit < SECONDS[1]:
            # The float's shortest decimal is what was meant; a product of floats adds noise.
            return round(Decimal(repr(stamp)) * (NS // unit))
    return None


def recognise(frame: Mapping[str, object]) -> str | None:
    """Name the venue whose shape this message has."""
    return next((venue for venue, has_shape in SHAPES if has_shape(frame)), None)


def _starts(frame: Mapping[str, object], key: str, prefix: str) -> bool:
    value = frame.get(key)
    return isinstance(value, str) and value.startswith(prefix)


def _is_htx(frame: Mapping[str, object]) -> bool:
    return any(_starts(frame, key, "market.") for key in ("ch", "subbed", "rep"))


def _is_bybit(frame: Mapping[str, object]) -> bool:
    # HTX's notices have a topic too, beside an "op".
    return ("topic" in frame and "op" not in frame) or {"ret_msg", "op"} <= frame.keys()


def _book_ticker(frame: Mapping[str, object]) -> Mapping[str, object]:
    """Give the body of Binance's message, alone or in the combined stream's envelope."""
    body = frame.get("data") if "stream" in frame else frame
    return body if isinstance(body, dict) and body.keys() >= BOOK_TICKER else {}


def _is_binance_coinm(frame: Mapping[str, object]) -> bool:
    return str(_book_ticker(frame).get("ps")).endswith("USD")


BOOK_TICKER = {"u", "s", "b", "B", "a", "A"}
SHAPES: tuple[tuple[str, Callable[[Mapping[str, object]], bool]], ...] = (
    ("bitget", lambda frame: isinstance(frame.get("arg"), dict)),
    ("htx", _is_htx),
    ("gateio", lambda frame: _starts(frame, "channel", "futures.")),
    ("bybit", _is_bybit),
    ("binance_coinm", _is_binance_coinm),
    ("binance", lambda frame: "E" in _book_ticker(frame)),
    ("binance_spot", lambda frame: bool(_book_ticker(frame))),
)
"""In this order, the first that fits; acknowledgements fit too. Binance: ``bookTicker`` only."""

NOTEBOOK = Importer(name="notebook", read=read, needs_venue=False)
