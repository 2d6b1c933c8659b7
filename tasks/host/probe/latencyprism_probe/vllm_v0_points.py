"""vLLM V0 (0.7), as it was read: untested. A step is the driver's `execute_model`, sampling and all.

Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import functools
import os
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .sink import Record, Sink

Function = Callable[..., Any]
Row = tuple[int, int, int, int]


def points(sink: Sink) -> Iterator[tuple[str, str, Callable[[Function], Function]]]:
    """Module, path and wrapper of every function, as hooks.Point has them."""
    path = "LocalOrDistributedWorkerBase.execute_model"
    yield "vllm.worker.worker_base", path, Steps(sink).around_execute


class Steps:
    """Wraps the worker's call; a request's lengths are told by its sequences."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.iteration = 0
        self._known: set[str] = set()  # this belongs to the writing thread

    def around_execute(self, execute: Function) -> Function:
        """Around `LocalOrDistributedWorkerBase.execute_model(execute_model_req)`."""

        @functools.wraps(execute)
        def execute_model(worker: Any, *args: Any, **kwargs: Any) -> Any:
            rows = self._begin(args[0] if args else kwargs.get("execute_model_req"))
            start = monotonic_ns()
            result = execute(worker, *args, **kwargs)
            if rows:
                try:
                    self.iteration += 1
                    self.sink.put(self._record, worker, self.iteration, rows, start, monotonic_ns())
                except Exception as error:  # noqa: BLE001  fails open
                    self.sink.failed(error)
            return result

        return execute_model

    def _begin(self, asked: Any) -> tuple[list[tuple[str, Row]], list[str]] | None:
        """Each sequence's request and row, and the requests that have ended; None: no driver's call."""
        try:
            if not self.sink.is_started:
                self.sink.start()
            if not self.sink.on or asked is None:
                return None
            rows = [
                (group.request_id, (
                    one.get_prompt_len(), one.get_num_computed_tokens(), group.token_chunk_size,
                    one.get_output_len(),
                ))
                for group in asked.seq_group_metadata_list for one in group.seq_data.values()
            ]  # fmt: skip
            return rows, list(asked.finished_requests_ids)
        except Exception as error:  # noqa: BLE001  fails open
            self.sink.failed(error)
        return None

    def _record(
        self,
        worker: Any,
        iteration: int,
        begun: tuple[list[tuple[str, Row]], list[str]],
        start: int,
        end: int,
    ) -> Record:
        rows, finished = begun
        first = [row for name, row in rows if name not in self._known and row[3] == 0]
        self._known.difference_update(finished)
        self._known.update(name for name, _ in rows)
        return {
            "type": "batch", "source": "vllm_probe", "pid": os.getpid(), "rank": getattr(worker, "rank", 0),
            "iteration": iteration, "requests": [row for _, row in rows], "admitted": len(first),
            "finished": len(finished), "preempted": None, "prefix_hit_tokens": sum(row[1] for row in first),
            "start_mono_ns": start, "execute_end_mono_ns": end, "end_mono_ns": end,
        }  # fmt: skip
