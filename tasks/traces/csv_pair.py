"""The CSV pair: `micro_event.csv` (a row an event) and `macro_counter.csv` (a row a sample of a counter).

Times are microseconds. Either of the two may be missing; a file of the pair stands for both that are in its
folder. Files of other names are taken alone, by their header.
"""

import csv
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.settings import LprismError
from tasks.traces.foreign import account, paths_of
from tasks.traces.load import InputFile, Source
from tasks.traces.text import LONGEST_LINE, RAW_TEXT, Line, csv_fields, lines, lines_view
from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb

NAME = "csv_pair"
MOST_LINES = 64  # of one row: a quote that is still open then is a damaged one


@dataclass(frozen=True)
class _Kind:
    """One of the two: its file name, the columns in the order that SQL reads them, those that it needs."""

    file_name: str
    sql: str
    columns: tuple[str, ...]
    needed: frozenset[str]


_KINDS = (
    _Kind(
        "micro_event.csv",
        "convert/csv_pair_micro",
        ("name", "cat", "ph", "pid", "tid", "ts", "dur", "args", "id"),
        frozenset({"name", "ph", "ts", "dur"}),
    ),
    _Kind(
        "macro_counter.csv",
        "convert/csv_pair_macro",
        ("name", "category", "timestamp", "value", "hostname",
         "loc1", "loc1_type", "loc2", "loc2_type", "loc3", "loc3_type"),
        frozenset({"name", "timestamp", "value"}),
    ),
)  # fmt: skip


def sniff(path: Path, head: bytes) -> bool:
    """Whether it is a file of the pair, by its name or its header; a folder holds other files too."""
    if not head:
        return False
    header = head.partition(b"\n")[0].decode(errors="replace").lstrip("\ufeff")
    return _kind_of(path) is not None or any(kind.needed <= set(_names(header)) for kind in _KINDS)


def sources(path: Path) -> Sequence[Source]:
    """The pair in the folder, or beside the file, is one run."""
    if path.is_dir():
        return [_run(path, _pair_in(path))]
    kind = _kind_of(path)
    if kind is None:
        return [_run(path, [path])]
    other = {_kind_of(beside): beside for beside in _pair_in(path.parent)} | {kind: path}
    return [_run(path.parent, [other[one] for one in _KINDS if one in other])]


def _run(named: Path, paths: Sequence[Path]) -> Source:
    name = named.absolute().name.partition(".")[0] or NAME
    return Source(name, tuple(InputFile(path, path.name) for path in paths))


def _pair_in(folder: Path) -> list[Path]:
    """The files of the pair that a folder has; the plain one where a gzipped one is beside it."""
    both = ((folder / kind.file_name, folder / f"{kind.file_name}.gz") for kind in _KINDS)
    return [next(path for path in paths if path.is_file()) for paths in both if any(map(Path.is_file, paths))]


def _kind_of(path: Path) -> _Kind | None:
    return next((kind for kind in _KINDS if path.name.removesuffix(".gz") == kind.file_name), None)


def fill(con: "duckdb.DuckDBPyConnection", source: Source, folder: Path) -> None:
    """Events into `events`, samples into `counters`; a counter event is a sample.

    Raises:
        LprismError: a file cannot be read, or lacks a header or a column.
    """
    del folder
    counts: dict[str, int] = {}
    execute(con, "convert/csv_pair_rows")
    for name, path in paths_of(source).items():
        kind, header = _header(path)

        def read(path: Path, kind: _Kind = kind, header: Sequence[str] = header) -> Iterator[Line]:
            return _rows(path, kind, header)

        with lines_view(con, {name: path}, read) as counted:
            execute(con, kind.sql)
        counts |= counted
    execute(con, "convert/csv_pair_events")
    execute(con, "convert/csv_pair_counters")
    account(con, source, NAME, counts)


def _header(path: Path) -> tuple[_Kind, list[str]]:
    first = next(lines(path), None)
    if first is None:
        raise LprismError(f"{path} is empty: it has not even a header")
    header = [] if first.problem else _names(first.text)
    kind = _kind_of(path) or next((kind for kind in _KINDS if kind.needed <= set(header)), None)
    if kind is None:
        raise LprismError(f"{path}, line 1: no header of a micro_event.csv or macro_counter.csv")
    if missing := sorted(kind.needed - set(header)):
        raise LprismError(f"{path}, line 1: there is no column {', '.join(missing)}")
    if len(set(header)) < len(header):
        raise LprismError(f"{path}, line 1: two columns have the same name")
    return kind, header


def _rows(path: Path, kind: _Kind, header: Sequence[str]) -> Iterator[Line]:
    """Every row after the header; the text is JSON for SQL: [place, raw text, other columns, value, ...]."""
    read = lines(path)
    next(read)
    for place, record in enumerate(_records(read)):
        fields, problem = _checked(record, header)
        others = {name: value for name, value in fields.items() if name not in kind.columns}
        known = [fields.get(name) for name in kind.columns]
        extra = json.dumps(others) if others else None
        yield Line(record.number, json.dumps([place, record.text[:RAW_TEXT], extra, *known]), problem)


def _records(read: Iterator[Line]) -> Iterator[Line]:
    """Lines joined while a quote is open; where none closes it the first line is alone, with that problem."""
    waiting: deque[Line] = deque()
    while line := waiting.popleft() if waiting else next(read, None):
        joined, size = [line], len(line.text)
        while _is_open(joined) and len(joined) < MOST_LINES and size < LONGEST_LINE:
            following = waiting.popleft() if waiting else next(read, None)
            if following is None:
                break
            joined.append(following)
            size += len(following.text)
        if _is_open(joined):
            waiting.extendleft(reversed(joined[1:]))
            yield Line(line.number, line.text, "a quote is not closed")
        else:
            problem = next((one.problem for one in joined if one.problem), None)
            yield Line(line.number, "\n".join(one.text for one in joined), problem)


def _is_open(joined: Sequence[Line]) -> bool:
    """Whether a quote is open at the end; a line that cannot be read ends it."""
    return not joined[-1].problem and sum(line.text.count('"') for line in joined) % 2 == 1


def _checked(record: Line, header: Sequence[str]) -> tuple[Mapping[str, str], str | None]:
    if record.problem:
        return {}, record.problem
    if not record.text:
        return {}, "empty line"
    try:
        fields = csv_fields(record.text)
    except csv.Error as error:
        return {}, f"not CSV: {error}"
    if len(fields) != len(header):
        return {}, f"{len(fields)} fields, not {len(header)}"
    return dict(zip(header, fields, strict=True)), None


def _names(header: str) -> list[str]:
    try:
        return csv_fields(header)
    except csv.Error:
        return []
