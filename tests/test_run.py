"""The life cycle of runs over real SSH with the real fault; the engine is a stand-in (see its file)."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.books import close_campaign, open_campaign
from tasks.fault import UndoFailed
from tasks.host import facts
from tasks.plan import plan
from tasks.remote import HostError
from tasks.session import CampaignStopped
from tasks.settings import LprismError
from tasks.spec import CampaignSpec, parse_spec
from tasks.work import keep_off_engine_cpus, open_session

STAND_IN = str(Path(__file__).with_name("stand_in_engine.py"))


def spec_of(model: str = "steady", **changes: object) -> dict[str, Any]:
    """A spec of short windows on the lab host, server and fault on the first CPU."""
    cpus = facts.usable_cpus()
    return {
        "name": "life",
        "hosts": [{"name": "lab", "allow_faults": True, "engine_cpus": cpus[:1], "our_cpus": cpus[-1:]}],
        "engines": [{"kind": "vllm", "model": model, "python": STAND_IN}],
        "workload": {"input_lengths": [8], "output_lengths": [8], "concurrency": [2]},
        "scenarios": ["normal", "cpu_compute_squeeze_out"],
        "windows": {"warmup_s": 0.2, "baseline_s": 1.0, "fault_s": 1.0, "recovery_s": 1.0},
        **changes,
    }


def run_all(spec: CampaignSpec, home: Path) -> list[dict[str, Any]]:
    """Run every cell; returns their manifests in the order they ran."""
    cells = plan(spec, "life-1")
    open_campaign(spec, home, "life-1", cells)
    with open_session(spec, spec.hosts[0], home, "life-1") as session:
        session.preflight(cells)
        for cell in cells:
            session.run(cell, len(cells))
    close_campaign(home, "life-1")
    return [
        json.loads((home / "bundles/life-1" / cell.run_id / "manifest.json").read_text()) for cell in cells
    ]


def manifests_in(home: Path) -> list[dict[str, Any]]:
    """The manifests of all bundles that there are."""
    return [
        json.loads(path.read_text()) for path in sorted((home / "bundles/life-1").glob("r*/manifest.json"))
    ]


def left_running(home: Path) -> list[str]:
    """What still holds the home's path after at most 2 s: the watchdog looks twice a second."""
    end = time.monotonic() + 2
    while (found := holders(home)) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def holders(home: Path) -> list[str]:
    """Command lines of processes that hold the home's path now."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                where = str((entry / "cwd").readlink())
            except OSError:
                continue
            if str(home) in words or where.startswith(str(home)):
                found.append(words)
    return found


def test_a_campaign_leaves_complete_bundles_and_nothing_else(tmp_path: Path) -> None:
    """Every window is marked, the fault proved and undone, every file as its digest says."""
    manifests = run_all(parse_spec(spec_of(), "test"), tmp_path)
    assert [manifest["status"] for manifest in manifests] == ["complete", "complete"]
    fault = next(manifest for manifest in manifests if manifest["cell"]["anomaly"])
    assert [mark["name"] for mark in fault["marks"]] == [
        "recording_start", "baseline_start", "baseline_end", "fault_apply", "fault_start", "fault_end",
        "fault_revert", "recovery_start", "recovery_end", "recording_stop",
    ]  # fmt: skip
    times = [mark["epoch_ns"] for mark in fault["marks"]]
    assert times == sorted(times)
    assert fault["effect"]["proved"]
    assert fault["effect"]["undone"]
    assert fault["effect"]["during"] < fault["effect"]["before"]
    for manifest in manifests:
        folder = tmp_path / "bundles/life-1" / manifest["run_id"]
        assert {"counters.jsonl", "load.log"} < {file["name"] for file in manifest["files"]}
        for file in manifest["files"]:
            assert facts.size_and_sha256(folder / file["name"]) == (file["size_bytes"], file["sha256"])
    assert left_running(tmp_path) == []


def test_a_server_that_dies_at_start_shows_its_last_words(tmp_path: Path) -> None:
    """The cells' reason holds the exit code and what the server said; they are recorded, and skipped."""
    spec = spec_of("dies-at-start", scenarios=["normal"], repetitions=2)
    for manifest in run_all(parse_spec(spec, "test"), tmp_path):
        assert manifest["status"] == "failed"
        assert re.search(r"exit code 7(.|\n)*ValueError: no such model", manifest["reason"])
    assert left_running(tmp_path) == []


def test_a_server_that_dies_in_a_run_leaves_a_failed_bundle(tmp_path: Path) -> None:
    """The reason is in the manifest, the fault is undone, and too many in a row end the campaign."""
    spec = spec_of("dies-in-fault", scenarios=["cpu_compute_squeeze_out"], repetitions=3)
    spec["limits"] = {"max_consecutive_failures": 2}
    with pytest.raises(CampaignStopped, match=r"2 cells failed in a row(.|\n)*stood in until the fault"):
        run_all(parse_spec(spec, "test"), tmp_path)
    assert [manifest["status"] for manifest in manifests_in(tmp_path)] == ["failed", "failed"]
    assert left_running(tmp_path) == []


