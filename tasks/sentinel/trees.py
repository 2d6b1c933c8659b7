"""A fitted booster's trees as flat arrays: one row through all of them, without the library's overhead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Row = npt.NDArray[np.float32]


class Trees:
    """Numeric splits and one output, as `fit` makes them; the same sums as the booster's but for rounding."""

    def __init__(self, booster: Any) -> None:  # noqa: ANN401 - of a library that has one home
        """Take a fitted xgboost.Booster."""
        learner = json.loads(booster.save_raw("json"))["learner"]
        trees = learner["gradient_booster"]["model"]["trees"]
        self._base = _number(learner["learner_model_param"]["base_score"])
        sizes = [len(tree["left_children"]) for tree in trees]
        self._roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
        self._left, self._right = (
            self._children(trees, name) for name in ("left_children", "right_children")
        )
        self._is_leaf = self._left == np.arange(len(self._left))
        self._feature = _joined(trees, "split_indices").astype(np.intp)
        self._split = _joined(trees, "split_conditions").astype(np.float32)
        self._missing = np.where(_joined(trees, "default_left").astype(bool), self._left, self._right)
        self._depth = self._deepest()

    def _children(self, trees: list[dict[str, Any]], name: str) -> npt.NDArray[np.intp]:
        """Where each node goes on, in the common array; a leaf goes on at itself."""
        parts = []
        for root, tree in zip(self._roots, trees, strict=True):
            child, here = np.array(tree[name], dtype=np.intp), np.arange(len(tree[name]))
            parts.append(np.where(np.array(tree["left_children"]) < 0, here, child) + root)
        return np.concatenate(parts)

    def _deepest(self) -> int:
        nodes, depth = self._roots, 0
        while not self._is_leaf[nodes].all():
            nodes = np.unique(np.concatenate([self._left[nodes], self._right[nodes]]))
            depth += 1
        return depth

    def value(self, row: Row) -> float:
        """The booster's margin for one row of features, NaN where one is missing."""
        nodes = self._roots
        for _ in range(self._depth):
            seen = row[self._feature[nodes]]
            after = np.where(seen < self._split[nodes], self._left[nodes], self._right[nodes])
            nodes = np.where(np.isnan(seen), self._missing[nodes], after)
        return self._base + float(self._split[nodes].sum(dtype=np.float64))  # a leaf's value stands there


def _joined(trees: list[dict[str, Any]], name: str) -> npt.NDArray[np.float64]:
    return np.concatenate([np.array(tree[name], dtype=np.float64) for tree in trees])


def _number(text: str) -> float:
    return float(text.strip("[]"))
