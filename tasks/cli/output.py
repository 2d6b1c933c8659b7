"""Rows for a terminal or for another program. Nothing from data is taken for markup or for control codes."""

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import chain, count
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

Row = Sequence[object]
READABLE = 24  # characters; folded into fewer, a value cannot be read
LARGE, EXACT = 1e6, 1e15  # between these a float is written out to the unit
_QUOTED = re.compile(r'[",\r\n]')


def printable(text: str) -> str:
    r"""Write control characters, escape sequences and invisible characters as \x1b and the like."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def print_table(columns: Sequence[str], rows: Sequence[Row], *, more: bool = False) -> None:
    """Print a table as wide as its content needs; on a terminal that is too narrow, a line for each value.

    `more` says that these rows are not all.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 100_000, highlight=False)
    if sys.stdout.isatty() and _least_width(columns, rows) > console.width:
        _print_records(columns, rows)
    else:
        _print_columns(console, columns, rows)
    number = f"{len(rows)} row{'' if len(rows) == 1 else 's'}"
    console.print(Text(f"the first {number}; --format csv, json or parquet gives all" if more else number))


def _least_width(columns: Sequence[str], rows: Sequence[Row]) -> int:
    """Characters that a table needs if no value is folded into lines shorter than READABLE."""
    widths = [
        max([len(name), *(len(_cell(row[index])) for row in rows)]) for index, name in enumerate(columns)
    ]
    return sum(min(width, max(READABLE, len(name))) + 3 for width, name in zip(widths, columns, strict=True))


def _print_records(columns: Sequence[str], rows: Sequence[Row]) -> None:
    widest = max(len(printable(name)) for name in columns)
    for row in rows:
        for name, value in zip(columns, row, strict=True):
            sys.stdout.write(f"{printable(name):{widest}}  {_cell(value)}\n")
        sys.stdout.write("\n")


def _print_columns(console: "Console", columns: Sequence[str], rows: Sequence[Row]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numeric = [
        all(isinstance(row[index], int | float | None) for row in rows) for index in range(len(columns))
    ]
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(Text(printable(name)), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)


def print_csv(columns: Sequence[str], rows: Iterable[Row], file: TextIO | None = None) -> None:
    """Print RFC 4180 lines; NULL is an empty field, an empty text a pair of quotes, what is nested JSON."""
    out = file or sys.stdout
    for row in chain([columns], rows):
        out.write(",".join(map(_field, row)) + "\n")


def _field(value: object) -> str:
    if value is None:
        return ""
    text = _text(value)
    return '"' + text.replace('"', '""') + '"' if text == "" or _QUOTED.search(text) else text


def _text(value: object) -> str:
    """A value for people and for CSV: as SQL writes it, what is nested as JSON, bytes in hex."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list | tuple):
        return json.dumps(_finite(value), default=_text, ensure_ascii=False)
    return value.hex() if isinstance(value, bytes) else str(value)


def print_rows(columns: Sequence[str], types: Sequence[str], rows: Iterable[Row]) -> None:
    """Print rows as a JSON array, an object a line, as they come; what has DuckDB's type JSON is JSON."""
    names = _unique(columns)
    before = "[\n"
    for row in rows:
        values = [
            json.loads(value) if kind == "JSON" and isinstance(value, str) else value
            for kind, value in zip(types, row, strict=True)
        ]
        sys.stdout.write(before + _json(dict(zip(names, values, strict=True))))
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


def _unique(names: Sequence[str]) -> list[str]:
    """The names, a later one of the same name numbered: an object would keep the last alone."""
    found: list[str] = []
    for name in names:
        free = (f"{name}_{number}" if number else name for number in count())
        found.append(next(one for one in free if one not in found))
    return found


def print_json(content: object) -> None:
    """Print JSON that any parser takes: NaN and infinities become null, other types their text."""
    sys.stdout.write(_json(content, indent=1) + "\n")


def _json(content: object, indent: int | None = None) -> str:
    return json.dumps(_finite(content), indent=indent, default=_text, allow_nan=False)


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
        return f"{value:.0f}" if LARGE <= abs(value) < EXACT else f"{value:.6g}"
    return printable(_text(value))


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        # A number if a float holds it exactly, or else its digits as text.
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
