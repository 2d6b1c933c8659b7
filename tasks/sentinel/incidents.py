"""Merges alarms into incidents, and says how bad each is and what it hit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.sentinel.limits import GAP_NS, INCIDENT_ALARMS, resumptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

NS_PER_MS = 1e6
MAJOR_SLOWDOWN = 1.5
INCIDENT_COLUMNS = (
    "run_id",
    "incident_index",
    "start_ns",
    "end_ns",
    "first_batch_index",
    "last_batch_index",
    "batches",
    "alarms",
    "expected_ms",
    "actual_ms",
    "slowdown",
    "excess_ms",
    "tpot_ms",
    "slo_violated",
    "severity",
    "workloads",
)


def find_incidents(
    scored: pd.DataFrame, frame: pd.DataFrame, slo: Mapping[str, float | None]
) -> pd.DataFrame:
    """Merge alarms into incidents, numbered from 0 in each run; columns INCIDENT_COLUMNS.

    `scored` holds rows of `batch_scores`, `frame` the same batches with forward_mode, interval_ns and
    workload, `slo` the objective of each run for the time per output token in ms, None where there is none.
    """
    import pandas as pd

    known = frame[["run_id", "batch_index", "forward_mode", "interval_ns", "workload"]]
    joined = scored.merge(known, on=["run_id", "batch_index"], validate="one_to_one")
    found: list[dict[str, Any]] = []
    for run, rows in joined.groupby("run_id", sort=True):
        ordered = rows.sort_values("batch_index").reset_index(drop=True)
        for index, (first, last) in enumerate(incident_spans(ordered)):
            span = ordered.iloc[first : last + 1]
            found.append({"run_id": run, "incident_index": index, **_describe(span, slo.get(str(run)))})
    return pd.DataFrame(found, columns=list(INCIDENT_COLUMNS))


def incident_spans(rows: pd.DataFrame, least_alarms: int = INCIDENT_ALARMS) -> list[tuple[int, int]]:
    """Give (first, last) row of each incident in one run's ordered scores.

    An incident is `least_alarms` alarms in a row or more; two that lie less than a second apart are one. It
    does not reach over batches that are not scored where these take a second or more.
    """
    starts = rows["start_ns"].to_numpy()
    ends = starts + rows["actual_ns"].to_numpy()
    cuts = np.flatnonzero(resumptions(rows, rows["actual_ns"].to_numpy(dtype=np.float64)))
    merged: list[tuple[int, int]] = []
    for first, last in _streaks(rows["alarm"].to_numpy(dtype=bool), cuts, least_alarms):
        if merged and starts[first] - ends[merged[-1][1]] < GAP_NS:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged


def _streaks(
    alarm: np.ndarray[Any, np.dtype[np.bool_]], cuts: np.ndarray[Any, np.dtype[np.int64]], least_alarms: int
) -> Iterator[tuple[int, int]]:
    for begin, part in zip([0, *cuts], np.split(alarm, cuts), strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], part, [False]]).astype(np.int8)))
        for first, after in edges.reshape(-1, 2):
            if after - first >= least_alarms:
                yield int(begin + first), int(begin + after) - 1


def _describe(span: pd.DataFrame, slo_tpot_ms: float | None) -> dict[str, Any]:
    ends = span["start_ns"] + span["actual_ns"]
    tpot_ms = _tpot_ms(span)
    slowdown = float(span["actual_ns"].sum() / span["expected_ns"].sum())
    slo_violated = None if tpot_ms is None or slo_tpot_ms is None else tpot_ms > slo_tpot_ms
    return {
        "start_ns": int(span["start_ns"].iloc[0]),
        "end_ns": int(ends.max()),
        "first_batch_index": int(span["batch_index"].iloc[0]),
        "last_batch_index": int(span["batch_index"].iloc[-1]),
        "batches": len(span),
        "alarms": int(span["alarm"].sum()),
        "expected_ms": float(span["expected_ns"].median()) / NS_PER_MS,
        "actual_ms": float(span["actual_ns"].median()) / NS_PER_MS,
        "slowdown": slowdown,
        "excess_ms": float((span["actual_ns"] - span["expected_ns"]).sum()) / NS_PER_MS,
        "tpot_ms": tpot_ms,
        "slo_violated": slo_violated,
        "severity": severity(slo_violated=slo_violated, slowdown=slowdown),
        "workloads": json.dumps(sorted(span["workload"].dropna().unique())),
    }


def severity(*, slo_violated: bool | None, slowdown: float) -> str:
    """Say critical where the objective is broken, else major from MAJOR_SLOWDOWN on, or minor."""
    if slo_violated:
        return "critical"
    return "major" if slowdown >= MAJOR_SLOWDOWN else "minor"


def _tpot_ms(span: pd.DataFrame) -> float | None:
    """Mean step-to-step time of the batches that give running requests a token; None without any."""
    giving = span[span["forward_mode"].isin(["decode", "mixed"])]["interval_ns"].dropna()
    return float(giving.mean()) / NS_PER_MS if len(giving) else None
