"""The function probe in SGLang: both loops, and the same record of a batch as vLLM's."""

import os
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest

from tasks.host.probe.latencyprism_probe import sglang_points, sink
from tests.probe_cases import Recording, decode, extend, request


class Engine(Recording):
    """The probe around a scheduler of ours; `launch` and `process` are the halves of a step."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)

        class Scheduler:
            tp_rank = 2
            waiting_queue = (1, 2, 3)
            running_batch = Some(reqs=())

            def run_batch(self, batch: Some) -> Some:
                if getattr(batch, "is_bad", False):
                    raise ValueError("the engine's own")
                return Some()

            def process_batch_result(self, batch: Some, result: Some) -> str:
                del result
                for name in batch.__dict__.get("ends", ()):
                    name.finished_reason = "length"
                return "processed"

        self.wrap(sglang_points.points, Scheduler=Scheduler)
        self.scheduler: Any = Scheduler()

    def launch(self, batch: Some) -> Some:
        """Run a batch; the result."""
        result: Some = self.scheduler.run_batch(batch)
        return result

    def process(self, batch: Some, result: Some) -> None:
        """Process a result, with a copy of the batch."""
        assert self.scheduler.process_batch_result(Some(**vars(batch)), result) == "processed"

    def run(self, *batches: Some) -> None:
        """The normal loop."""
        for batch in batches:
            self.process(batch, self.launch(batch))

    def told(self, run: str, *names: str) -> list[list[Any]]:
        """Some figures of every batch."""
        return [[batch[name] for name in names] for batch in self.batches(run)]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A scheduler."""
    monkeypatch.setattr(sink, "TARGET", str(tmp_path / "target"))
    return Engine(tmp_path)


def test_a_batch_has_the_same_record_as_vllms(engine: Engine) -> None:
    """[prompt, computed before, new, output so far], with the queue; the step ends with its results."""
    engine.turn("r1")
    engine.run(extend((request("a", 8), 4, 4)))
    engine.turn("")
    (batch,) = engine.batches("r1")
    names = ("start_mono_ns", "execute_end_mono_ns", "process_start_mono_ns", "end_mono_ns")
    times = [batch.pop(name) for name in names]
    assert times == sorted(times)
    assert batch == {
        "type": "batch", "source": "sglang_probe", "pid": os.getpid(), "rank": 2, "iteration": 1,
        "mode": "EXTEND", "requests": [[8, 4, 4, 0]], "admitted": 1, "finished": 0, "preempted": 0,
        "prefix_hit_tokens": 4, "waiting": 3, "running": 1,
    }  # fmt: skip


def test_the_overlap_loop_is_paired_by_its_result(engine: Engine) -> None:
    """A result is processed while the next batch runs; who ended with it counts with the batch after."""
    a, b = request("a", 4), request("b", 6)
    first, second, third = decode((a, 5), (b, 7)), decode((a, 6), (b, 8)), decode((b, 9))
    first.ends = [a]
    engine.run(extend((a, 0, 4), (b, 0, 6)))
    engine.turn("r1")
    results = [engine.launch(first)]
    for before, batch in ((first, second), (second, third)):
        results.append(engine.launch(batch))
        engine.process(before, results.pop(0))
    engine.process(third, results.pop())
    engine.turn("")
    assert engine.told("r1", "requests", "finished", "iteration") == [
        [[[4, 4, 1, 1], [6, 6, 1, 1]], 0, 2],
        [[[4, 5, 1, 2], [6, 7, 1, 2]], 1, 3],  # it ended in the first, and ran once more
        [[[6, 8, 1, 3]], 0, 4],
    ]
    one, two, _ = engine.batches("r1")
    assert (
        one["execute_end_mono_ns"] < two["start_mono_ns"] < one["process_start_mono_ns"] < one["end_mono_ns"]
    )


def test_mixed_batches_chunks_and_requests_from_before(engine: Engine) -> None:
    """Who decodes stands at the end; a prompt's later chunks are no cache hits; all began once."""
    a, b = request("a", 4), request("b", 12)
    engine.run(extend((a, 0, 4)))  # before the recording
    engine.turn("r1")
    engine.run(
        extend((b, 2, 5), decoding=((a, 4),)),
        extend((b, 7, 5), decoding=((a, 5),)),
        decode((a, 7), (b, 13)),
    )
    engine.turn("")
    assert engine.told("r1", "mode", "requests", "admitted", "prefix_hit_tokens", "preempted") == [
        ["MIXED", [[12, 2, 5, 0], [4, 4, 1, 1]], 1, 2, 0],
        ["MIXED", [[12, 7, 5, 0], [4, 5, 1, 2]], 0, 0, 0],
        ["DECODE", [[4, 6, 1, 3], [12, 12, 1, 1]], 0, 0, 0],
    ]


def test_a_retracted_request_counts_when_it_comes_back(engine: Engine) -> None:
    """It has decoded, and extends again: with its output, and with its own tokens in the cache."""
    a = request("a", 4)
    engine.turn("r1")
    engine.run(extend((a, 0, 4)), decode((a, 5)))
    a.output_ids = [7, 7]
    engine.run(extend((a, 3, 3)))
    engine.turn("")
    assert engine.told("r1", "requests", "admitted", "prefix_hit_tokens", "preempted")[-1] == [
        [[4, 3, 3, 2]], 0, 0, 1,
    ]  # fmt: skip


def test_lengths_are_those_of_the_step_though_the_engine_changes_them(engine: Engine) -> None:
    """The normal loop counts up in place, before the thread has looked; without them the output tells."""
    a = request("a", 4, output=1)
    batch, bare = decode((a, 5)), decode((a, 5))
    engine.turn("r1")
    engine.run(batch)
    batch.seq_lens_cpu.numbers[0] += 1
    bare.seq_lens_cpu = None
    engine.run(bare)
    engine.turn("")
    assert engine.told("r1", "requests") == [[[[4, 4, 1, 1]]]] * 2


def test_a_result_that_nobody_processes_is_told_as_it_ran(engine: Engine) -> None:
    """A pipeline's other ranks: the batch is written when there are too many of them."""
    a = request("a", 4)
    engine.turn("r1")
    kept = [engine.launch(decode((a, 5 + number))) for number in range(sglang_points.MOST_OPEN + 1)]
    engine.turn("")
    assert len({*map(id, kept)}) == len(kept)  # while they live, no other has the place of one
    (batch,) = engine.batches("r1")
    assert batch["process_start_mono_ns"] is None
    assert batch["end_mono_ns"] == batch["execute_end_mono_ns"]


def test_errors_of_either_side_stay_where_they_belong(engine: Engine) -> None:
    """The probe's are counted, the engine's are raised as they are."""
    engine.turn("r1")
    engine.run(Some(), Some())
    with pytest.raises(ValueError, match="the engine's own"):
        engine.launch(Some(**vars(decode()), is_bad=True))
    engine.run(extend((request("a", 4), 0, 4)))
    engine.turn("")
    assert len(engine.batches("r1")) == 1
    assert engine.lines("r1")[-1]["probe_errors"] == 4


def test_the_rank_is_the_modules_where_the_scheduler_has_none(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.5.23 keeps it apart; where nobody knows, it is 0."""
    monkeypatch.delattr(type(engine.scheduler), "tp_rank")
    assert sglang_points._rank(engine.scheduler) == 0
    monkeypatch.setitem(globals(), "get_parallel", lambda: Some(tp_rank=3))
    assert sglang_points._rank(engine.scheduler) == 3
