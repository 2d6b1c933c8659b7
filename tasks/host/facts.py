"""What this host is: CPU, memory, kernel, cgroup version, clocks.

Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from tasks.host import clock, readings


def gather(folder: Path) -> dict[str, Any]:
    """Facts of the host, with the free disk space under `folder`."""
    cpuinfo = readings.text("/proc/cpuinfo")
    memory = readings.memory()
    return {
        "hostname": platform.node(), "cpu_model": _field(cpuinfo, "model name"), "cores": os.cpu_count(),
        "usable_cpus": usable_cpus(), "avx512": "avx512f" in _field(cpuinfo, "flags").split(),
        "memory_bytes": memory["MemTotal"] * 1024, "swap_bytes": memory.get("SwapTotal", 0) * 1024,
        "kernel": platform.release(), "python": platform.python_version(),
        "cgroup_version": 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        "boot_id": readings.text("/proc/sys/kernel/random/boot_id").strip(), "root": os.geteuid() == 0,
        "disk_free_bytes": shutil.disk_usage(folder).free, **clock.pair(),
    }  # fmt: skip


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


def size_and_sha256(path: Path) -> tuple[int, str]:
    """A file's size and digest, read in pieces."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()
