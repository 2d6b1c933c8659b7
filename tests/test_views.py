"""The views that people read: rows of the tables in, what is told about a run out."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.lake import write_frame
from tasks.lake_tables import publish
from tasks.traces.bundle import ingest_bundle
from tasks.warehouse import open_published
from tests.warehouse_cases import (
    CAMPAIGN,
    CELL,
    EFFECT,
    FAULT_CELL,
    MARKS,
    MS,
    NORMAL_MARKS,
    OFFSET,
    RUN,
    at,
    batch,
    clock,
    good_bundle,
    good_fault,
    sample,
    write_bundle,
)

OTHER = "r1111111111"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with one run in the lake."""
    ingest_bundle(tmp_path, good_bundle(tmp_path / "bundles" / CAMPAIGN / RUN))
    return tmp_path


def rows_of(home: Path, view: str, *columns: str) -> list[tuple[Any, ...]]:
    """Some columns of a view, from the published file, in the order of the view."""
    publish(home)
    with open_published(home) as con:
        rows: list[tuple[Any, ...]] = con.table(view).select(*columns).fetchall()
    return rows


def diagnosed(home: Path, *columns: str) -> list[tuple[Any, ...]]:
    """Some columns of v_injected_vs_diagnosed."""
    return rows_of(home, "v_injected_vs_diagnosed", *columns)


def score(run_id: str, batch_index: int, start_s: float, *, alarm: bool) -> dict[str, Any]:
    """A row of batch_scores: a batch of 10 ms."""
    start = round(start_s * 1e9) + OFFSET
    return {
        "run_id": run_id,
        "batch_index": batch_index,
        "start_ns": start,
        "actual_ns": 10 * MS,
        "alarm": alarm,
    }


def incident(
    run_id: str,
    index: int,
    excess_ms: float,
    *,
    slo_violated: bool = False,
    start_s: float = 3.5,
    end_s: float = 4.5,
) -> dict[str, Any]:
    """A row of incidents; by default it lies in the fault, which lasts from 3 to 5 s."""
    return {
        "run_id": run_id, "incident_index": index, "excess_ms": excess_ms, "slo_violated": slo_violated,
        "start_ns": round(start_s * 1e9) + OFFSET, "end_ns": round(end_s * 1e9) + OFFSET,
    }  # fmt: skip


def cause(run_id: str, index: int | None, rank: int, name: str) -> dict[str, Any]:
    """A row of rca_diagnosis."""
    return {
        "run_id": run_id, "incident_index": index, "rank": rank, "cause": name, "score": 1 / rank,
        "evidence": f"{name} {index}",
    }  # fmt: skip


def write_gold(home: Path, table: str, rows: list[dict[str, Any]]) -> None:
    """Put rows of a campaign-wide table into the lake."""
    frame = pd.DataFrame(rows)
    if "incident_index" in frame:
        frame = frame.astype({"incident_index": "Int64"})
    write_frame(home, table, CAMPAIGN, "all", frame)


@pytest.mark.parametrize(
    ("alarms", "lag"),
    [
        ([], (None, None)),
        ([4.1], (3, 1110.0)),  # batches at 3.0, 3.5 and 4.1 s began since the onset at 3 s
        ([4.1, 4.2], (3, 1110.0)),
        ([3.0], (1, 10.0)),  # the very first
        ([2.9, 4.2], (4, 1210.0)),  # an alarm before the onset is not of the fault
        ([5.5], (None, None)),  # too late: the fault window ended at 5 s
        ([6.1], (None, None)),
        ([2.9], (None, None)),
    ],
)
def test_the_lag_counts_from_the_onset(alarms: list[float], lag: tuple[Any, ...], tmp_path: Path) -> None:
    """Batches and ms from fault_apply up to the end of the first alarming batch, before the window ends."""
    starts = [1.1, 2.9, 3.0, 3.5, 4.1, 4.2, 5.5, 6.1]
    lines = [clock(0), *(batch(start) for start in starts)]
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", lines, cell=FAULT_CELL, effect=EFFECT, marks=MARKS))
    write_gold(
        tmp_path,
        "batch_scores",
        [score(RUN, index, start, alarm=start in alarms) for index, start in enumerate(starts)],
    )
    assert diagnosed(tmp_path, "lag_batches", "lag_ms") == [lag]


def test_the_slowdown_is_that_of_decode_steps(tmp_path: Path) -> None:
    """Median start-to-start time of decode batches, fault over baseline window; prefills do not count."""
    prefill = [[32, 0, 32, 0]]
    starts = [1.1, 1.2, 1.3, 1.4, 4.1, 4.3, 4.5, 4.7]  # 0.1 s apart, then 0.2 s
    lines = [
        clock(0),
        *(batch(start) for start in starts),
        batch(4.71, requests=prefill),
        batch(4.98, requests=prefill),
    ]
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", lines))
    assert diagnosed(tmp_path, "slowdown") == [(pytest.approx(2.0),)]


