"""What this host is: CPU, memory, kernel, cgroups, GPUs, clocks, rights, tools.

What cannot be read is None, and nothing here raises. Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import re
import shlex
import shutil
from typing import TYPE_CHECKING, Any, Callable

from tasks.host import clock, readings

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM = "/sys/devices/system"
FLAGS = ("avx2", "avx512f", "amx_tile")
TOOLS = {
    "cc": ("cc", "gcc", "clang"), "tc": ("tc",), "perf": ("perf",), "bpftrace": ("bpftrace",),
    "nvidia-smi": ("nvidia-smi",), "docker": ("docker",), "sshd": ("sshd",),
}  # fmt: skip
SYSTEM_PATH = ":/usr/local/sbin:/usr/sbin:/sbin"  # a login over SSH has no sbin in its PATH, and tc is there
CAP_NET_ADMIN = 12  # linux/capability.h: who has it may change queues and addresses
UNKNOWN_TOPOLOGY = dict.fromkeys(("sockets", "physical_cores", "smt"))
RANGE = re.compile(r"(\d+)(?:-(\d+))?")
IN_BRACKETS = re.compile(r"\[(\w+)\]")
VERSION = re.compile(r"\d+\.\d[\d.]*")


def gather(folder: Path) -> dict[str, Any]:
    """Facts of the host, with the free disk space under `folder`."""
    cpuinfo, memory = readings.text("/proc/cpuinfo"), _told(readings.memory, {})
    flags, gpus = cpu_flags(cpuinfo), _told(_gpus)
    return {
        "hostname": platform.node(), "cpu_model": cpu_model(cpuinfo),
        "cores": os.cpu_count(), "usable_cpus": usable_cpus(), **_told(_topology, UNKNOWN_TOPOLOGY),
        "numa_nodes": _told(_numa_nodes), "cpu_flags": flags, "avx512": bool(flags and "avx512f" in flags),
        "frequency": _told(frequency), "memory_bytes": _bytes(memory, "MemTotal"),
        "swap_bytes": _bytes(memory, "SwapTotal"), "transparent_hugepages": _told(_hugepages),
        "kernel": platform.release(), "os": _told(lambda: os_name(readings.text("/etc/os-release"))),
        "python": platform.python_version(), "cgroup_version": _told(lambda: cgroups()[0]),
        "cgroup_controllers": _told(lambda: cgroups()[1]), "virtualisation": _told(_virtualisation),
        "clocksource": _said(f"{SYSTEM}/clocksource/clocksource0/current_clocksource"),
        "boot_id": readings.text("/proc/sys/kernel/random/boot_id").strip(), "root": os.geteuid() == 0,
        "gpus": gpus, "nvidia_driver": _told(_driver), "rights": _told(lambda: rights(gpus)),
        "tools": _told(tools), "disk_free_bytes": _told(lambda: shutil.disk_usage(folder).free),
        **clock.pair(),
    }  # fmt: skip


def cpu_model(cpuinfo: str) -> str:
    """What the CPUs are called; the architecture where /proc/cpuinfo does not say."""
    return _field(cpuinfo, "model name") or platform.machine()


def _told(part: Callable[[], Any], otherwise: Any = None) -> Any:
    try:
        return part()
    except Exception:  # noqa: BLE001  a host with an odd /proc or /sys is told about as far as it can be read
        return otherwise


def _said(path: str) -> str | None:
    """What a file of one line says; None where it is not there."""
    return readings.text(path).strip() or None


def _number(path: str) -> int | None:
    said = _said(path)
    return int(said) if said and said.lstrip("-").isdigit() else None


def _bytes(memory: dict[str, int], name: str) -> int | None:
    return memory[name] * 1024 if name in memory else None


def usable_cpus() -> list[int]:
    """The CPUs that processes here may be bound to, whatever this one is bound to now."""
    bound = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # the kernel leaves out what the cpuset forbids
        return sorted(os.sched_getaffinity(0))
    finally:
        os.sched_setaffinity(0, bound)


def _field(cpuinfo: str, name: str) -> str:
    for line in cpuinfo.splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""


def cpu_flags(cpuinfo: str) -> list[str] | None:
    """Which of FLAGS the CPUs have; None where /proc/cpuinfo does not say (not x86)."""
    said = _field(cpuinfo, "flags").split()
    return [flag for flag in FLAGS if flag in said] if said else None


def numbers(text: str) -> list[int]:
    """The kernel's way of writing a set: `0-2,8` is [0, 1, 2, 8]."""
    parts = [RANGE.fullmatch(part.strip()) for part in text.split(",")]
    return [n for part in parts if part for n in range(int(part[1]), int(part[2] or part[1]) + 1)]


def _topology() -> dict[str, Any]:
    cores, sockets = set(), set()
    for folder in glob.glob(f"{SYSTEM}/cpu/cpu[0-9]*/topology"):
        socket, core = _number(f"{folder}/physical_package_id"), _number(f"{folder}/core_id")
        if socket is not None and core is not None:
            sockets.add(socket)
            cores.add((socket, core))
    smt = _number(f"{SYSTEM}/cpu/smt/active")
    return {
        "sockets": len(sockets) or None, "physical_cores": len(cores) or None,
        "smt": None if smt is None else bool(smt),
    }  # fmt: skip


