"""What SQL makes of a trace's events: files piece by piece, launches of GPU work, devices, batches."""

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


def convert(
    con: "duckdb.DuckDBPyConnection", rows: "pa.Table", path: Path, file_name: str, base_ns: int
) -> None:
    """One piece of a trace into a file of events, counters and quarantine. Several may run side by side."""
    with con.cursor() as own:
        own.register("chunk", rows)
        execute(own, "convert/trace_file", file_name=file_name, base_ns=base_ns)
        execute(own, "convert/trace_rows")
        (count,) = execute(own, "convert/trace_events", path=str(path)).fetchall()[0]
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
    """What can be told only when every event has been read."""
    del head
    if len(con.table("events")):
        path = folder / f"events-{len(written(folder)):06}.parquet"
        execute(con, "convert/trace_launched", paths=written(folder), path=str(path))
