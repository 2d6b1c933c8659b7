"""Bundles into the lake: a few hand-made lines in, the rows they become out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.lake_tables import lake_connection
from tasks.settings import LprismError
from tasks.traces import bundle as bundles
from tasks.traces import load
from tasks.traces.bundle import bundles_of, ingest_bundle, ingest_campaign, sniff
from tasks.warehouse import execute, sql_text
from tests.tree import ROOT
from tests.warehouse_cases import (
    CAMPAIGN,
    EFFECT,
    FAULT_CELL,
    MARKS,
    MS,
    OFFSET,
    RUN,
    Line,
    S,
    at,
    batch,
    clock,
    frame,
    good_bundle,
    good_fault,
    parts,
    sample,
    write_bundle,
)

HUGE = 99999999999999999999


def seen(home: Path, table: str, *columns: str) -> list[tuple[Any, ...]]:
    """Some columns of a table, as a reader of the lake sees it."""
    with lake_connection(home, CAMPAIGN) as con:
        rows: list[tuple[Any, ...]] = con.table(table).select(*columns).fetchall()
    return rows


def test_batches_become_rows_with_exact_times(tmp_path: Path) -> None:
    """Times are the monotonic ones plus the median offset of the file's clock lines, to the nanosecond."""
    lines = [clock(0, -30), clock(at(1)), clock(at(2), 50), batch(1.5, 12), batch(1.25, 10.5)]
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", lines))
    rows = seen(tmp_path, "batches", "batch_index", "start_ns", "duration_ns", "interval_ns", "execute_ns")
    assert rows == [
        (0, 1_795_400_001_250_000_001, 10_500_000, 250_000_000, 9_500_000),
        (1, 1_795_400_001_500_000_001, 12_000_000, None, 11_000_000),
    ]


def test_the_clocks_of_all_files_bound_what_a_run_may_claim(tmp_path: Path) -> None:
    """Uncertainty is the spread over every clock line; each file goes by its own median."""
    batches = [clock(0, -30), batch(1.1)]
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", batches, [clock(0, 50), sample(1.0)]))
    assert seen(tmp_path, "runs", "clock_uncertainty_ns") == [(80,)]
    assert seen(tmp_path, "batches", "start_ns") == [(at(1.1) + OFFSET - 30,)]
    assert seen(tmp_path, "counters", "start_ns", "duration_ns") == [(at(0.9) + OFFSET + 50, 100 * MS)]


@pytest.mark.parametrize(
    ("requests", "mode", "tokens"),
    [
        ([], "idle", (0, None, None, None, None, 0, 0)),
        ([[32, 0, 32, 0]], "prefill", (1, 32.0, 32, 0.0, 0, 32, 32)),
        ([[32, 34, 1, 3], [64, 64, 1, 0]], "decode", (2, 48.0, 64, 1.5, 3, 100, 2)),
        ([[32, 34, 1, 3], [64, 0, 32, 0]], "mixed", (2, 48.0, 64, 1.5, 3, 67, 33)),
        ([[64, 32, 32, 0]], "prefill", (1, 64.0, 64, 0.0, 0, 64, 32)),  # the second chunk of a prompt
    ],
)
def test_a_batch_is_described_by_its_requests(
    requests: list[list[int]], mode: str, tokens: tuple[Any, ...], tmp_path: Path
) -> None:
    """Forward mode, size, lengths, cache and new tokens follow from the request rows."""
    line = batch(1.1, requests=requests, admitted=1, finished=2, preempted=3, prefix_hit_tokens=4)
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", [clock(0), line]))
    columns = ("batch_size", "input_length_avg", "input_length_max", "output_length_avg", "output_length_max",
               "kv_tokens", "new_input_tokens")  # fmt: skip
    assert seen(tmp_path, "batches", "forward_mode") == [(mode,)]
    assert seen(tmp_path, "batches", *columns) == [tokens]
    counts = seen(
        tmp_path, "batches", "admitted", "finished", "preempted", "prefix_hit_tokens", "rank", "source"
    )
    assert counts == [(1, 2, 3, 4, 0, "vllm_probe")]


