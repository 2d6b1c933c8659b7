"""Deep captures: what the host does and says, what becomes of the traces, and what goes wrong with them."""

import gzip
import http.server
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.host import capture
from tasks.lake_tables import lake_connection
from tasks.quality.suites import validate
from tasks.spec import parse_spec
from tasks.traces import chrome
from tasks.traces.bundle import ingest_bundle
from tests.test_bundle_ingest import seen
from tests.test_run import left_running, run_all, spec_of
from tests.warehouse_cases import CAMPAIGN, MS, OFFSET, at, batch, clock, jsonl, steady, write_bundle

DEEP = ["sentinel", "deepdive"]
ASKED = {"name": "capture-fault", "iterations": 3, "start_s": 5, "iterations_s": 0.3, "export_s": 5}
NAME = "capture-baseline-rank0.1.pt.trace.json.gz"


class Profiled(http.server.BaseHTTPRequestHandler):
    """A server with a profiler; `writes` are the trace files of a start and of a stop."""

    folder: Path
    writes: dict[str, list[str]]
    statuses: dict[str, int]
    delays: dict[str, float]
    asked: list[tuple[str, Any]]

    def do_POST(self) -> None:
        """Do and answer what the test says."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.path, json.loads(body) if body else None))
        time.sleep(self.delays.get(self.path, 0))
        for name in self.writes.get(self.path, ()):
            (self.folder / name).write_bytes(b"{}")
        self.send_response(self.statuses.get(self.path, 200))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[type[Profiled], dict[str, Any]]]:
    """A server to be told how to behave, and what to ask `capture` for."""

    class Handler(Profiled):
        folder = tmp_path / "traces"
        writes, statuses, delays, asked = {}, {}, {}, []

    (tmp_path / "run").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield Handler, {
            **ASKED, "folder": str(tmp_path / "run"), "traces": str(Handler.folder),
            "url": f"http://127.0.0.1:{serving.server_port}", "stop": ["/stop_profile", None],
            "start": ["/start_profile", {"max_iterations": 3}],
        }  # fmt: skip
        serving.shutdown()


def test_every_rank_has_a_trace_and_every_moment_is_noted(
    server: tuple[type[Profiled], dict[str, Any]], tmp_path: Path
) -> None:
    """The body arrives, new traces alone are taken, under names for a bundle; times are in order."""
    handler, asked = server
    handler.folder.mkdir()
    (handler.folder / "of-before.json").write_bytes(b"{}")
    handler.writes = {"/start_profile": ["rank0.1.pt.trace.json.gz", "a b'c.json", "table.txt"]}
    before = time.time_ns()
    said = capture.capture(asked)
    assert handler.asked == [("/start_profile", {"max_iterations": 3}), ("/stop_profile", None)]
    assert said["lost"] is None
    assert said["files"] == ["capture-fault-a_b_c.json", "capture-fault-rank0.1.pt.trace.json.gz"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == said["files"]
    times = [said[name] for name in ("start_ns", "ready_ns", "stop_ns", "end_ns")]
    assert times == sorted(times)
    assert before - MS < times[0]
    assert times[-1] < time.time_ns() + MS


def test_every_rank_is_waited_for(server: tuple[type[Profiled], dict[str, Any]]) -> None:
    """Ranks that stop by themselves write one after another: what is taken has a trace of each, all whole."""
    handler, asked = server
    handler.writes = {"/start_profile": ["rank0.json"]}
    handler.statuses = {"/stop_profile": 500}

    def write_late() -> None:
        with (handler.folder / "rank1.json").open("w") as file:
            for _ in range(3):  # it grows between two looks
                file.write("{}")
                file.flush()
                time.sleep(capture.LOOK_S)

    threading.Timer(0.5, write_late).start()
    said = capture.capture({**asked, "ranks": 2, "export_s": 60})
    assert (said["files"], said["lost"]) == (["capture-fault-rank0.json", "capture-fault-rank1.json"], None)
    assert Path(asked["folder"], "capture-fault-rank1.json").read_text() == "{}{}{}"


def test_a_rank_that_writes_nothing_is_told(server: tuple[type[Profiled], dict[str, Any]]) -> None:
    """The traces that there are stay in the bundle; half of the ranks is no capture."""
    handler, asked = server
    handler.writes = {"/start_profile": ["rank0.json"]}
    said = capture.capture({**asked, "ranks": 2, "export_s": 1})
    assert (said["files"], said["lost"]) == (["capture-fault-rank0.json"], "1 of 2 ranks wrote a trace")


def test_a_capture_is_shorter_where_no_iterations_come(
    server: tuple[type[Profiled], dict[str, Any]],
) -> None:
    """When the load has ended the profiler is stopped after a while, and what it has is taken."""
    handler, asked = server
    handler.writes = {"/stop_profile": ["rank0.json"]}
    said = capture.capture(asked)
    assert (said["files"], said["lost"]) == (["capture-fault-rank0.json"], None)
    assert said["stop_ns"] - said["ready_ns"] >= 0.3 * 1e9


def test_a_server_that_does_not_count_is_stopped_when_enough_iterations_passed(
    server: tuple[type[Profiled], dict[str, Any]], tmp_path: Path
) -> None:
    """The probe tells how many did: a capture is bounded whatever the engine's version heeds."""
    handler, asked = server
    handler.writes = {"/stop_profile": ["rank0.json"]}
    records = tmp_path / "run" / "batches-7.jsonl"
    records.write_bytes(jsonl([clock(0), batch(1.0)] * 50))

    def go_on() -> None:
        with records.open("ab") as file:
            for _ in range(100):
                file.write(jsonl([clock(0), batch(1.0)]))

    threading.Timer(1.0, go_on).start()
    said = capture.capture({**asked, "iterations_s": 30})
    assert said["files"] == ["capture-fault-rank0.json"]
    assert 0.9 < (said["stop_ns"] - said["ready_ns"]) / 1e9 < 10


