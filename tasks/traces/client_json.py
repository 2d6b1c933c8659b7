"""Results of the load clients: `vllm bench serve --save-result` and `sglang.bench_serving --output-file`.

A file holds one JSON object, or one a line where the client appended to it. Lists in an object have one value
a request (`ttfts`, `itls`, ...; both clients write them only when asked for details), the rest is a summary:
it is kept in `files.head`. A row is an object or a request of one. Of the answers the length is kept.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.settings import LprismError
from tasks.traces.foreign import account, paths_of, source_of
from tasks.traces.load import Source
from tasks.traces.text import RAW_TEXT, Line, lines, lines_view
from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb

NAME = "client_json"
LONGEST = 256 << 20  # ten thousand requests of a thousand tokens are 200 MB; an object is parsed as a whole
LISTS = {
    "input_lens": "input_tokens", "output_lens": "output_tokens", "ttfts": "ttft_s", "itls": "itl_s",
    "latencies": "e2e_s", "start_times": "start_s", "queue_times": "queue_s", "errors": "error",
}  # fmt: skip
_ANSWERS = "generated_texts"
_KEYS = (b'"backend"', b'"duration"', b'"completed"', b'"request_throughput"')
_OBJECT = re.compile(rb"\s*\{")


class _Number(str):
    """A number with a fraction, as it is written."""

    __slots__ = ()


def sniff(path: Path, head: bytes) -> bool:
    """Whether it begins with an object that has a client's totals."""
    del path
    return _OBJECT.match(head.removeprefix(b"\xef\xbb\xbf")) is not None and all(key in head for key in _KEYS)


def sources(path: Path) -> Sequence[Source]:
    """The file is one run."""
    return [source_of(path)]


def fill(con: "duckdb.DuckDBPyConnection", source: Source, folder: Path) -> None:
    """Requests into `requests`, with `source` vllm_bench or sglang_bench; model and load into `runs`.

    Raises:
        LprismError: the file cannot be read.
    """
    del folder
    summaries: list[object] = []

    def read(path: Path) -> Iterator[Line]:
        for number, (text, problem) in enumerate(_rows(path, summaries), start=1):
            yield Line(number, text, problem)

    with lines_view(con, paths_of(source), read) as counts:
        execute(con, "convert/client_json_rows")
    execute(con, "convert/client_json_requests")
    execute(con, "convert/client_json_run")
    head = summaries[0] if len(summaries) == 1 else summaries
    heads = {source.files[0].name: json.dumps(head)} if summaries else {}
    account(con, source, NAME, counts, heads)


def _rows(path: Path, summaries: list[object]) -> Iterator[tuple[str, str | None]]:
    """Text and problem of every object and of every request in it; `summaries` gets what is no request's."""
    for line in _objects(path):
        if line.problem or not line.text.strip():
            yield line.text, line.problem or "empty line"
            continue
        try:
            found = json.loads(line.text, parse_float=_Number, parse_constant=_Number)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            yield line.text[: 4 * RAW_TEXT], "not a JSON object"
            continue
        yield from _rows_of(found, len(summaries))
        summaries.append(_plain({key: value for key, value in found.items() if key not in _PER_REQUEST}))


_PER_REQUEST = {*LISTS, _ANSWERS}


def _objects(path: Path) -> Iterator[Line]:
    """The file's lines; all of them as one where its first is no whole object but begins one."""
    read = lines(path, LONGEST)
    first = next(read, None)
    if first is None:
        raise LprismError(f"{path} is empty")
    if first.problem or first.text.rstrip().endswith("}"):
        yield first
        yield from read
        return
    text, size = [first.text], 0
    for line in read:
        size += len(line.text)
        if size > LONGEST:
            raise LprismError(f"{path}, line {line.number}: an object of more than {LONGEST >> 20} MiB")
        text.append(line.text)
    yield Line(1, "\n".join(text), None)


def _rows_of(found: Mapping[str, Any], index: int) -> Iterator[tuple[str, str | None]]:
    summary = {key: found.get(key) for key in ("tokenizer_id", "model_id", "max_concurrency")}
    summary |= {key: found.get(key) for key in ("random_input_len", "random_output_len")}
    yield json.dumps({"client_run_index": index, "summary": summary}), None
    lists = {LISTS[key]: found[key] for key in LISTS if isinstance(found.get(key), list) and found[key]}
    lengths = [len(values) for values in lists.values()]
    source = "vllm_bench" if "tokenizer_id" in found else "sglang_bench"
    for number in range(max(lengths, default=0)):
        request = {name: values[number] for name, values in lists.items() if number < len(values)}
        row = {"client_run_index": index, "request_index": number, "source": source, **request}
        yield (
            json.dumps(row),
            None if number < min(lengths) else "a list of this run is shorter than the others",
        )


def _plain(value: object) -> object:
    """The value with its numbers as JSON has them; what JSON has no number for stays text."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, _Number) and value not in {"NaN", "Infinity", "-Infinity"}:
        return float(value)
    return value
