"""Scores every batch of a campaign and merges alarms into incidents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.sentinel.evaluate import CHAMPION
from tasks.sentinel.features import INTERVAL, KEY, SESSION, TARGET, batch_features, in_domain, key_of
from tasks.sentinel.incidents import find_incidents
from tasks.sentinel.limits import resumptions, score_session
from tasks.sentinel.registry import Registered, load_models
from tasks.settings import LprismError
from tasks.warehouse import execute

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

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
    "expected_interval_ns",
    "interval_residual",
    "smoothed_interval_residual",
    "interval_limit_residual",
    "alarm",
    "in_domain",
)


HALF = 0.5
FAR_OFF = float(np.log(1.25))


@dataclass(frozen=True)
class DetectSummary:
    """What `detect_campaign` found; `unscored_runs` have batches but no model of their configuration.

    `drift` says of which configurations the model no longer fits normal runs.
    """

    campaign: str
    runs: int
    batches: int
    alarms: int
    incidents: int
    unscored_runs: tuple[str, ...]
    drift: tuple[str, ...]


def detect_campaign(home: Path, campaign: str, trained_on: str | None = None) -> DetectSummary:
    """Score every recorded batch of the campaign and write `batch_scores` and `incidents`.

    The models are its own, or those of the campaign `trained_on`. Raises LprismError when there is no model
    or no batch.
    """
    models_of = trained_on or campaign
    with lake_connection(home, models_of) as con:
        models = load_models(home, con, models_of)
    with lake_connection(home, campaign) as con:
        frame = batch_features(con, campaign)
        slo = dict(execute(con, "run_objectives", campaign=campaign).fetchall())
    scored, unscored = score_runs(frame, models)
    incidents = find_incidents(scored, frame, slo)
    write_frame(home, "batch_scores", campaign, "all", scored)
    write_frame(home, "incidents", campaign, "all", incidents)
    runs, alarms = scored["run_id"].nunique(), int(scored["alarm"].sum())
    drift = drift_of(scored, frame)
    return DetectSummary(campaign, runs, len(scored), alarms, len(incidents), unscored, drift)


def drift_of(scored: pd.DataFrame, frame: pd.DataFrame) -> tuple[str, ...]:
    """Say of which configurations the model no longer fits normal sessions: half of them or more are far off.

    Far: most batches alarm, or the median is FAR_OFF from what a session's level leaves to be explained.
    """
    normal = frame[frame["scenario"].isna() | (frame["scenario"] == "normal")]
    normal = normal[["run_id", "batch_index", SESSION, *KEY]]
    joined = scored.merge(normal, on=["run_id", "batch_index"], validate="one_to_one")
    joined["off"] = np.log(joined["actual_ns"] / joined["expected_ns"].clip(lower=1))
    said = []
    for key, rows in joined.groupby(list(KEY), dropna=False):
        sessions = rows.groupby(SESSION).agg(alarm=("alarm", "mean"), off=("off", "median"))
        far = sessions[(sessions["alarm"] > HALF) | (sessions["off"].abs() >= FAR_OFF)]
        if len(far) >= HALF * len(sessions):
            text = no_longer_fits(len(far), len(sessions), float(far["off"].median()))
            said.append(f"engine_key {key[0]}: {text}")
    return tuple(said)


def no_longer_fits(far: int, sessions: int, log_ratio: float) -> str:
    """Drift in words."""
    return (
        f"the model no longer fits: {far} of {sessions} normal sessions take about {np.exp(log_ratio):.2f} "
        "times what it expects throughout: train again before its alarms are believed"
    )


def score_runs(frame: pd.DataFrame, models: list[Registered]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Score each session by models that never saw it: its leave-out ones if it has them, else champions.

    Returns the rows of `batch_scores` and the runs that no model fits.
    """
    import pandas as pd

    judges = Judges(models)
    parts, unscored = [], []
    for session, rows in frame.groupby(SESSION, sort=True):
        ordered = rows.sort_values("batch_index")
        key = key_of(rows)
        judge = judges.of(str(session), key, TARGET)
        if judge is None:
            unscored.append(str(rows["run_id"].iloc[0]))
        else:
            parts.append(score_run(ordered, judge, judges.of(str(session), key, INTERVAL)))
    if not parts:
        raise LprismError("no recorded batch fits a trained model; ingest complete runs, then train again")
    return pd.concat(parts, ignore_index=True), tuple(dict.fromkeys(unscored))


class Judges:
    """Which model judges which session: the one that left it out, else the champion of its configuration."""

    def __init__(self, models: list[Registered]) -> None:
        """Take every model of a campaign."""
        self._champions = {(one.key, one.model.target): one for one in models if one.purpose == CHAMPION}
        self._by_session = {
            (one.key, one.model.target, session): one for one in models for session in one.left_out
        }

    def of(self, session: str, key: tuple[str, ...], target: str) -> Registered | None:
        """The model of a target for a session of a configuration, None where none fits."""
        return self._by_session.get((key, target, session)) or self._champions.get((key, target))


def check_unseen(rows: pd.DataFrame, judge: Registered) -> None:
    """Raise LprismError when the model was trained on this session."""
    session = str(rows[SESSION].iloc[0])
    if session in judge.model.sessions:
        raise LprismError(f"run {session} was trained on by {judge.model_id}, which must not judge it")


def score_run(rows: pd.DataFrame, judge: Registered, of_interval: Registered | None = None) -> pd.DataFrame:
    """Score one session's batches in order of batch_index; columns SCORE_COLUMNS.

    A batch alarms when its own time, or the time to the next one, is slower than explained.
    """
    for one in (judge, of_interval):
        if one:
            check_unseen(rows, one)
    actual = rows[TARGET].to_numpy(dtype=np.float64)
    scores = score_session(actual, judge.model.expected_ns(rows), resumptions(rows, actual))
    scored = rows[["run_id", "batch_index", "start_ns"]].assign(
        model_id=judge.model_id,
        actual_ns=rows[TARGET],
        expected_ns=np.rint(scores.expected_ns).astype(np.int64),
        residual=scores.residual,
        smoothed_residual=scores.smoothed,
        limit_residual=judge.limit,
        alarm=scores.smoothed > judge.limit,
        in_domain=in_domain(rows, judge.model.domain),
    )
    scored = _with_intervals(scored, rows, of_interval)
    return scored[list(SCORE_COLUMNS)]


def _with_intervals(scored: pd.DataFrame, rows: pd.DataFrame, judge: Registered | None) -> pd.DataFrame:
    """Add what the time to the next start tells, NULL where there is none or no model of it."""
    import pandas as pd

    known = rows[INTERVAL].notna().to_numpy()
    columns = ("expected_interval_ns", "interval_residual", "smoothed_interval_residual")
    told = pd.DataFrame(index=scored.index, columns=list(columns), dtype="float64")
    if judge is None or not known.any():
        return scored.assign(**{name: told[name] for name in columns}, interval_limit_residual=None)
    some = rows[known]
    actual = some[INTERVAL].to_numpy(dtype=np.float64)
    scores = score_session(actual, judge.model.expected_ns(some), resumptions(some, actual))
    told.loc[known, list(columns)] = np.column_stack(
        [np.rint(scores.expected_ns), scores.residual, scores.smoothed]
    )
    alarm = scored["alarm"] | (told["smoothed_interval_residual"] > judge.limit)
    return scored.assign(
        **{name: told[name] for name in columns}, interval_limit_residual=judge.limit, alarm=alarm
    )