@pytest.mark.parametrize(
    ("start_s", "end_s", "window"),
    [
        (-0.5, -0.1, None),
        (-0.1, 0.1, "transition"),
        (0.2, 0.3, "transition"),
        (0.9, 1.1, "transition"),
        (1.0, 2.0, "baseline"),
        (1.9, 2.1, "transition"),
        (2.9, 3.1, "transition"),
        (4.0, 4.1, "fault"),
        (4.9, 5.1, "transition"),
        (7.5, 7.6, "recovery"),
        (8.9, 9.1, "transition"),
        (9.0, 9.1, None),
    ],
)
def test_a_batch_belongs_to_the_window_that_holds_all_of_it(
    start_s: float, end_s: float, window: str | None, tmp_path: Path
) -> None:
    """Overlapping a mark, or between windows, it is a transition; outside the recording it has none."""
    line = batch(10 + start_s, (end_s - start_s) * 1000)
    later = {name: 10 + s for name, s in MARKS.items()}
    path = write_bundle(tmp_path / "b", [clock(0), line], cell=FAULT_CELL, effect=EFFECT, marks=later)
    ingest_bundle(tmp_path, path)
    assert seen(tmp_path, "batches", "run_window") == [(window,)]


def test_intervals_are_those_of_one_process(tmp_path: Path) -> None:
    """Two workers take turns in the order of start, each with its own start-to-start times."""
    one = [clock(0), batch(1.0), batch(1.2)]
    two = [clock(0), batch(1.1, pid=8, rank=1), batch(1.4, pid=8, rank=1)]
    files = {"batches-8.jsonl": b"".join(json.dumps(line).encode() + b"\n" for line in two)}
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", one, files=files))
    assert seen(tmp_path, "batches", "batch_index", "rank", "interval_ns") == [
        (0, 0, 200 * MS),
        (1, 1, 300 * MS),
        (2, 0, None),
        (3, 1, None),
    ]


def test_a_sample_becomes_a_row_a_value(tmp_path: Path) -> None:
    """Values keep pid, name and sign; the interval ends where the sample was taken; units are known."""
    values: list[list[object]] = [
        ["cpu_usage", "CPU 0", None, None, 88.889],
        ["other_process_avx512_age", "Host", 99, 'it\'s "x"\n', -1],
        ["of_tomorrow", "Host", None, None, 1e-3],
    ]
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", None, [clock(0), sample(5.0, *values)]))
    rows = seen(tmp_path, "counters", "counter_name", "device", "pid", "process_name", "value", "unit")
    assert rows == [
        ("cpu_usage", "CPU 0", None, None, 88.889, "% of the core"),
        ("of_tomorrow", "Host", None, None, 0.001, None),
        ("other_process_avx512_age", "Host", 99, 'it\'s "x"\n', -1.0, "ms"),
    ]
    assert {row[0] for row in seen(tmp_path, "counters", "start_ns")} == {at(4.9) + OFFSET}


def test_the_manifest_becomes_the_run(tmp_path: Path) -> None:
    """Cell, marks, effect and objectives are columns; the bundle's place is relative to the home."""
    ingest_bundle(tmp_path, good_fault(tmp_path / "bundles" / CAMPAIGN / RUN))
    (run,) = seen(
        tmp_path, "runs", "run_id", "anomaly", "strength", "workload", "status", "slo_tpot_ms", "bundle"
    )
    assert run == (
        RUN, "cpu_quota", '{"share": 0.5}', "in32_out64_conc4", "complete", 30.0, f"bundles/{CAMPAIGN}/{RUN}",
    )  # fmt: skip
    assert seen(tmp_path, "runs", *(f"{name}_ns" for name in MARKS)) == [
        tuple(at(s) + OFFSET for s in MARKS.values())
    ]
    assert seen(tmp_path, "runs", "effect_during", "effect_proved", "effect_undone") == [(1.0, True, True)]


