"""Scores the batches of a file by a stored model, row by row in the file's order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.lake_tables import lake_connection
from tasks.sentinel.batch_tables import read_batches
from tasks.sentinel.detect import score_run
from tasks.sentinel.evaluate import CHAMPION
from tasks.sentinel.features import SESSION, TARGET
from tasks.sentinel.registry import Registered, load_model
from tasks.settings import LprismError, SpecError
from tasks.spec_errors import unknown
from tasks.warehouse import execute

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

COLUMNS = ("row", "expected_us", "limit_us", "alarm", "in_domain")
USED = ("expected_ns", "limit_residual", "alarm", "in_domain")
NS_PER_US = 1e3


@dataclass(frozen=True)
class FileScores:
    """Rows of COLUMNS in the file's order, None beside `row` where nothing can be said; notes in words."""

    model_id: str
    rows: list[tuple[Any, ...]]
    notes: tuple[str, ...]


def stored_models(home: Path) -> pd.DataFrame:
    """Every registered model with its limit in use, the newest first; columns of sql/features/all_models."""
    with lake_connection(home) as con:
        return execute(con, "all_models").df()


def named(models: pd.DataFrame, model_id: str, what: str) -> pd.Series[Any]:
    """The row of the model of that name. Raises SpecError, which calls it `what` and names the nearest."""
    found = models[models["model_id"] == model_id]
    if found.empty:
        raise SpecError(unknown(what, model_id, list(models["model_id"])))
    return found.iloc[0]


def model_of(home: Path, engine: str, model_id: str | None = None) -> Registered:
    """Load a model of batch times: the one named, else the newest champion of an engine.

    Raises:
        SpecError: there is none; the message names those that there are.
        LprismError: its file or card is not what was trained.
    """
    models = stored_models(home)
    fitting = models[(models["target"] == TARGET) & (models["engine"] == engine)]
    if model_id is not None:
        row = named(fitting, model_id, f"{engine} model of {TARGET}")
    elif (fitting["purpose"] == CHAMPION).any():
        row = fitting[fitting["purpose"] == CHAMPION].iloc[0]
    else:
        raise SpecError(f"{home} has no model of engine {engine}: run lprism train --campaign C first")
    return load_model(
        home, row["campaign"], row["model_id"], row["path"], row["sha256"], row["limit_residual"]
    )


def score_file(home: Path, path: Path, engine: str, model_id: str | None = None) -> FileScores:
    """Score every batch of a file.

    Raises:
        LprismError: the file cannot be read, or no model fits.
    """
    import pandas as pd

    judge = model_of(home, engine, model_id)
    table = read_batches(path)
    features = table.features
    if odd := set(features["engine"].dropna()) - {engine}:
        raise LprismError(f"{path} is of engine {min(odd)}, and the model is of {engine}")
    parts = [score_run(rows, judge) for _, rows in features.groupby(SESSION, sort=False)]
    found = pd.concat(parts) if parts else pd.DataFrame(columns=["batch_index", *USED])
    by_batch = found.set_index("batch_index")[list(USED)].to_dict("index")
    placed = table.rows[["row_index", "batch_index"]].astype("float64").fillna(-1).astype(int)
    rows = [_row(int(index), by_batch.get(int(batch))) for index, batch in placed.to_numpy()]
    return FileScores(judge.model_id, rows, tuple(_notes(table.rows, features, rows)))


def _row(index: int, score: dict[Any, Any] | None) -> tuple[Any, ...]:
    if score is None:
        return (index, None, None, None, None)
    expected_us = score["expected_ns"] / NS_PER_US
    limit_us = expected_us / (1 - score["limit_residual"])
    return (index, round(expected_us, 3), round(limit_us, 3), bool(score["alarm"]), bool(score["in_domain"]))


def _notes(rows: pd.DataFrame, features: pd.DataFrame, scored: list[tuple[Any, ...]]) -> list[str]:
    """What a reader of the rows must know."""
    notes = []
    for reason, rejected in rows[rows["reason"].notna()].groupby("reason"):
        notes.append(
            f"{len(rejected)} rows are not judged: {reason}; the first is row {rejected['row_index'].iloc[0]}"
        )
    aside = sum(row[1] is None for row in scored) - int(rows["reason"].notna().sum())
    if aside:
        notes.append(f"{aside} rows are set aside: empty steps, or no time above 0")
    outside = sum(row[4] is False for row in scored)
    if outside:
        notes.append(f"{outside} rows are outside of what the model was trained on (in_domain)")
    if features["prefill_inferred"].any():
        notes.append(f"prefill is inferred in {int(features['prefill_inferred'].sum())} rows")
    return notes
