"""The published data: hand-made tables of a few rows, then the real files with every value compared."""

import csv
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.settings import LprismError
from tasks.traces.load import Source, insert_row
from tasks.traces.published import fill, sniff, sources
from tasks.warehouse import create_table, memory_connection
from tests.tree import ROOT

if TYPE_CHECKING:
    import duckdb

DATA = ROOT.parent / "shared" / "data" / "latencyprism"
TABLES = (
    "runs", "files", "quarantine", "function_usage", "counters", "batches", "published_comparison",
    "published_curves", "devices",
)  # fmt: skip
USAGE = (
    "cycle,pid,hostname,beta_pct,function_name,metric_name,device,func_type,mu_pct,sigma_pct,duration,"
    "interpolation_status,anchor_name,anchor_dur_us,cycle_start_ts,instances_count,simple_name\r\n"
)
COUNTERS = "counter_name,timestamp,value,hostname\r\n"
VLLM = (
    "job_name,start_ts,duration_us,batch_size,avg_input_length,max_input_length,avg_output_length,"
    "max_output_length\r\n"
)
SGLANG = (
    "duration_us,compute_batch_size,compute_avg_input_length,compute_max_input_length,"
    "compute_avg_output_length,compute_max_output_length,post_batch_size,post_avg_input_length,"
    "post_max_input_length,post_avg_output_length,post_max_output_length,compute_forward_mode,"
    "post_forward_mode,job_name,start_ts\r\n"
)
COMPARISON = (
    "Function Name,Metric Name,Device,Suspicion Score,β_normal(%),β_abnormal(%),Δβ(%),Z-Score(β),p-value(β),"
    "U-test p(β),μ_normal,μ_abnormal,Δμ,Z-Score(μ),Z-Score(log_μ),p-value(μ),U-test p(μ)\r\n"
)
CURVE = "\ufeffSize,MAPE,% in 10%,Coverage,MAPE_train,% in 10%_train\r\n"
TOPOLOGY = (
    "name,life_time,category,uuid,type,rank,position,loc1,loc1_type,loc2,loc2_type,loc3,loc3_type,config,"
    "inventory,details\r\n"
)
HEADERS = [USAGE, COUNTERS, VLLM, SGLANG, COMPARISON, CURVE, TOPOLOGY]


@contextmanager
def filled(path: Path) -> Iterator["duckdb.DuckDBPyConnection"]:
    """The tables of the lake with the one run that the path holds."""
    [source] = sources(path)
    with memory_connection() as con:
        for table in TABLES:
            create_table(con, table)
        run = {**source.facts, "run_id": "r1", "campaign": source.campaign, "run_name": source.run_name}
        insert_row(con, "runs", run)
        fill(con, source, path.parent)
        yield con


def rows_of(path: Path, table: str, columns: str) -> list[tuple[Any, ...]]:
    """Some columns of a table after a load, in the order of insertion."""
    with filled(path) as con:
        return con.table(table).select(*columns.split()).fetchall()


