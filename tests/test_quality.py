"""Validation: a run that breaks one promise, and the check that says so."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from tasks.cli import main
from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.quality.checks import CHECKS, of_suite
from tasks.quality.report import markdown, table
from tasks.quality.suites import ROW_COUNT, judge, raise_on_failure, validate
from tasks.quality.summary import Summary, summarize
from tasks.sentinel.features import batch_features
from tasks.settings import LprismError
from tasks.traces.bundle import ingest_bundle
from tasks.warehouse import (
    columns_of,
    create_table,
    execute,
    insert_by_name,
    memory_connection,
    open_published,
    sql_names,
)
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
    jsonl,
    row,
    sample,
    seal_file,
    steady,
    write_bundle,
)

OTHER = "r1111111111"
WINDOWS = [batch(1.1), batch(4.1), batch(7.1)]
CLOCKS = [clock(0), clock(at(9))]
GAP = {"type": "gap", "reason": "HTTP 404", "mono_ns": at(5), "took_ns": 5}
LOSS = {"type": "lost", "mono_ns": at(5), "last_mono_ns": at(4), "cpu": 0, "events": 9}
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
    "clocks_were_not_set": [{"batches": [*CLOCKS, clock(at(8), 100_000_000), *WINDOWS]}],
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
    "engine_metrics_are_told_most_of_the_time": [{"files": {"metrics.jsonl": jsonl([*CLOCKS, GAP])}}],
    "no_line_is_in_quarantine": [{"batches": [*CLOCKS, *WINDOWS, b'{"type":"ba']}],
    "scheduler_slices_are_whole": [{"files": {"slices.jsonl": jsonl([*CLOCKS, LOSS])}}],
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


FOREIGN = "r2222222222"
# A recording of others that breaks nothing: two rows of every table that one can fill.
RECORDING: dict[str, list[dict[str, Any]]] = {
    "runs": [{"run_name": "c-1/x", "campaign": CAMPAIGN, "status": "complete", "anomaly": "cpu_quota"}],
    "files": [
        {"name": "y.csv", "format": "published_usage", "rows_in": 2, "rows_kept": 2, "rows_quarantined": 0},
        {"name": "x.json", "format": "chrome_trace", "rows_in": 5, "rows_kept": 5, "rows_quarantined": 0},
    ],
    "events": [
        {"file_name": "x.json", "event_index": 0, "phase": "M"},
        {"file_name": "x.json", "event_index": 1, "phase": "X", "duration_ns": 0, "correlation": 7},
        {
            "file_name": "x.json", "event_index": 2, "phase": "X", "duration_ns": 5, "correlation": 7,
            "launch_index": 1,
        },
    ],
    "counters": [
        {"counter_name": name, "start_ns": start, "sample_index": index, "value": 1.0}
        for name, start, index in (("gpu.used", 3, 3), ("gpu.free", 3, 3), ("gpu.used", 4, 4))
    ],
    "batches": [
        {"batch_index": index, "duration_ns": 5, "interval_ns": 6, "batch_size": 1} for index in range(2)
    ],
    "requests": [
        {
            "client_run_index": 0, "request_index": index, "ttft_ms": 5.0, "e2e_ms": 5.0, "itl_count": 0,
            "itl_avg_ms": 2.0, "itl_max_ms": 2.0, "input_tokens": 1, "output_tokens": 0,
        } for index in range(2)
    ],
    "function_usage": [
        {
            "cycle_index": 1, "pid": 7, "function_name": name, "metric_name": "gpu_usage", "device": "GPU 0",
            "cycle_start_ns": 10, "anchor_duration_ns": 3000, "duration_ns": 4000, "beta_pct": 133.3333,
            "mu_pct": 50.0, "sigma_pct": 0.0, "instances": 1,
        } for name in "fg"
    ],
    "published_comparison": [
        {
            "comparison_rank": 1, "suspicion_score": 10.0, "beta_difference_pct": -2.0, "beta_z_score": 1.0,
            "log_mu_z_score": -4.0, "beta_welch_p": 1.0, "beta_u_test_p": 0.0, "mu_welch_p": None,
        }
    ],
    "published_curves": [{"training_rows": 10, "mape_ratio": 1.5, "coverage_ratio": 1.0}],
    "devices": [{"component_index": 0}, {"component_index": 1}],
}  # fmt: skip
INFINITE = float("inf")
FOREIGN_CASES = [
    ("batches_are_numbered_once", "batches", {"batch_index": 0}),
    ("counters_are_finite", "counters", {"value": INFINITE}),
    ("counters_are_finite", "counters", {"duration_ns": -1}),
    ("devices_are_numbered_once", "devices", {"component_index": 0}),
    ("event_durations_are_not_negative", "events", {"phase": "b", "duration_ns": -1}),
    ("event_durations_are_not_negative", "events", {"duration_ns": None}),
    ("event_launches_are_there", "events", {"launch_index": 0}),
    ("event_launches_are_there", "events", {"launch_index": 3}),
    ("event_launches_are_there", "events", {"correlation": 8}),
    ("event_launches_are_there", "events", {"file_name": "z.json"}),
    ("events_are_as_many_as_were_kept", "counters", {"sample_index": 3}),
    ("events_are_as_many_as_were_kept", "files", {"rows_in": 6, "rows_kept": 6}),
    ("file_rows_add_up", "files", {"rows_in": 6}),
    ("no_line_is_in_quarantine", "quarantine", {"file_name": "z.json", "line_number": 1}),
    ("published_curves_are_within_bounds", "published_curves", {"mape_ratio": -0.1}),
    ("published_curves_are_within_bounds", "published_curves", {"coverage_ratio": 1.1}),
    ("published_curves_are_within_bounds", "published_curves", {"training_rows": -1}),
    ("published_scores_agree_with_their_parts", "published_comparison", {"suspicion_score": 10.1}),
    ("published_scores_agree_with_their_parts", "published_comparison", {"mu_welch_p": 1.01}),
    ("published_scores_agree_with_their_parts", "published_comparison", {"beta_u_test_p": -0.01}),
    ("request_times_are_in_order", "requests", {"ttft_ms": 5.1}),
    ("request_times_are_in_order", "requests", {"itl_avg_ms": 2.1}),
    ("request_times_are_in_order", "requests", {"queue_ms": -0.1}),
    ("request_times_are_in_order", "requests", {"e2e_ms": INFINITE}),
    ("request_tokens_are_not_negative", "requests", {"output_tokens": -1}),
    ("requests_are_numbered_once", "requests", {"request_index": 0}),
    ("usage_counters_are_finite", "function_usage", {"mu_pct": INFINITE}),
    ("usage_counters_are_finite", "function_usage", {"sigma_pct": -1.0}),
    ("usage_counters_are_finite", "function_usage", {"instances": 0}),
    ("usage_cycles_have_one_start", "function_usage", {"cycle_start_ns": 11}),
    ("usage_cycles_have_one_start", "function_usage", {"cycle_index": 0}),
    ("usage_cycles_have_one_start", "function_usage", {"anchor_duration_ns": 2999, "beta_pct": 133.3778}),
    ("usage_shares_agree_with_their_times", "function_usage", {"beta_pct": 133.3323}),
    ("usage_shares_agree_with_their_times", "function_usage", {"duration_ns": -4000, "beta_pct": -133.3333}),
    ("usage_shares_agree_with_their_times", "function_usage", {"duration_ns": None}),
]


def frames(changes: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, pd.DataFrame]]:
    """RECORDING by table, some tables changed; integers stay what they are beside NULL."""
    for name, rows in {**RECORDING, **changes}.items():
        columns = columns_of(name)
        frame = pd.DataFrame([{"run_id": FOREIGN, **one} for one in rows])
        yield name, frame.astype({column: "Int64" for column in frame if columns[str(column)] == "BIGINT"})


def recorded(home: Path, **changes: list[dict[str, Any]]) -> None:
    """Put RECORDING into the lake, with some tables changed."""
    for name, frame in frames(changes):
        write_frame(home, name, CAMPAIGN, FOREIGN, frame)


@contextmanager
def tables(**changes: list[dict[str, Any]]) -> Iterator[duckdb.DuckDBPyConnection]:
    """RECORDING in tables that are in no lake, some of them changed."""
    with memory_connection() as con:
        for name in sql_names("tables"):
            create_table(con, name)
        for name, frame in frames(changes):
            insert_by_name(con.from_df(frame), name)
        yield con


def broken_by(**changes: list[dict[str, Any]]) -> dict[str, int]:
    """The checks that RECORDING breaks with some tables changed."""
    with tables(**changes) as con:
        return broken_in(summarize(con))


def summarized(home: Path, campaign: str = CAMPAIGN) -> Summary:
    """What the checks find."""
    with lake_connection(home, campaign) as con:
        return summarize(con)


def broken(home: Path) -> dict[str, int]:
    """The checks that the campaign's runs break, with the number of offending rows."""
    return broken_in(summarized(home))


