"""Two sides compared, like cycle with like: what takes longer a call, which counter moved, and how surely.

A side is a run, a window of it, a stretch of time or chosen cycles. Shares of a cycle do not compare where
its length or its work changed; times of a call do, and ranks over pairs of like cycles. The published
statistics (tasks/deepdive/pairs.py) stand beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.deepdive.like import doubts as like_doubts
from tasks.deepdive.like import matched
from tasks.deepdive.pairs import KEYS, STATISTICS, compare
from tasks.deepdive.ranks import corrected, medians, p_values, shifts
from tasks.deepdive.side import Side, doubts, process_pairs, samples, side_rows
from tasks.deepdive.waiting import is_waiting, waiting_on_a_rank
from tasks.lake import write_frame
from tasks.lake_runs import find_run
from tasks.lake_tables import lake_connection
from tasks.settings import LprismError
from tasks.warehouse import columns_of, execute

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import numpy.typing as npt
    import pandas as pd

    from tasks.deepdive.like import Matched
    from tasks.deepdive.side import Pair, SideRows

    Floats = npt.NDArray[np.float64]

FUNCTION = ["function_name", "device"]
TABLE = "rca_comparison"
BASELINE, FAULT = "baseline", "fault"


@dataclass(frozen=True)
class Compared:
    """Rows of rca_comparison, and what makes the two sides hard to compare, in words."""

    rows: pd.DataFrame
    warnings: tuple[str, ...]
    matched_cycles: int
    """Of the side that has fewer: cycles with their like on the other, over all processes."""


@dataclass(frozen=True)
class CompareSummary:
    """What `compare_campaign` compared, and its warnings by run_id."""

    campaign: str
    runs: int
    rows: int
    warnings: dict[str, tuple[str, ...]]


def compare_runs(home: Path, normal: str, abnormal: str | None = None) -> Compared:
    """Compare two runs of the lake, each a run_id or a name that one run has; of one, fault and baseline.

    After a run's name #baseline, #fault or #recovery names a window of it.

    Raises:
        LprismError: there is no such run, or nothing of it was divided into cycles.
    """
    texts = (f"{normal}#{BASELINE}", f"{normal}#{FAULT}") if abnormal is None else (normal, abnormal)
    parts = [text.partition("#") for text in texts]
    runs = [find_run(home, run) for run, _, _ in parts]
    sides = [Side(run.run_id, window or None) for run, (_, _, window) in zip(runs, parts, strict=True)]
    with lake_connection(home, *{run.campaign for run in runs}) as con:
        return compared(con, *sides)


def compare_campaign(home: Path, campaign: str) -> CompareSummary:
    """Write `rca_comparison`: fault window against baseline of every run that was captured in both."""
    import pandas as pd

    found: dict[str, Compared] = {}
    warnings: dict[str, tuple[str, ...]] = {}
    with lake_connection(home, campaign) as con:
        for (run,) in execute(con, "captured_runs", campaign=campaign).fetchall():
            try:
                found[run] = compared(con, Side(run, BASELINE), Side(run, FAULT))
                warnings[run] = found[run].warnings
            except LprismError as error:
                warnings[run] = (str(error),)
    rows = [one.rows for one in found.values() if len(one.rows)]
    frame = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(columns_of(TABLE)))
    write_frame(home, TABLE, campaign, "all", frame)
    return CompareSummary(
        campaign, len(found), len(frame), {run: told for run, told in warnings.items() if told}
    )


def listed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as `lprism compare` gives them: published columns first, None for what is not known.

    As published, functions without a counter are left out, unless no function has one.
    """
    shown = rows[rows["metric_name"].notna()] if rows["metric_name"].notna().any() else rows
    shown = shown.rename(columns={"pid": "abnormal_pid"})
    first = [*KEYS, *STATISTICS, "pairing", "normal_pid", "abnormal_pid"]
    shown = shown[first + [name for name in shown.columns if name not in first]].astype(object)
    return shown.where(shown.notna(), None)