BAD_LINES: list[tuple[bytes, str]] = [
    (b'{"type":"batch","pid":7,"ra', "not JSON"),
    (b"", "not JSON"),
    (b'{"a":"\xff"}', "not UTF-8"),
    (b"[1,2]", "a line of no known type"),
    (json.dumps(sample(1.0)).encode(), "a line of no known type"),
    (json.dumps({**clock(0), "realtime_ns": 1.5}).encode(), "not a clock line"),
    (json.dumps({**clock(0), "realtime_ns": HUGE}).encode(), "not a clock line"),
    (json.dumps(batch(1.0, start_mono_ns=1.5)).encode(), "not a batch"),
    (json.dumps(batch(1.0, start_mono_ns="5")).encode(), "not a batch"),
    (json.dumps(batch(1.0, end_mono_ns=HUGE)).encode(), "not a batch"),
    (json.dumps(batch(1.0, rank=None)).encode(), "not a batch"),
    (json.dumps(batch(1.0, source=3)).encode(), "not a batch"),
    (json.dumps(batch(1.0, requests=None)).encode(), "not a batch"),
    (json.dumps(batch(1.0, requests=[[1, 2, 3]])).encode(), "not a batch"),
    (json.dumps(batch(1.0, requests=[[1, 2, 3, 4], 5])).encode(), "not a batch"),
    (json.dumps(batch(1.0, requests=[[1, 2, 3, "4"]])).encode(), "not a batch"),
    (json.dumps(batch(1.0, requests=[[1, 2, 3, HUGE]])).encode(), "not a batch"),
]


@pytest.mark.parametrize(("raw", "reason"), BAD_LINES)
def test_a_bad_line_goes_to_quarantine(raw: bytes, reason: str, tmp_path: Path) -> None:
    """What cannot be typed exactly is kept as text with its reason and place, and harms no other line."""
    lines: list[Line] = [clock(0), batch(1.1), raw + b"\n", batch(1.2)]
    summary = ingest_bundle(tmp_path, write_bundle(tmp_path / "b", lines))
    assert (summary.rows["batches"], summary.quarantined) == (2, 1)
    ((name, number, said, text),) = seen(
        tmp_path, "quarantine", "file_name", "line_number", "reason", "raw_text"
    )
    assert (name, number, text) == ("batches-7.jsonl", 3, raw.decode(errors="backslashreplace"))
    assert said.startswith(reason)
    account = [
        row for row in seen(tmp_path, "files", "name", "rows_in", "rows_kept", "rows_quarantined") if row[1]
    ]
    assert account == [("batches-7.jsonl", 4, 3, 1)]


@pytest.mark.parametrize(
    "value",
    [
        ["n", "Host", None, None],
        ["n", "Host", None, None, "1"],
        ["n", "Host", None, None, None],
        ["n", "Host", 1.5, None, 1],
        ["n", "Host", None, 5, 1],
        [None, "Host", None, None, 1],
        ["n", None, None, None, 1],
        "n",
    ],
)
def test_a_sample_with_a_bad_value_goes_to_quarantine(value: Sequence[object], tmp_path: Path) -> None:
    """A line is kept whole or not at all."""
    lines = [clock(0), sample(1.0, ["ok", "Host", None, None, 1], value), sample(1.1)]
    summary = ingest_bundle(tmp_path, write_bundle(tmp_path / "b", None, lines))
    assert (summary.rows["counters"], summary.quarantined) == (1, 1)


def test_without_a_clock_line_no_time_is_claimed(tmp_path: Path) -> None:
    """Batches of a file that has no clock pair are set aside, not placed by a guess."""
    summary = ingest_bundle(tmp_path, write_bundle(tmp_path / "b", [batch(1.1)], [clock(0), sample(1.0)]))
    assert ("batches" in summary.rows, summary.rows["counters"], summary.quarantined) == (False, 1, 1)
    assert seen(tmp_path, "quarantine", "reason") == [("no clock line in its file",)]


def test_a_line_without_end_is_bounded(tmp_path: Path) -> None:
    """A giant line costs its first characters, and the lines after it are read."""
    lines: list[Line] = [clock(0), b"[" * (3 << 20) + b"\n", batch(1.1), b"\xc3\xa4" * (1 << 20)]
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", lines))
    rows = seen(tmp_path, "quarantine", "line_number", "reason", "raw_text")
    assert [(row[0], row[1][:11], len(row[2])) for row in rows] == [
        (2, "longer than", 2000),
        (4, "longer than", 2000),
    ]
    assert seen(tmp_path, "batches", "batch_index") == [(0,)]


