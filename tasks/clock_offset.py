"""How far a host's clock is ahead of ours, measured over the link to its supervisor."""

import time
from dataclasses import dataclass

from tasks.remote import Supervisor

ROUND_TRIPS = 10


@dataclass(frozen=True)
class ClockOffset:
    """The host's realtime clock less ours, ns; it is wrong by `uncertainty_ns` at most."""

    offset_ns: int
    uncertainty_ns: int


def measure(supervisor: Supervisor, round_trips: int = ROUND_TRIPS) -> ClockOffset:
    """Ask the host for its time some times, and take the quickest answer: it was given half-way or so.

    Raises HostError.
    """
    found = [_once(supervisor) for _ in range(round_trips)]
    return min(found, key=lambda one: one.uncertainty_ns)


def _once(supervisor: Supervisor) -> ClockOffset:
    asked_ns, began = time.time_ns(), time.monotonic_ns()
    theirs_ns = int(supervisor.ask("mark")["epoch_ns"])
    half_ns = (time.monotonic_ns() - began + 1) // 2
    return ClockOffset(theirs_ns - (asked_ns + half_ns), half_ns)
