"""The model card: what a model is, what it was made of, and how well it does, as JSON beside the model."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tasks.sentinel.model import RECIPES, library_version
from tasks.settings import LprismError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tasks.sentinel.evaluate import Trained

# Which fields a card has, and what its features mean: the card of another schema is refused.
SCHEMA = 2
CARD = "card.json"
ERRORS = ("heldout_mape_ratio", "heldout_median_ape_ratio", "heldout_within_10pct_ratio")
_SAME = (
    *("model_id", "campaign", "engine", "engine_key", "purpose", "kind", "target"),
    *("training_rows", "seed", "trained_ns", *ERRORS),
)


def card_of(
    campaign: str, key: Mapping[str, str], engine: str, trained: Trained, notes: Sequence[str]
) -> dict[str, Any]:
    """Describe a trained model; `key` are the columns of KEY, `notes` what its data lacked, in words."""
    model, errors = trained.model, trained.errors
    identity = "\n".join(
        (campaign, *key.values(), trained.purpose, model.target, str(model.seed), *model.sessions)
    )
    return {
        "schema": SCHEMA,
        "model_id": "m" + hashlib.sha256(identity.encode()).hexdigest()[:10],
        "campaign": campaign,
        "engine": engine,
        **key,
        "purpose": trained.purpose,
        "kind": model.kind,
        "library": library_version(),
        "parameters": RECIPES[model.kind].parameters,
        "target": model.target,
        "features": list(RECIPES[model.kind].features),
        "notes": list(notes),
        "domain": model.domain,
        "training_sessions": list(model.sessions),
        "left_out_sessions": list(trained.left_out),
        "training_rows": model.rows,
        "seed": model.seed,
        **dict(zip(ERRORS, asdict(errors).values(), strict=True)),
        "candidates": [asdict(one) for one in trained.candidates],
        "limits": [asdict(one) for one in trained.limits],
        "trained_ns": time.time_ns(),
    }


def read_card(path: Path) -> dict[str, Any]:
    """Read a model card. Raises LprismError when it cannot be read, or is of another schema."""
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema, campaign = card["schema"], card["campaign"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LprismError(f"{path} is no model card ({error}): train again") from error
    if schema != SCHEMA or not _is_known(card):
        raise LprismError(
            f"{path} is of schema {schema} or of other features than this program's (schema {SCHEMA}): "
            f"run: lprism train --campaign {campaign}"
        )
    return card


def _is_known(card: Mapping[str, Any]) -> bool:
    recipe = RECIPES.get(card["kind"])
    return recipe is not None and card["features"] == list(recipe.features)


def model_row(card: Mapping[str, Any], path: str, sha256: str) -> dict[str, Any]:
    """The row of `latency_models` of a card and its file."""
    return {
        **{name: card[name] for name in _SAME},
        "features": json.dumps(card["features"]),
        "trained_sessions": json.dumps(card["training_sessions"]),
        "left_out_sessions": json.dumps(card["left_out_sessions"]),
        "path": path,
        "sha256": sha256,
    }


def limit_rows(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of `control_limits` of a card, the one in use first."""
    return [
        {
            "model_id": card["model_id"],
            "campaign": card["campaign"],
            "strategy": limit["strategy"],
            "in_use": index == 0,
            "smoothing_batches": limit["smoothing_batches"],
            "limit_residual": limit["limit"],
            "mean_residual": limit["mean"],
            "std_residual": limit["std"],
            "heldout_rows": limit["rows"],
            "heldout_runs": limit["runs"],
            "heldout_hours": limit["hours"],
        }
        for index, limit in enumerate(card["limits"])
    ]
