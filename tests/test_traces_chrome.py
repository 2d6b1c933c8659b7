"""Chrome and Kineto traces: every event has its place, exact in time, whatever the form of the file."""

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tasks.lake_tables import lake_connection
from tasks.settings import LprismError
from tasks.traces import chrome
from tasks.traces.registry import UNKNOWN, find, formats, ingest
from tests.foreign_cases import DATA, ROOT, accounts, adds_up_or_is_told, loaded, rejected, rows

RECORDED = sorted((DATA / "traces").rglob("*.json.gz"))
COUNTS = {
    "vllm_cpu_decode_stack_2.5M_events.pt.trace.json.gz": 2_556_173,
    "vllm_tp4_h100_1prefill_9decode.pt.trace.json.gz": 178_812,
}
EVENTS = """
{"ph":"X","cat":"cpu_op","name":"aten::mm","pid":7,"tid":8,"ts":5.001,"dur":1,"args":{"External id":3}},
{"ph":"X","cat":"cuda_runtime","name":"cudaGraphLaunch","pid":7,"tid":8,"ts":6,"dur":1,
 "args":{"correlation":9,"External id":3}},
{"ph":"X","cat":"kernel","name":"gemm","pid":0,"tid":7,"ts":7,"dur":2,"args":{"correlation":9,"device":0,"stream":7}},
{"ph":"X","cat":"kernel","name":"relu","pid":0,"tid":7,"ts":9,"dur":2,"args":{"correlation":9,"device":0,"stream":7}},
{"ph":"X","cat":"kernel","name":"lost","pid":0,"tid":7,"ts":9,"dur":2,"args":{"correlation":10}},
{"ph":"C","cat":"CAT_XPU","name":"gpu_usage","pid":"host(4)","tid":"CAT_XPU_3","ts":7,"args":{"value":99.5}},
{"ph":"C","cat":"CAT_PROCESS","name":"process_cpu_usage_923","pid":"","tid":0,"ts":7,"args":{"value":"12","x":"no"}},
{"ph":"X","cat":"python","name":"Scheduler.run_batch","pid":"host(41)","tid":"t","ts":1,"dur":1,
 "args":{"filePath":"s.py","lineno":88,"args":"{\\"correlation\\": 4}"}},
{"ph":"M","name":"process_name","pid":7,"args":{"name":"worker"}},
{"ph":"X","name":"no dur","pid":1,"tid":1,"ts":1},
{"ph":"X","name":"back","pid":1,"tid":1,"ts":1,"dur":-1},
{"ph":"?","name":"odd","ts":1}
"""


@contextmanager
def trace(path: Path, text: str | bytes) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables after a trace of this text was read, its events in `all_events`."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with read(path) as con:
        yield con


