"""What is running for a campaign on this host, on disk before it runs: the undo reads nothing else.

One folder a campaign session: session-<name> (which process sessions exist), heartbeat, runs.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from tasks.host import processes

if TYPE_CHECKING:
    from pathlib import Path

HEARTBEAT_LIMIT_S = 10.0
UNDO_ORDER = ("fault", "load", "sampler", "engine")  # the fault first, whatever else goes wrong


def write_json(path: Path, value: Any) -> None:
    """Replace the file as a whole: a reader sees the old or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value))
    os.replace(draft, path)


def record_of(folder: Path, name: str) -> Path:
    """The file that says which process session has this name: "<session id> <start ticks of its leader>"."""
    return folder / f"session-{name}"


def read_sessions(folder: Path) -> dict[str, tuple[int, int]]:
    """{name: (session id, start ticks of its leader)} of what was started and not stopped."""
    found = {}
    for path in folder.glob("session-*"):
        words: list[str] = []
        with contextlib.suppress(OSError):  # gone: supervisor and watchdog may both be at it
            words = path.read_text().split()
        if len(words) == len(("session", "ticks")):  # else the child died before it became the program
            found[path.name.partition("-")[2]] = (int(words[0]), int(words[1]))
    return found


def forget(folder: Path, name: str) -> None:
    """Note that nothing of it is left. Works on a full disk."""
    record_of(folder, name).unlink(missing_ok=True)


def beat(folder: Path) -> None:
    """Say that the orchestrator was heard from just now; on a full disk the last word stands."""
    with contextlib.suppress(OSError):
        write_json(folder / "heartbeat", time.monotonic())


def silent_for_s(folder: Path) -> float:
    """Seconds since the orchestrator was last heard from."""
    try:
        last: float = json.loads((folder / "heartbeat").read_text())
    except (OSError, ValueError):
        return float("inf")
    return time.monotonic() - last


def undo(folder: Path) -> list[str]:
    """End everything this campaign session started, the fault first; returns what could not be ended."""
    failures = []
    sessions = read_sessions(folder)
    for name in sorted(sessions, key=lambda known: UNDO_ORDER.index(known) if known in UNDO_ORDER else 9):
        session, ticks = sessions[name]
        try:
            if not _reused(session, ticks):
                processes.end_session(session)
            forget(folder, name)
        except (processes.StillAlive, OSError) as error:  # the others are ended all the same
            failures.append(f"{name}: {error}")
    return failures


def _reused(session: int, ticks: int) -> bool:
    """Whether the leader's pid now belongs to another process (ours ended long ago)."""
    now = processes.start_ticks(session)
    return now is not None and now != ticks
