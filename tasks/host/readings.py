"""The kernel's counters as numbers: one small function a /proc or /sys file.

Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import os

BUSY = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq of /proc/stat; steal stands apart
IDLE = (3, 4)
STEAL = 7
SCHEDSTAT_FIELDS = 3
UTIME, STIME = 11, 12  # of /proc/PID/stat, counted from the state
LAST_CPU = 36  # of /proc/PID/stat, counted from the state
MOST_THREADS = 64  # looked at in one process
SECTOR_BYTES = 512
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def text(path: str) -> str:
    """The file's text, empty where it cannot be read (gone process, missing feature)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def cpu_ticks() -> dict[str, tuple[int, int, int]]:
    """{"cpu" | "cpu0" | ...: (busy, idle, stolen)} in clock ticks since boot."""
    found = {}
    for line in text("/proc/stat").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu"):
            values = [int(field) for field in fields]
            found[name] = (sum(values[k] for k in BUSY), sum(values[k] for k in IDLE), values[STEAL])
    return found


def thread_times(pids: list[int]) -> dict[int, tuple[int, int]]:
    """{thread id: (ns on a CPU, ns waiting in a run queue)} of every thread of these processes."""
    found = {}
    for pid in pids:
        for thread in names(f"/proc/{pid}/task"):
            fields = text(f"/proc/{pid}/task/{thread}/schedstat").split()
            if len(fields) >= SCHEDSTAT_FIELDS:
                found[int(thread)] = (int(fields[0]), int(fields[1]))
    return found


def names(folder: str) -> list[str]:
    """The folder's entries, none where it is gone."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def resident_bytes(pids: list[int]) -> int:
    """Resident memory of these processes (shared pages counted once a process)."""
    fields = [text(f"/proc/{pid}/statm").split() for pid in pids]
    return sum(int(field[1]) for field in fields if len(field) > 1) * PAGE_BYTES


def memory() -> dict[str, int]:
    """/proc/meminfo in KiB."""
    lines = (line.split() for line in text("/proc/meminfo").splitlines())
    return {fields[0].rstrip(":"): int(fields[1]) for fields in lines if len(fields) > 1}


def swapped_pages() -> tuple[int, int]:
    """Pages swapped (in, out) since boot."""
    fields = dict(line.split()[:2] for line in text("/proc/vmstat").splitlines())
    return int(fields.get("pswpin", 0)), int(fields.get("pswpout", 0))


def stalled_us(resource: str) -> int | None:
    """Microseconds in which some task stalled on cpu, memory or io; None without PSI."""
    for line in text(f"/proc/pressure/{resource}").splitlines():
        if line.startswith("some"):
            return int(line.rpartition("total=")[2])
    return None


def throttled_ns(pid: int) -> int | None:
    """Time the process's CPU cgroup was throttled; None where the cgroup does not say (v1 and v2)."""
    for line in text(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            root = "/sys/fs/cgroup" if controllers == "" else "/sys/fs/cgroup/cpu"
            fields = dict(row.split() for row in text(f"{root}{path}/cpu.stat").splitlines())
            if "throttled_time" in fields:
                return int(fields["throttled_time"])
            if "throttled_usec" in fields:
                return int(fields["throttled_usec"]) * 1000
    return None


def network_bytes() -> dict[str, tuple[int, int]]:
    """{interface: (bytes received, bytes sent)}."""
    found = {}
    for line in text("/proc/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        found[name.strip()] = (int(fields[0]), int(fields[8]))
    return found


def disk_bytes() -> dict[str, tuple[int]]:
    """{whole disk: (bytes read and written,)}."""
    disks = {name for name in names("/sys/block") if not name.startswith(("loop", "ram"))}
    rows = (line.split() for line in text("/proc/diskstats").splitlines())
    return {row[2]: ((int(row[5]) + int(row[9])) * SECTOR_BYTES,) for row in rows if row[2] in disks}


def frequencies_mhz() -> dict[int, float]:
    """{CPU: MHz}: cpufreq where there is one, else what /proc/cpuinfo says."""
    lines = text("/proc/cpuinfo").splitlines()
    said = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    found = dict(enumerate(said))
    for cpu in found:
        khz = text(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq").strip()
        if khz.isdigit():
            found[cpu] = int(khz) / 1000
    return found


def process_ticks() -> dict[int, tuple[str, int, int]]:
    """{pid: (name, session, CPU ticks)} of every process."""
    found = {}
    for entry in names("/proc"):
        if entry.isdigit():
            head, _, rest = text(f"/proc/{entry}/stat").rpartition(")")
            fields = rest.split()
            if len(fields) > STIME:
                found[int(entry)] = (
                    head.partition("(")[2],
                    int(fields[3]),
                    int(fields[UTIME]) + int(fields[STIME]),
                )
    return found


def ran_on(pid: int, cpus: list[int]) -> bool:
    """Whether a thread of the process was last on one of these CPUs."""
    for thread in names(f"/proc/{pid}/task")[:MOST_THREADS]:
        fields = text(f"/proc/{pid}/task/{thread}/stat").rpartition(")")[2].split()
        if len(fields) > LAST_CPU and int(fields[LAST_CPU]) in cpus:
            return True
    return False


def avx512_age_ms(pid: int) -> int | None:
    """Ms since a thread of the process held AVX-512 state; -1 never; None where the kernel does not say."""
    ages = []
    for thread in names(f"/proc/{pid}/task")[:MOST_THREADS]:
        said = text(f"/proc/{pid}/task/{thread}/arch_status").partition("AVX512_elapsed_ms:")[2].strip()
        if said.lstrip("-").isdigit():
            ages.append(int(said))
    used = [age for age in ages if age >= 0]
    return min(used) if used else (-1 if ages else None)
