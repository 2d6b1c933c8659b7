"""Like with like: ranks against scipy and by hand, which cycles are compared, what waits, and odd input."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, mannwhitneyu
from typer.testing import CliRunner

from tasks.cli.main import app
from tasks.deepdive.comparison import Compared, compare_campaign, compared
from tasks.deepdive.like import LEVELS, MOST_CYCLES, NO_MODE
from tasks.deepdive.ranks import corrected, p_values, shifts
from tasks.deepdive.side import Pair, Side, process_pairs
from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.settings import LprismError
from tasks.traces.bundle import ingest_bundle
from tasks.warehouse import create_table, insert_by_name, memory_connection
from tests.warehouse_cases import CAMPAIGN, RUN, good_bundle

NORMAL, ABNORMAL = Side("normal"), Side("abnormal")
MS = 1_000_000
Row = dict[str, Any]


def p_of(
    normal: npt.NDArray[np.float64],
    abnormal: npt.NDArray[np.float64],
    kinds: tuple[list[int], list[int]] | None = None,
) -> npt.NDArray[np.float64]:
    """The p of rows of two matrices whose cycles are all of one kind."""
    first, second = kinds or ([0] * normal.shape[1], [0] * abnormal.shape[1])
    found = shifts(normal, abnormal, np.array(first), np.array(second))
    return p_values(found.delta, found.normal, found.abnormal, found.ties)


@pytest.mark.parametrize(
    ("sizes", "decimals"), [((2, 3), 9), ((5, 7), 9), ((8, 60), 9), ((9, 40), 9), ((30, 40), 1)]
)
def test_p_is_that_of_scipy(sizes: tuple[int, int], decimals: int) -> None:
    """Exact for few, normal for many, with and without ties; the delta is U's, the correction scipy's."""
    some = np.random.default_rng(7)
    normal = np.round(some.normal(5.0, 1.0, (20, sizes[0])), decimals)
    abnormal = np.round(some.normal(5.6, 1.0, (20, sizes[1])), decimals)
    test = mannwhitneyu(abnormal, normal, axis=1)
    assert p_of(normal, abnormal) == pytest.approx(test.pvalue, abs=1e-12)
    found = shifts(normal, abnormal, np.zeros(sizes[0], np.int64), np.zeros(sizes[1], np.int64))
    assert found.delta == pytest.approx(2 * test.statistic / (sizes[0] * sizes[1]) - 1, abs=1e-12)
    assert corrected(test.pvalue) == pytest.approx(false_discovery_control(test.pvalue), abs=1e-12)


def test_kinds_are_ranked_each_by_itself() -> None:
    """By hand: 2 against 2 of two kinds, all longer: 1 of 6 orders twice over is 1 of 36, on two sides.

    A prefill that is as long as ever does not hide that; across kinds nothing is compared.
    """
    normal, abnormal = np.array([[1.0, 2.0, 100.0, 110.0]]), np.array([[3.0, 4.0, 130.0, 120.0]])
    kinds = [0, 0, 1, 1]
    assert p_of(normal, abnormal, (kinds, kinds)) == pytest.approx([2 / 36])
    found = shifts(normal, abnormal, np.array(kinds), np.array(kinds))
    ratios = [3, 4, 1.5, 2, 1.3, 1.2, 13 / 11, 12 / 11]
    assert found.delta.tolist() == [1.0]
    assert found.ratio == pytest.approx([np.exp(np.median(np.log(ratios)))])
    assert np.isnan(p_of(normal, abnormal, ([0, 0, 1, 1], [2, 2, 3, 3]))).all()


def test_what_is_all_equal_or_on_one_side_only_is_not_found() -> None:
    """Ties alone give p 1; a row without values on a side, or with one, gives none."""
    same, none = np.full((1, 20), 3.0), np.full((1, 20), np.nan)
    once = np.where(np.arange(20) == 0, 5.0, none)
    assert p_of(same, same).tolist() == [1.0]
    assert np.isnan([p_of(same, none), p_of(none, same), p_of(same, once)]).all()
    assert np.isnan(shifts(same, none, np.zeros(20, int), np.zeros(20, int)).ratio).all()


def cycle(index: int, mode: str | None = "decode", batch: int = 4, **other: Any) -> Row:  # noqa: ANN401  of any field
    """A row of `cycles`."""
    fields = {"hostname": "h", "pid": 7, "kv_tokens": 1000, "new_input_tokens": batch}
    return fields | {"cycle_index": index, "forward_mode": mode, "batch_size": batch} | other


def use(of: Row, name: str, call_us: float, calls: int = 1, **other: Any) -> Row:  # noqa: ANN401  of any field
    """A row of `function_usage` in a cycle of 20 ms."""
    spent = round(call_us * calls * 1000)
    fields = {
        "hostname": of["hostname"], "pid": of["pid"], "cycle_index": of["cycle_index"], "function_name": name,
        "cycle_start_ns": of["cycle_index"] * 20 * MS, "anchor_duration_ns": 20 * MS, "anchor_name": "step",
        "function_class": "gpu_compute", "device": "GPU 0", "metric_name": "gpu_usage", "mu_pct": 50.0,
        "beta_pct": spent / 20 / MS * 100, "duration_ns": spent, "instances": calls,
    }  # fmt: skip
    return fields | other


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables that a comparison reads, empty."""
    with memory_connection() as made:
        for table in ("function_usage", "cycles", "counters"):
            create_table(made, table, is_working=True)
        yield made


