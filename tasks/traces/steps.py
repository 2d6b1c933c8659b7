"""What SQL makes of a trace's events: Parquet files piece by piece, launches of GPU work, devices, batches."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FILLED = ("events", "counters", "quarantine")


def written(folder: Path) -> list[str]:
    """The Parquet files of events so far, in order."""
    return sorted(map(str, folder.glob("events-*.parquet")))


def convert(con: "duckdb.DuckDBPyConnection", rows: "pa.Table", folder: Path) -> None:
    """One piece of a trace into events, counters and quarantine."""
    con.register("chunk", rows)
    execute(con, "convert/trace_rows")
    path = folder / f"events-{len(written(folder)):06}.parquet"
    (count,) = execute(con, "convert/trace_events", path=str(path)).fetchall()[0]
    for table in ("gpu_work", "counters", "quarantine") if count < len(rows) else ():
        execute(con, f"convert/trace_{table}")
    con.unregister("chunk")


def discard(con: "duckdb.DuckDBPyConnection", folder: Path) -> None:
    """Forget what was converted so far."""
    for path in written(folder):
        Path(path).unlink()
    for table in FILLED:
        con.table(table)  # raises for a name that is no table
        con.execute(f"TRUNCATE {table}")


def finish(con: "duckdb.DuckDBPyConnection", folder: Path, head: dict[str, Any]) -> None:
    """What can be told only when every event has been read."""
    del head
    if len(con.table("events")):
        path = folder / f"events-{len(written(folder)):06}.parquet"
        execute(con, "convert/trace_launched", paths=written(folder), path=str(path))
