"""`lprism doctor`: every fault, engine and recorder with what it lacks, and whether the demo could run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import doctor
from tasks.injection import anomalies
from tasks.lab import demo
from tasks.lab.recipes import RECIPES
from tests.test_cli import lprism

Finding = dict[str, Any]


def finding(check: str, *, passed: bool = True, found: str = "f", remedy: str | None = None) -> Finding:
    """One finding of a check of the host `lab`."""
    return {"host": "lab", "check": check, "passed": passed, "found": found, "remedy": remedy}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, doctor.Row]]:
    """What is said when the check of the host finds this, by name."""

    def examined(*findings: Finding) -> dict[str, doctor.Row]:
        monkeypatch.setattr("tasks.host_check.check", lambda *_: list(findings))
        return {row["name"]: row for row in doctor.examined(tmp_path / "none" / "home")}

    return examined


def test_every_fault_and_engine_is_told_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For real: each injector's own preflight answers, with a remedy where it refuses; no home is made."""
    monkeypatch.setattr("tasks.doctor.installed", lambda _: None)
    code = lprism(monkeypatch, "doctor", "--json", "--home", str(tmp_path / "home"))
    said = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in said if row["part"] == "anomaly"} == set(anomalies())
    assert {row["name"] for row in said if row["part"] == "engine"} == {r.kind for r in RECIPES.values()}
    assert all(row["remedy"] for row in said if not row["works"])
    assert not any(row["remedy"] for row in said if row["works"])
    assert code == (0 if said[0]["works"] else 1)
    assert not (tmp_path / "home").exists()


def test_a_refused_fault_is_told_in_the_injectors_words(
    rows: Callable[..., dict[str, doctor.Row]],
) -> None:
    """Why and what to do are those of the check of a campaign's hosts; the strength asked for is named."""
    said = rows(
        finding("cpu_quota quota_pct=30", passed=False, found="no cgroups", remedy="log in as root"),
        finding("cpu_swap gb=2", found="it can be had"),
    )
    assert said["cpu_quota"] == {
        "part": "anomaly", "name": "cpu_quota", "works": False,
        "found": "no cgroups (asked for with quota_pct=30)", "remedy": "log in as root",
    }  # fmt: skip
    assert said["cpu_swap"]["works"]
    assert said["lprism demo"]["works"]
    assert "cpu_swap" in said["lprism demo"]["found"]
    assert "cpu_quota" not in said["lprism demo"]["found"]


@pytest.mark.parametrize(
    "findings",
    [
        [finding("ssh", passed=False, found="lab is dirty", remedy="lprism restore lab")],
        [
            finding("disk", passed=False, found="lab is dirty", remedy="lprism restore lab"),
            finding("cpu_swap"),
        ],
        [
            finding("cpu_swap", passed=False, found="lab is dirty", remedy="lprism restore lab"),
            finding("sham"),
        ],
    ],
    ids=["host", "disk", "no fault but sham"],
)
def test_a_demo_that_could_not_run_is_exit_code_1(
    findings: list[Finding],
    rows: Callable[..., dict[str, doctor.Row]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """What stands in its way is said with its remedy."""
    assert rows(*findings)["lprism demo"]["remedy"] == "lprism restore lab"
    assert lprism(monkeypatch, "doctor", "--home", str(tmp_path)) == 1
    assert "the demo cannot run here: " in capsys.readouterr().err


@pytest.mark.parametrize("room", [True, False])
def test_an_engine_that_is_not_there_stops_the_demo_only_without_room(
    room: bool,  # noqa: FBT001 - a case
    rows: Callable[..., dict[str, doctor.Row]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The demo installs its engines itself."""
    free = 100 * doctor.GIB if room else 1
    monkeypatch.setattr("tasks.doctor.installed", lambda _: None)
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    said = rows(finding("cpu_swap"))
    assert said["lprism demo"]["works"] is room
    assert not said["vllm"]["works"]
    assert said["vllm"]["remedy"].startswith("lprism engines install" if room else "make room")


def test_what_the_doctor_finds_is_what_the_demo_leaves_out() -> None:
    """A fault that the machine refuses is no part of a demo; one that was not asked of it is not either."""
    findings = [
        finding("cpu_quota quota_pct=30", passed=False, found="no cgroups"),
        finding("cpu_swap gb=2"),
        finding("sham"),
    ]
    can = demo.here(findings, anomalies())
    assert can == {"cpu_quota": "no cgroups", "cpu_swap": None, "sham": None}
    assert demo.chosen_faults(can, None) == ["cpu_swap", "sham"]
    assert demo.chosen_faults(can, ["cpu_quota", "cpu_swap", "gpu_swap"]) == ["cpu_swap"]
    assert demo.chosen_faults(can, ["cpu_quota", "sham"]) == []
