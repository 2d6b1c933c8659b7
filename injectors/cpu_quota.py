"""CPU quota: the kernel halts the server's whole process tree for a part of every period.

The strength is a share of the CPU time that the server may have: that of its CPUs, or of the quota of a
cgroup that it is in where that is less. So one dose means the same on hosts of any size, and none can loosen
a quota. A cgroup (v1 or v2) that has none but the server's processes gets the quota in place. Else they move
to one of ours, and back: on v1 it lies in theirs, on v2 beside it, because there a group with processes has
no groups with quotas in it. Workers that left the server's session are found by their parents. Standard
library only. The victim's measure is the CPU time that the server gets together with a loop on each of its
CPUs; the loops run in its cgroup and take all that it leaves, so that it may be busy or not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from injectors import _cgroups
from injectors._cgroups import QUOTA, SWITCH, V2
from tasks.host import processes, readings, victim
from tasks.host.site import Site, Trouble
from tasks.host.strengths import Number

if TYPE_CHECKING:
    from tasks.host.strengths import Parameters

STRENGTH: Parameters = {
    "quota_pct": Number(50, 1, 99, "share of its CPUs' time (or of a tighter quota) that the server keeps"),
}
METRIC, UNIT = victim.METRIC, victim.UNIT
PERIOD_US, LEAST_US = 100_000, 1000  # of our own groups; the kernel takes no smaller quota
MOVE_S = 4.0
LOSES_AT_LEAST, NOISE = 0.04, 0.15


def requirements(site: Site) -> str | None:
    """What this host lacks, in one line, or None. Without a server yet: could we do it to us?"""
    try:
        _plan(site, _tree(site) if site.target else {os.getpid()})
    except Trouble as error:
        return str(error)
    return None


def saved(site: Site) -> dict[str, Any]:
    """Where each process of the server is, and what will be limited."""
    return _plan(site, _tree(site))


def apply(site: Site) -> str:
    """Set the quota, and see that every process of the server is under it."""
    plan, tree = site.saved, _tree(site)
    group = Path(plan["group"])
    for folder in plan["switched_on"]:
        (Path(folder) / SWITCH).write_text("+cpu")
    group.mkdir(exist_ok=True)
    (group / QUOTA[plan["version"]]).write_text(plan["quota"])
    if not plan["in_place"]:
        tree = _gather(site, group)
    whose = "their own" if plan["in_place"] else "made for them"
    return (
        f"{plan['cpus']:g} CPUs for {len(tree)} processes of the server "
        f"(cgroup v{plan['version']} {group}, {whose})"
    )


def revert(site: Site) -> None:
    """Give the old quota back, or move everybody back and remove our group."""
    plan = {} if site.rebooted else site.saved
    if not plan:
        return
    if not plan["in_place"]:
        _disband(plan)
    elif _stands(plan):
        (Path(plan["group"]) / QUOTA[plan["version"]]).write_text(plan["old"] or "max")
    for folder in map(Path, reversed(plan["switched_on"])):
        if _cgroups.switched_on(folder) and not _cgroups.in_use(folder):
            (folder / SWITCH).write_text("-cpu")


def left(site: Site) -> str | None:
    """What of it is still there."""
    plan = {} if site.rebooted else site.saved
    if not plan:
        return None
    group = Path(plan["group"])
    if plan["in_place"] and _stands(plan):
        return f"our quota {plan['quota']!r} still stands in {group}"
    if not plan["in_place"] and group.exists():
        return f"our cgroup {group} is still there (pids {sorted(_cgroups.pids_below(group))})"
    on = [at for at in map(Path, plan["switched_on"]) if _cgroups.switched_on(at) and not _cgroups.in_use(at)]
    return f"the cpu controller is still switched on in {on[0] / SWITCH}" if on else None


def probe(site: Site) -> float:
    """The victim's measure: CPUs' time that the server and the loops get, which ask for all of it."""
    ours, theirs = _cgroups.of(os.getpid(), "cpu"), _home(site)

    def enter() -> None:
        if theirs:
            with contextlib.suppress(Trouble):
                _cgroups.move(os.getpid(), theirs)

    def leave(pid: int) -> None:
        if ours:
            _cgroups.move(pid, ours.folder)  # under a small quota it would take long to end

    return victim.cpus_to_be_had(site.cpus, lambda: _tree_or_none(site), enter, leave)


def proved(site: Site, before: float, during: float) -> bool:
    """Whether at least half of what the quota takes was lost."""
    return during < before * (1 - max(_half_taken(site), LOSES_AT_LEAST))


def undone(site: Site, before: float, after: float) -> bool:
    """Whether the measure is back: nearer to what it was than to what it would be under the quota."""
    return after >= before * (1 - max(_half_taken(site), NOISE))


def _half_taken(site: Site) -> float:
    return (1 - float(site.strength["quota_pct"]) / 100) / 2


def _plan(site: Site, tree: set[int]) -> dict[str, Any]:
    """What is to be done to these processes, and all that the undo needs. Raises Trouble."""
    home = _cgroups.of(site.target if site.target in tree else min(tree), "cpu")
    if home is None:
        raise Trouble("no server to squeeze: it ended just now")
    alone = home.folder != home.top and _cgroups.pids_below(home.folder) <= tree
    above = _cgroups.place_for_quota(home)
    name = "latencyprism-" + hashlib.sha256(site.folder.encode()).hexdigest()[:8]
    group = home.folder if alone else above / name
    cpus = min(float(len(site.cpus)), _cgroups.cpus_of_quota(home)) * site.strength["quota_pct"] / 100
    period = _cgroups.period_us(home) if alone else PERIOD_US
    quota = max(int(cpus * period), LEAST_US)
    off = _cgroups.switched_off(above, home.top) if home.version == V2 else []
    file = group / QUOTA[home.version]
    needs = [*(at / SWITCH for at in off), *([] if alone else [above, above / "cgroup.procs"])]
    for path in [*needs, *([file] if alone and file.exists() else [])]:
        if not os.access(path, os.W_OK):
            raise Trouble(f"no right to write {path}: this needs root or a delegated cgroup, not read-only")
    return {
        "version": home.version, "group": str(group), "in_place": alone, "home": str(home.folder),
        "cpus": quota / period, "quota": str(quota) if home.version != V2 else f"{quota} {period}",
        "old": readings.text(str(file)).strip(), "switched_on": [str(at) for at in off],
        "former": {} if alone else {str(pid): _place(pid) for pid in tree},
    }  # fmt: skip


def _place(pid: int) -> list[Any]:
    at = _cgroups.of(pid, "cpu")
    return [processes.start_ticks(pid), str(at.folder) if at else None]


def _tree(site: Site) -> set[int]:
    """The server's processes: those of its session, and all that descend from them. Raises Trouble."""
    if site.target is None:
        raise Trouble("no server to squeeze: this fault needs one that runs")
    stats = {
        pid: processes.stat_fields(pid) for pid in map(int, filter(str.isdigit, readings.names("/proc")))
    }
    known = {pid: stat for pid, stat in stats.items() if stat and stat[0] not in ("Z", "X")}
    tree: set[int] = set()
    more = {pid for pid, stat in known.items() if int(stat[3]) == site.target}
    while more:
        tree |= more
        more = {pid for pid, stat in known.items() if int(stat[1]) in tree} - tree
    if not tree:
        raise Trouble(f"no server to squeeze: nothing is left of process session {site.target}")
    return tree


