"""Trains the models of campaigns again, and keeps the old ones wherever the new champion judged worse."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.sentinel.cards import CARD, read_card
from tasks.sentinel.evaluate import CHAMPION
from tasks.sentinel.features import KEY, key_from
from tasks.sentinel.registry import Key, train_campaign
from tasks.settings import LprismError
from tasks.warehouse import execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEEK_NS = 7 * 24 * 3600 * 1_000_000_000
TABLES = ("latency_models", "control_limits")
ERROR = "heldout_mape_ratio"
FIRST, SAME, REPLACED, KEPT, GONE = "first", "same", "replaced", "kept", "gone"

Rows = list[dict[str, Any]]


class Model(NamedTuple):
    """A stored model: its configuration (KEY of features.py), which time it tells, its row."""

    key: Key
    target: str
    row: dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What became of the champion of one time of one configuration; errors are of sessions left out (MAPE).

    `outcome`: first, same, replaced, kept (the new one judged worse), gone (nothing to train it on any more).
    """

    campaign: str
    engine: str
    key: Key
    target: str
    outcome: str
    model_before: str | None
    model_after: str | None
    error_before: float | None
    error_after: float | None


def training_campaigns(home: Path, weeks: int = 0) -> list[str]:
    """Campaigns with batches of the last so many weeks (0: all), the earliest first."""
    since = time.time_ns() - weeks * WEEK_NS if weeks else 0
    with lake_connection(home) as con:
        return [row[0] for row in execute(con, "training_campaigns", since_ns=since).fetchall()]


def retrain(home: Path, campaign: str, seed: int) -> list[Change]:
    """Train a campaign's models again; of each configuration the better stay, champion by champion.

    A campaign that never had a model and cannot have one yet gives no changes.

    Raises:
        LprismError: it had models, and they cannot be trained any more; the old ones stay.
    """
    models, limits = _rows(home, campaign)
    old = _known(home, models)
    with _spared(home, models):
        try:
            train_campaign(home, campaign, seed)
        except LprismError:
            if models:
                raise
            return []
        new = _known(home, _rows(home, campaign)[0])
        changes = _changes(campaign, _champions(old), _champions(new))
        worse = {_group(one) for one in changes if one.outcome == KEPT}
        if worse:
            _put_back(home, campaign, [one for one in old if _group(one) in worse], limits, worse)
    return changes


def _rows(home: Path, campaign: str) -> tuple[Rows, Rows]:
    """The campaign's rows of latency_models and control_limits."""
    with lake_connection(home, campaign) as con:
        tables = [con.table(name).df() for name in TABLES]
    models, limits = (
        [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
        for table in tables
    )
    return models, limits


def _known(home: Path, models: Rows) -> list[Model]:
    """The models that this program can use, each with its configuration, which its card tells."""
    found = []
    for row in models:
        with suppress(LprismError):  # of an older program: whatever takes its place is better
            card = read_card((home / row["path"]).with_name(CARD))
            found.append(Model(key_from(card[name] for name in KEY), row["target"], row))
    return found


def _group(one: Model | Change) -> tuple[Key, str]:
    return one.key, one.target


def _champions(models: list[Model]) -> dict[tuple[Key, str], dict[str, Any]]:
    return {_group(one): one.row for one in models if one.row["purpose"] == CHAMPION}


def _changes(
    campaign: str, old: dict[tuple[Key, str], dict[str, Any]], new: dict[tuple[Key, str], dict[str, Any]]
) -> list[Change]:
    found = []
    for key, target in sorted(old.keys() | new.keys()):
        was, now = old.get((key, target), {}), new.get((key, target), {})
        (before, after), errors = ([one.get(name) for one in (was, now)] for name in ("model_id", ERROR))
        engine = str((now or was)["engine"])
        found.append(Change(campaign, engine, key, target, _outcome(was, now), before, after, *errors))
    return found


def _outcome(was: dict[str, Any], now: dict[str, Any]) -> str:
    if not was or not now:
        return GONE if was else FIRST
    if was["sha256"] == now["sha256"]:
        return SAME
    return REPLACED if now[ERROR] <= was[ERROR] else KEPT


def _put_back(home: Path, campaign: str, old: list[Model], limits: Rows, worse: set[tuple[Key, str]]) -> None:
    """Take the new models of these configurations away again: the old files and rows take their places."""
    for one in old:
        folder = (home / one.row["path"]).parent
        shutil.copytree(_copy(folder), folder, dirs_exist_ok=True)
    models, new_limits = _rows(home, campaign)
    new = [one.row for one in _known(home, models) if _group(one) not in worse]
    kept = {one.row["model_id"] for one in old}
    stay = {row["model_id"] for row in new}
    rows = [*new, *(one.row for one in old)]
    both = [*(row for row in new_limits if row["model_id"] in stay),
            *(row for row in limits if row["model_id"] in kept)]  # fmt: skip
    for table, made in zip(TABLES, (rows, both), strict=True):
        write_frame(home, table, campaign, "all", pd.DataFrame(made))


@contextmanager
def _spared(home: Path, models: Rows) -> Iterator[None]:
    """Copies of the models' files beside them, as a training may write over them."""
    folders = {(home / model["path"]).parent for model in models}
    try:
        for folder in folders:
            if folder.is_dir():
                shutil.copytree(folder, _copy(folder), dirs_exist_ok=True)
        yield
    finally:
        for folder in folders:
            shutil.rmtree(_copy(folder), ignore_errors=True)


def _copy(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.before")
