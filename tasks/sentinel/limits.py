"""From expected and actual times to residuals, and from held-out residuals to the limit for an alarm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

CALIBRATED = "calibrated"
# The name of a calibrated limit says so when it comes from blocks of one run's time and not from whole runs.
TIME_BLOCKS = f"{CALIBRATED}_time_blocks_of_one_run"
SMOOTHING_BATCHES = 10
# What the mean of so many batches bears out of the mean of the last ten counts so many times: chance and
# single stalls average out in it, so what lasts, or comes back in every period of a quota, is told by less.
LASTING_BATCHES = 60
LASTING_WEIGHT = 2.0
# A batch counts in the trailing mean as at most 2.5x slow: a stall of 300 ms then weighs 0.06 in it.
RESIDUAL_CAP = 0.6
SESSION_BATCHES = 100
SESSION_CAP = float(np.log(1.5))
# An incident is as many alarms in a row as the trailing mean has batches: what a burst of stalls leaves in it
# is shorter.
INCIDENT_ALARMS = SMOOTHING_BATCHES
FALSE_INCIDENTS_AN_HOUR = 1.0
NS_AN_HOUR = 3_600e9
# Batches that are not scored and take so long: neither a mean nor an incident reaches over them.
GAP_NS = 1_000_000_000
NS_A_BLOCK = 60e9
LIMIT_MARGIN = 1.25
LIMIT_FLOOR = 0.2
# What an hour of held-out batches takes off the floor and the margin: few sessions promise little.
FLOOR_OF_AN_HOUR = 0.12
MARGIN_OF_AN_HOUR = 1.1
LIMIT_CEILING = 0.4
PUBLISHED_SIGMAS = 3.0
PUBLISHED_CAP = 0.5
PUBLISHED_FIXED = 0.15


@dataclass(frozen=True)
class Scores:
    """One session's batches in order: expected time at the session's level, residuals; each of shape (n,)."""

    expected_ns: Floats
    residual: Floats
    smoothed: Floats
    resumes: Flags | None = None


@dataclass(frozen=True)
class Limit:
    """A limit for the residual, averaged over so many batches, and the held-out residuals it comes from."""

    limit: float
    mean: float
    std: float
    rows: int
    runs: int
    strategy: str
    smoothing_batches: int = SMOOTHING_BATCHES
    hours: float = 0.0


def session_level(actual_ns: Floats, expected_ns: Floats) -> Floats:
    """Give the log ratio by which this session as a whole differs from the model, as known at each batch.

    Sessions of one configuration differ by tens of percent from first to last batch (memory placement,
    clock, neighbours); without this a slow session would alarm throughout. The level is the running median
    over the opening batches of the session, frozen after them, so a later slowdown is never absorbed; and it
    is bounded at 1.5x, so a server that is twice as slow from its first batch still alarms.
    """
    import pandas as pd

    ratio = np.log(actual_ns / expected_ns)
    opening = pd.Series(ratio[:SESSION_BATCHES]).expanding().median().to_numpy()
    later = np.full(len(ratio) - len(opening), opening[-1] if len(opening) else 0.0)
    level: Floats = np.clip(np.concatenate([opening, later]), -SESSION_CAP, SESSION_CAP)
    return level


def resumptions(rows: pd.DataFrame, actual_ns: Floats) -> Flags:
    """Tell which of a session's ordered batches come after GAP_NS or more of batches that are not among them.

    `rows` has batch_index and start_ns; where no start is told (published tables) there is no gap.
    """
    start = rows["start_ns"].to_numpy(dtype=np.float64, na_value=np.nan)
    away = start[1:] - (start + actual_ns)[:-1] >= GAP_NS
    resumes: Flags = np.concatenate([[False], away & (np.diff(rows["batch_index"]) > 1)])[: len(rows)]
    return resumes


def trailing_mean(
    residual: Floats, resumes: Flags | None, cap: float, batches: int = SMOOTHING_BATCHES
) -> Floats:
    """Mean of the residuals, each `cap` at most, of the last `batches` of a stretch; missing ones are 0."""
    place = np.arange(len(residual))
    total = np.concatenate([[0.0], np.cumsum(np.minimum(residual, cap))])
    begin = 0 if resumes is None else np.maximum.accumulate(np.where(resumes, place, 0))
    before = total[np.maximum(place + 1 - batches, begin)]
    mean: Floats = np.clip((total[1:] - before) / batches, 0.0, 1.0)  # float sums may end below 0
    return mean


def smooth(residual: Floats, resumes: Flags | None = None) -> Floats:
    """What is held against a calibrated limit: the trailing mean of ten, counted more as far as it lasts.

    As far as the mean of the last LASTING_BATCHES bears it out it counts LASTING_WEIGHT times.
    """
    short = trailing_mean(residual, resumes, RESIDUAL_CAP)
    long = trailing_mean(residual, resumes, RESIDUAL_CAP, LASTING_BATCHES)
    value: Floats = np.clip(np.maximum(short, LASTING_WEIGHT * np.minimum(short, long)), 0.0, 1.0)
    return value


def score_session(actual_ns: Floats, model_ns: Floats, resumes: Flags | None = None) -> Scores:
    """Score one session's batches in order; e = max(0, (actual - expected) / actual) (arXiv 2601.09258).

    `resumes` are those of resumptions; None: nothing is left out.
    """
    expected = model_ns * np.exp(session_level(actual_ns, model_ns))
    residual = np.maximum(0.0, (actual_ns - expected) / actual_ns)
    return Scores(expected, residual, smooth(residual, resumes), resumes)


def calibrate(heldout: Iterable[Scores], strategy: str = CALIBRATED) -> Limit:
    """Make the limit from sessions scored by models that never saw them, by false incidents per server-hour.

    The lowest limit at which these sessions would have had at most FALSE_INCIDENTS_AN_HOUR: none where there
    is less than an hour of them. A margin goes on top, and a floor (1.25x) keeps a few quiet minutes from
    promising more than they can know; both come down as there is more to go by, until an hour. The ceiling
    (1.67x) keeps one disturbed session from blinding the watch.
    """
    sessions = list(heldout)
    hours = sum(float(scores.expected_ns.sum()) for scores in sessions) / NS_AN_HOUR
    peaks = sorted((peak for scores in sessions for peak in incident_peaks(scores)), reverse=True)
    spared = min(int(FALSE_INCIDENTS_AN_HOUR * hours), len(peaks) - 1)
    known = min(1.0, hours)
    margin = LIMIT_MARGIN + (MARGIN_OF_AN_HOUR - LIMIT_MARGIN) * known
    floor = LIMIT_FLOOR + (FLOOR_OF_AN_HOUR - LIMIT_FLOOR) * known
    limit = min(max((peaks[spared] if peaks else 0.0) * margin, floor), LIMIT_CEILING)
    return _limit(sessions, limit, strategy, SMOOTHING_BATCHES, hours)


def incident_peaks(scores: Scores) -> list[float]:
    """Of each minute of a session the highest limit that would still have made an incident in it."""
    lasting = _lasting(scores.smoothed)
    if not len(lasting):
        return [0.0]
    minute = (np.cumsum(scores.expected_ns)[: len(lasting)] // NS_A_BLOCK).astype(np.int64)
    starts = np.flatnonzero(np.diff(minute, prepend=-1))
    return [float(peak) for peak in np.maximum.reduceat(lasting, starts)]


def _lasting(smoothed: Floats) -> Floats:
    """The lowest of each INCIDENT_ALARMS values in a row: a limit below it makes them an incident."""
    if len(smoothed) < INCIDENT_ALARMS:
        return smoothed[:0]
    lowest: Floats = np.lib.stride_tricks.sliding_window_view(smoothed, INCIDENT_ALARMS).min(axis=1)
    return lowest


def published_limits(heldout: Sequence[Scores]) -> list[Limit]:
    """The four published strategies: {the batch, the mean of the last ten} x {mean + 3 sigma, fixed 0.15}.

    mean and sigma are of e itself, and their sum is capped at 0.5 (arXiv 2601.09258).
    """
    hours = sum(float(scores.expected_ns.sum()) for scores in heldout) / NS_AN_HOUR
    residual = np.concatenate([scores.residual for scores in heldout])
    sigmas = min(float(residual.mean() + PUBLISHED_SIGMAS * residual.std()), PUBLISHED_CAP)
    return [
        _limit(heldout, value, f"published_{what}_{how}", batches, hours)
        for what, batches in (("point", 1), ("mean10", SMOOTHING_BATCHES))
        for how, value in (("3sigma", sigmas), ("fixed", PUBLISHED_FIXED))
    ]


def watched(scores: Scores, limit: Limit) -> Floats:
    """What a strategy holds against its limit: `smooth` of the residual, itself, or its trailing mean."""
    if limit.smoothing_batches == 1:
        return scores.residual
    if limit.strategy.startswith(CALIBRATED):
        return scores.smoothed
    return trailing_mean(scores.residual, scores.resumes, 1.0)


def _limit(
    sessions: Sequence[Scores], limit: float, strategy: str, smoothing_batches: int, hours: float
) -> Limit:
    residual = np.concatenate([scores.residual for scores in sessions])
    mean, std = float(residual.mean()), float(residual.std())
    return Limit(limit, mean, std, len(residual), len(sessions), strategy, smoothing_batches, hours)