def write(path: Path, text: str | bytes) -> Path:
    """A file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_usage_table_becomes_function_usage(tmp_path: Path) -> None:
    """Times are exact in ns, no counter is NULL, the marks of interpolation can be read."""
    path = write(tmp_path / "usage.csv", USAGE + (
        "1,42,,162.0961,oncpu,cpu_frequency,Host,oncpu,87.3432,0.0093,1023134.5670,*,S.run,631190.0001,"
        "1763013921174589.5000,107490,oncpu\r\n"
        '1,42,h1,26.8018,"void f<a, 2>(int)",N/A,GPU 7,gpu_compute,,,0.0010, ,S.run,631190.0001,'
        "1763013921174589.7510,3,f\r\n"
        "2,42,h1,0.0000,g,gpu_usage,GPU 7,gpu_compute,6.3200,0.0000,9007199254740.9930,**,S.run,1.0000,"
        "1763013921174590.0010,1,g\r\n"
    ))  # fmt: skip
    told = (
        "hostname pid cycle_index cycle_start_ns anchor_duration_ns function_name simple_name function_class"
        " device metric_name beta_pct mu_pct sigma_pct duration_ns instances interpolated"
    )
    assert rows_of(path, "function_usage", told) == [
        (None, 42, 1, 1763013921174589500, 631190000, "oncpu", "oncpu", "oncpu", "Host",
         "cpu_frequency", 162.0961, 87.3432, 0.0093, 1023134567, 107490, "some"),
        ("h1", 42, 1, 1763013921174589751, 631190000, "void f<a, 2>(int)", "f", "gpu_compute", "GPU 7",
         None, 26.8018, None, None, 1, 3, None),
        ("h1", 42, 2, 1763013921174590001, 1000, "g", "g", "gpu_compute", "GPU 7",
         "gpu_usage", 0.0, 6.32, 0.0, 9007199254740993, 1, "all"),
    ]  # fmt: skip


def test_a_counters_table_becomes_counters(tmp_path: Path) -> None:
    """A pid leaves the name however it is written; samples of several devices under one name stay apart."""
    path = write(tmp_path / "counters.csv", COUNTERS + (
        "process_cpu_usage_4013652,1763013925014069.500000,110.876000,\r\n"
        "process_cpu_usage_4.013652e+06,1763013926014069.500000,111.000000,\r\n"
        "gpu_usage,1763013925014069.001000,0.000000,h1\r\n"
        "gpu_usage,1763013925014069.001000,0.000000,h1\r\n"
        "disk_free,1763013925014069,207783292928.000000,\r\n"
        "net_0,1763013925014069,-1e-3,\r\n"
    ))  # fmt: skip
    told = "counter_name pid start_ns duration_ns device value unit hostname sample_index"
    assert sorted(rows_of(path, "counters", told)) == [
        ("disk_free", None, 1763013925014069000, None, None, 207783292928.0, None, None, 4),
        ("gpu_usage", None, 1763013925014069001, None, None, 0.0, "%", "h1", 2),
        ("gpu_usage", None, 1763013925014069001, None, None, 0.0, "%", "h1", 3),
        ("net_0", None, 1763013925014069000, None, None, -0.001, None, None, 5),
        ("process_cpu_usage", 4013652, 1763013925014069500, None, None, 110.876, "% of one core", None, 0),
        ("process_cpu_usage", 4013652, 1763013926014069500, None, None, 111.0, "% of one core", None, 1),
    ]


def test_a_vllm_sentinel_table_becomes_batches(tmp_path: Path) -> None:
    """In order of time; the interval ends with the job; a short step with its output complete is idle."""
    path = write(tmp_path / "normal_vllm.csv", VLLM + (
        "in128_out8_conc1,1765201005915022.50,48212.80,1,128.00,128,7.00,7\r\n"
        "in128_out8_conc1,1765201005963300.25,251.80,1,128.00,128,8.00,8\r\n"
        "in128_out8_conc1,1765201006000000.00,999.99,1,127.97,128,7.50,8\r\n"
        "in64_out8_conc1,1765201000000000.00,1000.00,1,64.00,64,8.00,8\r\n"
        "odd,1765201000000100.00,10.00,1,64.00,64,8.00,8\r\n"
    ))  # fmt: skip
    told = (
        "batch_index job_name start_ns duration_ns interval_ns forward_mode batch_size input_length_avg"
        " input_length_max output_length_avg output_length_max source extra"
    )
    job, one, vllm = "in128_out8_conc1", "in64_out8_conc1", "published_sentinel"
    assert rows_of(path, "batches", told) == [
        (0, one, 1765201000000000000, 1000000, None, None, 1, 64.0, 64, 8.0, 8, vllm, None),
        (1, "odd", 1765201000000100000, 10000, None, None, 1, 64.0, 64, 8.0, 8, vllm, None),
        (2, job, 1765201005915022500, 48212800, 48277750, None, 1, 128.0, 128, 7.0, 7, vllm, None),
        (3, job, 1765201005963300250, 251800, 36699750, "idle", 1, 128.0, 128, 8.0, 8, vllm, None),
        (4, job, 1765201006000000000, 999990, None, None, 1, 127.97, 128, 7.5, 8, vllm, None),
    ]


def test_a_sglang_sentinel_table_becomes_batches(tmp_path: Path) -> None:
    """The computed batch is the batch; what was processed after it is kept beside it."""
    path = write(tmp_path / "abnormal_sglang.csv", SGLANG + (
        "150525.00,16,239.75,255,95.00,95,15,239.50,254,94.00,94,1,2,in256_out256_conc16,1764238539813979.75\r\n"
        "510.75,43,244.02,314,256.00,256,0,0.00,0,0.00,0,2,N/A,in256_out256_conc16,1764238539964867.00\r\n"
    ))  # fmt: skip
    told = "start_ns duration_ns interval_ns forward_mode batch_size input_length_avg output_length_max extra"
    *first, extra = rows_of(path, "batches", told)[0]
    assert first == [1764238539813979750, 150525000, 150887250, "prefill", 16, 239.75, 95]
    assert json.loads(extra) == {
        "post_batch_size": 15, "post_input_length_avg": 239.5, "post_input_length_max": 254,
        "post_output_length_avg": 94.0, "post_output_length_max": 94, "post_forward_mode": "decode",
    }  # fmt: skip
    *last, extra = rows_of(path, "batches", told)[1]
    assert last == [1764238539964867000, 510750, None, "decode", 43, 244.02, 256]
    assert json.loads(extra)["post_forward_mode"] is None


CROSS = COMPARISON.replace("_normal", "_normal_pid_7").replace("_abnormal", "_abnormal_pid_9")
ASCII = COMPARISON.replace("Δ", "d_").replace("β", "beta").replace("μ", "mu")


@pytest.mark.parametrize(
    ("header", "name", "pairing"),
    [
        (COMPARISON, "Processed_SGLang_gpu_swap_pid42_strict_comparison.csv", ("strict", 42, 42)),
        (ASCII, "Processed_vLLM_gpu_swap_pid42_strict_comparison.csv", ("strict", 42, 42)),
        (CROSS, "SGLang_gpu_swap_n_pid1_vs_a_pid2_cross_comparison.csv", ("cross", 7, 9)),
        (COMPARISON, "SGLang_gpu_swap_n_pid1_vs_a_pid2_cross_comparison.csv", ("cross", 1, 2)),
        (COMPARISON, "saved.csv", (None, None, None)),
    ],
)
def test_a_comparison_is_kept_as_published(
    tmp_path: Path, header: str, name: str, pairing: tuple[str | None, int | None, int | None]
) -> None:
    """Both header styles, the processes from the header or else the name; a blank p is NULL, 0 is not."""
    path = write(tmp_path / name, header + (
        '"f(int, int)",gpu_usage,GPU 7,31.5,1.0,2.0,1.0,3.0,0.5,0.6,7.0,8.0,1.0,-4.0,5.5,0.7,0.8\r\n'
        "oncpu,cpu_frequency,Host,0.000000,1.0,2.0,1.0,0.0,,1.0,7.0,7.0,0.0,0.0,0.0,0.000000,\r\n"
    ))  # fmt: skip
    with filled(path) as con:
        rows = con.table("published_comparison").fetchall()
    assert rows == [
        ("r1", 1, *pairing, "f(int, int)", "gpu_usage", "GPU 7", 31.5, 1.0, 2.0, 1.0, 3.0, 0.5, 0.6, 7.0, 8.0,
         1.0, -4.0, 5.5, 0.7, 0.8),
        ("r1", 2, *pairing, "oncpu", "cpu_frequency", "Host", 0.0, 1.0, 2.0, 1.0, 0.0, None, 1.0, 7.0, 7.0,
         0.0, 0.0, 0.0, 0.0, None),
    ]  # fmt: skip


def test_a_learning_curve_is_kept(tmp_path: Path) -> None:
    """Its byte-order mark is no part of a name."""
    path = write(tmp_path / "vllm_curve.csv", CURVE + "50,0.27,0.77,0.95,1.6e-05,1.0\r\n")
    with filled(path) as con:
        assert con.table("published_curves").fetchall() == [("r1", 50, 0.27, 0.77, 0.95, 1.6e-05, 1.0)]


def component(category: str, name: str, inventory: object, host: str = ",,host0,CAT_HOST,,") -> str:
    """A line of a topology: a name, its place, and what its inventory's macro says."""
    quoted = json.dumps({"macro": inventory}).replace('"', '""')
    return f'{name},,{category},u-{name},,1.06E+06,00:1,{host},"{{}}","{quoted}",\r\n'


