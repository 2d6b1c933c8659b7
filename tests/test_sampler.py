"""The sampler: two readings in, rates out; and the real one at work for a second."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.host import facts, readings
from tasks.host.sampler import Sampler, _rates

S = 1_000_000_000


def test_cpu_usage_is_the_share_of_its_ticks() -> None:
    """Of (busy, idle, stolen) since the last reading, a CPU each and the host as a whole."""
    old = {"cpu": (100, 100, 0), "cpu0": (100, 50, 0), "cpu1": (0, 50, 0)}
    new = {"cpu": (160, 130, 10), "cpu0": (160, 50, 10), "cpu2": (9, 9, 9)}
    assert sorted(Sampler(1, [0])._cpu_rows(old, new)) == [
        ("cpu_steal", "CPU 0", None, None, pytest.approx(100 * 10 / 70)),
        ("cpu_usage", "CPU 0", None, None, pytest.approx(100 * 60 / 70)),
        ("host_cpu_usage", "Host", None, None, 60.0),
    ]


def test_what_the_engine_did_not_use_of_its_cpus_is_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run and wait times are summed over the threads that both readings know."""
    old = {"threads": {1: (0, 0), 2: (5 * S, S)}, "throttled": 0}
    new = {"threads": {1: (S, 3 * S), 2: (5 * S, S), 3: (9 * S, 9 * S)}, "throttled": S}
    cpu = [("cpu_usage", "CPU 0", None, None, 90.0), ("cpu_usage", "CPU 1", None, None, 70.0)]
    monkeypatch.setattr(readings, "resident_bytes", lambda _pids: 4096)
    assert Sampler(77, [0])._engine_rows(old, new, 2.0, list(cpu)) == [
        ("process_cpu_usage", "Host", 77, None, 50.0),
        ("process_runq_wait", "Host", 77, None, 1500.0),
        ("other_cpu_usage", "Host", None, None, 40.0),
        ("process_mem_rss", "Host", 77, None, 4096),
        ("process_cgroup_throttled", "Host", 77, None, 500.0),
    ]


def test_a_rate_is_a_difference_over_its_seconds() -> None:
    """Of every device that both readings know."""
    rows = _rates(("net_rx", "net_tx"), {"lo": (10, 0), "gone": (1, 1)}, {"lo": (30, 5), "new": (1, 1)}, 2.0)
    assert list(rows) == [("net_rx", "lo", None, None, 10.0), ("net_tx", "lo", None, None, 2.5)]


def test_the_busiest_neighbours_on_the_engines_cpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three at most, the busiest first; neither the engine's own nor those that ran elsewhere."""
    old = {10: ("engine", 7, 0), 11: ("a", 1, 0), 12: ("b", 1, 0), 13: ("away", 1, 0), 14: ("idle", 1, 5)}
    new = {
        pid: (name, session, before + ticks * readings.TICKS)
        for (pid, (name, session, before)), ticks in zip(old.items(), (9, 1, 2, 5, 0), strict=True)
    } | {15: ("c", 1, 3 * readings.TICKS), 16: ("least", 1, readings.TICKS // 2)}
    monkeypatch.setattr(readings, "ran_on", lambda pid, cpus: (pid, cpus) != (13, [0]))
    monkeypatch.setattr(readings, "avx512_age_ms", lambda pid: 8 if pid == 15 else None)
    assert Sampler(7, [0])._neighbours(old, new, 2.0) == [
        ("other_process_cpu_usage", "Host", 15, "c", 150.0),
        ("other_process_avx512_age", "Host", 15, "c", 8),
        ("other_process_cpu_usage", "Host", 12, "b", 100.0),
        ("other_process_cpu_usage", "Host", 11, "a", 50.0),
    ]


def test_the_first_reading_has_nothing_to_compare_with() -> None:
    """No value is made up; the second sample has the counters of every kind."""
    sampler = Sampler(os.getsid(0), facts.usable_cpus())
    assert (sampler.slow(0), sampler.fast(0)) == ([], [])
    slow, fast = ({row[0] for row in read(S)} for read in (sampler.slow, sampler.fast))
    assert {"net_rx", "net_tx", "sampler_cpu_usage"} <= slow
    assert {"host_cpu_usage", "cpu_usage", "process_cpu_usage", "process_runq_wait", "host_mem_usage"} <= fast


def test_a_second_of_sampling(tmp_path: Path) -> None:
    """A clock line first and last, samples that tile the time between, and a clean end on SIGTERM."""
    cpu, out = str(facts.usable_cpus()[0]), tmp_path / "counters.jsonl"
    program = [sys.executable, "-m", "tasks.host.sampler", "--out", str(out), "--hz", "20"]
    with subprocess.Popen([*program, "--engine-session", str(os.getsid(0)), "--cpus", cpu]) as sampler:
        end = time.monotonic() + 20
        while (not out.exists() or out.read_text().count("\n") < 10) and time.monotonic() < end:
            time.sleep(0.05)
        sampler.send_signal(signal.SIGTERM)
        assert sampler.wait(5) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert (lines[0]["type"], lines[-1]["type"]) == ("clock", "clock")
    assert lines[0]["realtime_ns"] < lines[-1]["realtime_ns"]
    samples = [line for line in lines if line["type"] == "sample"]
    fast = [line for line in samples if any(value[0] == "host_cpu_usage" for value in line["values"])]
    assert len(fast) >= 8
    for before, after in itertools.pairwise(fast):
        assert after["mono_ns"] - after["interval_ns"] == before["mono_ns"]
