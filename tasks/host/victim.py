"""Victims: small programs whose speed shows what a fault takes from a server.

    python3 -m tasks.host.victim loops MILLISECONDS [PROCS_FILE]

Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.host.site import Site

LOOPS = ("victim_loops", "M/s")  # metric and unit of `loops_per_s`
MEASURE_MS = 700
STEPS = 2000


def loops_per_s(site: Site, procs: str | None = None) -> float:
    """Millions of loop steps per second of one thread on the server's CPUs, in a cgroup if one is named.

    `procs` is the path of that cgroup's cgroup.procs. Raises Trouble.
    """
    argv = [sys.executable, "-m", "tasks.host.victim", "loops", str(MEASURE_MS), *([procs] if procs else [])]
    return float(site.run(argv))


def loops(milliseconds: int) -> float:
    """Count for so long; millions of steps per second."""
    begin = time.monotonic()
    end, steps = begin + milliseconds / 1000, 0
    while (now := time.monotonic()) < end:
        for _ in range(STEPS):
            pass
        steps += STEPS
    return steps / (now - begin) / 1e6


def main(milliseconds: int, procs: Path | None) -> int:
    """Join the cgroup, count, print."""
    if procs is not None:
        procs.write_text(str(os.getpid()))
    print(loops(milliseconds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[2]), next(map(Path, sys.argv[3:]), None)))
