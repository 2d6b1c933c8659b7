"""Trains the models of a campaign and keeps them: UBJSON, a JSON model card, and rows in the lake."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.sentinel.evaluate import LEAST_NORMAL_RUNS, Trained, train_runs
from tasks.sentinel.features import FEATURES, KEY, TARGET, batch_features, normal_runs
from tasks.sentinel.limits import SMOOTHING_BATCHES
from tasks.sentinel.model import KIND, PARAMETERS, LatencyModel, library_version, load
from tasks.settings import LprismError
from tasks.warehouse import execute

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pandas as pd


@dataclass(frozen=True)
class TrainSummary:
    """What `train_campaign` made; `untrained` says in words which configurations got no model."""

    campaign: str
    champions: tuple[str, ...]
    models: int
    normal_runs: int
    training_rows: int
    heldout_median_ape_ratio: float
    limit_residual: float
    untrained: tuple[str, ...]


@dataclass(frozen=True)
class Registered:
    """A stored model, ready to score."""

    model_id: str
    purpose: str
    key: tuple[str, ...]
    model: LatencyModel
    limit: float


def train_campaign(home: Path, campaign: str, seed: int) -> TrainSummary:
    """Train, save and register every model that the campaign's normal runs allow.

    Raises LprismError when no configuration has two complete normal runs.
    """
    with lake_connection(home, campaign) as con:
        normal = normal_runs(batch_features(con, campaign))
    trained: dict[tuple[str, ...], list[Trained]] = {}
    untrained: list[str] = []
    for key, frame in normal.groupby(list(KEY), dropna=False):
        runs = frame["run_id"].nunique()
        if runs < LEAST_NORMAL_RUNS:
            untrained.append(f"engine_key {key[0]}: {runs} complete normal run, at least 2 are needed")
        else:
            trained[tuple(str(part) for part in key)] = train_runs(frame, seed)
    if not trained:
        raise LprismError(_too_few(campaign, normal))
    _register(home, campaign, trained)
    return _summary(campaign, trained, tuple(untrained))


def load_models(home: Path, con: duckdb.DuckDBPyConnection, campaign: str) -> list[Registered]:
    """Load every registered model of the campaign; LprismError when there is none or a file was changed."""
    rows = execute(con, "campaign_models", campaign=campaign).fetchall()
    if not rows:
        raise LprismError(
            f"campaign {campaign} has no latency model; run: lprism train --campaign {campaign}"
        )
    return [_load(home, campaign, row) for row in rows]


def _load(home: Path, campaign: str, row: tuple[Any, ...]) -> Registered:
    model_id, _, purpose, path, sha256, limit = row
    file = home / path
    if not file.is_file() or _sha256(file) != sha256:
        raise LprismError(
            f"{file} is missing or not the model that was trained; run: lprism train --campaign {campaign}"
        )
    card = json.loads(file.with_name("card.json").read_text(encoding="utf-8"))
    key = tuple(str(card[name]) for name in KEY)
    return Registered(model_id, purpose, key, load(file, card), float(limit))


def _too_few(campaign: str, normal: pd.DataFrame) -> str:
    runs = normal["run_id"].nunique()
    return (
        f"campaign {campaign} has {runs} complete normal run(s) with batches, at most one a configuration; "
        f"at least {LEAST_NORMAL_RUNS} are needed, as limits come from runs left out: repeat scenario normal"
    )


def _register(home: Path, campaign: str, trained: dict[tuple[str, ...], list[Trained]]) -> None:
    """Save every model, then replace the campaign's rows: a killed training leaves the old ones valid."""
    import pandas as pd

    models, limits = [], []
    for key, members in trained.items():
        for one in members:
            card = _card(campaign, key, one)
            sha256 = _save(home, card, one.model)
            models.append(_model_row(card, sha256))
            limits.append(_limit_row(card))
    write_frame(home, "latency_models", campaign, "all", pd.DataFrame(models))
    write_frame(home, "control_limits", campaign, "all", pd.DataFrame(limits))


def _card(campaign: str, key: tuple[str, ...], trained: Trained) -> dict[str, Any]:
    model, limit, errors = trained.model, trained.limit, trained.errors
    identity = "\n".join((campaign, *key, trained.purpose, str(model.seed), *model.runs))
    return {
        "schema": 1,
        "model_id": "m" + hashlib.sha256(identity.encode()).hexdigest()[:10],
        "campaign": campaign,
        **dict(zip(KEY, key, strict=True)),
        "purpose": trained.purpose,
        "kind": KIND,
        "library": library_version(),
        "parameters": PARAMETERS,
        "target": TARGET,
        "features": list(FEATURES),
        "domain": model.domain,
        "training_runs": list(model.runs),
        "training_rows": model.rows,
        "seed": model.seed,
        "heldout_mape_ratio": errors.mape,
        "heldout_median_ape_ratio": errors.median_ape,
        "heldout_within_10pct_ratio": errors.within_10pct,
        "strategy": limit.strategy,
        "smoothing_batches": SMOOTHING_BATCHES,
        "limit_residual": limit.limit,
        "mean_residual": limit.mean,
        "std_residual": limit.std,
        "heldout_rows": limit.rows,
        "heldout_runs": limit.runs,
        "trained_ns": time.time_ns(),
    }


def _save(home: Path, card: dict[str, Any], model: LatencyModel) -> str:
    folder = home / "models" / card["model_id"]
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "partial.ubj"
    model.save(partial)
    partial.replace(folder / "model.ubj")
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return _sha256(folder / "model.ubj")


def _model_row(card: dict[str, Any], sha256: str) -> dict[str, Any]:
    same = (
        "model_id",
        "campaign",
        "engine_key",
        "purpose",
        "kind",
        "target",
        "training_rows",
        "seed",
        "trained_ns",
    )
    errors = ("heldout_mape_ratio", "heldout_median_ape_ratio", "heldout_within_10pct_ratio")
    return {
        **{name: card[name] for name in (*same, *errors)},
        "features": json.dumps(card["features"]),
        "trained_runs": json.dumps(card["training_runs"]),
        "path": f"models/{card['model_id']}/model.ubj",
        "sha256": sha256,
    }


def _limit_row(card: dict[str, Any]) -> dict[str, Any]:
    limit = ("limit_residual", "mean_residual", "std_residual", "heldout_rows", "heldout_runs")
    return {name: card[name] for name in ("model_id", "campaign", "strategy", "smoothing_batches", *limit)}


def _summary(
    campaign: str, trained: dict[tuple[str, ...], list[Trained]], untrained: tuple[str, ...]
) -> TrainSummary:
    champions = [members[0] for members in trained.values()]
    return TrainSummary(
        campaign=campaign,
        champions=tuple(_card(campaign, key, members[0])["model_id"] for key, members in trained.items()),
        models=sum(len(members) for members in trained.values()),
        normal_runs=sum(len(one.model.runs) for one in champions),
        training_rows=sum(one.model.rows for one in champions),
        heldout_median_ape_ratio=float(np.median([one.errors.median_ape for one in champions])),
        limit_residual=max(one.limit.limit for one in champions),
        untrained=untrained,
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