def test_a_topology_becomes_devices(tmp_path: Path) -> None:
    """GPUs are named as in the usage table; memory is in bytes; nothing of the inventory is lost."""
    gpu = {"index": 3, "name": "A100", "memory_capacity": 85899345920, "type": "nvidia"}
    path = write(tmp_path / "topo.csv", TOPOLOGY + (
        component("CAT_XPU", "gpu", gpu)
        + component("CAT_CPU", "cpu", {"cores": 32, "threads": 64, "freq": "4000 MHz", "model": "Xeon"})
        + component("CAT_MEMORY", "dimm", {"size": 32767})
        + component("CAT_PROCESS", "p", {"pid": 77, "gpu_index": 3, "cmd": "serve"}, "0,,c0,,host0,CAT_HOST")
        + component("CAT_DISK", "d", {"model": "sata", "index": 1.5, "size": "big"}, ",,,,,")
    ))  # fmt: skip
    told = (
        "component_index category device device_index type hostname model memory_bytes cores threads"
        " frequency_mhz pid gpu_index command"
    )
    assert rows_of(path, "devices", told) == [
        (0, "CAT_XPU", "GPU 3", 3, "nvidia", "host0", "A100", 85899345920, *(None,) * 6),
        (1, "CAT_CPU", None, None, None, "host0", "Xeon", None, 32, 64, 4000.0, None, None, None),
        (2, "CAT_MEMORY", None, None, None, "host0", None, 34358689792, *(None,) * 6),
        (3, "CAT_PROCESS", None, None, None, "host0", None, None, None, None, None, 77, 3, "serve"),
        (4, "CAT_DISK", None, None, None, None, "sata", None, *(None,) * 6),
    ]
    [details] = rows_of(path, "devices", "details")[0]
    assert json.loads(details)["inventory"] == {"macro": gpu}
    assert json.loads(details)["rank"] == "1.06E+06"


