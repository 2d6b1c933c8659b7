"""Forward passes of a server, one a line: start, end, duration, and the tokens of every request.

    {"fwd_id": 1, "start_ts": 1772466342.45, "end_ts": 1772466342.81, "duration_ms": 361.86,
     "req_ids": ["a", "b"], "num_tokens": {"a": 1, "b": 26}, "total_tokens": 27}

What is not written there is rebuilt from the tokens over the whole file, by the rules that
sql/convert/fwd_jsonl_batches.sql states.
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

NAME = "fwd_jsonl"
_KEYS = (b'"start_ts"', b'"duration_ms"', b'"num_tokens"')
_OBJECT = re.compile(rb"\s*\{")


def sniff(path: Path, head: bytes) -> bool:
    """Whether its first lines are objects with the keys of a forward pass."""
    del path
    return _OBJECT.match(head) is not None and all(key in head for key in _KEYS)


def sources(path: Path) -> Sequence[Source]:
    """The file is one run."""
    return [source_of(path)]


def fill(con: "duckdb.DuckDBPyConnection", source: Source, folder: Path) -> None:
    """Forward passes into `batches`, with `source` fwd_jsonl.

    Raises:
        LprismError: the file cannot be read.
    """
    del folder
    with lines_view(con, paths_of(source)) as counts:
        execute(con, "convert/fwd_jsonl_lines")
    execute(con, "convert/fwd_jsonl_batches")
    account(con, source, NAME, counts)
