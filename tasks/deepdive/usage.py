"""What ran in a cycle, for how long, and what the counters said meanwhile (design 10 and 12).

Shares of time are SQL. A counter's mean while a function ran comes from the running integral of its samples:
two look-ups a piece, whatever their number. Samples that cover an interval hold through it; where none covers
a piece, or a sample is a moment, the value between its neighbours is taken and called interpolated.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tasks.warehouse import execute

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb
    import numpy.typing as npt
    import pyarrow as pa

    from tasks.deepdive.anchors import Trace

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

KINDS = ("slice", "syscall")  # beside GPU work and waits for it
WITHOUT_GPU = (*KINDS, "operator")
FARTHEST = 5
"""A sample tells nothing of what is farther from it than so many of its counter's usual intervals."""


def collect(con: duckdb.DuckDBPyConnection, trace: Trace) -> None:
    """Put what ran in the cycles of a trace into `pieces`, and whose its GPU work is into `gpu_spans`."""
    ((_, has_gpu, has_collectives),) = execute(
        con, "deepdive/trace_about", file_number=trace.number
    ).fetchall()
    own(con, trace.number, trace.paths, KINDS if has_gpu else WITHOUT_GPU)
    execute(con, "deepdive/operator_times")
    for name in ("gpu_pieces", "host_pieces", "slice_pieces", "gpu_spans", "unowned"):
        execute(con, f"deepdive/{name}", file_number=trace.number)
    if has_collectives:
        execute(con, "deepdive/communicator_peers", paths=trace.paths, file_name=trace.name)


def own(con: duckdb.DuckDBPyConnection, number: int, paths: Sequence[str], kinds: Sequence[str]) -> None:
    """Make the table `owned`: GPU work, and events of these kinds, with the cycle that each belongs to."""
    execute(con, "deepdive/trace", paths=paths, file_number=number, kinds=("gpu", "runtime", *kinds))
    execute(con, "deepdive/owned", file_number=number, kinds=kinds)


def fill(con: duckdb.DuckDBPyConnection) -> None:
    """Fill `function_usage` from `pieces` and `cycles`."""
    execute(con, "deepdive/shares")
    execute(con, "deepdive/series")
    con.register("measured", _measured(con))
    execute(con, "deepdive/function_usage")


class Series(NamedTuple):
    """Samples of one counter, in order: when each holds from and to (ns; may be a moment), its value."""

    start: Ints
    end: Ints
    value: Floats


class Means(NamedTuple):
    """Of each piece: the counter's mean (NaN without one), its first and last sample, whether between."""

    mean: Floats
    first: Ints
    last: Ints
    between: npt.NDArray[np.bool_]


@dataclass
class _Measured:
    """Columns of the table `measured`, in parts."""

    parts: dict[str, list[Any]]

    def add(self, name: str, capacity: float | None, found: dict[str, Any]) -> None:
        """Add what one counter said of every function of a class."""
        size = len(found["group_id"])
        for column, values in {
            **found,
            "metric_name": np.full(size, name, dtype=object),
            "capacity": np.full(size, np.nan if capacity is None else capacity),
        }.items():
            self.parts[column].append(values)


def means(series: Series, start: Ints, end: Ints) -> Means:
    """The mean of a counter over pieces of time [start, end), ns."""
    first = np.searchsorted(series.end, start, "right")
    last = np.searchsorted(series.start, end, "left") - 1
    moments = bool((series.end == series.start).all())
    if moments:
        first = np.searchsorted(series.start, start, "left")
        summed = np.concatenate(([0.0], np.cumsum(series.value)))
        total = summed[np.maximum(last + 1, first)] - summed[first]
        mean = total / np.maximum(last + 1 - first, 1)
    else:
        mean = _held(series, start, end)
    between = last < first
    mean[between] = _between(series, (start[between] + end[between]) / 2)
    left, right = np.maximum(last, 0), np.minimum(first, len(series.value) - 1)
    return Means(mean, np.where(between, left, first), np.where(between, right, last), between)


def _held(series: Series, start: Ints, end: Ints) -> Floats:
    """Mean of samples that hold through an interval: their integral over the time that they cover."""
    origin = series.start[0]
    edges = np.stack((series.start, series.end), axis=1).ravel() - origin
    length = np.maximum(series.end - series.start, 0).astype(np.float64)
    covered, integral = (
        np.concatenate(([0.0], np.repeat(np.cumsum(part), 2)))[:-1]
        for part in (length, length * series.value)
    )

    def within(made: Floats) -> Floats:
        gained: Floats = np.interp(end - origin, edges, made) - np.interp(start - origin, edges, made)
        return gained

    with np.errstate(invalid="ignore", divide="ignore"):
        return within(integral) / within(covered)


