"""Incidents as they open and close, by the rules of incidents.py, and drift, in memory that does not grow."""

from __future__ import annotations

import json
import math
from collections import deque
from statistics import median
from typing import TYPE_CHECKING, Any

from tasks.sentinel.incidents import NS_PER_MS, severity
from tasks.sentinel.limits import GAP_NS, INCIDENT_ALARMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tasks.sentinel.online import Scored

Event = dict[str, Any]

MEDIAN_BATCHES = 20_000  # of a longer incident the medians are of its last ones
MOST_WORKLOADS = 1000
# An incident that lasts this long, in time and in batches, is what the server is like now.
DRIFT_NS = 600_000_000_000
DRIFT_BATCHES = 1000
FASTER = math.log(1.25)
FIRST_LOOK = 200  # batches before anything is said of the domain
OUTSIDE_SHARE, INSIDE_SHARE = 0.5, 0.25


class Tally:
    """One incident so far."""

    def __init__(self, number: int, rows: list[Scored]) -> None:
        self.number = number
        self.batches = self.alarms = self.gaps = 0
        self.actual_ns = self.expected_ns = self.gap_ns = 0.0
        self.end_ns = 0
        self._actual: deque[int] = deque(maxlen=MEDIAN_BATCHES)
        self._expected: deque[float] = deque(maxlen=MEDIAN_BATCHES)
        self._workloads: set[str] = set()
        self.first = self.last = rows[0]
        self.add(rows)

    def add(self, rows: Iterable[Scored]) -> None:
        """Take batches that lie in it."""
        for row in rows:
            self.last = row
            self.batches += 1
            self.alarms += row.alarm
            self.actual_ns += row.actual_ns
            self.expected_ns += round(row.expected_ns)
            self._actual.append(row.actual_ns)
            self._expected.append(round(row.expected_ns))
            self.end_ns = max(self.end_ns, row.end_ns)
            if row.interval_ns is not None and row.forward_mode in ("decode", "mixed"):
                self.gaps, self.gap_ns = self.gaps + 1, self.gap_ns + row.interval_ns
            if row.workload is not None and len(self._workloads) < MOST_WORKLOADS:
                self._workloads.add(row.workload)

    def described(self, slo_tpot_ms: float | None) -> Event:
        """What `incidents` says of it."""
        tpot_ms = self.gap_ns / self.gaps / NS_PER_MS if self.gaps else None
        slowdown = self.actual_ns / self.expected_ns
        violated = None if tpot_ms is None or slo_tpot_ms is None else tpot_ms > slo_tpot_ms
        return {
            "incident_index": self.number, "start_ns": self.first.start_ns, "end_ns": self.end_ns,
            "first_batch_index": self.first.index, "last_batch_index": self.last.index,
            "batches": self.batches, "alarms": self.alarms,
            "expected_ms": median(self._expected) / NS_PER_MS, "actual_ms": median(self._actual) / NS_PER_MS,
            "slowdown": slowdown, "excess_ms": (self.actual_ns - self.expected_ns) / NS_PER_MS,
            "tpot_ms": tpot_ms, "slo_violated": violated,
            "severity": severity(slo_violated=violated, slowdown=slowdown),
            "workloads": json.dumps(sorted(self._workloads)),
        }  # fmt: skip


