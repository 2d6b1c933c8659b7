"""The function probe in vLLM: what a batch becomes, and that no error of its own reaches the server."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest

from tasks.host.probe.latencyprism_probe import sink, vllm_points, vllm_v0_points
from tests.probe_cases import Recording, running, scheduled, step, whole


class Engine(Recording):
    """The probe around a worker and a scheduler of ours."""

    def __init__(self, folder: Path, result: str | None = None, *, samples: bool = True) -> None:
        super().__init__(folder)

        class Worker:
            rank = 1

            def execute_model(self, scheduled: Some) -> str | None:
                if getattr(scheduled, "is_bad", False):
                    raise ValueError("the engine's own")
                return result

            def sample_tokens(self, answer: str = "tokens") -> str:
                return answer

        class Scheduler:
            def __init__(self) -> None:
                self.waiting, self.running = [1, 2, 3], [4, 5]

            def schedule(self, output: Some) -> Some:
                return output

            def update_from_output(self, output: Some, answer: str) -> str:
                del output
                return answer

        if not samples:
            del Worker.sample_tokens
        self.wrap(vllm_points.points, Worker=Worker, Scheduler=Scheduler)
        self.worker: Any = Worker()
        self.scheduler: Any = Scheduler()

    def run(self, *steps: Some) -> None:
        """Let the worker do these steps."""
        for one in steps:
            assert self.worker.execute_model(one) is None
            assert self.worker.sample_tokens() == "tokens"


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A worker whose steps end with sample_tokens."""
    monkeypatch.setattr(sink, "TARGET", str(tmp_path / "target"))
    return Engine(tmp_path)


def test_a_batch_is_written_with_its_composition(engine: Engine) -> None:
    """Requests are [prompt, computed before, new tokens, output so far]; the step ends with sampling."""
    engine.turn("r1")
    engine.run(scheduled())
    engine.turn("r1")
    engine.turn("")
    first, batch, clock, end = engine.lines("r1")
    assert [line["type"] for line in (first, clock)] == ["clock", "clock"]
    assert end.pop("writer_cpu_ns") > 0
    assert end == {"type": "end", "pid": os.getpid(), "probe_errors": 0, "lost_records": 0, "records": 1}
    times = [batch.pop(name) for name in ("start_mono_ns", "execute_end_mono_ns", "end_mono_ns")]
    assert times == sorted(times)
    assert times[0] < times[1] < times[2] < first["monotonic_ns"] < clock["monotonic_ns"]
    assert batch == {
        "type": "batch", "source": "vllm_probe", "pid": os.getpid(), "rank": 1, "iteration": 1,
        "requests": [[3, 1, 2, 0], [10, 11, 1, 2]], "admitted": 1, "finished": 0, "preempted": 0,
        "prefix_hit_tokens": 1,
    }  # fmt: skip


def test_what_waits_and_runs_goes_with_its_batch_to_another_process(engine: Engine) -> None:
    """The scheduler's figures travel on its own output, the time of the update before it too."""
    engine.turn("r1")
    assert engine.scheduler.update_from_output(None, "answer") == "answer"
    sent = pickle.dumps(engine.scheduler.schedule(scheduled()))
    engine.run(pickle.loads(sent))  # noqa: S301  what this test has written
    engine.turn("")
    (batch,) = engine.batches("r1")
    assert (batch["waiting"], batch["running"]) == (3, 2)
    assert batch["schedule_start_mono_ns"] + batch["schedule_ns"] < batch["start_mono_ns"]
    assert batch["update_ns"] > 0


