"""The function probe: one record per batch, written by the server process itself.

Loaded through the engine's own plugin entry point from a folder on PYTHONPATH; nothing is installed
and no engine file is touched. It wraps `Worker.execute_model` and `Worker.sample_tokens` of vLLM V1
(both model runners pass through them), so that a batch is execute + sample on the worker's own clock.

On the step path only a tuple is appended; a thread formats and writes. An error of the probe's own
never reaches the server: it is counted, and said once on stderr.

Where to write stands in the file named by LPRISM_PROBE_TARGET (a folder's path, empty = off), so that
a server which outlives a run writes each run's batches into that run's folder.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import json
import os
import sys
import threading
import time
from typing import Any, Callable

TARGET = os.environ.get("LPRISM_PROBE_TARGET", "")
HOOKED = "vllm.v1.worker.gpu_worker"
FLUSH_S = 0.1
CLOCK_EVERY_S = 5.0
WRAPPED = "_latencyprism_wrapped"
RECORDS_A_TURN = 16  # formatted between two chances for the engine's threads to take the GIL

Row = tuple[int, int, int, int]


class Sink:
    """Takes records from the step path and writes them to <target>/batches-<pid>.jsonl."""

    def __init__(self) -> None:
        self.on = False
        self.errors = 0
        self._records: list[dict[str, Any]] = []
        self._file: int | None = None
        self._target = ""
        self._next_clock = 0.0
        self._pid = 0

    def start(self) -> None:
        """Start the writing thread, once in every process (threads do not survive a fork)."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            threading.Thread(target=self._loop, daemon=True, name="lprism-probe").start()

    def put(self, record: dict[str, Any]) -> None:
        """Take one record; nothing is formatted or written here."""
        self._records.append(record)

    def failed(self, error: BaseException) -> None:
        """Count an error of the probe's own."""
        self.errors += 1
        if self.errors == 1:
            sys.stderr.write(f"latencyprism probe: {error!r} (further errors are only counted)\n")

    def _loop(self) -> None:
        while True:
            try:
                self._follow_target()
                self._flush()
            except Exception as error:  # noqa: BLE001  the probe fails open: never into the server
                self.failed(error)
            time.sleep(FLUSH_S)

    def _follow_target(self) -> None:
        with open(TARGET, encoding="utf-8") as file:
            target = file.read().strip()
        if target == self._target:
            return
        self.on = False
        self._flush()
        self._close()
        self._target = target
        self.errors = 0  # counted by the run
        if target:
            path = os.path.join(target, f"batches-{os.getpid()}.jsonl")
            self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
            self._write_clock()
            self.on = True

    def _flush(self) -> None:
        records, self._records = self._records, []
        if self._file is None:
            return
        for first in range(0, len(records), RECORDS_A_TURN):
            lines = [json.dumps(r, separators=(",", ":")) for r in records[first : first + RECORDS_A_TURN]]
            os.write(self._file, ("\n".join(lines) + "\n").encode())
        if time.monotonic() >= self._next_clock:
            self._write_clock()

    def _write_clock(self) -> None:
        self._next_clock = time.monotonic() + CLOCK_EVERY_S
        line = {"type": "clock", "pid": os.getpid(), **clock_pair()}
        if self._file is not None:
            os.write(self._file, (json.dumps(line) + "\n").encode())

    def _close(self) -> None:
        if self._file is not None:
            self._write_clock()
            end = {"type": "end", "pid": os.getpid(), "probe_errors": self.errors}
            os.write(self._file, (json.dumps(end) + "\n").encode())
            os.close(self._file)
            self._file = None