class Incidents:
    """Merges one session's settled batches into incidents, as incident_spans does of a whole run."""

    def __init__(self, slo_tpot_ms: float | None = None) -> None:
        """Take the objective for the time per output token, None where there is none."""
        self._slo = slo_tpot_ms
        self._streak: list[Scored] = []  # alarms in a row, too few to be an incident
        self._tail: list[Scored] = []  # after the open incident's last alarm: in it if alarms come again
        self._is_inside = False
        self._before: Scored | None = None
        self._count = 0
        self.open: Tally | None = None

    def take(self, row: Scored) -> list[Event]:
        """Take the next batch; returns what it opened and closed."""
        before, self._before = self._before, row
        if before and row.index - before.index > 1 and row.start_ns - before.end_ns >= GAP_NS:
            self._broken()
        if not row.alarm:
            self._broken()
            self._tail.append(row)
            return self._closed_before(row.start_ns)
        if self._is_inside and self.open:
            self.open.add([row])
            return []
        self._streak.append(row)
        said = self._closed_before(self._streak[0].start_ns)
        return [*said, *self._qualified()] if len(self._streak) == INCIDENT_ALARMS else said

    def end(self, how: str = "ended") -> list[Event]:
        """Nothing more comes of this session: close what is open, and say how."""
        self._broken()
        said = [self._told(self.open, "incident_closed", how)] if self.open else []
        self.open, self._tail = None, []
        return said

    def _qualified(self) -> list[Event]:
        streak, self._streak, self._is_inside = self._streak, [], True
        if self.open:
            self.open.add([*self._tail, *streak])
            self._tail = []
            return []
        self.open, self._tail = Tally(self._count, streak), []
        self._count += 1
        return [self._told(self.open, "incident_opened")]

    def _broken(self) -> None:
        """The alarms in a row are over."""
        self._is_inside = False
        if self.open:
            self._tail += self._streak
        self._streak = []

    def _closed_before(self, start_ns: int) -> list[Event]:
        """Close what no alarm from `start_ns` on can be merged with."""
        if self.open is None:
            self._tail = []
            return []
        if start_ns - self.open.last.end_ns < GAP_NS:
            return []
        said = [self._told(self.open, "incident_closed", "over")]
        self.open, self._tail = None, []
        return said

    def _told(self, incident: Tally, kind: str, how: str = "") -> Event:
        return {"type": kind, **({"how": how} if how else {}), **incident.described(self._slo)}


class Drift:
    """Whether the model still fits: incidents without end, batches faster than it knows, other workloads."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=DRIFT_BATCHES)
        self._outside: deque[bool] = deque(maxlen=DRIFT_BATCHES)
        self._count_outside = 0
        self._is_outside = False
        self._seen = 0

    def take(self, row: Scored, incident: Tally | None) -> tuple[list[Event], float]:
        """Take a settled batch; returns what is to be said, and the log ratio to be taken as normal now."""
        self._seen += 1
        self._ratios.append(math.log(row.actual_ns / max(row.expected_ns, 1.0)))
        said = self._domain(row)
        if len(self._ratios) < DRIFT_BATCHES:
            return said, 0.0
        if incident and incident.batches >= DRIFT_BATCHES:
            if row.end_ns - incident.first.start_ns >= DRIFT_NS:
                return [*said, self._told("slower")], self._taken()
        elif not incident and self._seen % 100 == 0 and median(self._ratios) < -FASTER:
            return [*said, self._told("faster")], self._taken()
        return said, 0.0

    def _domain(self, row: Scored) -> list[Event]:
        if len(self._outside) == DRIFT_BATCHES:
            self._count_outside -= self._outside[0]
        self._outside.append(not row.in_domain)
        self._count_outside += not row.in_domain
        share = self._count_outside / len(self._outside)
        if len(self._outside) < FIRST_LOOK:
            return []
        if not self._is_outside and share > OUTSIDE_SHARE:
            self._is_outside = True
            why = "these batches are unlike any that the model has learned from: do not trust its figures"
            return [{"type": "out_of_domain", "share": share, "text": f"{share:.0%} outside: {why}"}]
        if self._is_outside and share < INSIDE_SHARE:
            self._is_outside = False
            return [
                {"type": "in_domain", "share": share, "text": "batches are again such as the model knows"}
            ]
        return []

    def _told(self, how: str) -> Event:
        ratio = math.exp(median(self._ratios))
        text = (
            f"the model no longer fits: for {len(self._ratios)} batches the server takes {ratio:.2f} times "
            f"what it expects; from here on that is held for normal: find what changed, or train again"
        )
        return {"type": "drift", "how": how, "ratio": ratio, "text": text}

    def _taken(self) -> float:
        level = median(self._ratios)
        self._ratios.clear()
        return level
