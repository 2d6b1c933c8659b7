"""A run's files from its host, by SFTP: size and sha256 checked, gone on with after an interruption."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import paramiko

from tasks.files import sha256_of

MAX_FILE_BYTES = 4 << 30
CHUNK_BYTES = 1 << 20
BACKOFF_S = (0.0, 1.0, 2.0, 4.0, 8.0)  # before each further try; a chunk that arrived starts them again

Sums = Mapping[str, tuple[int, str]]  # {file name: (size, sha256)}
Door = Callable[[], AbstractContextManager[Any]]  # opens an SFTP client


class Damaged(Exception):
    """What arrived is not what was sent, or may not be fetched at all; the text says what."""


def fetch(sums: Sums, remote_folder: str, local_folder: Path, door: Door) -> None:
    """Copy the files; what is there already of one is gone on from, and a wrong digest starts it again.

    `door` opens a client and raises ConnectionError when it cannot, or when its link goes: after that it is
    asked again, with growing pauses, as long as anything arrives.

    Raises:
        Damaged: a name or a size that is refused before anything is fetched, or a second wrong digest.
        ConnectionError: nothing arrived any more, however often it was tried.
    """
    _refuse_odd(sums)
    tries = list(BACKOFF_S)
    while True:
        before = _arrived(sums, local_folder)
        try:
            with door() as sftp:
                for name, known in sums.items():
                    _whole(sftp, f"{remote_folder}/{name}", local_folder / name, *known)
        except ConnectionError:
            if _arrived(sums, local_folder) > before:
                tries = list(BACKOFF_S)
            if not tries:
                raise
            time.sleep(tries.pop(0))
        else:
            return


def _refuse_odd(sums: Sums) -> None:
    for name, (size, _) in sums.items():
        if Path(name).name != name or name in {".", ".."} or size > MAX_FILE_BYTES:
            raise Damaged(f"refuses to fetch {name!r} of {size} bytes")


def _arrived(sums: Sums, folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in sums if (folder / name).exists())


def _whole(sftp: Any, remote: str, local: Path, size: int, digest: str) -> None:  # noqa: ANN401  paramiko's client, or a test's
    for last in (False, True):
        _rest(sftp, remote, local, size)
        if local.stat().st_size == size and sha256_of(local) == digest:
            return
        if last:
            raise Damaged(f"{local.name} arrived damaged: its sha256 is not the one taken on the host")
        local.unlink()


def _rest(sftp: Any, remote: str, local: Path, size: int) -> None:  # noqa: ANN401  the same
    """Append what is missing of the file."""
    with local.open("ab") as out:
        if out.tell() >= size:
            return
        with _remotely(remote):
            source = sftp.open(remote, "rb")
            source.seek(out.tell())
            _ask_quietly(source)
            source.prefetch(size)
        while chunk := _read(source, remote):
            out.write(chunk)
            out.flush()
        with _remotely(remote):
            source.close()


def _ask_quietly(source: Any) -> None:  # noqa: ANN401  the same
    """Keep the thread in which paramiko asks for the pieces from printing a link's end; reading tells it."""
    ask = source._prefetch_thread  # noqa: SLF001  there is no other way to it

    def asking(*pieces: Any) -> None:  # noqa: ANN401  paramiko's own
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            ask(*pieces)

    source._prefetch_thread = asking  # noqa: SLF001  the same


def _read(source: Any, remote: str) -> bytes:  # noqa: ANN401  the same
    with _remotely(remote):
        return bytes(source.read(CHUNK_BYTES))


@contextlib.contextmanager
def _remotely(remote: str) -> Iterator[None]:
    """Tell what goes wrong on the other side, or on the way, from what goes wrong here."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise Damaged(f"{remote} cannot be read on the host: {error}") from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise ConnectionError(f"{remote}: {error!r}") from error