def clock_pair() -> dict[str, int]:
    """(realtime, monotonic) in ns, the closest of three readings; tasks.host.clock is not in reach here."""
    readings = []
    for _ in range(3):
        before = time.monotonic_ns()
        realtime = time.time_ns()
        after = time.monotonic_ns()
        readings.append((after - before, realtime, (before + after) // 2))
    _, realtime, monotonic = min(readings)
    return {"realtime_ns": realtime, "monotonic_ns": monotonic}


class Batches:
    """Turns vLLM's SchedulerOutput into one record; keeps each request's prompt length while it lives."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.prompt_lengths: dict[str, int] = {}
        self.iteration = 0
        self.open: dict[str, Any] | None = None

    def begin(self, rank: int, scheduled: Any) -> dict[str, Any] | None:
        """Note the composition; returns the record to fill, or None where nothing is recorded."""
        for request in scheduled.finished_req_ids:
            self.prompt_lengths.pop(request, None)
        rows, hits = self._new(scheduled)
        if not self.sink.on or not scheduled.total_num_scheduled_tokens:
            return None
        rows += self._running(scheduled)
        self.iteration += 1
        return {
            "type": "batch", "source": "vllm_probe", "pid": os.getpid(), "rank": rank,
            "iteration": self.iteration, "requests": rows, "admitted": len(scheduled.scheduled_new_reqs),
            "finished": len(scheduled.finished_req_ids),
            "preempted": len(getattr(scheduled, "preempted_req_ids", None) or ()), "prefix_hit_tokens": hits,
        }  # fmt: skip

    def _new(self, scheduled: Any) -> tuple[list[Row], int]:
        rows, hits = [], 0
        for request in scheduled.scheduled_new_reqs:
            prompt = len(request.prompt_token_ids or ())
            self.prompt_lengths[request.req_id] = prompt
            hits += request.num_computed_tokens
            new = scheduled.num_scheduled_tokens[request.req_id]
            rows.append((prompt, request.num_computed_tokens, new, 0))
        return rows, hits

    def _running(self, scheduled: Any) -> list[Row]:
        cached = scheduled.scheduled_cached_reqs
        rows = []
        for request, computed, output in zip(
            cached.req_ids, cached.num_computed_tokens, cached.num_output_tokens
        ):
            # unknown: it began before the probe was loaded; what it has computed is then the best bound
            prompt = self.prompt_lengths.get(request, max(computed - output + 1, 0))
            rows.append((prompt, computed, scheduled.num_scheduled_tokens.get(request, 0), output))
        return rows


def wrap_worker(worker_class: Any, sink: Sink) -> None:
    """Wrap execute_model and sample_tokens of vLLM's worker class, once."""
    execute, sample = worker_class.execute_model, worker_class.sample_tokens
    if getattr(execute, WRAPPED, False):
        return
    batches = Batches(sink)

    @functools.wraps(execute)
    def execute_model(self: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        record = None
        try:
            sink.start()
            record = batches.begin(getattr(self, "rank", 0), scheduler_output)
        except Exception as error:  # noqa: BLE001  fails open
            sink.failed(error)
        start = time.monotonic_ns()
        result = execute(self, scheduler_output, *args, **kwargs)
        if record is not None:
            record["start_mono_ns"] = start
            record["execute_end_mono_ns"] = record["end_mono_ns"] = time.monotonic_ns()
            if result is None:  # the step ends with sample_tokens
                batches.open = record
            else:
                sink.put(record)
        return result

    @functools.wraps(sample)
    def sample_tokens(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = sample(self, *args, **kwargs)
        record, batches.open = batches.open, None
        if record is not None:
            record["end_mono_ns"] = time.monotonic_ns()
            sink.put(record)
        return result

    setattr(execute_model, WRAPPED, True)
    worker_class.execute_model, worker_class.sample_tokens = execute_model, sample_tokens


class Hook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Runs `patch(module)` right after the hooked module's body; then steps aside."""

    installed = False  # in this process; a forked child inherits the wrapped class along with it

    def __init__(self, patch: Callable[[Any], None]) -> None:
        self.patch = patch
        self.loader: Any = None

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        """Answer for the hooked module alone, and only once."""
        if name != HOOKED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: Any) -> Any:
        """As the module's own loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """Run the module's body, then patch what it defined."""
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.patch(module)


def register() -> None:
    """The entry point: vLLM calls it in every process, some of them more than once."""
    if not TARGET or Hook.installed:
        return
    Hook.installed = True
    sink = Sink()

    def patch(module: Any) -> None:
        try:
            wrap_worker(module.Worker, sink)
        except Exception as error:  # noqa: BLE001  fails open
            sink.failed(error)

    if HOOKED in sys.modules:
        patch(sys.modules[HOOKED])
    else:
        sys.meta_path.insert(0, Hook(patch))
