"""Files that appear whole or not at all: made in a staging folder of the lake, then renamed into place."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.settings import LprismError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")


def checked_name(name: str) -> str:
    """Return a campaign's or a part's name if it can name a file and nothing else. Raises LprismError."""
    if not _NAME.fullmatch(name):
        raise LprismError(f"{name[:80]!r} is no name: letters and digits, and _ . - after the first")
    return name


@contextmanager
def staging(root: Path, name: str) -> Iterator[Path]:
    """An empty folder in <root>/.staging, held by one process at a time and gone afterwards.

    What a killed holder left is removed by the next one of the same name; its lock died with it.

    Raises:
        LprismError: the file system refuses, in its own words (full, read-only, no permission).
    """
    folder = root / ".staging" / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _held(folder.with_name(f"{name}.lock")):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise LprismError(f"{error.filename or folder}: {error.strerror or error}") from error


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock file, waiting for it, and remove it at the end."""
    while True:
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Its last holder removed it while we waited: what we hold is no longer what others find.
            if not lock.exists() or not os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def put(draft: Path, place: Path) -> Path:
    """Move a finished file to its place, over what is there; it is on the disk before it has the name."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    place.parent.mkdir(parents=True, exist_ok=True)
    return draft.replace(place)
