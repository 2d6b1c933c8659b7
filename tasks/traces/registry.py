"""Every format that is read, and what a path holds: the first format that knows it reads it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks.settings import LprismError
from tasks.traces.load import Format, IngestSummary, Source, format_of, load
from tasks.traces.text import gzip_error, open_text

# A folder's own formats first; then texts, the ones with the surest sign first.
FORMATS = (
    "bundle", "published", "csv_pair", "chrome", "client_json", "fwd_jsonl", "probe_records",
    "vllm_log",
)  # fmt: skip
HEAD_BYTES = 64 << 10
UNKNOWN = "is of no format that is read here"


@dataclass(frozen=True)
class Found:
    """A run that a path holds, and the format that reads it; or why nothing is read there."""

    path: Path
    form: Format | None = None
    source: Source | None = None
    problem: str = ""


@cache
def formats() -> tuple[Format, ...]:
    """The modules of FORMATS."""
    return tuple(format_of(f"tasks.traces.{name}") for name in FORMATS)


def ingest(home: Path, found: Found, campaign: str = "") -> IngestSummary:
    """Load a run that was found. Raises LprismError, also for what is of no known format."""
    if found.form is None or found.source is None:
        raise LprismError(f"{found.path}: {found.problem}")
    return load(home, found.form, found.source, campaign)


def find(path: Path) -> Iterator[Found]:
    """The runs that a path holds, folders searched to the bottom; links in them are not followed."""
    if not path.exists():
        yield Found(path, problem="is not there")
    elif path.is_dir() and not _claimed(path):
        yield from _below(path)
    else:
        yield from _runs(path)


def _below(folder: Path) -> Iterator[Found]:
    """What a folder's files and folders hold; a file that is part of another's run is not taken twice."""
    try:
        entries = [entry for entry in sorted(folder.iterdir()) if not entry.is_symlink()]
    except OSError as error:
        yield Found(folder, problem=str(error.strerror))
        return
    found = [one for entry in entries if entry.is_file() for one in _runs(entry)]
    taken: set[Path] = set()
    for one in sorted(found, key=lambda one: one.source is None):
        if one.path not in taken:
            yield one
        taken.update(file.path for file in (one.source.files if one.source else ()) if file.path != one.path)
    for entry in entries:
        if entry.is_dir():
            yield from find(entry)


def _runs(path: Path) -> Iterator[Found]:
    try:
        form = _claimed(path)
        if form is None:
            yield Found(path, problem=UNKNOWN)
            return
        for source in form.sources(path):
            yield Found(path, form, source)
    except LprismError as error:
        yield Found(path, problem=str(error).removeprefix(f"{path}: "))


def _claimed(path: Path) -> Format | None:
    """The format that knows a path, if any. Raises LprismError when it cannot be read, or is empty."""
    head = b"" if path.is_dir() else _head(path)
    return next((form for form in formats() if form.sniff(path, head)), None)


def _head(path: Path) -> bytes:
    try:
        with open_text(path) as file:
            head = file.read(HEAD_BYTES)
    except (OSError, EOFError, gzip_error()) as error:
        raise LprismError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not head:
        raise LprismError(f"{path}: is empty")
    return head
