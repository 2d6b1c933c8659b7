"""The sampler: host, engine and neighbour counters as rates, 10 times a second, into counters.jsonl.

    python3 -m tasks.host.sampler --out FILE --engine-session ID --cpus 0 [--gpus 0,1] [--hz 10] [--seconds 9]

Each line is one sample: values are rates over (mono_ns - interval_ns, mono_ns]. What is cheap is read every
time (--hz, 1 to 100), what is dear once a second, and less often where that would be more than its share of
a CPU, so that a host of 256 CPUs or 10,000 processes costs little more than a small one. A counter that went
backwards, or was not there the last time, has no value. Standard library only (Python >= 3.9). Counter names
follow the published ones (arXiv 2601.09258).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Callable

from tasks.host import readings, recording
from tasks.host.census import Census, Value
from tasks.host.engine import Engine, ran_pct
from tasks.host.gpu_counters import Gpus
from tasks.host.readings import Files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Rows = Callable[[Any, Any, float], Iterable[Value]]  # the last reading, this one, seconds between

TOLD_EVERY_S = 0.85  # so a line is less than a second late
SLOW_EVERY_S = TOLD_EVERY_S
GPU_EVERY_S = 0.095  # NVML itself looks no more often
SHARE = 0.001  # of a CPU, that each group of dear readings may take
FEW_CPUS = 16  # up to here every sample has a value for each CPU, else one a second
STAT_BYTES = 1 << 16
PRESSURES = ("cpu", "memory", "io")
HEADS_KEPT = 10_000


class Group:
    """Counters that are read together: `rows` makes values of what was read the last time and now.

    One of which every reading counts has no `every_s`.
    """

    def __init__(
        self, read: Callable[[], Any], rows: Rows, every_s: float = 0.0, share: float = SHARE
    ) -> None:
        self.read, self.rows, self.every_s, self.share = read, rows, every_s, share
        self.before: Any = None
        self.at_ns = self.due_ns = 0

    def sample(self, now_ns: int) -> tuple[int, list[Value]]:
        """(ns since the last reading, the values); none when it is not due, or read for the first time."""
        if now_ns < self.due_ns:
            return 0, []
        begin = time.thread_time()
        found = self.told(now_ns, self.read())
        cost_s = time.thread_time() - begin
        self.due_ns = now_ns + int(1e9 * max(self.every_s, cost_s / self.share))
        return found

    def told(self, at_ns: int, fresh: Any) -> tuple[int, list[Value]]:
        """The same of something that was read then."""
        interval_ns = at_ns - self.at_ns
        values = [] if self.before is None else list(self.rows(self.before, fresh, interval_ns / 1e9))
        self.before, self.at_ns = fresh, at_ns
        return interval_ns, values


class Sampler:
    """Keeps the previous reading of every cumulative counter, so that each sample is a rate."""

    def __init__(
        self, session: int, cpus: list[int], gpus: Gpus | None = None, files: Files | None = None
    ) -> None:
        self.files = files or Files()
        self.cpus = cpus
        self.gpus = gpus or Gpus([])
        self.census = Census(self.files, session, cpus)
        self.engine = Engine(self.files, session)
        self.heads: dict[tuple[Any, ...], str] = {}
        self.known_disks: dict[str, bool] = {}
        self.cpu_count = len(readings.cpu_lines(self._stat())) - 1
        self.few = self.cpu_count <= FEW_CPUS
        self.groups = [
            Group(self._people, self.census.neighbours, SLOW_EVERY_S),
            Group(self._devices, self._device_rows, SLOW_EVERY_S),
            Group(self._clocks, self._clock_rows, SLOW_EVERY_S),
        ]
        if not self.few:
            each = Group(
                lambda: self._each_cpu(self._stat(), self.engine.used()), self._cpu_rows, SLOW_EVERY_S
            )
            self.groups.append(each)
        self.fast = Group(self._fast, self._fast_rows)
        self.waiting: list[tuple[int, Any]] = []
        self.due_ns = 0
        self.gpu = Group(self.gpus.read, self._gpu_rows, GPU_EVERY_S, share=1.0) if self.gpus.gpus else None
        self._people()

    def lines(self) -> Iterator[str]:
        """Read what is due, and tell what was read, in a line a sample and group of counters.

        What is read at every sample is made into numbers and text a second's worth at a time: that costs
        a third of doing it sample by sample, when others have had the CPU's caches in between.
        """
        now_ns = time.monotonic_ns()
        self.waiting.append((now_ns, self._fast()))
        if self.gpu:
            yield from self._line(now_ns, *self.gpu.sample(now_ns))
        if now_ns >= self.due_ns:
            yield from self.rest()
            for group in self.groups:
                now_ns = time.monotonic_ns()
                yield from self._line(now_ns, *group.sample(now_ns))
            self.due_ns = now_ns + int(1e9 * TOLD_EVERY_S)

    def rest(self) -> Iterator[str]:
        """The lines of what was read and not told yet."""
        self.engine.settle(len(self.waiting))
        for at_ns, said in self.waiting:
            yield from self._line(at_ns, *self.fast.told(at_ns, self._digest(said)))
        self.waiting.clear()

    def _line(self, at_ns: int, interval_ns: int, values: list[Value]) -> Iterator[str]:
        if values:
            said = ",".join([f"{self._head(value)}{value[4]:.3f}]" for value in values])
            yield f'{{"type":"sample","mono_ns":{at_ns},"interval_ns":{interval_ns},"values":[{said}]}}'

    def _head(self, value: Value) -> str:
        """A value's place, as JSON up to its number."""
        head = self.heads.get(value[:4])
        if head is None:
            if len(self.heads) > HEADS_KEPT:
                self.heads.clear()
            head = self.heads[value[:4]] = json.dumps(value[:4], separators=(",", ":"))[:-1] + ","
        return head

    def _stat(self) -> bytes:
        return self.files.read("/proc/stat", STAT_BYTES)

    def _fast(self) -> tuple[bytes, dict[str, Any]]:
        return self._stat(), self.engine.fast()

    def _digest(self, said: tuple[bytes, dict[str, Any]]) -> dict[str, Any]:
        stat, engine = said
        return {
            "host": readings.ticks(stat.partition(b"\n")[0]), "engine": self.engine.digest(engine),
            "cpus": self._each_cpu(stat, engine["used"]) if self.few else None,
        }  # fmt: skip

    def _fast_rows(self, old: dict[str, Any], new: dict[str, Any], seconds: float) -> Iterator[Value]:
        busy, _ = _shares(old["host"], new["host"])
        yield "host_cpu_usage", "Host", None, None, busy
        if self.few:
            yield from self._cpu_rows(old["cpus"], new["cpus"], seconds)
        yield from self.engine.fast_rows(old["engine"], new["engine"], seconds)

    def _each_cpu(self, stat: bytes, used: dict[int, int]) -> dict[str, Any]:
        lines = readings.cpu_lines(stat)[1:]
        return {
            "ticks": {line[3 : line.index(b" ")].decode(): readings.ticks(line) for line in lines},
            "used": used,
        }

    def _cpu_rows(self, old: dict[str, Any], new: dict[str, Any], seconds: float) -> Iterator[Value]:
        """Of each CPU, and what others than the engine use of the engine's CPUs."""
        together = 0.0
        for cpu, now in new["ticks"].items():
            if cpu in old["ticks"]:
                busy, stolen = _shares(old["ticks"][cpu], now)
                together += busy if int(cpu) in self.cpus else 0.0
                yield "cpu_usage", f"CPU {cpu}", None, None, busy
                yield "cpu_steal", f"CPU {cpu}", None, None, stolen
        ran = ran_pct(old["used"], new["used"], seconds)
        if self.census.session >= 0:
            yield "other_cpu_usage", "Host", None, None, max(together - ran, 0.0)

    def _people(self) -> dict[int, int]:
        found = self.census.take()
        self.engine.find(self.census.ours())
        return found

    def _devices(self) -> dict[str, Any]:
        pages = self.files.whole("/proc/vmstat")
        stalled = [self.files.read(f"/proc/pressure/{name}") for name in PRESSURES]
        diskstats = self.files.whole("/proc/diskstats")
        return {
            "net": readings.network_bytes(self.files.whole("/proc/net/dev")),
            "disk": readings.disk_bytes(diskstats, self._is_disk),
            "swap": [readings.number(pages, key) for key in (b"pswpin ", b"pswpout ")],
            "stalled": [readings.number(said, b"total=") for said in stalled],
            "cgroup": self.engine.cgroup.used_ns(),
            "own": time.process_time(),
        }  # fmt: skip

    def _device_rows(self, old: dict[str, Any], new: dict[str, Any], seconds: float) -> Iterator[Value]:
        yield from _rates(("net_rx", "net_tx"), old["net"], new["net"], seconds)
        yield from _rates(("disk_usage",), old["disk"], new["disk"], seconds)
        for name, was, now in zip(("host_swap_in", "host_swap_out"), old["swap"], new["swap"]):
            if was is not None and now is not None and now >= was:
                yield name, "Host", None, None, (now - was) / seconds
        for name, was, now in zip(PRESSURES, old["stalled"], new["stalled"]):
            if was is not None and now is not None and now >= was:
                yield f"pressure_{name}", "Host", None, None, (now - was) / 1e4 / seconds
        memory = self.files.read("/proc/meminfo")
        total = readings.number(memory, b"MemTotal:")
        yield from _memory_rows(memory)
        yield from self.engine.slow_rows(old["cgroup"], new["cgroup"], seconds, total)
        own_pct = 100 * (new["own"] - old["own"]) / seconds
        yield "sampler_cpu_usage", "Host", os.getpid(), None, own_pct

    def _is_disk(self, name: str) -> bool:
        """Whether it is a whole disk that is no memory; /sys is asked once for each name."""
        if name not in self.known_disks:
            memory = name.startswith(("loop", "ram"))
            self.known_disks[name] = not memory and bool(self.files.names(f"/sys/block/{name}"))
        return self.known_disks[name]

    def _clocks(self) -> dict[int, float]:
        """{CPU: MHz}: cpufreq where there is one, else what /proc/cpuinfo says."""
        found = {}
        for cpu in range(self.cpu_count):
            khz = self.files.read(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", 64).strip()
            if khz.isdigit():
                found[cpu] = int(khz) / 1000
        return found or readings.said_mhz(self.files.whole("/proc/cpuinfo"))

    def _clock_rows(self, _old: object, new: dict[int, float], _seconds: float) -> Iterator[Value]:
        for cpu, mhz in new.items():
            yield "cpu_frequency", f"CPU {cpu}", None, None, mhz

    def _gpu_rows(self, old: Any, new: Any, seconds: float) -> Iterator[Value]:
        yield from self.gpus.rows(old, new, seconds)
        yield from self.gpus.process_rows(self.engine.pids)


def _shares(old: readings.Ticks, new: readings.Ticks) -> tuple[float, float]:
    """(busy, stolen) in % of the ticks between; the kernel lets idle ones go back a little at times."""
    busy, idle, stolen = (max(new[k] - old[k], 0) for k in range(3))
    total = max(busy + idle + stolen, 1)
    return 100 * busy / total, 100 * stolen / total


def _memory_rows(said: bytes) -> Iterator[Value]:
    """Shares of memory and swap in use, of /proc/meminfo."""
    total, free = readings.number(said, b"MemTotal:"), readings.number(said, b"MemAvailable:")
    if total:
        free = readings.number(said, b"MemFree:") or 0 if free is None else free
        yield "host_mem_usage", "Host", None, None, 100 * (total - free) / total
    swap = readings.number(said, b"SwapTotal:") or 0
    used = swap - (readings.number(said, b"SwapFree:") or 0)
    yield "host_swap_usage", "Host", None, None, 100 * used / swap if swap else 0.0


def _rates(
    counters: tuple[str, ...],
    old: Mapping[str, tuple[int, ...]],
    new: Mapping[str, tuple[int, ...]],
    seconds: float,
) -> Iterator[Value]:
    for device in new.keys() & old.keys():
        for counter, before, after in zip(counters, old[device], new[device]):
            if after >= before:
                yield counter, device, None, None, (after - before) / seconds


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="sample host counters into a file")
    parser.add_argument("--out", required=True)
    parser.add_argument("--engine-session", type=int, required=True)
    parser.add_argument("--cpus", type=_numbers, required=True, help="the engine's CPUs, such as 0,2")
    parser.add_argument("--gpus", type=_numbers, default=[], help="the engine's GPUs, such as 0,1")
    parser.add_argument("--hz", type=_hz, default=10.0, help="samples a second, 1 to 100")
    parser.add_argument("--seconds", type=float, default=3600.0)
    given = parser.parse_args(argv)
    gpus = Gpus(given.gpus)
    for line in [f"no GPU counters: {gpus.missing}"] if gpus.missing else gpus.lacks:
        sys.stderr.write(f"{line}\n")
    with gpus.open:
        sampler = Sampler(given.engine_session, given.cpus, gpus)
        return recording.record(given.out, 1 / given.hz, given.seconds, sampler.lines, sampler.rest)


def _numbers(said: str) -> list[int]:
    return [int(number) for number in said.split(",")]


def _hz(said: str) -> float:
    hz = float(said)
    if not 1 <= hz <= 100:  # noqa: PLR2004  see the help
        raise argparse.ArgumentTypeError("1 to 100")
    return hz


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
