"""The second process of the supervisor: undoes everything when the first one dies or goes silent.

    python3 -m tasks.host.watchdog FOLDER SUPERVISOR_PID

Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path

from tasks.host import fault, processes, state, undo

LOOK_EVERY_S = 0.5
PATIENCE = 6  # looks at a forsaken fault before we undo it: the supervisor's turn comes first


def main(folder: Path, supervisor: int) -> int:
    """Watch until the supervisor has closed the session itself, or undo in its place."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # only the end of the session ends the watch
    ticks = processes.start_ticks(supervisor)
    forsaken = 0
    while not (folder / "closed").exists():
        alive = ticks is not None and processes.alive(supervisor, ticks)
        silent = state.silent_for_s(folder) > state.HEARTBEAT_LIMIT_S + 2.0  # the others' turn comes first
        forsaken = forsaken + 1 if fault.forsaken(folder) else 0
        if forsaken > PATIENCE:
            undo.the_fault(folder)
        if not alive or silent:
            failures = undo.everything(folder)
            with contextlib.suppress(OSError):  # a full disk does not end the watch
                state.write_json(
                    folder / "undone_by_watchdog", {"supervisor_alive": alive, "failures": failures}
                )
            if not alive:
                return 1 if failures else 0
        time.sleep(LOOK_EVERY_S)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), int(sys.argv[2])))
