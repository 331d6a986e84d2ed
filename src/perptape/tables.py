"""The columns of each table, and where a partition lies."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from perptape.errors import Failed
from perptape.events import NS
from perptape.manifest import NAME as TAPE
from perptape.manifest import sync_directory
from perptape.schemas import DATED_COINS, SCHEMAS, TIME_OF

if TYPE_CHECKING:
    import polars as pl

PATH_PART = re.compile(r"[A-Z0-9][A-Z0-9._-]{0,63}")
ROWS_PER_GROUP = 1 << 17
"""Rows buffered for one partition before they are written: the bound on a writer's memory."""
MANIFEST = "manifest.json"
DELTAS = (
    *("seq", "ts_recv", "ts_event", "ts_send"),
    *("ts_start", "ts_end", "ts_seen", "ts_funding"),
)
"""Columns that grow steadily: delta encoding is a third of the plain size."""
PLAIN = ("update_id", "trade_id")
"""Each market counts its own, and a file has many: zstd finds more in them as they are."""
LEVEL, DELTA_LEVEL = 2, 4
"""Of zstd: higher ones take longer than what they save is worth."""


class TableFile(msgspec.Struct, frozen=True):
    """One entry of the manifest: a file without an entry does not exist."""

    path: str
    rows: int
    ts_first: int
    ts_last: int
    sha256: str


class Imported(msgspec.Struct, frozen=True):
    """A file of somebody else's quotes that became rows."""

    name: str
    """Without the folder it lay in."""
    sha256: str
    rows: int
    """That were taken, with a price or without."""
    ts_first: int
    ts_last: int
    map: str
    """What its columns were taken for, as JSON."""


class Manifest(msgspec.Struct, frozen=True):
    """What lies in a ``tables`` directory, and from which tape it was made."""

    source: str
    """Fingerprint of the tape; of imported tables the version of perptape that made them."""
    files: list[TableFile]
    notes: dict[str, int] = {}
    """Counts of what could not become rows, by reason."""
    imports: list[Imported] = []
    """Of tables that have no tape: what they were made from."""
    manifest_sha256: str = ""
    """Of the manifest's own bytes, with this left empty."""


def path_part(name: str) -> str:
    """Give a name that may be part of a path; a venue's raw text never is.

    Raises Failed for any other.
    """
    if PATH_PART.fullmatch(name) is None:
        raise Failed(f"{name!r} cannot be part of a path: report this tape, please.")
    return name


