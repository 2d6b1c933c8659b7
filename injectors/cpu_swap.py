"""CPU swap: memory is allocated and kept rewritten until the host swaps, or a share of its RAM is held.

The program takes the OOM killer's first place, so it dies before the server does, and it leaves the host a
reserve. With a share it holds as much of it as the reserve allows; an amount in GB it holds, or the fault
is refused, or the host swaps: then what could be had is held. Pages are full of noise, for zram and
zswap not to shrink them, and rewriting takes a fifth of a CPU, none of the server's where there are others:
this fault is about memory, not about CPUs.
Runs on the host, standard library only. The victim's measure is the memory and swap that the server could
still get.

    python3 -m injectors.cpu_swap hold BYTES RESERVE SECONDS PARENT REPORT
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import mmap
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from injectors import _cgroups
from tasks.host import readings, state
from tasks.host.site import Site, Trouble
from tasks.host.strengths import Number

if TYPE_CHECKING:
    from tasks.host.strengths import Parameters

STRENGTH: Parameters = {
    "share_of_ram_pct": Number(80, 1, 95, "share of the host's RAM to hold"),
    "gb": Number(None, 0.1, 100_000, "GiB to hold; wins over the share", whole=False),
}
METRIC, UNIT = "mem_obtainable_gb", "GiB"
GIB, CHUNK, PAGE = 1 << 30, 16 << 20, mmap.PAGESIZE
RESERVE, RESERVE_SHARE = GIB // 2, 0.03  # never taken: whichever is more
LEAST = 64 << 20  # below, it is no fault
GROW_S, SLACK_S, MOST_THREADS = 40.0, 5.0, 16  # an apply has 60 s; a thread writes 1 to 3 GiB/s
REWRITING = 0.2  # share of one CPU
FALLS, BACK, NOISE_SHARE = 0.8, 0.1, 0.005  # of what is held; of the RAM: others take and give memory too


def requirements(site: Site) -> str | None:
    """What this host lacks, in one line, or None."""
    total, room = _memory()
    most = room - _reserve(total)
    gb = site.strength["gb"]
    if most < LEAST or (gb and gb * GIB > most):
        wanted = f"hold {gb:g} GiB" if gb else "hold any"
        return (
            f"not enough memory to {wanted}: of {total / GIB:.1f} GiB {room / GIB:.1f} can be had with swap, "
            f"and {_reserve(total) / GIB:.1f} stay with the host, so at most {max(most, 0) / GIB:.1f} GiB fit"
        )
    return None


def saved(_site: Site) -> dict[str, Any]:
    """Nothing of the host's is changed."""
    return {}


def apply(site: Site) -> str:
    """Start the program, and wait until it holds what can be held."""
    _report(site).unlink(missing_ok=True)
    asked, reserve = _asked(site), _reserve(_memory()[0])
    words = [asked, reserve, site.seconds, os.getpid(), _report(site)]
    argv = [sys.executable, "-m", "injectors.cpu_swap", "hold", *map(str, words)]
    site.spawn(argv, site.cpus_beside, {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)})
    end = time.monotonic() + GROW_S + SLACK_S
    while not _report(site).exists():
        if time.monotonic() > end or not site.programs():
            raise Trouble(f"the program that holds the memory is silent or gone; its log: {site.log}")
        time.sleep(0.02)
    said = json.loads(_report(site).read_text())
    held, pages, seconds = said["held"], said["swapped_pages"], said["seconds"]
    if held < LEAST or (site.strength["gb"] and held < asked and not pages):
        raise Trouble(f"only {held / GIB:.2f} of {asked / GIB:.2f} GiB could be had in {seconds:.0f} s")
    short = "" if held >= asked else f" of {asked / GIB:.2f}"
    return f"{held / GIB:.2f}{short} GiB held, {pages} pages were swapped out for it in {seconds:.1f} s"


def revert(site: Site) -> None:
    """End the program."""
    site.end_programs()


def left(site: Site) -> str | None:
    """What of it is still there."""
    pids = site.programs()
    return f"the program still holds memory (pids {sorted(pids)})" if pids else None


def probe(_site: Site) -> float:
    """The victim's measure: memory and swap that can still be had."""
    memory = readings.memory()
    return (memory["MemAvailable"] + memory.get("SwapFree", 0)) * 1024 / GIB


