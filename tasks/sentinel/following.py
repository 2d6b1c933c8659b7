"""Features of one batch after another: as sql/features/batch_features.sql has them without looking ahead."""

from __future__ import annotations

import math
from dataclasses import dataclass

MODE_CODES = {"idle": 0.0, "decode": 1.0, "mixed": 2.0, "prefill": 3.0}


@dataclass(slots=True)
class Batch:
    """One row of `batches` as it comes, beside what its run or job asks for; None is what nobody told.

    `counts` is False for a step outside the recording or set aside by a check: a neighbour and no more.
    """

    start_ns: int
    duration_ns: int
    forward_mode: str | None
    batch_size: int
    rank: int | None = None
    interval_ns: int | None = None
    input_length_avg: float | None = None
    input_length_max: float | None = None
    output_length_avg: float | None = None
    output_length_max: float | None = None
    kv_tokens: float | None = None
    new_input_tokens: float | None = None
    prefix_hit_tokens: float | None = None
    admitted: float | None = None
    finished: float | None = None
    preempted: float | None = None
    asked_input: int | None = None
    asked_output: int | None = None
    concurrency: int | None = None
    workload: str | None = None
    index: int | None = None
    counts: bool = True

    @property
    def is_work(self) -> bool:
        """Whether it is scored; an empty step is a neighbour alone."""
        return self.counts and self.batch_size > 0 and self.forward_mode != "idle" and self.duration_ns > 0


class Step:
    """A batch with what follows from it, and, where a source hides prefill, from the next one's counts."""

    __slots__ = ("batch", "hides", "joined", "leaving", "mode", "tokens", "untold")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.untold = batch.new_input_tokens is None and batch.batch_size > 0
        self.hides = self.untold and batch.asked_output is not None and batch.forward_mode in (None, "idle")
        self.leaving: float | None = None
        self.mode: str | None = None if self.hides else batch.forward_mode
        self.joined: float | None = None if self.hides else batch.admitted
        self.tokens: float | None = batch.new_input_tokens
        if self.untold and batch.forward_mode == "prefill":
            self.joined, self.tokens = batch.batch_size, _times(batch.batch_size, batch.input_length_avg)
        elif self.untold and batch.forward_mode == "decode":
            self.joined, self.tokens = 0.0, batch.batch_size

    def is_followed_by(self, batch: Batch) -> None:
        """Take what the next step of its session and rank tells of it."""
        if not self.hides:
            return
        mine, asked = self.batch, self.batch.asked_output
        got = _times(mine.batch_size, mine.output_length_avg)
        its = _times(batch.batch_size, batch.output_length_avg)
        fewest = max(mine.batch_size - batch.batch_size, 0)
        self.leaving = float(fewest)
        if got is not None and its is not None and asked:
            gone = got + batch.batch_size - its - 0.005 * (mine.batch_size + batch.batch_size) - 0.5
            self.leaving = float(max(math.ceil(gone / asked), fewest))
        self.joined = self.leaving + batch.batch_size - mine.batch_size
        self.tokens = None if mine.asked_input is None else mine.batch_size + self.joined * mine.asked_input
        self.mode = "mixed" if self.joined > 0 else "decode" if self.joined == 0 else None

    def interval_ns(self, following: Batch) -> int | None:
        """Start to start, None where no request goes on to the next step: the engine may have idled."""
        interval, size = self.batch.interval_ns, self.batch.batch_size
        ended = self.leaving is not None and self.leaving >= size
        return interval if interval and interval > 0 and not ended and _goes_on(following) else None


def features(step: Step, before: Step | None) -> dict[str, float | None]:
    """Every feature of a step by name; `before` is the step of its session and rank before it."""
    batch, size = step.batch, step.batch.batch_size
    held = batch.kv_tokens
    if held is None and batch.input_length_avg is not None and batch.output_length_avg is not None:
        held = size * (batch.input_length_avg + batch.output_length_avg)
    known, ended = not step.hides, before.leaving if before else None
    tokens = step.tokens if known else None
    work = held * max(tokens / size, 1.0) if held is not None and tokens is not None else None
    return {
        "batch_size": size,
        "input_length_avg": batch.input_length_avg,
        "input_length_max": batch.input_length_max,
        "output_length_avg": batch.output_length_avg,
        "output_length_max": batch.output_length_max,
        "kv_tokens": held,
        "new_input_tokens": tokens,
        "attention_work": work,
        "admitted": step.joined if known else None,
        "finished": batch.finished if batch.finished is not None else ended,
        "preempted": batch.preempted,
        "prefix_hit_tokens": batch.prefix_hit_tokens,
        "forward_mode_code": MODE_CODES.get(step.mode or "") if known else None,
        "waiting_requests": max((batch.concurrency or 0) - size, 0) if step.untold else None,
        "kv_demand_tokens": _demand(batch) if step.untold else None,
        "next_admitted": None,
        "previous_new_input_tokens": before.tokens if before else None,
        "previous_admitted": before.joined if before else None,
        "previous_forward_mode_code": MODE_CODES.get(before.mode or "") if before else None,
    }


def _goes_on(following: Batch) -> bool:
    if following.admitted is not None:
        return following.batch_size > following.admitted
    return following.forward_mode is None or following.forward_mode != "prefill"


def _demand(batch: Batch) -> float | None:
    if batch.concurrency is None or batch.asked_input is None or batch.asked_output is None:
        return None
    return batch.concurrency * (batch.asked_input + batch.asked_output)


def _times(count: float, each: float | None) -> float | None:
    return None if each is None else count * each
