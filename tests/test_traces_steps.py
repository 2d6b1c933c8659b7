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


SIZE = '{{"process":"7","label":"execute_diffusion_2_{}","height":768,"width":1024}}'


def event(cat: str, name: str, ts: float, dur: float, pid: int = 7, **args: object) -> str:
    """A complete event."""
    told = {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": 1, "ts": ts, "dur": dur, "args": args}
    return json.dumps(told)


def label(name: str, ts: float, dur: float, pid: int = 7) -> str:
    """A step label, or another annotation."""
    return event("user_annotation", name, ts, dur, pid)


def operator(ts: float, dur: float, pid: int = 7) -> str:
    """Something that the engine computes on the CPU."""
    return event("cpu_op", "mm", ts, dur, pid)


def launch(ts: float, correlation: int, name: str = "cudaLaunchKernel", pid: int = 7) -> str:
    """The call that starts GPU work."""
    return event("cuda_runtime", name, ts, 1, pid, correlation=correlation)


def kernel(ts: float, dur: float, correlation: int) -> str:
    """GPU work; its process is the device."""
    return event("kernel", "gemm", ts, dur, 0, correlation=correlation)


def runner(ts: float, dur: float) -> str:
    """A call of vLLM's model runner."""
    return event("python_function", "vllm/v1/worker/gpu_model_runner.py(9): execute_model", ts, dur)


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
        label("execute_context_1(6)_generation_3(3)", 110, 5),
        label("execute_context_0(0)_generation_4(4)", 120, 5),
        operator(126, 2),
        label("execute_context_0(0)_generation_0(0)", 130, 1),
        label("execute_context_2(12)_generation_0(0)", 140, 5),
        operator(146, 1),
        label("execute_90_context_2(sq90sk120sqsq8100sqsk1)_generation_0(sq0sk0sqsq0sqsk0)", 190, 5),
        label("execute_12_context_2(sq2sk122sqsq4sqsk1)_generation_10(sq10sk300sqsq10sqsk300)", 250, 5),
        label("execute_the_plan", 253, 1),
    ) as con:
        assert rows(con, "batches", *COLUMNS) == [
            (100_000, 10_000, 10_000, 5_000, "prefill", 1, 6),
            (110_000, 10_000, 10_000, 5_000, "mixed", 4, 9),
            (120_000, 10_000, 10_000, 5_000, "decode", 4, 4),
            (130_000, 1_000, 10_000, 1_000, "idle", 0, 0),
            (140_000, 7_000, 50_000, 5_000, "prefill", 2, 12),  # 43 us of nothing, and no request goes on
            (190_000, 60_000, 60_000, 5_000, "prefill", 2, 90),  # slow: ten requests go on
            (250_000, 5_000, None, 5_000, "mixed", 12, 12),
        ]
        assert rows(con, "batches", "kv_tokens", "source", "batch_index")[5:] == [
            (120, "step_label", 5),
            (422, "step_label", 6),
        ]
        ((extra,),) = rows(con, "batches", "extra")[:1]
        assert json.loads(extra) == {
            "process": "7", "label": "execute_context_1(6)_generation_0(0)",
            "context_requests": 1, "context_tokens": 6, "generation_requests": 0, "generation_tokens": 0,
        }  # fmt: skip


def test_gpu_work_belongs_to_the_step_that_launched_it(tmp_path: Path) -> None:
    """It keeps the engine busy from its launch on, whenever it runs; unlaunched, it is of no step."""
    with trace(
        tmp_path,
        label("execute_context_1(6)_generation_0(0)", 100, 5),
        launch(103, 1),
        kernel(150, 20, 1),
        kernel(180, 10, 1),
        kernel(195, 3, 9),
        label("execute_context_1(6)_generation_0(0)", 200, 5),
        launch(202, 2, "cudaGraphLaunch"),
        kernel(220, 10, 2),
        event("cuda_runtime", "cudaDeviceSynchronize", 233, 20),
        operator(260, 3),
    ) as con:
        assert rows(con, "batches", "start_ns", "duration_ns") == [(100_000, 90_000), (200_000, 30_000)]


def test_what_prepares_a_step_does_not_end_the_one_before(tmp_path: Path) -> None:
    """Where work begins anew after the pause, the batch had ended before it."""
    with trace(
        tmp_path,
        label("step[EXTEND bs=1 toks=9]", 10, 5),
        operator(16, 1),
        operator(38, 1),
        label("step[EXTEND bs=1 toks=9]", 40, 5),
        label("step[EXTEND bs=1 toks=9]", 60, 20),
        operator(61, 1),
        operator(78, 1),
        operator(81, 2),
    ) as con:
        assert rows(con, "batches", "duration_ns") == [(7_000,), (5_000,), (23_000,)]


