"""Export for Perfetto: the format, the time line, names that want to break it, and a run that is large."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasks.cli import main
from tasks.deepdive.cycles import divide_run
from tasks.lake import write_part
from tasks.pages.perfetto import Exported, export_trace
from tasks.settings import LprismError
from tasks.traces.bundle import ingest_bundle
from tasks.traces.registry import find, ingest
from tasks.warehouse import create_table, memory_connection
from tests.test_capture import NAME, taken
from tests.tree import ROOT
from tests.warehouse_cases import (
    CAMPAIGN,
    EFFECT,
    FAULT_CELL,
    MARKS,
    MS,
    OFFSET,
    RUN,
    at,
    batch,
    clock,
    jsonl,
    sample,
    write_bundle,
)

HOSTILE = 'a"b\\c\nd\te\x00f</script>\u2028{{é☃'
FIELDS = {
    "X": {"name", "ph", "cat", "pid", "tid", "ts", "dur", "args"},
    "C": {"name", "ph", "cat", "pid", "tid", "ts", "args"},
    "M": {"name", "ph", "pid", "tid", "ts", "args"},
    "s": {"name", "ph", "cat", "pid", "tid", "ts", "id", "bp", "args"},
    "f": {"name", "ph", "cat", "pid", "tid", "ts", "id", "bp", "args"},
    "i": {"name", "ph", "cat", "pid", "tid", "ts", "s", "args"},
}


def deep_run(folder: Path) -> Path:
    """A run with a fault, batches, counters, a call of the probe and a trace with everything odd in it."""
    label = {"ph": "X", "cat": "user_annotation", "name": "execute_context_0(0)_generation_1(1)", "pid": 7}
    kernel = {"ph": "X", "cat": "kernel", "name": HOSTILE, "pid": 0, "tid": 7, "dur": 100.001}
    events = [
        {"ph": "X", "cat": "cpu_op", "name": "in", "pid": 7, "tid": 7, "ts": at(1.5) / 1e3 + 1, "dur": 0.5},
        {**label, "tid": 7, "ts": at(1.5) / 1e3 + 0.25, "dur": 1000.125},
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 7, "tid": 7, "ts": at(1.5) / 1e3 + 1,
         "dur": 900, "args": {"External id": 1, HOSTILE: HOSTILE}},
        {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 7, "tid": 7,
         "ts": at(1.5) / 1e3 + 2, "dur": 5, "args": {"correlation": 3}},
        {**kernel, "ts": at(1.5) / 1e3 + 10, "args": {"correlation": 3, "device": 0, "stream": 7}},
        {"ph": "s", "id": 3, "cat": "ac2g", "name": "ac2g", "pid": 7, "tid": 7, "ts": at(1.5) / 1e3 + 2},
        {"ph": "f", "id": 3, "bp": "e", "cat": "ac2g", "name": "ac2g", "pid": 0, "tid": 7,
         "ts": at(1.5) / 1e3 + 10},
        {"ph": "X", "cat": "Trace", "name": "PyTorch Profiler (0)", "pid": "Spans", "tid": "PyTorch Profiler",
         "ts": at(1.5) / 1e3, "dur": 2000},
        {"ph": "i", "name": "Record Window End", "pid": "", "tid": "", "ts": at(1.502) / 1e3, "s": "g"},
        {"ph": "M", "name": "process_name", "pid": 7, "tid": 0, "ts": 0, "args": {"name": "python"}},
    ]  # fmt: skip
    whole = {"schemaVersion": 1, "baseTimeNanoseconds": OFFSET, "traceEvents": events}
    call = {
        "type": "call", "pid": 7, "tid": 7, "point": HOSTILE, "start_mono_ns": at(1.1), "duration_ns": MS,
        "attributes": {HOSTILE: HOSTILE},
    }  # fmt: skip
    values: list[list[object]] = [
        ["cpu_usage", "CPU 0", None, None, 50.5],
        ["other_process_cpu_usage", "Host", 9, HOSTILE, 7],
    ]
    return write_bundle(
        folder,
        [clock(0), batch(1.1), batch(1.5, 2.0), batch(4.1), batch(7.6), batch(7.605), batch(7.7), call],
        [clock(0), sample(1.0, *values), sample(4.5, *values)],
        {NAME: gzip.compress(json.dumps(whole).encode()), "slices.jsonl": jsonl(slices())},
        MARKS, cell=FAULT_CELL, effect=EFFECT,
        captures=[taken(1.45, 1.8)],
    )  # fmt: skip


def slices() -> list[dict[str, Any]]:
    """A thread of the engine on a CPU, then in the queue while another ran, then on it; and a loss."""
    about = {"type": "slices", "pid": 7, "tid": 7, "name": HOSTILE[:9]}
    oncpu = [[at(1.5), MS, 0, "R"], [at(1.503), MS, 0, "S"]]
    return [
        clock(0),
        {**about, "kind": "oncpu", "values": oncpu},
        {**about, "kind": "runq", "values": [[at(1.501), 2 * MS, 0, "R", 99, 99, HOSTILE, MS]]},
        {"type": "lost", "cpu": 0, "events": 5, "mono_ns": at(1.6), "last_mono_ns": at(1.55)},
    ]


def exported(home: Path, *arguments: Any) -> tuple[Exported, dict[str, Any]]:  # noqa: ANN401 - of export_trace
    """Export the run, and read the file as any program would."""
    done = export_trace(home, RUN, home / "out.json.gz", *arguments)
    return done, json.loads(gzip.decompress(done.path.read_bytes()))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose lake has the run."""
    ingest_bundle(tmp_path, deep_run(tmp_path / "bundles" / CAMPAIGN / RUN))
    return tmp_path