GARBAGE = st.one_of(
    st.binary(max_size=40),
    st.just(b"\n"),
    st.tuples(st.just(json.dumps(batch(1.1)).encode() + b"\n"), st.integers(0, 60)).map(
        lambda cut: cut[0][cut[1] :]
    ),
    st.builds(
        lambda key, value: json.dumps(batch(1.1, **{key: value})).encode() + b"\n",
        st.sampled_from(["pid", "start_mono_ns", "requests", "type", "source"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=4),
            max_leaves=12,
        ),
    ),
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(GARBAGE, max_size=6))
def test_every_line_is_accounted_for(tmp_path: Path, garbage: list[bytes]) -> None:
    """Whatever bytes a recorder left: rows in = kept + quarantined, and good lines before them survive."""
    home = tmp_path / str(time.monotonic_ns())
    content: list[Line] = [clock(0), batch(1.1), *garbage]
    path = write_bundle(home / "b", content)
    summary = ingest_bundle(home, path)
    raw = (path / "batches-7.jsonl").read_bytes()
    lines = raw.count(b"\n") + (not raw.endswith(b"\n"))
    ((rows_in, kept, quarantined),) = [
        row[1:] for row in seen(home, "files", "name", "rows_in", "rows_kept", "rows_quarantined") if row[1]
    ]
    assert (rows_in, kept + quarantined) == (lines, lines)
    assert summary.quarantined == quarantined == len(seen(home, "quarantine", "line_number"))
    assert summary.rows["batches"] >= 1


def test_a_lost_line_fails_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the account of a file does not add up nothing of the bundle is loaded, and the file is named."""
    monkeypatch.setattr(
        bundles,
        "execute",
        lambda con, name, /, **given: con if name == "convert/quarantine" else execute(con, name, **given),
    )
    with pytest.raises(LprismError, match=r"batches-7.jsonl: 3 rows read, 2 kept, 0 quarantined"):
        ingest_bundle(tmp_path, write_bundle(tmp_path / "b", [clock(0), b"x\n", batch(1.1)]))
    assert parts(tmp_path, "runs") == parts(tmp_path, "batches") == []


@pytest.mark.parametrize("step", ["batches", "counters"])
def test_a_lost_record_fails_the_load(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept line must have become its rows."""
    monkeypatch.setattr(
        bundles,
        "execute",
        lambda con, name, /, **given: con if name == f"convert/{step}" else execute(con, name, **given),
    )
    with pytest.raises(LprismError, match=f"{step}: [0-9]+ (records|values), 0 rows"):
        ingest_bundle(tmp_path, good_bundle(tmp_path / "b"))


def test_the_same_bundle_again_is_skipped_and_a_changed_one_takes_its_place(tmp_path: Path) -> None:
    """Loading twice doubles nothing; new content replaces the old rows."""
    path = write_bundle(tmp_path / "b", [clock(0), batch(1.1), b"torn"])
    first = ingest_bundle(tmp_path, path)
    again = ingest_bundle(tmp_path, path)
    assert not first.skipped
    assert again.skipped
    assert (again.rows, again.quarantined) == (first.rows, 1)
    write_bundle(path, [clock(0), batch(1.1), batch(1.2)])
    changed = ingest_bundle(tmp_path, path)
    assert (changed.skipped, changed.rows["batches"], changed.quarantined) == (False, 2, 0)
    assert len(seen(tmp_path, "batches", "batch_index")) == 2
    assert seen(tmp_path, "quarantine", "reason") == []


