"""Leave-out training: every limit, every error and the choice of a model come from sessions it never saw.

A normal session is only ever judged by a model and a limit that never saw it (purpose `leave_out:<session>`).
Every other one is judged by the champion, fitted on all normal sessions; its limit leaves each out once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tasks.sentinel.features import SESSION, TARGET, WORKLOAD, training_rows
from tasks.sentinel.limits import (
    TIME_BLOCKS,
    Limit,
    Scores,
    calibrate,
    published_limits,
    resumptions,
    score_session,
)
from tasks.sentinel.model import KIND, RECIPES, LatencyModel, fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

    Floats = np.ndarray[tuple[int], np.dtype[np.float64]]

CHAMPION = "champion"
LEAVE_OUT = "leave_out:"
LEAST_SESSIONS = 2
# Whole sessions are left out one at a time up to this many, in this many groups beyond: the fits then grow
# with the sessions and not with their square.
FOLDS = 5
MOST_LEAVE_OUTS = 10
BLOCKS_OF_TIME = 4
CLOSE_RATIO = 0.1


@dataclass(frozen=True)
class Errors:
    """Errors of a model on sessions it never saw, as ratios, without the session's level taken out."""

    mape: float
    median_ape: float
    within_10pct: float


@dataclass(frozen=True)
class Candidate:
    """A kind of model, and its errors with whole sessions and whole workloads (None: only one) left out."""

    kind: str
    by_session: Errors
    by_workload: Errors | None

    @property
    def mape(self) -> float:
        """Mean over the splits that there are."""
        splits = [errors.mape for errors in (self.by_session, self.by_workload) if errors]
        return sum(splits) / len(splits)


