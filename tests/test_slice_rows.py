"""slices.jsonl of a bundle as rows, every slice one, on the host's epoch; and a run that records them."""

from pathlib import Path
from typing import Any

import pytest

from tasks.host import perf
from tasks.host.slicing import A_LINE, Slicer
from tasks.host.tracepoints import LOST, SWITCH
from tasks.lake_tables import lake_connection
from tasks.recorders import lacks_slices
from tasks.settings import LprismError
from tasks.spec import parse_spec
from tasks.traces import bundle as bundles
from tasks.traces.bundle import ingest_bundle
from tasks.warehouse import execute
from tests.test_capture import windows
from tests.test_run import run_all, spec_of
from tests.warehouse_cases import CAMPAIGN, OFFSET, at, clock, jsonl, write_bundle

ODD = 'a"b\\c,[ä]'
RUN = {
    "type": "slices", "kind": "oncpu", "pid": 10, "tid": 11, "name": "VLLM::EngineCor",
    "values": [[at(1), 500, 0, "S"], [at(2), 700, 1, None]],
}  # fmt: skip
WAIT = {**RUN, "kind": "runq", "values": [[at(0.5), 9, 0, "W"], [at(1.5), 8, 0, "R", 77, 78, ODD, 7]]}
LOSS = {"type": "lost", "mono_ns": at(4), "last_mono_ns": at(3), "cpu": 1, "events": 42}
RECORDED = {"type": "recorded", "begin_mono_ns": 0, "end_mono_ns": at(9), "slices": 4, "lost_events": 42}
COLUMNS = (
    "kind", "start_ns", "duration_ns", "cpu", "state", "pid", "tid", "thread_name", "instead_pid",
    "instead_tid", "instead_name", "instead_ns", "lost_events",
)  # fmt: skip


def with_slices(folder: Path, *lines: Any) -> Path:  # noqa: ANN401  lines, or bytes
    """A bundle with these lines of slices."""
    return write_bundle(folder, files={"slices.jsonl": jsonl(lines)})


def rows(home: Path) -> list[tuple[Any, ...]]:
    """Slices as a reader of the lake sees them, times on the monotonic clock again."""
    with lake_connection(home, CAMPAIGN) as con:
        found = con.table("scheduler_slices").select(*COLUMNS).fetchall()
    return [(row[0], row[1] - OFFSET, *row[2:]) for row in found]


def test_slices_become_rows(tmp_path: Path) -> None:
    """Of a wait also who ran instead, whatever its name; a loss is a row of its own."""
    summary = ingest_bundle(tmp_path, with_slices(tmp_path / "b", clock(0), RUN, WAIT, LOSS, RECORDED))
    who = (10, 11, "VLLM::EngineCor")
    assert rows(tmp_path) == [
        ("lost", at(3), at(1), 1, None, None, None, None, None, None, None, None, 42),
        ("oncpu", at(1), 500, 0, "S", *who, None, None, None, None, None),
        ("oncpu", at(2), 700, 1, None, *who, None, None, None, None, None),
        ("runq", at(0.5), 9, 0, "W", *who, None, None, None, None, None),
        ("runq", at(1.5), 8, 0, "R", *who, 77, 78, ODD, 7, None),
    ]
    assert (summary.rows["scheduler_slices"], summary.quarantined) == (5, 0)


def test_what_the_slicer_writes_is_kept(tmp_path: Path) -> None:
    """Names of any bytes among it."""
    name = b'\xff"\\{\x01}'.ljust(16, b"\0")
    slicer = Slicer({10}, {}, 0)
    slicer.take(
        [
            (at(1), SWITCH, 0, 0, b"swapper", 0, 0, name, 10), (at(2), SWITCH, 0, 10, name, 10, 0, name, 99),
            (at(3), SWITCH, 0, 99, name, 99, 1, name, 10), (at(4), SWITCH, 0, 10, name, 10, 1, name, 0),
            (at(5), LOST, 0, 3),
        ]
    )  # fmt: skip
    slicer.flush()
    lines = "\n".join(slicer.told()).encode() + b"\n"
    summary = ingest_bundle(tmp_path, with_slices(tmp_path / "b", clock(0), lines))
    assert summary.quarantined == 0
    assert [row[0] for row in rows(tmp_path)] == ["lost", "oncpu", "oncpu", "runq", "runq"]


VALUES = (
    [5],
    [[1, 2, 3]],
    [[1.5, 2, 0, "S"]],
    [[-1, 2, 0, "S"]],
    [[1, 2, 0, 5]],
    [[1, 2, 0, "S", 5]],
    [[10**18, 2, 0, "S"]],
)