def test_a_new_conversion_loads_an_old_bundle_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is skipped was made by the same SQL; a missing part is no load either."""
    path = good_bundle(tmp_path / "b")
    ingest_bundle(tmp_path, path)
    monkeypatch.setattr(load, "sql_text", lambda name: sql_text(name) + "-- a fix")
    assert not ingest_bundle(tmp_path, path).skipped
    assert ingest_bundle(tmp_path, path).skipped
    for lost in (tmp_path / "lake" / "counters" / CAMPAIGN).iterdir():
        lost.unlink()
    assert not ingest_bundle(tmp_path, path).skipped


def test_a_failed_run_lands_with_its_reason(tmp_path: Path) -> None:
    """No files, few marks, a half-measured effect: the run and its manifest are in the catalogue."""
    effect = {"proved": False, "undone": False, "metric": "victim_gflops", "unit": "GFLOP/s", "before": 2.0}
    marks = {"recording_start": 0.0}
    path = write_bundle(
        tmp_path / "b",
        status="failed",
        reason="injection_failed: it did not fall",
        effect=effect,
        marks=marks,
    )
    summary = ingest_bundle(tmp_path, path)
    assert summary.rows == {"files": 1, "hosts": 1, "runs": 1}
    run = seen(
        tmp_path, "runs", "status", "reason", "recording_start_ns", "recording_stop_ns", "effect_during"
    )
    assert run == [("failed", "injection_failed: it did not fall", OFFSET, None, None)]
    assert seen(tmp_path, "files", "name", "format", "rows_in") == [("manifest.json", "manifest", 0)]


def test_other_files_are_catalogued(tmp_path: Path) -> None:
    """Logs are not read, but their digests are kept."""
    path = write_bundle(tmp_path / "b", files={"server.log": b"\xff\x00 started\n", "load.json": b"{}"})
    ingest_bundle(tmp_path, path)
    rows = seen(tmp_path, "files", "name", "format", "size_bytes", "rows_in", "rows_kept")
    assert rows[1:] == [("server.log", "log", 11, 0, 0), ("load.json", "other", 2, 0, 0)]


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b.log", ".hidden", "..", "", "a\nb", "manifest.json"]
)
def test_a_file_name_cannot_leave_the_bundle(name: str, tmp_path: Path) -> None:
    """A manifest that lists a path is refused, whatever is there."""
    (tmp_path / "secret").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    path = write_bundle(tmp_path / "b", files=None)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"] = [{"name": name, "size_bytes": 0, "sha256": empty}]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LprismError, match=r"manifest.json: files"):
        ingest_bundle(tmp_path, path)
    assert parts(tmp_path, "runs") == []


def test_a_link_out_of_the_bundle_is_refused(tmp_path: Path) -> None:
    """The right bytes behind a symbolic link are still not a file of the bundle."""
    path = write_bundle(tmp_path / "b", files={"server.log": b"secret"})
    (path / "server.log").rename(tmp_path / "secret")
    (path / "server.log").symlink_to(tmp_path / "secret")
    with pytest.raises(LprismError, match=r"server.log is in the manifest but not there as a plain file"):
        ingest_bundle(tmp_path, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run_id": "r01234567890"}, "run_id"),
        ({"run_id": "../../x"}, "run_id"),
        ({"run_id": RUN + "\n"}, "run_id"),
        ({"campaign": "../c"}, "campaign"),
        ({"campaign": "a/b"}, "campaign"),
        ({"campaign": ".staging"}, "campaign"),
        ({"campaign": 5}, "campaign"),
        ({"schema": 2}, "schema"),
        ({"status": "fine"}, "status"),
        ({"cell": {**FAULT_CELL, "concurrency": "4"}}, "cell.concurrency"),
        ({"cell": {**FAULT_CELL, "concurrency": 4.5}}, "cell.concurrency"),
        ({"marks": [{"name": "recording_start", "epoch_ns": 1.5}]}, "marks.0.epoch_ns"),
        ({"marks": [{"name": "lunch", "epoch_ns": 1}]}, "marks.0.name"),
        ({"marks": [{"name": "recording_stop", "epoch_ns": 1}] * 2}, "listed twice"),
        ({"files": [{"name": "a.log", "size_bytes": -1, "sha256": "0" * 64}]}, "files.0.size_bytes"),
    ],
)
def test_a_manifest_is_read_strictly(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """The error names the file and the key, and nothing is loaded."""
    path = write_bundle(tmp_path / "b")
    manifest = {**json.loads((path / "manifest.json").read_text()), **change}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LprismError, match=rf"manifest.json: .*{message}"):
        ingest_bundle(tmp_path, path)
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"schema":1}', b"\xff\xfe", b"[" * 10_000])
def test_a_broken_manifest_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    """Cut, empty, foreign or hostile: it is told in a line or two."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_bytes(content)
    assert sniff(tmp_path / "b", b"")
    with pytest.raises(LprismError, match=r"manifest.json: ") as raised:
        ingest_bundle(tmp_path, tmp_path / "b")
    assert str(raised.value).count("\n") <= 1