def track_names(events: list[dict[str, Any]]) -> dict[tuple[int, int], str]:
    """Names of processes (tid -1) and threads."""
    return {
        (e["pid"], -1 if e["name"] == "process_name" else e["tid"]): e["args"]["name"]
        for e in events
        if e["name"] in ("process_name", "thread_name")
    }


def test_every_event_has_its_fields_and_numbers_are_numbers(home: Path) -> None:
    """Phases, fields, whole ids, times of 0 or more in order; every thread and process is named once."""
    done, whole = exported(home)
    events = whole["traceEvents"]
    for event in events:
        assert set(event) == FIELDS[event["ph"]], event
        assert all(isinstance(event[key], int) for key in ("pid", "tid"))
        assert all(isinstance(event[key], int | float) for key in ("ts", "dur") if key in event)
        assert isinstance(event["args"], dict)
        assert event["ts"] >= 0
        assert event.get("dur", 0) >= 0
    timed = [event for event in events if event["ph"] != "M"]
    assert [e["ts"] for e in timed] == sorted(e["ts"] for e in timed)
    names = track_names(events)
    assert {(e["pid"], e["tid"]) for e in timed if e["ph"] != "C"} <= set(names)
    assert {(e["pid"], -1) for e in timed} <= set(names)
    heads = Counter((e["pid"], e["tid"], e["name"]) for e in events if e["ph"] == "M")
    assert set(heads.values()) == {1}
    assert sum(done.events.values()) == len(timed)
    assert whole["otherData"]["run_id"] == RUN
    assert whole["displayTimeUnit"] == "ns"


def test_everything_lies_on_one_time_line(home: Path) -> None:
    """Each source's moments are those of the recording, to the nanosecond, from its start."""
    _, whole = exported(home)
    assert whole["otherData"]["origin_ns"] == OFFSET
    times = {event["name"]: (event["ts"], event.get("dur")) for event in whole["traceEvents"]}
    assert times["baseline"] == (1_000_000.0, 1_000_000.0)
    assert times["fault window"] == (4_000_000.0, 1_000_000.0)
    assert times["cpu_quota"] == (3_000_000.0, 3_000_000.0)
    assert times["execute_context_0(0)_generation_1(1)"] == (1_500_000.25, 1000.125)
    assert times["decode 1"] == (7_700_000.0, 10_000.0)
    assert times["capture-baseline"] == (1_450_000.0, 350_000.0)
    assert times["cpu_usage CPU 0"] == (4_400_000.0, None)
    batch_of = [e for e in whole["traceEvents"] if e.get("cat") == "batch" and e["args"]["batch_index"] == 1]
    assert batch_of[0]["args"]["start_ns"] == at(1.5) + OFFSET
    assert batch_of[0]["args"]["run_window"] == "transition"


def test_what_a_batch_did_lies_inside_it(home: Path) -> None:
    """Label, operator and kernel are within their batch's span, on tracks of their own."""
    _, whole = exported(home)
    events = whole["traceEvents"]
    (step,) = [e for e in events if e.get("cat") == "batch" and e["args"]["batch_index"] == 1]
    inner = [e for e in events if e.get("cat") in ("user_annotation", "cpu_op", "cuda_runtime", "kernel")]
    assert len(inner) == 5
    for event in inner:
        assert step["ts"] <= event["ts"]
        assert event["ts"] + event["dur"] <= step["ts"] + step["dur"]
        assert event["pid"] != step["pid"]
    names = track_names(events)
    named = {e["cat"]: (names[e["pid"], -1], names[e["pid"], e["tid"]]) for e in inner}
    assert named["cpu_op"] == ("pid 7", "thread 7")
    assert named["kernel"] == ("GPU 0", "stream 7")


