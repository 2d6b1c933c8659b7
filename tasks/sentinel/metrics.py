"""From judged sessions to what `detection_metrics` says; intervals resample sessions, never batches."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

RUNS, DRAWN = "runs", "published_protocol"
TRIALS, NORMAL_DRAWN, ABNORMAL_DRAWN = 20, 1000, 200  # as published (arXiv 2601.09258)
RESAMPLES = 500
INTERVAL = (2.5, 97.5)
SEED = 7


@dataclass(frozen=True)
class Judged:
    """One session under one strategy: alarms by batch under the fault and outside, incidents, lag."""

    strategy: str
    session: str
    scenario: str
    strength: str | None
    injected: bool
    hours: float
    incidents: int
    lag: tuple[int, float] | None
    slowdown: float | None
    level: float
    under_fault: Flags
    outside: Flags


def run_rows(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """A row a strategy, scenario and strength, over whole runs."""
    ordered = sorted(judged, key=_group)
    return [_row(list(members)) for _, members in groupby(ordered, _group)]


def protocol_rows(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """A row a strategy and anomaly, over draws of batches from the alarms that they raised in order."""
    rows = []
    for strategy in sorted({one.strategy for one in judged}):
        mine = [one for one in judged if one.strategy == strategy]
        normal = _pooled([one.outside for one in mine if not one.injected])
        for scenario in sorted({one.scenario for one in mine if one.injected}):
            members = [one for one in mine if one.injected and one.scenario == scenario]
            abnormal = _pooled([one.under_fault for one in members])
            if len(normal) and len(abnormal):
                drawn = {"strategy": strategy, "scenario": scenario, "runs": len(members)}
                rows.append({**drawn, **_drawn(normal, abnormal)})
    return rows


def f1(under_fault: Flags, outside: Flags) -> float | None:
    """F1 of alarms, None where there is neither a fault nor an alarm."""
    hits, missed, false = under_fault.sum(), (~under_fault).sum(), outside.sum()
    return float(2 * hits / (2 * hits + missed + false)) if hits + missed + false else None


def _group(one: Judged) -> tuple[str, str, str]:
    return one.strategy, one.scenario, one.strength if one.injected and one.strength else ""


def _row(members: list[Judged]) -> dict[str, Any]:
    first = members[0]
    hours = sum(one.hours for one in members)
    row: dict[str, Any] = {
        "strategy": first.strategy,
        "scenario": first.scenario,
        "strength": first.strength if first.injected else None,
        "runs": len(members),
        "hours": hours,
        "false_alarm_ratio": float(_pooled([one.outside for one in members]).mean()),
    }
    if not first.injected:
        false = sum(one.incidents for one in members)
        high = _poisson_high(false) / hours
        return {
            **row,
            "false_incidents": false,
            "false_incidents_an_hour": false / hours,
            "false_incidents_an_hour_high": high,
        }
    lags = [one.lag for one in members if one.lag]
    slowdowns = [one.slowdown for one in members if one.slowdown is not None]
    return {
        **row,
        "slowdown": float(np.median(slowdowns)) if slowdowns else None,
        **_with_interval(
            "detection", members, lambda some: float(np.mean([one.lag is not None for one in some]))
        ),
        **_with_interval("f1", members, _pooled_f1),
        "lag_batches": float(np.median([batches for batches, _ in lags])) if lags else None,
        "lag_ms": float(np.median([ms for _, ms in lags])) if lags else None,
    }


def _pooled_f1(members: Sequence[Judged]) -> float:
    found = f1(_pooled([one.under_fault for one in members]), _pooled([one.outside for one in members]))
    return 0.0 if found is None else found


def _with_interval(
    name: str, members: list[Judged], measure: Callable[[list[Judged]], float]
) -> dict[str, float]:
    random = np.random.default_rng(SEED)
    draws = [
        measure([members[index] for index in random.integers(0, len(members), len(members))])
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(draws, INTERVAL)
    return {
        f"{name}_ratio": measure(members),
        f"{name}_low_ratio": float(low),
        f"{name}_high_ratio": float(high),
    }


def _drawn(normal: Flags, abnormal: Flags) -> dict[str, float]:
    random = np.random.default_rng(SEED)
    draws = [
        (random.choice(abnormal, ABNORMAL_DRAWN), random.choice(normal, NORMAL_DRAWN)) for _ in range(TRIALS)
    ]
    scores = [f1(under, outside) or 0.0 for under, outside in draws]
    false = float(np.mean([outside.mean() for _, outside in draws]))
    low, high = np.percentile(scores, INTERVAL)
    means = {"f1_ratio": float(np.mean(scores)), "f1_low_ratio": float(low), "f1_high_ratio": float(high)}
    return {**means, "false_alarm_ratio": false}


def _pooled(parts: list[Flags]) -> Flags:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)


def _poisson_high(count: int) -> float:
    """Upper end of the exact 95 percent interval of a count."""
    from scipy.stats import chi2

    return float(chi2.ppf(INTERVAL[1] / 100, 2 * (count + 1)) / 2)
