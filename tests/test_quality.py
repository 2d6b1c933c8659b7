"""Validation: a bundle that breaks one promise, and the check that says so."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.quality.suites import CHECKS, ROW_COUNT, judge, raise_on_failure, summary, validate
from tasks.settings import LprismError
from tasks.traces.bundle import ingest_bundle
from tasks.warehouse import sql_names
from tests.warehouse_cases import (
    CAMPAIGN,
    EFFECT,
    MARKS,
    NORMAL_MARKS,
    RUN,
    at,
    batch,
    clock,
    good_bundle,
    good_fault,
    row,
    sample,
    seal_file,
    steady,
    write_bundle,
)

OTHER = "r1111111111"
WINDOWS = [batch(1.1), batch(4.1), batch(7.1)]
CLOCKS = [clock(0), clock(at(9))]
SWAPPED = {**NORMAL_MARKS, "recording_stop": 7.95}
CASES: dict[str, list[dict[str, Any]]] = {
    "batches_have_positive_duration": [
        {"batches": [*CLOCKS, *WINDOWS, batch(7.5, 1.0, end_mono_ns=at(7.5))]},
        {"batches": [*CLOCKS, *WINDOWS, batch(7.5, execute_end_mono_ns=at(7.6))]},
    ],
    "batches_of_one_process_do_not_overlap": [
        {"batches": [*CLOCKS, *WINDOWS, batch(7.105, 5.0)]},
        {"batches": [*CLOCKS, clock(at(8), 999), *WINDOWS, batch(7.109_999, 5.0)]},
    ],
    "clocks_agree_to_a_millisecond": [{"batches": [*CLOCKS, clock(at(8), 1_000_001), *WINDOWS]}],
    "complete_runs_have_batches_in_every_window": [
        {"batches": [*CLOCKS, *WINDOWS[1:]]},
        {"batches": [*CLOCKS, WINDOWS[0], batch(3.9, 200), WINDOWS[2]]},
        {"batches": None},
    ],
    "complete_runs_have_counters_at_their_rate": [
        {"counters": [*CLOCKS, *steady()[::2]]},
        {"counters": [*CLOCKS, *steady(), *steady()[::4]]},
        {"counters": [*CLOCKS, *steady(6.0)]},
        {"counters": None},
    ],
    "counters_are_finite": [
        {"counters": [*CLOCKS, *steady(), sample(5.0, ["cpu_usage", "CPU 0", None, None, value])]}
        for value in (float("nan"), float("inf"))
    ],
    "no_line_is_in_quarantine": [{"batches": [*CLOCKS, *WINDOWS, b'{"type":"ba']}],
    "tokens_are_not_negative": [
        {"batches": [*CLOCKS, *WINDOWS, batch(7.5, **{name: -1})]}
        for name in ("admitted", "prefix_hit_tokens")
    ]
    + [{"batches": [*CLOCKS, *WINDOWS, batch(7.5, requests=[[32, 34, -1, 3]])]}],
    "window_marks_are_in_order": [{"marks": SWAPPED}, {"marks": MARKS}],
}
FAULTS: list[dict[str, Any]] = [
    {"effect": None},
    {"effect": {**EFFECT, "proved": False}},
    {"effect": {**EFFECT, "undone": False}},
    {"effect": {**EFFECT, "undone": None}},
]


def broken(home: Path) -> dict[str, int]:
    """The checks that the campaign's runs break, with the number of offending rows."""
    with lake_connection(home, CAMPAIGN) as con:
        found = summary(con).groupby("check")["offending"].sum()
    return {str(name): int(rows) for name, rows in found.items() if rows}


def run_with(folder: Path, change: dict[str, Any]) -> Path:
    """The bundle of a complete run, with one thing about it changed."""
    lines: dict[str, Any] = {"batches": [*CLOCKS, *WINDOWS], "counters": [*CLOCKS, *steady()]}
    return write_bundle(folder, **{**lines, **change})


def test_every_check_has_a_policy_and_a_case() -> None:
    """A file in sql/checks that nobody judges, or that was never seen to fail, is no check."""
    assert sql_names("checks") == sorted(CHECKS)
    elsewhere = {"faults_were_proved_and_undone", "file_rows_add_up", "run_ids_are_unique"}
    assert set(CASES) | elsewhere == set(CHECKS)


def test_good_runs_break_nothing(tmp_path: Path) -> None:
    """A normal run, one with a fault, and one that failed and has nothing."""
    ingest_bundle(tmp_path, good_bundle(tmp_path / "b1"))
    ingest_bundle(tmp_path, good_fault(tmp_path / "b2", OTHER))
    failed: dict[str, Any] = {"status": "failed", "reason": "x", "marks": {"recording_start": 0.0}}
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b3", run_id="r2222222222", **failed))
    assert broken(tmp_path) == {}


@pytest.mark.parametrize(("check", "change"), [(check, one) for check, all_ in CASES.items() for one in all_])
def test_a_check_sees_what_it_forbids(check: str, change: dict[str, Any], tmp_path: Path) -> None:
    """One thing is wrong with the run, and its own check says so, and no other."""
    ingest_bundle(tmp_path, run_with(tmp_path / "b", change))
    assert set(broken(tmp_path)) == {check}


@pytest.mark.parametrize(
    ("mark", "also"),
    [
        ("recovery_end", "complete_runs_have_batches_in_every_window"),
        ("recording_stop", "complete_runs_have_counters_at_their_rate"),
    ],
)
def test_a_complete_run_has_every_mark(mark: str, also: str, tmp_path: Path) -> None:
    """Where one is missing, what it bounds is not there either."""
    marks = {name: s for name, s in NORMAL_MARKS.items() if name != mark}
    ingest_bundle(tmp_path, run_with(tmp_path / "b", {"marks": marks}))
    assert set(broken(tmp_path)) == {"window_marks_are_in_order", also}