def broken_in(found: Summary) -> dict[str, int]:
    """The same of a summary."""
    offending = found.frame.groupby("expectation")["offending"].sum()
    return {str(name): int(rows) for name, rows in offending.items() if rows}


def run_with(folder: Path, change: dict[str, Any]) -> Path:
    """The bundle of a complete run, with one thing about it changed."""
    lines: dict[str, Any] = {"batches": [*CLOCKS, *WINDOWS], "counters": [*CLOCKS, *steady()]}
    return write_bundle(folder, **{**lines, **change})


def test_every_check_has_a_policy_and_a_case() -> None:
    """A file in sql/checks that nobody judges, or that was never seen to fail, is no check."""
    assert sql_names("checks") == sorted(CHECKS)
    elsewhere = {"faults_were_proved_and_undone", "file_rows_add_up", "run_ids_are_unique"}
    assert set(CASES) | elsewhere | {check for check, _, _ in FOREIGN_CASES} == set(CHECKS)
    assert all(check.campaign or check.recording for check in CHECKS.values())
    assert {check.judges for check in CHECKS.values()} <= set(sql_names("tables"))


def test_only_batches_are_left_out(tmp_path: Path) -> None:
    """Policy quarantine needs a check that names batches."""
    quarantine = [name for name, check in CHECKS.items() if "quarantine" in {check.campaign, check.recording}]
    assert {CHECKS[name].judges for name in quarantine} == {"batches"}
    with lake_connection(tmp_path, CAMPAIGN) as con:
        for name in quarantine:
            columns = [column for column, *_ in execute(con, f"checks/{name}").description or ()]
            assert columns[:2] == ["run_id", "batch_index"]


