"""Scores batches as they come: a record in, its expected time and whether it alarms out, in a millisecond.

The same levels, residuals, limits and alarms as detect.py has of stored runs. That a batch is slow is known
as it comes; that the time to the next start is long, as the next one comes: only then is it settled.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.sentinel.costs import log_cost
from tasks.sentinel.features import widened
from tasks.sentinel.following import Batch, Step, features
from tasks.sentinel.limits import (
    GAP_NS,
    LASTING_BATCHES,
    LASTING_WEIGHT,
    RESIDUAL_CAP,
    SESSION_BATCHES,
    SESSION_CAP,
    SMOOTHING_BATCHES,
)
from tasks.sentinel.linear import Linear
from tasks.sentinel.model import RECIPES, LatencyModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.sentinel.registry import Registered

MOST_UNSETTLED = 64  # batches that wait for the next one of their rank: a rank may have ended


@dataclass(slots=True)
class Scored:
    """One batch against what its workload explains; what the interval tells comes with the next batch."""

    index: int
    start_ns: int
    actual_ns: int
    expected_ns: float
    residual: float
    smoothed: float
    limit: float
    model_id: str
    in_domain: bool
    alarm: bool
    forward_mode: str | None
    workload: str | None
    rebased: bool
    interval_ns: int | None = None
    expected_interval_ns: float | None = None
    smoothed_interval: float | None = None
    settled: bool = False
    said: bool = False  # that it alarms

    @property
    def end_ns(self) -> int:
        """When it ended, on the host's clock."""
        return self.start_ns + self.actual_ns


class OneRow:
    """A latency model for one row at a time; as LatencyModel.expected_ns but for rounding."""

    def __init__(self, model: LatencyModel) -> None:
        """Take a fitted model."""
        recipe = RECIPES[model.kind]
        self.features = recipe.features
        self._fitted = model.fitted if isinstance(model.fitted, Linear) else model.trees
        self._costs = model.costs if recipe.on_costs else None
        self._on_log_time = recipe.on_log_time
        self._row = np.empty((1, len(recipe.features)))

    def expected_ns(self, values: Mapping[str, float | None]) -> float:
        """What a batch with these features should take."""
        row = self._row
        row[0] = [math.nan if (value := values[name]) is None else value for name in self.features]
        if isinstance(self._fitted, Linear):
            return float(np.exp(self._fitted.predict(row)[0]))
        told = self._fitted.value(row[0].astype(np.float32))
        if self._costs is not None:
            told += float(log_cost(row, self._costs)[0])
        return math.exp(told) if self._on_log_time else max(told, 1.0)


class Residuals:
    """The level of a session and its smoothed residuals, a batch at a time (limits.py)."""

    def __init__(self) -> None:
        self._opening: list[float] = []
        self._last: deque[float] = deque(maxlen=LASTING_BATCHES)
        self._level = 0.0
        self._before: tuple[int, float] | None = None  # index and end of the last one
        self.rebased = 0.0

    def score(
        self, actual_ns: float, model_ns: float, index: int, start_ns: int
    ) -> tuple[float, float, float]:
        """Give the expected time at the session's level, the residual, and what is held against a limit."""
        if self._before and index - self._before[0] > 1 and start_ns - self._before[1] >= GAP_NS:
            self._last.clear()
        self._before = index, start_ns + actual_ns
        if len(self._opening) < SESSION_BATCHES:
            bisect.insort(self._opening, math.log(actual_ns / model_ns))
            half, odd = divmod(len(self._opening), 2)
            median = self._opening[half] if odd else (self._opening[half - 1] + self._opening[half]) / 2
            self._level = min(max(median, -SESSION_CAP), SESSION_CAP)
        expected = model_ns * math.exp(self._level + self.rebased)
        residual = max(0.0, (actual_ns - expected) / actual_ns)
        self._last.append(min(residual, RESIDUAL_CAP))
        return expected, residual, self._smoothed()

    def _smoothed(self) -> float:
        """The last value of limits.smooth."""
        some = itertools.islice(self._last, max(len(self._last) - SMOOTHING_BATCHES, 0), None)
        short, long = sum(some) / SMOOTHING_BATCHES, sum(self._last) / LASTING_BATCHES
        return min(max(short, LASTING_WEIGHT * min(short, long)), 1.0)

    def rebase(self, log_ratio: float) -> None:
        """Take from now on what the session is like now as its level."""
        self.rebased += log_ratio
        self._last.clear()