def test_what_lies_within_the_clocks_is_no_overlap(tmp_path: Path) -> None:
    """Two batches that touch by less than the clocks may be wrong are not claimed to overlap."""
    touching = [*CLOCKS, clock(at(8), 1001), *WINDOWS, batch(7.109_999, 5.0)]
    ingest_bundle(tmp_path, run_with(tmp_path / "b", {"batches": touching}))
    assert broken(tmp_path) == {}


@pytest.mark.parametrize("change", FAULTS)
def test_a_fault_must_be_proved_and_undone(change: dict[str, Any], tmp_path: Path) -> None:
    """A complete run with a fault that nobody saw, or that may still be there, is not to be learned from."""
    ingest_bundle(tmp_path, good_fault(tmp_path / "b", **change))
    assert broken(tmp_path) == {"faults_were_proved_and_undone": 1}


def test_an_account_that_does_not_add_up_is_seen(tmp_path: Path) -> None:
    """Also later than at ingest: a lost quarantine part is a lost line."""
    ingest_bundle(tmp_path, run_with(tmp_path / "b", {"batches": [*CLOCKS, *WINDOWS, b"torn"]}))
    seal = seal_file(tmp_path)
    load = json.loads(seal.read_text())
    del load["files"]["quarantine"]
    seal.write_text(json.dumps(load))
    assert broken(tmp_path) == {"file_rows_add_up": 1}
    wrong = row(run_id=RUN, name="x.jsonl", rows_in=3, rows_kept=1, rows_quarantined=1)
    write_frame(tmp_path, "files", CAMPAIGN, RUN, wrong)
    assert broken(tmp_path) == {"file_rows_add_up": 2}


def test_a_run_that_is_there_twice_is_seen(tmp_path: Path) -> None:
    """The same run_id in two parts is one offending row."""
    ingest_bundle(tmp_path, good_bundle(tmp_path / "b"))
    seal_file(tmp_path, "copy").write_bytes(seal_file(tmp_path).read_bytes())
    assert broken(tmp_path)["run_ids_are_unique"] == 1


def test_a_campaign_is_validated(tmp_path: Path) -> None:
    """Great Expectations judges each check; a broken one names its runs, and its policy decides."""
    ingest_bundle(tmp_path, good_bundle(tmp_path / "b1"))
    bad: dict[str, Any] = {
        "batches": [*CLOCKS, *WINDOWS, batch(7.5, 1.0, end_mono_ns=at(7.5))],
        "counters": None,
    }
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b2", run_id=OTHER, **bad))
    outcome = validate(tmp_path, CAMPAIGN)
    found = {one.expectation: one for one in outcome.results}
    assert list(found) == [ROW_COUNT, *CHECKS]
    assert {name for name, one in found.items() if not one.success} == {
        "batches_have_positive_duration", "complete_runs_have_counters_at_their_rate",
    }  # fmt: skip
    one = found["batches_have_positive_duration"]
    assert (one.subject, one.observed, one.policy) == (OTHER, "1 of 7 batches in 2 runs", "fail")
    assert found["counters_are_finite"].subject == "all"
    assert found[ROW_COUNT].observed == f"{2 * len(CHECKS)} rows"
    assert not outcome.success
    with pytest.raises(LprismError, match=f"batches_have_positive_duration: 1 of 7 .*{OTHER}") as raised:
        raise_on_failure(outcome)
    assert "counters_at_their_rate" not in str(raised.value)
    with lake_connection(tmp_path, CAMPAIGN) as con:
        kept = con.table("validation_results").select("expectation", "success", "policy").fetchall()
    assert kept == [(one.expectation, one.success, one.policy) for one in outcome.results]


def test_a_warning_stops_nothing(tmp_path: Path) -> None:
    """A check of policy warn is told, and the campaign goes on."""
    ingest_bundle(tmp_path, run_with(tmp_path / "b", {"counters": None}))
    outcome = validate(tmp_path, CAMPAIGN)
    assert not outcome.success
    raise_on_failure(outcome)


def test_a_campaign_without_runs_is_no_success(tmp_path: Path) -> None:
    """Nothing to judge is an error, not a pass."""
    with pytest.raises(LprismError, match="campaign nope has no run in the lake"):
        validate(tmp_path, "nope")


def test_a_frame_that_lacks_rows_is_no_success(tmp_path: Path) -> None:
    """A run or check that fell out of the summary on the way fails the row count."""
    ingest_bundle(tmp_path, good_bundle(tmp_path / "b"))
    with lake_connection(tmp_path, CAMPAIGN) as con:
        frame = summary(con)
    short = frame[frame["check"] != "counters_are_finite"]
    failed = [one.expectation for one in judge(short, CAMPAIGN) if not one.success]
    assert failed == [ROW_COUNT]
    assert isinstance(frame, pd.DataFrame)


def test_a_long_list_of_runs_is_cut(tmp_path: Path) -> None:
    """Ten runs are named, the others counted."""
    ingest_bundle(tmp_path, good_bundle(tmp_path / "b"))
    with lake_connection(tmp_path, CAMPAIGN) as con:
        one = summary(con)
    frame = pd.concat([one.assign(run_id=f"r{n}", offending=1) for n in range(12)])
    subject = judge(frame, CAMPAIGN)[1].subject
    assert subject.endswith("r9, and 2 more")