def proved(site: Site, before: float, during: float) -> bool:
    """Whether as much is missing as is held."""
    return before - during >= FALLS * _held_gib(site)


def undone(site: Site, before: float, after: float) -> bool:
    """Whether the memory is back."""
    noise = NOISE_SHARE * readings.memory()["MemTotal"] * 1024 / GIB
    return after >= before - max(BACK * _held_gib(site), noise)


def _held_gib(site: Site) -> float:
    return float(json.loads(_report(site).read_text())["held"]) / GIB


def _report(site: Site) -> Path:
    return site.work / "held.json"


def _memory() -> tuple[int, int]:
    """(bytes of RAM, bytes of RAM and swap still to be had), as the host and our own cgroup have it."""
    memory = readings.memory()
    room = memory["MemAvailable"] + memory.get("SwapFree", 0)
    limit, room_in_it = _cgroups.memory_room(os.getpid())
    return int(min(memory["MemTotal"] * 1024, limit)), int(min(room * 1024, room_in_it))


def _reserve(total: int) -> int:
    return max(RESERVE, int(RESERVE_SHARE * total))


def _asked(site: Site) -> int:
    gb, share = site.strength["gb"], site.strength["share_of_ram_pct"]
    return int(gb * GIB if gb else _memory()[0] * share / 100) // PAGE * PAGE


def _hold(asked: int, reserve: int, seconds: float, parent: int, report: Path) -> int:
    """The program: take the memory, report it, rewrite it until the end."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG: whoever started the fault is gone
    if os.getppid() != parent:
        return 1  # it went before prctl took hold
    Path("/proc/self/oom_score_adj").write_text("1000")
    print(json.dumps({"asked": asked}), flush=True)
    begin, swapped = time.monotonic(), readings.swapped_pages()[1]
    chunks = _grow(asked, reserve, begin + GROW_S, swapped)
    said = {"held": sum(map(len, chunks)), "swapped_pages": readings.swapped_pages()[1] - swapped}
    state.write_json(report, {**said, "seconds": time.monotonic() - begin})
    end = time.monotonic() + seconds + 1  # the fault's own process ends us before
    for k in itertools.count():
        for chunk in chunks:
            at = time.monotonic()
            if at >= end:
                return 0
            memoryview(chunk)[k % PAGE :: PAGE] = os.urandom(len(chunk) // PAGE)  # a byte in every page
            time.sleep((time.monotonic() - at) * (1 / REWRITING - 1))
    return 0


def _grow(asked: int, reserve: int, until: float, swapped: int) -> list[mmap.mmap]:
    threads, chunks, held = min(len(os.sched_getaffinity(0)), MOST_THREADS), list[mmap.mmap](), 0
    noise = (ctypes.c_char * (CHUNK + PAGE)).from_buffer_copy(os.urandom(CHUNK + PAGE))
    with ThreadPoolExecutor(threads) as pool:
        while held < asked and time.monotonic() < until:
            swaps = readings.swapped_pages()[1] > swapped  # then every step takes long
            room = max(_memory()[1] - reserve, 0)
            step = min(CHUNK * (1 if swaps else threads), asked - held, room // CHUNK * CHUNK or room)
            if step < min(CHUNK, asked - held):
                break
            sizes = [min(CHUNK, step - start) for start in range(0, step, CHUNK)]
            chunks += pool.map(_filled, sizes, itertools.repeat(noise), itertools.count(len(chunks)))
            held += step
    return chunks


def _filled(size: int, noise: ctypes.Array[ctypes.c_char], number: int) -> mmap.mmap:
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # no huge pages in this kernel: 1 TB is freed more slowly without
        area.madvise(mmap.MADV_HUGEPAGE)
    start = ctypes.addressof(noise) + number % PAGE  # no two chunks have the same pages
    ctypes.memmove((ctypes.c_char * size).from_buffer(area), start, size)  # lets the other threads run
    return area


if __name__ == "__main__":
    _, _, asked, reserve, seconds, parent, report = sys.argv
    raise SystemExit(_hold(int(asked), int(reserve), float(seconds), int(parent), Path(report)))
