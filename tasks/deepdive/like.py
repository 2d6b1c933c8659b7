"""Which cycles of two sides are alike: of one forward mode, one batch size, and about as many tokens.

A prefill beside a decode step, or a batch of 16 beside one of 4, tells of the load and not of the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import pandas as pd

ENOUGH = 5
"""So many cycles a side are asked for before cycles may differ in more."""
MOST_CYCLES = 256
BINS_A_DOUBLING = 2
LEVELS = (
    ("forward mode, batch size and tokens", ["forward_mode", "batch_size", "kv_bin", "new_bin"]),
    ("forward mode and batch size", ["forward_mode", "batch_size"]),
    ("forward mode", ["forward_mode"]),
)
NO_MODE = "nothing, for no forward mode is told"


class Matched(NamedTuple):
    """Cycles of two sides, by cycle_index: those with their like on the other, and the number of their kind.

    `on` says in words what cycles of one kind have in common; None where no two of the sides are alike.
    """

    on: str | None
    normal: pd.Series[int]
    abnormal: pd.Series[int]


def matched(normal: pd.DataFrame, abnormal: pd.DataFrame) -> Matched:
    """Match the cycles of one process a side; takes its rows of side_usage.sql.

    The strictest of LEVELS is taken that leaves enough cycles on both sides, or as many as the loosest does.
    """
    sides = [_cycles(rows) for rows in (normal, abnormal)]
    if not all(side["forward_mode"].notna().any() for side in sides):
        return _of_one_kind(NO_MODE, [side.assign(kind="") for side in sides], ["kind"])
    busy = [side[side["forward_mode"].notna() & (side["forward_mode"] != "idle")] for side in sides]
    found = [_of_one_kind(name, busy, columns) for name, columns in LEVELS]
    enough = min(ENOUGH, _fewest(found[-1]))
    if not enough:
        return found[-1]._replace(on=None)
    return next(one for one in found if _fewest(one) >= enough)


def _fewest(one: Matched) -> int:
    return min(len(one.normal), len(one.abnormal))


def _cycles(rows: pd.DataFrame) -> pd.DataFrame:
    cycles = rows.drop_duplicates("cycle_index").set_index("cycle_index")
    return cycles.assign(kv_bin=_bin(cycles["kv_tokens"]), new_bin=_bin(cycles["new_input_tokens"]))


def _bin(tokens: pd.Series[int]) -> npt.NDArray[np.float64]:
    """Half doublings: 100 and 120 tokens are alike, 100 and 200 are not; -1 where nothing tells."""
    size = tokens.to_numpy(dtype=np.float64, na_value=np.nan)
    bins: npt.NDArray[np.float64] = np.floor(BINS_A_DOUBLING * np.log2(np.maximum(size, 1.0)))
    return np.where(np.isnan(bins), -1.0, bins)


def _of_one_kind(name: str, sides: list[pd.DataFrame], columns: list[str]) -> Matched:
    import pandas as pd

    both = pd.concat(sides)
    numbers = both.groupby(columns, dropna=False).ngroup().to_numpy()
    first, second = (
        pd.Series(part, index=side.index)
        for part, side in zip(np.split(numbers, [len(sides[0])]), sides, strict=True)
    )
    return Matched(name, _thinned(first[first.isin(second)]), _thinned(second[second.isin(first)]))


def _thinned(kinds: pd.Series[int]) -> pd.Series[int]:
    """At most MOST_CYCLES of them, evenly: every pair of cycles is looked at."""
    if len(kinds) <= MOST_CYCLES:
        return kinds
    return kinds.iloc[np.linspace(0, len(kinds) - 1, MOST_CYCLES).round().astype(np.int64)]


def doubts(like: Matched, what: str) -> Iterator[str]:
    """Tell in words how little the cycles of `what`, a pair of processes, have in common."""
    if like.on is None:
        yield f"{what}: no cycle has its like on the other side: only the published statistics compare them"
        return
    if like.on == NO_MODE:
        yield f"{what}: nothing tells the forward mode of the cycles: all are taken as alike"
    elif like.on == LEVELS[-1][0]:
        yield f"{what}: few cycles are of one batch size: they are matched on the forward mode alone"
    if (fewest := _fewest(like)) < ENOUGH:
        yield f"{what}: {fewest} matched cycle{'s' if fewest > 1 else ''} on a side: little can be told"
