"""Somebody's stamps -> ns since 1970, to the digit where they are text or whole numbers."""

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from perptape.events import NS
from perptape.importers.quote_map import UNITS_NS

SECONDS = (1_000_000_000, 9_200_000_000)  # 2001 to 2261, the last that int64 ns can say
FLOAT_NS = 1000
"""A float of a time in seconds can say no more than about a microsecond."""
NUMBER = r"^(\d{1,19})(?:\.(\d*))?$"
ZONED = r":\d\d(\.\d+)?([Zz]|[+-]\d\d(:?\d\d)?)$"


class Wrong(Exception):
    """A cell that cannot be meant; ``row`` counts within what was given."""

    def __init__(self, row: int, column: str, why: str) -> None:
        super().__init__(why)
        self.row, self.column, self.why = row, column, why


def to_ns(column: pl.Series, unit: str | None) -> pl.Series:
    """Give int64 ns, null where there is no stamp. Raises Wrong for what is no time."""
    found = _to_ns(column, unit)
    bad = (found.is_null() & column.is_not_null()) | ~found.fill_null(SECONDS[0] * NS).is_between(
        SECONDS[0] * NS, SECONDS[1] * NS, closed="left"
    )
    if bad.any():
        at = int(bad.arg_max() or 0)
        raise Wrong(at, column.name, _why(column[at], unit))
    return found


def _to_ns(column: pl.Series, unit: str | None) -> pl.Series:
    if column.dtype.is_temporal():
        return _typed(column)
    if column.dtype == pl.String and unit == "iso":
        return _iso(column)
    if unit is None or unit == "iso":
        seen = column.drop_nulls()
        if seen.is_empty():
            return column.clear(column.len()).cast(pl.Int64)
        raise Wrong(0, column.name, _no_unit(seen[0], unit))
    if column.dtype == pl.String:
        return _digits(column, UNITS_NS[unit])
    return _numbers(column, UNITS_NS[unit])


def _typed(column: pl.Series) -> pl.Series:
    return column.cast(pl.Datetime("ns")).cast(pl.Int64)


def _iso(column: pl.Series) -> pl.Series:
    """A time without a zone is UTC."""
    text = column.str.strip_chars()
    zoned = text.to_frame("t").select(
        pl.when(pl.col("t").str.contains(ZONED))
        .then(pl.col("t").str.replace(r"z$", "Z"))
        .when(pl.col("t").str.contains(":"))
        .then(pl.col("t") + "Z")
        .when(pl.col("t").str.len_chars() > 0)
        .then(pl.col("t") + "T00:00Z")
    )["t"]
    try:
        times = pc.cast(zoned.to_arrow(compat_level=pl.CompatLevel.oldest()), TIME)
    except pa.ArrowInvalid as error:
        raise Wrong(_first_not_iso(zoned), column.name, _words(error)) from None
    return pl.Series(times.cast(pa.int64()))


def _first_not_iso(zoned: pl.Series) -> int:
    for at, text in enumerate(zoned):
        try:
            pc.cast(pa.array([text], pa.string()), TIME)
        except pa.ArrowInvalid:
            return at
    return 0


def _words(error: pa.ArrowInvalid) -> str:
    text = str(error).partition(" as a scalar")[0].removeprefix("Failed to parse string: ")
    return f"{text} is no ISO time: write 2026-02-12T19:38:00Z, or say another unit in the map."


def _digits(column: pl.Series, unit_ns: int) -> pl.Series:
    """Read decimal text exactly."""
    places = len(str(unit_ns)) - 1
    parts = column.str.strip_chars().to_frame("t").select(
        whole=pl.col("t").str.extract(NUMBER, 1).cast(pl.Int64, strict=False),
        part=pl.col("t").str.extract(NUMBER, 2).fill_null("").str.pad_end(places, "0"),
    )  # fmt: skip
    fits = pl.col("whole") < SECONDS[1] * (NS // unit_ns)
    part = pl.col("part").str.slice(0, places).cast(pl.Int64) if places else pl.lit(0)
    return parts.select(ns=pl.when(fits).then(pl.col("whole") * unit_ns + part))["ns"]


def _numbers(column: pl.Series, unit_ns: int) -> pl.Series:
    most = SECONDS[1] * (NS // unit_ns)
    value = pl.col("t")
    fits = (value >= 0) & (value < most)
    if column.dtype.is_integer():
        ns = value.cast(pl.Int64, strict=False) * unit_ns
    else:
        grain = min(unit_ns, FLOAT_NS)
        steps = (value.cast(pl.Float64, strict=False) * (unit_ns // grain)).round()
        ns = steps.cast(pl.Int64, strict=False) * grain
    return column.to_frame("t").select(ns=pl.when(fits).then(ns))["ns"]


def _no_unit(value: object, unit: str | None) -> str:
    told = 'the map has no unit of it: add unit = "ms", or what it is' if unit is None else (
        "the map says iso, and this is a number: say its unit"
    )  # fmt: skip
    return f"{value!r}: {told}; s, ms, us, ns and iso are allowed."


def _why(value: object, unit: str | None) -> str:
    """Say what is wrong with a stamp, and which unit would fit."""
    fitting = [name for name in UNITS_NS if _fits(value, UNITS_NS[name])]
    hint = f'is it unit = "{fitting[0]}"?' if fitting else 'is it unit = "iso"?'
    return f"{value!r} in {unit} is no time between 2001 and 2261: {hint}"


def _fits(value: object, unit_ns: int) -> bool:
    try:
        seconds = float(str(value)) * unit_ns / NS
    except ValueError:
        return False
    return SECONDS[0] <= seconds < SECONDS[1]


TIME = pa.timestamp("ns", tz="UTC")
