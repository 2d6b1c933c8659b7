"""What the engine's processes use, as counters: CPU, the wait for it, memory, and their control group.

Standard library only (Python >= 3.9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.host import readings
from tasks.host.census import Value, used_ns
from tasks.host.cgroup import Cgroup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.host.readings import Files

BUSY_SHARE = 0.95  # of what all threads ran and waited: those that have it are read at every sample
BUSY_THREADS = 32
AT_ONCE = 256  # of the other threads


class Waits:
    """How long threads waited for a CPU: each wait counts once.

    Reading every thread at every sample would be most of the sampler's cost. The busy ones are read each
    time, the others when samples are told, about once a second: what they waited is spread over those.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self.threads: dict[str, tuple[int, int]] = {}  # file: (ns on a CPU, ns waiting) as last read
        self.weights: dict[str, int] = {}  # file: ns that it ran and waited since samples were told
        self.busy: list[str] = []
        self.turn: list[str] = []

    def find(self, pids: list[int]) -> None:
        """Look which threads there are; the wait of a new one counts from now."""
        there = {
            f"/proc/{pid}/task/{thread}/schedstat"
            for pid in pids
            for thread in self.files.names(f"/proc/{pid}/task")
        }
        for path in self.threads.keys() - there:
            self.files.close(path)
            del self.threads[path]
        for path in there - self.threads.keys():
            self._count(path, self.files.read(path, 64))

    def read(self) -> list[tuple[str, bytes]]:
        """What the kernel says of the busy ones, for `count`."""
        return [(path, self.files.read(path, 64)) for path in self.busy]

    def count(self, said: list[tuple[str, bytes]]) -> int:
        """Ns that they waited since each was last read."""
        return sum(self._count(*one) for one in said)

    def others(self) -> int:
        """Ns that the others waited since each was last read; finds out anew who is busy."""
        if not self.turn:
            self.turn = [path for path in self.threads if path not in self.busy]
        due, self.turn = self.turn[:AT_ONCE], self.turn[AT_ONCE:]
        waited = self.count([(path, self.files.read(path, 64)) for path in due])
        left = BUSY_SHARE * sum(self.weights.values())
        self.busy = []
        for path in sorted(self.weights, key=lambda path: -self.weights[path])[:BUSY_THREADS]:
            if left > 0:
                self.busy.append(path)
                left -= self.weights[path]
        self.weights = {}
        return waited

    def _count(self, path: str, said: bytes) -> int:
        fields = said.split()
        if not fields:
            self.threads.pop(path, None)
            return 0
        now = (int(fields[0]), int(fields[1]))
        old = self.threads.get(path, now)
        self.threads[path] = now
        waited = max(now[1] - old[1], 0)
        if now != old:
            self.weights[path] = self.weights.get(path, 0) + waited + max(now[0] - old[0], 0)
        return waited


class Engine:
    """The engine's processes, told anew once a second."""

    def __init__(self, files: Files, session: int) -> None:
        self.files = files
        self.session = session
        self.pids: list[int] = []
        self.waits = Waits(files)
        self.cgroup = Cgroup(files)
        self.waited_ns = self.late_ns = 0.0

    def find(self, pids: list[int]) -> None:
        """Take these as the engine's from now on."""
        for pid in set(self.pids) - set(pids):
            self.files.close(f"/proc/{pid}/")
        self.pids = pids
        self.waits.find(pids)
        if pids:
            self.cgroup.find(self.session if self.session in pids else pids[0])

    def fast(self) -> dict[str, Any]:
        """What is read at every sample, as the kernel says it."""
        return {"used": self.used(), "waits": self.waits.read(), "halts": self.cgroup.read()}

    def settle(self, samples: int) -> None:
        """Read what is not read at every sample; its part in each of the next so many to be told."""
        self.late_ns = self.waits.others() / max(samples, 1)

    def digest(self, said: dict[str, Any]) -> dict[str, Any]:
        """What `fast` read as numbers, all of them cumulative."""
        self.waited_ns += self.waits.count(said["waits"]) + self.late_ns
        return {
            "used": said["used"], "waited": self.waited_ns, "halted": self.cgroup.halted(said["halts"]),
        }  # fmt: skip

    def used(self) -> dict[int, int]:
        """{pid: CPU time in ns} of each process."""
        found = ((pid, used_ns(pid)) for pid in self.pids)
        return {pid: ns for pid, ns in found if ns is not None}

    def fast_rows(self, old: dict[str, Any], new: dict[str, Any], seconds: float) -> Iterator[Value]:
        """The counters between two readings; none when nothing is left of the engine."""
        if not new["used"].keys() & old["used"].keys():
            return
        used = ran_pct(old["used"], new["used"], seconds)
        yield "process_cpu_usage", "Host", self.session, None, used
        yield "process_runq_wait", "Host", self.session, None, (new["waited"] - old["waited"]) / 1e6 / seconds
        pairs = [(old["halted"][at], now) for at, now in new["halted"].items() if at in old["halted"]]
        if pairs:
            ns, periods, halted = (
                sum(max(now[k] - was[k], 0) for was, now in pairs)
                for k in ("throttled_ns", "periods", "throttled_periods")
            )
            yield "process_cgroup_throttled", "Host", self.session, None, ns / 1e6 / seconds
            if periods:
                share = 100 * halted / periods
                yield "process_cgroup_throttled_periods", "Host", self.session, None, share

    def slow_rows(
        self, old: dict[str, int], new: dict[str, int], seconds: float, total_kib: int | None
    ) -> Iterator[Value]:
        """The counters that change slowly, between two readings of `self.cgroup.used_ns()`."""
        if not self.pids:
            return
        resident = self._resident()
        yield "process_mem_rss", "Host", self.session, None, resident
        if total_kib:
            yield "process_mem_usage", "Host", self.session, None, 100 * resident / 1024 / total_kib
        said = (readings.number(self.files.read(f"/proc/{pid}/status"), b"VmSwap:") for pid in self.pids)
        yield "process_mem_swap", "Host", self.session, None, 1024 * sum(kib for kib in said if kib)
        for folder, used in new.items():
            if used >= old.get(folder, used + 1):
                share = (used - old[folder]) / 1e7 / seconds
                yield "process_cgroup_cpu_usage", "Host", self.session, None, share
        cpus, held = self.cgroup.cpus(), self.cgroup.memory_bytes()
        if cpus is not None:
            yield "process_cgroup_quota", "Host", self.session, None, 100 * cpus
        if held is not None:
            yield "process_cgroup_mem_used", "Host", self.session, None, held

    def _resident(self) -> int:
        """Resident memory (shared pages count once a process)."""
        said = (self.files.read(f"/proc/{pid}/statm", 128).split() for pid in self.pids)
        return sum(int(fields[1]) for fields in said if fields) * readings.PAGE_BYTES


def ran_pct(old: dict[int, int], new: dict[int, int], seconds: float) -> float:
    """The CPU time of processes that both readings know, in % of one CPU."""
    return sum(max(new[pid] - old[pid], 0) for pid in new.keys() & old.keys()) / 1e7 / seconds
