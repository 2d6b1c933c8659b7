"""The only reader of sql/; connections, and questions to the published warehouse.

The published file is never opened for writing: `publish` (tasks/lake_tables.py) builds a new one from the
lake and puts it in the old one's place, so an open reader keeps its snapshot and blocks nobody.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.files import whole_file
from tasks.settings import LprismError

if TYPE_CHECKING:
    import duckdb

# Beside the packages in a checkout, in an editable install and in site-packages alike.
SQL_FOLDER = Path(__file__).resolve().parent.parent / "sql"
PUBLISHED = "warehouse.duckdb"
ROWS_A_CHUNK = 2048
FEW_ROWS = 500_000
_SPACES = re.compile(r"\s+")
_PARAMETER = re.compile(r"\$(\w+)")
_GLOB = re.compile(r"[*?\[]")

Result = TypeVar("Result")
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


def make_views(con: "duckdb.DuckDBPyConnection") -> None:
    """Create every view of sql/views over tables that are there; one that reads another comes after it."""
    texts = {name: sql_text(f"views/{name}") for name in sql_names("views")}
    read = {
        name: {other for other in texts if other != name and re.search(rf"\b{other}\b", text)}
        for name, text in texts.items()
    }
    for name in TopologicalSorter(read).static_order():
        con.execute(texts[name])


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


def memory_connection(spill: Path | None = None, memory: str = "") -> "duckdb.DuckDBPyConnection":
    """An empty in-memory database that takes no Python variable for a table.

    What does not fit into `memory` (such as 600MB; by default most of the machine's) goes into `spill`.
    """
    import duckdb

    # Without a folder of ours DuckDB would spill into one that it makes in the working directory.
    config: dict[str, str | bool | int | float | list[str]] = {"temp_directory": str(spill or "")}
    limit = {"memory_limit": memory} if memory else {}
    con = duckdb.connect(config={"python_enable_replacements": False, **config, **limit})
    return execute(con, "quiet")


def threads_for(rows: int) -> int:
    """How many threads of DuckDB's so many rows are worth: what shares few out takes longer than one does."""
    return (os.cpu_count() or 1) if rows > FEW_ROWS else 1


@contextmanager
def told(what: object) -> Iterator[None]:
    """Turn what DuckDB says into an LprismError of at most two lines that begins with `what`."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        lines = [_SPACES.sub(" ", line).strip() for line in str(error).splitlines()]
        raise LprismError(f"{what}: " + "\n".join([line for line in lines if line][:2])) from error


def create_table(con: "duckdb.DuckDBPyConnection", table: str, *, is_working: bool = False) -> None:
    """Create one table of sql/tables, empty and documented. Raises LprismError when there is none.

    A working table, which nobody is shown, goes without its comments: these take most of the time.
    """
    if table not in sql_names("tables"):
        raise LprismError(f"there is no table {table}; the tables are {', '.join(sql_names('tables'))}")
    if is_working:
        con.execute(con.extract_statements(sql_text(f"tables/{table}"))[0])
    else:
        execute(con, f"tables/{table}")


@cache
def columns_of(table: str) -> dict[str, str]:
    """Column names and DuckDB types of a table of sql/tables, in order."""
    with memory_connection() as con:
        create_table(con, table, is_working=True)
        made = con.table(table)
        return dict(zip(made.columns, map(str, made.types), strict=True))


def insert_by_name(rows: "duckdb.DuckDBPyRelation", table: str) -> None:
    """INSERT BY NAME for a table that is not known before the program runs."""
    import duckdb

    null = duckdb.ConstantExpression(None)
    rows.select(
        *(
            duckdb.ColumnExpression(name) if name in rows.columns else null.alias(name)
            for name in columns_of(table)
        )
    ).insert_into(table)


def relation(
    con: "duckdb.DuckDBPyConnection", name: str, /, **values: Sequence[str]
) -> "duckdb.DuckDBPyRelation":
    """The rows of a file of sql/, for a view: no view takes parameters, so lists of text are written in.

    Raises:
        LprismError: a parameter is missing or extra.
    """
    return con.sql(_written(name, values))


def _written(name: str, values: Mapping[str, Sequence[str]]) -> str:
    code = "\n".join(line for line in sql_text(name).splitlines() if not line.startswith("--"))
    if (named := set(_PARAMETER.findall(code))) != values.keys():
        raise LprismError(f"sql {name}: it names the parameters {sorted(named)}, not {sorted(values)}")
    lists = {key: "[" + ", ".join(map(literal, texts)) + "]" for key, texts in values.items()}
    return _PARAMETER.sub(lambda found: lists[found[1]], code)


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
        lake = str(home.absolute() / "lake")
        # Written in: for a parameter DuckDB would import pandas, and that takes longer than most questions.
        con.execute(_written("publish/allow_folder", {"folders": [lake, as_glob(lake)]}))
        execute(con, "publish/lock")
    return con


def literal(text: str) -> str:
    """Quote text as an SQL string: ATTACH takes no parameter, and a home's path may hold anything."""
    return "'" + text.replace("'", "''") + "'"


def as_glob(path: Path | str) -> str:
    """Write a path so that DuckDB, which takes every path for a pattern, finds this file and no other."""
    return _GLOB.sub(lambda char: f"[{char[0]}]", str(path))


@dataclass(frozen=True)
class Answer:
    """The columns of an answer, their DuckDB types, and its rows as they come, never all in memory."""

    columns: list[str]
    types: list[str]
    rows: Iterator[tuple[Any, ...]]


@contextmanager
def answered(home: Path, sql: str) -> Iterator[Answer]:
    """Ask one SELECT of a stranger of the published warehouse; its rows are there until the block ends.

    Raises:
        LprismError: no warehouse yet, not one SELECT, or what DuckDB says against it.
    """
    with open_published(home) as con, told("sql"):
        _answer(con, sql)
        described = con.description or []
        yield Answer([name for name, *_ in described], [str(kind) for _, kind, *_ in described], _rows(con))


def _rows(con: "duckdb.DuckDBPyConnection") -> Iterator[tuple[Any, ...]]:
    while chunk := _interruptible(con, lambda: con.fetchmany(ROWS_A_CHUNK)):
        yield from chunk


def _interruptible(con: "duckdb.DuckDBPyConnection", call: Callable[[], Result]) -> Result:
    """Call DuckDB in a thread of its own: a Ctrl-C would wait for it in this one."""
    with ThreadPoolExecutor(1) as pool:
        called = pool.submit(call)
        try:
            return called.result()
        except KeyboardInterrupt:
            con.interrupt()
            raise


def query(home: Path, sql: str) -> Rows:
    """All of what `answered` gives: column names, rows. Raises LprismError."""
    with answered(home, sql) as answer:
        return answer.columns, list(answer.rows)


def export(home: Path, sql: str, path: Path) -> int:
    """Stream what `query` would answer into a Parquet file, whole or not at all; returns its rows.

    Raises:
        LprismError: as `answered`, two columns of one name, or the file cannot be written.
    """
    with whole_file(path) as draft:
        return _write_answer(home, sql, draft)


def _write_answer(home: Path, sql: str, path: Path) -> int:
    from pyarrow import parquet

    rows = 0
    with open_published(home) as con, told("sql"):
        _answer(con, sql)
        batches = con.to_arrow_reader()
        names = batches.schema.names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise LprismError(f"two columns are called {twice[0]}: name one of them with AS")
        with parquet.ParquetWriter(path, batches.schema, compression="zstd") as file:
            while (batch := _interruptible(con, lambda: next(batches, None))) is not None:
                file.write_batch(batch)
                rows += batch.num_rows
    return rows


def _answer(con: "duckdb.DuckDBPyConnection", sql: str) -> None:
    """Run a stranger's SQL if it is one SELECT: COPY, EXPORT and ATTACH could write where it may read."""
    kinds = [statement.type.name for statement in con.extract_statements(sql)]
    # DuckDB reads one PIVOT as several statements, the first of which create a type.
    if kinds[-1:] != ["SELECT"] or set(kinds[:-1]) - {"CREATE"}:
        raise LprismError(f"sql: one SELECT is answered, not {' and '.join(kinds) or 'an empty text'}")
    _interruptible(con, lambda: con.execute(sql))


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
