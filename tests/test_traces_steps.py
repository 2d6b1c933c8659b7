"""Batches from the step labels of a trace, or from the calls of its model runner; what its head tells."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from tasks.traces import chrome
from tests.foreign_cases import DATA, accounts, loaded, rows

TRACES = DATA / "traces"
COLUMNS = (
    "start_ns",
    "duration_ns",
    "interval_ns",
    "execute_ns",
    "forward_mode",
    "batch_size",
    "new_input_tokens",
)


def label(name: str, ts: float, dur: float, pid: int = 7) -> str:
    """A step label."""
    event = {"ph": "X", "cat": "user_annotation", "name": name, "pid": pid, "tid": 1, "ts": ts, "dur": dur}
    return json.dumps(event)


def operator(ts: float, dur: float, cat: str = "cpu_op", pid: int = 7) -> str:
    """Something that the engine computes."""
    return json.dumps({"ph": "X", "cat": cat, "name": "mm", "pid": pid, "tid": 1, "ts": ts, "dur": dur})


@contextmanager
def trace(folder: Path, *events: str, head: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables after a trace of these events."""
    path = folder / "t.json"
    path.write_text('{%s"traceEvents": [%s]}' % (head, ",\n".join(events)))  # noqa: UP031 - braces in the text
    with loaded(chrome, path) as con:
        yield con


def test_vllm_labels_become_batches(tmp_path: Path) -> None:
    """From start to next start; where the engine idled, to the end of its work; empty steps are marked."""
    with trace(
        tmp_path,
        label("execute_context_1(6)_generation_0(0)", 100, 5),
        operator(107, 1),
        label("execute_context_1(6)_generation_3(3)", 110, 5),
        label("execute_context_0(0)_generation_4(4)", 120, 5),
        operator(126, 2),
        label("execute_context_0(0)_generation_0(0)", 130, 1),
        label("execute_context_0(0)_generation_4(4)", 140, 5),
        operator(146, 1),
        label("execute_100_context_2(sq90sk120sqsq8100sqsk1)_generation_10(sq10sk300sqsq10sqsk300)", 190, 5),
        operator(192, 20, "kernel", 0),
        label("execute_the_plan", 195, 1),
    ) as con:
        assert rows(con, "batches", *COLUMNS) == [
            (100_000, 10_000, 10_000, 5_000, "prefill", 1, 6),
            (110_000, 10_000, 10_000, 5_000, "mixed", 4, 9),
            (120_000, 10_000, 10_000, 5_000, "decode", 4, 4),
            (130_000, 1_000, 10_000, 1_000, "idle", 0, 0),
            (140_000, 7_000, 50_000, 5_000, "decode", 4, 4),
            (190_000, 22_000, None, 5_000, "mixed", 12, 100),
        ]
        assert rows(con, "batches", "kv_tokens", "source", "batch_index")[-1] == (420, "step_label", 5)


def test_nested_labels_are_one_batch(tmp_path: Path) -> None:
    """SGLang's step[..] is the batch, and the label around it has the counts; a GPU copy is none."""
    copy = label("step[DECODE bs=32]", 12, 3).replace("user_annotation", "gpu_user_annotation")
    with trace(
        tmp_path,
        label("execute_32_context_0(sq0sk0sqsq0sqsk0)_generation_32(sq32sk999sqsq32sqsk999)", 10, 9),
        label("step[DECODE bs=32]", 11, 7),
        copy,
        label("step[EXTEND bs=15 toks=15360]", 20, 7),
        label("step[MIXED bs=3]", 30, 7),
        label("step[EXTEND bs=1 toks=1 c_sq=1 c_sqsq=1 c_sqsk=68 c_sk=68 forward_id=1]", 40, 1),
    ) as con:
        found = rows(
            con, "batches", "start_ns", "forward_mode", "batch_size", "new_input_tokens", "kv_tokens"
        )
        assert found == [
            (11_000, "decode", 32, 32, 999),
            (20_000, "prefill", 15, 15360, None),
            (30_000, "mixed", 3, None, None),
            (40_000, "prefill", 1, 1, 68),
        ]
        assert rows(con, "runs", "engine") == [("sglang",)]