@contextmanager
def read(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables after a trace was read in a folder of its own, its events in `all_events`."""
    with loaded(chrome, path) as con:
        con.read_parquet(str(path.parent / "events-*.parquet")).create_view("all_events")
        yield con


def test_twelve_events_have_their_places(tmp_path: Path) -> None:
    """Launches are linked, counters are rows of their own, what cannot be used says why."""
    head = '{"baseTimeNanoseconds": 1000000000000000000, "traceEvents": ['
    with trace(tmp_path / "t.json", head + EVENTS + "]}") as con:
        columns = (
            "event_index",
            "name",
            "start_ns",
            "duration_ns",
            "correlation",
            "external_id",
            "launch_index",
        )
        second = 1_000_000_000_000_000_000
        assert rows(con, "all_events", *columns) == [
            (0, "aten::mm", second + 5001, 1000, None, 3, None),
            (1, "cudaGraphLaunch", second + 6000, 1000, 9, 3, None),
            (2, "gemm", second + 7000, 2000, 9, 3, 1),
            (3, "relu", second + 9000, 2000, 9, 3, 1),
            (4, "lost", second + 9000, 2000, 10, None, None),
            (7, "Scheduler.run_batch", second + 1000, 1000, 4, None, None),
            (8, "process_name", None, None, None, None, None),
        ]
        places = rows(con, "all_events", "pid", "source_file", "source_line", order="event_index")
        assert places[3:] == [(0, None, None), (0, None, None), (41, "s.py", 88), (7, None, None)]
        assert rows(
            con, "counters", "counter_name", "device", "pid", "value", "start_ns", order="counter_name"
        )[:2] == [
            ("gpu_usage", "GPU 3", 4, 99.5, second + 7000),
            ("process_cpu_usage", None, 923, 12.0, second + 7000),
        ]
        assert rejected(con) == [(9, "no dur"), (10, "negative duration"), (11, "unknown phase")]
        assert accounts(con) == [("t.json", 12, 9, 3)]


FORMS = {
    "bare array": "[%s]",
    "object": '{"schemaVersion": 1, "traceEvents": [%s], "traceName": "x"}',
    "no end": '{"traceEvents": [%s',
    "bare, no end": "[%s",
    "events twice": '{"traceEvents": [], "displayTimeUnit": "ns", "traceEvents": [%s]}',
    "a byte order mark": "\ufeff \n[%s]",
    "a comma too many": "[%s,]",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", [False, True])
def test_the_form_of_the_file_does_not_matter(form: str, packed: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a case
    """Object or array, gzipped whatever its name, with or without its end: the same twelve events."""
    text = (FORMS[form] % EVENTS).encode()
    with trace(tmp_path / "t.json", gzip.compress(text) if packed else text) as con:
        assert accounts(con) == [("t.json", 12, 9, 3)]
        assert chrome.sniff(tmp_path, text)


def test_a_base_time_after_the_events_counts_too(tmp_path: Path) -> None:
    """It is added exactly once, wherever it stands; what was written before it was known is gone."""
    text = '{"traceEvents": [' + EVENTS + '], "baseTimeNanoseconds": "1790857026000000001"}'
    with trace(tmp_path / "t.json", text) as con:
        assert con.table("all_events").aggregate("min(start_ns), count(*)").fetchall() == [
            (1790857026000001001, 7)
        ]
        assert accounts(con) == [("t.json", 12, 9, 3)]


@pytest.mark.parametrize("cut", [1, 30, 48, 80])
def test_a_tail_that_is_cut_off_costs_one_event(cut: int, tmp_path: Path) -> None:
    """The events before it are kept, the broken one is told, and the file is marked."""
    text = '{"traceEvents": [{"ph":"i","name":"a","ts":1},{"ph":"i","name":"b","ts":2},'
    last = (
        '{"ph":"X","cat":"cpu_op","name":"caf\u00e9 \\u00e9","ts":4480482052161.664,"args":{"a":"b","c":[1]}}'
    )
    with trace(tmp_path / "t.json", text.encode() + last.encode()[:cut]) as con:
        assert accounts(con) == [("t.json", 3, 2, 1)]
        assert [reason.partition(",")[0] for _, reason in rejected(con)] == ["cut off"]
        assert json.loads(rows(con, "files", "head")[0][0])["cut_off"] is True


BAD = {
    "empty": (b"", "is empty"),
    "blank": (b"  \n", "is empty"),
    "text": (b"hello", "neither an object nor an array"),
    "no events": (b'{"schemaVersion": 1}', "has no traceEvents"),
    "bad head": (b'{"schemaVersion": 1,, "traceEvents" [', "byte"),
    "deep head": (b'{"a": ' + b"[" * 100_000, "byte"),
    "base": (b'{"baseTimeNanoseconds": "soon", "traceEvents": [{"ph":"i","ts":1}]}', "no time in ns"),
    "cut gzip": (gzip.compress(b'{"traceEvents": [' + EVENTS.encode() * 50)[:-100], "after byte"),
    "no gzip": (b"\x1f\x8b" + b"x" * 100, "after byte"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_trace_is_one_clear_error(case: str, tmp_path: Path) -> None:
    """It names the file, and where."""
    content, said = BAD[case]
    path = tmp_path / 'it\'s; a "trace" ...json'
    path.write_bytes(content)
    with pytest.raises(LprismError, match=said) as raised, read(path):
        pass
    assert str(path) in str(raised.value)
    assert str(raised.value).count("\n") <= 1


def test_an_event_longer_than_any_costs_itself(tmp_path: Path) -> None:
    """A string of 20 MB: bounded in memory, told, and the events after it are read."""
    path = tmp_path / "t.json"
    with path.open("wb") as file:
        file.write(b'[{"ph":"i","name":"a","ts":1},{"ph":"i","ts":1,"name":"')
        for _ in range(20):
            file.write(b"x" * (1 << 20))
        file.write(b'"},{"ph":"i","name":"b","ts":2},{"ph":"i","name":"c","ts":2}]')
    with read(path) as con:
        assert rows(con, "all_events", "name") == [("a",), ("b",), ("c",)]
        assert rejected(con) == [(1, "longer than 16 MiB, at byte 29")]


def test_any_bytes_add_up_or_are_told(tmp_path: Path) -> None:
    """A trace with any of its bytes changed is read, every row accounted for, or refused by name."""
    whole = ('{"schemaVersion": 1, "traceEvents": [' + EVENTS + '], "baseTimeNanoseconds": 5}').encode()
    for number, at in enumerate(range(0, len(whole), 41)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for byte in (b'"', b"}", b"\xff", b"\\", b"")[number % 5 :][:1]:
            (folder / "t.json").write_bytes(whole[:at] + byte + whole[at + 1 :])
            adds_up_or_is_told(chrome, folder / "t.json")


def exact(value: object) -> int | None:
    """A time of us as json gave it, as ns."""
    return None if value is None else int(Decimal(str(value)) * 1000)


@pytest.mark.parametrize(
    "path", [one for one in RECORDED if one.stat().st_size < 4 << 20], ids=lambda path: path.name
)
def test_recorded_traces_are_what_python_reads(path: Path, tmp_path: Path) -> None:
    """Every event of the real files, to the nanosecond: names, ids, arguments, times."""
    whole = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal, parse_constant=str)
    base = int(whole.get("baseTimeNanoseconds", 0))
    shutil.copy(path, tmp_path / path.name)
    wanted = [
        (event["ph"], event.get("name"), event.get("cat"), text(event.get("pid")), text(event.get("tid")),
         None if "ts" not in event else int(exact(event["ts"]) or 0) + base, exact(event.get("dur")))
        for event in whole["traceEvents"]
    ]  # fmt: skip
    with read(tmp_path / path.name) as con:
        found = con.table("all_events").order("event_index")
        columns = ("phase", "name", "category", "process", "thread", "start_ns", "duration_ns")
        assert found.select(*columns).fetchall() == wanted
        args = [json.loads(one) if one else None for (one,) in found.select("args").fetchall()]
        assert args == [plain(event.get("args")) for event in whole["traceEvents"]]
        assert accounts(con) == [(path.name, len(wanted), len(wanted), 0)]


def text(value: object) -> str | None:
    """A pid as it is written."""
    return None if value is None else str(value)


def plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """JSON without decimals, as the standard library would have read it."""
    return json.loads(json.dumps(value, default=float)) if value is not None else None


def test_a_counter_without_a_value_is_set_aside(tmp_path: Path) -> None:
    """No arguments, empty ones, or other than an object: told, and the rest is loaded."""
    odd = ("", ',"args":{}', ',"args":{ }', ',"args":[1]', ',"args":null')
    events = ",".join('{"ph":"C","name":"c","ts":1' + args + "}" for args in odd)
    with trace(tmp_path / "t.json", f"[{events}]") as con:
        assert accounts(con) == [("t.json", 5, 0, 5)]
        assert {reason for _, reason in rejected(con)} == {"a counter without a value"}


def test_a_launch_is_the_first_call_into_the_driver(tmp_path: Path) -> None:
    """Neither another event with the same correlation before it, nor a call after it."""
    calls = (("overhead", 1), ("cuda_runtime", 2), ("cuda_driver", 3), ("kernel", 4))
    events = ",".join(
        json.dumps({"ph": "X", "cat": cat, "name": "n", "ts": ts, "dur": 1, "args": {"correlation": 5}})
        for cat, ts in calls
    )
    with trace(tmp_path / "t.json", f"[{events}]") as con:
        assert rows(con, "all_events", "launch_index", order="event_index")[-1] == (1,)


@pytest.mark.skipif(not RECORDED, reason="the recorded traces are not at hand")
def test_kernels_are_linked_to_their_launches(tmp_path: Path) -> None:
    """Every kernel of the H100 trace has its launch, though a quarter of its flows lack their start."""
    path = next(one for one in RECORDED if "h100" in one.name)
    shutil.copy(path, tmp_path / path.name)
    with read(tmp_path / path.name) as con:
        assert accounts(con) == [(path.name, COUNTS[path.name], COUNTS[path.name], 0)]
        kernels = con.table("all_events").filter("category = 'kernel'")
        assert kernels.aggregate("count(*), count(launch_index)").fetchall() == [(13508, 13508)]
        links = con.sql(
            "SELECT l.category, bool_and(l.correlation = k.correlation) FROM all_events k "
            "JOIN all_events l ON l.event_index = k.launch_index WHERE k.category = 'kernel' GROUP BY ALL"
        )
        assert {category for category, _ in links.fetchall()} <= {"cuda_runtime", "cuda_driver"}


def test_the_same_bytes_are_loaded_once(tmp_path: Path) -> None:
    """Again, under another name, and beside a file that is none: skipped, loaded, told, in this order."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.json").write_text("[" + EVENTS + "]")
    shutil.copy(folder / "a.json", folder / "b.json")
    (folder / "c.txt").write_text("not one of ours")
    (folder / "d.json").write_bytes(b"")
    (folder / "link.json").symlink_to(folder / "a.json")
    home = tmp_path / "home"
    found = list(find(folder))
    assert [(one.path.name, one.problem) for one in found] == [
        ("a.json", ""), ("b.json", ""), ("c.txt", UNKNOWN), ("d.json", "is empty"),
    ]  # fmt: skip
    assert [ingest(home, one).skipped for one in found[:2]] == [False, True]
    assert ingest(home, found[0]).rows == {"counters": 3, "events": 7, "files": 1, "quarantine": 3, "runs": 1}
    with pytest.raises(LprismError, match=r"d\.json: is empty"):
        ingest(home, found[3])
    with lake_connection(home) as con:
        assert con.table("events").aggregate("count(*), count(DISTINCT run_id)").fetchall() == [(7, 1)]
        assert rows(con, "runs", "run_name", "campaign") == [("ingested/a", "ingested")]


