"""A real server with the probe in it, for tests and benches of the recorders."""

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.lab.tiny_model import model_files
from tests.probe_cases import FOLDER

READY_S = 120.0
STOP_S = 20.0
ANSWER_S = 120.0
CLOSED_S = 5.0


@dataclass(frozen=True)
class Live:
    """A server that answers at `url`; its probe writes to the run that `record` names."""

    url: str
    folder: Path
    log: Path

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401  JSON
        """Ask it something; the answer's JSON, or its text."""
        data = json.dumps(body or {}).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, kind)  # noqa: S310 - a server of ours
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310  it is on loopback
            text = answer.read().decode()
        return json.loads(text) if text.startswith(("{", "[")) else text

    def post_all(self, path: str, bodies: Sequence[Mapping[str, Any]], at_once: int) -> list[Any]:
        """Ask many things, some at a time; the answers in the order asked."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda body: self.post(path, body), bodies))

    def record(self, run: str) -> Path:
        """Point the probe at a run's folder, or at none; waits until the last one's files are whole."""
        folder = self.folder / run
        folder.mkdir(exist_ok=True)
        draft = self.folder / "draft"
        draft.write_text(str(folder) if run else "")
        draft.replace(self.folder / "target")
        end = time.monotonic() + CLOSED_S
        while not run and time.monotonic() < end and any(map(is_open, self.folder.glob("*/batches-*"))):
            time.sleep(0.05)
        time.sleep(0.3)  # all its processes have seen it
        return folder


def is_open(path: Path) -> bool:
    """Whether a file of the probe has no last line yet."""
    return b'"type": "end"' not in path.read_bytes()[-200:]


def cpus() -> tuple[list[int], list[int]]:
    """The server's and ours; the same where there is one alone."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[:1], usable[1:2] or usable


@contextmanager
def serve(
    argv: Sequence[str],
    env: Mapping[str, str],
    port: int,
    ready: str,
    paths: Sequence[str | Path] = (),
    *,
    is_bound: bool = True,
) -> Iterator[Live]:
    """Start a server with the probe, on a CPU of its own where `is_bound`; its processes end on leaving."""
    engine_cpus, our_cpus = cpus()
    before = os.sched_getaffinity(0)
    engine_cpus = engine_cpus if is_bound else sorted(before)
    os.sched_setaffinity(0, our_cpus)
    with tempfile.TemporaryDirectory(prefix="lprism-live-") as name:
        folder = Path(name)
        live = Live(f"http://127.0.0.1:{port}", folder, folder / "server.log")
        path = ":".join(map(str, [FOLDER, *paths]))
        given = {**os.environ, **env, "PYTHONPATH": path, "LPRISM_PROBE_TARGET": str(folder / "target")}
        with live.log.open("wb") as log:
            process = subprocess.Popen(
                argv, env=given, stdout=log, stderr=log, cwd=folder, start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, engine_cpus),  # noqa: PLW1509  it has no threads yet
            )  # fmt: skip
        try:
            wait_ready(live, process, ready)
            yield live
        finally:
            os.sched_setaffinity(0, before)
            end_session(process)


def wait_ready(live: Live, process: subprocess.Popen[bytes], path: str) -> None:
    """Until it answers. Raises RuntimeError with the end of its log."""
    end = time.monotonic() + READY_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(live.url + path, timeout=2):  # noqa: S310  the same
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the server is not ready; its log ends:\n{live.log.read_text()[-4000:]}")


def end_session(process: subprocess.Popen[bytes]) -> None:
    """End a server and what it started."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
            process.wait(STOP_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what outlived it


def small_model(folder: Path, **config: int) -> Path:
    """A model of the lab's kind, of another size; by default with decode steps of about 2.5 ms on a CPU."""
    size = {
        "hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 688, "num_attention_heads": 4,
        "num_key_value_heads": 4, **config,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in model_files().items():
        whole = {**content, **size} if name == "config.json" else content
        (folder / name).write_text(json.dumps(whole))
    return folder
