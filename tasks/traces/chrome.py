"""Chrome / Kineto trace JSON: an object with `traceEvents` or a bare array, plain or gzip, cut off or not.

The text is read once and in pieces, whatever its size: one thread gunzips, one reads events (scan.py), others
type them by SQL and write Parquet. Times are ns since 1970: `baseTimeNanoseconds` is added; where it stands
after the events these are read a second time. The format is torch.profiler's and Chrome's trace viewer's.
"""

import codecs
import json
import os
import re
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from tasks.settings import LprismError
from tasks.traces import profiler_config, steps
from tasks.traces.foreign import source_of
from tasks.traces.load import InputFile, Source
from tasks.traces.scan import Chunk, Place, rejected_row, rejection, scan
from tasks.traces.text import RAW_TEXT, gzip_error, open_text
from tasks.warehouse import execute, threads_for

if TYPE_CHECKING:
    import duckdb

NAME = "chrome_trace"
PIECE = 4 << 20  # stays in the processor's cache from gunzip to scan
ROWS_A_FILE = 120_000
FULL_FILE = 4  # the first file has a quarter of these rows, the fourth all
BYTES_A_FILE = 32 << 20  # half as much again as so many rows of a usual trace take
LONGEST_EVENT, LONGEST_HEAD = 16 << 20, 64 << 20
TOO_LONG = 9  # place in scan.PROBLEMS
BASE = "baseTimeNanoseconds"
LONGEST_END = 64 << 10
_OBJECT = re.compile(
    rb'"(traceEvents|schemaVersion|deviceProperties|displayTimeUnit|baseTimeNanoseconds|traceName)"'
)
_BASE_AT_END = re.compile(rb'"baseTimeNanoseconds"\s*:\s*([0-9]{1,19})\b')
_SEPARATOR = re.compile(r"[ \t\r\n,]*")
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")


def _finite(text: str) -> float | str:
    """A number of JSON; as text where no float is as large."""
    return number if isfinite(number := float(text)) else text


_JSON = json.JSONDecoder(parse_constant=str, parse_float=_finite)
Item = TypeVar("Item")


@dataclass
class Head:
    """What a trace says outside its events, and whether it ended as it should."""

    members: dict[str, Any] = field(default_factory=dict)
    is_whole: bool = False


def sniff(path: Path, head: bytes) -> bool:
    """Whether the text begins as a trace does: an object with one of its keys, or an array of events."""
    del path
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return (start == b"{" and bool(_OBJECT.search(head))) or (start == b"[" and b'"ph"' in head)


def sources(path: Path) -> list[Source]:
    """The one run of a trace, named as the file without its endings; the published profiler's has two."""
    source, config = source_of(path), path.with_name(profiler_config.FILE_NAME)
    if config.is_file() and not config.is_symlink():
        source = replace(source, files=(*source.files, InputFile(config, config.name)))
    return [source]


def fill(con: "duckdb.DuckDBPyConnection", source: Source, folder: Path) -> None:
    """Events, counters and batches of a trace. Raises LprismError naming the file and the byte."""
    file, *configs = source.files
    trace = Trace(file.path)
    rows_in = _convert(con, trace, source, folder, None)
    if trace.base_ns() != trace.added_ns:
        # It stood after the events, and they have been given other times.
        steps.discard(con, folder)
        base_ns, trace = trace.base_ns(), Trace(file.path)
        rows_in = _convert(con, trace, source, folder, base_ns)
    steps.finish(con, folder, trace.head.members)
    about = {**trace.head.members, **({} if trace.head.is_whole else {"cut_off": True})}
    execute(
        con, "convert/foreign_file", name=file.name, format=NAME, size_bytes=file.size_bytes,
        sha256=file.sha256, rows_in=rows_in, rows_kept=steps.kept(con, folder), head=_written(about),
    )  # fmt: skip
    for config in configs:
        steps.show_events(con, folder)
        profiler_config.add_batches(con, config.path, config.name)


def _convert(
    con: "duckdb.DuckDBPyConnection", trace: "Trace", source: Source, folder: Path, base_ns: int | None
) -> int:
    """Every event into files of `folder` and tables of `con`, times with base_ns added; their number."""
    rows_in, workers = 0, os.cpu_count() or 1
    waiting: deque[Future[None]] = deque()
    execute(con, "publish/threads", threads=1)
    with trace.opened(), ThreadPoolExecutor(workers) as pool:
        for number, chunks in enumerate(grouped(trace.events())):
            if number == 0:  # what stands after the events is not known yet
                trace.added_ns = trace.likely_base_ns() if base_ns is None else base_ns
            place = steps.Place(
                folder / f"events-{number:06}.parquet", source.run_id, source.files[0].name, rows_in
            )
            waiting.append(pool.submit(steps.convert, con, chunks, place, trace.added_ns))
            rows_in += sum(chunk.count for chunk in chunks)
            if len(waiting) > workers:
                waiting.popleft().result()
        for future in waiting:
            future.result()
    execute(con, "publish/threads", threads=threads_for(rows_in))
    return rows_in


def _written(about: dict[str, Any]) -> str:
    """What a trace says about itself, as JSON; half of a surrogate pair gives `?`."""
    return json.dumps(about, ensure_ascii=False).encode(errors="replace").decode()