@pytest.mark.parametrize("change", [b"", b"longer than it was", b"same sizE"])
def test_a_file_that_was_changed_is_refused(change: bytes, tmp_path: Path) -> None:
    """Size and digest are held against the manifest, also when the run is in the lake already."""
    path = write_bundle(tmp_path / "b", files={"server.log": b"same size"})
    ingest_bundle(tmp_path, path)
    (path / "server.log").write_bytes(change)
    with pytest.raises(LprismError, match=r"server.log is not the file that was recorded"):
        ingest_bundle(tmp_path, path)
    (path / "server.log").unlink()
    with pytest.raises(LprismError, match=r"server.log is in the manifest but not there"):
        ingest_bundle(tmp_path, path)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    """It is not taken for one, and drafts of bundles are not either."""
    good_bundle(tmp_path / "bundles" / CAMPAIGN / RUN)
    good_bundle(tmp_path / "bundles" / CAMPAIGN / f".{RUN}.partial")
    assert not sniff(tmp_path, b"")
    assert [path.name for path in bundles_of(tmp_path, CAMPAIGN)] == [RUN]
    with pytest.raises(LprismError, match="is no bundle"):
        ingest_bundle(tmp_path, tmp_path)
    with pytest.raises(LprismError, match="no name"):
        bundles_of(tmp_path, "../x")


def test_a_campaign_is_counted_from_its_runs(tmp_path: Path) -> None:
    """What was planned comes from campaign.json, what came of it from the lake."""
    folder = tmp_path / "bundles" / CAMPAIGN
    ingest_bundle(tmp_path, good_bundle(folder / RUN))
    ingest_bundle(tmp_path, write_bundle(folder / "r1", run_id="r1111111111", status="failed", reason="x"))
    record = {
        "schema": 1, "campaign": CAMPAIGN, "campaign_name": "c", "started_ns": 1795400000000000001,
        "closed_ns": None, "seed": 7, "runs_planned": 3, "spec": {"name": "c'"},
    }  # fmt: skip
    (folder / "campaign.json").write_text(json.dumps(record))
    ingest_campaign(tmp_path, CAMPAIGN)
    columns = ("campaign", "started_ns", "closed_ns", "spec", "runs_planned", "runs_complete", "runs_failed")
    assert seen(tmp_path, "campaigns", *columns) == [
        (CAMPAIGN, 1795400000000000001, None, '{"name": "c\'"}', 3, 1, 1)
    ]
    (folder / "campaign.json").write_text("{}")
    with pytest.raises(LprismError, match=r"campaign.json cannot be read"):
        ingest_campaign(tmp_path, CAMPAIGN)


PROGRAM = """
import os, signal, sys
from collections.abc import Sequence
from pathlib import Path
from tasks import lake
from tasks.traces import bundle
real, left = lake.put, int(sys.argv[3])
def put(draft, place):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return real(draft, place)
lake.put = put
print(bundle.ingest_bundle(Path(sys.argv[1]), Path(sys.argv[2])).skipped)
"""