SIDE = "DeepDive/Data/Processed/SGLang/gpu_swap"


@pytest.mark.parametrize(
    ("place", "header", "name", "facts"),
    [
        (f"{SIDE}/normal_perf_data", None, "sglang/gpu_swap/normal", ("sglang", "normal", None, "deepdive")),
        (f"{SIDE}/abnormal_perf_data", None, "sglang/gpu_swap/abnormal",
         ("sglang", "gpu_swap", "gpu_swap", "deepdive")),
        (f"{SIDE}/normal_perf_data/result_perf_data.csv", USAGE, "sglang/gpu_swap/normal",
         ("sglang", "normal", None, "deepdive")),
        ("here/gpu_swap/normal_perf_data", None, "gpu_swap/normal", (None, "normal", None, "deepdive")),
        ("result_counters_data.csv", COUNTERS, "result_counters_data", (None, None, None, "deepdive")),
        ("Processed_SGLang_gpu_swap_pid42_strict_comparison.csv", COMPARISON,
         "sglang/gpu_swap/comparison/pid42_strict", ("sglang", "gpu_swap", None, "deepdive")),
        ("vLLM_cpu_swap_n_pid1_vs_a_pid2_cross_comparison.csv", COMPARISON,
         "vllm/cpu_swap/comparison/n_pid1_vs_a_pid2_cross", ("vllm", "cpu_swap", None, "deepdive")),
        ("saved.csv", COMPARISON, "comparison/saved", (None, None, None, "deepdive")),
        ("topo_component_sample.csv", TOPOLOGY, "topology/topo_component_sample", (None, None, None, None)),
        ("normal_vllm.csv", VLLM, "vllm/sentinel/normal", ("vllm", "normal", None, "sentinel")),
        ("abnormal_sglang.csv", SGLANG, "sglang/sentinel/abnormal", ("sglang", None, None, "sentinel")),
        ("mine.csv", SGLANG, "sglang/sentinel/mine", ("sglang", None, None, "sentinel")),
        ("sglang_curve_raw.csv", CURVE, "sglang/sentinel/curve_raw", ("sglang", None, None, "sentinel")),
        ("points.csv", CURVE, "sentinel/points", (None, None, None, "sentinel")),
    ],
)  # fmt: skip
def test_runs_are_named_after_their_place(
    tmp_path: Path, place: str, header: str | None, name: str, facts: tuple[str | None, ...]
) -> None:
    """published/<engine>/<scenario>/<side> from however much of the layout there is."""
    path = tmp_path / place
    write(path if header else path / "result_perf_data.csv", header or USAGE)
    [source] = sources(path)
    assert (source.campaign, source.run_name) == ("published", f"published/{name}")
    assert tuple(source.facts.get(fact) for fact in ("engine", "scenario", "anomaly", "mode")) == facts


