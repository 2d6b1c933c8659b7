"""The lease on this host: one campaign has it at a time, by name and until a stated moment.

    python3 -m tasks.host.lease SESSIONS          prints who has it now, as JSON; null when nobody has

The kernel's lock on the file `lease` decides; supervisor and watchdog hold it. `holder.json` beside it says
who they are, what they do, and until when: a supervisor that is alive says so again every 2 s. One that hangs
past that moment is ended by the next campaign that asks, which undoes what it left.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

from tasks.host import processes, state

LEASE = "lease"
HOLDER = "holder.json"
EXPIRES_S = 60.0  # after the last word of the supervisor; its longest undo takes less
ENDED_S = 5.0


class Held(Exception):
    """Somebody else has this host; `holder` says who, as far as it is known."""

    def __init__(self, holder: dict[str, Any]) -> None:
        super().__init__(f"another campaign has this host: {told(holder)}")
        self.holder = holder


def take(sessions: Path) -> tuple[IO[str], str | None]:
    """Take the lease: its open file, and the session it was taken from because its time was up.

    That session's supervisor and watchdog are ended; what it began is for the caller to undo. Raises Held.
    """
    file = (sessions / LEASE).open("a+")
    if _locked(file):
        return file, None
    holder = read(sessions)
    if now(sessions) and holder["expires_mono_s"] < time.monotonic():
        _end(holder)
        end = time.monotonic() + ENDED_S
        while time.monotonic() < end:
            if _locked(file):
                return file, str(holder["session"])
            time.sleep(processes.POLL_S)
    file.close()
    raise Held(holder)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _end(holder: dict[str, Any]) -> None:
    for pid, ticks in holder.get("guards", []):
        if processes.alive(pid, ticks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def write(folder: Path, holder: dict[str, Any]) -> None:
    """Say who has the lease from now on, for EXPIRES_S; on a full disk the last word stands."""
    now = {
        "expires_ns": time.time_ns() + int(EXPIRES_S * 1e9),
        "expires_mono_s": time.monotonic() + EXPIRES_S,
    }
    with contextlib.suppress(OSError):
        state.write_json(folder.parent / HOLDER, {**holder, **now})


def give_back(file: IO[str], sessions: Path) -> None:
    """Leave the host to whoever comes; the watchdog, which has the same open file, lets go of it with us."""
    with contextlib.suppress(FileNotFoundError):
        (sessions / HOLDER).unlink()
    fcntl.flock(file, fcntl.LOCK_UN)


def read(sessions: Path) -> dict[str, Any]:
    """The last holder's words; empty when there are none."""
    try:
        said: dict[str, Any] = json.loads((sessions / HOLDER).read_text())
    except (OSError, ValueError):
        said = {}
    return said


def now(sessions: Path) -> dict[str, Any] | None:
    """Who has this host now; None when nobody has. Takes nothing, so that nobody is refused for it."""
    holder = read(sessions)
    return holder if any(processes.alive(*guard) for guard in holder.get("guards", [])) else None


def told(holder: dict[str, Any]) -> str:
    """The holder in words."""
    if not holder:
        return "it has not said who it is"
    since = time.strftime("%F %T", time.gmtime(holder["since_ns"] / 1e9))
    owner = f" of {holder['owner']}" if holder.get("owner") else ""
    words = f"{holder['session']}, supervisor pid {holder['guards'][0][0]}{owner}, since {since} UTC"
    late_s = time.monotonic() - holder["expires_mono_s"]
    return f"{words}; it hangs since {late_s:.0f} s" if late_s > 0 else words


if __name__ == "__main__":
    print(json.dumps(now(Path(sys.argv[1]))))
