"""The life of one fault on this host: checked, saved, applied, held, reverted, and seen to be gone.

    python3 -m tasks.host.fault FOLDER check | measure | hold

`hold` is the fault's own process. It reverts at the deadline, when it is told to end, when a program of
the fault ends, after 10 s without a heartbeat, and when the supervisor or its watchdog has died; each of
those reverts when this process dies. All of them call `undo`, which needs nothing but what is on disk.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tasks.host import processes, state
from tasks.host.site import PROGRAM, Site, Trouble, read, write

PLAN, STATE = "fault-plan.json", "fault.json"  # what is to be done; what has to be undone
HOLDER = "fault"
LOOK_EVERY_S = 0.2
OVERDUE_S = 3.0  # how long the holder may take to end a fault at its deadline before others do
REVERT_S = 6.0  # and when it is told to
TRIES = 3


def injector(anomaly: str) -> Any:
    """The module of an anomaly. Raises Trouble when there is none."""
    if not anomaly.replace("_", "").isalnum():
        raise Trouble(f"{anomaly!r} is no anomaly")
    try:
        return importlib.import_module(f"injectors.{anomaly}")
    except ImportError as error:
        raise Trouble(f"there is no anomaly {anomaly!r}") from error


def planned(folder: Path) -> Site:
    """The fault that was asked for last. Raises Trouble when none was."""
    site = read(folder / PLAN)
    if site is None:
        raise Trouble("no fault was asked for")
    return site


def check(site: Site) -> dict[str, Any]:
    """Raise Trouble naming what this host lacks for the fault; else {"metric", "unit"} of its effect."""
    module = injector(site.anomaly)
    missing = module.requirements(site)
    if missing:
        raise Trouble(missing)
    return {"metric": module.METRIC, "unit": module.UNIT}


def measure(site: Site) -> float:
    """The victim's measure now."""
    return float(injector(site.anomaly).probe(site))


def hold(site: Site) -> str:
    """Apply, hold, and revert; returns why it ended. The caller has blocked the signals that end us."""
    module, folder = injector(site.anomaly), Path(site.folder)
    site.saved = module.saved(site)
    write(site, folder / STATE)
    why = "could not be applied"
    try:
        detail = module.apply(site)
        site.saved = {**site.saved, "applied_monotonic_s": time.monotonic()}
        write(site, folder / STATE)
        state.write_json(
            folder / "fault-hold.json", {"value": {"detail": detail, "applied_ns": time.time_ns()}}
        )
        why = _until_the_end(site)
    finally:
        with contextlib.suppress(OSError):
            state.write_json(folder / "fault-ended", why)
        _revert(site)
    return why


def _until_the_end(site: Site) -> str:
    end = time.monotonic() + site.seconds
    had_programs = bool(site.programs())
    while time.monotonic() < end:
        told = signal.sigtimedwait((signal.SIGTERM, signal.SIGHUP, signal.SIGINT), LOOK_EVERY_S)
        if told is not None:
            return f"told to end ({signal.Signals(told.si_signo).name})"
        if not all(processes.alive(pid, ticks) for pid, ticks in site.guards):
            return "the supervisor or its watchdog died"
        if state.silent_for_s(Path(site.folder)) > state.HEARTBEAT_LIMIT_S:
            return "no heartbeat"
        if had_programs and not site.programs():
            return "its program ended by itself"
    return "its deadline came"


def _revert(site: Site) -> None:
    """Revert and see that it is gone; then nothing is left to undo. Raises Trouble."""
    module = injector(site.anomaly)
    left = "nothing was tried"
    for _ in range(TRIES):
        try:
            module.revert(site)
            left = module.left(site)
        except (OSError, ValueError, KeyError, processes.StillAlive, Trouble) as error:
            left = f"{type(error).__name__}: {error}"
        if not left:
            (Path(site.folder) / STATE).unlink(missing_ok=True)
            return
        time.sleep(LOOK_EVERY_S)
    raise Trouble(f"{site.anomaly} is not undone: {left}")


def undo(folder: Path) -> str | None:
    """End the fault of this session, whoever began it and whatever of it is left; returns what remains."""
    try:
        site = read(folder / STATE)
        _end_holder(folder, rebooted=bool(site and site.rebooted))
        site = read(folder / STATE)  # the holder has reverted, if it could
        if site is not None:
            _revert(site)
    except (Trouble, processes.StillAlive, OSError) as error:
        return str(error)
    for name in (HOLDER, PROGRAM):
        state.forget(folder, name)
    return None


def _end_holder(folder: Path, *, rebooted: bool) -> None:
    sessions = state.read_sessions(folder)
    if HOLDER in sessions and not rebooted:
        session, ticks = sessions[HOLDER]
        if session != os.getpid() and not processes.reused(session, ticks):
            processes.end_session(session, REVERT_S)


def forsaken(folder: Path) -> str | None:
    """Why somebody else must undo the fault now: its process is gone or stuck; None while all is well."""
    try:
        site = read(folder / STATE)
    except Trouble as error:
        return str(error)
    if site is None:
        return None
    known = state.read_sessions(folder).get(HOLDER)
    if known is None or not processes.alive(*known):
        return "the fault's process died"
    applied = site.saved.get("applied_monotonic_s")
    if applied is not None and time.monotonic() > applied + site.seconds + OVERDUE_S:
        return "the fault did not end at its deadline"
    return None


def main(folder: Path, what: str) -> int:
    """Do one part and write what came of it to FOLDER/fault-WHAT.json."""
    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # `hold` waits for them, and no undo is interrupted
    try:
        site = planned(folder)
        if what == "hold":
            hold(site)
            return 0
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        said: dict[str, Any] = {"value": check(site) if what == "check" else measure(site)}
    except (Trouble, OSError, ValueError) as error:
        said = {"refused": str(error)}
    state.write_json(folder / f"fault-{what}.json", said)
    return 1 if "refused" in said else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2]))
