"""The flows ingest, validate and pipeline on a real Prefect server, where a bundle is not as it should be."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks import warehouse
from tasks.prefect_server import prefect_server
from tests.tree import ROOT
from tests.warehouse_cases import batch, clock, good_bundle, steady, write_bundle

FIRST, SECOND, THIRD, OTHER = (f"r{number:010}" for number in range(4))
BROKEN = "complete_runs_have_batches_in_every_window"


def record(home: Path, campaign: str) -> None:
    """The orchestrator's record of a campaign."""
    content = {
        "schema": 1, "campaign": campaign, "campaign_name": "c", "started_ns": 1, "closed_ns": None,
        "seed": 7, "runs_planned": 3, "spec": {},
    }  # fmt: skip
    (home / "bundles" / campaign / "campaign.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In c-1 the second of three bundles was changed; the run of c-2 has no batch in its baseline."""
    place = tmp_path_factory.mktemp("flows")
    for run in (FIRST, SECOND, THIRD):
        good_bundle(place / "bundles" / "c-1" / run, run)
    (place / "bundles" / "c-1" / SECOND / "counters.jsonl").write_text("other\n")
    batches, counters = [clock(0), batch(4.1), batch(7.1)], [clock(0), *steady()]
    write_bundle(place / "bundles" / "c-2" / OTHER, batches, counters, run_id=OTHER, campaign="c-2")
    for campaign in ("c-1", "c-2"):
        record(place, campaign)
    return place


@pytest.fixture(scope="module")
def said(home: Path) -> dict[str, Any]:
    """What tests/flow_cases.py prints."""
    before = dict(os.environ)
    try:
        with prefect_server(home):
            command = [sys.executable, "-m", "tests.flow_cases", str(home), "c-1", "c-2"]
            ended = subprocess.run(
                command, cwd=ROOT, capture_output=True, check=False, text=True, timeout=240
            )
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_a_bundle_that_cannot_be_read_does_not_stop_the_others(home: Path, said: dict[str, Any]) -> None:
    """Its file is named, the flow fails in the end, the others are published, and nothing of it is there."""
    assert said["ingest"].startswith(
        "campaign c-1: 1 of 4 could not be read, the others are in the warehouse: "
    )
    assert f"{SECOND}/counters.jsonl is not the file that was recorded" in said["ingest"]
    _, rows = warehouse.query(home, "SELECT run_id FROM runs WHERE campaign = 'c-1' ORDER BY run_id")
    assert rows == [(FIRST,), (THIRD,)]
    assert warehouse.query(home, "SELECT runs_complete FROM campaigns WHERE campaign = 'c-1'")[1] == [(2,)]
    assert list((home / "lake").rglob(f"*{SECOND}*")) == []


def test_the_pipeline_goes_on_with_what_could_be_read(said: dict[str, Any]) -> None:
    """The others are trained on and diagnosed, and yet it is not green."""
    assert said["seen"] == ["campaign", "train", "diagnose", "report"]
    assert said["pipeline"] == said["ingest"]


def test_a_failed_validation_can_be_asked_about(home: Path, said: dict[str, Any]) -> None:
    """What failed is in the warehouse and an artifact before the flow stops."""
    assert f"{BROKEN}: 1 of 1 runs" in said["validate"]
    asked = (
        "SELECT campaign, expectation, subject FROM validation_results WHERE NOT success AND policy = 'fail'"
    )
    assert warehouse.query(home, asked)[1] == [("c-2", BROKEN, OTHER)]
    assert f"| {BROKEN} | fail | 1 of 1 runs in 1 run ({OTHER}) | FAILED |" in said["artifact"]


def test_the_report_flow_writes_the_page(said: dict[str, Any], home: Path) -> None:
    """Also of a campaign that was never diagnosed; where it lies is what the flow returns."""
    path = Path(said["report"])
    assert path == home / "reports" / "c-2.html"
    assert "Nobody has diagnosed this campaign" in path.read_text(encoding="utf-8")