def test_an_engine_that_says_it_idles_is_believed(tmp_path: Path) -> None:
    """SGLang marks its idle loop: there the batch ended, however short the pause and whatever follows."""
    with trace(
        tmp_path,
        label("step[DECODE bs=3]", 10, 5),
        operator(16, 1),
        label("scheduler.idle", 18, 1),
        operator(19, 0.5),
        label("step[DECODE bs=3]", 20, 5),
        label("step[DECODE bs=3]", 30, 5),
        operator(36, 1),
        label("scheduler.process_batch_result", 37, 1),
        label("scheduler.get_next_batch_to_run", 38, 1),
        label("scheduler.idle", 39, 1),
        operator(39, 3),
        label("step[DECODE bs=3]", 50, 5),
        launch(51, 1),
        kernel(58, 5, 1),
        label("scheduler.idle", 59, 0.5),
        label("step[DECODE bs=3]", 60, 5),
    ) as con:
        assert rows(con, "batches", "start_ns", "duration_ns", "interval_ns") == [
            (10_000, 7_000, 10_000),
            (20_000, 10_000, 10_000),
            (30_000, 8_000, 20_000),
            (50_000, 10_000, 10_000),  # its kernel runs on: no batch lasts into the next
            (60_000, 5_000, None),
        ]


def test_processes_have_steps_of_their_own(tmp_path: Path) -> None:
    """Start to start, and work, within one process; numbered together in order of time."""
    with trace(
        tmp_path,
        label("execute_context_0(0)_generation_1(1)", 10, 5),
        label("execute_context_0(0)_generation_2(2)", 12, 5, pid=8),
        label("execute_context_0(0)_generation_1(1)", 20, 5),
        label("execute_context_0(0)_generation_2(2)", 23, 5, pid=8),
        operator(26, 1),
        operator(29, 1, pid=8),
    ) as con:
        assert rows(con, "batches", "batch_index", "batch_size", "duration_ns", "interval_ns") == [
            (0, 1, 10_000, 10_000),
            (1, 2, 11_000, 11_000),
            (2, 1, 7_000, None),
            (3, 2, 7_000, None),
        ]


def test_nested_labels_are_one_batch(tmp_path: Path) -> None:
    """SGLang's step[..] is the batch, and the label around it has the counts; a GPU copy is none."""
    with trace(
        tmp_path,
        label("execute_32_context_0(sq0sk0sqsq0sqsk0)_generation_32(sq32sk999sqsq32sqsk999)", 10, 9),
        label("step[DECODE bs=32]", 11, 7),
        event("gpu_user_annotation", "step[DECODE bs=32]", 12, 3),
        label("execute_context_0(0)_generation_31(31)", 20, 9),
        label("step[EXTEND bs=15 toks=15360]", 30, 7),
        label("execute_context_2(7)_generation_1(1)", 40, 9),
        label("step[MIXED bs=3]", 41, 9),
    ) as con:
        assert rows(
            con, "batches", "start_ns", "forward_mode", "batch_size", "new_input_tokens", "kv_tokens"
        ) == [
            (11_000, "decode", 32, 32, 999),
            (20_000, "decode", 31, 31, None),
            (30_000, "prefill", 15, 15360, None),
            (41_000, "mixed", 3, 8, None),
        ]
        assert rows(con, "runs", "engine") == [("sglang",)]


def test_sglang_labels_tell_their_counts(tmp_path: Path) -> None:
    """Plain and in detail; c is context, g generation; a mode that is not known is not guessed."""
    with trace(
        tmp_path,
        label("step[DECODE bs=3 g_sq=6 g_sqsq=3 g_sqsk=198 g_sk=198 forward_id=161]", 10, 1),
        label("step[EXTEND bs=1 toks=1 c_sq=1 c_sqsq=1 c_sqsk=68 c_sk=68 forward_id=1]", 20, 1),
        label("step[MIXED bs=3]", 30, 1),
        label("step[MIXED bs=3 toks=9 c_sq=7 c_sk=68 g_sq=2 g_sk=100 forward_id=1]", 40, 1),
        label("step[TARGET_VERIFY bs=2]", 50, 1),
        label("step[IDLE bs=0]", 60, 1),
    ) as con:
        assert rows(
            con, "batches", "batch_index", "forward_mode", "batch_size", "new_input_tokens", "kv_tokens"
        ) == [
            (0, "decode", 3, 6, 198),
            (1, "prefill", 1, 1, 68),
            (2, "mixed", 3, None, None),
            (3, "mixed", 3, 9, 168),
            (4, None, 2, None, None),
            (5, "idle", 0, None, None),
        ]


