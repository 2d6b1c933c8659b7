"""Two sides of a diagnosis as samples: what counters said in like cycles, and how long calls took.

The result has the columns of run_samples (tasks/deepdive/compare.py), so that one grammar of clauses reads
both: `reference` is the normal side, `incident` the abnormal one. Beside the counters it has *call times*,
relative to the normal side (1 = as long as there), one sample a cycle: kernel_time, comm_time, copy_time,
op_time, syscall_time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.deepdive.compare import INCIDENT, REFERENCE
from tasks.deepdive.like import doubts as like_doubts
from tasks.deepdive.like import matched
from tasks.deepdive.side import Side, doubts, process_pairs, samples, side_rows
from tasks.deepdive.waiting import SYNCHRONISATION, waiting_on_a_rank
from tasks.settings import LprismError
from tasks.warehouse import execute

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb
    import pandas as pd

    from tasks.deepdive.side import Pair, SideRows

CALL_TIMES = {
    "gpu_compute": "kernel_time",
    "gpu_comm": "comm_time",
    "gpu_memcpy_d2h": "copy_time",
    "gpu_memcpy_h2d": "copy_time",
    "cpu_compute": "op_time",
    "disk_read_and_write": "syscall_time",
    "memory": "syscall_time",
}
UNNAMED = "one of its devices"
COLUMNS = ("counter_name", "device", "pid", "process_name", "start_ns", "end_ns", "value", "side")


@dataclass(frozen=True)
class PairSamples:
    """Samples of both sides, how many like cycles the smaller side has, and what to be wary of, in words."""

    samples: pd.DataFrame
    matched_cycles: int
    warnings: tuple[str, ...]


def pair_samples(
    con: duckdb.DuckDBPyConnection, normal: Side, abnormal: Side, masked: frozenset[str] = frozenset()
) -> PairSamples:
    """Bring two sides to samples; a counter in `masked` is simply not there.

    A side without usage leaves the counters of both runs, and a warning.
    """
    try:
        sides = [side_rows(con, side) for side in (normal, abnormal)]
    except LprismError as error:
        found = _counters_alone(con, normal, abnormal, str(error))
    else:
        found = sided_samples(*sides)
    rows = found.samples
    return PairSamples(rows[~rows["counter_name"].isin(masked)], found.matched_cycles, found.warnings)


def sided_samples(normal: SideRows, abnormal: SideRows) -> PairSamples:
    """Bring the usage of two sides to samples: cycles of one process with like cycles of its like."""
    warnings = list(doubts(normal, abnormal))
    waiting = waiting_on_a_rank(normal.usage) | waiting_on_a_rank(abnormal.usage)
    parts, least = [_empty()], 0
    for pair in process_pairs(normal.processes(), abnormal.processes()):
        like = matched(
            *(side.of(one).usage for side, one in ((normal, pair.normal), (abnormal, pair.abnormal)))
        )
        warnings += like_doubts(like, f"process {pair.abnormal[1]}")
        least += min(len(like.normal), len(like.abnormal)) if like.on else 0
        before, now = (
            _of_cycles(side.of(one), kinds.index)
            for side, one, kinds in (
                (normal, pair.normal, like.normal),
                (abnormal, pair.abnormal, like.abnormal),
            )
        )
        parts += _pair_parts(pair, before, now, waiting)
    warnings += _told(least, parts)
    return PairSamples(_joined(parts), least, tuple(dict.fromkeys(warnings)))


def _of_cycles(side: SideRows, cycles: pd.Index[int]) -> SideRows:
    from dataclasses import replace

    return replace(side, usage=side.usage[side.usage["cycle_index"].isin(cycles)])


def _told(least: int, parts: list[pd.DataFrame]) -> Iterator[str]:
    if not least:
        yield "no cycle of one side has its like on the other"
    if not any((part["counter_name"] == "kernel_time").any() for part in parts):
        yield "no GPU kernel is on both sides: no cause is named from kernel times"


def _pair_parts(pair: Pair, before: SideRows, now: SideRows, waiting: set[str]) -> Iterator[pd.DataFrame]:
    yield from _call_times(before.usage, now.usage, waiting)
    for side, rows in ((REFERENCE, before), (INCIDENT, now)):
        yield _counters(rows).assign(side=side, pid=pair.abnormal[1])


def _call_times(before: pd.DataFrame, now: pd.DataFrame, waiting: set[str]) -> Iterator[pd.DataFrame]:
    """Each cycle's median, over functions of one class and device, of the time a call took against normal."""
    keys = ["function_name", "device"]
    times = [_a_call(rows, waiting) for rows in (before, now)]
    usual = times[0].groupby(keys)["call_ns"].median().rename("usual_ns")
    for side, rows in zip((REFERENCE, INCIDENT), times, strict=True):
        both = rows.merge(usual, on=keys)
        both = both[both["usual_ns"] > 0].assign(value=lambda one: one["call_ns"] / one["usual_ns"])
        by = ["counter_name", "device", "cycle_index", "start_ns", "end_ns"]
        yield both.groupby(by, as_index=False)["value"].median().assign(side=side)