@pytest.mark.parametrize(
    ("statuses", "delays", "lost"),
    [
        ({"/start_profile": 404}, {}, "the server has no profiler: it was started without one"),
        ({"/start_profile": 500}, {}, "the server refuses to profile: POST /start_profile answers 500"),
        ({"/stop_profile": 400}, {}, r"the server wrote no trace \(POST /stop_profile answers 400\)"),
        ({}, {"/start_profile": 3}, r"POST /start_profile: no answer within 0.5 s"),
        ({}, {"/stop_profile": 3}, r"POST /stop_profile: no answer within 0.5 s"),
    ],
)
def test_a_capture_that_cannot_be_had_is_named(
    statuses: dict[str, int], delays: dict[str, float], lost: str,
    server: tuple[type[Profiled], dict[str, Any]],
) -> None:  # fmt: skip
    """No profiler, one that refuses, one that writes nothing, one that does not answer: each in one line."""
    handler, asked = server
    handler.statuses, handler.delays = statuses, delays
    said = capture.capture({**asked, "start_s": 0.5, "iterations_s": 0.1, "export_s": 0.5})
    assert said["files"] == []
    assert re.fullmatch(lost, said["lost"])


def test_no_server_is_said_as_it_is(tmp_path: Path) -> None:
    """Nothing listens there."""
    asked = {**ASKED, "folder": str(tmp_path), "traces": str(tmp_path), "url": "http://127.0.0.1:9"}
    said = capture.capture({**asked, "start": ["/start_profile", {}], "stop": ["/stop_profile", None]})
    assert "POST /start_profile: [Errno 111] Connection refused" in said["lost"]


