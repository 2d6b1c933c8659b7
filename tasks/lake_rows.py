"""The rows that the lake shows of a table: which files hold them, and which of these are superseded."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.lake import EVENTS, SEAL, Held, LakeFile, columns_digest
from tasks.warehouse import as_glob, columns_of, relation

if TYPE_CHECKING:
    import duckdb


def rows_of(
    con: "duckdb.DuckDBPyConnection", home: Path, table: str, holdings: Sequence[Held]
) -> "duckdb.DuckDBPyRelation | None":
    """Every row of a table that the lake shows; None where it has no file."""
    import duckdb

    found: duckdb.DuckDBPyRelation | None = None
    for files, hidden in shown(table, holdings):
        rows = read_files(con, home, table, files)
        if hidden:
            runs = [duckdb.ConstantExpression(run) for run in hidden]
            rows = rows.filter(duckdb.ColumnExpression("run_id").isnotin(*runs))
        found = rows if found is None else found.union(rows)
    return found


def shown(table: str, holdings: Sequence[Held]) -> Iterator[tuple[list[LakeFile], list[str]]]:
    """The table's files of one shape, and the runs whose rows in them have been superseded."""
    plain: dict[str, list[LakeFile]] = {}
    for holding in holdings:
        hidden = superseded(holding)
        for file in loose_files(table, holding, hidden):
            plain.setdefault(file.columns, []).append(file)
        together = holding.compacted.files.get(table) if holding.compacted else None
        if together and hidden:
            yield [together], hidden
        elif together:
            plain.setdefault(together.columns, []).append(together)
    for files in plain.values():
        yield files, []


def superseded(holding: Held) -> list[str]:
    """Runs that have been loaded again since they were compacted."""
    known = holding.compacted.runs if holding.compacted else {}
    return [load.part for load in holding.loads if load.table == SEAL and load.part in known]


def loose_files(table: str, holding: Held, hidden: Sequence[str]) -> Iterator[LakeFile]:
    """The table's files that belong to one load each."""
    for load in holding.loads:
        yield from load.files.get(table, ())
    for run, load in holding.compacted.runs.items() if holding.compacted else ():
        if run not in hidden:
            yield from load.files.get(table, ())


def read_files(
    con: "duckdb.DuckDBPyConnection", home: Path, table: str, files: Sequence[LakeFile]
) -> "duckdb.DuckDBPyRelation":
    """The rows of files of one shape; of an older shape by name, columns that they lack NULL."""
    import duckdb

    paths = [as_glob(home / "lake" / file.path) for file in files]
    if table == EVENTS:
        rows = relation(con, "publish/lake_events", paths=paths)
    else:
        # hive_partitioning off: an all-digit campaign must not turn into a BIGINT column.
        rows = con.read_parquet(paths, hive_partitioning=False)
    if files[0].columns == columns_digest(table):
        return rows
    null = duckdb.ConstantExpression(None)
    return rows.select(
        *(
            (duckdb.ColumnExpression(name) if name in rows.columns else null).cast(kind).alias(name)
            for name, kind in columns_of(table).items()
        )
    )