class Scorer:
    """Judges one session's batches in the order in which they come."""

    def __init__(self, judge: Registered, of_interval: Registered | None = None) -> None:
        """Take the model of the duration, and that of the interval where there is one."""
        self._judge, self._of_interval = judge, of_interval
        self._domain = widened(judge.model.domain)
        self._duration = OneRow(judge.model)
        self._interval = OneRow(of_interval.model) if of_interval else None
        self._levels, self._interval_levels = Residuals(), Residuals()
        self._last: dict[int | None, tuple[Step, Scored | None, dict[str, float | None]]] = {}
        self._unsettled: deque[Scored] = deque()
        self._next_index = 0

    def take(self, batch: Batch) -> tuple[Scored | None, list[Scored]]:
        """Score one batch; returns it, None where it did no work, and what is settled now, in order."""
        before = self._last.get(batch.rank)
        if before is not None:
            before[0].is_followed_by(batch)
            self._settle(before, batch)
        step = Step(batch)
        values = features(step, before[0] if before else None) if batch.is_work else {}
        index = self._next_index if batch.index is None else batch.index
        self._next_index = index + 1
        scored = self._score(batch, values, index) if batch.is_work else None
        self._last[batch.rank] = (step, scored, values)
        if scored is not None:
            self._unsettled.append(scored)
        return scored, self._drained(MOST_UNSETTLED)

    def end(self) -> list[Scored]:
        """The session is over: what still waits for a next batch, settled as it is."""
        self._last.clear()
        return self._drained(0)

    def rebase(self, log_ratio: float) -> None:
        """Hold batches from now on against what they are like now."""
        self._levels.rebase(log_ratio)
        self._interval_levels.rebase(log_ratio)

    def _score(self, batch: Batch, values: Mapping[str, float | None], index: int) -> Scored:
        model_ns = self._duration.expected_ns(values)
        expected, residual, smoothed = self._levels.score(batch.duration_ns, model_ns, index, batch.start_ns)
        return Scored(
            index, batch.start_ns, batch.duration_ns, expected, residual, smoothed, self._judge.limit,
            self._judge.model_id, is_inside(values, batch.forward_mode, self._domain),
            smoothed > self._judge.limit, batch.forward_mode, batch.workload, self._levels.rebased != 0.0,
        )  # fmt: skip

    def _settle(self, before: tuple[Step, Scored | None, dict[str, float | None]], batch: Batch) -> None:
        step, scored, values = before
        if scored is None or scored.settled:
            return
        scored.settled = True
        scored.forward_mode = scored.forward_mode or step.mode
        scored.interval_ns = step.interval_ns(batch)
        if scored.interval_ns is None or self._interval is None or self._of_interval is None:
            return
        model_ns = self._interval.expected_ns(values)
        expected, _, smoothed = self._interval_levels.score(
            scored.interval_ns, model_ns, scored.index, scored.start_ns
        )
        scored.expected_interval_ns, scored.smoothed_interval = expected, smoothed
        scored.alarm = scored.alarm or smoothed > self._of_interval.limit

    def _drained(self, most: int) -> list[Scored]:
        done = []
        while self._unsettled and (self._unsettled[0].settled or len(self._unsettled) > most):
            done.append(self._unsettled.popleft())
            done[-1].settled = True
        return done


def is_inside(
    values: Mapping[str, float | None], mode: str | None, limits: Mapping[str, tuple[float, float]]
) -> bool:
    """Whether every known feature lies within the limits, as in_domain has it."""
    if mode is not None and values["forward_mode_code"] is None:
        return False
    for name, (low, high) in limits.items():
        value = values[name]
        if value is not None and not low <= value <= high:
            return False
    return True
