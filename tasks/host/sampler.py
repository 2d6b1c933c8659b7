"""The sampler: host, engine and neighbour counters as rates, 10 times a second, into counters.jsonl.

    python3 -m tasks.host.sampler --out FILE --engine-session ID --cpus 0 [--hz 10] [--seconds 3600]

Each line is one sample: values are rates over (mono_ns - interval_ns, mono_ns]. Cheap readings are
taken every time, the dear ones (all processes, disks, network, frequency) once a second.
Standard library only (Python >= 3.9). Counter names follow the published ones (arXiv 2601.09258).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Callable, Optional, TextIO

from tasks.host import clock, processes, readings

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOCK_EVERY_S = 5.0
SLOW_EVERY_S = 1.0
NEIGHBOURS = 3

Value = tuple[str, str, Optional[int], Optional[str], float]  # counter, device, pid, process name, value


class Sampler:
    """Keeps the previous reading of every cumulative counter, so that each sample is a rate."""

    def __init__(self, engine_session: int, cpus: list[int]) -> None:
        self.session = engine_session
        self.cpus = cpus
        self.engine_pids: list[int] = []
        self.before: dict[str, Any] = {}
        self.at_ns: dict[str, int] = {}

    def fast(self, now_ns: int) -> list[Value]:
        """What is read at every sample; empty the first time, when there is nothing to compare with."""
        fresh: dict[str, Any] = {
            "cpu": readings.cpu_ticks(), "threads": readings.thread_times(self.engine_pids),
            "swap": readings.swapped_pages(), "throttled": readings.throttled_ns(self.session),
            "stalled": {name: readings.stalled_us(name) for name in ("cpu", "memory", "io")},
        }  # fmt: skip
        old, seconds = self._step("fast", fresh, now_ns)
        if old is None:
            return []
        rows = list(self._cpu_rows(old["cpu"], fresh["cpu"]))
        rows += self._engine_rows(old, fresh, seconds, rows)
        return rows + list(self._memory_rows(old, fresh, seconds))

    def _cpu_rows(
        self, old: dict[str, tuple[int, int, int]], new: dict[str, tuple[int, int, int]]
    ) -> Iterator[Value]:
        for name in new.keys() & old.keys():
            busy, idle, stolen = (new[name][k] - old[name][k] for k in range(3))
            total = max(busy + idle + stolen, 1)
            if name == "cpu":
                yield "host_cpu_usage", "Host", None, None, 100 * busy / total
            else:
                yield "cpu_usage", f"CPU {name[3:]}", None, None, 100 * busy / total
                yield "cpu_steal", f"CPU {name[3:]}", None, None, 100 * stolen / total

    def _engine_rows(
        self, old: dict[str, Any], new: dict[str, Any], seconds: float, cpu: list[Value]
    ) -> list[Value]:
        both = new["threads"].keys() & old["threads"].keys()
        ran, waited = (
            sum(new["threads"][t][k] - old["threads"][t][k] for t in both) / 1e9 / seconds for k in (0, 1)
        )
        ours = {f"CPU {number}" for number in self.cpus}
        busy = sum(value for name, device, _, _, value in cpu if name == "cpu_usage" and device in ours)
        rows: list[Value] = [
            ("process_cpu_usage", "Host", self.session, None, 100 * ran),
            ("process_runq_wait", "Host", self.session, None, 1000 * waited),
            ("other_cpu_usage", "Host", None, None, max(busy - 100 * ran, 0.0)),
            ("process_mem_rss", "Host", self.session, None, readings.resident_bytes(self.engine_pids)),
        ]
        if new["throttled"] is not None and old["throttled"] is not None:
            throttled = (new["throttled"] - old["throttled"]) / 1e6 / seconds
            rows.append(("process_cgroup_throttled", "Host", self.session, None, throttled))
        return rows

    def _memory_rows(self, old: dict[str, Any], new: dict[str, Any], seconds: float) -> Iterator[Value]:
        memory = readings.memory()
        used = memory["MemTotal"] - memory.get("MemAvailable", memory["MemFree"])
        swap_total = memory.get("SwapTotal", 0)
        yield "host_mem_usage", "Host", None, None, 100 * used / memory["MemTotal"]
        swapped = swap_total - memory.get("SwapFree", 0)
        yield "host_swap_usage", "Host", None, None, 100 * swapped / swap_total if swap_total else 0.0
        for k, name in enumerate(("host_swap_in", "host_swap_out")):
            yield name, "Host", None, None, (new["swap"][k] - old["swap"][k]) / seconds
        for name, total in new["stalled"].items():
            if total is not None:
                yield f"pressure_{name}", "Host", None, None, (total - old["stalled"][name]) / 1e4 / seconds

    def slow(self, now_ns: int) -> list[Value]:
        """What is read once a second."""
        self.engine_pids = sorted(processes.session_members(self.session))
        fresh: dict[str, Any] = {
            "net": readings.network_bytes(), "disk": readings.disk_bytes(),
            "processes": readings.process_ticks(), "own": time.process_time(),
        }  # fmt: skip
        old, seconds = self._step("slow", fresh, now_ns)
        if old is None:
            return []
        rows: list[Value] = [
            ("cpu_frequency", f"CPU {cpu}", None, None, mhz)
            for cpu, mhz in readings.frequencies_mhz().items()
        ]
        rows += _rates(("net_rx", "net_tx"), old["net"], fresh["net"], seconds)
        rows += _rates(("disk_usage",), old["disk"], fresh["disk"], seconds)
        own = 100 * (fresh["own"] - old["own"]) / seconds
        rows.append(("sampler_cpu_usage", "Host", os.getpid(), None, own))
        return rows + self._neighbours(old["processes"], fresh["processes"], seconds)

    def _neighbours(self, old: dict[int, Any], new: dict[int, Any], seconds: float) -> list[Value]:
        use = {
            pid: 100 * (new[pid][2] - (old[pid][2] if pid in old else 0)) / readings.TICKS / seconds
            for pid in new
            if new[pid][1] != self.session and pid != os.getpid()
        }
        busiest = sorted((pid for pid in use if use[pid] > 0), key=lambda pid: -use[pid])
        rows: list[Value] = []
        candidates = busiest[: 4 * NEIGHBOURS]
        for pid in [pid for pid in candidates if readings.ran_on(pid, self.cpus)][:NEIGHBOURS]:
            rows.append(("other_process_cpu_usage", "Host", pid, new[pid][0], use[pid]))
            age = readings.avx512_age_ms(pid)
            if age is not None:
                rows.append(("other_process_avx512_age", "Host", pid, new[pid][0], age))
        return rows

    def _step(self, kind: str, fresh: dict[str, Any], now_ns: int) -> tuple[dict[str, Any] | None, float]:
        old = self.before.get(kind)
        seconds = (now_ns - self.at_ns.get(kind, 0)) / 1e9
        self.before[kind], self.at_ns[kind] = fresh, now_ns
        return old, seconds


def _rates(
    counters: tuple[str, ...],
    old: dict[str, tuple[int, ...]],
    new: dict[str, tuple[int, ...]],
    seconds: float,
) -> Iterator[Value]:
    for device in new.keys() & old.keys():
        for counter, before, after in zip(counters, old[device], new[device]):
            yield counter, device, None, None, (after - before) / seconds


def run(out: TextIO, sampler: Sampler, hz: float, seconds: float) -> None:
    """Sample until SIGTERM or `seconds`; a late sample is not made up for."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    period = 1.0 / hz
    begin = due = time.monotonic()
    next_slow = next_clock = 0.0
    while not stopped and due - begin < seconds:
        if due >= next_clock:
            _write_clock(out)
            next_clock = due + CLOCK_EVERY_S
        if due >= next_slow:
            _write_sample(out, sampler, "slow", sampler.slow)
            next_slow = due + SLOW_EVERY_S
        _write_sample(out, sampler, "fast", sampler.fast)
        due = max(due + period, time.monotonic())
        time.sleep(max(due - time.monotonic(), 0.0))
    _write_clock(out)


def _write_sample(out: TextIO, sampler: Sampler, kind: str, read: Callable[[int], list[Value]]) -> None:
    before_ns, now_ns = sampler.at_ns.get(kind, 0), time.monotonic_ns()
    values = [(*row[:4], round(row[4], 3)) for row in read(now_ns)]
    if values:
        line = {"type": "sample", "mono_ns": now_ns, "interval_ns": now_ns - before_ns, "values": values}
        out.write(json.dumps(line, separators=(",", ":")) + "\n")
        out.flush()


def _write_clock(out: TextIO) -> None:
    out.write(json.dumps({"type": "clock", "pid": os.getpid(), **clock.pair()}) + "\n")
    out.flush()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="sample host counters into a file")
    parser.add_argument("--out", required=True)
    parser.add_argument("--engine-session", type=int, required=True)
    parser.add_argument("--cpus", required=True, help="the engine's CPUs, such as 0,2")
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=3600.0)
    given = parser.parse_args()
    with open(given.out, "w", encoding="utf-8") as out:
        cpus = [int(cpu) for cpu in given.cpus.split(",")]
        run(out, Sampler(given.engine_session, cpus), given.hz, given.seconds)


if __name__ == "__main__":
    main()
