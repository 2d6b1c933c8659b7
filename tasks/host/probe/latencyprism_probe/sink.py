"""Where records go: taken from the step path as they are, formatted and written by a thread.

On the step path an item is appended to a queue, nothing else. The thread looks every FLUSH_S where to write
(the file named by LPRISM_PROBE_TARGET has a folder's path; empty is off, so that a server which outlives a
run writes each run's batches into that run's folder) and writes <folder>/batches-<pid>.jsonl.
A file that cannot be written to loses records, not the server: they are counted, and the end line says so.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections import deque
from multiprocessing.util import Finalize
from typing import Any, Callable, Optional

TARGET = os.environ.get("LPRISM_PROBE_TARGET", "")
FLUSH_S = 0.25  # seldom: the thread works in a warm cache then, and takes the GIL less often
CLOCK_EVERY_S = 5.0
RECORDS_A_WRITE = 16  # formatted between two chances for the engine's threads to take the GIL
MOST_WAITING = 100_000  # items that wait for a thread that cannot write: more are lost
WRITES_KEPT = 16  # the last of them may be cut off again, to make room for the end line

Record = dict[str, Any]
Make = Callable[..., Optional[Record]]
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Sink:
    """Takes items from the step path, and writes what is made of them."""

    def __init__(self) -> None:
        self.on = False
        self.is_started = False
        self.errors = 0
        self.lost = 0
        self.notes: list[Record] = []  # said once in every file
        self.look: Callable[[], None] = lambda: None  # called before a file is begun: may add notes
        self._queue: deque[tuple[Make, tuple[Any, ...]]] = deque()
        self._lock = threading.Lock()  # between the thread and the process's end, never the step path's
        self._seen: tuple[int, ...] = ()
        self._wanted = ""
        self._target = ""
        self._file: File | None = None
        self._is_told = False
        self._cpu_ns = 0
        os.register_at_fork(after_in_child=self._forked)

    def start(self) -> None:
        """Start the writing thread, once in every process (threads do not survive a fork)."""
        self.is_started = True
        Finalize(None, self.end, exitpriority=0)  # atexit is not run in children of multiprocessing
        threading.Thread(target=self._loop, daemon=True, name="lprism-probe").start()

    def put(self, make: Make, *parts: Any) -> None:
        """Take one item: the thread calls `make(*parts)`, in order, and writes the record that it returns."""
        if len(self._queue) < MOST_WAITING:
            self._queue.append((make, parts))
        else:
            self.lost += 1

    def failed(self, error: BaseException) -> None:
        """Count an error of the probe's own."""
        self.errors += 1
        if self.errors == 1:
            _say(f"{error!r} (further errors are only counted)")

    def turn(self) -> None:
        """One round of the thread: look where to write, then write what waits."""
        began = time.thread_time_ns()
        with self._lock:
            try:
                self._follow_target()
                self._drain()
                self._write_clock()
            except Exception as error:  # noqa: BLE001  the probe fails open: never into the server
                self.failed(error)
            self._cpu_ns += time.thread_time_ns() - began

    def end(self) -> None:
        """Write what waits and the file's last line, as the process ends."""
        with self._lock:
            self.on = False
            try:
                self._drain()
                self._close()
            except Exception as error:  # noqa: BLE001  the same
                self.failed(error)

    def _loop(self) -> None:
        while True:
            self.turn()
            time.sleep(FLUSH_S)

    def _forked(self) -> None:
        """In a child: what waits is the parent's to write, and the file is its own."""
        self.on = self.is_started = False
        self._lock = threading.Lock()
        self._queue.clear()
        self._seen, self._wanted, self._target = (), "", ""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _follow_target(self) -> None:
        target = self._read_target()
        if target == self._target:
            return
        self.on = False
        self._drain()
        self._close()
        self._target = target
        self.errors = self.lost = self._cpu_ns = 0  # counted by the run
        self.on = bool(target)

    def _read_target(self) -> str:
        """The folder to write to; the file is read when it is another one than before."""
        try:
            there = os.stat(TARGET)
        except FileNotFoundError:  # no run has begun
            return ""
        seen = (there.st_ino, there.st_mtime_ns, there.st_size)
        if seen != self._seen:
            with open(TARGET, encoding="utf-8") as file:
                self._wanted = file.read().strip()
            self._seen = seen
        return self._wanted

    def _drain(self) -> None:
        lines: list[str] = []
        while self._queue:
            make, parts = self._queue.popleft()
            try:
                record = make(*parts)
                if record is not None and self._target:
                    lines.append(_encode(record))
            except Exception as error:  # noqa: BLE001  the same
                self.failed(error)
            if len(lines) == RECORDS_A_WRITE:
                self._write(lines)
                lines = []
        if lines:
            self._write(lines)

    def _write(self, lines: list[str]) -> None:
        """Write lines of records, after what a file begins with; or lose them."""
        try:
            if self._file is None:
                self._file = File(os.path.join(self._target, f"batches-{os.getpid()}.jsonl"))
                self.look()
            notes = self.notes[self._file.notes :]
            self._file.append([*map(_encode, notes), *lines], len(lines))
            self._file.notes += len(notes)
        except OSError as error:
            self.lost += len(lines)
            self._tell(error)

    def _write_clock(self) -> None:
        if self._file is not None and self._file.is_clock_due():
            try:
                self._file.append([])
            except OSError as error:
                self._tell(error)

    def _close(self) -> None:
        """Write the last lines, on a full disk in the place of the last records, and forget the file."""
        while self._file is not None:
            self._file.clock_due = 0.0
            end = {
                "type": "end", "pid": os.getpid(), "probe_errors": self.errors, "lost_records": self.lost,
                "records": self._file.records, "writer_cpu_ns": self._cpu_ns,
            }  # fmt: skip
            try:
                self._file.append([json.dumps(end)])
            except OSError as error:
                self._tell(error)
                lost = self._file.cut()
                if lost is not None:
                    self.lost += lost
                    continue
            self._file.close()
            self._file, self._is_told = None, False

    def _tell(self, error: OSError) -> None:
        if not self._is_told:
            self._is_told = True
            _say(f"{self._file.path if self._file else self._target}: {error.strerror}: records are lost")