def test_a_fault_that_is_not_undone_ends_the_campaign(tmp_path: Path) -> None:
    """The victim's measure does not come back: the bundle says so, and no other cell meets that host."""
    spec = parse_spec(spec_of("stays-slow", scenarios=["cpu_compute_squeeze_out"], repetitions=3), "test")
    with pytest.raises(UndoFailed, match="the undo of cpu_compute_squeeze_out is not proved"):
        run_all(spec, tmp_path)
    (manifest,) = manifests_in(tmp_path)
    assert (manifest["status"], manifest["effect"]["undone"]) == ("failed", False)
    assert "is not proved" in manifest["reason"]
    assert left_running(tmp_path) == []


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("spoils-records", "checksums failed on the host: IsADirectoryError"),
        ("errs", "the function probe failed 2 times: batches are missing"),
    ],
)
def test_a_run_whose_records_are_not_whole_has_failed(model: str, reason: str, tmp_path: Path) -> None:
    """What could not be fetched or was not recorded is never called complete; the campaign goes on."""
    manifests = run_all(parse_spec(spec_of(model, scenarios=["normal"], repetitions=2), "test"), tmp_path)
    assert [manifest["status"] for manifest in manifests] == ["failed", "failed"]
    assert all(reason in manifest["reason"] for manifest in manifests)
    assert [manifest["probe_errors"] for manifest in manifests] == [2 * (model == "errs")] * 2
    assert left_running(tmp_path) == []


def test_secrets_reach_the_server_and_no_record(tmp_path: Path) -> None:
    """The value of a variable is in no file of the campaign, and the same instance is not run twice."""
    spec = spec_of(scenarios=["normal"])
    spec["engines"][0] |= {"env": {"HF_TOKEN": "s3cret"}, "args": {"api-key": "s3cret"}}
    run_all(parse_spec(spec, "test"), tmp_path)
    files = [path for path in (tmp_path / "bundles").rglob("*") if path.is_file()]
    assert len(files) > 4
    assert [path for path in files if b"s3cret" in path.read_bytes()] == []
    with pytest.raises(LprismError, match="was run already"):
        run_all(parse_spec(spec, "test"), tmp_path)


def test_our_cpus_that_are_not_there_are_named() -> None:
    """One sentence, before anything starts."""
    spec = spec_of()
    spec["hosts"][0]["our_cpus"] = [60_000]
    with pytest.raises(LprismError, match="our_cpus of lab: no CPU 60000 here; usable are"):
        keep_off_engine_cpus(parse_spec(spec, "test"))


def test_a_port_in_use_is_refused_by_name(tmp_path: Path) -> None:
    """The refusal names the port and its owner."""
    import http.server

    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as taken:
        spec = spec_of(scenarios=["normal"])
        spec["engines"][0]["port"] = taken.server_port
        (manifest,) = run_all(parse_spec(spec, "test"), tmp_path)
    assert re.search(f"port {taken.server_port} is in use by .*pid {os.getpid()}", manifest["reason"])


def test_no_compiler_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without a C compiler cannot have the fault, and says what to install."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "env"):
        (tools / tool).symlink_to(f"/bin/{tool}")
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(HostError, match="cannot have cpu_compute_squeeze_out: no C compiler"):
        run_all(parse_spec(spec_of(), "test"), tmp_path)
    assert not list((tmp_path / "bundles/life-1").glob("r*"))


def test_no_room_on_the_host_is_said_before_anything_starts(tmp_path: Path) -> None:
    """A campaign that cannot be stored is not begun."""
    spec = parse_spec(spec_of(), "test")
    cells = plan(spec, "life-1")
    with open_session(spec, spec.hosts[0], tmp_path, "life-1") as session:
        session.facts["disk_free_bytes"] = 1 << 20
        with pytest.raises(HostError, match="1 MiB free, 95 MiB needed"):
            session.preflight(cells)


@pytest.mark.parametrize("phase", ["start the server", "baseline window", "fault window"])
def test_ctrl_c_takes_everything_down_within_ten_seconds(tmp_path: Path, phase: str) -> None:
    """Server, load, recorders and fault are gone, the exit code is 130, and one line is said."""
    spec = spec_of(
        scenarios=["cpu_compute_squeeze_out"], windows={"warmup_s": 0.2, "baseline_s": 5, "fault_s": 60}
    )
    spec["limits"] = {"cell_timeout_s": 600}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    home = tmp_path / "home"
    command = [
        sys.executable,
        "-m",
        "tasks.cli.main",
        "campaign",
        "run",
        str(tmp_path / "spec.yaml"),
        "--home",
        str(home),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if phase in line:
                break
        time.sleep(0.5)
        begin = time.monotonic()
        os.killpg(child.pid, signal.SIGINT)
        said = child.stderr.read()
        assert child.wait(60) == 130
    took = time.monotonic() - begin
    assert took < 10
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "lprism: interrupted"
    assert left_running(home) == []
