"""What a model may know of a batch: its workload and its neighbours' counts, never a neighbour's time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.settings import LprismError
from tasks.warehouse import execute

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import duckdb
    import pandas as pd

TARGET = "duration_ns"
INTERVAL = "interval_ns"  # many regressions sit between forwards
TARGETS = (TARGET, INTERVAL)
SESSION = "session"
WORKLOAD = "lengths"  # (input, output) lengths asked for: what is left out as a whole beside whole sessions
FEATURES = (
    "batch_size",
    "kv_tokens",
    "new_input_tokens",
    "attention_work",
    "admitted",
    "finished",
    "preempted",
    "prefix_hit_tokens",
    "forward_mode_code",
    "waiting_requests",
    "kv_demand_tokens",
    "next_admitted",
    "previous_new_input_tokens",
    "previous_admitted",
    "previous_forward_mode_code",
)
# What the published model knows (arXiv 2601.09258).
PUBLISHED_FEATURES = (
    "batch_size",
    "input_length_avg",
    "input_length_max",
    "output_length_avg",
    "output_length_max",
)
KEY = ("engine_key", "model", "cpu_model")
UNKNOWN = "None"
TRAINING_WINDOWS = ("baseline", "fault", "recovery")
# A held-out session reaches a little further than those trained on (one token longer, one request more).
DOMAIN_MARGIN_RATIO = 0.1
LEAST_ROWS = 50

Domain = dict[str, tuple[float, float]]


def batch_features(con: duckdb.DuckDBPyConnection, campaign: str, *, look_ahead: bool = True) -> pd.DataFrame:
    """Every recorded batch of the campaign that did work: identity, FEATURES and TARGETS, in order.

    `look_ahead` allows the counts of the next batch where a source hides prefill; without it a batch is seen
    as it can be when it begins.
    """
    return execute(con, "batch_features", campaign=campaign, look_ahead=look_ahead).df()


def key_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """Give the configuration of rows that are all of one, the values of KEY."""
    return key_from(rows[list(KEY)].iloc[0])


def key_from(values: Iterable[object]) -> tuple[str, ...]:
    """Give the configuration that these values of KEY are; what was not recorded is one value, too."""
    return tuple(value if isinstance(value, str) else UNKNOWN for value in values)


def normal_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the recorded batches of complete runs in which nothing was injected."""
    return frame[(frame["scenario"] == "normal") & (frame["status"] == "complete")]


def training_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep batches inside one window, or of a recording without; those across a mark belong to no side."""
    return frame[frame["run_window"].isin(TRAINING_WINDOWS) | frame["run_window"].isna()]


def matrix(frame: pd.DataFrame, features: Sequence[str] = FEATURES) -> pd.DataFrame:
    """Give the features as floats, shape (rows, features); a value that the source lacks is NaN."""
    import pandas as pd

    values: pd.DataFrame = frame[list(features)].apply(pd.to_numeric).astype("float64")
    return values


def domain(frame: pd.DataFrame) -> Domain:
    """Give (lowest, highest) of each feature over the training rows; features never recorded are absent."""
    values = matrix(frame).dropna(axis="columns", how="all")
    return {str(name): (float(values[name].min()), float(values[name].max())) for name in values}


def widened(limits: Mapping[str, tuple[float, float]]) -> Domain:
    """Give the range in which a model is believed: what it was trained on, a tenth wider on both sides."""
    margin = {name: DOMAIN_MARGIN_RATIO * max(high - low, 1.0) for name, (low, high) in limits.items()}
    return {name: (low - margin[name], high + margin[name]) for name, (low, high) in limits.items()}


def in_domain(frame: pd.DataFrame, limits: Mapping[str, tuple[float, float]]) -> pd.Series[bool]:
    """Mark the rows whose every known feature lies in the trained range, widened.

    A forward mode of no known kind lies in none.
    """
    values = matrix(frame)
    inside = frame["forward_mode"].isna() | frame["forward_mode_code"].notna()
    for name, (low, high) in widened(limits).items():
        inside &= values[name].isna() | values[name].between(low, high)
    return inside


def check_normal(frame: pd.DataFrame) -> list[str]:
    """Say in words what rows to be learned from lack, for the model card.

    Raises:
        LprismError: fewer than LEAST_ROWS, or a forward mode of no known kind: nothing can be learned then.
    """
    if len(frame) < LEAST_ROWS:
        raise LprismError(
            f"{len(frame)} normal batches are too few to learn from; at least {LEAST_ROWS} are needed"
        )
    odd = frame["forward_mode"][frame["forward_mode"].notna() & frame["forward_mode_code"].isna()]
    if len(odd):
        raise LprismError(f"forward mode {odd.iloc[0]!r} of {len(odd)} batches is of no known kind")
    values = matrix(frame)
    missing = [name for name in FEATURES if values[name].isna().all()]
    constant = [
        name for name in FEATURES if name not in missing and (values[name] == values[name].iloc[0]).all()
    ]
    notes = [f"not recorded: {', '.join(missing)}"] if missing else []
    notes += [f"constant: {', '.join(constant)}"] if constant else []
    if frame[WORKLOAD].nunique() < 2:  # noqa: PLR2004 - two to leave one out
        notes.append("one workload only: nothing is known of how it does on others")
    if frame["prefill_inferred"].any():
        notes.append(f"prefill inferred in {frame['prefill_inferred'].mean():.1%} of the batches")
    return notes