def test_the_named_cause_is_that_of_the_largest_incident(home: Path) -> None:
    """Rank 1 of the incident with the most excess time; its score and evidence go with it."""
    write_gold(home, "incidents", [incident(RUN, 0, 5.0, slo_violated=True), incident(RUN, 1, 9.0)])
    write_gold(
        home,
        "rca_diagnosis",
        [cause(RUN, 0, 1, "queueing"), cause(RUN, 1, 2, "cpu_swap"), cause(RUN, 1, 1, "cpu_quota")],
    )
    named = diagnosed(home, "incidents", "named_cause", "score", "evidence", "slo_violated", "verdict")
    assert named == [(2, "cpu_quota", 1.0, "cpu_quota 1", True, "wrong")]


@pytest.mark.parametrize(
    ("injected", "named", "verdict"),
    [
        (False, "none", "right"),
        (False, "cpu_quota", "wrong"),
        (False, None, None),
        (True, "cpu_quota", "right"),
        (True, "none", "wrong"),
        (True, "cpu_swap", "wrong"),
        (True, None, None),
    ],
)
def test_a_verdict_compares_what_was_named_with_what_was_injected(
    *, injected: bool, named: str | None, verdict: str | None, tmp_path: Path
) -> None:
    """A run that nobody diagnosed gets none: silence is no right answer."""
    ingest_bundle(tmp_path, (good_fault if injected else good_bundle)(tmp_path / "b"))
    if named:
        found = named != "none"
        write_gold(tmp_path, "rca_diagnosis", [cause(RUN, 0 if found else None, 1, named)])
        if found:
            write_gold(tmp_path, "incidents", [incident(RUN, 0, 5.0)])
    assert diagnosed(tmp_path, "named_cause", "verdict") == [(named, verdict)]


def test_a_fault_that_was_not_proved_is_no_right_answer(tmp_path: Path) -> None:
    """The right name for an effect that nobody saw counts as wrong; a failed run as failed."""
    ingest_bundle(tmp_path, good_fault(tmp_path / "b1", effect={**EFFECT, "proved": False}))
    ingest_bundle(tmp_path, good_fault(tmp_path / "b2", OTHER, effect=None, run_order=2))
    ingest_bundle(
        tmp_path,
        write_bundle(tmp_path / "b3", run_id="r2222222222", status="failed", reason="x", run_order=3),
    )
    runs = [RUN, OTHER, "r2222222222"]
    write_gold(tmp_path, "incidents", [incident(run, 0, 5.0) for run in runs])
    write_gold(tmp_path, "rca_diagnosis", [cause(run, 0, 1, "cpu_quota") for run in runs])
    assert diagnosed(tmp_path, "verdict") == [("wrong",), ("wrong",), ("failed",)]


@pytest.mark.parametrize(
    ("start_s", "end_s", "verdict"),
    [
        (1.0, 2.9, "wrong"),  # over before the onset
        (2.0, 3.1, "right"),
        (3.5, 4.5, "right"),
        (4.9, 8.0, "right"),
        (5.1, 5.9, "wrong"),  # not before the fault window had ended
        (7.1, 8.0, "wrong"),
    ],
)
def test_the_right_name_at_the_wrong_time_is_wrong(
    start_s: float, end_s: float, verdict: str, tmp_path: Path
) -> None:
    """An incident that does not overlap the fault was not caused by it, whatever it is called."""
    ingest_bundle(tmp_path, good_fault(tmp_path / "b"))
    write_gold(tmp_path, "rca_diagnosis", [cause(RUN, 0, 1, "cpu_quota")])
    write_gold(tmp_path, "incidents", [incident(RUN, 0, 5.0, start_s=start_s, end_s=end_s)])
    assert diagnosed(tmp_path, "verdict") == [(verdict,)]


@pytest.mark.parametrize("injected", [True, False])
def test_batches_beside_the_measuring_of_an_effect_have_no_window(*, injected: bool, tmp_path: Path) -> None:
    """A victim slows the server: from fault_end to recovery_start nothing is scored, if there is one."""
    starts = [4.5, 4.995, 5.0, 6.5, 6.995, 7.0]
    lines = [clock(0), *(batch(start) for start in starts)]
    marks, cell, effect = (MARKS, FAULT_CELL, EFFECT) if injected else (NORMAL_MARKS, CELL, None)
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", lines, marks=marks, cell=cell, effect=effect))
    between = [None] * 3 if injected else ["transition"] * 3
    found = rows_of(tmp_path, "batches", "batch_index", "run_window")
    assert [window for _, window in sorted(found)] == ["fault", "transition", *between, "recovery"]


