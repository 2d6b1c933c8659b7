"""Who runs on the host: the engine's processes, and the busiest of all others.

A process costs one reading when it is first seen, and then a call of its CPU clock a second: no file is
opened for it. Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from tasks.host import readings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.host.readings import Files

PARENT, SESSION, BORN, LAST_CPU = 1, 3, 19, 36  # fields of /proc/PID/stat, counted from the state
ENDED = (b"", b"Z", b"X")  # the state of what has ended, or waits for its parent to see it
CPU_CLOCK = 2  # of a process, all its threads together: CPUCLOCK_SCHED of the kernel
NEIGHBOURS = 3
CANDIDATES = 4 * NEIGHBOURS
MOST_THREADS = 64  # looked at in one process

Value = tuple[str, str, Optional[int], Optional[str], float]  # counter, device, pid, process name, value


def used_ns(pid: int) -> int | None:
    """CPU time of a process, its ended threads included; None when it has gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | CPU_CLOCK)
    except OSError:
        return None


@dataclass
class Person:
    """A process: who it is (`born` in clock ticks since boot), and whether it is the engine's."""

    name: str
    parent: int
    session: int
    born: int
    ours: bool


class Census:
    """Every process of the host. The engine's are those of its session and all that descend from them.

    What was once found stays the engine's, also when it leaves the session and its parent ends. With a
    negative session nobody knows which they are, and nobody is said to be another.
    """

    def __init__(self, files: Files, session: int, cpus: list[int]) -> None:
        self.files = files
        self.near = readings.Files(files.root)  # the threads of those that press on the engine
        self.session = session
        self.cpus = set(cpus)
        self.people: dict[int, Person] = {}
        self.candidates: set[int] = set()

    def take(self) -> dict[int, int]:
        """Look who is there; {pid: CPU time in ns} of all that are not the engine's."""
        there = {int(entry) for entry in self.files.names("/proc") if entry.isdigit()}
        for pid in [pid for pid in self.people if pid not in there or self._replaced(pid)]:
            del self.people[pid]
        fresh = {pid: one for pid in there - self.people.keys() if (one := self._met(pid))}
        self.people.update(fresh)
        while self._adopt(fresh):
            pass
        others = ((pid, used_ns(pid)) for pid, one in self.people.items() if not one.ours)
        return {pid: used for pid, used in others if used is not None}

    def ours(self) -> list[int]:
        """The engine's processes."""
        return sorted(pid for pid, one in self.people.items() if one.ours)

    def neighbours(self, old: dict[int, int], new: dict[int, int], seconds: float) -> Iterator[Value]:
        """The busiest of the others that were last on one of the engine's CPUs."""
        use = {pid: now - old.get(pid, 0) for pid, now in new.items()} if self.session >= 0 else {}
        use.pop(os.getpid(), None)
        busiest = sorted((pid for pid in use if use[pid] > 0), key=lambda pid: -use[pid])[:CANDIDATES]
        named = 0
        for pid in busiest:
            if named < NEIGHBOURS and self._near(pid):
                named += 1
                name = self.people[pid].name
                yield "other_process_cpu_usage", "Host", pid, name, use[pid] / 1e7 / seconds
                age = self._avx512_age_ms(pid)
                if age is not None:
                    yield "other_process_avx512_age", "Host", pid, name, age
        for pid in self.candidates - set(busiest):
            self.near.close(f"/proc/{pid}/")
        self.candidates = set(busiest)

    def _replaced(self, pid: int) -> bool:
        """Whether a process of the engine has ended; the file stays its own when another gets the pid."""
        if not self.people[pid].ours:
            return False
        return _state(self.files.read(f"/proc/{pid}/stat")) in ENDED

    def _met(self, pid: int) -> Person | None:
        stat = readings.stat_of(self.files.once(f"/proc/{pid}/stat"))
        if stat is None or stat[1][0] in ENDED:
            return None
        name, fields = stat
        session = int(fields[SESSION])
        return Person(name, int(fields[PARENT]), session, int(fields[BORN]), session == self.session)

    def _adopt(self, fresh: dict[int, Person]) -> bool:
        """Make the children of the engine's the engine's; whether there was any."""
        found = [
            one for one in fresh.values() if not one.ours and (p := self.people.get(one.parent)) and p.ours
        ]
        for one in found:
            one.ours = True
        return bool(found)

    def _near(self, pid: int) -> bool:
        """Whether it is still who it was, no part of the engine, and a thread was last on the engine's CPUs.

        Its name is read again: it may have become another program since.
        """
        now, was = self._met(pid), self.people[pid]
        if now is None or now.born != was.born or now.ours:
            self.people.pop(pid)
            return False
        was.name = now.name
        return any(self._was_on(pid, thread) for thread in self._threads(pid))

    def _was_on(self, pid: int, thread: str) -> bool:
        try:
            if self.cpus.isdisjoint(os.sched_getaffinity(int(thread))):
                return False
        except OSError:
            return False
        stat = readings.stat_of(self.near.read(f"/proc/{pid}/task/{thread}/stat"))
        return stat is not None and int(stat[1][LAST_CPU]) in self.cpus

    def _avx512_age_ms(self, pid: int) -> int | None:
        """Ms since a thread held AVX-512 state; -1 never; None where the kernel does not say."""
        ages = []
        for thread in self._threads(pid):
            said = self.near.read(f"/proc/{pid}/task/{thread}/arch_status")
            age = said.partition(b"AVX512_elapsed_ms:")[2].strip()
            if age.lstrip(b"-").isdigit():
                ages.append(int(age))
        used = [age for age in ages if age >= 0]
        return min(used) if used else (-1 if ages else None)

    def _threads(self, pid: int) -> list[str]:
        return self.near.names(f"/proc/{pid}/task")[:MOST_THREADS]


def _state(said: bytes) -> bytes:
    """The state in /proc/PID/stat; nothing where the process has gone."""
    return said.rpartition(b")")[2][1:2]