def load_in_a_process(home: Path, bundle: Path, puts: int) -> "subprocess.Popen[str]":
    """Load a bundle in another process, which kills itself before it puts part number `puts` in place."""
    command = [sys.executable, "-c", PROGRAM, str(home), str(bundle), str(puts)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("puts", [0, 1, 3])
def test_a_killed_load_leaves_nothing_that_is_seen(puts: int, tmp_path: Path) -> None:
    """Kill -9 before, or between, putting the parts in place: no table shows the run; the next load does."""
    path = good_bundle(tmp_path / "b")
    with load_in_a_process(tmp_path, path, puts) as killed:
        assert killed.wait(60) == -signal.SIGKILL
    assert (
        sum(len(parts(tmp_path, table)) for table in ("batches", "counters", "files", "quarantine")) >= puts
    )
    for table in ("runs", "files", "batches", "counters", "quarantine"):
        assert seen(tmp_path, table, "run_id") == []
    assert not ingest_bundle(tmp_path, path).skipped
    assert len(seen(tmp_path, "batches", "run_id")) == 3
    assert list((tmp_path / "lake" / ".staging").iterdir()) == []


def test_a_killed_replacement_shows_no_mixture(tmp_path: Path) -> None:
    """While a changed bundle takes the place of the old one, its run is seen as it was."""
    path = good_bundle(tmp_path / "b")
    ingest_bundle(tmp_path, path)
    write_bundle(path, [clock(0), batch(1.1)])
    with load_in_a_process(tmp_path, path, 2) as killed:
        assert killed.wait(60) == -signal.SIGKILL
    assert len(frame(tmp_path, "batches", "run_id")) == 3 + 1
    assert len(seen(tmp_path, "batches", "run_id")) == 3
    assert seen(tmp_path, "runs", "run_id") == [(RUN,)]


def test_processes_load_side_by_side(tmp_path: Path) -> None:
    """Two bundles by two processes, and one bundle by two: every run is there once."""
    runs = ["r1111111111", "r2222222222", "r2222222222"]
    paths = [good_bundle(tmp_path / run, run) for run in runs]
    loads = [load_in_a_process(tmp_path, path, 99) for path in paths]
    said = [load.communicate(timeout=60)[0].strip() for load in loads]
    assert [load.returncode for load in loads] == [0, 0, 0]
    assert said[0] == "False"
    assert sorted(said[1:]) == ["False", "True"]
    assert sorted(seen(tmp_path, "runs", "run_id")) == [(run,) for run in sorted(set(runs))]
    assert len(seen(tmp_path, "batches", "run_id")) == 6


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mount"), reason="a full disk is a tmpfs: needs root"
)
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    """The error says so; no part is seen, and the load works once there is space."""
    lake = tmp_path / "lake"
    lake.mkdir()
    path = good_bundle(tmp_path / "b")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", lake], check=False)
    if mounted.returncode:
        pytest.skip("a full disk is a tmpfs, and mounting is not allowed here")
    try:
        with pytest.raises(LprismError, match="No space left on device") as raised:
            ingest_bundle(tmp_path, path)
        assert str(raised.value).count("\n") <= 1
        assert parts(tmp_path, "runs") == []
    finally:
        subprocess.run(["umount", lake], check=True)
    assert ingest_bundle(tmp_path, path).rows["batches"] == 3


def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """No traceback: the path and what the system says."""
    (tmp_path / "lake").write_text("a file where the lake should be")
    with pytest.raises(LprismError, match=r"lake.*(Not a directory|File exists)"):
        ingest_bundle(tmp_path, good_bundle(tmp_path / "b"))


def test_recorded_seconds_are_enough_digits() -> None:
    """The cases themselves would show a float: it cannot hold their times."""
    assert int(float(OFFSET + S)) != OFFSET + S


def test_the_host_is_kept_as_the_run_found_it(tmp_path: Path) -> None:
    """Facts by their names, one of a wrong type as NULL, all of them whole beside; and the CPUs in use."""
    facts = {
        "cpu_model": "a CPU", "cores": "many", "smt": False, "gpus": [{"index": 0}, {"index": 1}],
        "kernel": "6.1", "virtualisation": {"hypervisor": True, "container": None},
    }  # fmt: skip
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", host_facts=facts, engine_cpus=[0, 2], our_cpus=None))
    columns = ("host", "cpu_model", "cores", "smt", "gpus", "kernel", "hypervisor", "container", "root")
    assert seen(tmp_path, "hosts", *columns) == [("lab", "a CPU", None, False, 2, "6.1", True, None, None)]
    assert seen(tmp_path, "hosts", "engine_cpus", "our_cpus") == [("[0,2]", None)]
    assert [json.loads(whole) for (whole,) in seen(tmp_path, "hosts", "details")] == [facts]