def test_every_file_is_known_by_one_format() -> None:
    """No two formats claim one recording."""
    for path in RECORDED:
        head = gzip.decompress(path.read_bytes())[: 64 << 10]
        assert [form.NAME for form in formats() if form.sniff(path, head)] == ["chrome_trace"], path


PEAK = """
import resource, sys
from pathlib import Path
from tasks.traces.registry import find, ingest
(found,) = find(Path(sys.argv[1]))
ingest(Path(sys.argv[2]), found)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kib(path: Path, home: Path) -> int:
    """Peak memory of a process that ingests a file."""
    command = [sys.executable, "-c", PEAK, str(path), str(home)]
    return int(
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, timeout=300).stdout
    )


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Five times the events in at most 1.2 times the memory."""
    lines = ",\n".join(
        json.dumps(
            {
                "ph": "X",
                "cat": "cpu_op",
                "name": f"op{n % 50}",
                "pid": 1,
                "tid": 2,
                "ts": n,
                "dur": 1,
                "args": {"External id": n},
            }
        )
        for n in range(100_000)
    )
    for name, times in (("small.json", 5), ("large.json", 25)):
        with (tmp_path / name).open("w") as file:
            file.write("[" + lines)
            for _ in range(times - 1):
                file.write(",\n" + lines)
            file.write("]")
    small, large = (
        peak_kib(tmp_path / name, tmp_path / f"home-{name}") for name in ("small.json", "large.json")
    )
    assert large <= 1.2 * small