def test_xdits_labels_are_generations(tmp_path: Path) -> None:
    """One from start to next start, with images, height and width; the last to the end of its work."""
    with trace(
        tmp_path,
        label("execute_diffusion_2_768x1024", 100, 900),
        label("execute_diffusion_2_768x1024", 1000, 800),
        operator(1100, 850),
        label("execute_diffusion_2_768", 5000, 10),
    ) as con:
        assert rows(con, "batches", *COLUMNS, "extra", order="batch_index") == [
            (100_000, 900_000, 900_000, 900_000, None, 2, None, SIZE.format("768x1024")),
            (1_000_000, 950_000, None, 800_000, None, 2, None, SIZE.format("768x1024")),
        ]
        assert rows(con, "runs", "engine") == [("xdit",)]


def test_without_labels_the_model_runner_tells_steps(tmp_path: Path) -> None:
    """Prefill adds requests, or replays no graph; empty launches nothing; what is in them is not told."""
    with trace(
        tmp_path,
        runner(10, 5),
        event("python_function", "vllm/v1/worker/gpu_input_batch.py(2): add_request", 11, 1),
        launch(12, 1, "cudaGraphLaunch"),
        runner(20, 5),
        runner(21, 3),  # the class it extends
        launch(22, 2, "cudaGraphLaunch"),
        runner(30, 5),
        launch(32, 3),
        runner(40, 1),
        launch(48, 4),  # sampling, after the call
        event("python_function", "vllm/v1/worker/gpu_worker.py(9): execute_model", 41, 1),
    ) as con:
        assert rows(con, "batches", "start_ns", "execute_ns", "forward_mode", "batch_size", "source") == [
            (10_000, 5_000, "prefill", None, "execute_model"),
            (20_000, 5_000, "decode", None, "execute_model"),
            (30_000, 5_000, "prefill", None, "execute_model"),
            (40_000, 1_000, "idle", 0, "execute_model"),
        ]
        assert rows(con, "runs", "engine", "engine_version", "model") == [("vllm", None, None)]


def test_without_graphs_only_what_adds_requests_is_told(tmp_path: Path) -> None:
    """A step that neither adds requests nor is empty may be either."""
    with trace(
        tmp_path,
        runner(10, 5),
        event("python_function", "vllm/v1/worker/gpu_input_batch.py(2): add_request", 11, 1),
        launch(12, 1),
        runner(20, 5),
        launch(22, 2),
    ) as con:
        assert rows(con, "batches", "batch_index", "forward_mode") == [(0, "prefill"), (1, None)]


def test_without_a_gpu_no_step_is_empty(tmp_path: Path) -> None:
    """Where nothing is ever launched, launching nothing says nothing."""
    added = event("python_function", "vllm/v1/worker/gpu/model_runner.py(2): add_requests", 11, 1)
    with trace(tmp_path, runner(10, 5), added, runner(20, 5)) as con:
        assert rows(con, "batches", "batch_index", "forward_mode") == [(0, "prefill"), (1, None)]


def test_labels_make_the_calls_no_further_steps(tmp_path: Path) -> None:
    """The model runner is looked at only where there is no label."""
    with trace(tmp_path, runner(10, 5), label("execute_context_0(0)_generation_1(1)", 11, 3)) as con:
        assert rows(con, "batches", "start_ns", "source") == [(11_000, "step_label")]


def test_the_head_tells_engine_rank_and_devices(tmp_path: Path) -> None:
    """What stands outside the events lands in runs, batches and devices."""
    head = (
        '"vllm_version": "0.32.0", "distributedInfo": {"rank": 3}, "host_name": "gpu-7", '
        '"deviceProperties": [{"id": 4, "name": "H100", "totalGlobalMem": 85018279936, "numSms": 132}, 5, '
        '{"id": "x", "name": ""}], '
    )
    with trace(tmp_path, label("execute_context_0(0)_generation_1(1)", 1, 1), head=head) as con:
        assert rows(con, "runs", "engine", "engine_version", "model") == [("vllm", "0.32.0", None)]
        assert rows(con, "batches", "rank") == [(3,)]
        assert rows(
            con, "devices", "component_index", "category", "device", "device_index", "name", "model",
            "memory_bytes", "cores", "hostname",
        ) == [
            (0, "CAT_XPU", "GPU 4", 4, "H100", "H100", 85018279936, 132, "gpu-7"),
            (2, "CAT_XPU", None, None, None, None, None, None, "gpu-7"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "engine"),
    [
        (event("python_function", "/opt/lib/vllm/v1/engine/core.py(3): step", 1, 1), "vllm"),
        (event("python_function", "sglang/srt/managers/scheduler.py(3): run_batch", 1, 1), "sglang"),
        (event("python", "Scheduler.run_batch", 1, 1), "sglang"),
        (event("python", "Worker.f", 1, 1, filePath="/opt/vllm/worker/worker.py"), "vllm"),
        (event("python_function", "notvllm/v1/core.py(3): step", 1, 1), None),
        (operator(1, 2), None),
    ],
)
def test_functions_tell_the_engine(function: str, engine: str | None, tmp_path: Path) -> None:
    """Without steps and version the engine is the one whose functions ran; and there is no batch."""
    with trace(tmp_path, function, '{"ph": "i", "name": "vllm/v1/engine/core.py", "ts": 2}') as con:
        assert rows(con, "batches", "batch_index") == []
        assert rows(con, "runs", "engine", "engine_version") == [(engine, None)]


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
        assert rows(con, "runs", "engine") == [("sglang",)]