def _gather(site: Site, group: Path) -> set[int]:
    """Move the tree until a look finds all of it inside: what forks meanwhile is found the next time."""
    end = time.monotonic() + MOVE_S
    while time.monotonic() < end:
        tree = _tree(site)
        outside = tree - _cgroups.pids_below(group)
        if not outside:
            return tree
        for pid in outside:
            _cgroups.move(pid, group)
    raise Trouble(f"the server starts processes faster than they can be moved to {group}")


def _disband(plan: dict[str, Any]) -> None:
    """Move everybody to where they were, or where the server was, and remove our group."""
    group, end = Path(plan["group"]), time.monotonic() + MOVE_S
    while group.exists() and time.monotonic() < end:
        for pid in filter(None, _cgroups.pids(group)):  # 0 would be ourselves
            ticks, folder = plan["former"].get(str(pid), (None, None))
            back = Path(folder if folder and ticks == processes.start_ticks(pid) else plan["home"])
            back.mkdir(parents=True, exist_ok=True)  # on v2 systemd removes the group that they left empty
            _cgroups.move(pid, back)
        with contextlib.suppress(OSError):  # not empty yet, or another undo was faster
            group.rmdir()


def _tree_or_none(site: Site) -> set[int]:
    with contextlib.suppress(Trouble):  # a host may be measured before it has a server
        return _tree(site)
    return set()


def _home(site: Site) -> Path | None:
    """The group that the server is in now; None without one: there is nothing to join then."""
    try:
        tree = _tree(site)
        home = _cgroups.of(site.target if site.target in tree else min(tree), "cpu")
    except Trouble:
        return None
    return home.folder if home else None


def _stands(plan: dict[str, Any]) -> bool:
    now = readings.text(str(Path(plan["group"]) / QUOTA[plan["version"]])).strip()
    return now == str(plan["quota"])
