"""The traces of a run divided into cycles: one engine step each, or one layer, and what ran in them.

From the lake's events into its tables `cycles`, `function_usage`, `anchor_candidates`, `communicator_peers`.
Each trace is taken by itself; then ranks are aligned. What is missing or odd is a warning, never a guess.
"""

import difflib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.deepdive import usage
from tasks.deepdive.anchors import Division, Trace, mark
from tasks.lake import EVENTS, SEAL, held, write_parts
from tasks.lake_rows import rows_of
from tasks.lake_runs import RunName, find_run
from tasks.settings import LprismError
from tasks.staging import staging
from tasks.warehouse import as_glob, create_table, execute, memory_connection, threads_for, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

Row = dict[str, object]

MEMORY = "2GB"
FILLED = ("cycles", "function_usage", "anchor_candidates", "communicator_peers")
BESIDE = ("runs", "files", "captures", "devices", "counters", "scheduler_slices", "batches")
"""Tables of the run that are read, as far as it has them."""


@dataclass(frozen=True)
class Divided:
    """What became of a run: its anchors, its cycles and usage in short, what is doubtful."""

    run_id: str
    run_name: str
    cycles: int
    usage_rows: int
    anchors: tuple[str, ...]
    warnings: tuple[str, ...]
    candidates: tuple[Row, ...]
    modes: tuple[Row, ...]
    functions: tuple[Row, ...]


def divide_run(home: Path, run: str, anchor: str | None = None, by: Division = "step") -> Divided:
    """Divide a run of the lake, and put what was found beside it in place of what was found before.

    `run` is a run_id or a name that one run has, `anchor` a function that delimits cycles (by default found).

    Raises:
        LprismError: there is no such run, or no trace in it has the anchor.
    """
    with found(home, run) as (con, name, paths), told(f"run {name.run_id}"):
        warnings = divide(con, paths, anchor, by)
        filled = [table for table in FILLED if table == FILLED[0] or len(con.table(table))]
        write_parts(con, filled, home, name.campaign, name.run_id)
        return Divided(
            run_id=name.run_id,
            run_name=str(con.table("runs").select("run_name").fetchall()[0][0]),
            cycles=len(con.table("cycles")),
            usage_rows=len(con.table("function_usage")),
            anchors=tuple(row[0] for row in execute(con, "deepdive/anchors_found").fetchall()),
            warnings=tuple(warnings),
            candidates=_rows(con, "best_candidates"),
            modes=_rows(con, "modes"),
            functions=_rows(con, "top_functions"),
        )


def is_divided(home: Path, run: str) -> bool:
    """Whether the run has been divided since it was loaded. Raises LprismError when there is no such run."""
    name = find_run(home, run)
    made = [
        load.sealed_ns for load in name.holding.loads if (load.table, load.part) == ("cycles", name.run_id)
    ]
    return max(made, default=0) > name.load.sealed_ns


def divide_campaign(home: Path, campaign: str) -> tuple[dict[str, Divided], dict[str, str]]:
    """Divide every run of a campaign that has traces and has not been divided since it was loaded.

    Returns what was divided, and what could not be with the reason, by run_id: one does not stop the others.
    """
    holding = held(home, campaign)
    loads = [load for load in holding.loads if load.table == SEAL]
    loads += holding.compacted.runs.values() if holding.compacted else []
    done: dict[str, Divided] = {}
    failed: dict[str, str] = {}
    for run in sorted({load.part for load in loads if EVENTS in load.files}):
        try:
            if not is_divided(home, run):
                done[run] = divide_run(home, run)
        except LprismError as error:
            failed[run] = str(error)
    return done, failed


def _rows(con: "duckdb.DuckDBPyConnection", name: str) -> tuple[Row, ...]:
    found = execute(con, f"deepdive/{name}")
    columns = [column for column, *_ in found.description or ()]
    return tuple(dict(zip(columns, row, strict=True)) for row in found.fetchall())


