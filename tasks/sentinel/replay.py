"""A stored run as it came, a batch after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.sentinel.following import Batch
from tasks.warehouse import execute

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

ROWS = 1000  # read at once
NAMES = {"batch_index": "index"}
NO_FIELD = ("session", "job")


def batches_of(con: duckdb.DuckDBPyConnection, run_id: str) -> Iterator[tuple[str, Batch]]:
    """Every recorded batch of a run with its session (the run, or a job of it), in order."""
    rows = execute(con, "replayed_batches", run_id=run_id)
    columns = [column[0] for column in rows.description]
    while found := rows.fetchmany(ROWS):
        for row in found:
            values = dict(zip(columns, row, strict=True))
            session = values["session"]
            yield session, Batch(**{NAMES.get(k, k): v for k, v in values.items() if k not in NO_FIELD})
