"""What delimits the cycles of a trace: its step labels, else the calls of one function, by call statistics.

A step does all of a process's work again and again: sql/deepdive/anchor_candidates.sql says how candidates
are judged, and the table anchor_candidates keeps the figures. Layers lie within steps (layer_candidates.sql).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.deepdive import calls
from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb

Division = Literal["step", "layer"]


@dataclass(frozen=True)
class Trace:
    """One trace of a run: its number in this division, its name in `files`, its Parquet files."""

    number: int
    name: str
    paths: Sequence[str]
    flow_starts: int = 0
    flow_ends: int = 0


def mark(con: "duckdb.DuckDBPyConnection", trace: Trace, anchor: str | None, by: Division) -> bool:
    """Put the cycles of a trace into `spans`, and the candidates into anchor_candidates; whether it has any.

    `anchor` names a function: as anchor_candidates writes it, or its end after a dot, slash or colon.
    """
    execute(con, "deepdive/functions", paths=trace.paths, file_number=trace.number)
    told = not (anchor and by == "step") and _told(con, trace)
    named = anchor if by == "step" else None
    if not told or by == "layer":
        calls.count(con, trace, named)
    if not told:
        execute(con, "deepdive/anchor_candidates", file_number=trace.number, anchor=named)
        execute(con, "deepdive/anchor_steps", paths=trace.paths, file_number=trace.number)
    place = {"file_number": trace.number, "file_name": trace.name}
    if by == "layer":
        execute(con, "deepdive/layer_candidates", file_number=trace.number, anchor=anchor)
        execute(con, "deepdive/layer_spans", **place)
    else:
        con.table("batches")  # raises where it is no table
        con.execute("TRUNCATE batches")
        execute(con, "convert/step_batches", paths=trace.paths, rank=None)
        execute(con, "deepdive/step_spans", **place)
    execute(con, "deepdive/kept_candidates", **place)
    execute(con, "deepdive/processes", **place)
    return bool(execute(con, "deepdive/marked", file_number=trace.number).fetchone())


def _told(con: "duckdb.DuckDBPyConnection", trace: Trace) -> bool:
    """Whether the trace has step labels; they are in `steps` then."""
    execute(con, "convert/step_labels", paths=trace.paths)
    if not len(con.table("steps")):
        return False
    execute(con, "deepdive/label_candidates")
    return True
