"""Scheduler events made into slices: when the engine's threads ran, when they waited, and who ran meanwhile.

A slice is a thread's time on a CPU, or in one CPU's queue. What was so when the recording began is cut to
it: a thread that leaves a CPU of which nothing was heard before has run there since. After events were lost
nothing is made up: what they touch begins anew where recording goes on. Standard library only (Python >=
3.9).
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from tasks.host.tracepoints import FORK, LOST, MIGRATE, SWITCH, WAKEUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STATES = {0: "R", 1: "S", 2: "D", 4: "T", 8: "T", 16: "X", 32: "Z", 64: "P", 128: "I", 256: "R"}
WOKEN, MOVED, READY = "W", "M", "R"
KEPT_RUNS = 4096  # a CPU's last ones, of which the longest during a wait is told
A_LINE = 32  # slices: who reads them has two thousand lines in memory at a time
LATER = 1 << 63


class Slicer:
    """Takes events in the order of their times; gives the slices of the processes in `pids` as JSON lines."""

    def __init__(self, pids: set[int], pid_of: dict[int, int], begin_ns: int) -> None:
        self.pids, self.pid_of = pids, pid_of
        self.begin_ns = self.heard_ns = self.last_ns = begin_ns
        self.end_ns = LATER
        self.heard: dict[int, int] = {}  # CPU: since when all of its switches are known
        self.running: dict[int, tuple[int, int, bytes]] = {}  # CPU: (tid, since, name)
        self.on_cpu: set[int] = set()
        self.seen: set[int] = set()
        self.waits: dict[int, Any] = {}  # (CPU, since, how it came there)
        self.names: dict[int, bytes] = {}
        self.stays: dict[
            int, list[Any]
        ] = {}  # of who runs now: they are told when it is known whose thread it is
        self.runs: dict[int, deque[tuple[int, int, int, int, bytes]]] = {}
        self.made: dict[tuple[str, int, int, bytes], list[str]] = {}
        self.lines: list[str] = []
        self.slices = self.lost = self.odd = 0

    def take(self, events: Iterable[Any]) -> None:
        """Take events; those of before the beginning and after the end are left out."""
        for event in events:
            time_ns, kind = event[0], event[1]
            if not self.begin_ns <= time_ns <= self.end_ns:
                continue
            self.last_ns = time_ns
            if kind == SWITCH:
                self._switch(time_ns, *event[2:])
            elif kind == WAKEUP:
                self._wakeup(time_ns, *event[2:])
            elif kind == MIGRATE:
                self._migrate(time_ns, *event[2:])
            elif kind == FORK:
                self._fork(*event[2:])
            elif kind == LOST:
                self._lost(time_ns, *event[2:])

    def _switch(
        self, now: int, cpu: int, pid: int, name: bytes, tid: int, state: int, next_name: bytes, next_tid: int
    ) -> None:
        run = self.running.get(cpu)
        since = self.heard.get(cpu, self.heard_ns) if run is None else run[1]
        if tid:
            self.on_cpu.discard(tid)
            self.seen.add(tid)
            stays = self.stays.pop(tid, ())
            if run is None or run[0] == tid:
                self._ran(now, cpu, pid, tid, name, since, state, stays)
            else:  # a switch that was not told: since when it ran is not known
                self.odd += 1
                self._forget(run[0])
            self.waits.pop(tid, None)
            if STATES.get(state) == READY:
                self.waits[tid] = (cpu, now, READY)
                self.names[tid] = name
        if next_tid:
            wait = self.waits.pop(next_tid, None)
            if wait is None and next_tid not in self.seen:
                wait = (cpu, self.heard_ns, None)
            if wait:
                self.stays.setdefault(next_tid, []).append((wait[0], wait[1], now, wait[2]))
            self.seen.add(next_tid)
            self.on_cpu.add(next_tid)
        self.running[cpu] = (next_tid, now, next_name)

    def _ran(
        self,
        now: int,
        cpu: int,
        pid: int,
        tid: int,
        name: bytes,
        since: int,
        state: int | None,
        stays: Iterable[Any],
    ) -> None:
        if cpu not in self.runs:
            self.runs[cpu] = deque(maxlen=KEPT_RUNS)
        self.runs[cpu].append((since, now, pid, tid, name))
        if pid in self.pids:
            self.pid_of[tid] = pid
            self._waited(pid, tid, name, stays)
            letter = "null" if state is None else f'"{STATES.get(state, "?")}"'
            self._slice("oncpu", pid, tid, name, f"[{since},{now - since},{cpu},{letter}]")

    def _waited(self, pid: int, tid: int, name: bytes, stays: Iterable[Any]) -> None:
        for cpu, since, until, how in stays:
            words = f"{since},{until - since},{cpu}," + (f'"{how}"' if how else "null")
            who, ran_ns = self._instead(cpu, since, until)
            if who:
                words += f",{who[0]},{who[1]},{_text(who[2])},{ran_ns}"
            self._slice("runq", pid, tid, name, f"[{words}]")

    def _instead(self, cpu: int, since: int, until: int) -> tuple[Any, int]:
        """Who ran longest on that CPU meanwhile, and how long; None where it stood idle."""
        found: dict[Any, int] = {}
        for start, end, *who in reversed(self.runs.get(cpu, ())):
            if end <= since:
                break
            if start < until:
                key = tuple(who)
                found[key] = found.get(key, 0) + min(end, until) - max(start, since)
        longest = max(found, key=found.__getitem__, default=None)
        return longest, found.get(longest, 0)

    def _wakeup(self, now: int, name: bytes, tid: int, cpu: int) -> None:
        self.seen.add(tid)
        if tid not in self.on_cpu and tid not in self.waits:
            self.waits[tid] = (cpu, now, WOKEN)
            self.names[tid] = name

    def _migrate(self, now: int, tid: int, origin: int, cpu: int) -> None:
        wait = self.waits.get(tid)
        if wait and wait[0] == origin:
            self.stays.setdefault(tid, []).append((origin, wait[1], now, wait[2]))
            self.waits[tid] = (cpu, now, MOVED)

    def _fork(self, pid: int, parent: int) -> None:
        """A new process, or a new thread of one; a pid that another had before is no longer the engine's."""
        if parent in self.pids:
            self.pids.add(pid)
        elif pid != parent:
            self.pids.discard(pid)

    def _lost(self, now: int, cpu: int, how_many: int) -> None:
        """What is not known any more: who is on that CPU, and who waits anywhere."""
        since = max((run[1] for run in self.running.values()), default=self.begin_ns)
        self.lost += how_many
        self.lines.append(
            f'{{"type":"lost","mono_ns":{now},"cpu":{cpu},"events":{how_many},"last_mono_ns":{since}}}'
        )
        run = self.running.pop(cpu, None)
        if run:
            self._forget(run[0])
        for tid in self.waits:
            self.stays.pop(tid, None)
        self.waits.clear()
        self.seen.clear()
        self.heard[cpu] = self.heard_ns = now

    def _forget(self, tid: int) -> None:
        self.on_cpu.discard(tid)
        self.stays.pop(tid, None)

    def finish(self) -> None:
        """Cut what goes on to the end of the recording."""
        end_ns = self.end_ns
        for cpu, (tid, since, name) in self.running.items():
            pid = self.pid_of.get(tid)
            if pid in self.pids and end_ns > since:
                self._ran(end_ns, cpu, pid, tid, name, since, None, self.stays.pop(tid, ()))
        for tid, (cpu, since, how) in self.waits.items():
            pid = self.pid_of.get(tid)
            if pid in self.pids and end_ns > since:
                stays = [*self.stays.pop(tid, ()), (cpu, since, end_ns, how)]
                self._waited(pid, tid, self.names.get(tid, b""), stays)
        self.flush()

    def _slice(self, kind: str, pid: int, tid: int, name: bytes, words: str) -> None:
        self.slices += 1
        made = self.made.setdefault((kind, pid, tid, name), [])
        made.append(words)
        if len(made) >= A_LINE:
            self._line(kind, pid, tid, name, made)
            made.clear()

    def _line(self, kind: str, pid: int, tid: int, name: bytes, made: list[str]) -> None:
        self.lines.append(
            f'{{"type":"slices","kind":"{kind}","pid":{pid},"tid":{tid},"name":{_text(name)},"values":[{",".join(made)}]}}'
        )

    def flush(self) -> None:
        """Make lines of all slices."""
        for key, made in self.made.items():
            if made:
                self._line(*key, made)
        self.made.clear()

    def told(self) -> Iterator[str]:
        """The lines that are made."""
        lines, self.lines = self.lines, []
        yield from lines


def _text(name: bytes) -> str:
    return json.dumps(name.split(b"\0", 1)[0].decode(errors="replace"))
