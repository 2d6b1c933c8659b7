"""Usage: how long each function ran in a cycle, and what the counters said meanwhile."""

import math
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from tasks.deepdive.usage import Series, means, summed
from tests.cycle_cases import US, decode, divided, event, launched
from tests.foreign_cases import rows

STEPS = [decode(100, 10), decode(200, 10), decode(300, 10)]


def series(*samples: tuple[int, int, float]) -> Series:
    """Samples of (start, end, value)."""
    start, end, value = zip(*samples, strict=True)
    return Series(np.array(start), np.array(end), np.array(value, dtype=np.float64))


def mean_of(samples: Series, *pieces: tuple[int, int]) -> list[tuple[float, int, int, bool]]:
    """(mean, first and last sample, whether between) of pieces of time."""
    start, end = (np.array(times, dtype=np.int64) for times in zip(*pieces, strict=True))
    columns = means(samples, start, end)
    return [
        (round(float(mean), 9), int(first), int(last), bool(between))
        for mean, first, last, between in zip(*columns, strict=True)
    ]


def test_a_sample_holds_through_its_interval() -> None:
    """The mean over a piece is the integral of what held, over the time that was covered."""
    counter = series((0, 10, 1.0), (10, 20, 3.0), (30, 40, 5.0))
    assert mean_of(counter, (2, 4), (5, 15), (15, 35), (22, 28)) == [
        (1.0, 0, 0, False), (2.0, 0, 1, False), (4.0, 1, 2, False), (4.0, 1, 2, True),
    ]  # fmt: skip


def test_moments_are_interpolated_between() -> None:
    """A piece with a sample in it has that; one without has the value between its neighbours, and says so."""
    counter = series((0, 0, 1.0), (10, 10, 3.0), (20, 20, 5.0))
    assert mean_of(counter, (9, 11), (4, 6), (5, 25)) == [
        (3.0, 1, 1, False), (2.0, 0, 1, True), (4.0, 1, 2, False),
    ]  # fmt: skip


def test_far_from_any_sample_nothing_is_known() -> None:
    """A recorder that stopped, or a clock that was set: no value is made up."""
    counter = series(*((at, at + 10, 1.0) for at in range(0, 100, 10)))
    ((near, *_), (far, *_)) = mean_of(counter, (120, 121), (900, 901))
    assert near == 1.0
    assert math.isnan(far)
    made = summed(np.array([4]), np.array([1.0]), means(counter, np.array([900]), np.array([901])))
    assert len(made["group_id"]) == 0


def test_what_goes_on_longer_weighs_more_and_a_sample_counts_once() -> None:
    """Mean and deviation by time; samples of several pieces of a function are counted once each."""
    counter = series((0, 10, 1.0), (10, 20, 3.0), (20, 30, 3.0))
    start, end = np.array([1, 2, 12, 5]), np.array([2, 5, 24, 6])
    group = np.array([1, 1, 1, 2])
    made = summed(group, (end - start).astype(np.float64), means(counter, start, end))
    assert list(made["group_id"]) == [1, 2]
    assert made["mean"] == pytest.approx([(4 * 1.0 + 12 * 3.0) / 16, 1.0])
    assert made["deviation"] == pytest.approx([math.sqrt((4 * 1.5**2 + 12 * 0.5**2) / 16), 0.0])
    assert list(made["distinct_samples"]) == [3, 1]
    assert list(made["interpolated"]) == ["none", "none"]


def shares(con: duckdb.DuckDBPyConnection, cycle: int = 1) -> dict[tuple[str, str], tuple[Any, ...]]:
    """(beta, us, instances, CPUs) of each function and device of a cycle."""
    found = con.table("function_usage").filter(f"cycle_index = {cycle}")
    columns = "function_name, device, round(beta_pct, 6), duration_ns // 1000, instances, cpus"
    return {(name, device): tuple(rest) for name, device, *rest in found.select(columns).fetchall()}


