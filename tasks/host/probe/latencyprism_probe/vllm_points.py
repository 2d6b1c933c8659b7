"""vLLM: a batch is `execute_model` plus `sample_tokens` of the worker; both model runners pass through them.

The scheduler may live in another process. What it saw travels on its own SchedulerOutput, as one attribute
more: so a batch and its queue are paired exactly, whatever warm-ups, ranks or restarts there are.
Where batches are scheduled ahead (asynchronous scheduling on a GPU) both calls return once the work is
launched: then start to start is the step.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import functools
import os
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .sink import Record, Sink

STAMP = "_latencyprism"

Function = Callable[..., Any]
Row = tuple[int, int, int, int]


def points(sink: Sink) -> Iterator[tuple[str, str, Callable[[Function], Function]]]:
    """Module, path and wrapper of every function, as hooks.Point has them."""
    steps, queue = Steps(sink), Queue(sink)
    worker, scheduler = "vllm.v1.worker.gpu_worker", "vllm.v1.core.sched.scheduler"
    yield worker, "Worker.execute_model", steps.around_execute
    yield worker, "Worker.sample_tokens", steps.around_sample
    yield scheduler, "Scheduler.schedule", queue.around_schedule
    yield scheduler, "Scheduler.update_from_output", queue.around_update


class Step:
    """One batch on its way to the writing thread."""

    __slots__ = ("end", "execute_end", "iteration", "new", "old", "rank", "scheduled", "start")

    def __init__(self, rank: int, iteration: int, scheduled: Any, new: tuple[Any, ...], old: Any) -> None:
        self.rank, self.iteration, self.scheduled = rank, iteration, scheduled
        self.new, self.old = new, old
        self.start = self.execute_end = self.end = 0


class Steps:
    """Wraps the worker's two calls; keeps each request's prompt length while it lives."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.iteration = 0
        self.samples = False
        self.open: Step | None = None
        self._prompts: dict[str, int] = {}  # this and the next belong to the writing thread
        self._finished = 0

    def around_execute(self, execute: Function) -> Function:
        """Around `Worker.execute_model(scheduler_output)`."""

        @functools.wraps(execute)
        def execute_model(worker: Any, *args: Any, **kwargs: Any) -> Any:
            step = self._begin(worker, args, kwargs)
            start = monotonic_ns()
            result = execute(worker, *args, **kwargs)
            if step is not None:
                step.start = start
                step.execute_end = step.end = monotonic_ns()
                if result is None and self.samples:  # the step ends with sample_tokens
                    self.open = step
                else:
                    self._put(step)
            return result

        return execute_model

    def around_sample(self, sample: Function) -> Function:
        """Around `Worker.sample_tokens(grammar_output)`; older versions have none."""
        self.samples = True

        @functools.wraps(sample)
        def sample_tokens(worker: Any, *args: Any, **kwargs: Any) -> Any:
            step, self.open = self.open, None
            result = sample(worker, *args, **kwargs)
            if step is not None:
                step.end = monotonic_ns()
                self._put(step)
            return result

        return sample_tokens

    def _begin(self, worker: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step | None:
        """Note the composition; returns the step to fill, or None where nothing is recorded."""
        try:
            sink = self.sink
            if not sink.is_started:
                sink.start()
            if self.open is not None:  # nobody sampled it: a rank that does not
                unsampled, self.open = self.open, None
                sink.put(self._record, unsampled)
            scheduled = args[0] if args else kwargs["scheduler_output"]
            new = tuple(map(_new, scheduled.scheduled_new_reqs)) if scheduled.scheduled_new_reqs else ()
            if scheduled.total_num_scheduled_tokens:
                self.iteration += 1
                if sink.on:
                    cached = scheduled.scheduled_cached_reqs
                    old = (
                        [(c.req_id, c.num_computed_tokens) for c in cached] if type(cached) is list else None
                    )
                    return Step(getattr(worker, "rank", 0), self.iteration, scheduled, new, old)
            if new or scheduled.finished_req_ids:
                sink.put(self._unrecorded, new, scheduled.finished_req_ids, int(sink.on))
        except Exception as error:  # noqa: BLE001  fails open
            self.sink.failed(error)
        return None

    def _put(self, step: Step) -> None:
        try:
            self.sink.put(self._record, step)
        except Exception as error:  # noqa: BLE001  fails open
            self.sink.failed(error)

    def _unrecorded(self, new: Iterable[Any], finished: Iterable[str], counts: int) -> None:
        """A step without tokens, or while nothing is recorded: requests begin and end with it too."""
        ended = self._end_requests(finished)
        self._finished = (self._finished + ended) * counts
        for request, prompt, *_ in new:
            self._prompts[request] = prompt

    def _end_requests(self, finished: Iterable[str]) -> int:
        names = list(finished)
        for request in names:
            self._prompts.pop(request, None)
        return len(names)

    def _record(self, step: Step) -> Record:
        scheduled = step.scheduled
        finished, self._finished = self._finished + self._end_requests(scheduled.finished_req_ids), 0
        rows, admitted, hits = self._new_rows(step.new, scheduled.num_scheduled_tokens)
        rows += self._running_rows(step)
        preempted = getattr(scheduled, "preempted_req_ids", None)
        record = {
            "type": "batch", "source": "vllm_probe", "pid": os.getpid(), "rank": step.rank,
            "iteration": step.iteration, "requests": rows, "admitted": admitted, "finished": finished,
            "preempted": None if preempted is None else len(preempted), "prefix_hit_tokens": hits,
            "start_mono_ns": step.start, "execute_end_mono_ns": step.execute_end, "end_mono_ns": step.end,
        }  # fmt: skip
        if stamp := getattr(scheduled, STAMP, None):
            record.update(
                zip(("schedule_start_mono_ns", "schedule_ns", "waiting", "running", "update_ns"), stamp)
            )
        return record

    def _new_rows(self, new: Iterable[Any], tokens: dict[str, int]) -> tuple[list[Row], int, int]:
        """Rows of requests that come whole, how many are new, and what the cache had of those."""
        rows, admitted, hits = [], 0, 0
        for request, prompt, computed, output in new:
            if request not in self._prompts:  # else it was preempted, and comes back
                admitted += 1
                hits += computed
            self._prompts[request] = prompt
            rows.append((prompt, computed, tokens.get(request, 0), output))
        return rows, admitted, hits

    def _running_rows(self, step: Step) -> list[Row]:
        tokens, prompts, rows = step.scheduled.num_scheduled_tokens, self._prompts, []
        for request, computed, told in _running(step):
            prompt = prompts.get(request)
            # not told (before 0.10), or unknown: it began before the probe was loaded: the best bounds then
            output = told if told is not None else max(computed - (prompt or computed + 1) + 1, 0)
            prompt = prompt if prompt is not None else max(computed - output + 1, 0)
            rows.append((prompt, computed, tokens.get(request, 0), output))
        return rows


def _new(request: Any) -> tuple[str, int, int, int]:
    """Name, prompt, computed and output tokens of a request that the scheduler hands over whole."""
    prompt = request.prompt_token_ids
    length = len(prompt) if prompt is not None else getattr(request, "prompt_len", 0)
    known = getattr(request, "prefill_token_ids", None)  # its output too, where it was preempted
    return request.req_id, length, request.num_computed_tokens, max(len(known) - length, 0) if known else 0


def _running(step: Step) -> Iterable[tuple[str, int, int | None]]:
    """Name, computed and output tokens of the others; versions before 0.10 tell no output."""
    if step.old is not None:
        return ((name, computed, None) for name, computed in step.old)
    cached = step.scheduled.scheduled_cached_reqs
    output = getattr(cached, "num_output_tokens", None) or [None] * len(cached.req_ids)
    return zip(cached.req_ids, cached.num_computed_tokens, output)


class Queue:
    """Wraps the scheduler: what waits and runs goes with the batch to its worker."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.update_ns: int | None = None

    def around_schedule(self, schedule: Function) -> Function:
        """Around `Scheduler.schedule()`, which gives a SchedulerOutput."""

        @functools.wraps(schedule)
        def scheduled(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            start = monotonic_ns()
            output = schedule(scheduler, *args, **kwargs)
            try:
                sink = self.sink
                if not sink.is_started:
                    sink.start()
                if sink.on and output.total_num_scheduled_tokens:
                    waiting, running = _counts(scheduler)
                    stamp = (start, monotonic_ns() - start, waiting, running, self.update_ns)
                    setattr(output, STAMP, stamp)
            except Exception as error:  # noqa: BLE001  fails open
                self.sink.failed(error)
            return output

        return scheduled

    def around_update(self, update: Function) -> Function:
        """Around `Scheduler.update_from_output()`; its time goes with the next batch."""

        @functools.wraps(update)
        def update_from_output(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            start = monotonic_ns()
            result = update(scheduler, *args, **kwargs)
            self.update_ns = monotonic_ns() - start
            return result

        return update_from_output


def _counts(scheduler: Any) -> tuple[int, int]:
    """Requests that wait and run; versions without `get_request_counts` have the two queues alone."""
    try:
        running, waiting = scheduler.get_request_counts()
    except AttributeError:
        return len(scheduler.waiting), len(scheduler.running)
    return waiting, running
