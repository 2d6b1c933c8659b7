"""The victim of faults that take CPU time: loops that ask for all that the server leaves of its CPUs.

What the server and the loops get together is the same whether or not the server is busy, and however the
kernel shares the CPUs between them. Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import time
from typing import Callable

from tasks.host import readings

METRIC, UNIT = "cpus_to_be_had", "CPUs"
# A measure is the best of some windows: others take CPU time now and then, a fault always.
WINDOWS, WINDOW_S, BEGIN_S = 3, 0.5, 2.0
LONGEST_S = 15.0  # of a loop, should nobody end it


def cpus_to_be_had(
    cpus: list[int],
    server: Callable[[], set[int]],
    enter: Callable[[], None] = lambda: None,
    leave: Callable[[int], None] = lambda _pid: None,
) -> float:
    """How many CPUs' time the server's processes and a loop on each of the CPUs get.

    Each loop calls `enter` before it begins; `leave` is called with its pid before it is ended.
    """
    begun = memoryview(mmap.mmap(-1, len(cpus)))  # a byte a loop
    fork = multiprocessing.get_context("fork")
    loops = [
        fork.Process(target=_loop, args=(begun, k, cpu, enter), daemon=True) for k, cpu in enumerate(cpus)
    ]
    for loop in loops:
        loop.start()
    try:
        end = time.monotonic() + BEGIN_S
        while not all(begun) and time.monotonic() < end:
            time.sleep(0.01)
        ours = {loop.pid for loop in loops if loop.pid}
        return max(_had(ours | server()) for _ in range(WINDOWS))
    finally:
        for loop in loops:
            if loop.pid:
                leave(loop.pid)
            loop.kill()
            loop.join(1)


def _loop(begun: memoryview, mine: int, cpu: int, enter: Callable[[], None]) -> None:
    os.sched_setaffinity(0, {cpu})
    enter()
    begun[mine] = 1
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        pass


def _had(pids: set[int]) -> float:
    began, before = time.monotonic_ns(), _ran_ns(pids)
    time.sleep(WINDOW_S)
    after, passed = _ran_ns(pids), time.monotonic_ns() - began
    return sum(after[thread] - before.get(thread, 0) for thread in after) / passed


def _ran_ns(pids: set[int]) -> dict[str, int]:
    """{thread: ns on a CPU so far}."""
    folders = [f"/proc/{pid}/task/{thread}" for pid in pids for thread in readings.names(f"/proc/{pid}/task")]
    said = {folder: readings.text(f"{folder}/schedstat").split() for folder in folders}
    return {folder: int(words[0]) for folder, words in said.items() if words}
