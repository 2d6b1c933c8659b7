"""Clocks: one for a run, whoever sets the host's while it goes on; and the host's held against ours."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tasks import clock_offset
from tasks.host import clock as host_clock
from tasks.quality.suites import validate
from tasks.remote import Address, supervise
from tasks.traces.bundle import ingest_bundle
from tests.test_bundle_ingest import seen
from tests.test_capture import NAME, taken, trace
from tests.warehouse_cases import (
    CAMPAIGN,
    MARKS,
    MS,
    NORMAL_MARKS,
    OFFSET,
    at,
    batch,
    clock,
    sample,
    steady,
    write_bundle,
)

HOUR = 3_600_000_000_000
STEPS = [HOUR, -HOUR, 150 * MS, -37_000_000_000]


def stepped(folder: Path, step_ns: int, when_s: float, **changes: Any) -> Path:  # noqa: ANN401 - keys of a manifest
    """A run of 9 s during which the host's clock is set by so much: every later pair and mark shows it."""

    def read(second: float) -> dict[str, Any]:
        return clock(at(second), step_ns if second > when_s else 0)

    batches = [read(0.01), read(5.01), batch(1.1), batch(4.1), batch(7.1), read(9.0)]
    counters = [read(0.02), read(5.02), *steady(), read(9.0)]
    path = write_bundle(folder, batches, counters, **changes)
    manifest = json.loads((path / "manifest.json").read_text())
    for mark in manifest["marks"]:
        mark["epoch_ns"] += step_ns if mark["monotonic_ns"] > at(when_s) else 0
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


@pytest.mark.parametrize("step_ns", STEPS)
@pytest.mark.parametrize("when_s", [3.5, 8.5, 0.5])
def test_a_clock_that_is_set_moves_nothing(step_ns: int, when_s: float, tmp_path: Path) -> None:
    """Batches, counters, marks and windows are those of the clock at the start, whichever way it was set."""
    ingest_bundle(tmp_path, stepped(tmp_path / "b", step_ns, when_s))
    assert seen(tmp_path, "batches", "start_ns", "run_window") == [
        (at(s) + OFFSET, window) for s, window in ((1.1, "baseline"), (4.1, "fault"), (7.1, "recovery"))
    ]
    assert seen(tmp_path, "runs", *(f"{name}_ns" for name in NORMAL_MARKS)) == [
        tuple(at(s) + OFFSET for s in NORMAL_MARKS.values())
    ]
    starts = [start for (start,) in seen(tmp_path, "counters", "start_ns")]
    assert (min(starts), max(starts)) == (OFFSET, at(8.9) + OFFSET)


def test_a_clock_that_is_set_is_named(tmp_path: Path) -> None:
    """By how much is told; it is no uncertainty, and the check that names it does not fail the run."""
    ingest_bundle(tmp_path, stepped(tmp_path / "b", HOUR, 3.5))
    assert seen(tmp_path, "runs", "clock_step_ns", "clock_uncertainty_ns") == [(HOUR, 0)]
    results = {result.expectation: result for result in validate(tmp_path, CAMPAIGN).results}
    assert not results["clocks_were_not_set"].success
    assert results["clocks_agree_to_a_millisecond"].success


def test_a_clock_that_only_the_marks_saw_set_is_named_too(tmp_path: Path) -> None:
    """Set after the recorders' last pair: the last mark tells."""
    ingest_bundle(tmp_path, stepped(tmp_path / "b", HOUR, 8.9999))
    path = tmp_path / "c"
    batches = [clock(0), batch(1.1)]
    write_bundle(path, batches, run_id="r00000000aa")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["marks"][-1]["epoch_ns"] -= HOUR
    (path / "manifest.json").write_text(json.dumps(manifest))
    ingest_bundle(tmp_path, path)
    assert sorted(seen(tmp_path, "runs", "clock_step_ns")) == [(-HOUR,), (HOUR,)]


def test_a_recorder_that_began_after_the_clock_was_set_is_put_right(tmp_path: Path) -> None:
    """All its pairs are off: the run's reference is what it goes by."""
    batches, counters = [clock(at(5), HOUR), batch(7.1)], [clock(0), sample(1.0), clock(at(9), HOUR)]
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", batches, counters))
    assert seen(tmp_path, "batches", "start_ns") == [(at(7.1) + OFFSET,)]


