"""A fault on a host, as the orchestrator sees it: checked, measured, applied, reverted, judged.

All of it happens on the host, under the supervisor (`tasks/host/fault.py`); here is only the asking.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.remote import HostError, LinkError, Supervisor
from tasks.settings import LprismError

POLL_S = 0.05
PART_S = 60.0  # the longest that a check, a measure or an apply may take: torch starts slowly
TRIES, PAUSE_S = 6, 0.5  # of the measure after the undo, each pause longer: other tenants come and go
WINDOWS = ("before", "during", "after")


class InjectionFailed(LprismError):
    """The fault had not the effect that it claims, or ended before its time."""


class UndoFailed(LprismError):
    """A fault's undo is not proved: nothing more may run on that host."""


@dataclass
class Fault:
    """One fault on one host; `effect` becomes the manifest's, as `tasks.traces.manifest.Effect` has it."""

    supervisor: Supervisor
    anomaly: str
    strength: Mapping[str, Any]
    effect: dict[str, Any] = field(default_factory=lambda: {"proved": False, "undone": False})
    on: bool = False

    def plan(
        self, *, cpus: Sequence[int], seconds: float, log: str, gpus: Sequence[int] = (),
        python: str | None = None, target: int | None = None,
    ) -> None:  # fmt: skip
        """Say what the fault is to be, and have the host look whether it can be. Raises HostError."""
        self.strength = self.supervisor.ask(
            "fault_plan", anomaly=self.anomaly, strength=dict(self.strength), cpus=list(cpus),
            seconds=seconds, log=log, gpus=list(gpus), python=python, target=target,
        )  # fmt: skip
        self.effect.update(self._done("check"))

    def measure(self, when: str) -> float:
        """Measure the victim `before`, `during` or `after`. Raises HostError."""
        self.effect[when] = float(self._done("measure"))
        return float(self.effect[when])

    def apply(self) -> None:
        """Cause it; on return it acts. Raises HostError."""
        self.on = True
        held = self._done("hold")
        self.effect.update({"detail": held["detail"], "applied_ns": held["applied_ns"]})

    def check_on(self) -> None:
        """Raise InjectionFailed when the fault has ended by itself."""
        why = self.supervisor.ask("fault_ended")
        if self.on and why:
            raise InjectionFailed(f"{self.anomaly} ended before its time: {why}")

    def revert(self) -> None:
        """Undo it. Raises UndoFailed (the host has marked itself dirty) or LinkError (it undoes it alone)."""
        try:
            self.supervisor.ask("fault_revert")
        except LinkError:
            raise  # the host undoes it by itself, and says at the next visit if it could not
        except HostError as error:
            raise UndoFailed(f"{self.anomaly} could not be undone: {error}") from error
        self.on = False

    def judge(self) -> None:
        """Measure until the effect is seen to be gone, then say what is proved.

        Raises UndoFailed when the victim does not recover (the host is dirty then), and InjectionFailed
        when the fault had no effect.
        """
        for number in range(TRIES):
            time.sleep(number * PAUSE_S)
            self.measure("after")
            measures = {when: self.effect[when] for when in WINDOWS}
            self.effect.update(self.supervisor.ask("fault_judge", **measures))
            if self.effect["undone"]:
                break
        shown = ", ".join(f"{when} {value:.4g}" for when, value in measures.items())
        shown = f"{self.effect['metric']} {shown} {self.effect['unit']}"
        if not self.effect["undone"]:
            why = f"the undo of {self.anomaly} is not proved ({shown})"
            self.supervisor.ask("mark_dirty", why=why)
            raise UndoFailed(f"{why}: the host is dirty; lprism restore proves it clean")
        if not self.effect["proved"]:
            raise InjectionFailed(f"injection_failed: no effect was seen ({shown})")

    def _done(self, what: str) -> Any:  # noqa: ANN401  JSON
        self.supervisor.ask("fault_start", what=what)
        end = time.monotonic() + PART_S
        while time.monotonic() < end:
            said = self.supervisor.ask("fault_said", what=what)
            if said is not None:
                return said["value"]
            time.sleep(POLL_S)
        raise HostError(
            f"{self.supervisor.name}: {self.anomaly}: its {what} did not end within {PART_S:.0f} s; "
            f"its log: {self.supervisor.folder}/fault.log"
        )
