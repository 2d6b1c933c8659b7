"""Scores every batch of a campaign and merges alarms into incidents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.sentinel.evaluate import CHAMPION, LEAVE_OUT
from tasks.sentinel.features import KEY, TARGET, batch_features, in_domain
from tasks.sentinel.limits import SMOOTHING_BATCHES, score_session
from tasks.sentinel.registry import Registered, load_models
from tasks.settings import LprismError
from tasks.warehouse import execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

# As many alarms in a row as the trailing mean has batches: what a burst of stalls leaves in it is shorter.
INCIDENT_ALARMS = SMOOTHING_BATCHES
MERGE_GAP_NS = 1_000_000_000
NS_PER_MS = 1e6
SCORE_COLUMNS = (
    "run_id",
    "batch_index",
    "start_ns",
    "model_id",
    "actual_ns",
    "expected_ns",
    "residual",
    "smoothed_residual",
    "limit_residual",
    "alarm",
    "in_domain",
)
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
)


@dataclass(frozen=True)
class DetectSummary:
    """What `detect_campaign` found; `unscored_runs` have batches but no model of their configuration."""

    campaign: str
    runs: int
    batches: int
    alarms: int
    incidents: int
    unscored_runs: tuple[str, ...]


def detect_campaign(home: Path, campaign: str) -> DetectSummary:
    """Score every recorded batch of the campaign and write `batch_scores` and `incidents`.

    Raises LprismError when the campaign has no model or no batch.
    """
    with lake_connection(home, campaign) as con:
        models = load_models(home, con, campaign)
        frame = batch_features(con, campaign)
        slo = dict(execute(con, "run_objectives", campaign=campaign).fetchall())
    scored, unscored = score_runs(frame, models)
    incidents = find_incidents(scored, frame, slo)
    write_frame(home, "batch_scores", campaign, "all", scored)
    write_frame(home, "incidents", campaign, "all", incidents)
    runs, alarms = scored["run_id"].nunique(), int(scored["alarm"].sum())
    return DetectSummary(campaign, runs, len(scored), alarms, len(incidents), unscored)


def score_runs(frame: pd.DataFrame, models: list[Registered]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Score each run by the model that never saw it: its leave-out model if it has one, else the champion.

    Returns the rows of `batch_scores` and the runs that no model fits.
    """
    import pandas as pd

    by_key = {(one.key, one.purpose): one for one in models}
    parts, unscored = [], []
    for run, rows in frame.groupby("run_id", sort=True):
        key = tuple(str(rows[name].iloc[0]) for name in KEY)
        model = by_key.get((key, f"{LEAVE_OUT}{run}")) or by_key.get((key, CHAMPION))
        if model is None:
            unscored.append(str(run))
        else:
            parts.append(score_run(rows.sort_values("batch_index"), model))
    if not parts:
        raise LprismError("no recorded batch fits a trained model; ingest complete runs, then train again")
    return pd.concat(parts, ignore_index=True), tuple(unscored)


def score_run(rows: pd.DataFrame, registered: Registered) -> pd.DataFrame:
    """Score one run's batches in order of batch_index; columns SCORE_COLUMNS."""
    if rows["run_id"].iloc[0] in registered.model.runs:
        raise LprismError(
            f"run {rows['run_id'].iloc[0]} was trained on by {registered.model_id}, which must not judge it"
        )
    scores = score_session(rows[TARGET].to_numpy(dtype=np.float64), registered.model.expected_ns(rows))
    scored = rows[["run_id", "batch_index", "start_ns"]].assign(
        model_id=registered.model_id,
        actual_ns=rows[TARGET],
        expected_ns=np.rint(scores.expected_ns).astype(np.int64),
        residual=scores.residual,
        smoothed_residual=scores.smoothed,
        limit_residual=registered.limit,
        alarm=scores.smoothed > registered.limit,
        in_domain=in_domain(rows, registered.model.domain),
    )
    return scored[list(SCORE_COLUMNS)]


