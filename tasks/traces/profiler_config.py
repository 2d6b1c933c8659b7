"""`model_config.txt` of the published profiler: what the scheduler's calls in the trace beside it worked on.

A line is one attribute of one call,

    {"kunlunClassAttr": {"class": "Scheduler", "fn": "run_batch", "attr": "reqs"},
     "Value": "forward_mode=2 Req(rid=1f, input_ids=[1, 2], output_ids=[])", "start_time": 1764000000000001}

where the text of `reqs` and `result` is not JSON, nor are the braces around the line certain. Every line is
accounted for, also one whose call is not in the trace.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.files import sha256_of
from tasks.settings import LprismError
from tasks.traces.text import Line, lines, lines_view
from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb

NAME = "profiler_config"
FILE_NAME = "model_config.txt"
LONGEST = 64 << 20  # every token id of every request of a batch


def add_batches(con: "duckdb.DuckDBPyConnection", config_path: Path, file_name: str) -> int:
    """Add the batches that the file tells of the calls in `events`; account for its lines; returns how many.

    `events` may be a view, with the columns of sql/tables/events.sql. `file_name` is the file's in `files`.

    Raises:
        LprismError: the file cannot be read.
    """
    with lines_view(con, {file_name: config_path}, _lines) as counts:
        execute(con, "convert/profiler_config_lines")
    before = len(con.table("batches"))
    execute(con, "convert/profiler_config_batches")
    execute(con, "convert/foreign_quarantine")
    kept = dict(execute(con, "convert/foreign_kept").fetchall())
    size_bytes, sha256 = _identity(config_path)
    execute(
        con, "convert/foreign_file", name=file_name, format=NAME, size_bytes=size_bytes, sha256=sha256,
        rows_in=counts[file_name], rows_kept=kept.get(file_name, 0), head=None,
    )  # fmt: skip
    return len(con.table("batches")) - before


def _lines(path: Path) -> Iterator[Line]:
    return lines(path, LONGEST)


def _identity(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_size, sha256_of(path)
    except OSError as error:
        raise LprismError(f"{path}: {error.strerror}") from error