def test_the_head_tells_engine_rank_and_devices(tmp_path: Path) -> None:
    """What stands outside the events lands in runs, batches and devices."""
    head = (
        '"vllm_version": "0.32.0", "distributedInfo": {"rank": 3}, '
        '"deviceProperties": [{"id": 0, "name": "H100", "totalGlobalMem": 85018279936, "numSms": 132}, 5], '
    )
    with trace(tmp_path, label("execute_context_0(0)_generation_1(1)", 1, 1), head=head) as con:
        assert rows(con, "runs", "engine", "engine_version") == [("vllm", "0.32.0")]
        assert rows(con, "batches", "rank") == [(3,)]
        assert rows(con, "devices", "device", "name", "memory_bytes", "cores") == [
            ("GPU 0", "H100", 85018279936, 132)
        ]


def test_without_labels_and_stacks_there_is_no_batch(tmp_path: Path) -> None:
    """Nothing is guessed."""
    with trace(tmp_path, operator(1, 2), operator(4, 2)) as con:
        assert rows(con, "batches", "batch_index") == []
        assert rows(con, "runs", "engine") == [(None,)]


def test_a_model_config_beside_the_trace_is_its_second_file(tmp_path: Path) -> None:
    """The published profiler's two files are one run, both accounted for."""
    calls = [
        {
            "ph": "X",
            "cat": "python",
            "name": f"Scheduler.{name}",
            "pid": "h(4)",
            "tid": "t",
            "ts": ts,
            "dur": dur,
        }
        for name, ts, dur in (
            ("run_batch", 1764000000000001, 100),
            ("process_batch_result", 1764000000000120, 30),
        )
    ]
    (tmp_path / "model_config.txt").write_text(
        '{"kunlunClassAttr": {"class": "Scheduler", "fn": "run_batch", "attr": "reqs"}, '
        '"Value": "forward_mode=2 Req(rid=1f, input_ids=[1, 2, 3], output_ids=[7])", '
        '"start_time": 1764000000000001}\n'
    )
    with trace(tmp_path, *map(json.dumps, calls)) as con:
        assert accounts(con) == [("t.json", 2, 2, 0), ("model_config.txt", 1, 1, 0)]
        assert rows(con, "batches", "forward_mode", "batch_size", "duration_ns", "input_length_max") == [
            ("decode", 1, 149_000, 3)
        ]


RECORDED = {
    "cpu/vllm_cpu_decode_stack_2.5M_events.pt.trace.json.gz": {
        "decode": 124,
        "prefill": 4,
        "mixed": 4,
        "idle": 4,
    },
    "cpu/vllm_cpu_50_iterations.pt.trace.json.gz": {"decode": 45, "prefill": 2, "mixed": 2, "idle": 1},
    "cpu/sglang_0523_nostack_detailed.trace.json.gz": {"decode": 30, "prefill": 4},
    "gpu/sglang_extend_bs15_mi300.json.gz": {"prefill": 1},
    "gpu/vllm_tp4_h100_1prefill_9decode.pt.trace.json.gz": {"prefill": 1, "decode": 9, "idle": 1},
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_traces_have_their_batches(name: str, tmp_path: Path) -> None:
    """As many of each mode as were counted by hand."""
    if not (TRACES / name).exists():
        pytest.skip("the recorded traces are not at hand")
    path = tmp_path / Path(name).name
    shutil.copy(TRACES / name, path)
    with loaded(chrome, path) as con:
        counted = con.table("batches").aggregate("forward_mode, count(*)").fetchall()
        assert dict(counted) == RECORDED[name]
        work = (
            con.table("batches")
            .filter("forward_mode = 'decode'")
            .aggregate("min(interval_ns), max(interval_ns), min(execute_ns), max(execute_ns)")
        )
        if "h100" in name:
            assert [round(ns / 1e6, 2) for ns in work.fetchall()[0]] == [18.86, 20.23, 18.65, 20.01]
            assert con.table("batches").filter("forward_mode = 'prefill'").aggregate(
                "round(max(execute_ns) / 1e6, 1)"
            ).fetchall() == [(91.4,)]
        if "extend_bs15" in name:
            ((duration_ns, execute_ns),) = rows(con, "batches", "duration_ns", "execute_ns")
            assert (round(duration_ns / 1e6), round(execute_ns / 1e6)) == (494, 29)  # its kernels run on