def find_incidents(scored: pd.DataFrame, frame: pd.DataFrame, slo: dict[str, float | None]) -> pd.DataFrame:
    """Merge alarms into incidents, numbered from 0 in each run; columns INCIDENT_COLUMNS.

    `scored` holds rows of `batch_scores`, `frame` the same batches with forward_mode and interval_ns, `slo`
    the objective of each run for the time per output token in ms, None where there is none.
    """
    import pandas as pd

    known = frame[["run_id", "batch_index", "forward_mode", "interval_ns"]]
    joined = scored.merge(known, on=["run_id", "batch_index"], validate="one_to_one")
    found: list[dict[str, Any]] = []
    for run, rows in joined.groupby("run_id", sort=True):
        ordered = rows.sort_values("batch_index").reset_index(drop=True)
        for index, (first, last) in enumerate(incident_spans(ordered)):
            span = ordered.iloc[first : last + 1]
            found.append({"run_id": run, "incident_index": index, **_describe(span, slo.get(str(run)))})
    return pd.DataFrame(found, columns=list(INCIDENT_COLUMNS))


def incident_spans(rows: pd.DataFrame) -> list[tuple[int, int]]:
    """Give (first, last) row of each incident in one run's ordered scores.

    An incident is INCIDENT_ALARMS alarms in a row or more; two that lie less than a second apart are one. It
    does not reach over batches that are not scored where these take a second or more.
    """
    starts = rows["start_ns"].to_numpy()
    ends = starts + rows["actual_ns"].to_numpy()
    left_out = (np.diff(rows["batch_index"]) > 1) & (starts[1:] - ends[:-1] >= MERGE_GAP_NS)
    merged: list[tuple[int, int]] = []
    for first, last in _streaks(rows["alarm"].to_numpy(dtype=bool), np.flatnonzero(left_out) + 1):
        if merged and starts[first] - ends[merged[-1][1]] < MERGE_GAP_NS:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged


def _streaks(
    alarm: np.ndarray[Any, np.dtype[np.bool_]], cuts: np.ndarray[Any, np.dtype[np.int64]]
) -> Iterator[tuple[int, int]]:
    for begin, part in zip([0, *cuts], np.split(alarm, cuts), strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], part, [False]]).astype(np.int8)))
        for first, after in edges.reshape(-1, 2):
            if after - first >= INCIDENT_ALARMS:
                yield int(begin + first), int(begin + after) - 1


def _describe(span: pd.DataFrame, slo_tpot_ms: float | None) -> dict[str, Any]:
    ends = span["start_ns"] + span["actual_ns"]
    tpot_ms = _tpot_ms(span)
    return {
        "start_ns": int(span["start_ns"].iloc[0]),
        "end_ns": int(ends.max()),
        "first_batch_index": int(span["batch_index"].iloc[0]),
        "last_batch_index": int(span["batch_index"].iloc[-1]),
        "batches": len(span),
        "alarms": int(span["alarm"].sum()),
        "expected_ms": float(span["expected_ns"].median()) / NS_PER_MS,
        "actual_ms": float(span["actual_ns"].median()) / NS_PER_MS,
        "slowdown": float(span["actual_ns"].sum() / span["expected_ns"].sum()),
        "excess_ms": float((span["actual_ns"] - span["expected_ns"]).sum()) / NS_PER_MS,
        "tpot_ms": tpot_ms,
        "slo_violated": None if tpot_ms is None or slo_tpot_ms is None else tpot_ms > slo_tpot_ms,
    }


def _tpot_ms(span: pd.DataFrame) -> float | None:
    """Mean step-to-step time of the batches that give running requests a token; None without any."""
    giving = span[span["forward_mode"].isin(["decode", "mixed"])]["interval_ns"].dropna()
    return float(giving.mean()) / NS_PER_MS if len(giving) else None
