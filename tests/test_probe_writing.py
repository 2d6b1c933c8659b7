"""The probe's file: whole lines, whatever becomes of the disk, the process or the clock."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.host.probe.latencyprism_probe import sink
from tests.probe_cases import FOLDER, Recording


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    """A sink without its thread."""
    monkeypatch.setattr(sink, "TARGET", str(tmp_path / "target"))
    return Recording(tmp_path)


def put(recording: Recording, *numbers: int, text: str = "x") -> None:
    """Records of about a hundred bytes."""
    for number in numbers:
        recording.sink.put(lambda n: {"type": "batch", "n": n, "text": text * 80}, number)


def test_nothing_is_written_where_nothing_was_recorded(recording: Recording) -> None:
    """A process of the server in which no function is hooked leaves no file behind."""
    recording.turn("r1")
    recording.turn("")
    assert list((recording.folder / "r1").iterdir()) == []


def test_a_run_that_was_never_begun_is_no_error(recording: Recording) -> None:
    """The server is started before the first run points the probe anywhere."""
    put(recording, 1)
    recording.sink.turn()
    assert (recording.sink.errors, recording.sink.on) == (0, False)


def test_a_file_that_was_there_is_gone_on_with(recording: Recording) -> None:
    """A run that is pointed to again: its clock is told again, nothing is overwritten."""
    for number in (1, 2):
        recording.turn("r1")
        put(recording, number)
        recording.turn("")
    kinds = [line["type"] for line in recording.lines("r1")]
    assert kinds == ["clock", "batch", "clock", "end"] * 2


FULL = """
import json, os, pathlib, resource, sys
from latencyprism_probe import sink
run = pathlib.Path(sys.argv[1]).parent / "r1"
some = sink.Sink()
some.turn()
def put(first, count):
    for number in range(first, first + count):
        some.put(lambda n: {"type": "batch", "n": n, "text": "x" * 80}, number)
    some.turn()
put(0, 20)
there = sum(path.stat().st_size for path in run.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (there + 40, resource.RLIM_INFINITY))
put(20, 20)
if sys.argv[2] == "frees":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(40, 20)
some.end()
"""


@pytest.mark.parametrize(("then", "kept"), [("frees", [*range(20), *range(40, 60)]), ("stays", range(16))])
def test_a_full_disk_loses_records_and_says_how_many(then: str, kept: list[int], tmp_path: Path) -> None:
    """Every line is whole; the end line has the count, if need be in the place of the last records."""
    (tmp_path / "r1").mkdir()
    (tmp_path / "target").write_text(str(tmp_path / "r1"))
    env = {**os.environ, "PYTHONPATH": str(FOLDER), "LPRISM_PROBE_TARGET": str(tmp_path / "target")}
    words = [sys.executable, "-c", FULL, str(tmp_path / "target"), then]
    said = subprocess.run(words, env=env, check=True, timeout=30, capture_output=True, text=True).stderr
    (path,) = (tmp_path / "r1").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["n"] for line in lines if line["type"] == "batch"] == [*kept]
    end = lines[-1]
    assert (end["type"], end["probe_errors"], end["records"]) == ("end", 0, len(kept))
    assert end["lost_records"] == 60 - len(kept)
    assert said.count("records are lost") == 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_folder_that_is_gone_loses_records_alone(
    recording: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server goes on, and so does the next run."""
    recording.turn("r1")
    (recording.folder / "r1").rmdir()
    put(recording, 1, 2)
    recording.sink.turn()
    assert (recording.sink.lost, recording.sink.errors) == (2, 0)
    assert "r1: No such file or directory: records are lost" in capsys.readouterr().err
    recording.turn("r2")
    put(recording, 3)
    recording.turn("")
    assert [line["n"] for line in recording.batches("r2")] == [3]


def test_what_a_thread_that_hangs_leaves_waiting_is_bounded(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that does not answer costs records, not the server's memory."""
    monkeypatch.setattr(sink, "MOST_WAITING", 10)
    recording.turn("r1")
    put(recording, *range(15))
    recording.turn("")
    assert len(recording.batches("r1")) == 10
    assert recording.lines("r1")[-1]["lost_records"] == 5


def test_a_forked_child_writes_a_file_of_its_own(recording: Recording) -> None:
    """What waits in the parent is the parent's alone, and its file is not the child's."""
    recording.turn("r1")
    put(recording, 1)
    recording.sink.turn()
    put(recording, 2)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert not recording.sink.on
            assert not recording.sink.is_started
            recording.turn("r1")
            put(recording, 3)
            recording.turn("")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    (theirs,) = [path for path in (recording.folder / "r1").iterdir() if path.stem.endswith(f"-{child}")]
    recording.turn("r1")
    recording.turn("")
    kinds = [json.loads(line) for line in theirs.read_text().splitlines()]
    assert [line["n"] for line in kinds if line["type"] == "batch"] == [3]
    assert [line["n"] for line in recording.batches("r1")] == [1, 2]
    assert {line.get("pid", os.getpid()) for line in recording.lines("r1")} == {os.getpid()}


def test_a_clock_that_is_set_moves_no_record(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs are written every few seconds beside the records, whose times are monotonic."""
    monkeypatch.setattr(sink, "CLOCK_EVERY_S", 0.0)
    recording.turn("r1")
    put(recording, 1)
    recording.sink.turn()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)
    put(recording, 2)
    recording.turn("")
    clocks = [line for line in recording.lines("r1") if line["type"] == "clock"]
    offsets = [line["realtime_ns"] - line["monotonic_ns"] for line in clocks]
    assert len(offsets) >= 3
    assert round((offsets[-1] - offsets[0]) / 10**9) == 3600
    assert sorted(line["monotonic_ns"] for line in clocks) == [line["monotonic_ns"] for line in clocks]


CHILDREN = """
import multiprocessing, sys, time
from latencyprism_probe import sink
some = sink.Sink()
def work():
    some.start()
    end = time.monotonic() + 60
    while not some.on and time.monotonic() < end:
        time.sleep(0.01)
    some.put(lambda: {"type": "batch"})
if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(20)
"""


def test_a_process_that_ends_has_written_its_last_line(tmp_path: Path) -> None:
    """Children of multiprocessing too, which run no atexit."""
    (tmp_path / "r1").mkdir()
    (tmp_path / "target").write_text(str(tmp_path / "r1"))
    env = {**os.environ, "PYTHONPATH": str(FOLDER), "LPRISM_PROBE_TARGET": str(tmp_path / "target")}
    subprocess.run([sys.executable, "-c", CHILDREN], env=env, check=True, timeout=30)
    (path,) = (tmp_path / "r1").iterdir()
    assert [json.loads(line)["type"] for line in path.read_text().splitlines()][-1] == "end"