def test_every_table_of_runs_is_counted(tmp_path: Path) -> None:
    """v_run_rows knows each table that has a run_id, also one that was added yesterday."""
    recorded(tmp_path)
    with lake_connection(tmp_path, CAMPAIGN) as con:
        execute(con, "views/v_run_rows")
        found = dict(
            con.table("v_run_rows")
            .filter(f"run_id = '{FOREIGN}'")
            .select("table_name", "row_count")
            .fetchall()
        )
    of_runs = {name for name in sql_names("tables") if "run_id" in columns_of(name)}
    assert set(found) == of_runs
    assert {name: rows for name, rows in found.items() if rows} == {
        name: len(rows) for name, rows in RECORDING.items()
    }


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


def test_a_good_recording_of_others_breaks_nothing() -> None:
    """It has no windows, no marks and no proof of a fault, and is not asked for them."""
    with tables() as con:
        assert [name for name in CHECKS if execute(con, f"checks/{name}").fetchall()] == []
        found = summarize(con)
    assert found.runs == {"recording": 1}
    assert set(found.frame["expectation"]) == set(of_suite("recording"))
    assert broken_in(found) == {}


@pytest.mark.parametrize(("check", "name", "change"), FOREIGN_CASES)
def test_a_check_sees_what_it_forbids_in_a_recording_of_others(
    check: str, name: str, change: dict[str, Any]
) -> None:
    """One row of one table is wrong, and its own check says so, and no other."""
    *others, last = RECORDING.get(name, [{}])
    assert broken_by(**{name: [*others, {**last, **change}]}) == {check: 1}