RECORDED = {
    "cpu/vllm_cpu_decode_stack_2.5M_events.pt.trace": {"prefill": 4, "mixed": 4, "decode": 124, "idle": 4},
    "cpu/vllm_cpu_50_iterations.pt.trace": {"prefill": 2, "mixed": 2, "decode": 45, "idle": 1},
    "cpu/vllm_cpu_nostack.pt.trace": {"prefill": 12, "mixed": 12, "decode": 276, "idle": 1},
    "cpu/vllm_cpu_frontend.pt.trace": {},
    "cpu/sglang_0523_nostack_detailed.trace": {"prefill": 4, "decode": 30},
    "cpu/sglang_0523_overlap_withstack.trace": {"prefill": 2, "decode": 5},
    "gpu/vllm_tp4_h100_1prefill_9decode.pt.trace": {"prefill": 1, "decode": 9, "idle": 1},
    "gpu/vllm_decode_bs32_mi300": {"decode": 1},
    "gpu/vllm_mixed_9ctx_37gen_mi300": {"mixed": 1},
    "gpu/sglang_extend_bs15_mi300": {"prefill": 1},
    "gpu/sglang_decode_bs32_mi300": {"decode": 1},
    "edge/nccl_data": {},
    "edge/ns_resolution.pt.trace": {},
}


@contextmanager
def recorded(name: str, folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables after a recorded trace."""
    source = TRACES / f"{name}.json.gz"
    if not source.exists():
        pytest.skip("the recorded traces are not at hand")
    path = folder / source.name
    shutil.copy(source, path)
    with loaded(chrome, path) as con:
        yield con


def milliseconds(con: duckdb.DuckDBPyConnection, mode: str, *columns: str) -> list[tuple[float, ...]]:
    """These times of the batches of a mode, in order."""
    found = rows(con, "batches", "forward_mode", *columns)
    return [tuple(round((ns or 0) / 1e6, 2) for ns in times) for told, *times in found if told == mode]


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_traces_have_their_batches(name: str, tmp_path: Path) -> None:
    """As many of each mode as were counted by hand; none lasts into the next."""
    with recorded(name, tmp_path) as con:
        counted = con.table("batches").aggregate("forward_mode, count(*)").fetchall()
        assert dict(counted) == RECORDED[name]
        assert con.table("batches").filter("duration_ns > interval_ns").fetchall() == []


def test_steps_of_the_h100_trace_take_what_was_measured(tmp_path: Path) -> None:
    """Without labels: one prefill, nine decode steps, one empty."""
    with recorded("gpu/vllm_tp4_h100_1prefill_9decode.pt.trace", tmp_path) as con:
        assert milliseconds(con, "prefill", "execute_ns", "duration_ns") == [(91.44, 91.82)]
        assert milliseconds(con, "idle", "execute_ns", "duration_ns") == [(0.12, 0.12)]
        executed, intervals = zip(*milliseconds(con, "decode", "execute_ns", "interval_ns"), strict=True)
        assert (min(executed), max(executed)) == (18.65, 20.01)
        assert (min(intervals), max(intervals)) == (18.86, 20.23)
        assert rows(con, "runs", "engine") == [("vllm",)]
        assert len(rows(con, "devices", "device")) == 8


def test_kernels_that_run_after_their_label_count(tmp_path: Path) -> None:
    """A prefill of 494 ms whose label took 29."""
    with recorded("gpu/sglang_extend_bs15_mi300", tmp_path) as con:
        assert milliseconds(con, "prefill", "duration_ns", "execute_ns") == [(493.73, 28.92)]


def test_a_recorded_idle_loop_is_no_batch(tmp_path: Path) -> None:
    """Between two bursts SGLang idled for 6 ms, then prepared the next step."""
    with recorded("cpu/sglang_0523_nostack_detailed.trace", tmp_path) as con:
        assert max(milliseconds(con, "decode", "interval_ns", "duration_ns")) == (19.21, 12.34)
