"""Batches of a file that is in no lake: any format that is ingested, or columns of our table `batches`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tasks.sentinel.features import batch_features
from tasks.settings import LprismError
from tasks.traces.load import InputFile, Source, prepare
from tasks.traces.registry import UNKNOWN, find
from tasks.warehouse import columns_of, create_table, execute, insert_by_name, memory_connection

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

HERE = "scored"  # campaign and run of what is only looked at
NEEDED = ("batch_size", "duration_ns")
PUBLISHED = "published"  # the format whose rows have line numbers


@dataclass(frozen=True)
class BatchTable:
    """Rows of a file in its order (row_index, batch_index or NULL, reason), and the batches' features."""

    rows: pd.DataFrame
    features: pd.DataFrame


def read_batches(path: Path, *, look_ahead: bool = True) -> BatchTable:
    """Read a table of batches without storing it.

    Raises:
        LprismError: it cannot be read, is of no known format, lacks a needed column, or has no batch.
    """
    found = list(find(path))
    known = [one for one in found if one.source is not None]
    with memory_connection() as con:
        named = ""
        if len(known) == 1 and known[0].form and known[0].source:
            named = known[0].form.NAME
            source = replace(known[0].source, run_id=HERE, campaign=HERE)
            prepare(con, source)
            with TemporaryDirectory() as folder:
                known[0].form.fill(con, source, Path(folder))
        elif known:
            raise LprismError(f"{path} holds {len(known)} runs: name one of their files")
        elif found and found[0].problem == UNKNOWN:
            _fill_from_columns(con, path)
        else:
            raise LprismError(f"{path}: {found[0].problem if found else 'nothing is there'}")
        create_table(con, "excluded_batches")
        table = BatchTable(_rows(con, named), batch_features(con, HERE, look_ahead=look_ahead))
    if table.rows.empty:
        raise LprismError(f"{path} holds no batch")
    return table


def _rows(con: duckdb.DuckDBPyConnection, named: str) -> pd.DataFrame:
    """The rows of the file in its order; where its format does not number them, in the order of start."""
    if named == PUBLISHED:
        return execute(con, "scored_rows").df()
    batches = con.table("batches").order("batch_index").select("batch_index").df()
    return batches.assign(row_index=batches["batch_index"], reason=None)


def _fill_from_columns(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Fill `batches` from a CSV or Parquet file with its columns; what is no number is NULL."""
    import pandas as pd

    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise LprismError(f"{path} {UNKNOWN} ({str(error).splitlines()[0]})") from error
    kinds = columns_of("batches")
    if missing := [name for name in NEEDED if name not in frame.columns]:
        raise LprismError(f"{path} {UNKNOWN}: as a table of batches it lacks the column {', '.join(missing)}")
    frame = frame[[name for name in frame.columns if name in kinds]]
    numbers = [name for name in frame.columns if kinds[name] in ("BIGINT", "DOUBLE")]
    frame = frame.assign(**{name: pd.to_numeric(frame[name], errors="coerce") for name in numbers})
    sessions = [frame[name] for name in ("job_name", "run_id") if name in frame.columns]
    job = sessions[0].fillna(sessions[-1]) if sessions else None
    frame = frame.assign(run_id=HERE, job_name=job, batch_index=range(len(frame)))
    prepare(con, Source(HERE, (InputFile(path, path.name),), run_id=HERE, campaign=HERE))
    insert_by_name(con.from_df(frame), "batches")
