"""From expected and actual times to residuals, and from held-out residuals to the limit for an alarm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

STRATEGY = "heldout_run_q99_x1.25"
SMOOTHING_BATCHES = 10
# A batch counts in the trailing mean as at most 2.5x slow: a stall of 300 ms then weighs 0.06 in it.
RESIDUAL_CAP = 0.6
SESSION_BATCHES = 100
SESSION_CAP = float(np.log(1.5))
LIMIT_QUANTILE = 0.99
LIMIT_MARGIN = 1.25
LIMIT_FLOOR = 0.2
LIMIT_CEILING = 0.4


@dataclass(frozen=True)
class Scores:
    """One session's batches in order: expected time at the session's level, residuals; each of shape (n,)."""

    expected_ns: Floats
    residual: Floats
    smoothed: Floats


@dataclass(frozen=True)
class Limit:
    """A limit for the smoothed residual and the held-out residuals that it comes from."""

    limit: float
    mean: float
    std: float
    rows: int
    runs: int
    strategy: str


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


def smooth(residual: Floats) -> Floats:
    """Trailing mean over the last SMOOTHING_BATCHES; while there are fewer, the missing count as zero."""
    total = np.cumsum(np.minimum(residual, RESIDUAL_CAP))
    before = np.concatenate([np.zeros(SMOOTHING_BATCHES), total])[: len(total)]
    mean: Floats = np.clip((total - before) / SMOOTHING_BATCHES, 0.0, 1.0)  # sums of floats may end below 0
    return mean


def score_session(actual_ns: Floats, model_ns: Floats) -> Scores:
    """Score one session's batches in order; e = max(0, (actual - expected) / actual) (arXiv 2601.09258)."""
    expected = model_ns * np.exp(session_level(actual_ns, model_ns))
    residual = np.maximum(0.0, (actual_ns - expected) / actual_ns)
    return Scores(expected, residual, smooth(residual))


def calibrate(heldout: Iterable[Scores], strategy: str = STRATEGY) -> Limit:
    """Make the limit from sessions scored by models that never saw them.

    Published: mean + 3 sigma of e, capped at 0.5. Here the smoothed residuals themselves are asked, since
    they are what meets the limit: their 0.99 quantile within each session, the worst session, a quarter on
    top. The worst session and not the pool, because sessions differ more than batches. The floor (1.25x)
    keeps a few quiet sessions from promising more than they can know; the ceiling (1.67x) keeps one disturbed
    session from blinding the watch.
    """
    sessions = list(heldout)
    residual = np.concatenate([scores.residual for scores in sessions])
    worst = max(float(np.quantile(scores.smoothed, LIMIT_QUANTILE)) for scores in sessions)
    limit = min(max(worst * LIMIT_MARGIN, LIMIT_FLOOR), LIMIT_CEILING)
    return Limit(limit, float(residual.mean()), float(residual.std()), len(residual), len(sessions), strategy)