def test_a_side_is_taken_as_far_as_it_goes(tmp_path: Path) -> None:
    """One table of the two is enough; what lies beside them is catalogued; a table may be compressed."""
    folder = tmp_path / "gpu_swap" / "normal_perf_data"
    assert not sniff(folder, b"")
    write(folder / "result_counters_data.csv.gz", gzip.compress((COUNTERS + "a,1,2.5,\r\n").encode()))
    write(folder / "notes.txt", "taken at night\n")
    assert sniff(folder, b"")
    with filled(folder) as con:
        assert con.table("counters").select("counter_name", "value").fetchall() == [("a", 2.5)]
        files = con.table("files").select("name", "format", "rows_in", "rows_kept", "rows_quarantined")
        assert sorted(files.fetchall()) == [
            ("notes.txt", "other", 0, 0, 0),
            ("result_counters_data.csv.gz", "published_counters", 1, 1, 0),
        ]


GOOD = "1,42,,1.5,f,gpu_usage,GPU 7,gpu_compute,6.3,0.1,12.5,*,S.run,100.5,1763013921174589.5,3,f"


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        (USAGE, GOOD.replace("12.5", "-12.5"), "negative duration"),
        (USAGE, GOOD.replace("100.5", "-100.5"), "negative duration"),
        (USAGE, GOOD.replace("1,42", "1.0,42"), "cycle is no whole number"),
        (USAGE, GOOD.replace("42", "4_2"), "pid is no whole number"),
        (USAGE, GOOD.replace("12.5", "1e3"), "duration is no time in us"),
        (USAGE, GOOD.replace("1763013921174589.5", "9763013921174589.5"), "cycle_start_ts is no time in us"),
        (USAGE, GOOD.replace("1.5,f", "nan,f"), "beta_pct is no number"),
        (USAGE, GOOD.replace("6.3", "inf"), "mu_pct is no number"),
        (USAGE, GOOD.replace("6.3", "1e999"), "mu_pct is no number"),
        (USAGE, GOOD.replace("*", "***"), "interpolation_status is of no known kind"),
        (USAGE, GOOD.replace(",f,", ",,"), "function_name is empty"),
        (USAGE, GOOD[:40], "9 fields, and the header has 17"),
        (USAGE, GOOD + ",", "18 fields, and the header has 17"),
        (USAGE, GOOD.replace(",f,", ',"f,'), "no CSV: unexpected end of data"),
        (USAGE, GOOD.replace(",f,", ",f\xff,").encode("latin-1"), "not UTF-8"),
        (USAGE, "", "an empty line"),
        (COUNTERS, "a,1,nan,", "value is no number"),
        (COUNTERS, "a,soon,1,", "timestamp is no time in us"),
        (COUNTERS, ",1,1,", "counter_name is empty"),
        (COUNTERS, "process_x_1.5e+00,1,1,", "counter_name ends in no pid"),
        (COUNTERS, f"process_x_{'9' * 30},1,1,", "counter_name ends in no pid"),
        (VLLM, "j,1,-1,1,1,1,1,1", "negative duration"),
        (VLLM, "j,1,1,1.5,1,1,1,1", "batch_size is no whole number"),
        (VLLM, "j,1,1,1,-1,1,1,1", "avg_input_length is no length"),
        (SGLANG, "1,1,1,1,1,1,1,1,1,1,1,9,2,j,1", "forward_mode is of no known kind"),
        (SGLANG, "1,1,1,1,1,1,1,1,1,1,1,,2,j,1", "forward_mode is of no known kind"),
        (SGLANG, "1,1,1,1,1,1,1,1,1,1,1,1,9,j,1", "post_forward_mode is of no known kind"),
        (SGLANG, "1,1,1,1,1,1,x,1,1,1,1,1,2,j,1", "post_batch_size is no whole number"),
        (COMPARISON, "f,m,d,1,1,1,1,1,1,1,1,1,,1,1,1,1", "d_mu is no number"),
        (CURVE, "1.5,1,1,1,1,1", "Size is no whole number"),
        (CURVE, "1,1,1,,1,1", "Coverage is no number"),
        (TOPOLOGY, "n,,,,,,,,,,,,,,,", "category is empty"),
        (TOPOLOGY, "n,,C,,,,,,,,,,,{,,", "config is no JSON"),
        (TOPOLOGY, "n,,C,,,,,,,,,,,,{,", "inventory is no JSON"),
    ],
)
def test_a_bad_row_is_set_aside(tmp_path: Path, header: str, row: str | bytes, reason: str) -> None:
    """It goes to quarantine with its reason, its line and its text; the row before it is not touched."""
    bad = row if isinstance(row, bytes) else row.encode()
    path = write(tmp_path / "table.csv", header.encode() + bad + b"\r\n")
    with filled(path) as con:
        told = con.table("quarantine").select("run_id", "file_name", "line_number", "reason").fetchall()
        assert told == [("r1", "table.csv", 2, reason)]
        [text] = con.table("quarantine").select("raw_text").fetchone() or ()
        assert text.removesuffix("\r").encode()[:40] == bad[:40] or "\\xff" in text
        account = con.table("files").select("rows_in", "rows_kept", "rows_quarantined").fetchall()
        assert account == [(1, 0, 1)]