def test_slices_of_one_thread_nest(home: Path) -> None:
    """Perfetto drops a slice that overlaps another of its thread at one end."""
    _, whole = exported(home)
    by_thread: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in whole["traceEvents"]:
        if event["ph"] == "X":
            by_thread.setdefault((event["pid"], event["tid"]), []).append(
                (event["ts"], event["ts"] + event["dur"])
            )
    for spans in by_thread.values():
        open_until: list[float] = []
        for start, end in spans:
            while open_until and open_until[-1] <= start:
                open_until.pop()
            assert not open_until or end <= open_until[-1]
            open_until.append(end)


def test_names_that_want_to_break_the_file_are_only_names(home: Path) -> None:
    """Quotes, newlines, markup and NUL come back as they went in, in names and in arguments."""
    _, whole = exported(home)
    named = [e for e in whole["traceEvents"] if HOSTILE in e["name"]]
    assert {e.get("cat") for e in named} == {"kernel", "probe", "counter", "sched"}
    (call,) = [e for e in named if e["cat"] == "probe"]
    assert call["args"] == {HOSTILE: HOSTILE}


def test_a_thread_is_on_a_cpu_or_waits_for_one(home: Path) -> None:
    """Slices of the scheduler on the same time line, on tracks of their own, with who ran instead."""
    done, whole = exported(home)
    names = track_names(whole["traceEvents"])
    found = [e for e in whole["traceEvents"] if e.get("cat") == "sched"]
    assert [(e["name"], e["ts"], e["dur"]) for e in found] == [
        ("on CPU 0", 1_500_000.0, 1000.0),
        (f"in the queue of CPU 0, instead {HOSTILE}", 1_501_000.0, 2000.0),
        ("on CPU 0", 1_503_000.0, 1000.0),
        ("events were lost", 1_550_000.0, 50_000.0),
    ]
    assert {names[e["pid"], -1] for e in found} == {"scheduler, pid 7", "scheduler, losses"}
    assert found[1]["args"]["instead_pid"] == 99
    assert done.events["scheduler_slices"] == 4


def test_flows_lead_from_the_launch_to_the_kernel(home: Path) -> None:
    """Both ends have one id, which names their file: two captures may use the same number."""
    _, whole = exported(home)
    start, end = (next(e for e in whole["traceEvents"] if e["ph"] == phase) for phase in "sf")
    assert start["id"] == end["id"] == f"{NAME} 3"


@pytest.mark.parametrize(("window", "batches"), [("baseline", 2), ("fault", 1), ("recovery", 3)])
def test_a_window_alone_is_what_overlaps_it(window: str, batches: int, home: Path) -> None:
    """Times stay those of the whole run."""
    done, whole = exported(home, window)
    assert done.events["batches"] == batches
    assert whole["otherData"]["origin_ns"] == OFFSET


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("r00000000ff", "there is no run r00000000ff"),
        (f"{CAMPAIGN}/sglang", f"there is no run {CAMPAIGN}/sglang"),
        ("../x", "is no name"),
        (f"{CAMPAIGN}/vllm", "2 runs are called"),
    ],
)
def test_a_run_that_is_not_meant_clearly_is_refused(run: str, said: str, home: Path) -> None:
    """None of that name, or more than one; nothing is written."""
    ingest_bundle(home, write_bundle(home / "other", [clock(0), batch(1.1)], run_id="r00000000aa"))
    with pytest.raises(LprismError, match=said):
        export_trace(home, run, home / "x.json.gz")
    assert not list(home.glob("*x.json.gz*"))


def test_a_run_is_known_by_its_name(home: Path) -> None:
    """campaign/engine/scenario/workload, or as much of it as only one run has."""
    for name in (f"{CAMPAIGN}/vllm/cpu_quota/in32_out64_conc4", f"{CAMPAIGN}/vllm/cpu_quota", CAMPAIGN):
        assert export_trace(home, name, home / "y.json.gz").run_id == RUN


def test_a_window_that_a_run_does_not_have_is_refused(tmp_path: Path) -> None:
    """A trace of somebody else has no windows; as a whole it is exported."""
    trace = tmp_path / "theirs.json"
    event = {"ph": "X", "name": "f", "pid": 1, "tid": 2, "ts": 5, "dur": 1}
    trace.write_text(json.dumps({"traceEvents": [event]}))
    (found,) = find(trace)
    run_id = ingest(tmp_path, found).run_id
    with pytest.raises(LprismError, match="has no fault window"):
        export_trace(tmp_path, run_id, tmp_path / "x.json.gz", "fault")
    done = export_trace(tmp_path, run_id, tmp_path / "x.json.gz")
    assert done.events["events"] == 1


