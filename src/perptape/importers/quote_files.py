"""CSV or Parquet of anybody's quotes -> rows of ours, a batch at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv

from perptape.errors import BadUsage, Failed
from perptape.importers.quote_map import Cell, Market, QuoteMap, market_of
from perptape.importers.stamps import Wrong, to_ns
from perptape.instruments import nearest

PARQUET, GZIP = b"PAR1", b"\x1f\x8b"
BLOCK_BYTES = 4 << 20
"""Of a CSV, inflated, read at a time; some are read ahead."""
ROWS = 1 << 17
"""Of a Parquet file, read at a time."""
NULLS = ["", "null", "NULL", "Null", "None", "nan", "NaN", "NAN", "n/a", "N/A", "#N/A", "NA"]
MARKETS_AT_MOST = 10_000
NUMBERS = ("bid_price", "bid_size", "ask_price", "ask_size")
BETWEEN = "\x1f"

Told = Callable[[int], None]
"""Told how many bytes of the file have been read."""


class Tally(msgspec.Struct):
    """What was met beside quotes; counted while rows are given."""

    filtered: int = 0
    """Rows that ``where`` leaves out."""
    undated: int = 0
    """Rows without a stamp."""
    unnamed: int = 0
    """Rows without a word that names their market."""
    unpriced: int = 0
    """Rows without a price: they end the trust in the one before."""


class Quotes(NamedTuple):
    """Some rows in the file's order; a number is NaN where nothing was said."""

    market: NDArray[np.int32]
    ts_recv: NDArray[np.int64]
    ts_event: pl.Series
    """int64, null where nothing was said."""
    numbers: dict[str, NDArray[np.float64]]
    """Prices and sizes, per base coin and in base coins."""


class Markets:
    """Numbers the markets as they are met."""

    def __init__(self, found: QuoteMap) -> None:
        self._map = found
        self.known: list[Market] = []
        self._places: dict[str, int] = {}
        self._keys: dict[str, int] = {}
        self._of_keys: list[tuple[int, float, float]] = []

    def place(self, market: Market) -> int:
        """Give the number of a market."""
        if market.market not in self._places:
            self._places[market.market] = len(self.known)
            self.known.append(market)
        return self._places[market.market]

    def of(self, cells: pl.DataFrame) -> NDArray[np.float64]:
        """Give [n, 3]: market, price unit and contract size of each row; -1 and NaN for none."""
        words = [pl.col(name).cast(pl.String).fill_null("") for name in self._map.named_by]
        key = pl.concat_str([pl.lit(""), *words], separator=BETWEEN)
        keys = cells.with_columns(key.alias(BETWEEN))[BETWEEN]
        for new in keys.unique(maintain_order=True):
            if new not in self._keys:
                self._learn(new)
        numbers = keys.replace_strict(self._keys, return_dtype=pl.Int64).to_numpy()
        told: NDArray[np.float64] = np.array(self._of_keys, np.float64).reshape(-1, 3)[numbers]
        return told

    def _learn(self, key: str) -> None:
        if len(self._keys) >= MARKETS_AT_MOST:
            raise BadUsage(
                f"More than {MARKETS_AT_MOST:,} different words for a market: the map's venue or "
                f"instrument names a column that does not hold names, {self._map.named_by}."
            )
        cells = dict(zip(self._map.named_by, key.split(BETWEEN)[1:], strict=True))
        market = market_of(self._map, cells)
        told = (-1, np.nan, np.nan)
        if market is not None:
            size = np.nan if market.contract_size is None else market.contract_size
            told = (self.place(market), market.price_unit, size)
        self._keys[key] = len(self._of_keys)
        self._of_keys.append(told)


def read(
    path: Path, found: QuoteMap, markets: Markets, tally: Tally, told: Told
) -> Iterator[Quotes]:
    """Give a file's rows, prices that are no price (absent, 0, not finite) as NaN.

    Raises BadUsage where the map does not fit the file, Failed where the file cannot be believed.
    """
    first_row = 1
    with _complaints(path):
        for cells in _cells(path, found, told):
            yield from _quotes(path, found, markets, tally, cells, first_row)
            first_row += cells.height


@contextmanager
def _complaints(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, pl.exceptions.PolarsError, EOFError, OSError) as error:
        if getattr(error, "errno", None):
            raise  # the disk's trouble, not the file's; Arrow's own has no number
        why = " ".join(str(error).split())
        raise Failed(
            f"{path.name} cannot be read ({why}): nothing was imported; fetch the file again, or "
            "see whether it is CSV (the map's delimiter) or Parquet, gzipped or not."
        ) from error


def gathered(some: Iterable[Quotes], rows: int) -> Iterator[Quotes]:
    """Join what is read until there are enough rows to be worth sorting."""
    held: list[Quotes] = []
    for quotes in some:
        held.append(quotes)
        if sum(len(one.ts_recv) for one in held) >= rows:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(held: Sequence[Quotes]) -> Quotes:
    return Quotes(
        market=np.concatenate([one.market for one in held]),
        ts_recv=np.concatenate([one.ts_recv for one in held]),
        ts_event=pl.concat([one.ts_event.alias("") for one in held]),
        numbers={name: np.concatenate([one.numbers[name] for one in held]) for name in NUMBERS},
    )


# ---- files --------------------------------------------------------------------------------------


def _cells(path: Path, found: QuoteMap, told: Told) -> Iterator[pl.DataFrame]:
    """Give the columns that the map names, in its order."""
    with path.open("rb") as file:
        begin = file.read(len(PARQUET))
    kind = _parquet if begin == PARQUET else _csv
    for batch in kind(path, found, told, is_packed=begin.startswith(GZIP)):
        frame = pl.from_arrow(batch)
        if isinstance(frame, pl.DataFrame) and frame.height:
            yield frame.select(found.columns)


