"""Events of a Chrome trace from JSON text to Arrow columns: scan.c, compiled when it is first needed.

Compiled and not a JSON library, because measured so: DuckDB's reader passes times through a float and took
twice as long in all; Python objects take longer to turn into columns than to decode. Strings of few distinct
values come dictionary-encoded.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from tasks.settings import LprismError, cache_path
from tasks.traces.text import RAW_TEXT

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Column = np.ndarray[Any, Any]

SOURCE = Path(__file__).with_name("scan.c")
COMPILE_S = 60
ROWS = 1 << 16
WORDS = 1 << 15  # distinct strings a chunk; the hash table has twice the places
TEXTS = ("phase", "name", "category", "process", "thread", "flow_id", "extra")
NUMBERS = (
    "correlation", "external_id", "device", "stream", "python_id", "python_parent_id", "lineno",
    "external_id_2021",
)  # fmt: skip
NONE = -(2**63)
# What `problem` of a row says, in the order of the enum in scan.c.
PROBLEMS = (
    None, "cut off", "not JSON", "not an object", "not UTF-8", "nested too deep", "ts or dur is no time",
    "a text field holds another type", "cut off", "longer than 16 MiB", "too many strings",
)  # fmt: skip
GOES_ON, ENDED, FULL = 0, 1, 2


@dataclass
class Place:
    """Where a scan stands between two chunks; `lost` after text that could not be read."""

    first: bool = True
    lost: bool = False
    ended: bool = False
    buffers: "_Buffers | None" = None  # memory is used again: fresh pages cost a fifth of the scan


@dataclass(frozen=True)
class Chunk:
    """Rows of a piece of text, and how many of its bytes are done with; `is_full`: the rest has rows too."""

    count: int
    size_bytes: int
    consumed: int
    is_full: bool
    made: Callable[[], "pa.Table"]

    @cached_property
    def rows(self) -> "pa.Table":
        """They are made where they are first asked for: the thread that scans has no time for it."""
        return self.made()


class _Scan(ctypes.Structure):
    """`Scan` of scan.c, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("capacity", "text_capacity", "table_size")),
        ("codes", ctypes.c_void_p * len(TEXTS)),
        ("start_ns", ctypes.c_void_p),
        ("duration_ns", ctypes.c_void_p),
        ("numbers", ctypes.c_void_p * len(NUMBERS)),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "args_ends", "problems", "begins", "ends", "words", "word_ends", "args", "scratch", "table",
            )
        ),
        *((name, ctypes.c_int64) for name in ("rows", "word_count", "problem_rows", "consumed")),
        *((name, ctypes.c_int32) for name in ("lost", "first", "state")),
    )  # fmt: skip


@cache
def library() -> ctypes.CDLL:
    """scan.c, compiled for this machine and kept in the cache. Raises LprismError where that fails."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    place = cache_path() / "native" / f"scan-{digest}-{os.uname().machine}.so"
    try:
        if not place.exists():
            _compile(place)
        loaded = ctypes.CDLL(str(place))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", b"") or b""
        raise LprismError(
            f"reading traces needs a C compiler; scan.c could not be compiled into {place.parent}: {error} "
            f"{said.decode(errors='replace')[-300:]}".strip()
        ) from error
    loaded.scan.argtypes = [ctypes.POINTER(_Scan), ctypes.c_void_p, ctypes.c_int64, ctypes.c_int]
    loaded.scan.restype = None
    return loaded


def _compile(place: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise OSError("cc, gcc and clang are not there; on Debian: apt-get install gcc libc6-dev")
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f"{place.name}.{token_hex(4)}")
    try:
        command = [compiler, "-O3", "-shared", "-fPIC", "-o", str(draft), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_S)
        draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)


class _Buffers:
    """The memory of a scan of at most `size` bytes, and of the next one: what is kept of it is copied."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self.size = size
        self.room = 2 * size + 4096  # NaN is kept in quotes, which is longer
        self.codes = [np.empty(ROWS, np.int32) for _ in TEXTS]
        self.numbers = [np.empty(ROWS, np.int64) for _ in NUMBERS]
        self.start_ns, self.duration_ns = np.empty(ROWS, np.int64), np.empty(ROWS, np.int64)
        # Arrow's offsets begin with a 0, and scan.c writes where each one ends.
        self.args_offsets, self.word_offsets = np.zeros(ROWS + 1, np.int64), np.zeros(WORDS + 1, np.int64)
        self.problems = np.empty(ROWS, np.int8)
        self.begins, self.ends = np.empty(ROWS, np.int64), np.empty(ROWS, np.int64)
        self.words, self.args, self.scratch = (np.empty(self.room, np.uint8) for _ in range(3))
        self.table = np.empty(2 * WORDS, np.int64)

    def structure(self, place: Place) -> _Scan:
        self.table.fill(0)
        scan = _Scan(capacity=ROWS, text_capacity=self.room, table_size=2 * WORDS)
        for index, codes in enumerate(self.codes):
            scan.codes[index] = codes.ctypes.data
        for index, numbers in enumerate(self.numbers):
            scan.numbers[index] = numbers.ctypes.data
        scan.args_ends, scan.word_ends = self.args_offsets[1:].ctypes.data, self.word_offsets[1:].ctypes.data
        for name in (
            "start_ns",
            "duration_ns",
            "problems",
            "begins",
            "ends",
            "words",
            "args",
            "scratch",
            "table",
        ):
            setattr(scan, name, getattr(self, name).ctypes.data)
        scan.first, scan.lost = int(place.first), int(place.lost)
        return scan


