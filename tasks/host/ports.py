"""Ports on loopback: a free one, or who has the wanted one.

Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import os
import socket

from tasks.host import readings

LISTENING = "0A"


class InUse(Exception):
    """The wanted port is taken; the text names by whom where that can be seen."""


def free(wanted: int | None) -> int:
    """The wanted port, or any free one. Raises InUse."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise InUse(
                f"port {wanted} is in use{_by(wanted or 0)}: choose another, or leave it out for a free one"
            ) from error
        number: int = probe.getsockname()[1]
        return number


def _by(port: int) -> str:
    pid = listener(port)
    return "" if pid is None else f" by {readings.text(f'/proc/{pid}/comm').strip()} (pid {pid})"


def listener(port: int) -> int | None:
    """The pid of a process that listens on a port of this host; None where none can be seen."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in (line.split() for line in readings.text(table).splitlines()[1:]):
            if row[1].endswith(f":{port:04X}") and row[3] == LISTENING:
                inodes.add(f"socket:[{row[9]}]")
    for pid in filter(str.isdigit, readings.names("/proc")):
        for descriptor in readings.names(f"/proc/{pid}/fd"):
            try:
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") in inodes:
                    return int(pid)
            except OSError:
                continue
    return None
