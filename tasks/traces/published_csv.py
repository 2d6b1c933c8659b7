"""The CSVs of the published data: told apart by their header, read row by row as text; SQL types them."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.settings import LprismError
from tasks.traces.text import Line, chunks, csv_fields, lines

if TYPE_CHECKING:
    import pyarrow as pa

_GREEK = {"Δ": "d_", "β": "beta", "μ": "mu", "µ": "mu"}  # the letter and the sign
_PID_IN_HEADER = re.compile(r"_(normal|abnormal)_pid_([0-9]{1,18})")


@dataclass(frozen=True)
class Layout:
    """A kind of table: the SQL in sql/convert that types it, the table that it fills, its columns.

    A header is of this layout when it has the `marks`; `optional` columns are NULL where it lacks them.
    """

    name: str
    table: str
    marks: frozenset[str]
    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()


@dataclass(frozen=True)
class Header:
    """A header line as it was understood: the columns in the file's order, and the pids of its sides."""

    layout: Layout
    columns: tuple[str, ...]
    pids: Mapping[str, str]


def _columns(text: str) -> tuple[str, ...]:
    return tuple(text.split())


LAYOUTS = (
    Layout(
        "published_usage",
        "function_usage",
        frozenset({"beta_pct", "function_name", "metric_name"}),
        _columns("""cycle pid hostname beta_pct function_name metric_name device func_type mu_pct sigma_pct
            duration interpolation_status anchor_name anchor_dur_us cycle_start_ts instances_count
            simple_name"""),
    ),
    Layout(
        "published_counters",
        "counters",
        frozenset({"counter_name", "timestamp", "value"}),
        _columns("counter_name timestamp value hostname"),
    ),
    Layout(
        "published_comparison",
        "published_comparison",
        frozenset({"suspicion_score", "function_name", "metric_name"}),
        _columns("""function_name metric_name device suspicion_score beta_normal beta_abnormal d_beta
            z_score_beta p_value_beta u_test_p_beta mu_normal mu_abnormal d_mu z_score_mu z_score_log_mu
            p_value_mu u_test_p_mu"""),
    ),
    Layout(
        "published_sentinel",
        "batches",
        frozenset({"job_name", "start_ts", "duration_us", "batch_size"}),
        _columns("""job_name start_ts duration_us batch_size avg_input_length max_input_length
            avg_output_length max_output_length"""),
        _columns("""forward_mode post_batch_size post_avg_input_length post_max_input_length
            post_avg_output_length post_max_output_length post_forward_mode"""),
    ),
    Layout(
        "published_curves",
        "published_curves",
        frozenset({"size", "mape", "coverage"}),
        _columns("size mape in_10 coverage mape_train in_10_train"),
    ),
    Layout(
        "published_topology",
        "devices",
        frozenset({"category", "uuid", "inventory"}),
        _columns("""name life_time category uuid type rank position loc1 loc1_type loc2 loc2_type loc3
            loc3_type config inventory details"""),
    ),
)


def header_of(line: str) -> Header | None:
    """What a header line says; None where it is of no layout."""
    try:
        fields = csv_fields(line)
    except csv.Error:
        return None
    columns = tuple(_column(field) for field in fields)
    pids = {side: pid for field in fields for side, pid in _PID_IN_HEADER.findall(field)}
    for layout in LAYOUTS:
        if layout.marks <= set(columns):
            return Header(layout, columns, pids)
    return None


def read_header(path: Path) -> Header:
    """The header of a file.

    Raises:
        LprismError: the file cannot be read, is empty, is none of the published tables, or lacks columns.
    """
    first = next(lines(path), None)
    if first is None:
        raise LprismError(f"{path} is empty: it has not even a header")
    header = None if first.problem else header_of(first.text)
    if header is None:
        raise LprismError(f"{path}, line 1: not the header of a published table: {first.text[:80]!r}")
    _check(path, header)
    return header


def _check(path: Path, header: Header) -> None:
    """Every column of the layout is there once, and no other: what it holds would be lost."""
    layout, found = header.layout, header.columns
    # A table that has one of the optional columns has them all.
    wanted = layout.columns + (() if set(layout.optional).isdisjoint(found) else layout.optional)
    what = f"{path}, line 1: a {layout.name.replace('_', ' ')} table"
    if missing := [name for name in wanted if name not in found]:
        raise LprismError(f"{what} in which the columns {', '.join(missing)} are missing")
    if odd := sorted({name for name in found if name not in wanted or found.count(name) > 1}):
        raise LprismError(f"{what} in which the columns {', '.join(odd)} are too many")


def _column(field: str) -> str:
    """A column as sql/convert names it: Z-Score(β) is z_score_beta; compute_ and pids are left out."""
    text = _PID_IN_HEADER.sub(r"_\1", field)
    for letter, word in _GREEK.items():
        text = text.replace(letter, word)
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_").removeprefix("compute_")


def schema_of(layout: Layout) -> "pa.Schema":
    """The columns of published_lines: where a row stands, what is wrong with it, and its fields as text."""
    import pyarrow as pa

    texts = ("raw_text", "problem", "normal_pid", "abnormal_pid", *layout.columns, *layout.optional)
    kinds = {"file_name": pa.string(), "line_number": pa.int64(), **dict.fromkeys(texts, pa.string())}
    return pa.schema([*kinds.items()])


def read_rows(path: Path, name: str, header: Header, pids: Mapping[str, str]) -> Iterator["pa.Table"]:
    """The rows of a file as published_lines, in bounded pieces; the header is none, a bad row has a problem.

    Raises:
        LprismError: the file cannot be read to its end.
    """
    import pyarrow as pa

    schema = schema_of(header.layout)
    known = {"file_name": name, "normal_pid": pids.get("normal"), "abnormal_pid": pids.get("abnormal")}
    for chunk in chunks(islice(lines(path), 1, None)):
        yield pa.Table.from_pylist([{**known, **_row(line, header)} for line in chunk], schema)


def _row(line: Line, header: Header) -> dict[str, object]:
    fields, problem = _parsed(line, len(header.columns))
    named = dict(zip(header.columns, fields, strict=False))
    return {**named, "line_number": line.number, "raw_text": line.text, "problem": problem}


def _parsed(line: Line, width: int) -> tuple[Sequence[str], str | None]:
    """The fields of a line, none where it has a problem."""
    if line.problem:
        return (), line.problem
    try:
        fields = csv_fields(line.text)
    except csv.Error as error:
        return (), f"no CSV: {error}"
    if not fields:
        return (), "an empty line"
    if len(fields) != width:
        return (), f"{len(fields)} fields, and the header has {width}"
    return fields, None