def _a_call(rows: pd.DataFrame, waiting: set[str]) -> pd.DataFrame:
    once = rows.drop_duplicates(["cycle_index", "function_name", "device"])
    is_work = once["function_class"].isin(CALL_TIMES.keys() - {SYNCHRONISATION})
    once = once[is_work & ~once["function_name"].isin(waiting) & (once["instances"] > 0)]
    return once.assign(
        call_ns=once["duration_ns"].astype("float64") / once["instances"].astype("float64"),
        counter_name=once["function_class"].map(CALL_TIMES), **_span(once),
    )  # fmt: skip


def _counters(side: SideRows) -> pd.DataFrame:
    """Each counter's values, no more than its distinct samples: cycles in order, in equal blocks."""
    import pandas as pd

    rows = side.usage[side.usage["metric_name"].notna() & side.usage["mu_pct"].notna()]
    by = ["metric_name", "device", "cycle_index", "cycle_start_ns", "anchor_duration_ns"]
    values = rows.groupby(by)["mu_pct"].median().reset_index()
    values = values.sort_values("cycle_start_ns", kind="stable")
    there = samples(side.times, side.usage.drop_duplicates("cycle_index")) if len(side.times) else {}
    parts = []
    for (name, device), one in values.groupby(["metric_name", "device"]):
        count = min(len(one), there.get(str(name), 0) or len(one))
        block = np.arange(len(one)) * count // len(one)
        spans = one.assign(**_span(one)).groupby(block)
        parts.append(
            pd.DataFrame(
                {
                    "value": spans["mu_pct"].mean(),
                    "start_ns": spans["start_ns"].min(),
                    "end_ns": spans["end_ns"].max(),
                }
            ).assign(counter_name=str(name), device=str(device))
        )
    return pd.concat([*parts, _batch_sizes(side.usage)], ignore_index=True)


def _batch_sizes(usage: pd.DataFrame) -> pd.DataFrame:
    """What the cycles computed, as measures of batches, where that is told."""
    cycles = usage.drop_duplicates("cycle_index")
    names = ["batch_size", "kv_tokens", "new_input_tokens"]
    values = cycles.assign(**_span(cycles))[["start_ns", "end_ns", *names]]
    rows = values.melt(["start_ns", "end_ns"], var_name="counter_name").dropna(subset=["value"])
    return rows.assign(device="engine", value=rows["value"].astype("float64"))


def _span(rows: pd.DataFrame) -> dict[str, pd.Series[int]]:
    start = rows["cycle_start_ns"]
    return {"start_ns": start, "end_ns": start + rows["anchor_duration_ns"]}


def _counters_alone(con: duckdb.DuckDBPyConnection, normal: Side, abnormal: Side, why: str) -> PairSamples:
    """The counters of both runs as they were sampled, which is all there is to go by."""
    parts = [_empty()]
    for name, side in ((REFERENCE, normal), (INCIDENT, abnormal)):
        rows = execute(con, "run_counters", run_id=side.run_id).df()
        rows = rows.assign(side=name, end_ns=rows["start_ns"] + rows["duration_ns"].fillna(0))
        parts.append(_told_apart(rows).assign(device=rows["device"].fillna(UNNAMED)))
    joined = _joined(parts)
    told = "diagnosed from counters alone" if len(joined) else "neither cycles nor counters: nothing to go by"
    return PairSamples(joined, 0, (f"{why}; {told}",))


def _told_apart(rows: pd.DataFrame) -> pd.DataFrame:
    """Where the source names neither device nor process, the n-th lowest of each tick is one series.

    Of eight GPUs under one name, the median over all says nothing of one that changed. Samples nearer than a
    quarter of the counter's longest gap are of one tick.
    """
    unnamed = rows[rows["device"].isna() & rows["pid"].isna()].sort_values(["counter_name", "start_ns"])
    gap = unnamed.groupby("counter_name")["start_ns"].diff().fillna(0)
    is_new = 4 * gap >= gap.groupby(unnamed["counter_name"]).transform("max").clip(lower=1)
    tick = is_new.groupby(unnamed["counter_name"]).cumsum()
    by_value = unnamed.assign(tick=tick).sort_values("value", kind="stable")
    return rows.assign(
        pid=rows["pid"].astype("Int64").fillna(by_value.groupby(["counter_name", "tick"]).cumcount())
    )


def _empty() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns=list(COLUMNS))


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    filled = [part for part in parts if len(part)]
    joined = pd.concat(filled, ignore_index=True) if filled else _empty()
    return joined.reindex(columns=list(COLUMNS)).astype({"value": "float64"})
