"""The only reader of sql/; the lake of Parquet files; the published warehouse made from it.

The lake is the truth: <home>/lake/<table>/<campaign>/<part>.parquet, each part written aside and renamed.
A part of `runs` is the seal of its run: what was ingested of a run is seen only while the seal is there, and
it is put last. The published file is never opened for writing: `publish` builds a new one and puts it in the
old one's place, so an open reader keeps its snapshot and blocks nobody.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from tasks.settings import LprismError
from tasks.staging import checked_name, put, staging

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

# Beside the packages in a checkout, in an editable install and in site-packages alike.
SQL_FOLDER = Path(__file__).resolve().parent.parent / "sql"
PUBLISHED = "warehouse.duckdb"
SEAL = "runs"
SEALED = ("batches", "counters", "files", "quarantine")
STAYS_IN_THE_LAKE = ("batches", "counters", "quarantine")
_SPACES = re.compile(r"\s+")

Rows = tuple[list[str], list[tuple[Any, ...]]]


@cache
def _sql_files() -> dict[str, Path | None]:
    """Every file of sql/ by folder/stem, and by stem: None where two folders have one."""
    found: dict[str, Path | None] = {}
    for path in sorted(SQL_FOLDER.rglob("*.sql")):
        found[path.stem] = None if path.stem in found else path
        found[f"{path.parent.name}/{path.stem}"] = path
    return found


@cache
def sql_text(name: str) -> str:
    """The text of a file in sql/, named by its stem, or as folder/stem where two folders have it."""
    path = _sql_files().get(name)
    if path is None:
        raise LprismError(
            f"sql/ has no one file {name}.sql; where two folders have it, name it folder/{name}"
        )
    return path.read_text(encoding="utf-8")


def sql_names(folder: str) -> list[str]:
    """Stems of the files in one folder of sql/, sorted."""
    return sorted(path.stem for path in (SQL_FOLDER / folder).glob("*.sql"))


def execute(
    con: "duckdb.DuckDBPyConnection", name: str, /, **parameters: object
) -> "duckdb.DuckDBPyConnection":
    """Run a file of sql/ with exactly the $parameters that it names; several statements only without any.

    Raises:
        LprismError: a parameter is missing or extra.
    """
    statements = con.extract_statements(sql_text(name))
    wanted = {parameter for statement in statements for parameter in statement.named_parameters}
    if wanted != parameters.keys():
        missing, extra = sorted(wanted - parameters.keys()), sorted(parameters.keys() - wanted)
        raise LprismError(f"sql {name}: missing parameters {missing}, extra parameters {extra}")
    if wanted and len(statements) > 1:
        raise LprismError(f"sql {name}: parameters go with one statement, and it has {len(statements)}")
    for statement in statements:
        con.execute(statement, parameters or None)
    return con


def memory_connection(spill: Path | None = None) -> "duckdb.DuckDBPyConnection":
    """An empty in-memory database that takes no Python variable for a table."""
    import duckdb

    # Without a folder of ours DuckDB would spill into one that it makes in the working directory.
    con = duckdb.connect(config={"python_enable_replacements": False, "temp_directory": str(spill or "")})
    return execute(con, "quiet")


@contextmanager
def told(what: object) -> Iterator[None]:
    """Turn what DuckDB says into an LprismError of at most two lines that begins with `what`."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        lines = [_SPACES.sub(" ", line).strip() for line in str(error).splitlines()]
        raise LprismError(f"{what}: " + "\n".join([line for line in lines if line][:2])) from error


def create_table(con: "duckdb.DuckDBPyConnection", table: str) -> None:
    """Create one table of sql/tables, empty and documented. Raises LprismError when there is none."""
    if table not in sql_names("tables"):
        raise LprismError(f"there is no table {table}; the tables are {', '.join(sql_names('tables'))}")
    execute(con, f"tables/{table}")


@cache
def columns_of(table: str) -> dict[str, str]:
    """Column names and DuckDB types of a table of sql/tables, in order."""
    with memory_connection() as con:
        create_table(con, table)
        made = con.table(table)
        return dict(zip(made.columns, map(str, made.types), strict=True))


def part_path(home: Path, table: str, campaign: str, part: str) -> Path:
    """Where a part lies in the lake. Raises LprismError for a name that is not allowed."""
    return home / "lake" / table / checked_name(campaign) / f"{checked_name(part)}.parquet"


