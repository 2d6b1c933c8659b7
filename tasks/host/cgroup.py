"""The control groups of a process, version 1 and 2: what it may use of CPUs, what it used, how it was halted.

The groups above it count where they have a quota: it is halted with them. Standard library only
(Python >= 3.9).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from tasks.host import readings

if TYPE_CHECKING:
    from tasks.host.readings import Files

PERIOD_US = 100_000
MEMORY = {1: "memory.usage_in_bytes", 2: "memory.current"}
FORMER, LATER = 1, 2  # the versions


class Mount(NamedTuple):
    """Where a controller's groups are: `root` of their paths is mounted at `top`."""

    root: str
    top: str
    version: int


Halted = dict[str, int]  # what a group counts: periods with a quota, those it was halted in, and for how long
NEVER = {"periods": 0, "throttled_periods": 0, "throttled_ns": 0}


def mounts(files: Files) -> dict[str, Mount]:
    """{controller: where it is mounted}, as /proc/self/mountinfo tells; a controller is in one version."""
    found: dict[str, Mount] = {}
    for line in files.whole("/proc/self/mountinfo").decode(errors="replace").splitlines():
        place, _, kind = line.partition(" - ")
        root, top = place.split()[3:5]
        if kind.startswith("cgroup "):
            found.update((one, Mount(root, top, FORMER)) for one in kind.split()[-1].split(","))
        elif kind.startswith("cgroup2 "):
            switched_on = files.read(f"{top}/cgroup.controllers").decode().split()
            for one in (*switched_on, ""):
                found.setdefault(one, Mount(root, top, LATER))
    return found


class Cgroup:
    """The groups of one process at a time; it may be moved, and another process may be asked for."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.mounts = mounts(files)
        self.said = b""
        self.folders: dict[str, str] = {}
        self.limited: list[str] = []
        self.never: dict[str, Halted] = {}

    def find(self, pid: int) -> None:
        """See where it is, and which of the groups have a quota."""
        said = self.files.read(f"/proc/{pid}/cgroup")
        if said and said != self.said:
            self.said = said
            self.folders = dict(self._folders(said))
        line = self._line("cpu")
        self.limited = [folder for folder in line if self._cpus(folder) is not None]
        self.never = (
            {"": NEVER}
            if line and not self.limited and _halted(self.files.read(f"{line[0]}/cpu.stat"))
            else {}
        )

    def read(self) -> dict[str, bytes]:
        """What the groups that have a quota say of it, for `halted`."""
        return {folder: self.files.read(f"{folder}/cpu.stat") for folder in self.limited}

    def halted(self, said: dict[str, bytes]) -> dict[str, Halted]:
        """{folder: what it counts} of the groups that have a quota; where none has, one that stands still."""
        found = ((folder, _halted(text)) for folder, text in said.items())
        return {folder: counted for folder, counted in found if counted} or self.never

    def used_ns(self) -> dict[str, int]:
        """{folder: CPU time of its own group}; none for the group that is the whole host."""
        mount = self.mounts.get("cpuacct") or self.mounts.get("cpu")
        folder = self.folders.get("cpuacct") or self.folders.get("cpu")
        if mount is None or folder in {None, mount.top}:
            return {}
        if mount.version == FORMER:
            said = self.files.read(f"{folder}/cpuacct.usage").strip()
            return {str(folder): int(said)} if said.isdigit() else {}
        used_us = readings.number(self.files.read(f"{folder}/cpu.stat"), b"usage_usec ")
        return {} if used_us is None else {str(folder): used_us * 1000}

    def cpus(self) -> float | None:
        """How many CPUs' time the tightest quota leaves; None without any."""
        found = [cpus for cpus in map(self._cpus, self.limited) if cpus is not None]
        return min(found, default=None)

    def memory_bytes(self) -> int | None:
        """What its own group holds; None for the group that is the whole host."""
        mount, folder = self.mounts.get("memory"), self.folders.get("memory")
        if mount is None or folder in {None, mount.top}:
            return None
        said = self.files.read(f"{folder}/{MEMORY[mount.version]}").strip()
        return int(said) if said.isdigit() else None

    def _folders(self, said: bytes) -> list[tuple[str, str]]:
        """(controller, folder) of each that can be seen from here."""
        paths = {}
        for line in said.decode(errors="replace").splitlines():
            _, controllers, path = line.split(":", 2)
            paths.update(dict.fromkeys(controllers.split(","), path))
        found = []
        for controller, mount in self.mounts.items():
            path = paths.get(controller if mount.version == FORMER else "", "")
            inside = os.path.relpath(path, mount.root) if path else ".."
            if not inside.startswith(".."):
                found.append((controller, os.path.normpath(os.path.join(mount.top, inside))))
        return found

    def _line(self, controller: str) -> list[str]:
        """The group and those above it."""
        folder, mount = self.folders.get(controller, ""), self.mounts.get(controller)
        found = []
        while mount and len(folder) >= len(mount.top):
            found.append(folder)
            folder = os.path.dirname(folder)
        return found

    def _cpus(self, folder: str) -> float | None:
        if self.mounts["cpu"].version == LATER:
            quota, _, period = self.files.read(f"{folder}/cpu.max").decode().strip().partition(" ")
        else:
            quota = self.files.read(f"{folder}/cpu.cfs_quota_us").decode().strip()
            period = self.files.read(f"{folder}/cpu.cfs_period_us").decode().strip()
        return int(quota) / int(period or PERIOD_US) if quota.isdigit() else None


def _halted(said: bytes) -> Halted | None:
    """What a group's cpu.stat counts; None where it has no such numbers."""
    ns, us = (readings.number(said, key) for key in (b"throttled_time ", b"throttled_usec "))
    if us is not None:
        ns = us * 1000
    if ns is None:
        return None
    counts = (readings.number(said, key) or 0 for key in (b"nr_periods ", b"nr_throttled "))
    return dict(zip(NEVER, (*counts, ns)))
