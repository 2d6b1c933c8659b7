"""How much work every call of every function of a trace starts: columns of numbers, no loop over events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb
    import numpy.typing as npt

    from tasks.deepdive.anchors import Trace

    Ints = npt.NDArray[np.int64]


def count(con: duckdb.DuckDBPyConnection, trace: Trace, anchor: str | None = None) -> None:
    """Make the table `calls`: outer calls of each function that does work, or is named, and their work."""
    import pyarrow as pa

    execute(con, "deepdive/work", paths=trace.paths)
    execute(con, "deepdive/tracks", paths=trace.paths, anchor=anchor)
    execute(con, "deepdive/frames", paths=trace.paths, file_number=trace.number, anchor=anchor)
    function, track, start, end = _columns(con, "plain_id", "track_id", "start_ns", "end_ns")
    works = works_within(
        track, start, end, *_columns(execute(con, "deepdive/work_starts"), "track_id", "start_ns")
    )
    at_work = np.isin(function, np.unique(function[works > 0])) | (anchor is not None)
    kept = np.flatnonzero(at_work)[outermost(function[at_work], track[at_work], start[at_work], end[at_work])]
    rows = {
        "plain_id": function[kept], "track_id": track[kept], "start_ns": start[kept], "end_ns": end[kept],
        "works": works[kept],
    }  # fmt: skip
    con.register("counted_calls", pa.table(rows))
    execute(con, "deepdive/calls", file_number=trace.number)


def _columns(con: duckdb.DuckDBPyConnection, *names: str) -> list[Ints]:
    rows = con.fetchnumpy()
    return [np.asarray(rows[name], dtype=np.int64) for name in names]


def works_within(track: Ints, start: Ints, end: Ints, work_track: Ints, work_start: Ints) -> Ints:
    """How many moments of work lie in each [start, end) on its own track; moments are in order by track."""
    found = np.zeros(len(track), dtype=np.int64)
    for one in np.unique(work_track):
        moments, here = work_start[work_track == one], track == one
        found[here] = np.searchsorted(moments, end[here]) - np.searchsorted(moments, start[here])
    return found


def outermost(function: Ints, track: Ints, start: Ints, end: Ints) -> Ints:
    """Places of the calls that lie in no other call of the same function on the same track."""
    order = np.lexsort((-end, start, track, function))
    function, track, start, end = function[order], track[order], start[order], end[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (function[1:] != function[:-1]) | (track[1:] != track[:-1])
    # The running end of each group, of all groups at once: they are put apart by more than any time.
    times, place = np.unique(np.concatenate((start, end)), return_inverse=True)
    apart = np.cumsum(is_first) * len(times)
    reached = np.maximum.accumulate(place[len(order) :] + apart)
    before = np.concatenate((reached[:1], reached[:-1]))
    kept: Ints = order[is_first | (place[: len(order)] + apart >= before)]
    return kept
