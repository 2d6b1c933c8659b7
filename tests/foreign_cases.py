"""A foreign recording loaded into an empty database, for the tests of its format."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from tasks.lake import SEAL, SEALED
from tasks.settings import LprismError
from tasks.traces.load import Format, Source
from tasks.warehouse import create_table, memory_connection, told

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
RUN = "r0000000000"


@contextmanager
def empty_tables() -> Iterator[duckdb.DuckDBPyConnection]:
    """Every table as a load finds it: empty, and the one row of the run in `runs`."""
    with memory_connection() as con:
        for table in (*SEALED, SEAL):
            create_table(con, table)
        con.execute("INSERT INTO runs BY NAME SELECT $run AS run_id, 'c' AS campaign", {"run": RUN})
        yield con


def identified(source: Source) -> Source:
    """The source with the sizes and digests of its files."""
    files = (
        replace(
            file,
            size_bytes=file.path.stat().st_size,
            sha256=hashlib.sha256(file.path.read_bytes()).hexdigest(),
        )
        for file in source.files
    )
    return replace(source, files=tuple(files), run_id=RUN)


@contextmanager
def loaded(form: "Format | ModuleType", path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables after the format filled them, every row of its files accounted for."""
    (source,) = form.sources(path)
    with empty_tables() as con, told(path):
        form.fill(con, identified(source), path.parent)
        assert [name for name, *_ in accounts(con)] == [file.name for file in source.files]
        for name, rows_in, kept, quarantined in accounts(con):
            assert rows_in == kept + quarantined, name
        yield con


def accounts(con: duckdb.DuckDBPyConnection) -> list[tuple[str, int, int, int]]:
    """Of every file: rows in, kept and quarantined, the last from `quarantine` itself."""
    return con.execute(
        "SELECT name, rows_in, rows_kept, (SELECT COUNT(*) FROM quarantine WHERE file_name = name) FROM files"
    ).fetchall()


def rejected(con: duckdb.DuckDBPyConnection) -> list[tuple[int, str]]:
    """Line and reason of what was rejected."""
    return con.execute(
        "SELECT line_number, reason FROM quarantine ORDER BY file_name, line_number"
    ).fetchall()


def rows(
    con: duckdb.DuckDBPyConnection, table: str, *columns: str, order: str = "ALL"
) -> list[tuple[Any, ...]]:
    """The columns of a table's rows."""
    return con.table(table).order(order).select(*columns).fetchall()


def adds_up_or_is_told(form: "Format | ModuleType", path: Path) -> None:
    """What any bytes must come to: an account that adds up, or one clear error that names the file."""
    try:
        with loaded(form, path):
            pass
    except LprismError as error:
        assert str(path) in str(error), error  # noqa: PT017 - either outcome is right


def written(path: Path, lines: Sequence[str | bytes], end: bytes = b"\n") -> Path:
    """A file of these lines."""
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + end for line in lines))
    return path
