"""The lake as tables: for a step of ours, and as the published warehouse."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tasks.compaction import compact_what_is_due, sweep
from tasks.lake import EVENTS, Held, campaigns_of, held
from tasks.lake_rows import rows_of
from tasks.staging import put, staging
from tasks.warehouse import (
    PUBLISHED,
    create_table,
    execute,
    insert_by_name,
    make_views,
    memory_connection,
    sql_names,
    sql_text,
    told,
)

if TYPE_CHECKING:
    import duckdb

# Rows by the million: the published file has views of them. All else is copied into it.
STAYS_IN_THE_LAKE = (
    "batch_scores", "batches", "counters", "cycles", "engine_metrics", EVENTS, "function_usage",
    "published_curves", "quarantine", "rca_comparison", "requests", "scheduler_slices",
)  # fmt: skip


def lake_connection(home: Path, *campaigns: str) -> "duckdb.DuckDBPyConnection":
    """An in-memory connection in which every table of sql/tables can be read as the lake has it now.

    With campaigns only their rows are seen. The caller closes it (`with`).
    """
    holdings = [held(home, name) for name in (campaigns or campaigns_of(home))]
    con = memory_connection(home / "lake" / ".staging" / f"spill-{token_hex(4)}")
    for table in sql_names("tables"):
        _lake_view(con, home, table, holdings)
    return con


def publish(home: Path) -> Path:
    """Build a new warehouse.duckdb from the lake and put it in the old one's place; returns its path.

    Before, it compacts the campaigns that are closed; after, it clears away what was superseded a day ago.
    Catalogue, gold and quality tables are copied; what has rows by the million is a view over the lake.

    Raises:
        LprismError: a part cannot be read, or the disk is full; the old file stays.
    """
    import duckdb

    # The views hold the paths of the files: they must be right from every working directory.
    home = home.absolute()
    with staging(home, "publish") as folder, told("the warehouse could not be published"):
        compact_what_is_due(home)
        holdings = [held(home, name) for name in campaigns_of(home)]
        with (
            _plain(folder) as place,
            duckdb.connect(place / PUBLISHED, config={"python_enable_replacements": False}) as con,
        ):
            execute(con, "publish/quiet")
            con.begin()  # one commit, not one for each of hundreds of comments
            for table in sql_names("tables"):
                _publish_table(con, home, table, holdings)
            make_views(con)
            con.commit()
        put(folder / PUBLISHED, home / PUBLISHED)
        sweep(home)
    return home / PUBLISHED


@contextmanager
def _plain(folder: Path) -> Iterator[Path]:
    """The folder, or one whose file moves there: for its log DuckDB cuts a path off at a question mark."""
    if "?" not in str(folder):
        yield folder
        return
    with TemporaryDirectory() as place:
        yield Path(place)
        shutil.move(Path(place) / PUBLISHED, folder / PUBLISHED)


def _publish_table(
    con: "duckdb.DuckDBPyConnection", home: Path, table: str, holdings: Sequence[Held]
) -> None:
    if table in STAYS_IN_THE_LAKE:
        _lake_view(con, home, table, holdings)
        return
    create_table(con, table)
    with told(f"the lake's {table}"):
        if (rows := rows_of(con, home, table, holdings)) is not None:
            insert_by_name(rows, table)


def _lake_view(con: "duckdb.DuckDBPyConnection", home: Path, table: str, holdings: Sequence[Held]) -> None:
    """A view over the table's files; the empty table where there is none."""
    with told(f"the lake's {table}"):
        if (rows := rows_of(con, home, table, holdings)) is None:
            create_table(con, table)
            return
        rows.create_view(table)
        for statement in con.extract_statements(sql_text(f"tables/{table}"))[1:]:
            # The same comments on a view: only COMMENT ON TABLE has another word there. The text is our own.
            con.execute(statement.query.strip().replace("COMMENT ON TABLE", "COMMENT ON VIEW", 1))
