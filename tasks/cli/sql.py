"""`lprism sql`, `schema` and `warehouse rebuild`: questions to the published warehouse."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tasks.cli import options
from tasks.cli.output import print_csv, print_json, print_table
from tasks.settings import LprismError, SpecError, home_path


class Format(StrEnum):
    """How `lprism sql` answers."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def add_to(app: typer.Typer) -> None:
    """Add the commands and the group."""
    example = 'Example: lprism sql "SELECT * FROM v_injected_vs_diagnosed" --format csv'
    app.command("sql", epilog=example)(sql)
    app.command("schema", epilog="Example: lprism schema batches")(schema)
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.callback()(_warehouse)
    group.command("rebuild", epilog="Example: lprism warehouse rebuild --home /data/lprism")(rebuild)
    app.add_typer(
        group,
        name="warehouse",
        help="Look after the published file.",
        epilog="Example: lprism warehouse rebuild",
    )


def sql(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="One SQL statement; - reads it from standard input.")
    ],
    *,
    form: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.table,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where --format parquet writes.")
    ] = None,
    home: options.Home = None,
) -> None:
    """Ask the warehouse a question in SQL (DuckDB's). It is opened for reading only."""
    if (form is Format.parquet) != (output is not None):
        raise SpecError("--format parquet and --output FILE go together: Parquet cannot be printed")
    from tasks import warehouse

    text, chosen = sys.stdin.read() if query == "-" else query, home_path(home)
    with _as_lprism_error():
        if output is not None:
            _write_parquet(chosen, text, output)
            return
        columns, rows = warehouse.query(chosen, text)
    if form is Format.table:
        print_table(columns, rows)
    elif form is Format.csv:
        print_csv(columns, rows)
    else:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])


def schema(
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="Only this table or view.")] = None,
    *,
    home: options.Home = None,
) -> None:
    """List the tables and views, or one's columns, each with what it means."""
    from tasks import warehouse

    with _as_lprism_error():
        columns, rows = warehouse.schema(home_path(home), table)
    print_table(columns, rows)


def _warehouse() -> None:
    """Look after the published file."""


def rebuild(*, home: options.Home = None) -> None:
    """Make the published file again from the lake, which is the truth."""
    from tasks.lake_tables import publish

    with _as_lprism_error():
        path = publish(home_path(home))
    typer.echo(f"published {path}")


def _write_parquet(home: Path, query: str, output: Path) -> None:
    from tasks.warehouse import export

    draft = output.with_name(f".{output.name}.part")
    try:
        rows = export(home, query, draft)
        draft.replace(output)
    except OSError as error:
        raise LprismError(f"{output} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
    typer.echo(f"wrote {output}: {rows} rows")


@contextmanager
def _as_lprism_error() -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise LprismError(str(error).strip()) from error
