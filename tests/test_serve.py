"""`lprism serve` as a user runs it: server, deployments, worker, runs; the engine is a stand-in."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import books
from tasks.cli.pipeline import verdicts
from tasks.host import ports
from tasks.posting import INJECTION_FAILED
from tasks.status import status
from tests.served import LPRISM, WAIT_S, Serve, served, wait_until
from tests.test_run import holders, spec_of
from tests.tree import ROOT

WINDOWS = {"warmup_s": 0.2, "baseline_s": 2.0, "fault_s": 2.0, "recovery_s": 2.0}


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """One for all tests; in the end Ctrl-C leaves nothing."""
    with served(tmp_path_factory.mktemp("serve") / "home") as one:
        yield one


def failed(*words: str) -> str:
    """What a command that fails says."""
    ended = subprocess.run(
        [*LPRISM, *words], cwd=ROOT, capture_output=True, check=False, text=True, timeout=WAIT_S
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_port_that_is_taken_is_one_error(serve: Serve, tmp_path: Path) -> None:
    """It names the port and who has it."""
    port = serve.url.rpartition(":")[2]
    said = failed("serve", "--port", port, "--home", str(tmp_path))
    assert f"port {port} is in use by" in said
    assert len(said.splitlines()) == 1


def test_a_home_is_served_once(serve: Serve) -> None:
    """The second is told where the first is; nothing is started for it."""
    said = failed("serve", "--port", str(ports.free(None)), "--home", str(serve.home))
    assert f"{serve.home} is being served already: {serve.url}" in said


def test_a_run_of_the_ui_that_is_killed_is_finished_by_the_command_line(serve: Serve) -> None:
    """Crashed, says Prefect; `resume` is the same flow in the same UI; both keep to our own CPUs."""
    spec = spec_of(scenarios=["normal"], windows=WINDOWS, repetitions=3)
    crashed = serve.start("pipeline/pipeline", spec=spec, instance="ui-1")
    folder = serve.home / "bundles" / "ui-1"
    wait_until(lambda: list(folder.glob("r*/manifest.json")), "no cell is complete")
    pid = books.runner(serve.home, "ui-1")
    assert pid
    bound = [os.sched_getaffinity(int(path.name)) for path in Path(f"/proc/{pid}/task").iterdir()]
    assert bound == [set(spec["hosts"][0]["our_cpus"])] * len(bound)
    os.kill(pid, signal.SIGKILL)
    whole = [path.parent.name for path in folder.glob("r*/manifest.json")]
    assert serve.end_of(crashed)["type"] == "CRASHED"
    ended = subprocess.run(
        [*LPRISM, "campaign", "resume", "ui-1", "--home", str(serve.home)],
        cwd=ROOT, capture_output=True, check=False, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert [row["status"] for row in verdicts(serve.home, "ui-1")] == ["complete"] * 3
    runs = serve.runs_of("pipeline")
    assert {run["state_type"] for run in runs if run["id"] != crashed} == {"COMPLETED"}
    keys = serve.artifacts()
    known = {"campaign-plan", "campaign-progress", "campaign-cells", "validation", "injected-vs-diagnosed"}
    assert known < keys.keys()
    assert float(keys["campaign-progress"]) == 100
    assert "**3 complete, 0 failed, 0 pending** of 3 cells" in keys["campaign-cells"]
    run_ids = {cell.run_id for cell in books.planned(books.record(serve.home, "ui-1"))}
    assert run_ids - set(whole) <= {key.removeprefix("run-") for key in keys}
    assert str(serve.home / "bundles/ui-1").replace("_", "\\_") in keys["injected-vs-diagnosed"]


def test_cancelling_in_the_ui_undoes_the_fault(serve: Serve) -> None:
    """The host is clean and free; `resume` has what is left to do."""
    spec = spec_of(scenarios=["cpu_compute_squeeze_out"], windows={**WINDOWS, "fault_s": 400.0})
    run = serve.start("pipeline/pipeline", spec=spec, instance="ui-2")
    wait_until(lambda: burning(serve.home), "no fault begins")
    serve.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert serve.end_of(run)["type"] == "CANCELLED"
    wait_until(lambda: books.runner(serve.home, "ui-2") is None, "the campaign goes on")
    wait_until(lambda: status(serve.home, "ui-2")["hosts"][0]["holder"] is None, "the host is not free")
    assert status(serve.home, "ui-2")["state"] == "interrupted"
    assert not burning(serve.home)
    assert list((serve.home / "lab" / "host").rglob("dirty")) == []


def burning(home: Path) -> list[str]:
    """Programs of the fault that run in a home."""
    return [words for words in holders(home) if "squeeze burn" in words]


def test_a_campaign_with_failed_cells_is_not_green(serve: Serve) -> None:
    """Its state is Failed; the fault that was not proved is an event, its run an artifact that says why."""
    short = {"warmup_s": 0.1, "baseline_s": 0.5, "fault_s": 0.5, "recovery_s": 0.5}
    spec = spec_of("dies-in-fault", scenarios=["cpu_compute_squeeze_out"], windows=short)
    ended = serve.end_of(serve.start("pipeline/pipeline", spec=spec, instance="ui-4"))
    assert ended["type"] == "FAILED"
    assert "1 of 1 cells failed" in ended["message"]
    (run_id,) = books.outcomes(serve.home, "ui-4")
    assert "stood in until the fault" in serve.artifacts()[f"run-{run_id}"]
    (event,) = serve.events(INJECTION_FAILED)
    assert (event["payload"]["campaign"], event["payload"]["scenario"]) == (
        "ui-4",
        "cpu_compute_squeeze_out",
    )


def test_the_drop_folder_is_read(serve: Serve) -> None:
    """By its deployment: what is good is in the warehouse, what is bad is named, once."""
    (serve.home / "drop" / "good.json").write_text(
        '[{"name": "a", "ph": "X", "pid": 1, "tid": 1, "ts": 1.0, "dur": 2.0}]'
    )
    (serve.home / "drop" / "bad.json").write_text("")
    first = serve.end_of(serve.start("drop/drop", still_s=0))
    assert first["type"] == "FAILED"
    assert "1 of 2 could not be read, the others are in the warehouse" in first["message"]
    assert "bad.json: is empty" in first["message"]
    assert serve.end_of(serve.start("drop/drop", still_s=0))["type"] == "COMPLETED"
