"""Lines of a live source into batches: the function probe's records, and what tail.py says of vLLM's log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.sentinel.following import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

Record = dict[str, Any]

ENGINES = {"vllm_probe": "vllm", "sglang_probe": "sglang", "vllm_log": "vllm"}
# A request row: prompt length, tokens computed before, new tokens, output tokens so far.
PROMPT, COMPUTED, NEW, OUTPUT = range(4)
OVERLAPS = "sglang_probe"


class Damaged(ValueError):
    """A record is not as its source writes it."""


class Records:
    """The batches of one session, in order, from the lines of all its processes.

    SGLang processes a step's results while the next one runs, so that a step ends where the next one starts:
    it is known only then, and waits here until it is.
    """

    def __init__(self, context: Mapping[str, Any] | None = None) -> None:
        """Take what the run asks for: `workload`, where it is known."""
        self.source: str | None = None
        self._workload = (context or {}).get("workload")
        self._offset_ns = 0
        self._last: dict[tuple[int, int], Batch] = {}
        self._held: dict[tuple[int, int], Batch] = {}

    def take(self, record: Record) -> list[Batch]:
        """The batches that are whole with this record, none for other lines. Raises Damaged."""
        try:
            return self._taken(record)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise Damaged(f"{type(error).__name__}: {error}") from error

    def end(self) -> list[Batch]:
        """What still waits for a next step."""
        rest, self._held = list(self._held.values()), {}
        return rest

    def _taken(self, record: Record) -> list[Batch]:
        kind = record["type"]
        if kind == "clock":
            self._offset_ns = int(record["realtime_ns"]) - int(record["monotonic_ns"])
        if kind == "iteration":
            self.source = "vllm_log"
            return [self._logged(record)]
        if kind == "damaged":
            raise Damaged("a line that begins as an iteration's and is none")
        return self._recorded(record) if kind == "batch" else []

    def _recorded(self, record: Record) -> list[Batch]:
        self.source = str(record["source"])
        key = (int(record["pid"]), int(record.get("rank") or 0))
        batch = self._composed(record)
        before = self._last.get(key)
        if before is not None:
            before.interval_ns = batch.start_ns - before.start_ns
        self._last[key] = batch
        if self.source != OVERLAPS:
            return [batch]
        done = self._held.pop(key, None)
        self._held[key] = batch
        if done is None:
            return []
        done.duration_ns = min(done.duration_ns, batch.start_ns - done.start_ns)
        return [done]

    def _composed(self, record: Record) -> Batch:
        start, end = int(record["start_mono_ns"]), int(record["end_mono_ns"])
        if end < start:
            raise Damaged("it ends before it starts")
        requests: list[list[int]] = record["requests"]
        prefilling = sum(map(_prefills, requests))
        return Batch(
            start + self._offset_ns,
            end - start,
            _mode(len(requests), prefilling),
            len(requests),
            record.get("rank"),
            input_length_avg=_mean(requests, PROMPT),
            input_length_max=max((row[PROMPT] for row in requests), default=None),
            output_length_avg=_mean(requests, OUTPUT),
            output_length_max=max((row[OUTPUT] for row in requests), default=None),
            kv_tokens=sum(row[COMPUTED] + row[NEW] for row in requests),
            new_input_tokens=sum(row[NEW] for row in requests),
            prefix_hit_tokens=_count(record, "prefix_hit_tokens"),
            admitted=_count(record, "admitted"),
            finished=_count(record, "finished"),
            preempted=_count(record, "preempted"),
            workload=self._workload,
        )

    def _logged(self, record: Record) -> Batch:
        prefilling = int(record["context_requests"])
        size = prefilling + int(record["generation_requests"])
        elapsed = int(record["elapsed_ns"])
        start = int(record["mono_ns"]) + self._offset_ns - elapsed
        tokens = int(record["context_tokens"]) + int(record["generation_tokens"])
        mode = _mode(size, prefilling)
        return Batch(
            start, elapsed, mode, size, record.get("rank"), new_input_tokens=tokens, workload=self._workload
        )


def _prefills(row: list[int]) -> bool:
    """Whether a request still computes its prompt, or what it had before it was preempted."""
    return row[COMPUTED] < row[PROMPT] or row[COMPUTED] + 1 < row[PROMPT] + row[OUTPUT]


def _mode(size: int, prefilling: int) -> str:
    if size == 0:
        return "idle"
    return "decode" if prefilling == 0 else "prefill" if prefilling == size else "mixed"


def _mean(requests: list[list[int]], column: int) -> float | None:
    return sum(row[column] for row in requests) / len(requests) if requests else None


def _count(record: Record, name: str) -> int | None:
    value = record.get(name)
    return None if value is None else int(value)
