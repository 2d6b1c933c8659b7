"""Rows for a terminal or for another program. Nothing from data is taken for markup or for control codes."""

import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

Row = Sequence[object]


def printable(text: str) -> str:
    r"""Write control characters, escape sequences and invisible characters as \x1b and the like."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def print_table(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Print a table as wide as its content needs; on a terminal, as wide as that is."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 100_000, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numeric = [
        all(isinstance(row[index], int | float | None) for row in rows) for index in range(len(columns))
    ]
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(Text(printable(name)), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)
    console.print(Text(f"{len(rows)} row{'' if len(rows) == 1 else 's'}"))


def print_csv(columns: Sequence[str], rows: Sequence[Row], file: TextIO | None = None) -> None:
    """Print RFC 4180 lines; NULL is an empty field."""
    writer = csv.writer(file or sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def print_json(content: object) -> None:
    """Print JSON that any parser takes: NaN and infinities become null, other types their text."""
    json.dump(_finite(content), sys.stdout, indent=1, default=str, allow_nan=False)
    sys.stdout.write("\n")


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show on a terminal's standard error that something takes its time."""
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(printable(what))):
        yield


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value))


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
