"""Two recordings of ours without call times, and one run's incident, as `lprism diagnose` is asked."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tasks.cli.main import app
from tasks.deepdive.diagnose import diagnose_campaign
from tasks.deepdive.diagnose_pair import PairDiagnosis, diagnose_run, diagnose_runs
from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tests.test_diagnose import CASES, INCIDENT, QUOTA_MASK, SQUEEZE, batches, counters

S = 1_000_000_000
WHOLE = (0, 30 * S)


def record(home: Path, run: str, during: dict[str, float], span: tuple[int, int], engine: int = 100) -> None:
    """Write a run of thirty seconds, with `during` in `span` and a fault window there."""
    marks = {"recording_start_ns": 0, "recording_stop_ns": 30 * S, "baseline_start_ns": 0,
             "baseline_end_ns": 9 * S, "fault_start_ns": span[0], "fault_end_ns": span[1]}  # fmt: skip
    about = {
        "run_id": run,
        "run_name": f"c/{run}",
        "campaign": "c",
        "scenario": "normal",
        "status": "complete",
    }
    write_frame(home, "runs", "c", run, pd.DataFrame([about | marks]))
    sampled = counters(during, span, squeezer=during is SQUEEZE).assign(run_id=run)
    is_own = sampled["counter_name"].str.startswith("process_")
    sampled["pid"] = sampled["pid"].astype("Int64").mask(is_own, engine)
    write_frame(home, "counters", "c", run, sampled)
    steps = batches(during, span).drop(columns="in_domain").assign(run_id=run)
    write_frame(home, "batches", "c", run, steps)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound run, and one run a case with its fault from first to last; engines under pids of their own."""
    chosen = tmp_path_factory.mktemp("recorded")
    record(chosen, "sound", {}, (0, 0))
    named = ("cpu_quota", "cpu_swap", "network_contention", "frontend_starved")
    cases = {name: CASES[name] for name in named} | {"cpu_compute_squeeze_out": SQUEEZE}
    for engine, (name, during) in enumerate(cases.items()):
        record(chosen, name, during, WHOLE, engine)
    record(chosen, "fuller", {"host_mem_usage": 60.0, "decode_time": 14.0}, WHOLE)
    record(chosen, "part", {**CASES["cpu_quota"], "decode_time": 28.0}, INCIDENT)
    return chosen


@pytest.mark.parametrize(
    "cause",
    ["cpu_quota", "cpu_swap", "network_contention", "frontend_starved", "cpu_compute_squeeze_out"],
)
def test_two_recordings_are_judged_in_their_units(home: Path, cause: str) -> None:
    """What names an incident names the difference of two runs, however the engine's pid changed."""
    found = diagnose_runs(home, "c/sound", f"c/{cause}")
    assert found.causes[0]["cause"] == cause
    assert found.causes[0]["score"] > 0.8
    assert any("from counters and steps" in one for one in found.warnings)


def test_a_window_of_a_run_is_held_against_a_window(home: Path) -> None:
    """#fault takes that time alone, with the throttling masked, too; of the whole nothing stands out."""
    assert diagnose_runs(home, "c/sound#baseline", "c/part#fault").causes[0]["cause"] == "cpu_quota"
    masked = diagnose_runs(home, "c/part#baseline", "c/part#fault", QUOTA_MASK).causes[0]
    assert masked["cause"] == "cpu_quota"
    assert masked["score"] <= 0.8
    assert diagnose_runs(home, "c/sound", "c/part#baseline").causes[0]["cause"] == "none"


def test_a_run_that_is_no_slower_has_no_cause(home: Path) -> None:
    """A host with more memory in use may serve as fast as ever: `none`, then what differs."""
    causes = diagnose_runs(home, "c/sound", "c/fuller").causes
    assert [one["cause"] for one in causes] == ["none", "cpu_swap"]
    assert "no slower" in causes[0]["evidence"][0]


def incidents(home: Path, *spans: tuple[int, int]) -> None:
    """Write these incidents of the run `part`, and scores of all its batches."""
    steps = batches({}).assign(run_id="part", alarm=False)
    scores = steps.assign(actual_ns=steps["duration_ns"])
    write_frame(home, "batch_scores", "c", "all", scores[["run_id", "batch_index", "start_ns", "actual_ns",
                                                           "alarm", "in_domain"]])  # fmt: skip
    rows = [{"run_id": "part", "incident_index": index, "start_ns": start, "end_ns": end}
            for index, (start, end) in enumerate(spans)]  # fmt: skip
    write_frame(home, "incidents", "c", "all", pd.DataFrame(rows))


def test_one_run_is_diagnosed_as_its_campaign_was(tmp_path: Path) -> None:
    """`lprism diagnose RUN` names of its longest incident what rca_diagnosis has; a pair takes it, too."""
    record(tmp_path, "part", CASES["cpu_quota"], INCIDENT)
    record(tmp_path, "sound", {}, (0, 0))
    incidents(tmp_path, (3 * S, 4 * S), INCIDENT)
    diagnose_campaign(tmp_path, "c")
    with lake_connection(tmp_path, "c") as con:
        rows = con.sql("FROM rca_diagnosis WHERE incident_index = 1 ORDER BY rank").df()
    done = CliRunner().invoke(app, ["diagnose", "c/part", "--json", "--home", str(tmp_path)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [(one["cause"], one["score"]) for one in found["causes"]] == [
        *zip(rows["cause"], rows["score"], strict=True)
    ]
    assert found["causes"][0]["cause"] == "cpu_quota"
    assert any("the longest of 2" in one for one in found["warnings"])
    pair = diagnose_runs(tmp_path, "c/sound", "c/part")
    assert pair.causes[0]["cause"] == "cpu_quota"
    assert any("longest of its 2 incidents" in one for one in pair.warnings)


def spoiled(home: Path, later_ns: int = 0, pid: float | None = None) -> PairDiagnosis:
    """Diagnose `part` with its counters later than its batches, or of one pid."""
    record(home, "part", CASES["cpu_quota"], INCIDENT)
    incidents(home, INCIDENT)
    rows = counters(CASES["cpu_quota"]).assign(run_id="part")
    rows["start_ns"] += later_ns
    if pid is not None:
        rows["pid"] = pid
    write_frame(home, "counters", "c", "part", rows)
    return diagnose_run(home, "c/part")


def test_counters_of_another_clock_name_nothing(tmp_path: Path) -> None:
    """A clock that was set by an hour leaves the incident without samples: `none`, saying so."""
    first = spoiled(tmp_path, later_ns=3600 * S).causes[0]
    assert (first["cause"], first["confidence"] < 0.8) == ("none", True)
    assert "no counter was sampled around it" in first["evidence"]


def test_pids_in_float_notation_are_pids(tmp_path: Path) -> None:
    """An engine's pid that went through a table of floats names the same process."""
    assert spoiled(tmp_path, pid=100.0).causes[0]["cause"] == "cpu_quota"