@dataclass(frozen=True)
class Trained:
    """One model with its limits, the one in use first, its held-out errors, and what it was chosen from."""

    purpose: str
    model: LatencyModel
    limits: tuple[Limit, ...]
    errors: Errors
    candidates: tuple[Candidate, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def limit(self) -> Limit:
        """The limit in use."""
        return self.limits[0]


class Trainer:
    """Fits models on subsets of the normal sessions of one configuration, each subset and kind once."""

    def __init__(self, frame: pd.DataFrame, seed: int, target: str = TARGET) -> None:
        """Take every recorded batch of the normal sessions of one configuration."""
        self._frame = frame[frame[target] > 0].sort_values([SESSION, "batch_index"])
        self._rows = {str(name): rows for name, rows in self._frame.groupby(SESSION, sort=True)}
        self._workloads = self._frame.groupby(SESSION)[WORKLOAD].first().to_dict()
        self._seed = seed
        self._target = target
        self._fitted: dict[tuple[frozenset[str], str], LatencyModel] = {}
        self.sessions: tuple[str, ...] = tuple(self._rows)

    def model(self, sessions: frozenset[str], kind: str = KIND) -> LatencyModel:
        """Give the model of a kind fitted on exactly these sessions."""
        if (sessions, kind) not in self._fitted:
            rows = training_rows(self._frame[self._frame[SESSION].isin(sessions)])
            self._fitted[sessions, kind] = fit(rows, self._seed, kind, self._target)
        return self._fitted[sessions, kind]

    def champion(self) -> Trained:
        """Fit on all sessions; kind, limits and errors come from each session left out once."""
        return self._trained(CHAMPION, frozenset(self.sessions), None)

    def leave_out(self, *left: str) -> Trained:
        """Fit without the sessions `left`; kind and limits come from the others, the errors from `left`."""
        more = f"+{len(left) - 1}" if len(left) > 1 else ""
        return self._trained(f"{LEAVE_OUT}{left[0]}{more}", frozenset(self.sessions) - set(left), left)

    def leave_outs(self) -> list[Trained]:
        """One a session, or a few groups of them where there are more than MOST_LEAVE_OUTS."""
        groups = len(self.sessions) if len(self.sessions) <= MOST_LEAVE_OUTS else MOST_LEAVE_OUTS // 2
        return [self.leave_out(*sorted(fold)) for fold in folds(self.sessions, groups)]

    def _trained(self, purpose: str, sessions: frozenset[str], left: tuple[str, ...] | None) -> Trained:
        candidates = self.candidates(sessions, workloads=left is None)
        chosen = min(candidates, key=lambda one: one.mape) if candidates else None
        kind = chosen.kind if chosen else KIND
        model, pairs = self.model(sessions, kind), self.heldout(sessions, kind)
        errors = (
            chosen.by_session
            if chosen and left is None
            else errors_of([(model, self._rows[name]) for name in left or ()])
        )
        return Trained(purpose, model, self._limits(sessions, pairs), errors, candidates, left or ())

    def candidates(self, sessions: frozenset[str], *, workloads: bool = True) -> tuple[Candidate, ...]:
        """Give every kind with its errors; none where a single session leaves nothing to compare on.

        `workloads` leaves out whole workloads, too; leave-out models are chosen without, to be done in time.
        """
        if len(sessions) < LEAST_SESSIONS:
            return ()
        return tuple(self._candidate(kind, sessions, workloads=workloads) for kind in RECIPES)

    def _candidate(self, kind: str, sessions: frozenset[str], *, workloads: bool) -> Candidate:
        by_session = errors_of(self.heldout(sessions, kind))
        several = workloads and len({self._workloads[name] for name in sessions}) > 1
        by_workload = errors_of(self.heldout(sessions, kind, self._workloads.get)) if several else None
        return Candidate(kind, by_session, by_workload)

    def heldout(
        self, sessions: frozenset[str], kind: str, group: Callable[[str], str | None] | None = None
    ) -> list[tuple[LatencyModel, pd.DataFrame]]:
        """Each session beside the model that was fitted without it, or without all of its group."""
        found = []
        for fold in folds(sessions, FOLDS, group):
            if sessions - fold:
                model = self.model(sessions - fold, kind)
                found += [(model, self._rows[name]) for name in sorted(fold)]
        return found

    def _limits(
        self, sessions: frozenset[str], pairs: list[tuple[LatencyModel, pd.DataFrame]]
    ) -> tuple[Limit, ...]:
        if len(sessions) > 1:
            scores = [_score(model, rows) for model, rows in pairs]
            return (calibrate(scores), *published_limits(scores))
        (only,) = sessions
        scores = self._heldout_blocks(only)
        limits = (calibrate(scores, TIME_BLOCKS), *published_limits(scores))
        return tuple(replace(limit, runs=1) for limit in limits)

    def _heldout_blocks(self, session: str) -> list[Scores]:
        """Score each quarter of one session's time by the rest of it: all that two normal sessions allow."""
        rows = self._rows[session]
        block_of_row = np.arange(len(rows)) * BLOCKS_OF_TIME // len(rows)
        return [
            _score(
                fit(training_rows(rows[block_of_row != block]), self._seed, KIND, self._target),
                rows[block_of_row == block],
            )
            for block in range(BLOCKS_OF_TIME)
        ]


def train_runs(frame: pd.DataFrame, seed: int, target: str = TARGET) -> list[Trained]:
    """Train the champion and the leave-out models of one configuration (at least 2 sessions)."""
    trainer = Trainer(frame, seed, target)
    return [trainer.champion(), *trainer.leave_outs()]


def folds(
    sessions: Iterable[str], most: int, group: Callable[[str], str | None] | None = None
) -> list[frozenset[str]]:
    """Cut sessions into at most `most` parts, those of one group (by default: each its own) in one part."""
    of = {name: (group(name) if group else name) for name in sessions}
    groups = sorted({str(one) for one in of.values()})
    part = {one: index % most for index, one in enumerate(groups)}
    return [
        frozenset(name for name, one in of.items() if part[str(one)] == index)
        for index in range(min(most, len(groups)))
    ]


def errors_of(judged: list[tuple[LatencyModel, pd.DataFrame]]) -> Errors:
    """Errors of models on the sessions beside them."""
    actual = np.concatenate([rows[model.target].to_numpy(dtype=np.float64) for model, rows in judged])
    expected = np.concatenate([model.expected_ns(rows) for model, rows in judged])
    return errors_between(actual, expected)


def errors_between(actual: Floats, expected: Floats) -> Errors:
    """Errors of predictions, as shares of what was measured."""
    ratio = np.abs(expected - actual) / actual
    return Errors(float(ratio.mean()), float(np.median(ratio)), float((ratio <= CLOSE_RATIO).mean()))


def _score(model: LatencyModel, rows: pd.DataFrame) -> Scores:
    actual = rows[model.target].to_numpy(dtype=np.float64)
    return score_session(actual, model.expected_ns(rows), resumptions(rows, actual))
