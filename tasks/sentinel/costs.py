"""What a step must cost: so much a step, a request, a prompt token, a cached token; never less than nothing.

Trees know no slope: beyond what they were shown they stay level. They start from this line, which a few
batches are enough for, and learn what it leaves over (graphs that are padded, caches, chunks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tasks.sentinel.features import FEATURES

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

BATCH, KV, TOKENS, WORK, MODE = (
    FEATURES.index(name)
    for name in ("batch_size", "kv_tokens", "new_input_tokens", "attention_work", "forward_mode_code")
)
DECODE_CODE = 1.0
ROUNDS = 12
LEAST_LOG_ERROR = 0.01  # errors below a hundredth count alike in the weights
LEAST_SHARE = 1e-3  # of the usual time: what a line gives at least, so that its logarithm exists


def fit_costs(values: Floats, time_ns: Floats) -> list[float]:
    """Give the cost in ns of each column of `_terms`, the last value is the least time of a step.

    Least absolute log error by reweighted non-negative least squares; `values` has shape (rows, FEATURES).
    """
    from scipy.optimize import nnls

    terms = _terms(values)
    scale = np.where(terms.max(axis=0) > 0, terms.max(axis=0), 1.0)
    least = LEAST_SHARE * float(np.median(time_ns))
    weight = 1 / time_ns
    costs = np.zeros(terms.shape[1])
    for _ in range(ROUNDS):
        costs, _ = nnls(terms / scale * weight[:, None], time_ns * weight)
        expected = np.maximum(terms / scale @ costs, least)
        weight = 1 / (time_ns * np.sqrt(np.maximum(np.abs(np.log(time_ns / expected)), LEAST_LOG_ERROR)))
    return [*(costs / scale).tolist(), least]


def log_cost(values: Floats, costs: list[float]) -> Floats:
    """Log of what the steps cost in ns, by `fit_costs`; shape (rows,)."""
    expected: Floats = np.log(np.maximum(_terms(values) @ np.array(costs[:-1]), costs[-1]))
    return expected


def _terms(values: Floats) -> Floats:
    """The step, its requests, prompt tokens, cached tokens, attention beyond decode, whether it prefills."""
    batch = np.nan_to_num(values[:, BATCH])
    tokens = np.where(np.isnan(values[:, TOKENS]), batch, values[:, TOKENS])
    cached = np.nan_to_num(values[:, KV])
    work = np.where(np.isnan(values[:, WORK]), cached, values[:, WORK])
    prefills = np.nan_to_num(values[:, MODE]) > DECODE_CODE
    columns = [
        np.ones(len(values)),
        batch,
        np.maximum(tokens - batch, 0.0),
        cached,
        np.maximum(work - cached, 0.0),
    ]
    return np.column_stack([*columns, prefills.astype(np.float64)])
