"""Deep captures of a bundle: a row of `captures` each, and their traces as `events` of the run, on its clock.

A trace that cannot be read, such as one that a full disk cut off, loses its capture and not the run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from json import dumps
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from tasks.settings import LprismError
from tasks.traces import chrome
from tasks.traces.clocks import moved_ns
from tasks.traces.load import MEMORY, InputFile, Source, insert_row, prepare
from tasks.traces.manifest import Capture, Manifest
from tasks.warehouse import execute, memory_connection

if TYPE_CHECKING:
    import duckdb

TAKEN_OVER = ("counters", "quarantine", "devices", "files")


def trace_names(manifest: Manifest) -> set[str]:
    """Names of the files that are traces of captures."""
    listed = {file.name for file in manifest.files}
    return {name for capture in manifest.captures if capture.lost is None for name in capture.files} & listed


def add(
    con: "duckdb.DuckDBPyConnection", source: Source, manifest: Manifest, reference: int | None, folder: Path
) -> list[InputFile]:
    """Load every capture; returns the trace files that could not be read and are to be catalogued alone."""
    files = {file.name: file for file in source.files}
    unread = []
    for number, capture in enumerate(manifest.captures):
        shift_ns = -moved_ns(capture.offset_ns, reference)
        _note(con, source.run_id, capture, shift_ns)
        traces = [files[name] for name in capture.files if name in trace_names(manifest)]
        told: list[tuple[int, int]] = []
        for at, file in enumerate(traces):
            place = folder / f"capture-{number}-{at}"
            try:
                told += _load(con, replace(source, files=(file,)), place, shift_ns)
            except LprismError as error:
                rmtree(place)
                unread.append(file)
                execute(con, "convert/capture_lost", capture_name=capture.name, lost=str(error)[:500])
        _close(con, capture, told, shift_ns)
    _gather(con, folder)
    execute(con, "convert/captured_batches")
    return unread


def _note(con: "duckdb.DuckDBPyConnection", run_id: str, capture: Capture, shift_ns: int) -> None:
    times = {name: getattr(capture, name) for name in ("start_ns", "ready_ns", "stop_ns", "end_ns")}
    insert_row(
        con, "captures",
        {
            "run_id": run_id, "capture_name": capture.name, "run_window": capture.window,
            "profiler": capture.profiler, "iterations_asked": capture.iterations,
            "files": dumps(capture.files), "lost": capture.lost,
            **{name: None if time is None else time + shift_ns for name, time in times.items()},
        },
    )  # fmt: skip


def _load(
    con: "duckdb.DuckDBPyConnection", source: Source, place: Path, shift_ns: int
) -> Iterator[tuple[int, int]]:
    """One trace into files of `place` and tables of `con`; (steps that it tells, its last ns)."""
    place.mkdir()
    with memory_connection(place / "spill", MEMORY) as own:
        prepare(own, source)
        chrome.fill(own, source, place)
        paths = sorted(map(str, place.glob("events-*.parquet")))
        if paths:
            yield from execute(own, "convert/capture_steps", paths=paths).fetchall()
        for path in paths if shift_ns else ():
            moved = str(Path(path).with_suffix(".moved"))
            execute(own, "convert/shifted_events", source=path, path=moved, shift_ns=shift_ns)
            Path(moved).replace(path)
        for table in TAKEN_OVER:
            con.from_arrow(own.table(table).to_arrow_table()).insert_into(table)


def _close(
    con: "duckdb.DuckDBPyConnection", capture: Capture, told: Sequence[tuple[int, int]], shift_ns: int
) -> None:
    steps = max((steps for steps, _ in told), default=None)
    last = max((last + shift_ns for _, last in told if last is not None), default=None)
    execute(con, "convert/capture_files", capture_name=capture.name, iterations=steps, last_ns=last)


def _gather(con: "duckdb.DuckDBPyConnection", folder: Path) -> None:
    """Number the files of all traces through; rows that are in `events` already get a file of their own."""
    paths = sorted(folder.glob("capture-*/events-*.parquet"))
    for number, path in enumerate(paths):
        path.rename(folder / f"events-{number:06}.parquet")
    if paths and len(con.table("events")):
        own = folder / f"events-{len(paths):06}.parquet"
        con.table("events").write_parquet(str(own), compression="zstd")
