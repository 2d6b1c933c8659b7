"""A deep capture of the real engine: its trace lies where its batches are, on one time line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.lab.install import installed
from tasks.lake_tables import lake_connection
from tasks.pages.perfetto import export_trace
from tasks.spec import parse_spec
from tasks.traces.bundle import ingest_bundle
from tests.bench_capture import spec_of
from tests.test_run import left_running, run_all

ITERATIONS = 10


class Asked:
    """What the bench asks for, as short as it can be."""

    scenario, iterations, repetitions = "normal", ITERATIONS, 1

    def __init__(self, engine: str) -> None:
        self.engine = engine


@pytest.mark.e2e
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_captured_step_lies_inside_its_batch(engine: str, tmp_path: Path) -> None:
    """Every step that the trace tells begins and ends within a batch of the probe."""
    name = f"{engine}-cpu"
    if installed(name) is None:
        pytest.skip(f"needs `lprism engines install {name}`")
    spec = spec_of(Asked(engine), stack=False)  # type: ignore[arg-type]  # stands in for the parsed words
    (manifest,) = run_all(parse_spec(spec, "test"), tmp_path)
    lost = [(one["window"], one["lost"]) for one in manifest["captures"]]
    assert lost == [("baseline", None), ("fault", None)]
    ingest_bundle(tmp_path, tmp_path / "bundles/life-1" / manifest["run_id"])
    with lake_connection(tmp_path, "life-1") as con:
        told = con.table("captures").select("iterations").fetchall()
        ((slack_ns,),) = con.table("runs").select("clock_uncertainty_ns").fetchall()
    assert told == [(ITERATIONS,), (ITERATIONS,)]
    done = export_trace(tmp_path, manifest["run_id"], tmp_path / "out.json.gz")
    events = json.loads(gzip.decompress(done.path.read_bytes()))["traceEvents"]
    assert steps_outside(events, slack_ns / 1e3 + 0.001) == []
    assert left_running(tmp_path) == []


def steps_outside(events: list[dict[str, Any]], slack_us: float) -> list[dict[str, Any]]:
    """Labels of steps that are in no batch; there are as many steps as were captured."""
    batches = [(e["ts"], e["ts"] + e["args"]["duration_ns"] / 1e3) for e in events if e.get("cat") == "batch"]
    steps = [
        e
        for e in events
        if e.get("cat") == "user_annotation" and e["name"].startswith(("execute_context", "step["))
    ]
    assert len(steps) == 2 * ITERATIONS
    return [
        step
        for step in steps
        if not any(
            start - slack_us <= step["ts"] and step["ts"] + step["dur"] <= end + slack_us
            for start, end in batches
        )
    ]
