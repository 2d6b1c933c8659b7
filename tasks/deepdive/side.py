"""One side of a comparison: what a run, or a part of it, spent its cycles on, and when it was sampled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tasks.settings import LprismError
from tasks.warehouse import execute

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb
    import pandas as pd

Process = tuple[str | None, int]
"""hostname, None where the source does not tell, and pid."""


@dataclass(frozen=True)
class Side:
    """A run of the lake, or what of it counts: a window, cycles that begin in spans (ns), chosen cycles.

    `part` names it in the result, such as `incident 0`; by default the window does.
    """

    run_id: str
    window: str | None = None
    spans: tuple[tuple[int, int], ...] = ()
    cycles: tuple[int, ...] | None = None
    part: str = ""

    @property
    def name(self) -> str:
        """The run_id, and after # what of it."""
        part = self.part or self.window
        return f"{self.run_id}#{part}" if part else self.run_id


class Pair(NamedTuple):
    """A process of each side, and why they are compared: strict, rank or cross."""

    normal: Process
    abnormal: Process
    pairing: str


@dataclass(frozen=True)
class SideRows:
    """Rows of side_usage.sql, and when each counter of the run was sampled, as in sample_times.sql."""

    usage: pd.DataFrame
    times: pd.DataFrame

    def processes(self) -> dict[Process, int | None]:
        """Its processes, in order, each with its rank where one is told."""
        rows = self.usage.drop_duplicates(["hostname", "pid"])[["hostname", "pid", "rank"]].astype(object)
        found = rows.where(rows.notna(), None).itertuples(index=False, name=None)
        return {
            (host, pid): rank for host, pid, rank in sorted(found, key=lambda one: (one[0] or "", one[1]))
        }

    def of(self, process: Process) -> SideRows:
        """What one process did."""
        host, pid = process
        here = self.usage["hostname"].isna() if host is None else self.usage["hostname"] == host
        return replace(self, usage=self.usage[here & (self.usage["pid"] == pid)])


def side_rows(con: duckdb.DuckDBPyConnection, side: Side) -> SideRows:
    """Read a side. Raises LprismError when nothing of it was divided into cycles."""
    starts, ends = ([span[end] for span in side.spans] for end in (0, 1))
    usage = execute(
        con, "side_usage", run_id=side.run_id, run_window=side.window, starts_ns=starts, ends_ns=ends
    ).df()
    if side.cycles is not None:
        usage = usage[usage["cycle_index"].isin(side.cycles)]
    if usage.empty:
        raise LprismError(
            f"{side.name} has no usage: of a run with traces, `lprism cycles {side.run_id}` makes it"
        )
    return SideRows(usage, execute(con, "sample_times", run_id=side.run_id).df())


def process_pairs(normal: dict[Process, int | None], abnormal: dict[Process, int | None]) -> list[Pair]:
    """Pair a process of both sides with itself; of the others those of one rank, or, without ranks, all."""
    strict = [Pair(one, one, "strict") for one in normal if one in abnormal]
    first, second = (
        {one: rank for one, rank in side.items() if one not in {pair.normal for pair in strict}}
        for side in (normal, abnormal)
    )
    if all(None not in side.values() and len(set(side.values())) == len(side) for side in (first, second)):
        return strict + [Pair(a, b, "rank") for a in first for b in second if first[a] == second[b]]
    return strict + [Pair(a, b, "cross") for a in first for b in second]


def samples(times: pd.DataFrame, cycles: pd.DataFrame) -> dict[str, int]:
    """How many samples of each counter lie in the cycles or, of moments, next to them, each counted once."""
    from tasks.deepdive.usage import distinct

    start = cycles["cycle_start_ns"].to_numpy()
    end = start + cycles["anchor_duration_ns"].to_numpy()
    found: dict[str, int] = {}
    for name, rows in times.groupby("counter_name"):
        begins, ends = rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy()
        beside = (begins == ends).all()
        first = np.searchsorted(ends, start, "right") - int(beside)
        last = np.searchsorted(begins, end, "left") - 1 + int(beside)
        first, last = np.maximum(first, 0), np.minimum(last, len(rows) - 1)
        found[str(name)] = int(distinct(np.zeros(len(start), dtype=np.int64), first, last, 1)[0])
    return found


def doubts(normal: SideRows, abnormal: SideRows) -> Iterator[str]:
    """Tell in words what makes two sides hard to compare."""
    usages = (normal.usage, abnormal.usage)
    anchors = [sorted(rows["anchor_name"].dropna().unique()) for rows in usages]
    if anchors[0] != anchors[1]:
        first, second = (", ".join(names) or "no anchor" for names in anchors)
        yield (
            f"the cycles are of different anchors ({first}; {second}): shares and times of a cycle do not "
            "compare, times of a call do"
        )
    has_gpu = [rows["device"].str.startswith("GPU", na=False).any() for rows in usages]
    if not all(has_gpu):
        which = "neither side" if not any(has_gpu) else "one side only"
        yield f"{which} has GPU work: what ran on CPUs alone compares"
    for side, rows in zip(("normal", "abnormal"), usages, strict=True):
        if rows["metric_name"].isna().all():
            yield f"the {side} side has no counter beside any function"
        if rows.drop_duplicates(["hostname", "pid"])["pid"].duplicated().any():
            yield f"the {side} side has processes of one pid on several hosts: each is taken by itself"