def _between(series: Series, at: Floats) -> Floats:
    """The value between the two nearest samples; NaN far from any."""
    middle = (series.start + series.end) / 2
    usual = float(np.median(np.diff(middle))) if len(middle) > 1 else np.inf
    right = np.searchsorted(middle, at)
    before, after = np.maximum(right - 1, 0), np.minimum(right, len(middle) - 1)
    away = np.minimum(np.abs(at - middle[before]), np.abs(at - middle[after]))
    return np.where(away > FARTHEST * usual, np.nan, np.interp(at, middle, series.value))


def summed(group: Ints, spent: Floats, found: Means) -> dict[str, Any]:
    """Means and deviations by group, weighted by time; samples counted once each. Groups are in order."""
    known = np.isfinite(found.mean) & (spent > 0)
    group, spent = group[known], spent[known]
    mean, first, last, between = (
        found.mean[known], found.first[known], found.last[known], found.between[known],
    )  # fmt: skip
    names, place = np.unique(group, return_inverse=True)
    weight = np.bincount(place, spent, len(names))
    total = np.bincount(place, spent * mean, len(names)) / weight
    spread = np.bincount(place, spent * (mean - total[place]) ** 2, len(names)) / weight
    told, asked = np.bincount(place, between, len(names)), np.bincount(place, minlength=len(names))
    words = np.where(told == 0, "none", np.where(told == asked, "all", "some")).astype(object)
    return {
        "group_id": names, "mean": total, "deviation": np.sqrt(spread), "interpolated": words,
        "distinct_samples": distinct(place, first, last, len(names)),
    }  # fmt: skip


def distinct(place: Ints, first: Ints, last: Ints, groups: int) -> Ints:
    """How many samples the ranges [first, last] of each group name, each counted once."""
    order = np.lexsort((first, place))
    place, first, last = place[order], first[order], last[order]
    size = int(last.max(initial=0)) + 2
    reached = np.maximum.accumulate(last + place * size)
    before = np.concatenate(([-1], reached[:-1])) - place * size
    new = last - np.maximum(first, before + 1) + 1
    return np.bincount(place, np.maximum(new, 0), groups).astype(np.int64)


def _measured(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """What every counter said while each function ran: the table `measured`."""
    import pyarrow as pa

    made = _Measured(defaultdict(list))
    uses = execute(con, "deepdive/uses").fetchall()
    series = _series(con) if uses else {}
    for pieces, asked in _by_source(con, uses):
        group, start, end, spent = (pieces[name] for name in ("group_id", "start_ns", "end_ns", "spent_ns"))
        for name, series_id, capacity in asked:
            found = means(series[series_id], start, end)
            made.add(name, capacity, summed(group, spent.astype(np.float64), found))
    kinds = {
        "group_id": pa.int64(), "metric_name": pa.string(), "mean": pa.float64(), "deviation": pa.float64(),
        "distinct_samples": pa.int64(), "interpolated": pa.string(), "capacity": pa.float64(),
    }  # fmt: skip
    columns = {
        name: pa.array(np.concatenate(made.parts[name]) if made.parts else [], kind, from_pandas=True)
        for name, kind in kinds.items()
    }
    return pa.table(columns)


def _series(con: duckdb.DuckDBPyConnection) -> dict[int, Series]:
    rows = con.table("series").order("series_id, start_ns").fetchnumpy()
    cuts = np.flatnonzero(np.diff(rows["series_id"])) + 1
    start, length, value = (np.split(rows[name], cuts) for name in ("start_ns", "duration_ns", "value"))
    numbers = rows["series_id"][np.concatenate(([0], cuts))]
    return {
        int(number): _whole(begin, begin + lasts, said)
        for number, begin, lasts, said in zip(numbers, start, length, value, strict=True)
    }


def _whole(start: Ints, end: Ints, value: Floats) -> Series:
    """Samples one after the other: by a few us they may overlap."""
    end = np.maximum.accumulate(end)
    start = np.maximum(start, np.concatenate((start[:1], end[:-1])))
    return Series(start, np.maximum(start, end), value)


def _by_source(
    con: duckdb.DuckDBPyConnection, uses: list[tuple[Any, ...]]
) -> Iterator[tuple[dict[str, Any], list[tuple[str, int, float | None]]]]:
    """The pieces of every class of functions of a process on a device, and the counters that go with it."""
    asked: dict[tuple[Any, ...], list[tuple[str, int, float | None]]] = defaultdict(list)
    for file_number, process, function_class, device, name, series_id, capacity in uses:
        asked[file_number, process, function_class, device].append((name, series_id, capacity))
    for (file_number, process, function_class, device), counters in asked.items():
        rows = execute(
            con, "deepdive/used_pieces", file_number=file_number, process=process,
            function_class=function_class, device=device,
        )  # fmt: skip
        yield rows.fetchnumpy(), counters
