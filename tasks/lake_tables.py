"""The lake as tables: for a step of ours, and as the published warehouse."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from tasks.lake import EVENTS, SEAL, Held, LakeFile, campaigns_of, columns_digest, held
from tasks.staging import put, staging
from tasks.warehouse import (
    PUBLISHED,
    as_glob,
    columns_of,
    create_table,
    execute,
    insert_by_name,
    memory_connection,
    relation,
    sql_names,
    sql_text,
    told,
)

if TYPE_CHECKING:
    import duckdb

# Rows by the million: the published file has views of them. All else is copied into it.
STAYS_IN_THE_LAKE = (
    "batch_scores", "batches", "counters", "cycles", "engine_metrics", EVENTS, "function_usage",
    "published_curves", "quarantine", "requests", "scheduler_slices",
)  # fmt: skip

Rows = "duckdb.DuckDBPyRelation"


def lake_connection(home: Path, campaign: str | None = None) -> "duckdb.DuckDBPyConnection":
    """An in-memory connection in which every table of sql/tables can be read as the lake has it now.

    With `campaign` only its rows are seen. The caller closes it (`with`).
    """
    holdings = [held(home, name) for name in ([campaign] if campaign else campaigns_of(home))]
    con = memory_connection(home / "lake" / ".staging" / f"spill-{token_hex(4)}")
    for table in sql_names("tables"):
        _lake_view(con, home, table, holdings)
    return con


def publish(home: Path) -> Path:
    """Build a new warehouse.duckdb from the lake and put it in the old one's place; returns its path.

    Catalogue, gold and quality tables are copied; what has rows by the million is a view over the lake.

    Raises:
        LprismError: a part cannot be read, or the disk is full; the old file stays.
    """
    import duckdb

    # The views hold the paths of the files: they must be right from every working directory.
    home = home.absolute()
    with staging(home, "publish") as folder, told("the warehouse could not be published"):
        holdings = [held(home, name) for name in campaigns_of(home)]
        with duckdb.connect(folder / PUBLISHED, config={"python_enable_replacements": False}) as con:
            execute(con, "publish/quiet")
            for table in sql_names("tables"):
                _publish_table(con, home, table, holdings)
            for view in sql_names("views"):
                execute(con, f"views/{view}")
        return put(folder / PUBLISHED, home / PUBLISHED)


def _publish_table(
    con: "duckdb.DuckDBPyConnection", home: Path, table: str, holdings: Sequence[Held]
) -> None:
    if table in STAYS_IN_THE_LAKE:
        _lake_view(con, home, table, holdings)
        return
    create_table(con, table)
    with told(f"the lake's {table}"):
        if (rows := _rows(con, home, table, holdings)) is not None:
            insert_by_name(rows, table)


def _lake_view(con: "duckdb.DuckDBPyConnection", home: Path, table: str, holdings: Sequence[Held]) -> None:
    """A view over the table's files; the empty table where there is none."""
    with told(f"the lake's {table}"):
        if (rows := _rows(con, home, table, holdings)) is None:
            create_table(con, table)
            return
        rows.create_view(table)
        for statement in con.extract_statements(sql_text(f"tables/{table}"))[1:]:
            # The same comments on a view: only COMMENT ON TABLE has another word there. The text is our own.
            con.execute(statement.query.strip().replace("COMMENT ON TABLE", "COMMENT ON VIEW", 1))


def _rows(
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
        found = found.union(rows) if found else rows
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