def test_a_disk_that_is_full_loses_the_capture(
    server: tuple[type[Profiled], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be stored is told with the system's words."""
    handler, asked = server
    handler.writes = {"/start_profile": ["rank0.json"]}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert capture.capture(asked)["lost"] == "rank0.json could not be stored: No space left on device"


RECORDS = """
import pathlib, signal, sys, time
def end(*_):
    if {writes}: pathlib.Path(sys.argv[1]).write_text('{{"traceEvents": []}}')
    sys.exit(0)
signal.signal(signal.SIGTERM, {handler})
{then}
time.sleep(60)
"""


def by_command(
    tmp_path: Path, *, writes: bool = True, handler: str = "end", then: str = ""
) -> dict[str, Any]:
    """Have a profiler of a few lines record; the window ends after 0.3 s."""
    program = RECORDS.format(writes=writes, handler=handler, then=then)
    output = tmp_path / "capture-fault-result.json.gz"
    threading.Timer(0.5, (tmp_path / "capture-fault.stop").touch).start()
    asked = {"command": [sys.executable, "-c", program, str(output)], "output": str(output), "start_s": 0.2}
    return capture.capture({**ASKED, **asked, "folder": str(tmp_path), "window_s": 5, "export_s": 1})


def test_an_installed_profiler_is_started_and_stopped_around_the_window(tmp_path: Path) -> None:
    """It runs until the stop file is there, then SIGTERM; its file has the name that it was given."""
    said = by_command(tmp_path)
    assert (said["files"], said["lost"]) == (["capture-fault-result.json.gz"], None)
    assert 0.1 < (said["stop_ns"] - said["ready_ns"]) / 1e9 < 3
    assert [path.name for path in tmp_path.iterdir()] == ["capture-fault-result.json.gz"]


@pytest.mark.parametrize(
    ("given", "lost"),
    [
        ({"writes": False}, r"left no capture-fault-result.json.gz \(exit code 0\)"),
        ({"handler": "signal.SIG_IGN"}, "did not end within 1 s of SIGTERM"),
        ({"then": "sys.exit(3)"}, "ended with exit code 3 before the window"),
        ({"then": "time.sleep(0.3); sys.exit(4)"}, "ended with exit code 4 within the window"),
    ],
)
def test_an_installed_profiler_that_fails_is_named(given: dict[str, Any], lost: str, tmp_path: Path) -> None:
    """One that writes nothing, does not end, or ends before its time; it never outlives the capture."""
    said = by_command(tmp_path, **given)
    assert re.search(lost, said["lost"])
    assert left_running(tmp_path) == []


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A misspelt program is one line."""
    asked = {**ASKED, "folder": str(tmp_path), "command": ["no-such-profiler"], "output": str(tmp_path / "x")}
    assert capture.capture({**asked, "window_s": 1})["lost"] == "no-such-profiler: No such file or directory"


def taken(start_s: float, end_s: float, **changes: object) -> dict[str, Any]:
    """A capture of the manifest."""
    return {
        "name": "capture-baseline", "window": "baseline", "profiler": "torch", "iterations": 2,
        "files": [NAME], "lost": None,
        "start_ns": at(start_s) + OFFSET, "ready_ns": at(start_s) + OFFSET + MS,
        "stop_ns": at(end_s) + OFFSET - MS, "end_ns": at(end_s) + OFFSET, "offset_ns": OFFSET, **changes,
    }  # fmt: skip


def trace(*starts_s: float, moved_ns: int = 0) -> bytes:
    """A torch trace: a step of 1 ms with an operator at each start."""
    events = [
        {"ph": "X", "cat": cat, "name": name, "pid": 7, "tid": 7, "ts": at(start_s) / 1e3, "dur": 1000.0}
        for start_s in starts_s
        for cat, name in (("user_annotation", "execute_context_0(0)_generation_1(1)"), ("cpu_op", "aten::mm"))
    ]
    whole = {"schemaVersion": 1, "baseTimeNanoseconds": OFFSET + moved_ns, "traceEvents": events}
    return gzip.compress(json.dumps(whole).encode())


def test_a_trace_becomes_events_of_its_run(tmp_path: Path) -> None:
    """Events are on the run's clock to the nanosecond; the batches stay the probe's; steps are counted."""
    lines = [clock(0), batch(1.1), batch(1.5), batch(1.55)]
    files = {NAME: trace(1.5, 1.55)}
    path = write_bundle(tmp_path / "b", lines, files=files, captures=[taken(1.45, 1.8)])
    ingest_bundle(tmp_path, path)
    assert seen(tmp_path, "events", "file_name", "start_ns", "duration_ns") == [
        (NAME, at(s) + OFFSET, MS) for s in (1.5, 1.5, 1.55, 1.55)
    ]
    columns = ("capture_name", "run_window", "iterations_asked", "iterations", "events", "stalled_ns", "lost")
    assert seen(tmp_path, "captures", *columns) == [
        ("capture-baseline", "baseline", 2, 2, 4, at(1.8 - 1.551), None)
    ]
    assert seen(tmp_path, "batches", "source", "run_window") == [
        ("vllm_probe", "baseline"),
        ("vllm_probe", "transition"),
        ("vllm_probe", "transition"),
    ]
    assert seen(tmp_path, "runs", "engine", "engine_version") == [("vllm", "0.32.0")]
    (told,) = [row for row in seen(tmp_path, "files", "name", "format", "rows_kept") if row[0] == NAME]
    assert told == (NAME, "chrome_trace", 4)


@pytest.mark.parametrize(
    ("start_s", "window"),
    [
        (1.44, "baseline"),
        (1.4401, "transition"),
        (1.5, "transition"),
        (1.7999, "transition"),
        (1.8, "baseline"),
    ],
)
def test_batches_under_the_profiler_count_for_no_window(start_s: float, window: str, tmp_path: Path) -> None:
    """From its start to the end of the stall; a batch that touches neither end is as good as any."""
    files = {NAME: trace(1.5)}
    path = write_bundle(
        tmp_path / "b", [clock(0), batch(start_s, 10.0)], files=files, captures=[taken(1.45, 1.8)]
    )
    ingest_bundle(tmp_path, path)
    assert seen(tmp_path, "batches", "run_window") == [(window,)]


def test_an_installed_profiler_stalls_nothing(tmp_path: Path) -> None:
    """The window that it records from outside keeps its batches."""
    captures = [taken(0.5, 2.5, profiler="command", iterations=None)]
    path = write_bundle(tmp_path / "b", [clock(0), batch(1.5)], files={NAME: trace(1.5)}, captures=captures)
    ingest_bundle(tmp_path, path)
    assert seen(tmp_path, "batches", "run_window") == [("baseline",)]
    assert seen(tmp_path, "captures", "stalled_ns", "events") == [(None, 2)]


def test_the_traces_of_several_ranks_and_windows_are_all_there(tmp_path: Path) -> None:
    """Each rank's file and each window's: rows add up, and the run passes every check that is about them."""
    names = [f"capture-{window}-rank{rank}.json.gz" for window in ("baseline", "fault") for rank in (0, 1)]
    captures = [
        taken(1.5, 1.8, files=names[:2]),
        taken(4.5, 4.8, name="capture-fault", window="fault", files=names[2:]),
    ]
    files = {name: trace(1.5 if "baseline" in name else 4.5) for name in names}
    batches = [clock(0), batch(1.1), batch(4.1), batch(7.1), clock(at(9))]
    counters = [clock(0), *steady(), clock(at(9))]
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", batches, counters, files, captures=captures))
    assert sorted(set(seen(tmp_path, "events", "file_name"))) == [(name,) for name in sorted(names)]
    assert seen(tmp_path, "captures", "iterations", "events") == [(1, 4), (1, 4)]
    outcome = {result.expectation: result for result in validate(tmp_path, CAMPAIGN).results}
    for name in ("events_are_as_many_as_were_kept", "file_rows_add_up", "event_launches_are_there"):
        assert outcome[name].success, name


def test_a_damaged_trace_loses_its_capture_and_not_the_run(tmp_path: Path) -> None:
    """A full disk cut it off: the batches are there, the file is catalogued, and the reason is told."""
    files = {NAME: trace(1.5, 1.55, 1.6)[:-30]}
    path = write_bundle(
        tmp_path / "b", [clock(0), batch(1.5), batch(1.9)], files=files, captures=[taken(1.45, 1.8)]
    )
    ingest_bundle(tmp_path, path)
    ((lost, events),) = seen(tmp_path, "captures", "lost", "events")
    assert NAME in lost
    assert events is None or events == 0
    assert seen(tmp_path, "events", "name") == []
    assert seen(tmp_path, "batches", "run_window") == [("transition",), ("baseline",)]
    assert (NAME, "other", 0) in seen(tmp_path, "files", "name", "format", "rows_in")


def test_what_was_read_of_a_damaged_trace_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of it had been converted already: a capture is whole or lost."""
    monkeypatch.setattr(chrome, "PIECE", 2000)
    monkeypatch.setattr(chrome, "ROWS_A_FILE", 10)
    files = {NAME: trace(*(1.5 + number / 7919 for number in range(600)))}
    files[NAME] = files[NAME][: len(files[NAME]) // 2]
    ingest_bundle(
        tmp_path,
        write_bundle(tmp_path / "b", [clock(0), batch(1.5)], files=files, captures=[taken(1.45, 1.8)]),
    )
    assert seen(tmp_path, "events", "name") == []
    assert [NAME in str(lost) for (lost,) in seen(tmp_path, "captures", "lost")] == [True]


def test_calls_of_the_probe_stand_beside_the_trace(tmp_path: Path) -> None:
    """What the probe put into `events` is not lost where there is a trace."""
    call = {
        "type": "call", "pid": 7, "tid": 7, "point": "m:f", "start_mono_ns": at(1.1), "duration_ns": MS,
        "attributes": {},
    }  # fmt: skip
    path = write_bundle(
        tmp_path / "b", [clock(0), batch(1.1), call], files={NAME: trace(1.5)}, captures=[taken(1.45, 1.8)]
    )
    ingest_bundle(tmp_path, path)
    assert sorted(seen(tmp_path, "events", "name")) == [
        ("aten::mm",), ("execute_context_0(0)_generation_1(1)",), ("m:f",)
    ]  # fmt: skip


def test_a_deep_campaign_captures_two_windows(tmp_path: Path) -> None:
    """Over SSH: a server with a profiler, a trace a window in bundle and lake, and none in recovery."""
    spec = parse_spec(spec_of(modes=DEEP, scenarios=["normal"], windows=windows()), "test")
    light, deep = run_all(spec, tmp_path)
    assert [light["cell"]["mode"], deep["cell"]["mode"]] == DEEP
    assert light["captures"] == []
    assert light["engine_key"] != deep["engine_key"]
    assert [(one["window"], one["lost"], len(one["files"])) for one in deep["captures"]] == [
        ("baseline", None, 1), ("fault", None, 1)
    ]  # fmt: skip
    assert {name for one in deep["captures"] for name in one["files"]} < {
        one["name"] for one in deep["files"]
    }
    assert deep["clock"]["uncertainty_ns"] >= 0
    rates = [words[words.index("--hz") + 1] for one in (light, deep) for words in [sampler_of(one)]]
    assert rates == ["10.0", "100.0"]
    ingest_bundle(tmp_path, tmp_path / "bundles/life-1" / deep["run_id"])
    with lake_connection(tmp_path, "life-1") as con:
        captured = con.table("captures").select("iterations", "stalled_ns").fetchall()
        windows_seen = {row[0] for row in con.table("batches").select("run_window").fetchall()}
        (clocks,) = con.table("runs").select("clock_offset_ns", "clock_step_ns").fetchall()
    assert [iterations for iterations, _ in captured] == [20, 20]
    assert all(0.3e9 < stalled < 3e9 for _, stalled in captured)
    assert {"baseline", "fault", "recovery", "transition"} <= windows_seen
    assert (abs(clocks[0]) < 1e9, clocks[1]) == (True, None)
    assert left_running(tmp_path) == []


def sampler_of(manifest: dict[str, Any]) -> list[str]:
    """The command line of the run's sampler."""
    return next(list(one["command"]) for one in manifest["recorders"] if one["name"] == "sampler")


def windows() -> dict[str, float]:
    """Windows as short as they can be."""
    return {"warmup_s": 0.2, "baseline_s": 0.5, "fault_s": 0.5, "recovery_s": 0.5, "deep_iterations": 20}


def test_a_capture_that_is_never_over_is_lost_and_the_run_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profiler does not stop: the bound holds, the manifest says so, the next cell gets a new server."""
    monkeypatch.setattr("tasks.capture.ITERATIONS_S", 0.5)
    deep = {"deepdive": {"export_s": 1.0}}
    given = spec_of("never-writes", modes=[deep], scenarios=["normal"], windows=windows(), repetitions=2)
    manifests = run_all(parse_spec(given, "test"), tmp_path)
    assert [one["status"] for one in manifests] == ["complete", "complete"]
    for manifest in manifests:
        assert all("no answer within 1 s" in one["lost"] for one in manifest["captures"])
    commands = [one["commands"]["engine"] for one in manifests]
    assert commands[0] != commands[1]  # another port: another server
    assert left_running(tmp_path) == []


def test_an_installed_profiler_records_both_windows(tmp_path: Path) -> None:
    """A stand-in of the published system's: its command line has its places filled in, its file is read."""
    program = tmp_path / "profiler.py"
    program.write_text(PUBLISHED)
    command = [sys.executable, str(program), "{output}", "{session}"]
    deep = {"deepdive": {"profiler": {"command": command, "start_s": 0.3}}}
    given = spec_of(modes=[deep], scenarios=["normal"], windows=windows())
    (manifest,) = run_all(parse_spec(given, "test"), tmp_path)
    assert [one["lost"] for one in manifest["captures"]] == [None, None]
    assert "--profiler-config" not in " ".join(manifest["commands"]["engine"])
    ingest_bundle(tmp_path, tmp_path / "bundles/life-1" / manifest["run_id"])
    with lake_connection(tmp_path, "life-1") as con:
        rows = con.table("events").select("file_name", "category", "name", "pid", "source_line").fetchall()
        assert {row[0] for row in con.table("batches").select("run_window").fetchall()} >= {
            "baseline",
            "fault",
        }
    assert [row[0] for row in rows] == [
        "capture-baseline-result.json.gz", "capture-fault-result.json.gz"
    ]  # fmt: skip
    session = rows[0][3]
    assert rows[0][1:] == ("python", "Scheduler.run_batch", session, 12)
    assert session > 1


PUBLISHED = """
import gzip, json, signal, sys, time
def end(*_):
    event = {"ph": "X", "cat": "python", "name": "Scheduler.run_batch", "pid": "host(%s)" % sys.argv[2],
             "tid": "1", "ts": time.time_ns() // 1000, "dur": 5, "args": {"filePath": "s.py", "lineno": 12}}
    with gzip.open(sys.argv[1], "wt") as file:
        json.dump({"traceEvents": [event]}, file)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
time.sleep(60)
"""
