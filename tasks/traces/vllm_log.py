"""vLLM's log with its iterations (`--enable-logging-iteration-details`, 0.13+).

It is the weakest source of batches: the front end prints a line after the step, with a stamp of whole seconds
in local time and without a year, unless a logging config says otherwise. sql/convert/vllm_log_lines.sql says
what is made of that. Other lines are kept as read: it is the server's log. Only damaged iteration lines go to
quarantine.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.traces.foreign import account, paths_of, source_of
from tasks.traces.load import Source
from tasks.traces.text import lines_view
from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb

NAME = "vllm_log"
_OF_VLLM = re.compile(
    rb"\bIteration\(\d+\): \d+ context requests, "
    rb"|^(?:\x1b\[[\d;]*m|\([^)\n]{1,80}\) |\s){0,6}"
    rb"(?:DEBUG|INFO|WARNING|ERROR) \d\d-\d\d \d\d:\d\d:\d\d \[[\w./]+\.py:\d+\] ",
    re.MULTILINE,
)


def sniff(path: Path, head: bytes) -> bool:
    """Whether it has a line as vLLM logs, one of an iteration or any other."""
    del path
    return _OF_VLLM.search(head) is not None


def sources(path: Path) -> Sequence[Source]:
    """The log is one run."""
    return [source_of(path, engine="vllm")]


def fill(con: "duckdb.DuckDBPyConnection", source: Source, folder: Path) -> None:
    """Iterations into `batches`, with `source` vllm_log.

    Raises:
        LprismError: the file cannot be read.
    """
    del folder
    with lines_view(con, paths_of(source)) as counts:
        execute(con, "convert/vllm_log_lines")
    execute(con, "convert/vllm_log_batches")
    account(con, source, NAME, counts)