def date_of(ts: int) -> str:
    """``YYYY-MM-DD`` (UTC) of a time in ns."""
    return datetime.fromtimestamp(ts // NS, tz=UTC).strftime("%Y-%m-%d")


def make_private(directory: Path) -> None:
    """Make a directory, and those above it that are missing, for nobody but us."""
    if not directory.is_dir():
        make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _created(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


class PartitionWriter:
    """One Parquet file, written in row groups of fixed size so that its bytes depend on rows only.

    Raises Failed if the disk does not take it.
    """

    def __init__(self, root: Path, table: str, **keys: str) -> None:
        self._root = root
        parts = [f"{key}={path_part(value)}" for key, value in keys.items()]
        self.path = Path(table, *parts, "part-0.parquet")
        self._schema = SCHEMAS[table]
        full = root / self.path
        make_private(full.parent)
        os.close(_created(full))  # Parquet's own open() would let others read
        names = self._schema.names
        delta = {name: "DELTA_BINARY_PACKED" for name in names if name in DELTAS}
        self._writer = pq.ParquetWriter(
            full,
            self._schema,
            compression="zstd",
            compression_level={n: DELTA_LEVEL if n in delta else LEVEL for n in names},
            use_dictionary=[n for n in names if n not in delta and n not in PLAIN],
            column_encoding=delta,
            write_page_checksum=True,
            data_page_version="2.0",
        )
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._rows = 0
        self._span: tuple[int, int] | None = None
        self._time = "ts_recv" if "ts_recv" in self._schema.names else TIME_OF[table]

    def write(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        self._note_span(rows)
        self._held.append(rows.cast(self._schema))
        self._held_rows += rows.num_rows
        while self._held_rows >= ROWS_PER_GROUP:
            self._write_group(ROWS_PER_GROUP)

    def _note_span(self, rows: pa.Table) -> None:
        times = rows[self._time].cast(pa.int64())
        first, last = times[0].as_py(), times[-1].as_py()
        low, high = self._span or (first, last)
        self._span = (min(low, first), max(high, last))

    def _write_group(self, count: int) -> None:
        held = pa.concat_tables(self._held).unify_dictionaries().combine_chunks()
        self._writer.write_table(held.slice(0, count), row_group_size=ROWS_PER_GROUP)
        rest = held.slice(count)
        self._held, self._held_rows = ([rest] if rest.num_rows else []), rest.num_rows
        self._rows += count

    def close(self) -> TableFile:
        """Finish the file, sync it, and give its manifest entry."""
        if self._held_rows:
            self._write_group(self._held_rows)
        self._writer.close()
        full = self._root / self.path
        low, high = self._span or (0, 0)
        return TableFile(str(self.path), self._rows, low, high, _sha256_synced(full))


def _sha256_synced(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_all(root: Path, made: Path, manifest: Manifest) -> Manifest:
    """Put the tables in ``made`` in the place of those in ``root``; give the sealed manifest.

    The manifest goes first and comes last: what none lists does not exist.
    """
    (root / MANIFEST).unlink(missing_ok=True)
    for table in SCHEMAS:
        shutil.rmtree(root / table, ignore_errors=True)
        if (made / table).exists():
            (made / table).rename(root / table)
    return _write(root, manifest)


def add(root: Path, made: Path, new: Iterable[TableFile], manifest: Manifest) -> Manifest:
    """Put ``new`` files of ``made`` beside those that ``manifest`` keeps; give the sealed manifest.

    Whenever this is interrupted the tables are the former or the new ones, whole: no file takes
    the place of another, and the manifest's replacement is what counts.
    """
    former = read_manifest(root)
    taken = {file.path for file in former.files} if former else set()
    files = [*manifest.files, *(_move(file, made, root, taken) for file in new)]
    files.sort(key=lambda file: file.path)
    sealed = _write(root, msgspec.structs.replace(manifest, files=files))
    listed = {root / file.path for file in files}
    for table in SCHEMAS:
        for path in (root / table).rglob("*.parquet"):
            if path not in listed:
                path.unlink()
    return sealed


def _move(file: TableFile, made: Path, root: Path, taken: Collection[str]) -> TableFile:
    names = (Path(file.path).with_name(f"part-{number}.parquet") for number in count())
    path = next(name for name in names if str(name) not in taken)
    make_private((root / path).parent)
    (made / file.path).rename(root / path)
    sync_directory((root / path).parent)
    return msgspec.structs.replace(file, path=str(path))


def _write(root: Path, manifest: Manifest) -> Manifest:
    blank = msgspec.structs.replace(manifest, manifest_sha256="")
    sealed = msgspec.structs.replace(
        blank, manifest_sha256=hashlib.sha256(_text(blank)).hexdigest()
    )
    new = root / f"{MANIFEST}.new"
    with os.fdopen(_created(new), "wb") as file:
        file.write(_text(sealed))
        file.flush()
        os.fsync(file.fileno())
    new.replace(root / MANIFEST)
    sync_directory(root)
    return sealed


def _text(manifest: Manifest) -> bytes:
    return json.dumps(msgspec.to_builtins(manifest), indent=1, sort_keys=True).encode() + b"\n"


def read_manifest(root: Path) -> Manifest | None:
    """``None`` if there are no finished tables here. Raises Failed if it is not as written."""
    try:
        data = (root / MANIFEST).read_bytes()
        manifest = msgspec.json.decode(data, type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise Failed(f"{root / MANIFEST} cannot be read ({error}): tabulate again.") from error
    blank = _text(msgspec.structs.replace(manifest, manifest_sha256=""))
    is_own = hashlib.sha256(blank).hexdigest() == manifest.manifest_sha256
    if not is_own or _text(manifest) != data:
        raise Failed(f"{root / MANIFEST} is not what was written: tabulate again.")
    return manifest


def imported(directory: Path) -> Manifest | None:
    """Tell tables that were imported, and so have no tape beside them, from all others.

    ``directory`` is what holds ``tables``. Raises Failed if they are not as written.
    """
    if (directory / TAPE).exists():
        return None
    try:
        manifest = read_manifest(directory / "tables")
    except Failed as error:
        raise Failed(
            f"{directory / 'tables' / MANIFEST} is not what was written, and there is no tape to "
            "make the tables from: import again into a new directory."
        ) from error
    return manifest if manifest and manifest.imports else None


def damaged(root: Path, manifest: Manifest) -> list[str]:
    """Name the files whose bytes are not those that were written."""
    return [f.path for f in manifest.files if not _same(root / f.path, f.sha256)]


def _same(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def files(root: Path, table: str, *, base: str | None = None) -> Iterator[Path]:
    """Give the files of a table in the order of their partitions.

    Raises Failed if one is gone.
    """
    manifest = read_manifest(root)
    for entry in [] if manifest is None else manifest.files:
        parts = Path(entry.path).parts
        if parts[0] == table and (base is None or f"base={base}" in parts):
            path = root / entry.path
            if not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
                raise Failed(f"{path} is gone: tabulate again.")
            yield path


def bases(root: Path, table: str = "quotes") -> list[str]:
    """List the base coins that a table has rows of."""
    found = {p.parent.parent.name.removeprefix("base=") for p in files(root, table)}
    return sorted(found)


def scan(root: Path, table: str, *, base: str | None = None) -> "pl.LazyFrame":
    """Give a table as a LazyFrame, receive-ordered, with its partition keys ``base`` and ``date``.

    ``root`` is the ``tables`` directory. An absent table is an empty frame with its columns.
    Raises Failed if a file is gone.
    """
    import polars as pl  # noqa: PLC0415 - half a second that `--help` need not wait for

    keys = {"base": pl.String, "date": pl.Date} if table in DATED_COINS else {"date": pl.Date}
    found = list(files(root, table, base=base))
    if not found:
        empty = pl.from_arrow(SCHEMAS[table].empty_table())
        if not isinstance(empty, pl.DataFrame):  # pragma: no cover - a table is never a series
            raise TypeError(table)
        return empty.lazy().with_columns(pl.lit(None, kind).alias(k) for k, kind in keys.items())
    # The keys are said, not guessed: a coin may be called 4, a directory above run=3.
    return pl.concat(
        pl.scan_parquet(path, hive_partitioning=False, glob=False).with_columns(**_keys(path, root))
        for path in found
    )


def _keys(path: Path, root: Path) -> "dict[str, pl.Expr]":
    import polars as pl  # noqa: PLC0415

    words = dict(part.split("=", 1) for part in path.relative_to(root).parts[1:-1])
    day = pl.lit(date.fromisoformat(words.pop("date")))
    return {key: pl.lit(word) for key, word in words.items()} | {"date": day}
