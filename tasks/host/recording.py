"""What recorders share: a file of JSON lines with clock pairs, and a steady beat until SIGTERM.

Lines are written some at a time, a second late at most: that is what a kill -9 can cost.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Callable

from tasks.host import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CLOCK_EVERY_S = 5.0
WRITE_EVERY_S = 0.1  # but no more often than lines come
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NOT_WRITTEN = os.EX_IOERR  # the exit code of a recorder whose file cannot be written, such as on a full disk


class NotWritten(Exception):
    """The file cannot be written."""


class Lines:
    """The file of one recorder; what was there is gone. Raises NotWritten."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.kept: list[str] = []
        self.clock_due = self.write_due = time.monotonic()
        with self._told():
            self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    def add(self, lines: Iterable[str]) -> None:
        """Take lines, and write what is due."""
        self.kept.extend(lines)
        now = time.monotonic()
        if now >= self.clock_due:
            self._note_clocks()
            self.clock_due = now + CLOCK_EVERY_S
        if self.kept and now >= self.write_due:
            self._write()
            self.write_due = now + WRITE_EVERY_S

    def close(self) -> None:
        """Write the rest and a last clock pair."""
        self._note_clocks()
        self._write()
        os.close(self.file)

    def _note_clocks(self) -> None:
        self.kept.append(json.dumps({"type": "clock", "pid": os.getpid(), **clock.pair()}))

    def _write(self) -> None:
        left = "".join([f"{line}\n" for line in self.kept]).encode()
        self.kept.clear()
        with self._told():
            while left:
                left = left[os.write(self.file, left) :]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotWritten(f"{self.path}: {error.strerror}") from error


def record(
    path: str,
    every_s: float,
    seconds: float,
    take: Callable[[], Iterable[str]],
    rest: Callable[[], Iterable[str]] = tuple,
) -> int:
    """Take lines every so often until SIGTERM, or for so long, then the rest; a late beat is not made up for.

    Returns the exit code: 0, or NOT_WRITTEN after one line on stderr when the file cannot be written.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # they end a wait, and nothing half-way
    try:
        out = Lines(path)
        begin = due = time.monotonic()
        while due - begin < seconds:
            out.add(take())
            due = max(due + every_s, time.monotonic())
            if signal.sigtimedwait(STOP, max(due - time.monotonic(), 0.0)):
                break
        out.add(rest())
        out.close()
    except NotWritten as error:
        sys.stderr.write(f"{error}: recording stops\n")
        return NOT_WRITTEN
    return 0