def test_a_quote_that_is_not_closed_takes_one_row(tmp_path: Path) -> None:
    """The rows after it are read as if nothing had been."""
    path = write(tmp_path / "t.csv", f'{COUNTERS}a,1,1,\r\n"b,1,1,\r\nc,1,1,\r\n"d ""e""",1,1,')
    with filled(path) as con:
        assert con.table("counters").select("counter_name").fetchall() == [("a",), ("c",), ('d "e"',)]
        assert con.table("quarantine").select("line_number").fetchall() == [(3,)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\r\n", "line 1: not the header"),
        (b"a,b\r\n1,2\r\n", "line 1: not the header"),
        (b"\xff\xfe" + COUNTERS.encode("utf-16-le"), "line 1: not the header"),
        (COUNTERS.replace(",hostname", "").encode(), "the columns hostname are missing"),
        (COUNTERS.replace("\r\n", ",unit\r\n").encode(), "the columns unit are too many"),
        (COUNTERS.replace("\r\n", ",value\r\n").encode(), "the columns value are too many"),
        (SGLANG.replace("post_batch_size,", "").encode(), "the columns post_batch_size are missing"),
        (gzip.compress(COUNTERS.encode() * 999, mtime=0)[:60], "table.csv"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """One error that names the file and says what is wrong with it."""
    path = write(tmp_path / "table.csv", content)
    with pytest.raises(LprismError, match=words) as refusal:
        sources(path)
    assert str(path) in str(refusal.value)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    """Before it is read and while it should be."""
    path = write(tmp_path / "t.csv", COUNTERS)
    [source] = sources(path)
    path.unlink()
    with pytest.raises(LprismError, match=r"t\.csv: No such file"):
        sources(path)
    with memory_connection() as con, pytest.raises(LprismError, match=r"t\.csv: No such file"):
        fill(con, source, tmp_path)


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    """It is loaded, and adds nothing."""
    with filled(write(tmp_path / "t.csv", COUNTERS)) as con:
        assert con.table("files").select("rows_in", "rows_kept", "rows_quarantined").fetchall() == [(0, 0, 0)]


@pytest.mark.parametrize("header", HEADERS)
def test_a_table_is_known_by_its_header(header: str) -> None:
    """Whatever its name, its line ends and its byte-order mark."""
    plain = header.removeprefix("\ufeff")
    for head in (plain, plain.replace("\r\n", "\n"), "\ufeff" + plain, plain.strip()):
        assert sniff(Path("x"), head.encode())


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b'{"traceEvents": [',
        b"[\n",
        b"\x00\xff\xfe",
        b'"',
        b"name,category,timestamp,value,hostname\n",
        b"name,cat,ph,pid,tid,ts,dur,args\n",
        b"a" * 65536,
        b"timestamp,value\n",
    ],
)
def test_other_files_are_not_claimed(tmp_path: Path, head: bytes) -> None:
    """A trace, a CSV pair or a picture is somebody else's."""
    assert not sniff(tmp_path, head)