def write_draft(
    con: "duckdb.DuckDBPyConnection", table: str, folder: Path, campaign: str, part: str, source: str = ""
) -> Path:
    """Write the connection's table to <folder>/<table>.parquet, in no lake yet; returns its path.

    `source` says in the file's metadata what the part was made from.

    Raises:
        LprismError: columns or types are not those of sql/tables, or the file cannot be written.
    """
    rows, draft = con.table(table), folder / f"{table}.parquet"
    found, wanted = (
        list(zip(rows.columns, map(str, rows.types), strict=True)),
        list(columns_of(table).items()),
    )
    if found != wanted:
        odd = sorted(set(found) ^ set(wanted)) or "their order"
        raise LprismError(f"rows for {table} differ from sql/tables/{table}.sql in {odd}")
    rows.create_view("outgoing")
    with told(f"{table} could not be written"):
        names = {"table_name": table, "campaign": campaign, "part": part, "source": source}
        execute(con, "publish/lake_part", path=str(draft), **names)
    return draft


def write_part(con: "duckdb.DuckDBPyConnection", table: str, home: Path, campaign: str, part: str) -> Path:
    """Make the connection's table a part of the lake, in one step; returns its path. Raises LprismError."""
    place = part_path(home, table, campaign, part)
    with staging(home / "lake", f"{table}.{campaign}.{part}") as folder:
        return put(write_draft(con, table, folder, campaign, part), place)


def write_frame(home: Path, table: str, campaign: str, part: str, frame: "pd.DataFrame") -> Path:
    """Make a frame a part of the lake: columns by name, cast to the table's types, absent ones NULL.

    Raises:
        LprismError: a column that the table has not, a value that cannot be cast, or as `write_part`.
    """
    extra = sorted(set(frame.columns) - columns_of(table).keys())
    if extra:
        raise LprismError(f"{table} has no column {', '.join(extra)}")
    with memory_connection() as con:
        create_table(con, table)
        with told(f"a frame does not fit {table}"):
            _insert_by_name(con.from_df(frame), table)
        return write_part(con, table, home, campaign, part)


def _insert_by_name(rows: "duckdb.DuckDBPyRelation", table: str) -> None:
    """INSERT BY NAME for a table that is not known before the program runs."""
    import duckdb

    null = duckdb.ConstantExpression(None)
    rows.select(
        *(
            duckdb.ColumnExpression(name) if name in rows.columns else null.alias(name)
            for name in columns_of(table)
        )
    ).insert_into(table)


def lake_paths(home: Path, table: str, campaign: str | None = None) -> list[Path]:
    """The table's parts that may be read, sorted; of ingested tables those whose run is sealed."""
    folder = home / "lake" / table
    campaigns = [folder / checked_name(campaign)] if campaign else sorted(folder.glob("*"))
    paths = [path for place in campaigns for path in sorted(place.glob("*.parquet"))]
    if table not in SEALED:
        return paths
    return [path for path in paths if part_path(home, SEAL, path.parent.name, path.stem).exists()]


def lake_connection(home: Path, campaign: str | None = None) -> "duckdb.DuckDBPyConnection":
    """An in-memory connection in which every table of sql/tables can be read as the lake has it now.

    With `campaign` only its parts are seen. The caller closes it (`with`).
    """
    con = memory_connection(home / "lake" / ".staging" / f"spill-{token_hex(4)}")
    for table in sql_names("tables"):
        _lake_view(con, table, lake_paths(home, table, campaign))
    return con


def _lake_view(con: "duckdb.DuckDBPyConnection", table: str, paths: list[Path]) -> None:
    """A view over the parts; the empty table where there is none."""
    if not paths:
        create_table(con, table)
        return
    with told(f"the lake's {table}"):
        # hive_partitioning off: an all-digit campaign must not turn into a BIGINT column.
        parts = con.read_parquet([str(path) for path in paths], hive_partitioning=False)
        parts.create_view(table)
        for statement in con.extract_statements(sql_text(f"tables/{table}"))[1:]:
            # The same comments on a view: only COMMENT ON TABLE has another word there. The text is our own.
            con.execute(statement.query.strip().replace("COMMENT ON TABLE", "COMMENT ON VIEW", 1))