@pytest.mark.parametrize(("kept", "offending"), [(4, 1), (5, 0), (6, 0), (7, 1)])
def test_samples_of_several_files_are_bounded(kept: int, offending: int) -> None:
    """Two files may both have a sample 3: three events, and two or three samples in three rows."""
    files = [
        {"name": name, "format": "csv_pair", "rows_in": rows, "rows_kept": rows, "rows_quarantined": 0}
        for name, rows in (("micro_event.csv", kept - 1), ("macro_counter.csv", 1))
    ]
    assert broken_by(files=files).get("events_are_as_many_as_were_kept", 0) == offending


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
    bad: dict[str, Any] = {"batches": [*CLOCKS, *WINDOWS[1:]], "counters": None}
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b2", run_id=OTHER, **bad))
    outcome = validate(tmp_path, CAMPAIGN)
    found = {one.expectation: one for one in outcome.results}
    assert list(found) == [ROW_COUNT, *of_suite("campaign")]
    assert {name for name, one in found.items() if not one.success} == {
        "complete_runs_have_batches_in_every_window", "complete_runs_have_counters_at_their_rate",
    }  # fmt: skip
    one = found["complete_runs_have_batches_in_every_window"]
    assert (one.suite, one.subject, one.policy) == ("campaign", OTHER, "fail")
    assert (one.observed, one.offending, one.total) == ("1 of 2 runs in 2 runs", 1, 2)
    assert json.loads(one.sample or "") == [{"run_id": OTHER, "run_window": "baseline"}]
    assert (found["counters_are_finite"].subject, found["counters_are_finite"].sample) == ("all", None)
    assert found["request_times_are_in_order"].observed == "no requests in 2 runs"
    assert found[ROW_COUNT].observed == f"{2 * len(of_suite('campaign'))} rows"
    assert not outcome.success
    with pytest.raises(LprismError, match=f"batches_in_every_window: 1 of 2 .*{OTHER}") as raised:
        raise_on_failure(outcome)
    assert "counters_at_their_rate" not in str(raised.value)
    with lake_connection(tmp_path, CAMPAIGN) as con:
        kept = con.table("validation_results").select("expectation", "success", "policy", "sample").fetchall()
    assert kept == [(one.expectation, one.success, one.policy, one.sample) for one in outcome.results]


def test_a_recording_of_others_is_judged_by_its_own_policies(tmp_path: Path) -> None:
    """The same sentence can be a condition for our own recorders and a remark about those of others."""
    counters = [
        {"counter_name": "c" * 999, "start_ns": 1, "sample_index": n, "value": INFINITE} for n in (3, 4)
    ]
    recorded(tmp_path, counters=counters)
    ingest_bundle(tmp_path, good_bundle(tmp_path / "b"))
    found = {(one.suite, one.expectation): one for one in validate(tmp_path, CAMPAIGN).results}
    assert len(found) == 1 + len(of_suite("campaign")) + len(of_suite("recording"))
    assert found["campaign", "counters_are_finite"].success
    one = found["recording", "counters_are_finite"]
    assert (one.success, one.policy, one.subject) == (False, "warn", FOREIGN)
    assert one.observed.startswith("2 of 2 counters in 1 run")
    sample = json.loads(one.sample or "")
    assert [(row["run_id"], row["value"], len(row["counter_name"])) for row in sample] == [
        (FOREIGN, "inf", 200)
    ] * 2