@contextmanager
def found(home: Path, run: str) -> "Iterator[tuple[duckdb.DuckDBPyConnection, RunName, list[str]]]":
    """A connection with the run's own rows of BESIDE, and the files that hold its events."""
    name = find_run(home, run)
    paths = [as_glob(home / "lake" / file.path) for file in name.load.files.get(EVENTS, ())]
    with (
        staging(home / "lake", f"cycles.{name.run_id}") as folder,
        memory_connection(folder / "spill", MEMORY) as con,
    ):
        events = sum(file.rows for file in name.load.files.get(EVENTS, ()))
        execute(con, "publish/threads", threads=threads_for(events))
        create_table(con, "batches", is_working=True)
        for table in BESIDE:
            show(con, home, name, table)
        yield con, name, paths


def divide(
    con: "duckdb.DuckDBPyConnection", paths: list[str], anchor: str | None = None, by: Division = "step"
) -> list[str]:
    """Fill the tables FILLED of `con` from the events at `paths`; returns what is doubtful, in words."""
    for table in FILLED:
        create_table(con, table, is_working=True)
    execute(con, "deepdive/state")
    traces = traces_of(con, paths) if paths else []
    warnings = [] if traces else ["the run has no trace: nothing to divide"]
    marked = [trace for trace in traces if mark(con, trace, anchor, by)]
    if traces and anchor and not marked:
        raise LprismError(_no_anchor(con, anchor))
    for trace in marked:
        usage.collect(con, trace)
    execute(con, "deepdive/cycles", anchor=anchor)
    for name in ("aligned_cycles", "resolved_peers"):
        execute(con, f"deepdive/{name}")
    usage.fill(con)
    warnings += [_unmarked(trace, by) for trace in traces if trace not in marked]
    warnings += [_lost_flows(trace) for trace in marked if trace.flow_starts < trace.flow_ends]
    return warnings + [doubt for (doubt,) in execute(con, "deepdive/doubts").fetchall()]


def show(con: "duckdb.DuckDBPyConnection", home: Path, run: RunName, table: str) -> None:
    """Show what the run has in a table; its batches are `recorded`: `batches` are those of one trace."""
    import duckdb

    if (rows := rows_of(con, home, table, [run.holding])) is None:
        rows = con.table("batches").limit(0) if table == "batches" else None
    if rows is None:
        create_table(con, table, is_working=True)
        return
    own = duckdb.ColumnExpression("run_id") == duckdb.ConstantExpression(run.run_id)
    rows.filter(own).create_view("recorded" if table == "batches" else table)


def traces_of(con: "duckdb.DuckDBPyConnection", paths: list[str]) -> list[Trace]:
    """The traces whose events are in these files."""
    rows = execute(con, "deepdive/trace_files", paths=paths).fetchall()
    return [
        Trace(number, name, [as_glob(path) for path in files], starts, ends)
        for number, (name, files, starts, ends) in enumerate(rows)
    ]


def _no_anchor(con: "duckdb.DuckDBPyConnection", anchor: str) -> str:
    names = [name for (name,) in execute(con, "deepdive/anchor_names").fetchall()]
    near = difflib.get_close_matches(anchor, names, n=1, cutoff=0.5)
    hint = (
        f", did you mean {near[0]!r}?" if near else f": the run has {len(names)} functions, none of them near"
    )
    return f"unknown anchor {anchor!r}{hint}"


def _unmarked(trace: Trace, by: Division) -> str:
    if by == "layer":
        return f"{trace.name}: no function is called several times in a step: it shows no layers"
    return (
        f"{trace.name}: it has no step labels, and no function that does the work of its process again and "
        "again: it has no cycles; --anchor names a function"
    )


def _lost_flows(trace: Trace) -> str:
    lost = trace.flow_ends - trace.flow_starts
    return f"{trace.name}: {lost} of {trace.flow_ends} flow events lack their start; correlation ids are used"
