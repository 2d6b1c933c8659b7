"""What is running for a campaign on this host, on disk before it runs: the undo reads nothing else.

One folder per campaign session: state.json (which process sessions exist), heartbeat, lease.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

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


def read_sessions(folder: Path) -> dict[str, dict[str, int]]:
    """{name: {"session": id, "ticks": start time of its leader}} of what was started and not stopped."""
    path = folder / "state.json"
    if not path.exists():
        return {}
    value: dict[str, dict[str, int]] = json.loads(path.read_text())
    return value


def remember(folder: Path, name: str, pid: int) -> None:
    """Note a process session that has just been started."""
    sessions = read_sessions(folder)
    sessions[name] = {"session": pid, "ticks": processes.start_ticks(pid) or 0}
    write_json(folder / "state.json", sessions)


def forget(folder: Path, name: str) -> None:
    """Note that nothing of it is left."""
    sessions = read_sessions(folder)
    sessions.pop(name, None)
    write_json(folder / "state.json", sessions)


def beat(folder: Path) -> None:
    """Say that the orchestrator was heard from just now."""
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
        try:
            if not _reused(sessions[name]):
                processes.end_session(sessions[name]["session"])
            forget(folder, name)
        except processes.StillAlive as error:
            failures.append(f"{name}: {error}")
    return failures


def _reused(known: dict[str, int]) -> bool:
    """Whether the leader's pid now belongs to another process (ours ended long ago)."""
    ticks = processes.start_ticks(known["session"])
    return ticks is not None and ticks != known["ticks"]