def test_the_slowest_batch_comes_first(home: Path) -> None:
    """By the time beyond what the workload explains, in ms."""
    rows = [
        {**score(RUN, i, i, alarm=False), "expected_ns": expected * MS}
        for i, expected in enumerate((9, 2, 8))
    ]
    write_gold(home, "batch_scores", rows)
    found = rows_of(home, "v_slowest_batches", "batch_index", "excess_ms", "slowdown", "forward_mode")
    assert found[:2] == [(1, 8.0, 5.0, "decode"), (2, 2.0, 1.25, "decode")]


def test_runs_can_be_read_by_people(home: Path) -> None:
    """Length in seconds, files and rejected lines beside the cell."""
    found = rows_of(home, "v_runs", "run_id", "recorded_s", "files", "rows_quarantined", "status")
    assert found == [(RUN, 9.0, 3, 0, "complete")]


def test_a_campaign_in_one_row(home: Path) -> None:
    """Planned, complete, failed and pending cells, the faults among them, how often the name was right."""
    folder = home / "bundles" / CAMPAIGN
    ingest_bundle(home, good_fault(folder / OTHER, OTHER))
    ingest_bundle(
        home, write_bundle(folder / "r2222222222", run_id="r2222222222", status="failed", reason="x")
    )
    write_gold(home, "incidents", [incident(OTHER, 1, 20.0, slo_violated=True)])
    write_gold(home, "rca_diagnosis", [cause(OTHER, 1, 1, "cpu_quota")])
    write_frame(home, "campaigns", CAMPAIGN, "all", pd.DataFrame([{"campaign": CAMPAIGN, "runs_planned": 5}]))
    told = rows_of(
        home, "v_campaign_summary", "campaign", "hosts", "scenarios", "runs_planned", "runs_complete",
        "runs_failed", "runs_pending", "runs_injected", "runs_not_undone", "runs_right", "runs_wrong",
        "runs_undiagnosed", "runs_slo_violated", "closed", "recorded_s",
    )  # fmt: skip
    assert told == [
        (CAMPAIGN, "lab", "cpu_quota, normal", 5, 2, 1, 2, 1, 0, 1, 0, 1, 1, False, 27.0),
    ]


def timed(*phases: tuple[str, float, float]) -> list[dict[str, Any]]:
    """Phases of a manifest: name, start and length, s."""
    return [
        {"name": name, "start_ns": at(start), "duration_ns": round(seconds * 1e9)}
        for name, start, seconds in phases
    ]


def test_where_a_run_s_time_went_and_what_its_host_waited_for(tmp_path: Path) -> None:
    """A wait is what we connect, stop, fetch and leave between two runs of one visit; serving is none."""
    first = timed(
        ("connect", 0, 0.5), ("check the host", 0.5, 0.25), ("start the server", 0.75, 30), ("load", 31, 9),
        ("warm up", 40, 3), ("measure the effect, before", 43, 1), ("baseline window", 44, 5),
        ("inject", 49, 1),
        ("fault window", 50, 5), ("recovery window", 56, 5), ("stop load and recorders", 61, 0.5),
        ("fetch", 61.5, 0.25), ("compare recovery with baseline", 61.75, 0.25),
    )  # fmt: skip
    second = timed(("load", 62.75, 9), ("fetch", 72, 1))
    elsewhere = timed(("connect", 90, 1), ("load", 91, 9))
    visits = ((RUN, first, "c-1.a"), (OTHER, second, "c-1.a"), ("r2222222222", elsewhere, "c-1.b"))
    counters = [clock(0), sample(1.0, ["sampler_cpu_usage", "Host", None, None, 0.4])]
    for order, (run_id, phases, session) in enumerate(visits):
        changes: dict[str, Any] = {"run_id": run_id, "run_order": order, "phases": phases, "session": session}
        ingest_bundle(tmp_path, write_bundle(tmp_path / run_id, None, counters, **changes))
    columns = (
        "phases", "total_s", "connect_s", "server_start_s", "load_s", "windows_s", "fault_s", "stop_s",
        "fetch_s", "between_s", "waited_s", "sampler_cpu_pct", "capture_stalled_s",
    )  # fmt: skip
    assert rows_of(tmp_path, "v_overhead", *columns) == [
        (13, 62.0, 0.75, 30.0, 9.0, 15.0, 2.0, 0.5, 0.5, None, 1.75, 0.4, None),
        (2, 11.0, None, None, 9.0, None, None, None, 1.0, 0.75, 1.75, 0.4, None),
        (2, 10.0, 1.0, None, 9.0, None, None, None, None, None, 1.0, 0.4, None),
    ]
