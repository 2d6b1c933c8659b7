"""What is running for a campaign on this host, on disk before it runs: the undo reads nothing else.

One folder a campaign session: session-<name> (which process sessions exist), boot (which start of the host),
fault.json (site.py), heartbeat, runs. Beside these folders: lease, and `dirty` while an undo is not proved.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

HEARTBEAT_LIMIT_S = 10.0
DIRTY = "dirty"


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


def mark_dirty(folder: Path, why: str) -> None:
    """Note that no fault or cell may run on this host until it was restored; the first reason stands."""
    with contextlib.suppress(OSError):  # on a full disk what is left to undo still says so
        if not (folder.parent / DIRTY).exists():
            write_json(
                folder.parent / DIRTY, {"session": folder.name, "why": why, "since_ns": time.time_ns()}
            )
