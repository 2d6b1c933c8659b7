"""Where a fault acts: all that an injector knows, kept on the host's disk for whoever has to undo it.

Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tasks.host import facts, processes, readings, state

PROGRAM = "fault-program"  # the name on record of what an injector lets run
PROGRAM_START_S = 30.0  # torch on a cold disk takes most of it
SHORT_S = 8.0


class Trouble(Exception):
    """Something on this host stands in the way; the text goes to the user as it is."""


def boot_id() -> str:
    """Which start of this host it is."""
    return readings.text("/proc/sys/kernel/random/boot_id").strip()


@dataclasses.dataclass
class Site:
    """One fault on this host. `saved` is what revert needs: it is on disk before apply changes anything."""

    anomaly: str
    strength: dict[str, Any]  # complete: defaults are filled in
    folder: str  # of the campaign's session on this host
    log: str  # what programs print
    cpus: list[int]  # the server's CPUs
    seconds: float  # the fault ends by itself after so long
    target: int | None = None  # process session of the server
    gpus: list[int] = dataclasses.field(default_factory=list)
    python: str | None = None  # the serving engine's interpreter: it has torch
    peer: str | None = None  # address of whoever is logged in over SSH: never cut off
    saved: dict[str, Any] = dataclasses.field(default_factory=dict)
    boot_id: str = dataclasses.field(default_factory=boot_id)
    guards: list[tuple[int, int]] = dataclasses.field(default_factory=list)  # (pid, start ticks)

    @property
    def work(self) -> Path:
        """The folder of this fault's own files."""
        folder = Path(self.folder) / "fault"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def rebooted(self) -> bool:
        """Whether this is a fault of before the host's last start."""
        return self.boot_id != boot_id()

    @property
    def cpus_beside(self) -> list[int]:
        """CPUs for what shall not press on the server's: those, where there are no others."""
        return sorted(set(facts.usable_cpus()) - set(self.cpus)) or self.cpus

    def spawn(self, argv: list[str], cpus: list[int] | None = None, env: dict[str, str] | None = None) -> Any:
        """Start a program on `cpus` (default: the server's) and return the JSON of the first line it prints.

        Raises Trouble when it ends or is silent for PROGRAM_START_S.
        """
        log = Path(self.log)
        before = log.stat().st_size if log.exists() else 0
        record = state.record_of(Path(self.folder), PROGRAM)
        try:
            child = processes.start(
                argv,
                log,
                record,
                cpus or self.cpus,
                {**(env or {}), "LPRISM_SESSION": self.folder},
                Path(self.folder),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Trouble(f"cannot start {argv[0]}: {error}") from error
        end = time.monotonic() + PROGRAM_START_S
        while time.monotonic() < end:
            with log.open("rb") as file:
                file.seek(before)
                said = file.read()
            if b"\n" in said:
                return json.loads(said.splitlines()[0])
            if child.poll() is not None:
                break
            time.sleep(0.02)
        raise Trouble(
            f"{Path(argv[0]).name} did not start; it said: {said[-300:].decode(errors='replace')!r}"
        )

    def programs(self) -> set[int]:
        """Pids of the fault's programs that are still there."""
        sessions = state.read_sessions(Path(self.folder))
        if PROGRAM not in sessions or self.rebooted:
            return set()
        session, ticks = sessions[PROGRAM]
        return set() if processes.reused(session, ticks) else processes.session_members(session)

    def end_programs(self) -> None:
        """End them all. Raises processes.StillAlive."""
        if self.programs():
            processes.end_session(state.read_sessions(Path(self.folder))[PROGRAM][0])
        state.forget(Path(self.folder), PROGRAM)

    def run(self, argv: list[str], seconds: float = SHORT_S, cpus: list[int] | None = None) -> str:
        """Run a command to its end on `cpus` (default: the server's); what it printed. Raises Trouble."""

        def bind() -> None:
            os.sched_setaffinity(0, cpus or self.cpus)

        try:
            ended = subprocess.run(
                argv, capture_output=True, text=True, timeout=seconds, check=False, preexec_fn=bind
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Trouble(f"{argv[0]}: {error}") from error
        if ended.returncode != 0:
            said = (ended.stderr or ended.stdout).strip()[-400:]
            raise Trouble(f"{Path(argv[0]).name} exited with {ended.returncode}: {said}")
        return ended.stdout


def write(site: Site, path: Path) -> None:
    """Put it on disk as a whole, and wait until it is there: a power cut must not lose what to undo."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w") as file:
        json.dump(dataclasses.asdict(site), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def read(path: Path) -> Site | None:
    """What is on disk; None when nothing is. Raises Trouble when it cannot be read."""
    try:
        return Site(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise Trouble(f"{path} cannot be read: {error}") from error