@pytest.mark.parametrize(
    "line",
    [
        *({**RUN, "values": values} for values in VALUES),
        {**RUN, "values": None}, {**RUN, "kind": "idle"}, {**RUN, "kind": None}, {**RUN, "name": 5},
        {**RUN, "tid": "11"}, {**LOSS, "events": None}, {**LOSS, "mono_ns": 0.5},
        {**WAIT, "values": [[1, 2, 0, "R", 77, 78, None, 7]]}, b'{"type":"slices","ki\n', {"type": "sample"},
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_goes_to_quarantine(line: Any, tmp_path: Path) -> None:  # noqa: ANN401  or bytes
    """Whole, with its reason; the others are kept."""
    summary = ingest_bundle(tmp_path, with_slices(tmp_path / "b", clock(0), line, WAIT))
    assert summary.quarantined == 1
    assert len(rows(tmp_path)) == 2


def test_a_long_recording_fits_into_memory(tmp_path: Path) -> None:
    """Whoever reads JSON holds two thousand lines of it at a time, once for everything that looks at them."""
    values = [[at(1) + number, 1, 0, "R", 77, 78, "burner", 7] for number in range(A_LINE)]
    line = jsonl([{**WAIT, "values": values}])
    summary = ingest_bundle(tmp_path, with_slices(tmp_path / "b", clock(0), line * (200_000 // A_LINE)))
    assert summary.rows["scheduler_slices"] == 200_000


def test_slices_without_a_clock_are_set_aside(tmp_path: Path) -> None:
    """Nobody knows when they were."""
    assert ingest_bundle(tmp_path, with_slices(tmp_path / "b", RUN, LOSS)).quarantined == 2


def test_a_clock_that_is_set_does_not_move_slices(tmp_path: Path) -> None:
    """They go by the clock of when the recording began."""
    lines = (clock(0), RUN, clock(at(3), 3600 * 10**9), clock(at(5), 3600 * 10**9))
    ingest_bundle(tmp_path, with_slices(tmp_path / "b", *lines))
    assert [row[1] for row in rows(tmp_path)] == [at(1), at(2)]


def test_a_lost_slice_fails_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept line must have become its rows."""
    lost = "convert/scheduler_slices"
    monkeypatch.setattr(
        bundles, "execute", lambda con, name, /, **given: con if name == lost else execute(con, name, **given)
    )
    with pytest.raises(LprismError, match="scheduler_slices: 3 slices, 0 rows"):
        ingest_bundle(tmp_path, with_slices(tmp_path / "b", clock(0), RUN, LOSS))


@pytest.mark.parametrize(
    ("facts", "lack"),
    [
        ({"root": True, "tools": {"perf": "6.1"}}, None),
        ({"root": False, "tools": {"perf": "6.1"}}, "the scheduler's tracepoints are for root"),
        ({"root": True, "tools": {"perf": None}}, "there is no perf on the host"),
        ({"root": True, "tools": None}, "there is no perf on the host"),
    ],
)
def test_a_host_that_cannot_have_slices_is_told_from_its_facts(
    facts: dict[str, Any], lack: str | None
) -> None:
    """Nothing is started there, and the manifest has the reason."""
    assert (lacks_slices(facts) or "").partition(":")[0] == (lack or "")


@pytest.mark.skipif(perf.missing() is not None, reason=f"{perf.missing()}")
def test_a_deep_run_has_slices_of_its_server(tmp_path: Path) -> None:
    """Over SSH, from before its first window to after its last; a light one has none, for what they cost."""
    given = spec_of(modes=["sentinel", "deepdive"], scenarios=["normal"], windows=windows())
    light, deep = run_all(parse_spec(given, "test"), tmp_path)
    assert [[one["name"] for one in run["recorders"]] for run in (light, deep)] == [
        ["sampler", "metrics"], ["sampler", "metrics", "slices"]
    ]  # fmt: skip
    assert (deep["recorders"][2]["lost"], deep["recorders"][2]["exit_code"]) == (None, 0)
    ingest_bundle(tmp_path, tmp_path / "bundles/life-1" / deep["run_id"])
    with lake_connection(tmp_path, "life-1") as con:
        found = con.table("scheduler_slices").select("start_ns", "duration_ns", "kind", "cpu").fetchall()
        (marks,) = con.table("runs").select("recording_start_ns", "recovery_end_ns").fetchall()
    cpus = {row[3] for row in found}
    assert cpus == set(spec_of()["hosts"][0]["engine_cpus"])
    assert min(row[0] for row in found) < marks[0]
    assert max(row[0] + row[1] for row in found) > marks[1]
    assert {row[2] for row in found} == {"oncpu", "runq"}