def test_a_step_that_samples_by_itself_ends_with_the_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where execute_model gives a result, or there is no sample_tokens, no second part is waited for."""
    monkeypatch.setattr(sink, "TARGET", str(tmp_path / "target"))
    for result, samples in (("output", True), (None, False)):
        engine = Engine(tmp_path, result, samples=samples)
        run = f"r{samples}"
        engine.turn(run)
        assert engine.worker.execute_model(scheduled()) == result
        engine.turn("")
        (batch,) = engine.batches(run)
        assert batch["end_mono_ns"] == batch["execute_end_mono_ns"]


def test_a_prompt_is_remembered_until_its_request_ends(engine: Engine) -> None:
    """Also one from before the recording; an empty step is no batch, and who ended with it counts later."""
    engine.run(scheduled())
    engine.turn("r1")
    engine.run(
        step({"new": 1}, old=running(("new", 3, 1))),
        step({}, finished_req_ids={"new"}),
        step({"new": 1}, old=running(("new", 9, 1))),
    )
    engine.turn("")
    batches = engine.batches("r1")
    # the second is no more known: the best bound is what it has computed
    assert [batch["requests"] for batch in batches] == [[[3, 3, 1, 1]], [[9, 9, 1, 1]]]
    assert [batch["finished"] for batch in batches] == [0, 1]
    assert engine.sink.errors == 0


def test_a_preempted_request_that_comes_back_is_not_admitted_again(engine: Engine) -> None:
    """The newer runner gets it whole once more: its own tokens in the cache are no hits."""
    engine.turn("r1")
    engine.run(
        step({"a": 8}, new=(whole("a", 8),)),
        step({"b": 2}, new=(whole("b", 6, computed=4),), preempted_req_ids={"a"}),
        step({"a": 6}, new=(whole("a", 8, computed=4, output=2),)),
    )
    engine.turn("")
    told = [
        [batch[name] for name in ("requests", "admitted", "preempted", "prefix_hit_tokens")]
        for batch in engine.batches("r1")
    ]
    assert told == [[[[8, 0, 8, 0]], 1, 0, 0], [[[6, 4, 2, 0]], 1, 1, 4], [[[8, 4, 6, 2]], 0, 0, 0]]


def test_older_versions_tell_less(engine: Engine) -> None:
    """No output tokens (0.10), requests in a list (0.8), nobody named who was preempted."""
    engine.turn("r1")
    cached = Some(req_ids=["a"], num_computed_tokens=[9])
    reused = Some(req_id="a", num_computed_tokens=10)
    first = step({"a": 8}, new=(whole("a", 8),))
    del first.preempted_req_ids
    engine.run(first, step({"a": 1}, old=cached))
    as_list = step({"a": 1})
    as_list.scheduled_cached_reqs = [reused]
    engine.run(as_list)
    reused.num_computed_tokens = 99  # the engine uses the object again
    engine.turn("")
    batches = engine.batches("r1")
    assert [batch["requests"] for batch in batches] == [[[8, 0, 8, 0]], [[8, 9, 1, 2]], [[8, 10, 1, 3]]]
    assert batches[0]["preempted"] is None


def test_each_run_gets_its_own_batches(engine: Engine) -> None:
    """The target may change while the server lives: nothing is written between runs, nor into the next."""
    for run in ("r1", "", "r2"):
        engine.turn(run)
        engine.run(scheduled())
    engine.turn("")
    kinds = [[line["type"] for line in engine.lines(run)] for run in ("r1", "r2")]
    assert kinds == [["clock", "batch", "clock", "end"]] * 2
    assert [engine.lines(run)[1]["iteration"] for run in ("r1", "r2")] == [1, 3]


def test_an_error_of_its_own_is_counted_and_never_the_servers(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scheduler output of another shape: the step goes on, the run's last line has the count."""
    engine.turn("r1")
    engine.run(scheduled(), *[Some() for _ in range(3)], scheduled(num_scheduled_tokens=None))
    assert engine.scheduler.schedule(Some()) == Some()
    engine.turn("")
    assert engine.lines("r1")[-1]["probe_errors"] == 5
    assert capsys.readouterr().err.count("latencyprism probe: AttributeError") == 1
    engine.turn("r2")
    engine.run(scheduled())
    engine.turn("")
    assert engine.lines("r2")[-1]["probe_errors"] == 0


def test_an_error_of_the_engine_passes_through(engine: Engine) -> None:
    """It is raised as it is, is no error of the probe's, and leaves no half of a batch for the next."""
    engine.turn("r1")
    bad = scheduled(is_bad=True)
    with pytest.raises(ValueError, match="the engine's own"):
        engine.worker.execute_model(bad)
    engine.run(scheduled())
    with pytest.raises(TypeError):
        engine.worker.sample_tokens(1, 2, 3)
    engine.turn("")
    assert len(engine.batches("r1")) == 1
    assert engine.lines("r1")[-1]["probe_errors"] == 0


def test_two_hundred_and_fifty_six_requests_at_once(engine: Engine) -> None:
    """Every one of them has its row, and every one its own prompt."""
    names = [f"request-{number}" for number in range(256)]
    prompts = tuple(whole(name, 10 + number) for number, name in enumerate(names))
    engine.turn("r1")
    engine.run(
        step({name: 10 + number for number, name in enumerate(names)}, new=prompts),
        step(dict.fromkeys(names, 1), old=running(*((name, 10 + n, 1) for n, name in enumerate(names)))),
    )
    engine.turn("")
    prefill, decode = engine.batches("r1")
    assert prefill["requests"] == [[10 + number, 0, 10 + number, 0] for number in range(256)]
    assert decode["requests"] == [[10 + number, 10 + number, 1, 1] for number in range(256)]
    assert prefill["admitted"] == 256


def test_v0_is_read_by_its_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its source was read: the driver's call has groups of sequences; other ranks get nothing."""
    monkeypatch.setattr(sink, "TARGET", str(tmp_path / "target"))

    class LocalOrDistributedWorkerBase:
        def execute_model(self, execute_model_req: Some | None = None) -> Some | None:
            return execute_model_req

    def sequence(computed: int, output: int) -> Some:
        told = {"prompt_len": 8, "num_computed_tokens": computed, "output_len": output}
        return Some(**{f"get_{name}": lambda value=value: value for name, value in told.items()})

    def asked(new: int, one: Some, *finished: str) -> Some:
        group = Some(request_id="a", token_chunk_size=new, seq_data={0: one})
        return Some(seq_group_metadata_list=[group], finished_requests_ids=[*finished])

    recording = Recording(tmp_path)
    recording.wrap(vllm_v0_points.points, LocalOrDistributedWorkerBase=LocalOrDistributedWorkerBase)
    worker = LocalOrDistributedWorkerBase()
    recording.turn("r1")
    assert worker.execute_model() is None
    for one in (asked(8, sequence(0, 0)), asked(1, sequence(8, 1), "b")):
        assert worker.execute_model(execute_model_req=one) is one
    recording.turn("")
    names = ("requests", "admitted", "finished")
    told = [[batch[name] for name in names] for batch in recording.batches("r1")]
    assert told == [[[[8, 0, 8, 0]], 1, 0], [[[8, 8, 1, 1]], 0, 1]]
