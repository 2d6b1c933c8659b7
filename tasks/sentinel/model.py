"""The latency model: gradient-boosted trees on log time. The only file that imports xgboost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.sentinel.features import FEATURES, TARGET, Domain, domain, matrix

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import pandas as pd
    import xgboost

KIND = "xgboost"
ROUNDS = 200
# Absolute error on log time: the median ratio is fitted, so that stalls of the machine pull nothing.
# The thread count is fixed because sums, and so trees, may differ in the last bit between counts.
PARAMETERS: dict[str, Any] = {
    "objective": "reg:absoluteerror",
    "tree_method": "hist",
    "max_depth": 4,
    "learning_rate": 0.1,
    "min_child_weight": 5,
    "nthread": 2,
}


@dataclass(frozen=True)
class LatencyModel:
    """A fitted model with the range of features and the runs it was fitted on."""

    booster: xgboost.Booster
    domain: Domain
    runs: tuple[str, ...]
    rows: int
    seed: int

    def expected_ns(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Predict the time of each row of `frame` (ns), from its workload alone; shape (rows,)."""
        return np.exp(self.booster.predict(_data(frame)).astype(np.float64))

    def save(self, path: Path) -> None:
        """Write the trees as UBJSON (`path` ends in .ubj)."""
        self.booster.save_model(path)


def fit(frame: pd.DataFrame, seed: int) -> LatencyModel:
    """Fit on every row of `frame` (features, `duration_ns` > 0, `run_id`); same rows and seed, same trees."""
    import xgboost

    data = _data(frame)
    data.set_label(np.log(frame[TARGET].to_numpy(dtype=np.float64)))
    booster = xgboost.train({**PARAMETERS, "seed": seed}, data, num_boost_round=ROUNDS)
    runs = tuple(sorted(frame["run_id"].unique()))
    return LatencyModel(booster, domain(frame), runs, len(frame), seed)


def load(path: Path, card: dict[str, Any]) -> LatencyModel:
    """Read back a saved model; `card` is its JSON model card."""
    import xgboost

    limits = {name: (float(low), float(high)) for name, (low, high) in card["domain"].items()}
    runs = tuple(card["training_runs"])
    return LatencyModel(xgboost.Booster(model_file=path), limits, runs, card["training_rows"], card["seed"])


def library_version() -> str:
    """Name the library and version that fitted, for the model card."""
    import xgboost

    return f"xgboost {xgboost.__version__}"


def _data(frame: pd.DataFrame) -> xgboost.DMatrix:
    import xgboost

    return xgboost.DMatrix(matrix(frame), feature_names=list(FEATURES), nthread=PARAMETERS["nthread"])