def test_a_place_that_cannot_be_written_is_named(home: Path) -> None:
    """No half file is left."""
    with pytest.raises(LprismError, match=r"out\.json\.gz cannot be written: No such file or directory"):
        export_trace(home, RUN, home / "no/such/out.json.gz")


def test_the_command_says_what_it_wrote(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line for people, an object for programs."""
    words = ["export-trace", RUN, "--home", str(home), "--out", str(home / "z.json.gz")]
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["lprism", *words, *more])
        with pytest.raises(SystemExit) as end:
            main.run()
        assert end.value.code == 0
    line, _, told = capsys.readouterr().out.partition("\n")
    assert line.endswith("10 events, 4 counters; open it at ui.perfetto.dev")
    assert json.loads(told)["events"]["batches"] == 6


LARGE = """
import resource, sys
from pathlib import Path
from tasks.pages.perfetto import export_trace
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
done = export_trace(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
print(sum(done.events.values()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    """Eight times the events take little more memory: rows go through, and are not kept."""
    peaks = []
    for number, count in enumerate((50_000, 400_000)):
        path = tmp_path / f"trace{number}.json.gz"
        events = (
            f'{{"ph":"X","cat":"cpu_op","name":"op{i % 99}","pid":7,"tid":{i % 4},"ts":{i},"dur":1,'
            f'"args":{{"External id":{i}}}}}'
            for i in range(count)
        )
        path.write_bytes(gzip.compress(('{"traceEvents":[' + ",".join(events) + "]}").encode(), 1))
        (found,) = find(path)
        run_id = ingest(tmp_path, found).run_id
        command = [sys.executable, "-c", LARGE, str(tmp_path), run_id, str(tmp_path / "out.json.gz")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
        events_written, peak_kib = map(int, done.stdout.split())
        assert events_written == count
        peaks.append(peak_kib / 1024)
    assert peaks[1] < peaks[0] + 400


def test_cycles_and_alarms_are_on_the_time_line(home: Path) -> None:
    """A captured step is a cycle beside its batch; incidents and alarms lie above."""
    done = divide_run(home, RUN)
    assert (done.cycles, done.anchors) == (1, ("step label",))
    with memory_connection() as con:
        for table, rows in (
            ("incidents", {"incident_index": 0, "start_ns": at(1.5) + OFFSET, "end_ns": at(1.9) + OFFSET}),
            ("batch_scores", {"batch_index": 1, "start_ns": at(1.5) + OFFSET, "alarm": True}),
        ):
            create_table(con, table)
            con.table(table).insert([{"run_id": RUN, **rows}.get(name) for name in con.table(table).columns])
            write_part(con, table, home, CAMPAIGN, "all")
    exports, whole = exported(home)
    found = {e["cat"]: e for e in whole["traceEvents"] if e.get("cat") in ("cycle", "incident", "alarm")}
    assert {cat: (e["name"], e["ts"], e.get("dur")) for cat, e in found.items()} == {
        "cycle": ("decode 1", 1_500_000.25, 1000.125), "incident": ("incident 0", 1_500_000.0, 400_000.0),
        "alarm": ("alarm", 1_500_000.0, None),
    }  # fmt: skip
    assert (found["cycle"]["args"]["batch_index"], found["cycle"]["args"]["run_window"]) == (1, "baseline")
    names = track_names(whole["traceEvents"])
    assert {names[e["pid"], e["tid"]] for e in found.values()} == {"pid 7", "incidents", "alarms"}
    assert exports.events["cycles"] == 1


def test_a_cycle_of_a_window_lies_on_the_track_of_its_process(home: Path) -> None:
    """Of two processes only the second has a cycle in the window: its track bears its own name."""
    with memory_connection() as con:
        create_table(con, "cycles")
        for pid, second in ((7, 1.5), (9, 4.5)):
            cycle = {"run_id": RUN, "pid": pid, "start_ns": at(second) + OFFSET, "duration_ns": MS}
            con.table("cycles").insert([cycle.get(name) for name in con.table("cycles").columns])
        write_part(con, "cycles", home, CAMPAIGN, "all")
    _, whole = exported(home, "fault")
    (cycle,) = [e for e in whole["traceEvents"] if e.get("cat") == "cycle"]
    assert track_names(whole["traceEvents"])[cycle["pid"], cycle["tid"]] == "pid 9"
