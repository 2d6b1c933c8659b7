"""One clock for a run: the host's realtime clock when its recording began, counted on by the monotonic one.

Somebody may set the host's clock while a run goes on, by an hour or by a leap: what was noted after that is
put where the monotonic clock says. The SQL `convert/recorder_clocks` does the same for the recorders' files.
"""

from collections.abc import Sequence

from tasks.traces.manifest import Mark

STEP_NS = 100_000_000
"""A difference of offsets from which on a clock was set; a reading of a pair is good to microseconds."""


def reference_ns(marks: Sequence[Mark]) -> int | None:
    """The realtime less the monotonic clock at the first mark; None where that is not told."""
    return next((mark.offset_ns for mark in marks if mark.offset_ns is not None), None)


def moved_ns(offset_ns: int | None, reference: int | None) -> int:
    """How far the clock had been set when it was this much ahead of the monotonic one; 0 where it had not."""
    if offset_ns is None or reference is None or abs(offset_ns - reference) < STEP_NS:
        return 0
    return offset_ns - reference


def marked_ns(marks: Sequence[Mark]) -> dict[str, int]:
    """The time of each mark on the run's clock."""
    reference = reference_ns(marks)
    return {mark.name: mark.epoch_ns - moved_ns(mark.offset_ns, reference) for mark in marks}


def step_ns(marks: Sequence[Mark]) -> int | None:
    """How far the clock was set between the marks, at most; None when it was not."""
    reference = reference_ns(marks)
    moved = [moved_ns(mark.offset_ns, reference) for mark in marks]
    return max(moved, key=abs, default=0) or None
