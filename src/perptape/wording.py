"""Numbers, times and names as a person reads them."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from perptape.events import NS

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
THIN = "\N{NARROW NO-BREAK SPACE}"
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
SECONDS_IN_FULL = 10
"""Below it a duration has milliseconds."""
HOURS_AT_MOST = 48
"""From here on a duration is in days."""
NEAR = 1e-4
"""A share closer than this to none or all is said to be near it, never rounded to it."""
FINE = 1e-2
"""A share closer than this to none or all has two decimals."""
MONEY = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def venue_of(market: str) -> str:
    """``bybit`` of ``bybit:BTC-USDT-PERP``."""
    return market.partition(":")[0]


def instrument_of(market: str) -> str:
    """``BTC-USDT-PERP`` of ``bybit:BTC-USDT-PERP``."""
    return market.partition(":")[2]


def names_of(markets: Iterable[str]) -> dict[str, str]:
    """Call a market by its venue where no other is on that venue, else by its whole name."""
    known = list(markets)
    venues = Counter(venue_of(m) for m in known)
    return {m: venue_of(m) if venues[venue_of(m)] == 1 else m for m in known}


def labels(sell: str, buy: str) -> tuple[str, str]:
    """Call the two markets of a pair by their venues where these differ."""
    differ = venue_of(sell) != venue_of(buy)
    return (venue_of(sell), venue_of(buy)) if differ else (sell, buy)


def number(value: float | None, decimals: int = 2) -> str:
    """Give a number with a real minus sign, thin spaces between thousands, a dash if not said."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:,.{decimals}f}".replace(",", THIN)
    is_zero = not any(c in text for c in "123456789")
    return text.removeprefix("-") if is_zero else text.replace("-", MINUS)


def bps(value: float | None) -> str:
    """Two decimals; three below 1 bps, where the third one matters."""
    return number(value, 3 if value is not None and abs(value) < 1 else 2)


def percent(share: float | None) -> str:
    """Give a share of 0 to 1 as a percentage that is never rounded up to all or down to none."""
    if share is None or not math.isfinite(share):
        return NONE
    if share in {0, 1}:
        return f"{100 * share:.0f}{THIN}%"
    if min(share, 1 - share) < NEAR:
        return f"{'<' if share < NEAR else '>'} {'0.01' if share < NEAR else '99.99'}{THIN}%"
    return number(100 * share, 2 if min(share, 1 - share) < FINE else 1) + THIN + "%"


def duration(seconds: float) -> str:
    """Write 0.25 s, 42.0 s, 1 min 30 s, 2 h 05 min, 3 d 04 h."""
    if seconds < SECONDS_IN_FULL:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"
    if round(seconds, 1) < MINUTE_S:
        return f"{seconds:.1f} s"
    whole_s = round(seconds)
    if whole_s < HOUR_S:
        return f"{whole_s // MINUTE_S} min {whole_s % MINUTE_S:02d} s"
    if whole_s < HOURS_AT_MOST * HOUR_S:
        return f"{whole_s // HOUR_S} h {whole_s % HOUR_S // MINUTE_S:02d} min"
    return f"{whole_s // DAY_S} d {whole_s % DAY_S // HOUR_S:02d} h"


def utc(ts: int, digits: int = 3) -> str:
    """``2024-08-08 00:00:01.250``, in UTC, cut (not rounded) to ``digits`` of a second."""
    second, ns = divmod(ts, NS)
    stamp = datetime.fromtimestamp(second, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
    return stamp + (f".{ns:09d}"[: digits + 1] if digits else "")


def money(value: float | None) -> str:
    """Three digits: 0.5, 12.3, 950, 12.3k, 4.56M."""
    if value is None or not math.isfinite(value):
        return NONE
    rounded = float(f"{value:.3g}")
    unit, suffix = next((m for m in MONEY if rounded >= m[0]), MONEY[-1])
    return f"{rounded / unit:.3g}{suffix}" if rounded < 1000 * MONEY[0][0] else f"{rounded:.3g}"


def printable(text: str) -> str:
    """Show what a terminal would obey (escapes, controls, marks of direction) instead of it."""
    return "".join(c if c.isprintable() or c == THIN else ascii(c)[1:-1] for c in text)


def listed(words: Sequence[str]) -> str:
    """Join as a sentence does: a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
