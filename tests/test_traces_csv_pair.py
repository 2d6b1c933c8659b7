"""The CSV pair: events and counters from text, times exact, damaged rows set aside alone."""

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.settings import LprismError
from tasks.traces import csv_pair
from tests.foreign_cases import accounts, adds_up_or_is_told, loaded, rejected, rows, written

HOST, STREAM = "gpu-7(1234)", "stream 9 device:3"
MICRO = "name,cat,ph,pid,tid,ts,dur,args"
MACRO = "name,category,timestamp,value,hostname"
LOCATED = "name,category,timestamp,value,loc1,loc1_type,loc2,loc2_type,loc3,loc3_type"


def row(*fields: object) -> str:
    """A CSV row; what needs quotes gets them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()


def test_ten_events(tmp_path: Path) -> None:
    """Every phase but counters in `events`, kernels with their launch, rows of counters in `counters`."""
    nested = json.dumps({"correlation": 7, "args": json.dumps({"device": 3, "stream": 9})})
    path = written(tmp_path / "micro_event.csv", ["\ufeff" + MICRO,
        row("Scheduler.run_batch", "python", "X", "gpu-7(1234)", 42, "1764000000000000.125", "1500.001",
            '{"filePath": "a.py", "lineno": 12}'),
        row("cudaLaunchKernel", "cuda_runtime", "X", 1234, 42, "1764000000000001", 5, '{"correlation": 7}'),
        row('gemm, "fast"', "Kernel", "X", "gpu-7(1234)", STREAM, 1764000000000002, .5, nested),
        row("gpu_usage", "CAT_XPU", "C", "gpu-7(99)", "CAT_XPU_3", 1764000000000003, "", '{"value": 87.5}'),
        row("memory", "CAT_MEMORY", "C", "", "", 1764000000000004, "", '{"used": 1, "free": "2"}'),
        row("process_name", "", "M", 1234, "", "", "", '{"name":\n"engine"}'),
        row("launch", "ac2g", "s", 1234, 42, "1.764e15", "", ""),
        row("oncpu", "CAT_CPU", "X", "", "", "1764000000000005", -1, ""),
    ], end=b"\r\n")  # fmt: skip
    assert csv_pair.sniff(path, path.read_bytes())
    with loaded(csv_pair, path) as con:
        columns = "event_index phase category name process pid thread tid start_ns duration_ns"
        assert rows(con, "events", *columns.split(), order="event_index") == [
            (0, "X", "python", "Scheduler.run_batch", HOST, 1234, "42", 42, 1764000000000000125, 1500001),
            (1, "X", "cuda_runtime", "cudaLaunchKernel", "1234", 1234, "42", 42, 1764000000000001000, 5000),
            (2, "X", "Kernel", 'gemm, "fast"', HOST, 1234, STREAM, None, 1764000000000002000, 500),
            (5, "M", None, "process_name", "1234", 1234, None, None, None, None),
            (6, "s", "ac2g", "launch", "1234", 1234, "42", 42, 1764000000000000000, None),
        ]  # fmt: skip
        columns = "correlation device stream source_file source_line launch_index"
        assert rows(con, "events", *columns.split(), order="event_index")[:3] == [
            (None, None, None, "a.py", 12, None), (7, None, None, None, None, None), (7, 3, 9, None, None, 1),
        ]  # fmt: skip
        columns = "sample_index counter_name device pid value hostname start_ns"
        assert rows(con, "counters", *columns.split(), order="ALL") == [
            (3, "gpu_usage", "GPU 3", 99, 87.5, "gpu-7", 1764000000000003000),
            (4, "memory.free", "Host", None, 2, None, 1764000000000004000),
            (4, "memory.used", "Host", None, 1, None, 1764000000000004000),
        ]
        assert rejected(con) == [(10, "negative duration")]
        assert accounts(con) == [("micro_event.csv", 8, 7, 1)]


def test_counters_by_host(tmp_path: Path) -> None:
    """Devices are not told there; a process stands in the name."""
    path = written(tmp_path / "macro_counter.csv", [MACRO,
        row("process_cpu_usage_923229", "CAT_PROCESS", "1764000000000000.5", "12.5", "gpu-7"),
        row("host_cpu_usage", "CAT_CPU", "1764000000000000", "1e-3", ""),
        row("gpu_usage", "CAT_XPU", "1764000000000000", "100", "gpu-7"),
    ])  # fmt: skip
    with loaded(csv_pair, path) as con:
        columns = "sample_index start_ns counter_name device pid value hostname duration_ns"
        assert rows(con, "counters", *columns.split(), order="sample_index") == [
            (0, 1764000000000000500, "process_cpu_usage", None, 923229, 12.5, "gpu-7", None),
            (1, 1764000000000000000, "host_cpu_usage", "Host", None, 0.001, None, None),
            (2, 1764000000000000000, "gpu_usage", None, None, 100, "gpu-7", None),
        ]


def test_counters_by_location(tmp_path: Path) -> None:
    """A location names the host, the process or the device; in any order."""
    path = written(tmp_path / "macro_counter.csv", [LOCATED,
        row("gpu_usage", "CAT_XPU", 1, 50, "3", "CAT_XPU", "gpu-7", "CAT_HOST", "", ""),
        row("gpu_usage", "CAT_XPU", 1, 50, "gpu-7", "CAT_HOST", "CAT_XPU_4", "CAT_XPU", "77", "CAT_PROCESS"),
        row("net_rx", "CAT_NET", 1, 50, "gpu-7", "CAT_HOST", "eth0", "CAT_NET", "", ""),
        row("cpu_frequency", "CAT_CPU", 1, 50, "gpu-7", "CAT_HOST", "12", "CAT_CPU", "", ""),
        row("host_mem_usage", "CAT_MEMORY", 1, 50, "gpu-7", "CAT_HOST", "", "", "", ""),
        row("process_mem_rss", "CAT_PROCESS", 1, 50, "gpu-7(1234)", "CAT_PROCESS", "", "", "", ""),
    ])  # fmt: skip
    with loaded(csv_pair, path) as con:
        columns = "sample_index device pid hostname"
        assert rows(con, "counters", *columns.split(), order="sample_index") == [
            (0, "GPU 3", None, "gpu-7"), (1, "GPU 4", 77, "gpu-7"), (2, "eth0", None, "gpu-7"),
            (3, "CPU 12", None, "gpu-7"), (4, "Host", None, "gpu-7"), (5, None, 1234, None),
        ]  # fmt: skip


def test_the_pair_is_one_run(tmp_path: Path) -> None:
    """A folder, and either of its files, stand for both; a file of another name for itself."""
    micro = written(tmp_path / "micro_event.csv", [MICRO, row("a", "", "i", "", "", 1, "", "")])
    (tmp_path / "macro_counter.csv.gz").write_bytes(gzip.compress(f"{MACRO}\nx,,1,2,\n".encode()))
    alone = written(tmp_path / "other.csv", [MACRO, row("a", "CAT_CPU", 1, 2, "")])
    # What else the folder holds is somebody else's: no format but that of a whole folder may claim one.
    assert not csv_pair.sniff(tmp_path, b"")
    names = [
        [file.name for file in csv_pair.sources(path)[0].files]
        for path in (tmp_path, micro, tmp_path / "macro_counter.csv.gz", alone)
    ]
    assert names == [["micro_event.csv", "macro_counter.csv.gz"]] * 3 + [["other.csv"]]
    with loaded(csv_pair, tmp_path) as con:
        assert accounts(con) == [("micro_event.csv", 1, 1, 0), ("macro_counter.csv.gz", 1, 1, 0)]
        assert len(con.table("events")) == len(con.table("counters")) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "empty line"),
        ("a,b", "2 fields, not 8"),
        (b"a,\xff,X,1,1,1,1,", "not UTF-8"),
        ('a,b,X,1,1,1,1,"{', "a quote is not closed"),
        ('a,b,X,1,1,1,1,"{}"x', "not CSV: ',' expected after '\"'"),
        (row("a", "b", "", 1, 1, 1, 1, ""), "no phase"),
        (row("a", "b", "Q", 1, 1, 1, 1, ""), "unknown phase"),
        (row("a", "b", "X", 1, 1, "", 1, ""), "no ts"),
        (row("a", "b", "X", 1, 1, "nan", 1, ""), "ts is no time in us"),
        (row("a", "b", "X", 1, 1, "9" * 19, 1, ""), "ts is no time in us"),
        (row("a", "b", "X", 1, 1, 1, "", ""), "no dur"),
        (row("a", "b", "X", 1, 1, 1, "inf", ""), "dur is no time in us"),
        (row("a", "b", "X", 1, 1, 1, "-0.001", ""), "negative duration"),
        (row("a", "b", "X", 1, 1, 1, 1, "{'a': 1}"), "args is not JSON"),
        (row("a", "b", "X", 1, 1, 1, 1, "[1]"), "args is no JSON object"),
        (row("a", "b", "C", 1, 1, 1, "", ""), "a counter without a value"),
        (row("a", "b", "C", 1, 1, 1, "", '{"value": "NaN"}'), "a counter without a value"),
        (row("a", "b", "C", 1, 1, 1, "", "{}"), "a counter without a value"),
    ],
)  # fmt: skip
def test_an_event_that_is_rejected(tmp_path: Path, line: str | bytes, reason: str) -> None:
    """Alone, with its line: the rows before and after it are kept, also after a quote that nothing closes."""
    before, after = ([row(n, "b", "X", 1, 1, 1, 1, '{"a": "b"}') for n in range(m, m + 70)] for m in (0, 71))
    path = written(tmp_path / "micro_event.csv", [MICRO, *before, line, *after])
    with loaded(csv_pair, path) as con:
        assert rejected(con) == [(72, reason)]
        assert accounts(con) == [("micro_event.csv", 141, 140, 1)]
        places = rows(con, "events", "event_index", "name", order="event_index")
        assert places == [(n, str(n)) for n in range(141) if n != 70]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (("", "CAT_CPU", 1, 2, ""), "no name"),
        (("a", "CAT_CPU", "", 2, ""), "timestamp is no time in us"),
        (("a", "CAT_CPU", 1, "", ""), "value is no number"),
        (("a", "CAT_CPU", 1, "nan", ""), "value is no number"),
        (("a", "CAT_CPU", 1, "1e999", ""), "value is no number"),
    ],
)
def test_a_sample_that_is_rejected(tmp_path: Path, fields: tuple[object, ...], reason: str) -> None:
    """With its line and its text."""
    path = written(tmp_path / "macro_counter.csv", [MACRO, row("a", "CAT_CPU", 1, 2, ""), row(*fields)])
    with loaded(csv_pair, path) as con:
        assert rows(con, "quarantine", "line_number", "reason", "raw_text") == [(3, reason, row(*fields))]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: it has not even a header"),
        (b"name,cat,ph,pid\n", "line 1: there is no column dur, ts"),
        (b"name,ph,ts,dur,ts\n", "line 1: two columns have the same name"),
        (b"\xff\xfe\n", "line 1: there is no column dur, name, ph, ts"),
        (b"\x1f\x8b\x08", "after line 0: "),
    ],
)
def test_a_header_that_is_wrong(tmp_path: Path, content: bytes, said: str) -> None:
    """One error that names the file, the line and what is missing."""
    path = tmp_path / "micro_event.csv"
    path.write_bytes(content)
    with pytest.raises(LprismError, match=rf"micro_event\.csv.*{said}"), loaded(csv_pair, path):
        pass


def test_a_header_alone_is_no_error(tmp_path: Path) -> None:
    """Nothing was recorded; columns that are not known are kept beside."""
    with loaded(csv_pair, written(tmp_path / "micro_event.csv", [MICRO])) as con:
        assert accounts(con) == [("micro_event.csv", 0, 0, 0)]
    path = written(tmp_path / "micro_event.csv", ["dur,ts,ph,name,note", '1,2,X,a,"b"'])
    with loaded(csv_pair, path) as con:
        assert rows(con, "events", "name", "start_ns", "duration_ns", "extra", "category") == [
            ("a", 2000, 1000, '{"note": "b"}', None)
        ]


def test_other_tables_are_not_claimed() -> None:
    """The published tables, the topology and JSON are other formats."""
    headers = [
        "", "counter_name,timestamp (us),value,hostname", '{"name": 1, "ph": 2, "ts": 3, "dur": 4}',
        "name,life_time,category,uuid,type,rank,position,loc1,loc1_type,inventory,details", "name,value", '"',
    ]  # fmt: skip
    assert [csv_pair.sniff(Path("x.csv"), header.encode()) for header in headers] == [False] * 6


GOOD = "\n".join(
    [MICRO, row("a", "b", "X", 1, 1, 1, 1, "{}"), row("a", "b", "C", 1, 1, 1, 1, '{"v": 1}'), ""]
).encode()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD)),
            st.binary(max_size=4)
            | st.sampled_from([b'"', b"\n", b",", b"9" * 40, b"-", b"e99", b'"{""args"":']),
            st.integers(0, 3),
        ),
        max_size=4,
    )
)
def test_any_bytes(changes: list[tuple[int, bytes, int]]) -> None:
    """Either the account adds up or one error names the file."""
    content = GOOD
    for at, more, end in changes:
        content = content[:at] + more + content[at + end :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "micro_event.csv"
        path.write_bytes(content)
        adds_up_or_is_told(csv_pair, path)
