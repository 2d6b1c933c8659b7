"""Holds a model's limits against stored runs: false incidents an hour, faults found, lag, F1, and drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.lake import campaigns_of, write_frame
from tasks.lake_tables import lake_connection
from tasks.sentinel.detect import HALF, Judges, check_unseen, no_longer_fits
from tasks.sentinel.evaluate import CHAMPION
from tasks.sentinel.features import INTERVAL, SESSION, TARGET, batch_features, key_from
from tasks.sentinel.incidents import incident_spans
from tasks.sentinel.limits import (
    CALIBRATED,
    INCIDENT_ALARMS,
    NS_AN_HOUR,
    SESSION_CAP,
    Limit,
    Scores,
    resumptions,
    score_session,
    watched,
)
from tasks.sentinel.metrics import DRAWN, RUNS, Judged, protocol_rows, run_rows
from tasks.sentinel.registry import Registered, load_models
from tasks.sentinel.score import named, stored_models
from tasks.sentinel.windows import any_of_ten, violations
from tasks.settings import LprismError
from tasks.warehouse import execute

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

NS_PER_MS = 1e6
HARMLESS = ("normal", "sham")  # nothing is changed: every incident is a false one


@dataclass(frozen=True)
class Backtest:
    """Rows of `detection_metrics`, and what is said of drift; None while the model fits normal runs."""

    model_id: str
    rows: list[dict[str, Any]]
    drift: str | None


def backtest(home: Path, model_id: str) -> Backtest:
    """Judge every stored complete run of a champion's configuration, and write `detection_metrics`.

    Raises:
        SpecError: there is no such champion.
        LprismError: a file is not what was trained, or there is no run to judge.
    """
    campaign, judged = judged_by(home, model_id, campaigns_of(home))
    rows = [
        {"model_id": model_id, "campaign": campaign, "evaluation": evaluation, **row}
        for evaluation, made in ((RUNS, run_rows(judged)), (DRAWN, protocol_rows(judged)))
        for row in made
    ]
    import pandas as pd

    write_frame(home, "detection_metrics", campaign, model_id, pd.DataFrame(rows))
    return Backtest(model_id, rows, drift(judged))


def judged_by(home: Path, model_id: str, campaigns: Sequence[str]) -> tuple[str, list[Judged]]:
    """The campaign of a champion, and every complete session of its configuration in these campaigns.

    Raises:
        SpecError: there is no such champion.
        LprismError: a file is not what was trained, or there is no run to judge.
    """
    models = stored_models(home)
    champions = models[models["purpose"] == CHAMPION]
    campaign = str(named(champions, model_id, "champion")["campaign"])
    with lake_connection(home, campaign) as con:
        loaded = load_models(home, con, campaign)
    champion = next(one for one in loaded if one.model_id == model_id)
    family = [one for one in loaded if (one.key, one.model.target) == (champion.key, champion.model.target)]
    judged = [one for name in campaigns for one in _judged(home, name, family, champion)]
    if not judged:
        raise LprismError(f"no stored complete run fits model {model_id}")
    return campaign, judged


def _judged(home: Path, campaign: str, family: list[Registered], champion: Registered) -> list[Judged]:
    """Every complete session of the champion's configuration in a campaign, by each limit of its judge."""
    target, judges = champion.model.target, Judges(family)
    with lake_connection(home, campaign) as con:
        runs = execute(con, "run_faults", campaign=campaign).fetchall()
        faults = {run: fault for run, *key, fault in runs if key_from(key) == champion.key}
        if not faults:
            return []
        frame = batch_features(con, campaign)
    frame = frame[frame["run_id"].isin(faults)]
    frame = frame[(frame["status"] == "complete") & frame["scenario"].notna() & (frame[target] > 0)]
    found = []
    for session, rows in frame.groupby(SESSION, sort=True):
        if judge := judges.of(str(session), champion.key, target):
            ordered = rows.sort_values("batch_index")
            found += _by_limits(ordered, judge, faults[rows["run_id"].iloc[0]])
    return found