def grouped(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    """The same chunks in larger groups: a Parquet file each. The first are small: they start all workers."""
    group: list[Chunk] = []
    rows = size = made = 0
    for chunk in chunks:
        group.append(chunk)
        rows, size = rows + chunk.count, size + chunk.size_bytes
        share = min(1.0, (made + 1) / FULL_FILE)
        if rows >= ROWS_A_FILE * share or size >= BYTES_A_FILE * share:
            yield group
            group, rows, size, made = [], 0, 0, made + 1
    if group:
        yield group


def ahead(items: Iterator[Item]) -> Generator[Item]:
    """The same items, each made in a thread of its own while the one before is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


class Trace:
    """One trace file, read once from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head = Head()
        self.added_ns = 0
        self._window = bytearray()
        self._begin = 0  # where the window begins in the text
        self._blocks: Iterator[bytes] = iter(())
        self._is_bare = False

    def base_ns(self) -> int:
        """What the trace says is to be added to its times, ns. Raises LprismError when that is no number."""
        base = self.head.members.get(BASE, 0)
        if not re.fullmatch(r"[0-9]{1,18}|[1-3][0-9]{18}", str(base)):
            raise LprismError(f"{self.path}: {BASE} is no time in ns: {str(base)[:80]}")
        return int(base)

    def likely_base_ns(self) -> int:
        """The same before the events have been read: where the head lacks it, what the text's end says.

        A text of an event may say it too: what holds is what `base_ns` says in the end.
        """
        if BASE in self.head.members or self._is_bare:
            return self.base_ns()
        with open_text(self.path) as file:
            end = before = b""
            for block in _blocks(file):
                before, end = end, block
        found = _BASE_AT_END.search((before + end)[-LONGEST_END:])
        return int(found[1]) if found else 0

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Read the file within the block. Raises LprismError naming what stands in the way, and where."""
        try:
            with open_text(self.path) as file, closing(ahead(_blocks(file))) as self._blocks:
                yield
        except (OSError, EOFError, gzip_error()) as error:
            why = getattr(error, "strerror", None) or error
            raise LprismError(f"{self.path}, after byte {self._begin + len(self._window)}: {why}") from error

    def events(self) -> Iterator[Chunk]:
        """Its events in pieces, as scan.py gives them; afterwards `head` is complete."""
        is_array = self._begins()
        while is_array:
            yield from self._array()
            is_array = self.head.is_whole is False and self._members(is_head=False)
        yield from self._rest()

    def _more(self) -> bool:
        block = next(self._blocks, b"")
        self._window += block
        return bool(block)

    def _done(self, size: int) -> None:
        del self._window[:size]
        self._begin += size

    def _find_text(self) -> bool:
        """Go to what is no white space; whether there is any."""
        while not (text := self._window.lstrip()):
            self._done(len(self._window))
            if not self._more():
                return False
        self._done(len(self._window) - len(text))
        return True

    def _begins(self) -> bool:
        """Go to the first event; whether there is one."""
        self._more()
        self._done(len(codecs.BOM_UTF8) if self._window.startswith(codecs.BOM_UTF8) else 0)
        if not self._find_text():
            raise LprismError(f"{self.path} is empty")
        start = bytes(self._window[:1])
        if start not in {b"[", b"{"}:
            raise LprismError(f"{self.path}, byte {self._begin}: neither an object nor an array")
        self._done(1)
        if start == b"[":
            self._is_bare = True
            return True
        if not self._members(is_head=True):
            raise LprismError(f"{self.path} has no traceEvents")
        return True

    def _members(self, *, is_head: bool) -> bool:
        """Read what stands before or after the events; whether an array of events begins."""
        while True:
            try:
                at, is_array = _members(self._window.decode("latin-1"), self.head.members)
            except (ValueError, IndexError, RecursionError) as error:
                if len(self._window) < LONGEST_HEAD and self._more():
                    continue
                if is_head:
                    where = self._begin + getattr(error, "pos", len(self._window))
                    raise LprismError(
                        f"{self.path}, byte {where}: no JSON before the events: {error}"
                    ) from error
                return False
            self._done(at)
            self.head.is_whole = not is_array
            return is_array

    def _array(self) -> Iterator[Chunk]:
        """The events of the array that begins here."""
        place, is_last = Place(), False
        while True:
            chunk = scan(self._window, place, final=is_last, offset=self._begin)
            self._done(chunk.consumed)
            if chunk.count:
                yield chunk
            if chunk.is_full:
                continue
            if place.ended:
                break
            if is_last:
                return
            if len(self._window) >= LONGEST_EVENT:
                yield rejected_row(*rejection(self._window, TOO_LONG, 0, len(self._window), self._begin))
                self._done(len(self._window) - 1)
                place.lost = True
            else:
                is_last = not self._more()
        self.head.is_whole = self._is_bare

    def _rest(self) -> Iterator[Chunk]:
        """What stands after the end: one rejected row."""
        if self.head.is_whole and self._find_text():
            yield rejected_row(
                f"text after the end, at byte {self._begin}",
                self._window[:RAW_TEXT].decode(errors="backslashreplace"),
            )


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(PIECE):
        yield block


def _members(text: str, members: dict[str, Any]) -> tuple[int, bool]:
    """Read an object's members from `text`, bytes as Latin-1, to its end or to its events.

    Returns where reading stopped, and whether there an array of events begins.

    Raises:
        ValueError, IndexError, RecursionError: the text ends too soon, or is no JSON.
    """
    at = 0
    while True:
        at = _SEPARATOR.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if text[at] == "}":
            return at + 1, False
        if text[at] != '"':
            raise json.JSONDecodeError("a name should stand here", "", at)
        key, at = _JSON.raw_decode(text, at)
        colon = _COLON.match(text, at)
        if colon is None or colon.end() == len(text):
            raise json.JSONDecodeError("a colon and a value should stand here", "", at)
        at = colon.end()
        if key == "traceEvents" and text[at] == "[":
            return at + 1, True
        _, end = _JSON.raw_decode(text, at)
        members[key] = _JSON.decode(text[at:end].encode("latin-1").decode(errors="backslashreplace"))
        at = end
