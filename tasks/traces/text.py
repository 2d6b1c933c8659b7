"""Lines of text files, plain or gzipped: numbered, bounded in length, none dropped, into Arrow for DuckDB."""

import codecs
import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tasks.settings import LprismError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

LONGEST_LINE = 1 << 20  # a batch of a thousand requests is 20 kB
RAW_TEXT = 2000  # characters of a rejected line that `quarantine` keeps
LINES_A_BATCH = 1000
BYTES_A_BATCH = 1 << 20  # DuckDB keeps every JSON value of a batch in memory, once for each thing asked of it
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Line:
    """A line without its end; of one with a problem the beginning, its bytes that are no UTF-8 as hex."""

    number: int
    text: str
    problem: str | None


def open_text(path: Path) -> IO[bytes]:
    """Open a file to read what it holds, gunzipped where its name or its first bytes say gzip.

    Raises:
        LprismError: it cannot be opened.
    """
    from isal import igzip

    try:
        with path.open("rb") as file:
            magic = file.read(len(GZIP_MAGIC))
        if magic == GZIP_MAGIC or (magic and path.suffix == ".gz"):
            opened: IO[bytes] = igzip.open(path)  # type: ignore[no-untyped-call]  # isal types little
            return opened
        return path.open("rb")
    except OSError as error:
        raise LprismError(f"{path}: {error.strerror or error}") from error


def lines(path: Path, longest: int = LONGEST_LINE) -> Iterator[Line]:
    """Every line of a file, blank ones too, without a byte order mark and without CR LF.

    Of a line of more than `longest` bytes the beginning is read.

    Raises:
        LprismError: the file cannot be read, or is gzip that is cut or damaged; it names the last line read.
    """
    number = 0
    with open_text(path) as file:
        try:
            for number, raw in enumerate(_raw_lines(file, longest), start=1):
                yield _line(number, raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw, longest)
        except (OSError, EOFError, gzip_error()) as error:
            why = getattr(error, "strerror", None) or error
            raise LprismError(f"{path}, after line {number}: {why}") from error


def csv_fields(text: str) -> list[str]:
    """The fields of one line: a quote that is not closed in it takes no other with it. Raises csv.Error."""
    if csv.field_size_limit() < LONGEST_LINE:  # of the process; lines are bounded where they are read
        csv.field_size_limit(LONGEST_LINE)
    return next(csv.reader([text], strict=True), [])


def gzip_error() -> type[Exception]:
    """What isal raises for gzip that is damaged."""
    from isal import isal_zlib

    error: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stub calls the class an instance
    return error


def _raw_lines(file: IO[bytes], longest: int) -> Iterator[bytes]:
    """Lines with their ends; of one that is too long as much as is allowed, without an end."""
    while raw := file.readline(longest):
        yield raw
        while not raw.endswith(b"\n") and (raw := file.readline(longest)):
            pass


def _line(number: int, raw: bytes, longest: int) -> Line:
    if len(raw) == longest and not raw.endswith(b"\n"):
        text = raw[: 4 * RAW_TEXT].decode(errors="backslashreplace")
        return Line(number, text, f"longer than {longest >> 20} MiB")
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return Line(number, raw.decode(), None)
    except UnicodeDecodeError:
        return Line(number, raw.decode(errors="backslashreplace"), "not UTF-8")


def chunks(read: Iterator[Line]) -> Iterator[list[Line]]:
    """The same lines, some at a time: bounded in number and in size."""
    chunk: list[Line] = []
    size = 0
    for line in read:
        chunk.append(line)
        size += len(line.text)
        if len(chunk) == LINES_A_BATCH or size > BYTES_A_BATCH:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def arrow_lines(
    files: Mapping[str, Path],
    counts: dict[str, int],
    read: Callable[[Path], Iterator[Line]] = lines,
) -> "pa.RecordBatchReader":
    """The files' lines as (file_name, line_number, raw_text, problem), while `counts` counts them by file."""
    import pyarrow as pa

    schema = pa.schema(
        [("file_name", pa.string()), ("line_number", pa.int64()), ("raw_text", pa.string()),
         ("problem", pa.string())]
    )  # fmt: skip

    def batches() -> Iterator[pa.RecordBatch]:
        for name, path in files.items():
            for chunk in chunks(read(path)):
                counts[name] = counts.get(name, 0) + len(chunk)
                columns = zip(*((name, line.number, line.text, line.problem) for line in chunk), strict=True)
                yield pa.record_batch([*map(pa.array, columns)], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


@contextmanager
def lines_view(
    con: "duckdb.DuckDBPyConnection",
    files: Mapping[str, Path],
    read: Callable[[Path], Iterator[Line]] = lines,
) -> Iterator[dict[str, int]]:
    """Let SQL read the files' lines, once, as `lines`; yields their counts, which are right after it did.

    Raises:
        LprismError: a file cannot be read; as `lines`, not as DuckDB would tell it.
    """
    import duckdb

    counts = dict.fromkeys(files, 0)
    failed: list[LprismError] = []

    def reading(path: Path) -> Iterator[Line]:
        try:
            yield from read(path)
        except LprismError as error:
            failed.append(error)
            raise

    con.register("lines", arrow_lines(files, counts, reading))
    try:
        yield counts
    except duckdb.Error:
        if failed:
            raise failed[0] from failed[0].__cause__
        raise
    finally:
        con.unregister("lines")