def test_offending_batches_are_left_out(tmp_path: Path) -> None:
    """Policy quarantine: features lack those batches, which stay neighbours, and the pipeline goes on."""
    lines = [
        *CLOCKS,
        *WINDOWS,
        batch(7.5, requests=[[32, 34, -1, 3]]),
        batch(7.6),
        batch(7.7, 200),
        batch(7.8),
    ]
    ingest_bundle(tmp_path, run_with(tmp_path / "b", {"batches": lines}))
    with lake_connection(tmp_path) as con:
        assert len(batch_features(con, CAMPAIGN)) == 7
    outcome = validate(tmp_path, CAMPAIGN)
    raise_on_failure(outcome)
    found = {one.expectation: one for one in outcome.results if not one.success}
    assert {name: (one.policy, one.offending) for name, one in found.items()} == {
        "batches_of_one_process_do_not_overlap": ("quarantine", 1),
        "tokens_are_not_negative": ("quarantine", 1),
    }  # fmt: skip
    overlap = found["batches_of_one_process_do_not_overlap"]
    assert (overlap.min_value, overlap.max_value) == (100e6, 100e6)
    assert overlap.observed == "1 of 7 batches in 1 run, overlap_ns 1e+08 to 1e+08"
    with lake_connection(tmp_path) as con:
        kept = batch_features(con, CAMPAIGN)
        rows = con.table("excluded_batches").order("batch_index").fetchall()
    assert rows == [(RUN, 3, "tokens_are_not_negative"), (RUN, 5, "batches_of_one_process_do_not_overlap")]
    assert list(kept["batch_index"]) == [0, 1, 2, 4, 6]
    assert list(kept["previous_new_input_tokens"])[1:] == [1, 1, -1, 1]


def test_what_is_mended_is_learned_from_again(tmp_path: Path) -> None:
    """A validation takes the place of the one before it."""
    bad = {"batches": [*CLOCKS, *WINDOWS, batch(7.5, admitted=-1)]}
    ingest_bundle(tmp_path, run_with(tmp_path / "b", bad))
    validate(tmp_path, CAMPAIGN)
    ingest_bundle(tmp_path, run_with(tmp_path / "b", {}))
    assert validate(tmp_path, CAMPAIGN).success
    with lake_connection(tmp_path) as con:
        assert len(con.table("excluded_batches")) == 0


def test_batches_of_others_that_overlap_are_not_left_out() -> None:
    """Where the policy of the suite is warn, nothing is taken away."""
    overlapping = [{**one, "duration_ns": 7} for one in RECORDING["batches"]]
    with tables(batches=overlapping) as con:
        found = summarize(con)
    assert broken_in(found) == {"batches_of_one_process_do_not_overlap": 2}
    assert len(found.excluded) == 0


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


def failed_of(found: Summary) -> list[str]:
    """The expectations that Great Expectations finds broken."""
    return [one.expectation for one in judge(found, CAMPAIGN) if not one.success]


def test_a_frame_that_lacks_rows_is_no_success(tmp_path: Path) -> None:
    """A run or check that fell out of the summary on the way fails the row count; so does all of it."""
    ingest_bundle(tmp_path, good_bundle(tmp_path / "b"))
    found = summarized(tmp_path)
    assert failed_of(found) == []
    short = found.frame[found.frame["expectation"] != "counters_are_finite"].reset_index(drop=True)
    assert failed_of(replace(found, frame=short)) == [ROW_COUNT]
    assert failed_of(replace(found, frame=found.frame.head(0))) == [ROW_COUNT]
    assert failed_of(replace(found, frame=found.frame.head(0), runs={})) == [ROW_COUNT]


def test_rows_of_a_run_that_is_not_there_are_seen(tmp_path: Path) -> None:
    """What breaks a check and belongs to no run makes the frame too long."""
    ingest_bundle(tmp_path, good_bundle(tmp_path / "b"))
    write_frame(tmp_path, "quarantine", CAMPAIGN, "x", row(run_id="r9", file_name="f", line_number=1))
    assert failed_of(summarized(tmp_path)) == [ROW_COUNT]