def test_no_function_takes_more_of_a_stream_than_there_is(tmp_path: Path) -> None:
    """Kernels of one name that overlap on a stream count once; waits and copies have classes of their own."""
    work = launched(
        101, 1, ("k", 110, 40), ("k", 130, 30), ("k", 135, 5), ("ncclDevKernel_AllReduce", 150, 5)
    )
    copy = event("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 160, 10, 0, correlation=1, device=0)
    wait = event("cuda_runtime", "cudaStreamSynchronize", 165, 8)
    with divided(tmp_path, *STEPS, *work, copy, wait, event("cpu_op", "aten::mm", 102, 3)) as (con, _):
        assert shares(con) == {
            ("k", "GPU 0"): (50.0, 50, 3, None), ("ncclDevKernel_AllReduce", "GPU 0"): (5.0, 5, 1, None),
            ("Memcpy DtoH (Device -> Pinned)", "GPU 0"): (10.0, 10, 1, None),
            ("cudaStreamSynchronize", "Host"): (8.0, 8, 1, None),
        }  # fmt: skip
        assert sorted(set(rows(con, "function_usage", "function_name", "function_class"))) == [
            ("Memcpy DtoH (Device -> Pinned)", "gpu_memcpy_d2h"), ("cudaStreamSynchronize", "cpu_sync"),
            ("k", "gpu_compute"), ("ncclDevKernel_AllReduce", "gpu_comm"),
        ]  # fmt: skip


def test_operators_count_where_there_is_no_gpu(tmp_path: Path) -> None:
    """Each without the operators that it called, so that a thread's shares add up to its time at most."""
    operators = [
        ("linear", 110, 40),
        ("addmm", 115, 30),
        ("copy_", 120, 5),
        ("copy_", 130, 5),
        ("linear", 160, 5),
    ]
    with divided(tmp_path, *STEPS, *(event("cpu_op", *one) for one in operators)) as (con, warnings):
        assert shares(con) == {
            ("linear", "Host"): (15.0, 15, 2, None), ("addmm", "Host"): (20.0, 20, 1, None),
            ("copy_", "Host"): (10.0, 10, 2, None),
        }  # fmt: skip
        assert "t.json: no GPU work was recorded: operators on the CPU are counted" in warnings


def slices(*told: tuple[str, int, int, float, float]) -> dict[str, list[dict[str, Any]]]:
    """Slices of process 7: (kind, thread, CPU, start, length), in us."""
    names = ("kind", "tid", "cpu", "start_ns", "duration_ns")
    rows = [(kind, tid, cpu, round(start * US), round(us * US)) for kind, tid, cpu, start, us in told]
    return {"scheduler_slices": [{"pid": 7, **dict(zip(names, row, strict=True))} for row in rows]}


def test_slices_are_cut_where_cycles_meet(tmp_path: Path) -> None:
    """Time on CPUs adds up over threads and may exceed the cycle; the table says over how many CPUs."""
    told = slices(
        ("oncpu", 7, 0, 50, 100), ("oncpu", 8, 1, 100, 250), ("runq", 9, 1, 190, 20), ("lost", 9, 1, 0, 999)
    )  # fmt: skip
    with divided(tmp_path, *STEPS, beside=told) as (con, _):
        assert shares(con) == {("oncpu", "Host"): (150.0, 150, 2, 2), ("runq", "Host"): (10.0, 10, 1, 1)}
        assert shares(con, 2) == {("oncpu", "Host"): (100.0, 100, 1, 1), ("runq", "Host"): (10.0, 10, 1, 1)}


def sample(
    name: str,
    device: str | None,
    value: float,
    unit: str,
    at: int = 100,
    us: int = 100,
    pid: int | None = None,
) -> dict[str, Any]:
    """A row of counters."""
    times = {"start_ns": at * US, "duration_ns": us * US}
    return {"counter_name": name, "device": device, "value": value, "unit": unit, "pid": pid, **times}


def test_counters_go_with_classes_of_functions(tmp_path: Path) -> None:
    """Each class has its counters, of its device; shares of what is known to be all of it, else absolute."""
    counters = [
        sample("gpu_sm_frequency", "GPU 0", 1400, "MHz", us=50),
        sample("gpu_sm_frequency", "GPU 0", 210, "MHz", at=150, us=50),
        sample("gpu_sm_frequency", "GPU 1", 999, "MHz"),
        sample("gpu_mem_used", "GPU 0", 40e9, "bytes"),
        sample("gpu_usage", "GPU 0", 50, "%"),
        sample("gpu_pcie_transmit", None, 1, "bytes/s"),
        sample("net_rx", "eth0", 7, "bytes/s"),
        sample("net_rx", "eth1", 5, "bytes/s"),
        sample("process_cpu_usage", "Host", 150, "% of one core", pid=1),
        sample("cpu_frequency", "CPU 0", 2000, "MHz"),
        sample("cpu_frequency", "CPU 1", 4000, "MHz"),
    ]
    beside = {"counters": counters, **slices(("oncpu", 7, 0, 100, 90))}
    work = launched(101, 1, ("k", 120, 60), ("ncclKernel", 110, 5))
    head = {"deviceProperties": [{"id": 0, "name": "a GPU", "totalGlobalMem": 80_000_000_000}]}
    with divided(tmp_path, *STEPS, *work, head=head, beside=beside) as (con, warnings):
        found = con.table("function_usage").filter("cycle_index = 1").order("function_name, metric_name")
        columns = "function_name, metric_name, round(mu_pct, 6), distinct_samples, interpolated, capacity"
        assert found.select(columns).fetchall() == [
            ("k", "gpu_mem_used", 50.0, 1, "none", 80e9),
            ("k", "gpu_sm_frequency", 80500.0, 2, "none", None),  # 1400 MHz for 30 us, 210 MHz for 30 us
            ("k", "gpu_usage", 50.0, 1, "none", 100.0),
            ("ncclKernel", "gpu_usage", 50.0, 1, "none", 100.0),
            ("ncclKernel", "net_rx", 1200.0, 1, "none", None),
            ("oncpu", "cpu_frequency", 300000.0, 1, "none", None),
            ("oncpu", "process_cpu_usage", 75.0, 1, "none", 200.0),  # of two CPUs
        ]
        assert not [one for one in warnings if "no counter" in one]


def published_turn(ts: float, who: str) -> list[dict[str, Any]]:
    """A cycle of 100 us as the published profiler writes it."""

    def work(cat: str, name: str, at: float, dur: float, correlation: float) -> dict[str, Any]:
        return {**event(cat, name, at, dur, who, correlation=int(correlation)), "tid": "device:3 stream 7"}

    return [
        event("python", "Scheduler.run_batch", ts, 80, who, filePath="/x/scheduler.py", lineno=9),
        event("cuda_runtime", "cudaLaunchKernel", ts + 1, 1, who, correlation=int(ts)),
        work("Kernel", "gemm", ts + 10, 40, ts),
        event("cuda_runtime", "cudaMemcpyAsync", ts + 2, 1, who, correlation=int(ts) + 1),
        work("Memcpy", "Memcpy HtoD (Pinned -> Device)", ts + 50, 10, ts + 1),
        {**event("CAT_CPU", "oncpu", ts, 90, who), "tid": 77},
        event("CAT_DISK", "read", ts + 3, 2, who),
        event("CAT_APP", "cuStreamSynchronize", ts + 60, 5, who),
    ]


def counted(cat: str, name: str, tid: str, ts: float, value: float) -> dict[str, Any]:
    """A counter's sample as the published profiler writes it."""
    return {"ph": "C", "cat": cat, "name": name, "pid": "h", "tid": tid, "ts": ts, "args": {"value": value}}


def test_the_published_profilers_trace_is_divided(tmp_path: Path) -> None:
    """Python methods, slices, reads, copies, counters of a GPU by thread and of a process by name."""
    turns = [one for ts in (100, 200, 300) for one in published_turn(ts, "host-a(1234)")]
    counters = [
        counted("CAT_XPU", "gpu_usage", "CAT_XPU_3", 149, 60),
        counted("CAT_PROCESS", "process_cpu_usage_1.234e+03", "1", 120, 130),
    ]
    with divided(tmp_path, *turns, *counters) as (con, _):
        told = rows(con, "cycles", "hostname", "pid", "anchor_name")
        assert told[0] == ("host-a", 1234, "Scheduler.run_batch")
        assert ("process_cpu_usage", 1234) in rows(con, "counters", "counter_name", "pid")
        found = con.table("function_usage").filter("cycle_index = 1").order("function_name, metric_name")
        columns = "function_name, function_class, device, round(beta_pct, 6), metric_name, mu_pct"
        assert found.select(columns).fetchall() == [
            ("Memcpy HtoD (Pinned -> Device)", "gpu_memcpy_h2d", "GPU 3", 10.0, None, None),
            ("cuStreamSynchronize", "cpu_sync", "Host", 5.0, None, None),
            ("gemm", "gpu_compute", "GPU 3", 40.0, "gpu_usage", 60.0),
            ("oncpu", "oncpu", "Host", 90.0, "process_cpu_usage", 130.0),
            ("read", "disk_read_and_write", "Host", 2.0, None, None),
        ]