def put(con: duckdb.DuckDBPyConnection, table: str, run: str, rows: list[Row]) -> None:
    """Add rows of a run to a table."""
    if rows:
        insert_by_name(con.from_df(pd.DataFrame(rows).assign(run_id=run)), table)


def compare(
    con: duckdb.DuckDBPyConnection, normal: list[tuple[Row, list[Row]]], abnormal: list[tuple[Row, list[Row]]]
) -> Compared:
    """Compare two runs of (cycle, what it used)."""
    for run, cycles in (("normal", normal), ("abnormal", abnormal)):
        put(con, "cycles", run, [of for of, _ in cycles])
        put(con, "function_usage", run, [row for _, rows in cycles for row in rows])
    return compared(con, NORMAL, ABNORMAL)


def steps(call_us: float, count: int = 6, first: int = 1, **other: Any) -> list[tuple[Row, list[Row]]]:  # noqa: ANN401  of any field
    """Cycles that used `mm` a few times, each a little longer a call than the one before."""
    cycles = [cycle(index, **other) for index in range(first, first + count)]
    return [(of, [use(of, "mm", call_us + 0.01 * of["cycle_index"], 64)]) for of in cycles]


def test_a_prefill_is_not_compared_with_a_decode_step(con: duckdb.DuckDBPyConnection) -> None:
    """More prefill in the load, a larger batch, a longer context: nothing of it passes for a slow device."""
    normal = steps(10) + steps(90, 2, 11, mode="prefill") + steps(20, 2, 21, batch=16)
    normal += steps(0.1, 9, 91, mode="idle")
    now = steps(10, first=31) + steps(90, 9, 41, mode="prefill") + steps(20, 9, 51, batch=16)
    now += steps(70, 9, 71, kv_tokens=64_000) + steps(0.1, 9, 91, mode="idle")
    [row] = compare(con, normal, now).rows.to_dict("records")
    assert row["slowdown"] == pytest.approx(1.0, abs=0.1)
    assert row["matched_on"] == "forward mode, batch size and tokens"
    assert (row["normal_cycles"], row["abnormal_cycles"]) == (10, 24)