def scan(text: bytearray, place: Place, *, final: bool, offset: int = 0) -> Chunk:
    """Read what events `text` holds whole, and move `place`; `final` says that no more text will come.

    The rows' columns are TEXTS and NUMBERS, start_ns, duration_ns, args, and `problem` with `raw_text` of
    what could not be read. `offset` is where it begins.
    """
    compiled = library()
    buffers = place.buffers
    if buffers is None or buffers.size < len(text):
        buffers = place.buffers = _Buffers(len(text))
    result = buffers.structure(place)
    held = (ctypes.c_char * len(text)).from_buffer(text)  # while it is, `text` cannot move
    compiled.scan(ctypes.byref(result), ctypes.addressof(held), len(text), int(final))
    del held
    place.first, place.lost, place.ended = bool(result.first), bool(result.lost), result.state == ENDED
    rejected = buffers.problems[: result.rows].nonzero()[0] if result.problem_rows else ()
    problems = {
        int(row): rejection(
            text, buffers.problems[row], int(buffers.begins[row]), int(buffers.ends[row]), offset
        )
        for row in rejected
    }
    count = result.rows
    codes = [column[:count].copy() for column in buffers.codes]
    numbers = [column[:count].copy() for column in (buffers.start_ns, buffers.duration_ns, *buffers.numbers)]
    words = _copied(buffers.word_offsets, buffers.words, result.word_count)
    args = _copied(buffers.args_offsets, buffers.args, count)
    parts: list[Column] = [*codes, *numbers, *words, *args]
    size = sum(part.nbytes for part in parts)
    made = partial(_table, codes, numbers, words, args, problems)
    return Chunk(count, size, result.consumed, result.state == FULL, made)


def rejection(text: bytearray, problem: int, begin: int, end: int, offset: int) -> tuple[str, str]:
    """Why a row could not be read and where it stands, and how its text begins."""
    raw = bytes(text[begin : min(end, begin + 4 * RAW_TEXT)]).decode(errors="backslashreplace")
    return f"{PROBLEMS[problem]}, at byte {offset + begin}", raw[:RAW_TEXT]


def rejected_row(why: str, raw_text: str) -> Chunk:
    """The row of a text that is too long for `scan`, or stands where no event can stand."""
    import pyarrow as pa

    def made() -> "pa.Table":
        schema = scan(bytearray(), Place(), final=False).rows.schema
        told = {"problem": why, "raw_text": raw_text}
        return pa.table({one.name: pa.array([told.get(one.name)], one.type) for one in schema})

    return Chunk(1, len(why) + len(raw_text), 0, is_full=False, made=made)


def _copied(offsets: "Column", data: "Column", count: int) -> tuple["Column", "Column"]:
    return offsets[: count + 1].copy(), data[: offsets[count]].copy()


def _table(
    codes: "list[Column]",
    numbers: "list[Column]",
    words: "tuple[Column, Column]",
    args: "tuple[Column, Column]",
    problems: dict[int, tuple[str, str]],
) -> "pa.Table":
    import numpy as np
    import pyarrow as pa

    dictionary = pa.LargeStringArray.from_buffers(len(words[0]) - 1, *map(pa.py_buffer, words))
    columns: dict[str, Any] = {}
    for name, column in zip(TEXTS, codes, strict=True):
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(column, mask=column < 0), dictionary)
    for name, column in zip(("start_ns", "duration_ns", *NUMBERS), numbers, strict=True):
        columns[name] = pa.array(column, mask=column == NONE)
    given = pa.py_buffer(np.packbits(np.diff(args[0]) > 0, bitorder="little"))
    texts = pa.LargeStringArray.from_buffers(len(args[0]) - 1, *map(pa.py_buffer, args), given)
    # Named JSON, which it is, so that DuckDB does not parse it once more.
    columns["args"] = pa.ExtensionArray.from_storage(pa.json_(pa.large_string()), texts)
    return pa.table({**columns, **_problem_columns(len(texts), problems)})


def _problem_columns(count: int, problems: dict[int, tuple[str, str]]) -> dict[str, "pa.Array"]:
    import pyarrow as pa

    if not problems:
        return {"problem": pa.nulls(count, pa.string()), "raw_text": pa.nulls(count, pa.string())}
    told = [problems.get(row, (None, None)) for row in range(count)]
    return {
        "problem": pa.array([why for why, _ in told], pa.string()),
        "raw_text": pa.array([text for _, text in told], pa.string()),
    }