CELL = st.sampled_from(["", "1", "-1", "1.5", "1e9", "nan", "N/A", "*", "{}", '"', "\x00", "9" * 40, "é"])


@settings(max_examples=60, deadline=None)
@given(
    header=st.sampled_from(HEADERS),
    rows=st.lists(st.one_of(st.lists(CELL, max_size=18).map(",".join).map(str.encode), st.binary())),
    cut=st.integers(0, 30),
)
def test_any_bytes_are_refused_or_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, header: str, rows: list[bytes], cut: int
) -> None:
    """Whatever stands in a file, the rows that went in are kept or set aside, or one error tells."""
    content = header.encode() + b"\r\n".join(rows)
    path = write(tmp_path_factory.mktemp("fuzz") / "t.csv", content[: len(content) - cut])
    try:
        with filled(path) as con:
            [(rows_in, kept, aside)] = (
                con.table("files").select("rows_in", "rows_kept", "rows_quarantined").fetchall()
            )
            assert (rows_in, aside) == (kept + aside, len(con.table("quarantine")))
    except LprismError as error:
        assert str(path) in str(error)  # noqa: PT017 - an error is one of two right outcomes


def published() -> list[Path]:
    """The sides and the tables of the published data that is at hand."""
    sides = sorted(DATA.glob("DeepDive/Data/Processed/*/*/*_perf_data"))
    return sides + sorted(path for path in DATA.rglob("*.csv") if path.parent not in sides)


