"""A run for Perfetto (ui.perfetto.dev) and chrome://tracing: everything that was recorded, on one time line.

Chrome's JSON trace, gzipped: windows, fault and captures, incidents and alarms, batches, cycles, slices of
the scheduler, events of traces, counters and metrics; an event a line, in the order of time, in us from the
start of the recording to the nanosecond. The rows come from the lake one after the other and none is kept:
memory stays flat. The format is described in
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

import heapq
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from tasks.files import whole_file
from tasks.lake_runs import campaign_of, run_named
from tasks.lake_tables import lake_connection
from tasks.settings import LprismError
from tasks.warehouse import execute, told

if TYPE_CHECKING:
    import duckdb

Window = Literal["baseline", "fault", "recovery"]
STREAMS = (
    "run_marks", "alarms", "batches", "cycles", "scheduler_slices", "events", "counters", "engine_metrics",
)  # fmt: skip
MEMORY = "400MB"  # of DuckDB's: what has to be put in order beyond that goes to disk
ROWS_A_CHUNK = 2048

Timed = tuple[int, int, str]


@dataclass(frozen=True)
class Exported:
    """What was written: the run, the file, and its events by kind."""

    run_id: str
    path: Path
    events: dict[str, int]


def export_trace(home: Path, run: str, path: Path | None = None, window: Window | None = None) -> Exported:
    """Write a run of the lake, or one window of it, to `path` (<run_id>.perfetto.json.gz here).

    `run` is a run_id, or a name that only one run has. The file is there whole or not at all.

    Raises:
        LprismError: there is no such run, several have the name, it has no such window, or the disk is full.
    """
    with lake_connection(home, campaign_of(home, run)) as con, told(f"run {run}"):
        execute(con, "publish/memory", memory=MEMORY)
        run_id = run_named(con, run)
        chosen = path or Path(f"{run_id}.perfetto.json.gz")
        execute(con, "export/exported_run", run_id=run_id, run_window=window)
        ((start, end),) = con.table("exported_run").select("from_ns", "until_ns").fetchall()
        if start is None or end is None:
            raise LprismError(f"run {run_id} has no {window} window")
        execute(con, "export/tracks")
        return Exported(run_id, chosen, _written(con, chosen))


def _written(con: "duckdb.DuckDBPyConnection", path: Path) -> dict[str, int]:
    from isal import igzip

    with whole_file(path) as draft:
        opened: IO[bytes] = igzip.open(draft, "wb")  # type: ignore[no-untyped-call]  # isal types little
        with closing(opened) as file:
            return _write(con, file)


def _write(con: "duckdb.DuckDBPyConnection", file: IO[bytes]) -> dict[str, int]:
    """The whole text; returns the events of each stream."""
    counts = dict.fromkeys(STREAMS, 0)
    file.write(f'{{"displayTimeUnit":"ns","otherData":{json.dumps(_about(con))},"traceEvents":[\n'.encode())
    names = [event for (event,) in execute(con, "export/names").fetchall()]
    file.write(",\n".join(names).encode())
    streams = [_rows(con.cursor(), name, counts) for name in STREAMS]
    for _, _, event in heapq.merge(*streams, key=lambda row: (row[0], -row[1])):
        file.write(f",\n{event}".encode())
    file.write(b"\n]}\n")
    return counts


def _about(con: "duckdb.DuckDBPyConnection") -> dict[str, object]:
    """What the file says of the run; origin_ns is what is written as 0."""
    columns = ("run_id", "run_name", "origin_ns", "clock_uncertainty_ns", "clock_offset_ns")
    (row,) = con.table("exported_run").select(*columns).fetchall()
    return dict(zip(columns, row, strict=True))


def _rows(con: "duckdb.DuckDBPyConnection", name: str, counts: dict[str, int]) -> Iterator[Timed]:
    with con:
        execute(con, f"export/{name}")
        while chunk := con.fetchmany(ROWS_A_CHUNK):
            counts[name] += len(chunk)
            yield from chunk
