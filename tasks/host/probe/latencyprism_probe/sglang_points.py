"""SGLang: a batch is the scheduler's `run_batch`, and `process_batch_result` of the same result.

The normal loop calls them in turn. The overlap loop processes a result while the next batch runs, with a copy
of the batch but the same result object: they are paired by it. There the two calls span two steps, and start
to start is the step. A decoding request counts one new token (speculative decoding is not looked into).
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import functools
import os
import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .sink import Record, Sink

MOST_OPEN = 64  # batches whose results nobody processes: a rank of a pipeline that is not the last
MOST_KNOWN = (
    1 << 18
)  # requests that vanished without an end (aborted while they waited) are not kept for ever

Function = Callable[..., Any]
Row = tuple[int, int, int, int]


def points(sink: Sink) -> Iterator[tuple[str, str, Callable[[Function], Function]]]:
    """Module, path and wrapper of every function, as hooks.Point has them."""
    steps, module = Steps(sink), "sglang.srt.managers.scheduler"
    yield module, "Scheduler.run_batch", steps.around_run
    yield module, "Scheduler.process_batch_result", steps.around_process


class Step:
    """One batch on its way to the writing thread; `lengths` as `_seen` gives them."""

    __slots__ = (
        "end", "execute_end", "iteration", "lengths", "mode", "process_start", "rank", "requests", "running",
        "start", "waiting",
    )  # fmt: skip

    def __init__(self, scheduler: Any, batch: Any, rank: int, iteration: int) -> None:
        mode = batch.forward_mode
        self.rank, self.iteration, self.mode = rank, iteration, mode
        self.requests = list(batch.reqs)
        self.lengths = _seen(batch, mode)
        self.waiting = len(scheduler.waiting_queue)
        self.running = len(self.requests)
        if mode.is_extend():  # those that decode wait for it
            self.running += len(scheduler.running_batch.reqs)
        self.start = self.execute_end = self.end = 0
        self.process_start: int | None = None


class Steps:
    """Wraps the scheduler's two calls; knows which requests it has seen before."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.iteration = 0
        self.rank: int | None = None
        self.open: dict[int, Step] = {}  # by id of the result, which lives until it is processed
        self._known: dict[
            str, bool
        ] = {}  # request: whether it has decoded; these belong to the writing thread
        self._finished = 0

    def around_run(self, run: Function) -> Function:
        """Around `Scheduler.run_batch(batch, ...)`, which gives the result."""

        @functools.wraps(run)
        def run_batch(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            step = self._begin(scheduler, args[0] if args else kwargs.get("batch"))
            start = monotonic_ns()
            result = run(scheduler, *args, **kwargs)
            if step is not None:
                step.start = start
                step.execute_end = step.end = monotonic_ns()
                self._opened(step, id(result))
            return result

        return run_batch

    def around_process(self, process: Function) -> Function:
        """Around `Scheduler.process_batch_result(batch, result, ...)`."""

        @functools.wraps(process)
        def process_batch_result(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            start = monotonic_ns()
            answer = process(scheduler, *args, **kwargs)
            self._processed(args, kwargs, start, monotonic_ns())
            return answer

        return process_batch_result

    def _begin(self, scheduler: Any, batch: Any) -> Step | None:
        """Note the composition; returns the step to fill, or None where nothing is recorded."""
        try:
            if not self.sink.is_started:
                self.sink.start()
            self.iteration += 1
            if self.sink.on:
                if self.rank is None:
                    self.rank = _rank(scheduler)
                return Step(scheduler, batch, self.rank, self.iteration)
            if batch.forward_mode.is_extend():
                self.sink.put(self._unrecorded, [request.rid for request in batch.reqs])
        except Exception as error:  # noqa: BLE001  fails open
            self.sink.failed(error)
        return None

    def _opened(self, step: Step, key: int) -> None:
        try:
            unprocessed = self.open.pop(key, None)  # its result has gone, and another has its place
            if unprocessed is None and len(self.open) >= MOST_OPEN:
                unprocessed = self.open.pop(next(iter(self.open)))
            if unprocessed is not None:
                self.sink.put(self._record, unprocessed)
            self.open[key] = step
        except Exception as error:  # noqa: BLE001  fails open
            self.sink.failed(error)

    def _processed(self, args: tuple[Any, ...], kwargs: dict[str, Any], start: int, end: int) -> None:
        try:
            result = args[1] if len(args) > 1 else kwargs["result"]
            step = self.open.pop(id(result), None)
            if step is not None:
                step.process_start, step.end = start, end
                self.sink.put(self._record, step)
            batch = args[0] if args else kwargs["batch"]
            ended = [request.rid for request in batch.reqs if request.finished_reason is not None]
            if ended:
                self.sink.put(self._ended, ended, int(self.sink.on))
        except Exception as error:  # noqa: BLE001  fails open
            self.sink.failed(error)

    def _unrecorded(self, requests: list[str]) -> None:
        for request in requests:
            self._known.setdefault(request, False)

    def _ended(self, requests: list[str], counts: int) -> None:
        """Requests end with a step's results: they count with the next. The overlap loop tells them twice."""
        ended = sum(self._known.pop(request, None) is not None for request in requests)
        self._finished = (self._finished + ended) * counts

    def _record(self, step: Step) -> Record:
        finished, self._finished = self._finished, 0
        rows, admitted, preempted, hits = self._rows(step)
        return {
            "type": "batch", "source": "sglang_probe", "pid": os.getpid(), "rank": step.rank,
            "iteration": step.iteration, "mode": getattr(step.mode, "name", str(step.mode)),
            "requests": rows, "admitted": admitted, "finished": finished, "preempted": preempted,
            "prefix_hit_tokens": hits, "waiting": step.waiting, "running": step.running,
            "start_mono_ns": step.start, "execute_end_mono_ns": step.execute_end, "end_mono_ns": step.end,
            "process_start_mono_ns": step.process_start,
        }  # fmt: skip

    def _rows(self, step: Step) -> tuple[list[Row], int, int, int]:
        """Rows, how many requests are new and how many come back preempted, and the cache hits of the new."""
        rows: list[Row] = []
        admitted = preempted = hits = 0
        for request, (computed, new, output) in zip(step.requests, step.lengths):
            prompt, name = len(request.origin_input_ids), request.rid
            known = self._known.get(name)
            if output is None:  # it decodes
                rows.append((prompt, computed, new, max(computed + new - prompt, 0)))
                if known is False:
                    self._known[name] = True
                continue
            rows.append((prompt, computed, new, output))
            if known is None:
                admitted += 1
                hits += computed
            preempted += known is True
            self._known[name] = False
        if len(self._known) > MOST_KNOWN:
            self._known = dict.fromkeys((request.rid for request in step.requests), True)
        return rows, admitted, preempted, hits


def _rank(scheduler: Any) -> int:
    """Its tensor-parallel rank; of late the scheduler's module knows it, not the scheduler."""
    rank = getattr(scheduler, "tp_rank", None)
    if rank is None:
        parallel = getattr(sys.modules[type(scheduler).__module__], "get_parallel", None)
        rank = parallel().tp_rank if parallel else 0
    return int(rank)


def _seen(batch: Any, mode: Any) -> list[tuple[int, int, int | None]]:
    """Computed tokens, new tokens and (of one that does not decode) output tokens of each request.

    The engine changes its lists as it goes on, and the overlap loop lags behind with the output by one: what
    decodes is told by the lengths in the cache, this step's token included.
    """
    if mode.is_extend():
        output = [len(request.output_ids) for request in batch.reqs]
        decoding = len(getattr(batch, "decoding_reqs", None) or ()) if mode.is_mixed() else 0
        first = len(output) - decoding  # the decoding ones stand at the end
        return list(zip(batch.prefix_lens, batch.extend_lens, [*output[:first], *[None] * decoding]))
    lengths = getattr(batch, "seq_lens_cpu", None)
    if lengths is not None:
        return [(length - 1, 1, None) for length in lengths.tolist()]
    return [(len(one.origin_input_ids) + len(one.output_ids) - 1, 1, None) for one in batch.reqs]