def test_a_long_list_of_runs_is_cut() -> None:
    """Ten runs are named, the others counted; at most three rows a run leave DuckDB, and three are shown."""
    runs = [{**RECORDING["runs"][0], "run_id": f"r{number:010}"} for number in range(12)]
    first = [{"run_id": "r0000000000", "file_name": "z", "line_number": line} for line in (9, 8)]
    others = [
        {**first[0], "run_id": run["run_id"], "line_number": n} for run in runs[1:] for n in (9, 8, 7, 6)
    ]
    with tables(runs=runs, quarantine=first + others) as con:
        found = summarize(con)
    assert [len(json.loads(text)) for text in found.frame["sample"].dropna()] == [2] + [3] * 11
    (one,) = (one for one in judge(found, CAMPAIGN) if not one.success)
    assert one.subject.endswith("r0000000009, and 2 more")
    assert [(entry["run_id"], entry["line_number"]) for entry in json.loads(one.sample or "")] == [
        ("r0000000000", 8), ("r0000000000", 9), ("r0000000001", 6),
    ]  # fmt: skip


def test_the_table_begins_with_what_is_broken(tmp_path: Path) -> None:
    """Failed first, then left out, then warned of; what cannot be taken for Markdown stays text."""
    lines = [*CLOCKS, *WINDOWS[1:], batch(7.5, admitted=-1)]
    ingest_bundle(tmp_path, run_with(tmp_path / "b", {"batches": lines, "counters": None}))
    outcome = validate(tmp_path, CAMPAIGN)
    assert table(outcome)[:4] == [
        ("complete_runs_have_batches_in_every_window", "fail", f"1 of 1 runs in 1 run ({RUN})", "FAILED"),
        ("tokens_are_not_negative", "quarantine", f"1 of 3 batches in 1 run ({RUN})", "left out"),
        (
            "complete_runs_have_counters_at_their_rate", "warn",
            f"1 of 1 runs in 1 run, samples_per_s 0 to 0 ({RUN})", "warning",
        ),
        (ROW_COUNT, "fail", f"{len(of_suite('campaign'))} rows", "holds"),
    ]  # fmt: skip
    assert ("event_launches_are_there", "fail", "no events in 1 run", "nothing to judge") in table(outcome)
    lines_of_it = markdown(outcome).splitlines()
    assert lines_of_it[0] == f"Campaign `{CAMPAIGN}`: 1 of its checks failed."
    assert lines_of_it[2:4] == ["| check | policy | observed | verdict |", "| --- | --- | --- | --- |"]
    odd = replace(outcome.results[0], observed="<b>|", success=False, suite="summary")
    assert "| &lt;b>\\| (all) |" in markdown(replace(outcome, results=(odd,)))


def lprism(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["lprism", *words])
    with pytest.raises(SystemExit) as end:
        main.run()
    return int(end.value.code or 0)


def test_the_command_validates_recordings_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 when a check of policy fail is broken, the table is printed and can be asked for."""
    words = ("validate", "--campaign", CAMPAIGN, "--home", str(tmp_path))
    recorded(tmp_path)
    assert lprism(monkeypatch, *words) == 0
    assert f"{CAMPAIGN}: every check that must hold does" in capsys.readouterr().out
    recorded(tmp_path, events=RECORDING["events"][:1])
    assert lprism(monkeypatch, *words) == 1
    said = capsys.readouterr()
    assert "events_are_as_many_as_were_kept" in said.out
    assert "must not be learned from: events_are_as_many_as_were_kept: 1 of 1 events in 1 run" in said.err
    assert lprism(monkeypatch, *words, "--json") == 1
    assert {one["suite"] for one in json.loads(capsys.readouterr().out)["results"]} == {
        "summary",
        "recording",
    }
    with open_published(tmp_path) as con:
        failed = (
            con.table("validation_results").filter("NOT success").select("expectation", "policy").fetchall()
        )
    assert failed == [("events_are_as_many_as_were_kept", "fail")]
