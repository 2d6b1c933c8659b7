"""`lprism sql`, `lprism schema` and `lprism warehouse`: questions to the published file, and its care."""

import sys
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.cli import options
from tasks.cli.output import busy, print_csv, print_json, print_rows, print_table, printable
from tasks.settings import LprismError, SpecError, home_path

if TYPE_CHECKING:
    from tasks.warehouse import Answer

TABLE_ROWS = 1000  # more than anybody reads; the other formats have no end


class Format(StrEnum):
    """How `lprism sql` answers."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


class SchemaFormat(StrEnum):
    """How `lprism schema` answers."""

    table = "table"
    json = "json"
    markdown = "markdown"


def add_to(app: typer.Typer) -> None:
    """Add the commands and the group."""
    example = 'Example: lprism sql "SELECT * FROM v_injected_vs_diagnosed" --format csv'
    app.command("sql", epilog=example)(sql)
    app.command("schema", epilog="Example: lprism schema batches")(schema)
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.callback()(_warehouse)
    group.command("rebuild", epilog="Example: lprism warehouse rebuild --home /data/lprism")(rebuild)
    group.command("check", epilog="Example: lprism warehouse check --json")(check)
    app.add_typer(
        group,
        name="warehouse",
        help="Look after the published file and the lake.",
        epilog="Example: lprism warehouse check",
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
    if output is not None:
        with busy("asking"):
            rows = warehouse.export(chosen, text, output)
        typer.echo(f"wrote {output}: {rows} rows")
        return
    with warehouse.answered(chosen, text) as answer:
        _print(answer, form)


def _print(answer: "Answer", form: Format) -> None:
    """Print an answer; a table ends after TABLE_ROWS."""
    if form is Format.csv:
        print_csv(answer.columns, answer.rows)
    elif form is Format.json:
        print_rows(answer.columns, answer.types, answer.rows)
    else:
        with busy("asking"):
            rows = list(islice(answer.rows, TABLE_ROWS + 1))
        print_table(answer.columns, rows[:TABLE_ROWS], more=len(rows) > TABLE_ROWS)


def schema(
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="Only this table or view.")] = None,
    *,
    form: Annotated[SchemaFormat, typer.Option("--format", help="How to print it.")] = SchemaFormat.table,
    home: options.Home = None,
) -> None:
    """List the tables and views, or one's columns, each with what it means.

    markdown is the whole data dictionary, and needs no warehouse.
    """
    from tasks import dictionary, warehouse

    if form is SchemaFormat.markdown:
        sys.stdout.write(dictionary.as_markdown(table))
        return
    columns, rows = warehouse.schema(home_path(home), table)
    if form is SchemaFormat.json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


def _warehouse() -> None:
    """Look after the published file and the lake."""


def rebuild(*, home: options.Home = None) -> None:
    """Make the published file again from the lake, which is the truth."""
    from tasks.lake_tables import publish

    with busy("publishing"):
        path = publish(home_path(home))
    typer.echo(f"published {path}")


def check(
    *,
    as_json: options.Json = False,
    home: options.Home = None,
) -> None:
    """Hold every file of the lake against what was noted when it was put there: digest, and rows by run."""
    from tasks.lake_check import check as check_lake

    with busy("reading the lake"):
        found = check_lake(home_path(home))
    if as_json:
        print_json(
            {"files": found.files, "rows": found.rows, "findings": [vars(one) for one in found.findings]}
        )
    for one in () if as_json else found.findings:
        typer.echo(printable(f"{one.what}: {one.path}: {one.detail}"))
    if found.findings:
        raise LprismError(f"{len(found.findings)} findings in {found.files} files of the lake")
    if not as_json:
        typer.echo(f"{found.files} files, {found.rows} rows: all as they were put")
