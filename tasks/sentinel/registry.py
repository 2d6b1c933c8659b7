"""Trains the models of a campaign and keeps them: a model file, a JSON model card, and rows in the lake."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.files import sha256_of
from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.sentinel.cards import CARD, card_of, limit_rows, model_row, read_card
from tasks.sentinel.evaluate import CHAMPION, LEAST_SESSIONS, Trained, train_runs
from tasks.sentinel.features import (
    KEY,
    SESSION,
    TARGET,
    TARGETS,
    batch_features,
    check_normal,
    key_from,
    key_of,
    normal_runs,
    training_rows,
)
from tasks.sentinel.limits import Limit
from tasks.sentinel.model import LatencyModel, load
from tasks.settings import LprismError
from tasks.warehouse import execute

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pandas as pd

Key = tuple[str, ...]


@dataclass(frozen=True)
class TrainSummary:
    """What `train_campaign` made; `untrained` says in words which configurations got no model."""

    campaign: str
    champions: tuple[str, ...]
    kinds: tuple[str, ...]
    models: int
    normal_sessions: int
    training_rows: int
    heldout_median_ape_ratio: float
    limit_residual: float
    untrained: tuple[str, ...]


@dataclass(frozen=True)
class Registered:
    """A stored model, ready to score, with the limit in use.

    `left_out` are the sessions that a leave-out model judges, `limits` those of every strategy.
    """

    model_id: str
    purpose: str
    engine: str
    key: Key
    model: LatencyModel
    limit: float
    left_out: frozenset[str] = frozenset()
    limits: tuple[Limit, ...] = ()


def train_campaign(home: Path, campaign: str, seed: int, engine: str | None = None) -> TrainSummary:
    """Train, save and register every model that the campaign's normal sessions allow.

    With `engine` only that engine's, and the models of others stay. Raises LprismError when no configuration
    has two complete normal sessions, or when their batches are not to be learned from.
    """
    with lake_connection(home, campaign) as con:
        normal = normal_runs(batch_features(con, campaign))
        kept = _others(con, engine)
    if engine is not None:
        normal = normal[normal["engine"] == engine]
    cards: list[dict[str, Any]] = []
    untrained: list[str] = []
    rows: list[dict[str, Any]] = []
    for key, frame in normal.groupby(list(KEY), dropna=False):
        sessions = frame[SESSION].nunique()
        if sessions < LEAST_SESSIONS:
            untrained.append(f"engine_key {key[0]}: {sessions} complete normal run, at least 2 are needed")
            continue
        for card, model in _trained(campaign, frame, seed):
            rows.append(_saved(home, card, model))
            cards.append(card)
    if not cards:
        raise LprismError(_too_few(campaign, normal))
    _write(home, campaign, kept, (rows, [row for card in cards for row in limit_rows(card)]))
    return _summary(campaign, cards, tuple(untrained))


def _trained(campaign: str, frame: pd.DataFrame, seed: int) -> list[tuple[dict[str, Any], LatencyModel]]:
    """The models of one configuration with their cards, of each time that its batches have."""
    notes = check_normal(training_rows(frame))
    key = dict(zip(KEY, key_of(frame), strict=True))
    engine = str(frame["engine"].iloc[0])
    found: list[Trained] = []
    for target in TARGETS:
        known = frame[frame[target] > 0]
        if known[SESSION].nunique() >= LEAST_SESSIONS:
            found += train_runs(known, seed, target)
    return [(card_of(campaign, key, engine, one, notes), one.model) for one in found]


def load_models(home: Path, con: duckdb.DuckDBPyConnection, campaign: str) -> list[Registered]:
    """Load every registered model of the campaign; LprismError when there is none or a file was changed."""
    rows = execute(con, "campaign_models", campaign=campaign).fetchall()
    if not rows:
        raise LprismError(
            f"campaign {campaign} has no latency model; run: lprism train --campaign {campaign}"
        )
    return [load_model(home, campaign, *row) for row in rows]


def load_model(home: Path, campaign: str, model_id: str, path: str, sha256: str, limit: float) -> Registered:
    """Load one model. Raises LprismError when its file or card is not what was trained."""
    file = home / path
    if not file.is_file() or sha256_of(file) != sha256:
        raise LprismError(
            f"{file} is missing or not the model that was trained; run: lprism train --campaign {campaign}"
        )
    card = read_card(file.with_name(CARD))
    key = key_from(card[name] for name in KEY)
    left_out = frozenset(card["left_out_sessions"])
    limits = tuple(Limit(**one) for one in card["limits"])
    model = load(file, card)
    return Registered(model_id, card["purpose"], card["engine"], key, model, float(limit), left_out, limits)


def _too_few(campaign: str, normal: pd.DataFrame) -> str:
    sessions = normal[SESSION].nunique()
    return (
        f"campaign {campaign} has {sessions} complete normal run(s) with batches, at most one a configuration"
        f": at least {LEAST_SESSIONS} are needed, as limits come from runs left out: repeat scenario normal"
    )


def _others(con: duckdb.DuckDBPyConnection, engine: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of other engines' models and of their limits: a training of one engine leaves them alone."""
    models, limits = con.table("latency_models").df(), con.table("control_limits").df()
    models = models[models["engine"].notna() & (models["engine"] != engine)] if engine else models.iloc[:0]
    return models, limits[limits["model_id"].isin(models["model_id"])]


def _saved(home: Path, card: dict[str, Any], model: LatencyModel) -> dict[str, Any]:
    """Save a model and its card; returns its row."""
    folder = home / "models" / card["model_id"]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"model{model.suffix}"
    partial = folder / f"partial{model.suffix}"
    model.save(partial)
    partial.replace(file)
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return model_row(card, str(file.relative_to(home)), sha256_of(file))


def _write(
    home: Path,
    campaign: str,
    kept: tuple[pd.DataFrame, pd.DataFrame],
    made: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    """Replace the campaign's rows, last of all: a killed training leaves the old ones valid."""
    import pandas as pd

    for table, old, new in zip(("latency_models", "control_limits"), kept, made, strict=True):
        rows = pd.DataFrame([*old.to_dict("records"), *new])
        write_frame(home, table, campaign, "all", rows)


def _summary(campaign: str, cards: list[dict[str, Any]], untrained: tuple[str, ...]) -> TrainSummary:
    champions = [card for card in cards if card["purpose"] == CHAMPION]
    of_duration = [card for card in champions if card["target"] == TARGET]
    return TrainSummary(
        campaign=campaign,
        champions=tuple(card["model_id"] for card in champions),
        kinds=tuple(card["kind"] for card in champions),
        models=len(cards),
        normal_sessions=sum(len(card["training_sessions"]) for card in of_duration),
        training_rows=sum(card["training_rows"] for card in of_duration),
        heldout_median_ape_ratio=float(np.median([card["heldout_median_ape_ratio"] for card in of_duration])),
        limit_residual=max(card["limits"][0]["limit"] for card in of_duration),
        untrained=untrained,
    )