def test_a_clock_that_is_read_badly_was_not_set(tmp_path: Path) -> None:
    """Less than 100 ms is what the run may be wrong by, as before."""
    batches = [clock(0), clock(at(5), 99 * MS), batch(7.1), clock(at(9))]
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", batches))
    assert seen(tmp_path, "runs", "clock_step_ns", "clock_uncertainty_ns") == [(None, 99 * MS)]


def test_a_trace_taken_after_the_clock_was_set_lies_where_it_should(tmp_path: Path) -> None:
    """Its events count from 1970 by the clock as it was set; the run's times count on from before."""
    capture = taken(7.0, 7.3, offset_ns=OFFSET + HOUR)
    for name in ("start_ns", "ready_ns", "stop_ns", "end_ns"):
        capture[name] += HOUR
    path = stepped(
        tmp_path / "b", HOUR, 3.5, files={NAME: trace(7.1, moved_ns=HOUR)}, captures=[capture]
    )  # fmt: skip
    ingest_bundle(tmp_path, path)
    assert set(seen(tmp_path, "events", "start_ns")) == {(at(7.1) + OFFSET,)}
    assert seen(tmp_path, "captures", "start_ns", "stalled_ns") == [(at(7.0) + OFFSET, at(7.3 - 7.101))]


def test_a_run_without_marks_goes_by_its_files(tmp_path: Path) -> None:
    """It broke before it was recorded: nothing is corrected, and nothing is claimed."""
    path = write_bundle(tmp_path / "b", [clock(0), batch(1.1)], marks={}, status="failed", reason="x")
    ingest_bundle(tmp_path, path)
    assert seen(tmp_path, "batches", "start_ns") == [(at(1.1) + OFFSET,)]
    assert seen(tmp_path, "runs", "clock_step_ns", "clock_offset_ns") == [(None, None)]


def test_marks_in_order_are_those_of_a_fault_too(tmp_path: Path) -> None:
    """A clock set back by an hour puts no mark before an earlier one."""
    path = stepped(tmp_path / "b", -HOUR, 4.5, marks=MARKS)
    ingest_bundle(tmp_path, path)
    (marks,) = seen(tmp_path, "runs", *(f"{name}_ns" for name in MARKS))
    assert marks == tuple(at(s) + OFFSET for s in MARKS.values())


def test_a_pair_is_two_clocks_at_one_moment() -> None:
    """The monotonic reading lies between two of the same clock; both are whole ns."""
    before = time.monotonic_ns()
    pair = host_clock.pair()
    assert before <= pair["monotonic_ns"] <= time.monotonic_ns()
    assert abs(time.time_ns() - time.monotonic_ns() - pair["realtime_ns"] + pair["monotonic_ns"]) < 50 * MS


class Link:
    """A supervisor whose clock is ahead, behind a link that takes its time."""

    def __init__(self, ahead_ns: int, delays_s: list[float]) -> None:
        self.ahead_ns, self.delays_s = ahead_ns, delays_s

    def ask(self, do: str) -> dict[str, int]:
        """Answer half-way through the delay."""
        assert do == "mark"
        delay_s = self.delays_s.pop(0)
        time.sleep(delay_s / 2)
        epoch_ns = time.time_ns() + self.ahead_ns
        time.sleep(delay_s / 2)
        return {"epoch_ns": epoch_ns}


@pytest.mark.parametrize("ahead_ns", [0, HOUR, -HOUR])
def test_the_offset_is_that_of_the_quickest_round_trip(ahead_ns: int) -> None:
    """Half of it is how wrong it can be, and it is not more wrong than that."""
    found = clock_offset.measure(Link(ahead_ns, [0.2, 0.02, 0.1]), 3)  # type: ignore[arg-type]  # stands in
    assert abs(found.offset_ns - ahead_ns) <= found.uncertainty_ns
    assert 10 * MS <= found.uncertainty_ns < 50 * MS


def test_a_host_on_this_machine_has_our_clock(sshd: Address) -> None:
    """Over real SSH: no offset but what the round trip leaves open."""
    with supervise(sshd, "clocks") as supervisor:
        found = clock_offset.measure(supervisor)
    assert abs(found.offset_ns) <= found.uncertainty_ns
