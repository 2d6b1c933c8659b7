"""The kernel's files, read once as text or over and over with descriptors kept open; and what they say.

Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import os
import resource
from typing import Callable

SECTOR_BYTES = 512
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
A_PAGE = 4096  # bytes: what most of these files fit in
MOST_OPEN = 4096
SPARE = 64  # descriptors that are left for all else

Ticks = tuple[int, int, int]  # busy, idle, stolen


def text(path: str) -> str:
    """The file's text, empty where it cannot be read (gone process, missing feature)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def names(folder: str) -> list[str]:
    """The folder's entries, none where it is gone."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


class Files:
    """Files that are read over and over: opening them again would cost more than reading them.

    A descriptor of /proc/PID stays that of the process it was opened for, whoever has the pid later.
    `root` is the folder that /proc and /sys are in.
    """

    def __init__(self, root: str = "") -> None:
        self.root = root
        self.descriptors: dict[str, int] = {}
        self.most = _room()

    def read(self, path: str, size: int = A_PAGE) -> bytes:
        """The file's first bytes; none where it cannot be read, or its process has gone."""
        file = self.descriptors.get(path)
        try:
            if file is None:
                file = os.open(self.root + path, os.O_RDONLY | os.O_CLOEXEC)
                if len(self.descriptors) >= self.most:
                    return _closed_after(file, size)
                self.descriptors[path] = file
            return os.pread(file, size, 0)
        except OSError:
            self._drop(path)
            return b""

    def whole(self, path: str) -> bytes:
        """All of a file that the kernel gives out piece by piece."""
        found = piece = self.read(path)
        file = self.descriptors.get(path)
        try:
            while piece and file is not None:
                piece = os.pread(file, 16 * A_PAGE, len(found))
                found += piece
        except OSError:
            self._drop(path)
        return found

    def once(self, path: str) -> bytes:
        """The file's first bytes, its descriptor not kept; none where it cannot be read."""
        try:
            return _closed_after(os.open(self.root + path, os.O_RDONLY | os.O_CLOEXEC), A_PAGE)
        except OSError:
            return b""

    def names(self, folder: str) -> list[str]:
        """The folder's entries, none where it is gone."""
        return names(self.root + folder)

    def close(self, prefix: str = "") -> None:
        """Let go of all whose paths begin so."""
        for path in [path for path in self.descriptors if path.startswith(prefix)]:
            self._drop(path)

    def _drop(self, path: str) -> None:
        file = self.descriptors.pop(path, None)
        if file is not None:
            os.close(file)


def _room() -> int:
    """How many descriptors may be kept; the process's own limit is raised where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted - SPARE


def _closed_after(file: int, size: int) -> bytes:
    try:
        return os.pread(file, size, 0)
    finally:
        os.close(file)


def number(said: bytes, key: bytes) -> int | None:
    """The whole number after the first `key`, white space between them allowed; None where there is none."""
    at = said.find(key)
    if at < 0:
        return None
    words = said[at + len(key) : at + len(key) + 32].split(None, 1)
    return int(words[0]) if words and words[0].isdigit() else None


def cpu_lines(said: bytes) -> list[bytes]:
    """The lines of /proc/stat about the host as a whole (the first) and about each CPU that is online."""
    return said[: said.find(b"\nintr")].split(b"\n")


def ticks(line: bytes) -> Ticks:
    """(busy, idle, stolen) of a line of /proc/stat, in clock ticks since boot; `user` holds the guests."""
    _, user, nice, system, idle, waiting, irq, softirq, stolen = line.split(None, 9)[:9]
    busy = int(user) + int(nice) + int(system) + int(irq) + int(softirq)
    return busy, int(idle) + int(waiting), int(stolen)


def stat_of(said: bytes) -> tuple[str, list[bytes]] | None:
    """(name, the fields from the state on) of /proc/PID/stat; None where the process has gone."""
    head, _, rest = said.rpartition(b")")
    name = head.partition(b"(")[2].decode(errors="replace")
    fields = rest.split()
    return (name, fields) if len(fields) > 36 else None  # noqa: PLR2004  as many as any kernel of today has


def network_bytes(said: bytes) -> dict[str, tuple[int, ...]]:
    """{interface: (bytes received, bytes sent)} of /proc/net/dev."""
    found: dict[str, tuple[int, ...]] = {}
    for line in said.split(b"\n")[2:]:
        name, _, rest = line.partition(b":")
        fields = rest.split()
        if fields:
            found[name.strip().decode(errors="replace")] = (int(fields[0]), int(fields[8]))
    return found


def disk_bytes(said: bytes, wanted: Callable[[str], bool]) -> dict[str, tuple[int, ...]]:
    """{disk: (bytes read and written,)} of /proc/diskstats."""
    rows = (line.split() for line in said.split(b"\n") if line)
    found = {row[2].decode(errors="replace"): row for row in rows}
    return {
        name: ((int(row[5]) + int(row[9])) * SECTOR_BYTES,) for name, row in found.items() if wanted(name)
    }


def said_mhz(said: bytes) -> dict[int, float]:
    """{CPU: MHz} of /proc/cpuinfo, where it says any."""
    found, cpu = {}, 0
    for line in said.split(b"\n"):
        key, _, value = line.partition(b":")
        if key.startswith(b"processor") and value.strip().isdigit():
            cpu = int(value)
        elif key.startswith(b"cpu MHz"):
            found[cpu] = float(value)
    return found


def memory() -> dict[str, int]:
    """/proc/meminfo in KiB."""
    lines = (line.split() for line in text("/proc/meminfo").splitlines())
    return {fields[0].rstrip(":"): int(fields[1]) for fields in lines if len(fields) > 1}


def swapped_pages() -> tuple[int, int]:
    """Pages swapped (in, out) since boot."""
    fields = dict(line.split()[:2] for line in text("/proc/vmstat").splitlines())
    return int(fields.get("pswpin", 0)), int(fields.get("pswpout", 0))


def resident_bytes(pids: list[int]) -> int:
    """Resident memory of these processes (shared pages counted once a process)."""
    fields = [text(f"/proc/{pid}/statm").split() for pid in pids]
    return sum(int(field[1]) for field in fields if len(field) > 1) * PAGE_BYTES
