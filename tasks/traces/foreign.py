"""What became of a foreign recording's rows: quarantine, the catalogue, and that nothing is lost between."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.settings import LprismError
from tasks.traces.load import InputFile, Source
from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb

_ENDINGS = re.compile(r"(\.(gz|json|jsonl|csv|log|txt|trace|pt))+$")


def source_of(path: Path, **facts: object) -> Source:
    """A run that is one file, named as the file without its endings. `facts` are columns of `runs`."""
    return Source(_ENDINGS.sub("", path.name) or path.name, (InputFile(path, path.name),), facts)


def paths_of(source: Source) -> dict[str, Path]:
    """The source's files by the names that the tables give them."""
    return {file.name: file.path for file in source.files}


def account(
    con: "duckdb.DuckDBPyConnection",
    source: Source,
    form: str,
    counts: Mapping[str, int],
    heads: Mapping[str, str] | None = None,
) -> None:
    """Put rejected rows into `quarantine` and the files into `files`; `foreign_lines` has both.

    `counts` are the rows by file as they were counted while reading; `heads` is JSON by file.

    Raises:
        LprismError: a table has not as many rows as were kept for it.
    """
    execute(con, "convert/foreign_quarantine")
    for table, kept, rows in execute(con, "convert/foreign_lost").fetchall():
        raise LprismError(f"{source.files[0].path}: {kept} rows for {table}, {rows} in it")
    kept_rows = dict(execute(con, "convert/foreign_kept").fetchall())
    for file in source.files:
        execute(
            con, "convert/foreign_file", name=file.name, format=form, size_bytes=file.size_bytes,
            sha256=file.sha256, rows_in=counts[file.name], rows_kept=kept_rows.get(file.name, 0),
            head=(heads or {}).get(file.name),
        )  # fmt: skip