def _parquet(path: Path, found: QuoteMap, told: Told, *, is_packed: bool) -> Iterator[pa.Table]:
    del is_packed
    with pq.ParquetFile(path) as file:
        _check_columns(path, found, file.schema_arrow.names)
        size, rows, done = path.stat().st_size, max(file.metadata.num_rows, 1), 0
        for batch in file.iter_batches(ROWS, columns=list(found.columns)):
            yield pa.Table.from_batches([batch])
            done += batch.num_rows
            told(size * done // rows)


def _csv(path: Path, found: QuoteMap, told: Told, *, is_packed: bool) -> Iterator[pa.Table]:
    with _open_csv(path, found, is_packed=is_packed)[0] as peeked:
        _check_columns(path, found, peeked.schema.names)
    reader, file = _open_csv(path, found, is_packed=is_packed, columns=found.columns)
    with reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])
            told(file.tell())


def _open_csv(
    path: Path, found: QuoteMap, *, is_packed: bool, columns: Sequence[str] = ()
) -> tuple[csv.CSVStreamingReader, pa.NativeFile]:
    """Read every cell as text: what a number is, the map says, not the first block."""
    file = pa.OSFile(str(path))
    reader = csv.open_csv(
        pa.CompressedInputStream(file, "gzip") if is_packed else file,
        read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=csv.ParseOptions(delimiter=found.delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=NULLS,
            strings_can_be_null=True,
        ),
    )
    return reader, file


def _check_columns(path: Path, found: QuoteMap, names: Sequence[str]) -> None:
    for name in found.columns:
        if name not in names:
            close = nearest(name, names)
            hint = f"did you mean {close!r}? It has " if close else "it has "
            raise BadUsage(
                f"{path.name} has no column {name!r}, which the map names: {hint}"
                f"{', '.join(names)}."
            )
        if list(names).count(name) > 1:
            raise BadUsage(
                f"{path.name} has more than one column {name!r}: give each a name of its own."
            )


# ---- rows ---------------------------------------------------------------------------------------


def _quotes(  # noqa: PLR0913, PLR0917 - all that a row depends on
    path: Path,
    found: QuoteMap,
    markets: Markets,
    tally: Tally,
    cells: pl.DataFrame,
    first_row: int,
) -> Iterator[Quotes]:
    rows = pl.Series(np.arange(first_row, first_row + cells.height))
    kept = cells.select(_wanted(found))["wanted"]
    tally.filtered += int((~kept).sum())
    cells, rows = cells.filter(kept), rows.filter(kept)
    try:
        ts_recv = to_ns(cells[found.time], found.unit)
        tally.undated += ts_recv.null_count()
        dated = ts_recv.is_not_null()
        cells, rows, ts_recv = cells.filter(dated), rows.filter(dated), ts_recv.filter(dated)
        ts_event = _ts_event(found, cells)
        told = {name: _number(cells, getattr(found, name)) for name in NUMBERS}
    except Wrong as wrong:
        raise BadUsage(
            f"{path.name}, row {rows[wrong.row]}, column {wrong.column!r}: {wrong.why}"
        ) from None
    if cells.is_empty():
        return
    terms = markets.of(cells)
    named = terms[:, 0] >= 0
    tally.unnamed += int((~named).sum())
    units = {"price": 1 / terms[:, 1], "size": terms[:, 2]}
    yield Quotes(
        market=terms[named, 0].astype(np.int32),
        ts_recv=ts_recv.to_numpy()[named],
        ts_event=ts_event.filter(pl.Series(named)),
        numbers={name: _clean(name, told[name] * units[name[4:]])[named] for name in NUMBERS},
    )


def _wanted(found: QuoteMap) -> pl.Expr:
    each = [
        pl.any_horizontal(_is(name, one) for one in (cell if isinstance(cell, list) else [cell]))
        for name, cell in found.where.items()
    ]
    return pl.all_horizontal(pl.lit(value=True), *each).alias("wanted")


def _is(name: str, cell: Cell) -> pl.Expr:
    column = pl.col(name)
    text = column.cast(pl.String).str.strip_chars()
    if isinstance(cell, bool):
        test = text.str.to_lowercase() == str(cell).lower()
    elif isinstance(cell, str):
        test = text == cell if cell else text.is_null() | (text == "")
    else:
        test = text.cast(pl.Float64, strict=False) == cell
    return test.fill_null(value=False)


def _ts_event(found: QuoteMap, cells: pl.DataFrame) -> pl.Series:
    """A venue's stamp of 0 says nothing."""
    if found.time_event is None:
        return pl.repeat(None, cells.height, dtype=pl.Int64, eager=True)
    column = cells[found.time_event]
    is_zero = column.cast(pl.String).str.strip_chars().is_in(["0", "0.0"])
    unsaid = column.to_frame().select(pl.when(~is_zero).then(pl.col(column.name))).to_series()
    return to_ns(unsaid, found.unit_event or found.unit)


def _number(cells: pl.DataFrame, name: str | None) -> NDArray[np.float64]:
    if name is None:
        return np.full(cells.height, np.nan)
    column = cells[name]
    text = column.dtype == pl.String
    found = (column.str.strip_chars() if text else column).cast(pl.Float64, strict=False)
    bad = found.is_null() & column.is_not_null()
    if bad.any():
        at = int(bad.arg_max() or 0)
        raise Wrong(at, name, f"{column[at]!r} is no number: mend it, or leave the row out.")
    return found.fill_null(float("nan")).to_numpy()


def _clean(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A price of 0 is a missing one; a size of 0 was said."""
    is_said = (values > 0) if name.endswith("price") else (values >= 0)
    return np.where(is_said & np.isfinite(values), values, np.nan)
