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
    """One session under one strategy: alarms by batch and by ten under the fault and outside, incidents, lag.

    `slo_leads` are those of `windows.violations`, None where the run promises nothing.
    """

    strategy: str
    session: str
    scenario: str
    strength: str | None
    injected: bool
    hours: float
    incidents: int
    lag: tuple[int, float] | None
    slowdown: float | None
    mean_slowdown: float | None
    level: float
    under_fault: Flags
    outside: Flags
    tens_under_fault: Flags
    tens_outside: Flags
    slo_leads: tuple[float | None, ...] | None


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
        **_foreseen(members),
    }
    if not first.injected:
        false = sum(one.incidents for one in members)
        low, high = poisson_interval(false)
        return {
            **row,
            "false_incidents": false,
            "false_incidents_an_hour": false / hours,
            "false_incidents_an_hour_low": low / hours,
            "false_incidents_an_hour_high": high / hours,
        }
    lags = [one.lag for one in members if one.lag]
    return {
        **row,
        "slowdown": _median([one.slowdown for one in members]),
        "mean_slowdown": _median([one.mean_slowdown for one in members]),
        **_with_interval(
            "detection", members, lambda some: float(np.mean([one.lag is not None for one in some]))
        ),
        **_with_interval("f1", members, _pooled_f1),
        **_with_interval("f1_of_ten", members, _pooled_f1_of_ten),
        "lag_batches": _median([batches for batches, _ in lags]),
        "lag_ms": _median([ms for _, ms in lags]),
    }


def _pooled_f1(members: Sequence[Judged]) -> float:
    return f1(_pooled([one.under_fault for one in members]), _pooled([one.outside for one in members])) or 0.0


def _pooled_f1_of_ten(members: Sequence[Judged]) -> float:
    under, outside = (
        [getattr(one, name) for one in members] for name in ("tens_under_fault", "tens_outside")
    )
    return f1(_pooled(under), _pooled(outside)) or 0.0


def _foreseen(members: Sequence[Judged]) -> dict[str, float | None]:
    """How often the objective came to be broken, and how often and how early an alarm told of it."""
    promised = [one.slo_leads for one in members if one.slo_leads is not None]
    leads = [lead for leads in promised for lead in leads]
    return {
        "slo_violations": len(leads) if promised else None,
        "slo_foreseen_ratio": sum(lead is not None for lead in leads) / len(leads) if leads else None,
        "slo_lead_ms": _median(leads),
    }


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


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


def poisson_interval(count: int) -> tuple[float, float]:
    """The exact 95 percent interval of a count."""
    from scipy.stats import chi2

    low, high = (share / 100 for share in INTERVAL)
    return float(chi2.ppf(low, 2 * count) / 2) if count else 0.0, float(chi2.ppf(high, 2 * (count + 1)) / 2)
