"""Scheduler slices against the kernel's own totals, and what recording them costs.

    python -m tests.bench_slices [--engine PYTHON] [--seconds 10] [--windows 3] [--threads]

With --engine, an interpreter that has vLLM, it serves the tiny model to four clients at a time, alone and
under the squeeze; else a stand-in of 99 threads. For each of its threads /proc/TID/schedstat (time on a
CPU, time in a queue) is read at both ends of a window, and the slices are cut to the very same moments.
Prints both totals, their difference, and the share of a CPU of ours that the recorder and its perf take.
Before, two processes wake each other through pipes on the server's CPU, with the tracepoints on and off
every quarter of a second: what that costs a switch. Needs root and perf.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from injectors import cpu_compute_squeeze_out
from tasks.host import perf
from tasks.host.census import used_ns
from tasks.host.facts import usable_cpus
from tasks.host.site import Site
from tasks.host.slices import Recorder, engine_processes
from tests.bench_sampler import a_server, say, started

SETTLE_S, PHASE_S = 1.5, 0.25
SMALL_MS = 50  # of CPU time in a window: threads with less are not judged one by one
Totals = dict[int, tuple[int, int, int]]  # tid: when it was read, ns on a CPU, ns in a queue


def totals(session: int) -> Totals:
    """What the kernel has counted of each thread of a session."""
    found = {}
    for pid in engine_processes(session):
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                ran, waited, _ = path.read_text().split()
            except OSError:
                continue
            found[int(path.parent.name)] = time.monotonic_ns(), int(ran), int(waited)
    return found


def sliced(lines: list[dict[str, Any]], old: Totals, new: Totals) -> dict[int, dict[str, int]]:
    """{tid: {kind: ns}} of the slices between the two readings of each thread."""
    found: dict[int, dict[str, int]] = defaultdict(lambda: {"oncpu": 0, "runq": 0})
    for line in lines:
        tid = line.get("tid")
        if line["type"] == "slices" and tid in old and tid in new:
            for start, duration, *_ in line["values"]:
                within = min(start + duration, new[tid][0]) - max(start, old[tid][0])
                found[tid][line["kind"]] += max(within, 0)
    return found


def compare(name: str, lines: list[dict[str, Any]], old: Totals, new: Totals, *, each: bool) -> None:
    """Print the totals of a window by the kernel and by the slices."""
    found = sliced(lines, old, new)
    for kind, at in (("oncpu", 1), ("runq", 2)):
        told = {tid: (new[tid][at] - old[tid][at], found[tid][kind]) for tid in old.keys() & new.keys()}
        kernel, ours = (sum(pair[side] for pair in told.values()) / 1e6 for side in (0, 1))
        large = [100 * (b / a - 1) for a, b in told.values() if a > SMALL_MS * 1e6]
        worst = max(large, key=abs, default=0.0)
        off = 100 * (ours / kernel - 1) if kernel else 0.0
        say(
            f"{name:22} {kind:6} kernel {kernel:10.2f} ms  slices {ours:10.2f} ms  {off:+7.3f} %   "
            f"worst of {len(large)} threads {worst:+.2f} %"
        )
        if each:
            for tid, (a, b) in sorted(told.items(), key=lambda one: -one[1][0])[:6]:
                say(f"{'':24}thread {tid}: {a / 1e6:.2f} {b / 1e6:.2f} ms")


def window(name: str, session: int, cpus: list[int], ours: list[int], given: argparse.Namespace) -> None:
    """Record one window and print it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "slices.jsonl")
        words = ["--engine-session", str(session), "--cpus", ",".join(map(str, cpus)), "--out", str(out)]
        child = subprocess.Popen([sys.executable, "-m", "tasks.host.slices", *words])
        os.sched_setaffinity(child.pid, ours)
        time.sleep(SETTLE_S)
        old, spent, begin = totals(session), used(child.pid), time.monotonic()
        time.sleep(given.seconds)
        new, spent, seconds = totals(session), used(child.pid) - spent, time.monotonic() - begin
        child.terminate()
        began = time.monotonic()
        code = child.wait(10)
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        size = out.stat().st_size
    compare(name, lines, old, new, each=given.threads)
    told = next(line for line in lines if line["type"] == "recorded")
    slices, covered_ns = told["slices"], told["end_mono_ns"] - told["begin_mono_ns"]
    say(
        f"{'':22} {slices / covered_ns * 1e9:.0f} slices/s, {size / max(slices, 1):.0f} bytes each; "
        f"lost {told['lost_events']}, odd {told['odd_events']}; recorder and perf "
        f"{spent / 1e7 / seconds:.2f} % of a CPU of ours; stopped in {time.monotonic() - began:.2f} s "
        f"with {code}"
    )