def compared(con: duckdb.DuckDBPyConnection, normal: Side, abnormal: Side) -> Compared:
    """Compare two sides, every process with its like; within a pair the highest published score comes first.

    `con` shows the tables of the lake that hold the two runs (`lake_connection`).

    Raises:
        LprismError: a side has no usage, or no process of one has its like on the other.
    """
    import pandas as pd

    sides = [side_rows(con, side) for side in (normal, abnormal)]
    warnings = list(doubts(*sides))
    parts, least = [], 0
    for pair in process_pairs(*(side.processes() for side in sides)):
        before, now = sides[0].of(pair.normal), sides[1].of(pair.abnormal)
        like = matched(before.usage, now.usage)
        warnings += like_doubts(like, f"process {pair.abnormal[1]}")
        least += min(len(like.normal), len(like.abnormal)) if like.on else 0
        parts.append(_pair_rows(pair, before, now, like))
    if not parts:
        raise LprismError(f"{normal.name} and {abnormal.name} have no ranks in common")
    rows = pd.concat(parts, ignore_index=True)
    waiting = set().union(*(waiting_on_a_rank(side.usage) for side in sides))
    rows = _corrected(rows).assign(
        pair_id=f"{normal.name}|{abnormal.name}", run_id=abnormal.run_id, normal_run_id=normal.run_id,
        is_waiting=is_waiting(rows, waiting),
    )  # fmt: skip
    return Compared(rows[list(columns_of(TABLE))], tuple(dict.fromkeys(warnings)), least)


def _pair_rows(pair: Pair, before: SideRows, now: SideRows, like: Matched) -> pd.DataFrame:
    """The rows of one pair of processes."""
    import pandas as pd

    both = pd.concat([before.usage, now.usage])
    # A function that has a counter may lack it in some cycles.
    keys = both.assign(lacks=both["metric_name"].isna()).sort_values("lacks", kind="stable")
    keys = keys[~keys["lacks"] | ~keys.duplicated(FUNCTION)].drop_duplicates(KEYS)
    rows = keys[[*KEYS, "simple_name", "function_class"]].reset_index(drop=True)
    rows = rows.merge(compare(_with_counter(before), _with_counter(now)), on=KEYS, how="left")
    rows = rows.sort_values(
        ["suspicion_score", *KEYS], ascending=[False, True, True, True], ignore_index=True
    )
    return rows.assign(
        hostname=pair.abnormal[0], pid=pair.abnormal[1], normal_hostname=pair.normal[0],
        normal_pid=pair.normal[1], pairing=pair.pairing, matched_on=like.on,
        **_times(rows, before, now, like), **_counters(rows, before, now, like),
    )  # fmt: skip


def _with_counter(side: SideRows) -> pd.DataFrame:
    return side.usage[side.usage["metric_name"].notna() & side.usage["mu_pct"].notna()]


def _times(rows: pd.DataFrame, before: SideRows, now: SideRows, like: Matched) -> dict[str, Any]:
    """What each row's function took a cycle and a call, over like cycles."""
    found: dict[str, Any] = {}
    calls: list[Floats] = []
    for name, side, kinds in (("normal", before, like.normal), ("abnormal", now, like.abnormal)):
        spent, times = (_dense(rows, FUNCTION, side.usage, kinds, of) for of in ("duration_ns", "instances"))
        calls.append(spent / times)
        found[f"beta_{name}_ms"] = np.nansum(spent, axis=1) / (len(kinds) or np.nan) / 1e6
        found[f"call_{name}_us"] = medians(calls[-1]) / 1e3
    moved = shifts(calls[0], calls[1], like.normal.to_numpy(), like.abnormal.to_numpy())
    p = p_values(moved.delta, moved.normal, moved.abnormal, moved.ties)
    return found | {
        "normal_cycles": moved.normal.sum(axis=1), "abnormal_cycles": moved.abnormal.sum(axis=1),
        "slowdown": moved.ratio, "effect_size": moved.delta, "p_value": p,
    }  # fmt: skip


