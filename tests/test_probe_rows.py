"""The probe's records into the lake: the rows that they become, and what is set aside."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.lake_tables import lake_connection
from tasks.traces.bundle import ingest_bundle
from tests.warehouse_cases import CAMPAIGN, MS, OFFSET, Line, at, batch, clock, write_bundle


def seen(home: Path, table: str, *columns: str) -> list[tuple[Any, ...]]:
    """Some columns of a table, as a reader of the lake sees it."""
    with lake_connection(home, CAMPAIGN) as con:
        rows: list[tuple[Any, ...]] = con.table(table).select(*columns).fetchall()
    return rows


def loaded(home: Path, *lines: Line) -> None:
    """A bundle of these lines, after a clock line."""
    ingest_bundle(home, write_bundle(home / "b", [clock(0), *lines]))


def sglang(start_s: float, ms: float, process_s: float, **changes: object) -> dict[str, Any]:
    """A batch of SGLang's, whose results are processed from then on."""
    return batch(
        start_s, ms, source="sglang_probe", mode="DECODE", process_start_mono_ns=at(process_s), **changes
    )


def call(start_s: float, **changes: object) -> dict[str, Any]:
    """A call of the user's point."""
    return {
        "type": "call", "point": "shop:Till.sell", "pid": 7, "tid": 8, "start_mono_ns": at(start_s),
        "duration_ns": 5 * MS, "raised": None, "attributes": {"args.0.rate": 3}, **changes,
    }  # fmt: skip


def test_a_step_of_sglang_ends_with_its_results_or_at_the_next_start(tmp_path: Path) -> None:
    """Normal loop: the first. Overlap loop: the second and third, each processed while the next one runs."""
    loaded(
        tmp_path,
        sglang(1.0, 10, 1.008),
        sglang(1.1, 40, 1.135),
        sglang(1.12, 40, 1.155),
        sglang(1.14, 30, 1.165),
    )
    rows = seen(tmp_path, "batches", "duration_ns", "interval_ns", "execute_ns", "source")
    assert rows == [
        (10 * MS, 100 * MS, 9 * MS, "sglang_probe"),
        (20 * MS, 20 * MS, 39 * MS, "sglang_probe"),
        (20 * MS, 20 * MS, 39 * MS, "sglang_probe"),
        (30 * MS, None, 29 * MS, "sglang_probe"),
    ]
    (extra, *_) = (json.loads(text) for (text,) in seen(tmp_path, "batches", "extra"))
    assert extra == {"process_ns": 2 * MS, "mode": "DECODE"}


def test_a_step_of_vllm_has_what_its_scheduler_saw(tmp_path: Path) -> None:
    """The queue in columns, its own times besides; its duration is the forward pass and sampling alone."""
    told = {
        "waiting": 5,
        "running": 4,
        "schedule_start_mono_ns": at(0.998),
        "schedule_ns": MS,
        "update_ns": 7,
    }
    loaded(tmp_path, batch(1.0, **told), batch(1.005, preempted=None))
    assert seen(tmp_path, "batches", "waiting", "running", "preempted", "duration_ns") == [
        (5, 4, 0, 10 * MS),
        (None, None, None, 10 * MS),
    ]
    (extra,), (nothing,) = seen(tmp_path, "batches", "extra")
    assert json.loads(extra) == {"schedule_ns": MS, "scheduled_before_ns": 2 * MS, "update_ns": 7}
    assert nothing is None


def test_a_preempted_request_that_is_computed_again_prefills(tmp_path: Path) -> None:
    """With more in the cache than its prompt was, but less than it had."""
    loaded(tmp_path, batch(1.0, requests=[[32, 40, 9, 17]]), batch(1.1, requests=[[32, 48, 1, 17]]))
    assert seen(tmp_path, "batches", "forward_mode") == [("prefill",), ("decode",)]


def test_calls_of_the_users_points_are_events(tmp_path: Path) -> None:
    """With the time on the host's epoch, the attributes, and what was raised; a missing point is no row."""
    missing = {"type": "missing_point", "point": "a:f", "reason": "no module a"}
    loaded(tmp_path, call(1.0), missing, call(2.0, raised="ValueError", attributes={}))
    columns = ("event_index", "phase", "category", "name", "pid", "tid", "start_ns", "duration_ns")
    assert seen(tmp_path, "events", *columns) == [
        (1, "X", "probe", "shop:Till.sell", 7, 8, at(1.0) + OFFSET, 5 * MS),
        (3, "X", "probe", "shop:Till.sell", 7, 8, at(2.0) + OFFSET, 5 * MS),
    ]
    assert [tuple(map(str, row)) for row in seen(tmp_path, "events", "args", "extra")] == [
        ('{"args.0.rate":3}', "None"),
        ("{}", '{"raised":"ValueError"}'),
    ]
    (file,) = [row for row in seen(tmp_path, "files", "name", "rows_in", "rows_kept") if row[1]]
    assert file == ("batches-7.jsonl", 4, 4)


@pytest.mark.parametrize(
    "line",
    [
        batch(1.0, waiting=1.5),
        batch(1.0, running="4"),
        batch(1.0, preempted=1 << 70),
        batch(1.0, schedule_ns=-1),
        batch(1.0, mode=3),
        call(1.0, tid=None),
        call(1.0, duration_ns=1.5),
        call(-1.0),
        call(1.0, attributes=[]),
        call(1.0, point=5),
        call(1.0, raised=5),
        {"type": "missing_point", "point": "a:f"},
    ],
)
def test_a_line_that_is_not_as_the_probe_writes_it_is_set_aside(line: Line, tmp_path: Path) -> None:
    """It and no other."""
    loaded(tmp_path, line, batch(2.0))
    assert len(seen(tmp_path, "batches", "run_id")) == 1
    assert seen(tmp_path, "quarantine", "line_number") == [(2,)]
