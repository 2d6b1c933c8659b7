"""Records of the trial probe, one JSON object a line: batches as a worker or a scheduler saw them.

vLLM's worker writes what a batch holds, its scheduler how many requests wait and run, SGLang's scheduler
both.
sql/convert/probe_records_batches.sql says what each becomes.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.traces.foreign import account, paths_of, source_of
from tasks.traces.load import Source
from tasks.traces.text import lines, lines_view
from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb

NAME = "probe_records"
_SGLANG = (b'"mode"', b'"run_us"', b'"self_us"')
_KEYS = ((b'"t_sched"', b'"wait_us"', b'"ntok"'), (b'"exec_us"', b'"self_us"', b'"ntok"'), _SGLANG)
_OBJECT = re.compile(rb"\s*\{")


def sniff(path: Path, head: bytes) -> bool:
    """Whether its first line is an object with the keys of one of the probe's records."""
    del path
    first = head.lstrip().partition(b"\n")[0]
    return _OBJECT.match(first) is not None and any(all(key in first for key in keys) for keys in _KEYS)


def sources(path: Path) -> Sequence[Source]:
    """The file is one run; which engine's, its first line tells."""
    first = next(lines(path), None)
    of_sglang = first and all(key.decode() in first.text for key in _SGLANG)
    return [source_of(path, engine="sglang" if of_sglang else "vllm")]


def fill(con: "duckdb.DuckDBPyConnection", source: Source, folder: Path) -> None:
    """Records into `batches`, with `source` probe_trial.

    Raises:
        LprismError: the file cannot be read.
    """
    del folder
    with lines_view(con, paths_of(source)) as counts:
        execute(con, "convert/probe_records_lines")
    execute(con, "convert/probe_records_batches")
    account(con, source, NAME, counts)