class File:
    """A file of whole lines: what cannot be written to its end is cut off again. Raises OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.records = 0
        self.notes = 0  # how many of the sink's it has
        self.clock_due = 0.0
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        self._size = os.fstat(self._file).st_size
        self._writes: deque[tuple[int, int]] = deque(maxlen=WRITES_KEPT)

    def is_clock_due(self) -> bool:
        """Whether the clock was not told for a while."""
        return time.monotonic() >= self.clock_due

    def append(self, lines: list[str], records: int = 0) -> None:
        """Write lines, after the clock where that is due: all of them or none."""
        is_due = self.is_clock_due()
        data = ("\n".join([_clock_line(), *lines] if is_due else lines) + "\n").encode()
        if os.write(self._file, data) < len(data):
            os.ftruncate(self._file, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if is_due:
            self.clock_due = time.monotonic() + CLOCK_EVERY_S
        self._writes.append((self._size, records))
        self._size += len(data)
        self.records += records

    def cut(self) -> int | None:
        """Cut off what was written last; returns its records, None when no more can be."""
        if not self._writes:
            return None
        self._size, records = self._writes.pop()
        os.ftruncate(self._file, self._size)
        self.records -= records
        return records

    def close(self) -> None:
        """Close it."""
        os.close(self._file)


def clock_pair() -> dict[str, int]:
    """(realtime, monotonic) in ns, the closest of three readings; tasks.host.clock is not in reach here."""
    readings = []
    for _ in range(3):
        before = time.monotonic_ns()
        realtime = time.time_ns()
        after = time.monotonic_ns()
        readings.append((after - before, realtime, (before + after) // 2))
    _, realtime, monotonic = min(readings)
    return {"realtime_ns": realtime, "monotonic_ns": monotonic}


def _clock_line() -> str:
    return json.dumps({"type": "clock", "pid": os.getpid(), **clock_pair()})


def _say(text: str) -> None:
    sys.stderr.write(f"latencyprism probe: {text}\n")
