"""Ridge regression of log time on log features: the plainest model that a better one has to beat."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

ALPHA = 1.0
CONSTANT = 1e-9  # a feature that varies less is one


@dataclass(frozen=True)
class Linear:
    """A fitted line: of each feature the mean (stands for a missing value), scale and weight; the offset."""

    means: list[float]
    scales: list[float]
    weights: list[float]
    offset: float

    def predict(self, values: Floats) -> Floats:
        """Give log time for features of shape (rows, features); a missing one counts as usual."""
        scaled = (np.log1p(np.maximum(values, 0.0)) - self.means) / self.scales
        result: Floats = np.nan_to_num(scaled) @ np.array(self.weights) + self.offset
        return result

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")


def fit_linear(values: Floats, log_time: Floats) -> Linear:
    """Fit on features of shape (rows, features); constant and missing features get no weight."""
    from sklearn.linear_model import Ridge

    logs = np.log1p(np.maximum(values, 0.0))
    known = ~np.isnan(logs)
    count = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, logs, 0.0).sum(axis=0) / count
    scales = np.sqrt(np.where(known, (logs - means) ** 2, 0.0).sum(axis=0) / count)
    scales[scales < CONSTANT] = 1.0
    fitted = Ridge(alpha=ALPHA).fit(np.nan_to_num((logs - means) / scales), log_time)
    return Linear(means.tolist(), scales.tolist(), fitted.coef_.tolist(), float(fitted.intercept_))


def load_linear(path: Path) -> Linear:
    """Read back a saved line."""
    return Linear(**json.loads(path.read_text(encoding="utf-8")))
