"""The demo's plan: within its time, resumed when it was interrupted, honest about what it leaves out."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import books
from tasks.cli import demo as command
from tasks.lab import demo
from tasks.pages.report import default_path
from tasks.plan import ANALYSIS_S, estimate_s, plan
from tasks.spec import CampaignSpec, parse_spec
from tests.test_cli import lprism

ALL = ("sham", *demo.STRENGTHS, demo.SQUEEZE)


def spec_of(size: demo.Size, faults: tuple[str, ...] = ALL, cpus: tuple[int, ...] = (0, 1)) -> CampaignSpec:
    """The spec of a demo of this size on these CPUs."""
    return parse_spec(demo.demo_spec(size.engines, command.REPETITIONS, cpus, faults, size.seconds), "demo")


@pytest.mark.parametrize(
    ("size", "faults", "minutes"), [(demo.FULL, ALL, 15), (demo.QUICK, demo.QUICK.faults, 6)]
)
def test_a_demo_fits_into_its_time(size: demo.Size, faults: tuple[str, ...], minutes: int) -> None:
    """With every fault that a machine without a GPU can have; no window is shorter than an incident needs."""
    spec = spec_of(size, faults)
    assert estimate_s(spec, plan(spec, "demo-1")) + ANALYSIS_S <= 60 * minutes
    assert min(spec.windows.baseline_s, spec.windows.fault_s) >= demo.SHORTEST_S


def test_fewer_faults_give_longer_windows_up_to_a_bound() -> None:
    """Time that is there is used, and not without end."""
    short, longer = spec_of(demo.FULL), spec_of(demo.FULL, (demo.SQUEEZE,))
    assert short.windows.fault_s < longer.windows.fault_s == demo.LONGEST_S


def test_one_cpu_is_shared() -> None:
    """Where there is one CPU nothing is pinned."""
    assert spec_of(demo.QUICK, cpus=(3,)).hosts[0].engine_cpus is None
    assert spec_of(demo.QUICK, cpus=(3, 5)).hosts[0].our_cpus == [5]


def begun(home: Path, spec: CampaignSpec, instance: str) -> None:
    """A campaign that has begun in this home."""
    books.open_campaign(spec, home, instance, plan(spec, instance))


def test_an_interrupted_demo_is_found_until_its_report_is_there(tmp_path: Path) -> None:
    """One that is closed but has no report goes on too; another spec's never does, nor one that is done."""
    spec, other = spec_of(demo.QUICK), spec_of(demo.FULL)
    assert demo.unfinished(tmp_path, spec) is None
    begun(tmp_path, spec, "demo-1")
    assert demo.unfinished(tmp_path, spec) == "demo-1"
    assert demo.unfinished(tmp_path, other) is None
    books.close_campaign(tmp_path, "demo-1")
    assert demo.unfinished(tmp_path, spec) == "demo-1"
    report = default_path(tmp_path, "demo-1")
    report.parent.mkdir()
    report.touch()
    assert demo.unfinished(tmp_path, spec) is None
    begun(tmp_path, spec, "demo-2")
    assert demo.unfinished(tmp_path, spec) == "demo-2"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the demo would run, on a machine that refuses a fault; nothing is installed and nothing runs."""
    calls: list[tuple[Any, ...]] = []
    refused = {"check": "cpu_quota quota_pct=30", "passed": False, "found": "no cgroups here"}
    findings = [refused, {"check": demo.SQUEEZE, "passed": True}, {"check": "sham", "passed": True}]
    monkeypatch.setattr("tasks.host_check.check", lambda *_: findings)
    monkeypatch.setattr("tasks.lab.install.install", lambda _: None)
    monkeypatch.setattr("tasks.cli.pipeline.run_pipeline", lambda *given: calls.append(given))
    return calls


def test_a_refused_fault_is_named_with_its_reason_and_left_out(
    ran: list[tuple[Any, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both engines, normal, sham and what is left; told are what is not there and how long it takes."""
    assert lprism(monkeypatch, "demo", "--home", str(tmp_path)) == 0
    ((spec, home, resumed, resume),) = ran
    assert (home, resumed, resume) == (tmp_path, None, "")
    assert [one.kind for one in spec.engines] == list(demo.KINDS)
    assert {one.name for one in spec.scenarios} == {"normal", "sham", demo.SQUEEZE}
    said = capsys.readouterr().err
    assert "left out: cpu_quota: no cgroups here" in said
    assert "minutes" in said


def test_the_same_command_goes_on_and_new_does_not(
    ran: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a Ctrl-C nobody has to know an instance's name."""
    words = ("demo", "--engine", "vllm", "--home", str(tmp_path))
    lprism(monkeypatch, *words)
    begun(tmp_path, ran[0][0], "demo-1")
    lprism(monkeypatch, *words)
    lprism(monkeypatch, *words, "--new")
    assert [call[2:] for call in ran] == [(None, ""), ("demo-1", "pending"), (None, "")]
    record = json.loads((tmp_path / "bundles/demo-1" / books.RECORD).read_text())
    assert record["closed_ns"] is None


def test_a_machine_that_has_no_fault_is_told_so(
    ran: list[tuple[Any, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A demo of sham alone would show nothing; a fault that there is none of is bad usage."""
    assert lprism(monkeypatch, "demo", "--fault", "cpu_quota", "--home", str(tmp_path)) == 1
    assert "no fault can be injected here: cpu_quota quota_pct=30: no cgroups here" in capsys.readouterr().err
    assert lprism(monkeypatch, "demo", "--fault", "cpu_quotas", "--home", str(tmp_path)) == 2
    assert lprism(monkeypatch, "demo", "--engine", "vlm", "--home", str(tmp_path)) == 2
    assert ran == []
