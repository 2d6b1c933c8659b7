"""What SQL makes of a trace's events: files piece by piece, launches of GPU work, devices, batches."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.traces.plain_rows import split, write
from tasks.traces.scan import Chunk
from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MOST_RANKS = 1 << 20
LONGEST_TEXT = 200
FILLED = ("events", "counters", "quarantine")


def written(folder: Path) -> list[str]:
    """The Parquet files of events so far, in order."""
    return sorted(map(str, folder.glob("events-*.parquet")))


@dataclass(frozen=True)
class Place:
    """Where a piece of a trace belongs: its Parquet file, its run and file, and its first event_index."""

    path: Path
    run_id: str
    file_name: str
    first: int


def convert(con: "duckdb.DuckDBPyConnection", chunks: Sequence[Chunk], place: Place, base_ns: int) -> None:
    """One piece of a trace into files of events, counters and quarantine. Several may run side by side."""
    import numpy as np
    import pyarrow as pa

    piece = pa.concat_tables([chunk.rows for chunk in chunks])
    indices = pa.array(np.arange(place.first, place.first + len(piece)))
    plain, odd = split(piece.append_column("event_index", indices))
    if len(plain):
        write(plain, place.path, place.run_id, place.file_name, base_ns)
    if len(odd):
        path = place.path.with_stem(f"{place.path.stem}-odd")
        _convert_odd(con, odd, path, place.file_name, base_ns, has_plain=len(plain) > 0)


def _convert_odd(
    con: "duckdb.DuckDBPyConnection",
    rows: "pa.RecordBatch",
    path: Path,
    file_name: str,
    base_ns: int,
    *,
    has_plain: bool,
) -> None:
    # Every piece leaves a file, if need be an empty one: a trace may be all counters, or all GPU work.
    import pyarrow as pa

    with con.cursor() as own:
        own.register("chunk", pa.Table.from_batches([rows]))
        execute(own, "convert/trace_file", file_name=file_name, base_ns=base_ns)
        execute(own, "convert/trace_rows")
        (count,) = execute(own, "convert/trace_events", path=str(path)).fetchall()[0]
        if not count and has_plain:
            path.unlink()
        for table in ("gpu_work", "counters", "quarantine") if count < len(rows) else ():
            execute(own, f"convert/trace_{table}")


def discard(con: "duckdb.DuckDBPyConnection", folder: Path) -> None:
    """Forget what was converted so far."""
    for path in written(folder):
        Path(path).unlink()
    for table in FILLED:
        con.table(table)  # raises for a name that is no table
        con.execute(f"TRUNCATE {table}")


def finish(con: "duckdb.DuckDBPyConnection", folder: Path, head: dict[str, Any]) -> None:
    """What can be told only when every event has been read: launches, devices, steps, the engine."""
    if len(con.table("events")):
        path = folder / f"events-{len(written(folder)):06}.parquet"
        execute(con, "convert/trace_launched", paths=written(folder), path=str(path))
    devices, hostname = json.dumps(head.get("deviceProperties")), _text(head, "host_name")
    execute(con, "convert/trace_devices", devices=devices, hostname=hostname)
    if paths := written(folder):
        _add_batches(con, paths, head)


def _add_batches(con: "duckdb.DuckDBPyConnection", paths: list[str], head: dict[str, Any]) -> None:
    """Batches from labels, else from the calls of vLLM's model runner; and the engine that shows by them."""
    execute(con, "convert/step_labels", paths=paths)
    if not len(con.table("steps")):
        execute(con, "convert/step_calls", paths=paths)
    execute(con, "convert/step_batches", paths=paths, rank=_rank(head))
    (engine,) = execute(con, "convert/step_engine").fetchall()[0]
    if version := _text(head, "vllm_version"):
        engine = "vllm"
    if engine is None:
        (engine,) = execute(con, "convert/trace_functions", paths=paths).fetchall()[0]
    execute(con, "convert/trace_engine", engine=engine, version=version)


def kept(con: "duckdb.DuckDBPyConnection", folder: Path) -> int:
    """How many events have their place, among those written or in `counters`."""
    (sampled,) = execute(con, "convert/trace_sampled").fetchall()[0]
    paths = written(folder)
    return int(sampled) + (len(con.read_parquet(paths)) if paths else 0)


def show_events(con: "duckdb.DuckDBPyConnection", folder: Path) -> None:
    """Make `events` what has been written, for SQL that reads it by that name."""
    if paths := written(folder):
        execute(con, "convert/trace_events_written")
        con.read_parquet(paths).create_view("events")


def _rank(head: dict[str, Any]) -> int | None:
    """The rank of the process that was recorded; None where the trace does not tell."""
    about = head.get("distributedInfo")
    rank = about.get("rank") if isinstance(about, dict) else None
    return rank if isinstance(rank, int) and 0 <= rank < MOST_RANKS else None


def _text(head: dict[str, Any], key: str) -> str | None:
    """A name or version that the trace tells; None where it does not."""
    text = head.get(key)
    return text[:LONGEST_TEXT] if isinstance(text, str) and text else None
