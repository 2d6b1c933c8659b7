"""The kernel's control groups, version 1 and 2, as files: where a process is, what it may use, moving it.

Runs on the host, standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from tasks.host import readings
from tasks.host.site import Trouble

PROC = Path("/proc")
QUOTA = {1: "cpu.cfs_quota_us", 2: "cpu.max"}
V2 = 2
SWITCH = "cgroup.subtree_control"
MEMORY = {  # limit, use, and what of the use the kernel gives back when asked
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


class Group(NamedTuple):
    """One control group: its folder, and the top of the hierarchy it is in."""

    folder: Path
    top: Path
    version: int

    @property
    def line(self) -> list[Path]:
        """From the top down to this one."""
        above = [self.folder, *self.folder.parents]
        return above[above.index(self.top) :: -1]


def of(pid: int, controller: str) -> Group | None:
    """The group of a process by this controller; None when the process is gone. Raises Trouble."""
    mounts = [line.split() for line in readings.text(str(PROC / "self/mountinfo")).splitlines()]
    found: dict[int, tuple[str, str]] = {}
    for words in mounts:
        kind, _, options = words[words.index("-") + 1 :]
        if kind == "cgroup" and controller in options.split(","):
            found[1] = (words[3], words[4])
        if kind == "cgroup2" and controller in readings.text(f"{words[4]}/cgroup.controllers").split():
            found[2] = (words[3], words[4])
    if not found:
        raise Trouble(
            f"no {controller} controller of cgroups on this host (v1 or v2, in /proc/self/mountinfo)"
        )
    version = min(found)
    root, top = found[version]
    for line in readings.text(str(PROC / str(pid) / "cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") if version == 1 else not controllers:
            inside = os.path.relpath(path, root)
            if inside.startswith("..") or path.startswith("/../"):
                raise Trouble(f"pid {pid} is in the cgroup {path}, which cannot be seen from in here")
            return Group(Path(top, inside), Path(top), version)
    return None


def pids(folder: Path) -> list[int]:
    """The processes of a group; none when it is gone. 0 stands for those that cannot be seen from here."""
    return [int(line) for line in readings.text(str(folder / "cgroup.procs")).split()]


def pids_below(folder: Path) -> set[int]:
    """The processes of a group and of all groups in it."""
    return {pid for at, _, _ in os.walk(folder) for pid in pids(Path(at))}


def move(pid: int, folder: Path) -> None:
    """Move a process with all its threads; nothing to do when it has ended. Raises Trouble."""
    try:
        with contextlib.suppress(ProcessLookupError):
            (folder / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        raise Trouble(f"pid {pid} cannot be moved to {folder}: {error.strerror}") from error


def place_for_quota(group: Group) -> Path:
    """Where a group for processes of this one can be made: in it, on v2 beside it (in the top one: in it)."""
    return group.folder.parent if group.version == V2 and group.folder != group.top else group.folder


def switched_on(folder: Path) -> bool:
    """Whether groups in this one of v2 have quotas."""
    return "cpu" in readings.text(str(folder / SWITCH)).split()


def in_use(folder: Path) -> bool:
    """Whether switching it off here is kept from happening by a group inside."""
    return any(switched_on(inside) for inside in folder.iterdir() if inside.is_dir())


def switched_off(folder: Path, top: Path) -> list[Path]:
    """Where, from the top down, it must be switched on for quotas in groups in here. Raises Trouble."""
    off = [at for at in Group(folder, top, V2).line if not switched_on(at)]
    for at in off:
        if (at / "cgroup.type").exists() and pids(at):  # the host's own top has no type, and may
            raise Trouble(f"{at} has processes of its own, so cgroup v2 allows no quota in it or beside it")
    return off


def cpus_of_quota(group: Group) -> float:
    """How many CPUs' time the quotas of a group and of those above leave it; infinity without any."""
    return min(_quota(at, group.version) for at in group.line)


def period_us(group: Group) -> int:
    """The period that the group's quota is counted by."""
    if group.version == 1:
        said = readings.text(str(group.folder / "cpu.cfs_period_us"))
    else:
        said = readings.text(str(group.folder / QUOTA[2])).partition(" ")[2]
    return int(said or 100_000)


def _quota(folder: Path, version: int) -> float:
    said = readings.text(str(folder / QUOTA[version])).split()
    if not said or said[0] in ("max", "-1"):
        return float("inf")
    return int(said[0]) / period_us(Group(folder, folder, version))


def memory_room(pid: int) -> tuple[float, float]:
    """(bytes it may have at most, bytes still to be had) by the memory limits of the groups it is in."""
    try:
        group = of(pid, "memory")
    except Trouble:
        group = None
    limit = room = float("inf")
    for at in group.line if group else ():
        most, used, cache = MEMORY[group.version] if group else ("", "", "")
        size, taken = readings.text(str(at / most)).strip(), readings.text(str(at / used)).strip()
        if size.isdigit() and taken.isdigit():
            stat = dict(line.split() for line in readings.text(str(at / "memory.stat")).splitlines())
            limit = min(limit, int(size))
            room = min(room, int(size) - int(taken) + int(stat.get(cache, 0)))
    return limit, room
