"""The function probe: what a scheduled batch becomes, and that no error of its own reaches the server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.host.probe import latencyprism_probe as probe

FOLDER = Path(probe.__file__).parent


def scheduled(**changes: object) -> SimpleNamespace:
    """What vLLM hands its worker: one new request of 3 tokens, one that has given 2 tokens."""
    given = {
        "finished_req_ids": set(),
        "num_scheduled_tokens": {"new": 2, "old": 1},
        "total_num_scheduled_tokens": 3,
        "scheduled_new_reqs": [
            SimpleNamespace(req_id="new", prompt_token_ids=[7, 8, 9], num_computed_tokens=1)
        ],
        "scheduled_cached_reqs": SimpleNamespace(
            req_ids=["old"], num_computed_tokens=[11], num_output_tokens=[2]
        ),
    }
    return SimpleNamespace(**{**given, **changes})


class Recording:
    """A probe around a worker class of ours, its thread left out: `turn` is one round of it."""

    def __init__(self, folder: Path, result: str | None) -> None:
        class Worker:
            rank = 1

            def execute_model(self, _scheduled: object) -> str | None:
                return result

            def sample_tokens(self) -> str:
                return "tokens"

        self.sink, self.target = probe.Sink(), folder / "target"
        self.sink._pid = os.getpid()
        self.folder = folder
        probe.wrap_worker(Worker, self.sink)
        probe.wrap_worker(Worker, self.sink)  # a second time changes nothing
        self.worker: Any = Worker()

    def turn(self, run: str) -> None:
        """Point the probe at a run's folder (or at none), as the supervisor does, and let it look."""
        if run:
            (self.folder / run).mkdir(exist_ok=True)
        self.target.write_text(str(self.folder / run) if run else "")
        self.sink._follow_target()
        self.sink._flush()

    def lines(self, run: str) -> list[dict[str, Any]]:
        """What it wrote for a run."""
        text = (self.folder / run / f"batches-{os.getpid()}.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    """A probe around a worker whose steps end with sample_tokens."""
    monkeypatch.setattr(probe, "TARGET", str(tmp_path / "target"))
    return Recording(tmp_path, None)


def test_a_batch_is_written_with_its_composition(recording: Recording) -> None:
    """Requests are [prompt, computed before, new tokens, output so far]; the step ends with sampling."""
    recording.turn("r1")
    assert recording.worker.execute_model(scheduled()) is None
    assert recording.worker.sample_tokens() == "tokens"
    recording.turn("r1")
    recording.turn("")
    first, batch, clock, end = recording.lines("r1")
    assert [line["type"] for line in (first, clock)] == ["clock", "clock"]
    assert end == {"type": "end", "pid": os.getpid(), "probe_errors": 0}
    times = [batch.pop(name) for name in ("start_mono_ns", "execute_end_mono_ns", "end_mono_ns")]
    assert times == sorted(times)
    assert first["monotonic_ns"] < times[0] < times[1] < times[2] < clock["monotonic_ns"]
    assert batch == {
        "type": "batch", "source": "vllm_probe", "pid": os.getpid(), "rank": 1, "iteration": 1,
        "requests": [[3, 1, 2, 0], [10, 11, 1, 2]], "admitted": 1, "finished": 0, "preempted": 0,
        "prefix_hit_tokens": 1,
    }  # fmt: skip


def test_a_step_that_samples_by_itself_ends_with_the_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where execute_model gives a result, there is no second part to wait for."""
    monkeypatch.setattr(probe, "TARGET", str(tmp_path / "target"))
    recording = Recording(tmp_path, "output")
    recording.turn("r1")
    assert recording.worker.execute_model(scheduled()) == "output"
    recording.turn("r1")
    batch = recording.lines("r1")[1]
    assert batch["end_mono_ns"] == batch["execute_end_mono_ns"]


def test_a_prompt_is_remembered_until_its_request_ends(recording: Recording) -> None:
    """Also one that came while nothing was recorded; an empty step is not recorded."""
    old = SimpleNamespace(req_ids=["new"], num_computed_tokens=[3], num_output_tokens=[1])
    nothing: dict[str, object] = {"scheduled_new_reqs": [], "num_scheduled_tokens": {"new": 1}}
    recording.worker.execute_model(scheduled())
    recording.turn("r1")
    recording.worker.execute_model(scheduled(**nothing, scheduled_cached_reqs=old))
    recording.worker.sample_tokens()
    recording.worker.execute_model(scheduled(**nothing, total_num_scheduled_tokens=0))
    recording.worker.sample_tokens()
    again = SimpleNamespace(req_ids=["new"], num_computed_tokens=[9], num_output_tokens=[1])
    gone = scheduled(**nothing, scheduled_cached_reqs=again, finished_req_ids={"new"})
    recording.worker.execute_model(gone)
    recording.worker.sample_tokens()
    recording.turn("r1")
    batches = [line["requests"] for line in recording.lines("r1") if line["type"] == "batch"]
    assert batches == [[[3, 3, 1, 1]], [[9, 9, 1, 1]]]  # the second: the best bound, by what it has computed
    assert recording.sink.errors == 0


def test_each_run_gets_its_own_batches(recording: Recording) -> None:
    """The target may change while the server lives: nothing is written between runs, nor into the next."""
    for run in ("r1", "", "r2"):
        recording.turn(run)
        recording.worker.execute_model(scheduled())
        recording.worker.sample_tokens()
    recording.turn("")
    kinds = [[line["type"] for line in recording.lines(run)] for run in ("r1", "r2")]
    assert kinds == [["clock", "batch", "clock", "end"]] * 2
    assert [recording.lines(run)[1]["iteration"] for run in ("r1", "r2")] == [1, 2]


def test_an_error_of_its_own_is_counted_and_never_the_servers(
    recording: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scheduler output of another shape: the step goes on, the run's last line has the count."""
    recording.turn("r1")
    for _ in range(3):
        assert recording.worker.execute_model(SimpleNamespace()) is None
        assert recording.worker.sample_tokens() == "tokens"
    recording.turn("")
    assert recording.lines("r1")[-1]["probe_errors"] == 3
    assert capsys.readouterr().err.count("latencyprism probe: AttributeError") == 1
    recording.turn("r2")
    recording.turn("")
    assert recording.lines("r2")[-1]["probe_errors"] == 0


PROGRAM = """
import pathlib, sys, time
import latencyprism_probe
latencyprism_probe.register()
latencyprism_probe.register()
from vllm.v1.worker.gpu_worker import Worker
from types import SimpleNamespace as Some
step = Some(finished_req_ids=(), scheduled_new_reqs=(), num_scheduled_tokens={"a": 1},
            total_num_scheduled_tokens=1,
            scheduled_cached_reqs=Some(req_ids=["a"], num_computed_tokens=[5], num_output_tokens=[2]))
target, run = map(pathlib.Path, sys.argv[1:])
end = time.monotonic() + 10
written = lambda word: any(word in path.read_text() for path in run.glob("*"))
worker = Worker()
while not written('"batch"') and time.monotonic() < end:
    worker.execute_model(step)
    worker.sample_tokens()
    time.sleep(0.01)
target.write_text("")
while not written('"end"') and time.monotonic() < end:
    time.sleep(0.01)
"""


def test_it_hooks_the_engines_worker_when_that_is_imported(tmp_path: Path) -> None:
    """Loaded as a plugin twice, it wraps the class once, and its own thread writes the run's file."""
    package = tmp_path / "site" / "vllm" / "v1" / "worker"
    package.mkdir(parents=True)
    (package / "gpu_worker.py").write_text(
        "class Worker:\n    def execute_model(self, scheduled): pass\n    def sample_tokens(self): pass\n"
    )
    run, target = tmp_path / "r1", tmp_path / "target"
    run.mkdir()
    target.write_text(str(run))
    env = {**os.environ, "PYTHONPATH": f"{FOLDER}:{tmp_path / 'site'}", "LPRISM_PROBE_TARGET": str(target)}
    subprocess.run([sys.executable, "-c", PROGRAM, target, run], env=env, check=True, timeout=30)
    (path,) = run.iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    batches = [line for line in lines if line["type"] == "batch"]
    assert [batch["iteration"] for batch in batches] == [*range(1, len(batches) + 1)]
    assert batches[0]["requests"] == [[4, 5, 1, 2]]
    assert lines[-1] == {"type": "end", "pid": batches[0]["pid"], "probe_errors": 0}
