"""Leave-out training: every limit and every error comes from sessions that the model never saw.

A normal run is only ever judged by a model and a limit that never saw it (purpose `leave_out:<run_id>`).
Every other run is judged by the champion, fitted on all normal runs; its limit leaves each of them out once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tasks.sentinel.features import TARGET, training_rows
from tasks.sentinel.limits import STRATEGY, Limit, Scores, calibrate, score_session
from tasks.sentinel.model import LatencyModel, fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

CHAMPION = "champion"
LEAVE_OUT = "leave_out:"
LEAST_NORMAL_RUNS = 2
# Inside a leave-out, whole runs are left out one at a time up to this many, in this many groups beyond: the
# fits then grow with the runs and not with their square.
INNER_FOLDS = 5
TIME_BLOCKS = 4
CLOSE_RATIO = 0.1


@dataclass(frozen=True)
class Errors:
    """Errors of a model on sessions it never saw, as ratios, without the session's level taken out."""

    mape: float
    median_ape: float
    within_10pct: float


@dataclass(frozen=True)
class Trained:
    """One model with its limit and its held-out errors."""

    purpose: str
    model: LatencyModel
    limit: Limit
    errors: Errors


class Trainer:
    """Fits models on subsets of the normal runs of one configuration, each subset once."""

    def __init__(self, frame: pd.DataFrame, seed: int) -> None:
        """Take every recorded batch of the normal runs of one configuration."""
        self._frame = frame.sort_values(["run_id", "batch_index"])
        self._seed = seed
        self._fitted: dict[frozenset[str], LatencyModel] = {}
        self.runs: tuple[str, ...] = tuple(sorted(frame["run_id"].unique()))

    def model(self, runs: frozenset[str]) -> LatencyModel:
        """Give the model fitted on exactly these runs."""
        if runs not in self._fitted:
            rows = training_rows(self._frame[self._frame["run_id"].isin(runs)])
            self._fitted[runs] = fit(rows, self._seed)
        return self._fitted[runs]

    def champion(self) -> Trained:
        """Fit on all runs; the limit and the errors come from each run left out."""
        runs = frozenset(self.runs)
        scored = [(self.model(runs - {run}), self._session(run)) for run in self.runs]
        limit = calibrate([_score(model, rows) for model, rows in scored])
        return Trained(CHAMPION, self.model(runs), limit, _errors(scored))

    def leave_out(self, run: str) -> Trained:
        """Fit without `run`, with a limit from the other runs alone; the errors are those on `run`."""
        others = frozenset(self.runs) - {run}
        model = self.model(others)
        return Trained(LEAVE_OUT + run, model, self._limit(others), _errors([(model, self._session(run))]))

    def _limit(self, runs: frozenset[str]) -> Limit:
        if len(runs) > 1:
            return calibrate(self._heldout(runs))
        (only,) = runs
        blocks = calibrate(self._heldout_blocks(only), f"{STRATEGY}_time_blocks_of_one_run")
        return replace(blocks, runs=1)

    def _heldout(self, runs: frozenset[str]) -> Iterator[Scores]:
        for fold in _folds(runs):
            model = self.model(runs - fold)
            yield from (_score(model, self._session(run)) for run in sorted(fold))

    def _heldout_blocks(self, run: str) -> Iterator[Scores]:
        """Score each quarter of one run's time by the rest of it: all that two normal runs allow."""
        session = self._session(run)
        block_of_row = np.arange(len(session)) * TIME_BLOCKS // len(session)
        for block in range(TIME_BLOCKS):
            model = fit(training_rows(session[block_of_row != block]), self._seed)
            yield _score(model, session[block_of_row == block])

    def _session(self, run: str) -> pd.DataFrame:
        return self._frame[self._frame["run_id"] == run]


def train_runs(frame: pd.DataFrame, seed: int) -> list[Trained]:
    """Train the champion and one leave-out model for each normal run of one configuration (>= 2 runs)."""
    trainer = Trainer(frame, seed)
    return [trainer.champion(), *(trainer.leave_out(run) for run in trainer.runs)]


def _folds(runs: frozenset[str]) -> list[frozenset[str]]:
    ordered = sorted(runs)
    return [frozenset(ordered[first::INNER_FOLDS]) for first in range(min(INNER_FOLDS, len(ordered)))]


def _score(model: LatencyModel, session: pd.DataFrame) -> Scores:
    return score_session(session[TARGET].to_numpy(dtype=np.float64), model.expected_ns(session))


def _errors(scored: list[tuple[LatencyModel, pd.DataFrame]]) -> Errors:
    actual = np.concatenate([rows[TARGET].to_numpy(dtype=np.float64) for _, rows in scored])
    expected = np.concatenate([model.expected_ns(rows) for model, rows in scored])
    ratio = np.abs(expected - actual) / actual
    return Errors(float(ratio.mean()), float(np.median(ratio)), float((ratio <= CLOSE_RATIO).mean()))
