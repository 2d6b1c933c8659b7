"""What a latency model may know of a batch: its workload and its neighbour, never a neighbour's time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.warehouse import execute

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb
    import pandas as pd

TARGET = "duration_ns"
FEATURES = (
    "batch_size",
    "input_length_avg",
    "input_length_max",
    "output_length_avg",
    "output_length_max",
    "kv_tokens",
    "new_input_tokens",
    "attention_work",
    "admitted",
    "finished",
    "preempted",
    "prefix_hit_tokens",
    "forward_mode_code",
    "previous_batch_size",
    "previous_new_input_tokens",
    "previous_admitted",
    "previous_forward_mode_code",
)
KEY = ("engine_key", "model", "cpu_model")
TRAINING_WINDOWS = ("baseline", "fault", "recovery")
# A held-out session reaches a little further than those trained on (one token longer, one request more).
DOMAIN_MARGIN_RATIO = 0.1

Domain = dict[str, tuple[float, float]]


def batch_features(con: duckdb.DuckDBPyConnection, campaign: str) -> pd.DataFrame:
    """Every recorded batch of the campaign that did work: identity, FEATURES and TARGET, in order."""
    return execute(con, "batch_features", campaign=campaign).df()


def normal_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the recorded batches of complete runs in which nothing was injected."""
    return frame[(frame["scenario"] == "normal") & (frame["status"] == "complete")]


def training_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the batches that lie wholly inside one window; those across a mark belong to no side."""
    return frame[frame["run_window"].isin(TRAINING_WINDOWS)]


def matrix(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the features as floats, shape (rows, len(FEATURES)); a value that the source lacks is NaN."""
    import pandas as pd

    values: pd.DataFrame = frame[list(FEATURES)].apply(pd.to_numeric).astype("float64")
    return values


def domain(frame: pd.DataFrame) -> Domain:
    """Give (lowest, highest) of each feature over the training rows; features never recorded are absent."""
    values = matrix(frame).dropna(axis="columns", how="all")
    return {str(name): (float(values[name].min()), float(values[name].max())) for name in values}


def in_domain(frame: pd.DataFrame, limits: Mapping[str, tuple[float, float]]) -> pd.Series[bool]:
    """Mark the rows whose every known feature lies in the trained range, widened by a tenth on both sides."""
    import pandas as pd

    values = matrix(frame)
    inside = pd.Series(data=True, index=frame.index, dtype=bool)
    for name, (low, high) in limits.items():
        margin = DOMAIN_MARGIN_RATIO * max(high - low, 1.0)
        inside &= values[name].isna() | values[name].between(low - margin, high + margin)
    return inside
