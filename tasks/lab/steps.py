"""The steps of an installation: each a bounded subprocess, shown while it runs, all it says in a log."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.settings import LprismError

_LAST_LINES = 20
_POLL_S = 0.2
_STOP_GRACE_S = 10.0
# They would make the new environment's interpreter look elsewhere than into it.
_MISLEADING = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Step:
    """Where a piece of work is: step `number` of `total`, running for `elapsed_s`."""

    number: int
    total: int
    title: str
    elapsed_s: float
    done: bool


Progress = Callable[[Step], None]


def print_progress(step: Step) -> None:
    """Show a step on standard error: one line rewritten on a terminal, else one line when it is done."""
    line = f"[{step.number}/{step.total}] {step.title}  {step.elapsed_s:.0f} s"
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if step.done else ""))
    elif step.done:
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Runner:
    """Runs one step after the other; whatever ends the installer ends the running step with it.

    Every step inherits the descriptor `lock`, so that a lock on it lasts as long as the last process that
    works under it, also after a kill -9 of this one.
    """

    def __init__(self, log: Path, lock: int, progress: Progress, total: int) -> None:
        """Report to `progress`; append to `log`, whose folder must be there once the first step runs."""
        self._log = log
        self._lock = lock
        self._progress = progress
        self._total = total
        self._number = 0

    def run(self, title: str, command: list[str], *, timeout_s: float, cwd: Path) -> None:
        """Run one step to its end.

        Raises:
            LprismError: it cannot be started, fails, or takes longer than `timeout_s`; with its last lines.
        """
        self._number += 1
        started = time.monotonic()
        with self._log.open("ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            begin = log.tell()
            process = self._start(title, command, log.fileno(), cwd)
            try:
                code = self._wait(process, title, started, timeout_s)
            finally:
                _end(process)
        if code != 0:
            raise LprismError(self._failure(title, code, timeout_s, begin))
        self._report(title, started, done=True)

    def _start(self, title: str, command: list[str], log: int, cwd: Path) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # a step that must not outlive us watches it for its end
                stdout=log,
                stderr=log,
                cwd=cwd,
                env=environment,
                pass_fds=[self._lock],
                start_new_session=True,  # a group of its own, to be ended as a whole
            )
        except OSError as error:
            raise LprismError(f"cannot {title}: {command[0]}: {error.strerror}") from error

    def _wait(
        self, process: subprocess.Popen[bytes], title: str, started: float, timeout_s: float
    ) -> int | None:
        """Wait for the exit code; None when the time is up."""
        while time.monotonic() - started < timeout_s:
            self._report(title, started, done=False)
            try:
                return process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                continue
        return None

    def _report(self, title: str, started: float, *, done: bool) -> None:
        self._progress(Step(self._number, self._total, title, time.monotonic() - started, done))

    def _failure(self, title: str, code: int | None, timeout_s: float, begin: int) -> str:
        with self._log.open("rb") as log:
            log.seek(begin)
            last = deque((line.decode(errors="replace").rstrip() for line in log), maxlen=_LAST_LINES)
        how = f"not done after {timeout_s:.0f} s" if code is None else f"exit code {code}"
        return "\n".join([f"cannot {title}: {how}; all of it is in {self._log}; it ended with:", *last])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a step: its own way first, then by force."""
    if process.stdin:
        process.stdin.close()
    if process.poll() is not None:
        return
    _signal(process, signal.SIGTERM)
    try:
        process.wait(_STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait(_STOP_GRACE_S)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