def cells(path: Path) -> list[dict[str, str]]:
    """A published CSV as Python's own reader has it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def ns(us: str) -> int:
    """Microseconds as they are written, in ns."""
    return int(Decimal(us) * 1000)


@pytest.mark.skipif(not DATA.is_dir(), reason="the published data is not beside the clone")
@pytest.mark.parametrize("path", published(), ids=lambda path: str(path.relative_to(DATA)))
def test_no_published_row_is_lost(path: Path) -> None:
    """As many rows as the CSV has, and nothing set aside."""
    files = {file.name: len(cells(file)) for file in (path.glob("*.csv") if path.is_dir() else [path])}
    with filled(path) as con:
        told = con.table("files").select("name", "rows_in", "rows_kept", "rows_quarantined").fetchall()
    assert sorted(told) == sorted((name, rows, rows, 0) for name, rows in files.items())


@pytest.mark.skipif(not DATA.is_dir(), reason="the published data is not beside the clone")
@pytest.mark.parametrize("side", [*filter(Path.is_dir, published())], ids=lambda side: side.parent.name)
def test_published_usage_is_kept_to_the_last_digit(side: Path) -> None:
    """Every number is the float, and every time the ns, that the text says."""
    told = (
        "cycle_index pid function_name device beta_pct mu_pct duration_ns cycle_start_ns anchor_duration_ns"
        " instances"
    )
    assert rows_of(side, "function_usage", told) == [
        (int(row["cycle"]), int(row["pid"]), row["function_name"], row["device"], float(row["beta_pct"]),
         float(row["mu_pct"]) if row["mu_pct"] else None, ns(row["duration"]), ns(row["cycle_start_ts"]),
         ns(row["anchor_dur_us"]), int(row["instances_count"]))
        for row in cells(side / "result_perf_data.csv")
    ]  # fmt: skip
    values = sorted(rows_of(side, "counters", "sample_index start_ns value"))
    assert values == [
        (index, ns(row["timestamp"]), float(row["value"]))
        for index, row in enumerate(cells(side / "result_counters_data.csv"))
    ]


@pytest.mark.skipif(not DATA.is_dir(), reason="the published data is not beside the clone")
def test_published_batches_are_kept_to_the_last_digit() -> None:
    """Nine empty last steps are marked, every time is exact, every interval stays in its job."""
    path = DATA / "Sentinel" / "Data" / "Processed" / "normal_vllm.csv"
    told = "job_name start_ns duration_ns output_length_avg interval_ns forward_mode"
    rows = rows_of(path, "batches", told)
    assert sorted(row[:4] for row in rows) == sorted(
        (row["job_name"], ns(row["start_ts"]), ns(row["duration_us"]), float(row["avg_output_length"]))
        for row in cells(path)
    )
    assert sum(row[5] == "idle" for row in rows) == 9
    assert sum(row[4] is None for row in rows) == len({row[0] for row in rows}) == 150
    assert all(row[4] is None or row[4] >= row[2] for row in rows)


@pytest.mark.skipif(not DATA.is_dir(), reason="the published data is not beside the clone")
def test_published_comparisons_are_kept_to_the_last_digit() -> None:
    """341 blank p-values, of five comparisons, and every score."""
    paths = [path for path in published() if path.name.endswith("_comparison.csv")]
    told = "suspicion_score beta_welch_p mu_welch_p"
    rows = [row for path in paths for row in rows_of(path, "published_comparison", told)]
    known = [row for path in paths for row in cells(path)]
    assert [score for score, *_ in rows] == [float(row["Suspicion Score"]) for row in known]
    assert sum(p is None for _, *ps in rows for p in ps) == 341


def test_a_source_says_what_load_needs(tmp_path: Path) -> None:
    """Names of files are text even where the file system has none: nothing of them reaches SQL."""
    path = tmp_path / "a\udcff'; DROP TABLE runs;--.csv"
    path.write_text(COUNTERS + "a,1,1,\r\n", encoding="utf-8")
    [source] = sources(path)
    assert isinstance(source, Source)
    assert source.files[0].name == "a\\xff'; DROP TABLE runs;--.csv"
    assert rows_of(path, "files", "name rows_kept") == [(source.files[0].name, 1)]
