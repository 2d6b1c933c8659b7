"""Everything a session started on this host, undone: the fault first. Works when nobody is left but the disk.

    python3 -m tasks.host.undo SESSIONS

restores a host: what any ended session left behind is undone, and the host is no longer dirty if that
is proved. It prints {"found": [...], "left": [...]} as JSON. Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from tasks.host import fault, lease, processes, site, state

ORDER = ("load", "sampler", "engine")


def the_fault(folder: Path) -> str | None:
    """End the fault of this session alone; returns what of it is left, and marks the host dirty for it."""
    left = fault.undo(folder)
    if left:
        state.mark_dirty(folder, left)
    return left


def everything(folder: Path) -> list[str]:
    """End all that this session started; what could not be is returned, and stays on record: dirty."""
    left = the_fault(folder)
    failures = [f"fault: {left}"] if left else []
    sessions = state.read_sessions(folder)
    rebooted = _rebooted(folder)
    for name in sorted(sessions, key=lambda known: ORDER.index(known) if known in ORDER else -1):
        session, ticks = sessions[name]
        try:
            if not rebooted and not processes.reused(session, ticks):
                processes.end_session(session)
            state.forget(folder, name)
        except (processes.StillAlive, OSError) as error:  # the others are ended all the same
            failures.append(f"{name}: {error}")
    return list(dict.fromkeys(failures))


def _rebooted(folder: Path) -> bool:
    said = ""
    with contextlib.suppress(OSError):
        said = (folder / "boot").read_text()
    return bool(said) and said != site.boot_id()


def leftovers(sessions: Path) -> list[Path]:
    """Folders of sessions with something on record that was not undone."""
    return sorted(
        folder
        for folder in sessions.iterdir()
        if folder.is_dir() and ((folder / fault.STATE).exists() or state.read_sessions(folder))
    )


def why_dirty(sessions: Path) -> str | None:
    """Why nothing may run here before a restore, in one line; None when the host is clean."""
    path = sessions / state.DIRTY
    if path.exists():
        with contextlib.suppress(OSError, ValueError, KeyError):
            said = json.loads(path.read_text())
            return f"session {said['session']}: {said['why']}"
        return f"{path} says so, and cannot be read"
    for folder in leftovers(sessions):
        if (folder / fault.STATE).exists() or _running(folder):
            return f"session {folder.name} ended without undoing what it began"
    return None


def _running(folder: Path) -> bool:
    if _rebooted(folder):
        return False
    sessions = state.read_sessions(folder).values()
    return any(not processes.reused(*known) and processes.session_members(known[0]) for known in sessions)


def restore(sessions: Path) -> dict[str, Any]:
    """Undo what ended sessions left: {"found": [session: what], "left": [...]}. The caller has the lease."""
    found, left = [], []
    why = why_dirty(sessions)
    if why:
        found.append(why)
    for folder in leftovers(sessions):
        left += [f"{folder.name}: {failure}" for failure in everything(folder)]
    if not left:
        (sessions / state.DIRTY).unlink(missing_ok=True)
    return {"found": found, "left": left}


def main(sessions: Path) -> int:
    """Take the lease, restore, say what was found and what is left."""
    sessions.mkdir(parents=True, exist_ok=True)
    try:
        file, _ = lease.take(sessions)
    except lease.Held as held:
        print(json.dumps({"refused": str(held)}))
        return 0
    with file:
        print(json.dumps(restore(sessions)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
