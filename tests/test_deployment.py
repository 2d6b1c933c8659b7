"""deployments/prefect.yaml on a real Prefect server, with a real worker; the engine is a stand-in."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tasks import warehouse
from tasks.pages.report import default_path
from tasks.prefect_server import prefect_server
from tests.test_run import left_running, spec_of

ROOT = Path(__file__).parents[1]


def prefect(*words: str) -> str:
    """Run a Prefect command from the top of the clone; returns what it printed."""
    command = [sys.executable, "-m", "prefect", *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True, timeout=240)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return ended.stdout


def test_the_ad_hoc_deployment_runs_a_campaign_from_its_parameters(tmp_path: Path) -> None:
    """Deployed, asked for with a spec as JSON, picked up by a worker: the verdicts are in the warehouse."""
    home = tmp_path / "home"
    windows = {"warmup_s": 0.2, "baseline_s": 2.0, "fault_s": 2.0, "recovery_s": 2.0}
    parameters = {
        "spec": spec_of(windows=windows, repetitions=2),
        "home": str(home),
        "instance": "deployed-1",
    }
    before = dict(os.environ)
    try:
        with prefect_server(tmp_path):
            prefect("work-pool", "create", "lprism", "--type", "process")
            prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
            prefect("deployment", "run", "pipeline/pipeline", "--params", json.dumps(parameters))
            prefect("worker", "start", "--pool", "lprism", "--run-once")
    finally:
        os.environ.clear()
        os.environ.update(before)
    _, rows = warehouse.query(
        home, "SELECT scenario, status, effect_proved FROM v_injected_vs_diagnosed ORDER BY ALL"
    )
    fault = ("cpu_compute_squeeze_out", "complete", True)
    assert rows == [fault, fault, ("normal", "complete", None), ("normal", "complete", None)]
    assert default_path(home, "deployed-1").is_file()
    assert left_running(home) == []
