"""Hand-made traces divided into cycles, for the tests of anchors, cycles and usage."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb

from tasks.deepdive.anchors import Division
from tasks.deepdive.cycles import FILLED, divide
from tasks.traces import chrome
from tests.foreign_cases import RUN, loaded

US = 1_000
Beside = Mapping[str, Sequence[Mapping[str, Any]]]


def event(cat: str, name: str, ts: float, dur: float, pid: int | str = 7, **args: object) -> dict[str, Any]:
    """A complete event of thread 1; of a GPU, stream 1. Times in us."""
    return {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": 1, "ts": ts, "dur": dur, "args": args}


def decode(ts: float, dur: float, pid: int | str = 7) -> dict[str, Any]:
    """The label of a step of four requests."""
    return event("user_annotation", "execute_context_0(0)_generation_4(4)", ts, dur, pid)


def python(name: str, ts: float, dur: float, pid: int | str = 7) -> dict[str, Any]:
    """A Python function, or module.py: function."""
    return event("python_function", name, ts, dur, pid)


def launched(
    ts: float,
    correlation: int,
    *runs: tuple[str, float, float],
    pid: int | str = 7,
    call: str = "cudaLaunchKernel",
) -> list[dict[str, Any]]:
    """A call of the GPU's library, and what it runs there: (name, ts, dur)."""
    work = [event("kernel", name, at, dur, 0, correlation=correlation, device=0) for name, at, dur in runs]
    return [event("cuda_runtime", call, ts, 1, pid, correlation=correlation), *work]


@contextmanager
def divided(
    folder: Path,
    *events: dict[str, Any],
    head: dict[str, Any] | None = None,
    anchor: str | None = None,
    by: Division = "step",
    beside: Beside = MappingProxyType({}),
) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[str]]]:
    """The tables after a trace of these events is divided, and the warnings; `beside` are further rows."""
    path = folder / "t.json"
    path.write_text(json.dumps({**(head or {}), "traceEvents": events}))
    with divided_file(path, anchor=anchor, by=by, beside=beside) as found:
        yield found


@contextmanager
def divided_file(
    path: Path, *, anchor: str | None = None, by: Division = "step", beside: Beside = MappingProxyType({})
) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[str]]]:
    """The same of a trace that is there; its events are put beside it."""
    with loaded(chrome, path) as con:
        con.execute("ALTER TABLE batches RENAME TO recorded")
        con.execute("CREATE TABLE batches AS FROM recorded LIMIT 0")
        for table in FILLED:
            con.execute(f"DROP TABLE IF EXISTS {table}")
        for table, given in beside.items():
            for row in given:
                con.table(table).insert(
                    [{"run_id": RUN, **row}.get(name) for name in con.table(table).columns]
                )
        paths = sorted(map(str, path.parent.glob("events-*.parquet")))
        yield con, divide(con, paths, anchor, by)