def used(pid: int) -> int:
    """CPU time of the recorder and its perf, ns."""
    return sum(used_ns(one) or 0 for one in (pid, *children(pid)))


def children(pid: int) -> list[int]:
    """Its children."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def squeezed(cpus: list[int]) -> Iterator[None]:
    """The squeeze on these CPUs."""
    with tempfile.TemporaryDirectory() as folder:
        strength = {"threads_per_cpu": 2, "share_pct": 100}
        site = Site("cpu_compute_squeeze_out", strength, folder, f"{folder}/log", cpus, 300.0)
        if lack := cpu_compute_squeeze_out.requirements(site):
            sys.exit(lack)
        cpu_compute_squeeze_out.apply(site)
        try:
            yield
        finally:
            cpu_compute_squeeze_out.revert(site)


BOUNCE = """
import mmap, os, sys
count = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 8)
there, back = os.pipe(), os.pipe()
if os.fork() == 0:
    while os.write(back[1], os.read(there[0], 1)): pass
rounds = 0
while True:
    os.write(there[1], b"x"); os.read(back[0], 1); rounds += 1
    count[:8] = rounds.to_bytes(8, "little")
"""


def a_switch(cpus: list[int], ours: list[int], pairs: int) -> None:
    """Print what a switch, with the wakeup before it, costs whoever is switched."""
    before = os.sched_getaffinity(0)
    phases: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(8))
        file.flush()

        def rounds() -> int:
            return int.from_bytes(Path(file.name).read_bytes(), "little")

        with started([sys.executable, "-c", BOUNCE, file.name], cpus) as session:
            os.sched_setaffinity(0, ours)
            recorder = Recorder(session, cpus, 1 << 40)
            time.sleep(SETTLE_S)
            for turn in range(2 * pairs):
                on = turn % 2 == 0
                (recorder.perf.enable if on else recorder.perf.disable)()
                count, begin = rounds(), time.perf_counter()
                while time.perf_counter() < begin + PHASE_S:
                    recorder.turn(0.05)
                    recorder.slicer.lines.clear()
                phases[on].append((time.perf_counter() - begin) / (rounds() - count) / 2 * 1e9)
            recorder.perf.close()
    os.sched_setaffinity(0, before)
    costs = sorted(on - off for on, off in zip(phases[True], phases[False], strict=True))
    low, high = costs[pairs // 10], costs[-1 - pairs // 10]
    say(
        f"a switch and its wakeup: {statistics.median(phases[False]):.0f} ns off, "
        f"{statistics.median(costs):+.0f} ns on ({low:+.0f} to {high:+.0f}, 80 % of {pairs} pairs) at "
        f"{1e9 / statistics.median(phases[True]):.0f} switches/s; {recorder.slicer.lost} events lost"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="hold scheduler slices against schedstat; the recorder's cost"
    )
    parser.add_argument("--engine", default="", help="an interpreter that has vLLM")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--threads", action="store_true", help="the six busiest threads one by one")
    given = parser.parse_args()
    if lack := perf.missing():
        sys.exit(f"no scheduler slices: {lack}")
    usable = usable_cpus()
    cpus, ours = usable[:1], usable[-1:]
    a_switch(cpus, ours, 12)
    with a_server(engine=given.engine, cpus=cpus, ours=ours) as (session, _):
        for number in range(given.windows):
            window(f"alone {number + 1}", session, cpus, ours, given)
        with squeezed(cpus):
            for number in range(given.windows):
                window(f"squeezed {number + 1}", session, cpus, ours, given)


if __name__ == "__main__":
    main()
