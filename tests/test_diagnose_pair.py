"""The diagnosis of two runs: the published pairs, normal against normal, and whatever may be missing."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tasks.cli.main import app
from tasks.deepdive.diagnose_pair import PairDiagnosis, diagnose_samples
from tasks.deepdive.pair_samples import pair_samples, sided_samples
from tasks.deepdive.side import Side, SideRows
from tasks.deepdive.signatures import load_signatures
from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tests.bench_pairs import DEEPDIVE, first_causes

PAIRS = {
    "cpu_compute_squeeze_out": "Host",
    "cpu_frequency_reduction": "Host",
    "gpu_instability": "GPU 7",
    "gpu_memory_squeeze_out_NVLink": "GPU 6, GPU 7",
    "gpu_memory_squeeze_out_PCIe": "GPU 6, GPU 7",
}
SPLITS = 1
MS = 1_000_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the published DeepDive folder in it."""
    if not DEEPDIVE.is_dir():
        pytest.skip("the published data is not here")
    chosen = tmp_path_factory.mktemp("published")
    done = CliRunner().invoke(app, ["ingest", str(DEEPDIVE), "--home", str(chosen)])
    assert done.exit_code == 0, done.output
    return chosen


@pytest.mark.parametrize("fault", PAIRS)
def test_the_published_pairs_are_named(home: Path, fault: str) -> None:
    """The right cause first, clear of the next, on the right devices, in the promised form."""
    pair = f"published/sglang/{fault}"
    done = CliRunner().invoke(
        app, ["diagnose", f"{pair}/normal", f"{pair}/abnormal", "--json", "--home", str(home)]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert list(found) == ["causes", "baseline", "matched_cycles", "warnings"]
    first, *others = found["causes"]
    assert list(first) == ["rank", "cause", "score", "confidence", "device", "evidence"]
    assert (first["cause"], first["device"]) == (fault, PAIRS[fault])
    assert first["score"] - max((one["score"] for one in others), default=0.0) > 0.5
    assert found["matched_cycles"] >= 7


def test_a_run_against_itself_is_none(home: Path) -> None:
    """Each published run's cycles split in two: `none` first (ten ways each: bench_pairs)."""
    firsts = list(first_causes(home, SPLITS))
    assert len(firsts) == 10 * SPLITS
    assert set(firsts) == {"none"}


def test_a_masked_counter_is_not_there(home: Path) -> None:
    """What the mask hides is no evidence: without its clock a slow GPU is not said to be one."""
    pair = "published/sglang/gpu_instability"
    with lake_connection(home) as con:
        names = dict(con.sql("SELECT run_name, run_id FROM runs").fetchall())
        sides = [Side(names[f"{pair}/{side}"]) for side in ("normal", "abnormal")]
        given = pair_samples(con, sides[0], sides[1], masked=frozenset({"gpu_sm_frequency"}))
    assert "gpu_sm_frequency" not in set(given.samples["counter_name"])
    causes = {one["cause"] for one in diagnose_samples(given, load_signatures()).causes}
    assert "gpu_instability" not in causes


def test_counters_alone_are_said_and_trusted_less(tmp_path: Path) -> None:
    """Four GPUs under one name, one of them busy: the link is named, no GPU is, and a warning says why."""
    for run, busy in {"before": 1.0, "after": 500.0}.items():
        rows = [
            {"run_id": run, "counter_name": "gpu_link_transmit", "device": None, "pid": None,
             "process_name": None, "start_ns": second * 1_000_000_000 + gpu * 1000, "duration_ns": 0,
             "value": (busy if gpu == 2 else 1.0) + second / 100}
            for second in range(10) for gpu in range(4)
        ]  # fmt: skip
        write_frame(tmp_path, "counters", "c", run, pd.DataFrame(rows))
    with lake_connection(tmp_path, "c") as con:
        found = diagnose_samples(pair_samples(con, Side("before"), Side("after")), load_signatures())
    first = found.causes[0]
    assert (first["cause"], first["device"]) == ("gpu_memory_squeeze_out_NVLink", None)
    assert first["confidence"] <= 0.5
    assert "from counters alone" in found.warnings[0]


def side(
    clock: float = 1400.0, kernel_ms: float = 1.0, cycles: int = 12, anchor: str = "step", *, hosts: int = 1
) -> SideRows:
    """Cycles of 50 ms: three kernels on GPU 3, each beside its clock and use."""
    rows = [
        {"hostname": f"h{host}", "pid": 1, "cycle_index": cycle, "cycle_start_ns": cycle * 50 * MS,
         "anchor_name": anchor, "anchor_duration_ns": 50 * MS, "function_name": name, "simple_name": name,
         "function_class": "gpu_compute", "device": "GPU 3", "metric_name": metric, "beta_pct": 2.0,
         "mu_pct": value * (1 + 0.001 * (cycle % 5)), "duration_ns": kernel_ms * MS * (1 + (cycle % 3) / 100),
         "instances": 4, "distinct_samples": 1, "rank": None, "forward_mode": "decode", "batch_size": 8,
         "kv_tokens": 100, "new_input_tokens": 8}
        for host in range(hosts) for cycle in range(1, cycles + 1) for name in ("a", "b", "c")
        for metric, value in (("gpu_sm_frequency", clock), ("gpu_usage", 50.0))
    ]  # fmt: skip
    times = pd.DataFrame({"counter_name": pd.Series(dtype=str), "start_ns": [], "end_ns": []})
    return SideRows(pd.DataFrame(rows), times)


def diagnosed(normal: SideRows, abnormal: SideRows) -> PairDiagnosis:
    """The diagnosis of two made-up sides."""
    return diagnose_samples(sided_samples(normal, abnormal), load_signatures())


def test_a_slow_clock_is_named_only_where_kernels_are_slower() -> None:
    """The lowest clock is the idle clock, too."""
    slow, idle = side(clock=300.0, kernel_ms=3.0), side(clock=300.0)
    first = diagnosed(side(), slow).causes[0]
    assert (first["cause"], first["device"]) == ("gpu_instability", "GPU 3")
    assert diagnosed(side(), idle).causes[0]["cause"] == "none"


def ranked(spin: float) -> SideRows:
    """Two ranks with a collective of their own; it takes `spin` times as long on the first."""
    one, parts = side().usage, []
    for pid in (1, 2):
        collective = one[one["function_name"] == "a"].assign(function_name="all", function_class="gpu_comm")
        collective["duration_ns"] *= spin if pid == 1 else 1.0
        parts.append(pd.concat([one, collective]).assign(pid=pid, device=f"GPU {pid}", rank=pid))
    return SideRows(pd.concat(parts, ignore_index=True), side().times)


def test_the_spinning_of_a_rank_that_comes_first_is_no_slow_communication() -> None:
    """It waits for the other: its time is left out of what communication took."""
    sound = sided_samples(ranked(1.0), ranked(1.2)).samples
    spinning = sided_samples(ranked(1.0), ranked(20.0)).samples
    assert "comm_time" in set(sound["counter_name"])
    assert "comm_time" not in set(spinning["counter_name"])


def test_one_cycle_names_nothing() -> None:
    """One cycle a side may be anything: `none`, little confidence, and a warning."""
    found = diagnosed(side(cycles=1), side(clock=300.0, kernel_ms=3.0, cycles=1))
    assert found.causes[0]["cause"] == "none"
    assert any("1 matched cycle" in one for one in found.warnings)


def test_other_anchors_are_warned_of_and_times_of_a_call_still_tell() -> None:
    """Layers beside batches."""
    found = diagnosed(side(), side(clock=300.0, kernel_ms=3.0, anchor="layer"))
    assert found.causes[0]["cause"] == "gpu_instability"
    assert any("different anchors" in one for one in found.warnings)


def test_no_like_cycle_and_no_gpu_are_said() -> None:
    """Prefill beside decode compares nothing; a side without GPU rows says so."""
    other = side(clock=300.0, kernel_ms=3.0)
    prefill = SideRows(other.usage.assign(forward_mode="prefill"), other.times)
    found = diagnosed(side(), prefill)
    assert (found.causes[0]["cause"], found.matched_cycles) == ("none", 0)
    assert any("no cycle" in one for one in found.warnings)
    on_cpu = SideRows(other.usage.assign(device="Host", function_class="cpu_compute"), other.times)
    assert any("has GPU work" in one for one in diagnosed(side(), on_cpu).warnings)


def test_no_counter_names_nothing() -> None:
    """Slow kernels alone have many causes."""
    bare = [
        SideRows(one.usage.assign(metric_name=None, mu_pct=np.nan), one.times)
        for one in (side(), side(kernel_ms=3.0))
    ]
    found = diagnosed(*bare)
    assert found.causes[0]["cause"] == "none"
    assert any("no counter" in one for one in found.warnings)


def test_one_pid_on_two_hosts_is_two_processes() -> None:
    """Each is taken by itself, and said."""
    found = diagnosed(side(hosts=2), side(clock=300.0, kernel_ms=3.0, hosts=2))
    assert found.causes[0]["cause"] == "gpu_instability"
    assert any("one pid on several hosts" in one for one in found.warnings)


def test_float_pids_and_a_clock_that_jumped_change_nothing() -> None:
    """A pid that went through a table of floats is the same process; times of a call outlast a set clock."""
    slow = side(clock=300.0, kernel_ms=3.0)
    is_late = slow.usage["cycle_index"] > 6
    moved = slow.usage.assign(
        pid=slow.usage["pid"].astype("float64"),
        cycle_start_ns=slow.usage["cycle_start_ns"] + is_late * 3600 * 1_000 * MS,
    )
    found = diagnosed(side(), SideRows(moved, slow.times))
    assert found.causes[0] == diagnosed(side(), slow).causes[0]
    assert found.matched_cycles == 12


def test_work_without_its_launches_is_said() -> None:
    """Lost flow events leave one side without GPU work: nothing is named, and a warning says so."""
    slow = side(clock=300.0, kernel_ms=3.0)
    lost = slow.usage.assign(function_class="cpu_sync", device="Host", metric_name=None, mu_pct=np.nan)
    found = diagnosed(side(), SideRows(lost, slow.times))
    assert found.causes[0]["cause"] == "none"
    assert any("one side only has GPU work" in one for one in found.warnings)


def test_what_to_diagnose_must_be_said() -> None:
    """Neither a run nor a campaign is bad usage."""
    assert CliRunner().invoke(app, ["diagnose"]).exit_code == 2
