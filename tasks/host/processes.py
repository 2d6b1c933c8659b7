"""Processes on the host: start them in a session of their own, find all of a session, end all of it.

A session id is inherited by every descendant that does not ask for another, so "the server and all
its workers" is everything with one session id, also after the leader has gone.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_S = 0.05


class StillAlive(Exception):
    """Processes survived SIGKILL for as long as we were willing to wait."""


def start(
    argv: list[str],
    log: Path,
    record: Path,
    cpus: list[int] | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    keep: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start argv in a new session with stdout and stderr in `log`, bound to `cpus`.

    The child writes its session into `record` before it becomes argv: whatever happens to us, it is on
    record. `keep` are descriptors that it inherits. Raises OSError or subprocess.SubprocessError.
    """

    def become() -> None:
        pid = os.getpid()
        record.write_text(f"{pid} {start_ticks(pid)}")
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if cpus:
            os.sched_setaffinity(0, cpus)

    with log.open("ab") as out:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=cwd,
            env={**os.environ, **(env or {})}, start_new_session=True, preexec_fn=become, pass_fds=keep,
        )  # fmt: skip


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let the signals that end us wait until the block is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def session_members(session: int) -> set[int]:
    """Pids of a session that are not zombies."""
    members = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            fields = stat_fields(int(entry.name))
            if fields and int(fields[3]) == session and fields[0] not in ("Z", "X"):
                members.add(int(entry.name))
    return members


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: [state, ppid, pgrp, session, ...]; None if gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with the pid, its identity."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def alive(pid: int, ticks: int | None) -> bool:
    """Whether the process that started at `ticks` still runs: it is no zombie, and its pid not another's."""
    fields = stat_fields(pid)
    return fields is not None and int(fields[19]) == ticks and fields[0] not in ("Z", "X")


def reused(session: int, ticks: int) -> bool:
    """Whether the leader's pid now belongs to another process (the session ended long ago)."""
    now = start_ticks(session)
    return now is not None and now != ticks


def end_session(session: int, grace_s: float = 3.0) -> None:
    """SIGTERM everything in the session, SIGKILL what is left after grace_s; raises StillAlive."""
    for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 3.0)):
        end = time.monotonic() + seconds
        told: set[int] = set()
        while time.monotonic() < end:
            members = session_members(session)
            if not members:
                return
            for pid in members - told:
                _signal(pid, number)
            told |= members
            time.sleep(POLL_S)
    left = session_members(session)
    if left:
        raise StillAlive(f"pids {sorted(left)} are still alive after SIGKILL")


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