def _by_limits(rows: pd.DataFrame, judge: Registered, fault: dict[str, Any]) -> list[Judged]:
    check_unseen(rows, judge)
    actual = rows[judge.model.target].to_numpy(dtype=np.float64)
    model_ns = judge.model.expected_ns(rows)
    scores = score_session(actual, model_ns, resumptions(rows, actual))
    level = float(np.median(np.log(actual / model_ns)))
    return [_one(rows, scores, actual, level, limit, fault) for limit in judge.limits]


def _one(
    rows: pd.DataFrame,
    scores: Scores,
    actual: Floats,
    level: float,
    limit: Limit,
    fault: dict[str, Any],
) -> Judged:
    calibrated = limit.strategy.startswith(CALIBRATED)
    alarm = watched(scores, limit) > limit.limit
    strength, apply_ns, end_ns, slo_ms = (
        fault[name] for name in ("strength", "apply_ns", "end_ns", "slo_ms")
    )
    scenario = str(rows["scenario"].iloc[0])
    injected = apply_ns is not None and scenario not in HARMLESS
    table = rows[["batch_index", "start_ns"]].assign(actual_ns=actual, alarm=alarm)
    spans = incident_spans(table, INCIDENT_ALARMS if calibrated else 1)
    starts = rows["start_ns"].to_numpy(dtype=np.int64)
    ends = starts + rows[TARGET].to_numpy(dtype=np.int64)
    counts = np.zeros(len(rows), dtype=bool)
    for first, last in spans:
        counts[first : last + 1] = alarm[first : last + 1]
    window = rows["run_window"].to_numpy(dtype=object)
    under = window == "fault"
    lag = None
    if injected:
        hits = np.flatnonzero(counts & (starts >= apply_ns) & (starts < end_ns))
        if len(hits):
            since = int((starts[: hits[0] + 1] >= apply_ns).sum())
            lag = (since, float(starts[hits[0]] + actual[hits[0]] - apply_ns) / NS_PER_MS)
    # a recording without windows, and a run in which nothing was injected, are normal throughout
    others = [window == "baseline", window == "recovery"] if injected else [np.ones(len(rows), dtype=bool)]
    ratio_of_sums = actual[under].sum() / max(scores.expected_ns[under].sum(), 1.0)
    return Judged(
        strategy=CALIBRATED if calibrated else limit.strategy,
        session=str(rows[SESSION].iloc[0]),
        scenario=scenario,
        strength=strength,
        injected=injected,
        hours=float(starts[-1] + actual[-1] - starts[0]) / NS_AN_HOUR,
        incidents=len(spans),
        lag=lag,
        slowdown=float(np.median((actual / scores.expected_ns)[under])) if injected and under.any() else None,
        mean_slowdown=float(ratio_of_sums) if injected and under.any() else None,
        level=level,
        under_fault=alarm[under],
        outside=np.concatenate([alarm[part] for part in others]),
        tens_under_fault=any_of_ten(alarm[under]),
        tens_outside=np.concatenate([any_of_ten(alarm[part]) for part in others]),
        slo_leads=None if slo_ms is None else tuple(violations(_step_ms(rows), ends, alarm, slo_ms)),
    )


def _step_ms(rows: pd.DataFrame) -> Floats:
    """Time per output token of each batch: to the next start, or its own at a request's last; else NaN."""
    step_ns = rows[INTERVAL].astype("float64").fillna(rows[TARGET].astype("float64"))
    known = step_ns.where(rows["forward_mode"].isin(["decode", "mixed"]))
    step_ms: Floats = np.asarray(known / NS_PER_MS, dtype=np.float64)
    return step_ms


def drift(judged: list[Judged]) -> str | None:
    """Say that a model no longer fits normal runs, if half of them or more are far from it throughout.

    Far: their level lies at the bound up to which a session's own level is believed, or most batches alarm.
    """
    normal = [one for one in judged if not one.injected and one.strategy == CALIBRATED]
    far = [one for one in normal if abs(one.level) >= SESSION_CAP or one.outside.mean() > HALF]
    if not normal or len(far) < HALF * len(normal):
        return None
    return no_longer_fits(len(far), len(normal), float(np.median([one.level for one in far])))