def _counters(rows: pd.DataFrame, before: SideRows, now: SideRows, like: Matched) -> dict[str, Any]:
    """What each row's counter said while its function ran, over like cycles, and how many samples say so."""
    found: dict[str, Any] = {}
    said: list[Floats] = []
    counted: list[Floats] = []
    for name, side, kinds in (("normal", before, like.normal), ("abnormal", now, like.abnormal)):
        said.append(_dense(rows, KEYS, side.usage, kinds, "mu_pct"))
        counted.append(_samples(rows, side, kinds))
        found |= {f"mu_matched_{name}_pct": medians(said[-1]), f"{name}_samples": counted[-1]}
    moved = shifts(said[0], said[1], like.normal.to_numpy(), like.abnormal.to_numpy())
    sizes = [_fewer(size, count) for size, count in zip((moved.normal, moved.abnormal), counted, strict=True)]
    p = p_values(moved.delta, sizes[0], sizes[1], moved.ties)
    return found | {"mu_effect_size": moved.delta, "mu_p_value": p}


def _samples(rows: pd.DataFrame, side: SideRows, kinds: pd.Series[int]) -> Floats:
    """Distinct samples behind each row: no more than the cycles name, nor than there are in them; or NaN."""
    usage = side.usage[side.usage["cycle_index"].isin(kinds.index)]
    there = samples(side.times, usage.drop_duplicates("cycle_index"))
    named = np.nansum(_dense(rows, KEYS, side.usage, kinds, "distinct_samples"), axis=1)
    in_cycles = rows["metric_name"].map(there).to_numpy(dtype=np.float64, na_value=np.nan)
    fewest: Floats = np.fmin(np.where(named > 0, named, np.nan), in_cycles)
    return np.where(rows["metric_name"].isna(), np.nan, fewest)


def _fewer(sizes: npt.NDArray[np.int64], count: Floats) -> npt.NDArray[np.int64]:
    """Share distinct samples, where fewer than cycles, out over the kinds of cycle; 0 if none is known."""
    total = sizes.sum(axis=1)
    there = np.minimum(np.nan_to_num(count), total)
    wanted = sizes * (there / np.maximum(total, 1))[:, None]
    whole = np.floor(wanted + 1e-9)
    left = there.astype(np.int64) - whole.sum(axis=1).astype(np.int64)
    # Those left over go where most was cut off.
    place = np.argsort(np.argsort(whole - wanted, axis=1, kind="stable"), axis=1)
    shared: npt.NDArray[np.int64] = (whole + (place < left[:, None])).astype(np.int64)
    return shared


def _dense(
    rows: pd.DataFrame, keys: list[str], usage: pd.DataFrame, kinds: pd.Series[int], column: str
) -> Floats:
    """A (row, cycle) matrix of a column of the usage, NaN where a row's function or counter is not there."""
    import pandas as pd

    wanted = usage[usage["cycle_index"].isin(kinds.index)].drop_duplicates([*keys, "cycle_index"])
    index = pd.MultiIndex.from_frame(rows[keys].drop_duplicates())
    matrix = np.full((len(index), len(kinds)), np.nan)
    place = index.get_indexer(pd.MultiIndex.from_frame(wanted[keys]))
    cycle = kinds.index.get_indexer(pd.Index(wanted["cycle_index"]))
    matrix[place[place >= 0], cycle[place >= 0]] = wanted[column].to_numpy(np.float64, na_value=np.nan)[
        place >= 0
    ]
    dense: Floats = matrix[index.get_indexer(pd.MultiIndex.from_frame(rows[keys]))]
    return dense


def _corrected(rows: pd.DataFrame) -> pd.DataFrame:
    """Correct p of times over the functions of all processes, p of counters over all rows."""
    function = ["normal_hostname", "normal_pid", "hostname", "pid", *FUNCTION]
    once = ~rows.duplicated(function)
    place = rows.groupby(function, dropna=False).ngroup()
    by_function = dict(zip(place[once], corrected(rows.loc[once, "p_value"].to_numpy()), strict=True))
    return rows.assign(
        p_corrected=place.map(by_function), mu_p_corrected=corrected(rows["mu_p_value"].to_numpy())
    )
