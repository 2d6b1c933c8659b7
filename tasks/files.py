"""Files: written as a whole or not at all, and their digests."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from tasks.settings import LprismError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a draft beside `path`; when the block has written it, it takes the place of what was there.

    Raises:
        LprismError: the system refuses to write it, inside of the block too.
    """
    draft = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        yield draft
        draft.replace(path)
    except OSError as error:
        raise LprismError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """A file's sha256 in hex, read in pieces. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