def test_batches_of_other_sizes_are_compared_where_there_are_no_like_ones_and_it_is_told(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """On the forward mode alone; what has not even that in common has no figure of ours."""
    found = compare(con, steps(10, batch=4), steps(15, batch=16))
    assert set(found.rows["matched_on"]) == {"forward mode"}
    assert found.warnings[-1].endswith(
        "few cycles are of one batch size: they are matched on the forward mode alone"
    )
    put(con, "cycles", "other", [of for of, _ in steps(10, mode="prefill")])
    put(con, "function_usage", "other", [row for _, rows in steps(10, mode="prefill") for row in rows])
    other = compared(con, NORMAL, Side("other"))
    ours = ["matched_on", "slowdown", "p_value", "mu_p_value", "call_normal_us"]
    assert other.rows[ours].isna().all(axis=None)
    assert other.matched_cycles == 0
    assert other.rows["suspicion_score"].notna().all()
    assert "process 7: no cycle has its like on the other side" in other.warnings[0]


def test_times_of_a_call_compare_where_cycles_are_of_other_anchors(con: duckdb.DuckDBPyConnection) -> None:
    """Whole steps of 64 calls beside single layers of one: a call as long is no change; it is warned of."""
    normal = [(cycle(i), [use(cycle(i), "mm", 10 + i / 100, 64)]) for i in range(1, 9)]
    layers = [(cycle(i), [use(cycle(i), "mm", 10 + i / 100, 1, anchor_name="layer")]) for i in range(1, 9)]
    found = compare(con, normal, layers)
    [row] = found.rows.to_dict("records")
    assert (row["slowdown"], row["effect_size"]) == (pytest.approx(1.0), 0.0)
    assert row["beta_difference_pct"] < -3  # the published share
    assert "different anchors (step; layer)" in found.warnings[0]


def test_a_counter_has_as_many_samples_as_were_taken_not_as_there_are_cycles(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """40 cycles in the time of four samples: p is that of 4 against 4, whatever was interpolated between."""

    def side(mu: float) -> list[tuple[Row, list[Row]]]:
        return [(cycle(i), [use(cycle(i), "mm", 10, mu_pct=mu + i / 1000)]) for i in range(1, 41)]

    for run in ("normal", "abnormal"):
        put(con, "counters", run, [
            {"start_ns": at * 250 * MS, "counter_name": "gpu_usage", "device": "GPU 0", "value": 1.0}
            for at in range(4)
        ])  # fmt: skip
    [row] = compare(con, side(50), side(80)).rows.to_dict("records")
    assert (row["normal_cycles"], row["normal_samples"], row["mu_effect_size"]) == (40, 4, 1.0)
    assert row["mu_p_value"] == pytest.approx(2 / 70)
    assert row["p_value"] == 1.0  # the time is measured in every cycle, and did not move


def test_a_counter_that_is_missing_in_some_cycles_makes_no_second_row(con: duckdb.DuckDBPyConnection) -> None:
    """Its function's time is that of all cycles."""
    lacking = [
        (of, [row | {"metric_name": None, "mu_pct": None} for row in rows]) for of, rows in steps(10, 3, 7)
    ]
    [row] = compare(con, steps(10) + lacking, steps(10)).rows.to_dict("records")
    assert (row["metric_name"], row["normal_cycles"]) == ("gpu_usage", 9)


def test_samples_of_devices_without_a_name_are_of_one_time(con: duckdb.DuckDBPyConnection) -> None:
    """Eight GPUs under one counter, a few ms apart once a second: samples are counted in seconds."""
    for run in ("normal", "abnormal"):
        put(con, "counters", run, [
            {"start_ns": (1000 * second + 3 * gpu) * MS, "counter_name": "gpu_usage", "value": 1.0}
            for second in range(5) for gpu in range(8)
        ])  # fmt: skip
    normal, abnormal = (
        steps(10, 100),
        steps(10, 100),
    )  # from 0.02 to 2.02 s: seconds 0 to 2, and 3 to end with
    [row] = compare(con, normal, abnormal).rows.to_dict("records")
    assert (row["normal_samples"], row["abnormal_samples"]) == (4, 4)


def rank(pid: int, compute: float, spin: float, first: int = 1) -> list[tuple[Row, list[Row]]]:
    """Six steps of a rank: three kernels that work, and one that waits for the other rank."""
    cycles = [cycle(index, pid=pid, rank=pid) for index in range(first, first + 6)]
    times = {"mm": 100 * compute, "norm": 10 * compute, "rope": 5 * compute, "combine": spin}
    return [
        (of, [use(of, name, call, device=f"GPU {pid}") for name, call in times.items()]) for of in cycles
    ]  # fmt: skip


def test_what_spins_until_the_other_rank_comes_is_marked(con: duckdb.DuckDBPyConnection) -> None:
    """One GPU becomes eight times slower: all its work is slow; what the other rank waits in is told."""
    rows = compare(con, rank(0, 1, 12) + rank(1, 1, 10), rank(0, 1, 500) + rank(1, 8, 14)).rows
    waits = rows.groupby("function_name")["is_waiting"].agg(["all", "any"])
    assert waits[waits["any"]].index.tolist() == waits[waits["all"]].index.tolist() == ["combine"]
    work = rows[~rows["is_waiting"]].groupby("device")["slowdown"].median()
    assert work.to_dict() == {"GPU 0": pytest.approx(1.0), "GPU 1": pytest.approx(8.0)}
    assert set(rows["pairing"]) == {"strict"}


def test_processes_are_paired_with_their_like() -> None:
    """By host and pid, else by rank, else each with each; one pid on two hosts is two processes."""
    assert process_pairs(
        {(None, 1): None, (None, 2): None}, {(None, 2): None, (None, 4): None, (None, 5): None}
    ) == [
        Pair((None, 2), (None, 2), "strict"),
        Pair((None, 1), (None, 4), "cross"),
        Pair((None, 1), (None, 5), "cross"),
    ]
    ranked = process_pairs({("a", 1): 0, ("b", 1): 1}, {("c", 1): 1, ("d", 1): 0})
    assert ranked == [Pair(("a", 1), ("d", 1), "rank"), Pair(("b", 1), ("c", 1), "rank")]


def test_one_pid_on_two_hosts_is_two_processes(con: duckdb.DuckDBPyConnection) -> None:
    """Neither's cycles are taken for the other's, and it is told."""
    now = steps(20) + steps(30, hostname="other", batch=16)
    found = compare(con, steps(10) + steps(30, hostname="other"), now)
    rows = found.rows.set_index("hostname")
    assert rows["slowdown"].round(2).to_dict() == {"h": 2.0, "other": 1.0}
    assert rows["matched_on"].to_dict() == {"h": LEVELS[0][0], "other": LEVELS[-1][0]}
    assert (
        "the normal side has processes of one pid on several hosts: each is taken by itself" in found.warnings
    )


def test_little_is_told_of_little(con: duckdb.DuckDBPyConnection) -> None:
    """One cycle, no forward mode, no counter, no GPU: times all the same, no p, and a warning of each."""
    bare: Row = {"device": "Host", "function_class": "cpu_compute", "metric_name": None, "mu_pct": None}
    normal = [(cycle(1, None), [use(cycle(1), "mm", 10, **bare)])]
    found = compare(con, normal, [(cycle(1, None), [use(cycle(1), "mm", 20, **bare)])])
    [row] = found.rows.to_dict("records")
    assert (row["slowdown"], row["matched_on"]) == (2.0, NO_MODE)
    assert np.isnan([row["p_value"], row["mu_p_value"], row["suspicion_score"]]).all()
    assert found.warnings == (
        "neither side has GPU work: what ran on CPUs alone compares",
        "the normal side has no counter beside any function",
        "the abnormal side has no counter beside any function",
        "process 7: nothing tells the forward mode of the cycles: all are taken as alike",
        "process 7: 1 matched cycle on a side: little can be told",
    )


def test_a_side_may_be_chosen_cycles_or_spans_of_time(con: duckdb.DuckDBPyConnection) -> None:
    """Two halves of one run; an incident against what surrounds it; a side without cycles says so."""
    put(con, "cycles", "run", [of for of, _ in steps(10, 12)])
    slow = [use(of, "mm", 30 if 4 <= of["cycle_index"] < 8 else 10) for of, _ in steps(10, 12)]
    put(con, "function_usage", "run", slow)
    around, during = ((20 * MS, 80 * MS), (160 * MS, 900 * MS)), ((80 * MS, 160 * MS),)
    found = compared(
        con, Side("run", spans=around, part="around"), Side("run", spans=during, part="incident 0")
    )
    [row] = found.rows.to_dict("records")
    assert (row["pair_id"], row["slowdown"]) == ("run#around|run#incident 0", pytest.approx(3.0))
    assert (row["normal_cycles"], row["abnormal_cycles"]) == (8, 4)
    halves = compared(con, Side("run", cycles=(1, 2, 5, 6)), Side("run", cycles=(3, 8, 7, 4)))
    assert halves.rows["normal_cycles"].tolist() == [4]
    with pytest.raises(LprismError, match="run#fault has no usage"):
        compared(con, Side("run"), Side("run", "fault"))


def test_thousands_of_cycles_are_thinned(con: duckdb.DuckDBPyConnection) -> None:
    """Every pair of cycles is looked at: a long trace is compared by a part of it, spread over all of it."""
    [row] = compare(con, steps(10, 900), steps(20, 900)).rows.to_dict("records")
    assert (row["normal_cycles"], row["abnormal_cycles"]) == (MOST_CYCLES, MOST_CYCLES)
    assert row["call_normal_us"] == pytest.approx(10 + 0.01 * 450, abs=0.1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a run that was captured in both windows: calls take twice as long under the fault."""
    ingest_bundle(tmp_path, good_bundle(tmp_path / "bundles" / CAMPAIGN / RUN))
    both = {"baseline": steps(10), "fault": steps(20, first=11)}
    cycles = [of | {"run_window": window} for window, side in both.items() for of, _ in side]
    usage = [row for side in both.values() for _, rows in side for row in rows]
    for table, rows in (("cycles", cycles), ("function_usage", usage)):
        write_frame(tmp_path, table, CAMPAIGN, RUN, pd.DataFrame(rows).assign(run_id=RUN))
    return tmp_path


def test_the_windows_of_a_captured_run_are_compared(home: Path) -> None:
    """The campaign's runs into the lake, one run for people; a window that was not captured is an error."""
    done = compare_campaign(home, CAMPAIGN)
    assert (done.runs, done.rows, list(done.warnings)) == (1, 1, [])
    with lake_connection(home, CAMPAIGN) as con:
        [row] = con.table("rca_comparison").df().to_dict("records")
    assert (row["pair_id"], round(row["slowdown"], 2)) == (f"{RUN}#baseline|{RUN}#fault", 2.01)
    told = CliRunner().invoke(app, ["compare", RUN, "--format", "csv", "--home", str(home)])
    shown = pd.read_csv(io.StringIO(told.stdout))
    assert list(shown.columns[:5]) == [
        "function_name", "metric_name", "device", "suspicion_score", "beta_normal_pct",
    ]  # fmt: skip
    assert shown["slowdown"].tolist() == [row["slowdown"]]
    lost = CliRunner().invoke(app, ["compare", f"{RUN}#baseline", f"{RUN}#recovery", "--home", str(home)])
    assert "recovery has no usage" in str(lost.exception)
