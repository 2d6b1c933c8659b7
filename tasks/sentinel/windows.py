"""Windows of ten batches: whether any of them alarms, and whether the objective was broken, and foreseen.

A quota halts one step of two or three and leaves the others as they were: by nature no more than half of its
batches can be told from normal ones, while every ten in a row hold some that can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Flags = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Whole = npt.NDArray[np.int64]

BATCHES = 10


def any_of_ten(flags: Flags) -> Flags:
    """Whether any of ten batches in a row alarms, shape (n // 10,); the rest makes no window."""
    tens = flags[: len(flags) // BATCHES * BATCHES].reshape(-1, BATCHES)
    alarms: Flags = np.logical_or.reduce(tens, axis=1)
    return alarms


def violations(step_ms: Floats, ends_ns: Whole, alarm: Flags, slo_ms: float) -> list[float | None]:
    """The times that one session began to break its objective: how long before that it alarmed, ms, or None.

    `step_ms` is the time per output token of each batch in order, NaN where it gives no token; the objective
    is broken where the mean of ten batches lies above it, and again only after a window that kept it. That is
    known at the end of the tenth batch, and foreseen by an alarm on an earlier one of the ten, or of the ten
    before.
    """
    found: list[float | None] = []
    was_broken = False
    for first in range(0, len(step_ms) - BATCHES + 1, BATCHES):
        last = first + BATCHES - 1
        steps = step_ms[first : last + 1]
        known = steps[~np.isnan(steps)]
        is_broken = bool(len(known)) and float(known.mean()) > slo_ms
        if is_broken and not was_broken:
            since = max(first - BATCHES, 0)
            early = np.flatnonzero(alarm[since:last])
            found.append(float(ends_ns[last] - ends_ns[since + early[0]]) / 1e6 if len(early) else None)
        was_broken = is_broken
    return found