def publish(home: Path) -> Path:
    """Build a new warehouse.duckdb from the lake and put it in the old one's place; returns its path.

    Catalogue, gold and quality tables are copied; bronze and silver ones are views over the lake's files.

    Raises:
        LprismError: a part cannot be read, or the disk is full; the old file stays.
    """
    import duckdb

    # The views hold the paths of the parts: they must be right from every working directory.
    home = home.absolute()
    with staging(home, "publish") as folder, told("the warehouse could not be published"):
        with duckdb.connect(folder / PUBLISHED, config={"python_enable_replacements": False}) as con:
            execute(con, "publish/quiet")
            for table in sql_names("tables"):
                paths = lake_paths(home, table)
                if table in STAYS_IN_THE_LAKE:
                    _lake_view(con, table, paths)
                    continue
                create_table(con, table)
                if paths:
                    _insert_by_name(con.read_parquet([*map(str, paths)], hive_partitioning=False), table)
            for view in sql_names("views"):
                execute(con, f"views/{view}")
        return put(folder / PUBLISHED, home / PUBLISHED)


def open_published(home: Path) -> "duckdb.DuckDBPyConnection":
    """A connection to the published warehouse as it is now; the caller closes it (`with`).

    It reads the warehouse and the lake's files: no other file, no network, no extension, no setting.

    Raises:
        LprismError: there is no warehouse, or it cannot be read.
    """
    path = home.absolute() / PUBLISHED
    if not path.is_file():
        raise LprismError(f"there is no warehouse in {home}: `lprism demo` or `lprism ingest PATH` makes one")
    con = memory_connection()
    with told(path):
        # Attached and not opened: DuckDB would hand an open file of the same path to the whole process, and
        # with it an old snapshot.
        con.execute(f"ATTACH {literal(str(path))} AS warehouse (READ_ONLY)")
        con.execute("USE warehouse")
        execute(con, "publish/allow_folder", folders=[str(home.absolute() / "lake")])
        execute(con, "publish/lock")
    return con


def literal(text: str) -> str:
    """Quote text as an SQL string: ATTACH takes no parameter, and a home's path may hold anything."""
    return "'" + text.replace("'", "''") + "'"


def query(home: Path, sql: str) -> Rows:
    """Answer one SELECT of a stranger over the published warehouse: column names, rows.

    Raises:
        LprismError: no warehouse yet, not one SELECT, or what DuckDB says against it.
    """
    with open_published(home) as con, told("sql"):
        _answer(con, sql)
        return [name for name, *_ in con.description or ()], con.fetchall()


def export(home: Path, sql: str, path: Path) -> int:
    """Stream what `query` would answer into a Parquet file, whole or not at all; returns its rows."""
    from pyarrow import parquet

    draft, rows = path.with_name(f".{path.name}.part"), 0
    try:
        with open_published(home) as con, told("sql"):
            _answer(con, sql)
            batches = con.to_arrow_reader()
            with parquet.ParquetWriter(draft, batches.schema, compression="zstd") as file:
                for batch in batches:
                    file.write_batch(batch)
                    rows += batch.num_rows
        draft.replace(path)
    except OSError as error:
        raise LprismError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return rows


def _answer(con: "duckdb.DuckDBPyConnection", sql: str) -> None:
    """Run a stranger's SQL if it is one SELECT: COPY, EXPORT and ATTACH could write where it may read."""
    kinds = [statement.type.name for statement in con.extract_statements(sql)]
    # DuckDB reads one PIVOT as several statements, the first of which create a type.
    if kinds[-1:] != ["SELECT"] or set(kinds[:-1]) - {"CREATE"}:
        raise LprismError(f"sql: one SELECT is answered, not {' and '.join(kinds) or 'an empty text'}")
    con.execute(sql)


def schema(home: Path, table: str | None = None) -> Rows:
    """Tables and views of the published warehouse, or the columns of one: what they are, in words.

    Raises:
        LprismError: no warehouse yet, or it has no such table.
    """
    with open_published(home) as con, told("schema"):
        rows = con.table("v_columns").fetchall()
    tables = {name: (name, kind, meaning) for name, kind, meaning, *_ in rows}
    if table is None:
        return ["table", "kind", "one row"], list(tables.values())
    if table not in tables:
        raise LprismError(f"there is no table {table}; there are {', '.join(tables)}")
    return ["column", "type", "meaning"], [tuple(columns) for name, _, _, *columns in rows if name == table]
