"""Recorders of a run that are killed: one that is needed fails the run, another is named and missed."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.spec import parse_spec
from tests.test_run import left_running, run_all, spec_of


@contextmanager
def killed(module: str, home: Path) -> Iterator[list[int]]:
    """Kill -9 the first process that runs this module for this home, once it has written something."""
    found: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not found and not over.wait(0.02):
            found.extend(pid for pid in running(module, home) if wrote(pid))
        for pid in found:
            os.kill(pid, signal.SIGKILL)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join(10)


def running(module: str, home: Path) -> list[int]:
    """The processes that run this module for this home."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if module in words and str(home) in " ".join(words):
                found.append(int(entry.name))
    return found


def wrote(pid: int) -> bool:
    """Whether the recorder's file has lines."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        return Path(words[words.index("--out") + 1]).stat().st_size > 0
    except (OSError, ValueError):
        return False


def run_once(home: Path) -> dict[str, Any]:
    """One run without a fault; its manifest."""
    (manifest,) = run_all(parse_spec(spec_of(scenarios=["normal"]), "test"), home)
    return manifest


def recorder(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """What the manifest says of one."""
    (found,) = [one for one in manifest["recorders"] if one["name"] == name]
    return dict(found)


def test_a_run_goes_on_without_its_metrics(tmp_path: Path) -> None:
    """It is complete, the manifest says what was lost and why, and what was recorded is in the bundle."""
    with killed("tasks.host.metrics", tmp_path) as pids:
        manifest = run_once(tmp_path)
    assert len(pids) == 1
    assert manifest["status"] == "complete"
    assert "metrics ended with exit code -9" in recorder(manifest, "metrics")["lost"]
    assert recorder(manifest, "sampler")["lost"] is None
    assert "metrics.jsonl" in {file["name"] for file in manifest["files"]}
    assert left_running(tmp_path) == []


def test_a_run_fails_without_its_counters(tmp_path: Path) -> None:
    """The reason names the recorder; nothing of the run is left on the host."""
    with killed("tasks.host.sampler", tmp_path) as pids:
        manifest = run_once(tmp_path)
    assert len(pids) == 1
    assert manifest["status"] == "failed"
    assert "sampler ended with exit code -9" in manifest["reason"]
    assert left_running(tmp_path) == []


def test_both_are_there_to_the_end(tmp_path: Path) -> None:
    """Nobody killed them: each ended well when it was asked to, and wrote its file."""
    manifest = run_once(tmp_path)
    assert [(one["name"], one["exit_code"], one["lost"]) for one in manifest["recorders"][:2]] == [
        ("sampler", 0, None), ("metrics", 0, None),
    ]  # fmt: skip
    assert {"counters.jsonl", "metrics.jsonl"} <= {file["name"] for file in manifest["files"]}
