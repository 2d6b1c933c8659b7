"""Training again: the better champion of each configuration stays, whatever was trained last."""

from pathlib import Path

import pandas as pd
import pytest

from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.pages import told
from tasks.sentinel.registry import load_models, train_campaign
from tasks.sentinel.retrain import retrain, training_campaigns
from tasks.settings import LprismError
from tests.test_sentinel import lake_table, sessions, write_lake

TABLES = ("latency_models", "control_limits")


def short(count: int) -> pd.DataFrame:
    """Sessions of a few seconds."""
    return sessions(count).groupby("run_id").head(200).reset_index(drop=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the campaign c of three normal runs, trained."""
    place = tmp_path_factory.mktemp("retrain")
    write_lake(place, short(3))
    train_campaign(place, "c", seed=7)
    return place


def errors_are(home: Path, error: float) -> None:
    """Have the models that are there claim an error of their own."""
    models = lake_table(home, "latency_models").assign(heldout_mape_ratio=error)
    write_frame(home, "latency_models", "c", "all", models)


def usable(home: Path) -> set[str]:
    """Models whose files are what was trained."""
    with lake_connection(home, "c") as con:
        return {one.model_id for one in load_models(home, con, "c")}


def test_a_model_that_judged_worse_replaces_none(home: Path) -> None:
    """The runs changed, so the new models would lie where the old ones are: those are as they were."""
    errors_are(home, 0.0)
    slower = {name: short(3)[name] * 2 for name in ("duration_ns", "interval_ns")}
    write_lake(home, short(3).assign(**slower))
    before = [lake_table(home, name) for name in TABLES]
    changes = retrain(home, "c", seed=7)
    assert [(one.target, one.outcome, one.error_before) for one in changes] == [
        ("duration_ns", "kept", 0.0),
        ("interval_ns", "kept", 0.0),
    ]
    for table, name in zip(before, TABLES, strict=True):
        by = list(table.columns[:3])
        after = lake_table(home, name).sort_values(by, ignore_index=True)
        pd.testing.assert_frame_equal(after, table.sort_values(by, ignore_index=True))
    assert usable(home) == set(before[0]["model_id"])
    assert list((home / "models").glob(".*")) == []


def test_a_model_that_judged_better_replaces_the_old(home: Path) -> None:
    """It says which and with which errors."""
    errors_are(home, 9.0)
    changes = retrain(home, "c", seed=7)
    assert {(one.outcome, one.error_before) for one in changes} == {("replaced", 9.0)}
    assert {one.model_after for one in changes} < usable(home)
    assert max(lake_table(home, "latency_models")["heldout_mape_ratio"]) < 1
    assert "**2 replaced**" in told.champions(changes)
    assert training_campaigns(home) == ["c"]
    assert training_campaigns(home, weeks=1) == [], "its batches are of 1970"


def test_a_campaign_that_lost_its_runs_keeps_its_models(home: Path) -> None:
    """It is an error, as something was deleted; a campaign that never had enough is none."""
    before = usable(home)
    write_lake(home, short(3).assign(status="failed"))
    with pytest.raises(LprismError, match="at least 2 are needed"):
        retrain(home, "c", seed=7)
    assert usable(home) == before
    for name in TABLES:
        write_frame(home, name, "c", "all", lake_table(home, name).iloc[:0])
    assert retrain(home, "c", seed=7) == []
