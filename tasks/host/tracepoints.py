"""The scheduler's tracepoints as perf writes them: bytes in, events in the order of their times out.

The layout of perf's records is the kernel's own and does not change (perf_event_open(2)); where a
tracepoint keeps its fields the kernel tells. Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import re
import struct
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.host import readings

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
SWITCH, WAKEUP, MIGRATE, FORK, LOST = range(5)
KINDS = {
    "sched_switch": SWITCH, "sched_wakeup": WAKEUP, "sched_wakeup_new": WAKEUP, "sched_migrate_task": MIGRATE,
}  # fmt: skip
FIELDS = {
    SWITCH: ("prev_comm", "prev_pid", "prev_state", "next_comm", "next_pid"),
    WAKEUP: ("comm", "pid", "target_cpu"),
    MIGRATE: ("pid", "orig_cpu", "dest_cpu"),
}
FIELD = re.compile(r"field:[^;]*?(\w+)(?:\[\d+\])?;\s*offset:(\d+);\s*size:(\d+);")
CODES = {1: "b", 2: "h", 4: "i", 8: "q", 16: "16s"}  # by size

# Of a record: perf_event_header is type, misc, size.
HEADER = struct.Struct("=IHH")
TYPE_LOST, TYPE_FORK, TYPE_SAMPLE, TYPE_ATTR, TYPE_TRACING_DATA, TYPE_ROUND = 2, 7, 9, 64, 66, 68
FILE_HEADER = 16  # bytes, in a pipe
ATTR = struct.Struct("=I20xQ")  # kind of event, and what its samples have
TRACEPOINT = 2
IP, TID, TIME, CPU, PERIOD, RAW, IDENTIFIER = (1 << bit for bit in (0, 1, 2, 7, 8, 10, 16))
SAMPLE = IP | TID | TIME | CPU | PERIOD | RAW | IDENTIFIER
IN_SAMPLE = struct.Struct("=16xI4xQI4x8x4xH")  # of one with these: pid, time, CPU, number of the tracepoint
RAW_AT = IN_SAMPLE.size - 2
TRAILER = struct.Struct("=8xQI4x8x")  # of all other records: time and CPU
FORKED = struct.Struct("=II")  # the pid and its parent's
HOW_MANY = struct.Struct("=8xQ")
LENGTH = struct.Struct("=I")


class Unknown(Exception):
    """The kernel or perf writes something else than we know."""


class Layout(NamedTuple):
    """Where a tracepoint keeps its FIELDS."""

    kind: int
    fields: struct.Struct


def layouts() -> dict[int, Layout]:
    """{number: layout} of the tracepoints, as this kernel has them. Raises Unknown."""
    return dict(layout_of(name, _format(name)) for name in KINDS)


def _format(name: str) -> str:
    for folder in TRACEFS:
        said = readings.text(f"{folder}/events/sched/{name}/format")
        if said:
            return said
    raise Unknown(f"no tracefs: {TRACEFS[0]}/events/sched/{name}/format cannot be read")


def layout_of(name: str, said: str) -> tuple[int, Layout]:
    """(number, layout) of a tracepoint, of what its format file says. Raises Unknown."""
    kind = KINDS[name]
    number = re.search(r"^ID: (\d+)$", said, re.MULTILINE)
    places = {field: (int(offset), int(size)) for field, offset, size in FIELD.findall(said)}
    code, at = "=", 0
    for field in FIELDS[kind]:
        offset, size = places.get(field, (0, 0))
        if number is None or offset < at or size not in CODES:
            raise Unknown(f"the fields of this kernel's {name} are not the ones we know")
        code += f"{offset - at}x{CODES[size]}"
        at = offset + size
    return int(number[1]) if number else 0, Layout(kind, struct.Struct(code))


class Decoder:
    """Turns bytes into events, each of perf's rounds of writing one round late: then none older can come.

    An event is (time_ns, SWITCH, CPU, pid that leaves, *FIELDS), (time_ns, WAKEUP or MIGRATE, *FIELDS),
    (time_ns, FORK, pid, parent) or (time_ns, LOST, CPU, how many).
    """

    def __init__(self, known: dict[int, Layout]) -> None:
        self.known = known
        self.rest = b""
        self.skip = FILE_HEADER
        self.pending: list[Any] = []
        self.newest = self.due = 0

    def feed(self, piece: bytes) -> Iterator[Any]:
        """Take bytes; give the events before which none can come any more. Raises Unknown."""
        data, at = self.rest + piece, 0
        while True:
            skipped = min(self.skip, len(data) - at)
            self.skip -= skipped
            at += skipped
            if at + HEADER.size > len(data):
                break
            kind, _, size = HEADER.unpack_from(data, at)
            if size < HEADER.size:
                raise Unknown("perf writes records that we do not know")
            if at + size > len(data):
                break
            if kind == TYPE_ROUND:
                yield from self._until(self.due)
                self.due = self.newest
            else:
                self._record(kind, data, at + HEADER.size, at + size)
            at += size
        self.rest = data[at:]

    def close(self) -> list[Any]:
        """All events that are left."""
        return self._until(self.newest)

    def _record(self, kind: int, data: bytes, at: int, end: int) -> None:
        if kind == TYPE_SAMPLE:
            pid, time_ns, cpu, number = IN_SAMPLE.unpack_from(data, at)
            layout = self.known.get(number)
            if layout:
                who = (cpu, pid) if layout.kind == SWITCH else ()
                self._add((time_ns, layout.kind, *who, *layout.fields.unpack_from(data, at + RAW_AT)))
        elif kind in (TYPE_FORK, TYPE_LOST):
            time_ns, cpu = TRAILER.unpack_from(data, end - TRAILER.size)
            if kind == TYPE_FORK:
                self._add((time_ns, FORK, *FORKED.unpack_from(data, at)))
            else:
                self._add((time_ns, LOST, cpu, *HOW_MANY.unpack_from(data, at)))
        elif kind == TYPE_ATTR:
            event, sample = ATTR.unpack_from(data, at)
            if event == TRACEPOINT and sample != SAMPLE:
                raise Unknown(f"perf writes samples of type {sample:#x}; we know {SAMPLE:#x}")
        elif kind == TYPE_TRACING_DATA:  # what follows is not in its size
            (self.skip,) = LENGTH.unpack_from(data, at)

    def _add(self, event: Any) -> None:
        self.pending.append(event)
        self.newest = max(self.newest, event[0])

    def _until(self, time_ns: int) -> list[Any]:
        """What of the pending is as old; the events of one CPU come in order, but after those of another."""
        self.pending.sort(key=itemgetter(0))
        count = len(self.pending)
        while count and self.pending[count - 1][0] > time_ns:
            count -= 1
        ready, self.pending = self.pending[:count], self.pending[count:]
        return ready