def _numa_nodes() -> dict[str, list[int]] | None:
    folders = glob.glob(f"{SYSTEM}/node/node[0-9]*")
    nodes = {int(folder.rpartition("node")[2]): _said(f"{folder}/cpulist") for folder in folders}
    return {str(node): numbers(nodes[node] or "") for node in sorted(nodes)} or None


def frequency(root: str = f"{SYSTEM}/cpu") -> dict[str, Any] | None:
    """Governors and the range in kHz that holds now, over all CPUs; None without cpufreq."""
    policies = glob.glob(f"{root}/cpufreq/policy[0-9]*")
    governors = {said for policy in policies if (said := _said(f"{policy}/scaling_governor"))}
    lowest = [_number(f"{policy}/scaling_min_freq") for policy in policies]
    highest = [_number(f"{policy}/scaling_max_freq") for policy in policies]
    if not policies:
        return None
    return {
        "governors": sorted(governors), "driver": _said(f"{min(policies)}/scaling_driver"),
        "min_khz": min((khz for khz in lowest if khz is not None), default=None),
        "max_khz": max((khz for khz in highest if khz is not None), default=None),
    }  # fmt: skip


def _hugepages() -> str | None:
    return chosen(readings.text("/sys/kernel/mm/transparent_hugepage/enabled"))


def chosen(text: str) -> str | None:
    """The word in brackets, by which the kernel marks the one that is on."""
    found = IN_BRACKETS.search(text)
    return found[1] if found else None


def os_name(text: str) -> str | None:
    """PRETTY_NAME of /etc/os-release."""
    words = [line.partition("=")[2] for line in text.splitlines() if line.startswith("PRETTY_NAME=")]
    return next(iter(shlex.split(words[0])), None) if words else None  # quoted as for a shell


def cgroups(root: str = "/sys/fs/cgroup", ours: str = "/proc/self/cgroup") -> tuple[int | None, list[str]]:
    """(version, controllers); version 1 where both are mounted, since it has them then; None: no cgroups."""
    if os.path.exists(f"{root}/cgroup.controllers"):
        return 2, readings.text(f"{root}/cgroup.controllers").split()
    fields = [line.split(":", 2) for line in readings.text(ours).splitlines()]
    named = [name for _, names, _ in fields for name in names.split(",") if name and "=" not in name]
    return (1, sorted(named)) if named else (None, [])


def _virtualisation() -> dict[str, Any]:
    """What of it can be seen from inside: nothing here proves that a host is a real one."""
    machine = [_said(f"/sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")]
    inside = _said("/run/systemd/container") or ("docker" if os.path.exists("/.dockerenv") else None)
    inside = inside or ("podman" if os.path.exists("/run/.containerenv") else None)
    flags = _field(readings.text("/proc/cpuinfo"), "flags").split()
    return {
        "hypervisor": "hypervisor" in flags if flags else None,
        "machine": " ".join(word for word in machine if word) or None, "container": inside,
    }  # fmt: skip


def _gpus() -> Any:
    from tasks.host import gpu

    return gpu.facts()


def _driver() -> str | None:
    return driver(readings.text("/proc/driver/nvidia/version"))


def driver(text: str) -> str | None:
    """The version in /proc/driver/nvidia/version, proprietary or open."""
    found = VERSION.search(text)
    return found[0] if found else None


def rights(gpus: Any) -> dict[str, bool | None]:
    """What we may change here; None where there is nothing of the kind to change."""
    root = os.geteuid() == 0
    return {
        "root": root,
        "cpufreq": _writable(f"{SYSTEM}/cpu/cpufreq/policy0/scaling_max_freq"),
        "cgroup_cpu": _may_make_cpu_groups(),
        "gpu_clocks": root if gpus else None,  # NVML locks clocks for root alone
        "net_admin": net_admin(readings.text("/proc/self/status")),
    }


def _writable(path: str) -> bool | None:
    return os.access(path, os.W_OK) if os.path.exists(path) else None


def _may_make_cpu_groups(root: str = "/sys/fs/cgroup") -> bool | None:
    version, controllers = cgroups()
    if version is None or "cpu" not in controllers:
        return None
    return os.access(root if version == 2 else f"{root}/cpu", os.W_OK)  # noqa: PLR2004  cgroup v2


def net_admin(status: str) -> bool | None:
    """Whether /proc/PID/status shows the right to change the network: root in a container may lack it."""
    said = _field(status, "CapEff")
    return bool(int(said, 16) >> CAP_NET_ADMIN & 1) if said else None


def tools() -> dict[str, str | None]:
    """{tool: its path, or None}."""
    where = os.environ.get("PATH", os.defpath) + SYSTEM_PATH
    return {
        tool: next((path for name in names if (path := shutil.which(name, path=where))), None)
        for tool, names in TOOLS.items()
    }


def size_and_sha256(path: Path) -> tuple[int, str]:
    """A file's size and digest, read in pieces."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()
