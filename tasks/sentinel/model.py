"""The latency models: four ways to learn what a batch should take. The only file that imports xgboost."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.sentinel.costs import fit_costs, log_cost
from tasks.sentinel.features import FEATURES, PUBLISHED_FEATURES, SESSION, TARGET, Domain, domain, matrix
from tasks.sentinel.linear import Linear, fit_linear, load_linear
from tasks.sentinel.trees import Trees

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import pandas as pd
    import xgboost

    Floats = npt.NDArray[np.float64]

KIND = "xgboost"
COSTS = "costs"
# More of any of these never makes a batch quicker.
RISING = ("batch_size", "kv_tokens", "new_input_tokens", "attention_work", "admitted")
# Fixed because sums, and so trees, may differ in the last bit between counts; one, as threads wait for each
# other on a busy machine longer than they help.
THREADS = 1
TREES: dict[str, Any] = {"tree_method": "hist", "learning_rate": 0.1, "nthread": THREADS}
# Absolute error on log time: the median ratio is fitted, so that stalls of the machine pull nothing.
OURS = {
    **TREES,
    "objective": "reg:absoluteerror",
    "max_depth": 4,
    "learning_rate": 0.08,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
}
# Batches that a leaf needs: a share of all, so that neither few nor many are learned by heart.
LEAF_SHARE = 1 / 1000
LEAST_IN_A_LEAF, MOST_IN_A_LEAF = 5, 20


@dataclass(frozen=True)
class Recipe:
    """How a kind of model is fitted: on which features, log time or time, upon costs or not, with what."""

    features: tuple[str, ...] = FEATURES
    on_log_time: bool = True
    on_costs: bool = False
    rounds: int = 300
    parameters: dict[str, Any] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    "ridge": Recipe(rounds=0),
    # As published: five lengths and sizes, squared error on time (arXiv 2601.09258).
    "gradient_boosting": Recipe(
        features=PUBLISHED_FEATURES,
        on_log_time=False,
        rounds=100,
        parameters={**TREES, "objective": "reg:squarederror", "max_depth": 3},
    ),
    KIND: Recipe(on_costs=True, parameters=OURS),
    "xgboost_monotone": Recipe(
        on_costs=True,
        parameters={**OURS, "monotone_constraints": dict.fromkeys(RISING, 1)},
    ),
}


@dataclass(frozen=True)
class LatencyModel:
    """A fitted model with its kind and target, the range of features and the sessions that it knows."""

    fitted: xgboost.Booster | Linear
    domain: Domain
    sessions: tuple[str, ...]
    rows: int
    seed: int
    kind: str = KIND
    target: str = TARGET

    def expected_ns(self, frame: pd.DataFrame) -> Floats:
        """Predict the time of each row of `frame` (ns), from its workload alone; shape (rows,)."""
        recipe = RECIPES[self.kind]
        values = matrix(frame, recipe.features)
        if isinstance(self.fitted, Linear):
            return np.exp(self.fitted.predict(values.to_numpy()))
        told = self.fitted.predict(_data(values)).astype(np.float64)
        if recipe.on_costs:
            told += log_cost(values.to_numpy(), self.costs)
        return np.exp(told) if recipe.on_log_time else np.maximum(told, 1.0)

    def save(self, path: Path) -> None:
        """Write the trees as UBJSON, a line as JSON; `path` ends in .ubj or .json, as `suffix` says."""
        if isinstance(self.fitted, Linear):
            self.fitted.save(path)
        else:
            self.fitted.save_model(path)

    @cached_property
    def trees(self) -> Trees:
        """Its trees for a row at a time; a line has none."""
        return Trees(self.fitted)

    @property
    def costs(self) -> list[float]:
        """What the trees start from (see fit_costs); they lie in the trees' own file."""
        told = None if isinstance(self.fitted, Linear) else self.fitted.attr(COSTS)
        return list(json.loads(told)) if told else []

    @property
    def suffix(self) -> str:
        """End of the name of the file that holds it."""
        return ".json" if isinstance(self.fitted, Linear) else ".ubj"


def fit(frame: pd.DataFrame, seed: int, kind: str = KIND, target: str = TARGET) -> LatencyModel:
    """Fit on every row of `frame` (features, `target` > 0, SESSION); same rows and seed, same model."""
    recipe = RECIPES[kind]
    values = matrix(frame, recipe.features)
    time_ns = frame[target].to_numpy(dtype=np.float64)
    label = np.log(time_ns) if recipe.on_log_time else time_ns
    fitted: xgboost.Booster | Linear
    if recipe.on_costs:
        costs = fit_costs(values.to_numpy(), time_ns)
        fitted = _trees(values, label - log_cost(values.to_numpy(), costs), seed, recipe)
        fitted.set_attr(**{COSTS: json.dumps(costs)})
    elif recipe.rounds:
        fitted = _trees(values, label, seed, recipe)
    else:
        fitted = fit_linear(values.to_numpy(), label)
    sessions = tuple(sorted(frame[SESSION].unique()))
    return LatencyModel(fitted, domain(frame), sessions, len(frame), seed, kind, target)


def _trees(values: pd.DataFrame, label: Floats, seed: int, recipe: Recipe) -> xgboost.Booster:
    import xgboost

    data = _data(values)
    data.set_label(label)
    leaf = min(max(LEAST_IN_A_LEAF, len(values) * LEAF_SHARE), MOST_IN_A_LEAF)
    parameters = {"min_child_weight": leaf, **recipe.parameters, "seed": seed}
    return xgboost.train(parameters, data, num_boost_round=recipe.rounds)


def load(path: Path, card: dict[str, Any]) -> LatencyModel:
    """Read back a saved model; `card` is its JSON model card."""
    import xgboost

    fitted = load_linear(path) if path.suffix == ".json" else xgboost.Booster(model_file=path)
    limits = {name: (float(low), float(high)) for name, (low, high) in card["domain"].items()}
    sessions = tuple(card["training_sessions"])
    rows, seed = card["training_rows"], card["seed"]
    return LatencyModel(fitted, limits, sessions, rows, seed, card["kind"], card["target"])


def library_version() -> str:
    """Name the library and version that fitted, for the model card."""
    import xgboost

    return f"xgboost {xgboost.__version__}"


def _data(values: pd.DataFrame) -> xgboost.DMatrix:
    import xgboost

    return xgboost.DMatrix(values, feature_names=list(values.columns), nthread=THREADS)
