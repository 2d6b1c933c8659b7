"""Prefect for a home: its server with the UI, our deployments, and a worker that runs what is asked for."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.drop import drop_folder
from tasks.prefect_server import prefect_server, start_beside
from tasks.settings import HOME_VARIABLE, LprismError

ROOT = Path(__file__).resolve().parents[1]
DEPLOYMENTS = "deployments/prefect.yaml"
POOL = "lprism"
COMMAND_S = 180.0
POLL_S = 0.5
UNDO_S = 40.0  # a run that is stopped undoes its fault, proves it, and ends its server


@dataclass(frozen=True)
class Served:
    """A home that is being served: the UI's URL, the form of the ad-hoc campaign, and the worker."""

    url: str
    form: str
    drop: Path
    log: Path
    worker: subprocess.Popen[bytes]

    def wait(self) -> None:
        """Wait until the worker ends, which it should not. Raises LprismError then."""
        while self.worker.poll() is None:
            time.sleep(POLL_S)
        raise LprismError(
            f"Prefect's worker ended with exit code {self.worker.returncode}; its log: {self.log}"
        )


@contextmanager
def serving(home: Path, port: int) -> Iterator[Served]:
    """Server, deployments and worker, until the block ends; runs that go on then are stopped cleanly.

    Raises LprismError: the port is taken, the home is served already, or a part does not start.
    """
    if not (ROOT / DEPLOYMENTS).is_file():
        raise LprismError(f"{ROOT / DEPLOYMENTS} is not there: install LatencyPrism from a clone")
    drop, log = drop_folder(home), home / "prefect" / "worker.log"
    drop.mkdir(parents=True, exist_ok=True)
    os.environ[HOME_VARIABLE] = str(home)  # what the worker runs, runs in this home
    os.environ["PWD"] = str(ROOT)  # prefect.yaml says where the flows are by it
    with prefect_server(home, port) as api:
        _prefect(log, "work-pool", "create", POOL, "--type", "process", "--overwrite")
        _prefect(log, "deploy", "--all", "--prefect-file", DEPLOYMENTS)
        worker = start_beside(["worker", "start", "--pool", POOL, "--type", "process"], log, ROOT)
        try:
            url = api.removesuffix("/api")
            yield Served(url, f"{url}/deployments/deployment/{_deployment(api)}/run", drop, log, worker)
        finally:
            _stop(worker)


def _prefect(log: Path, *words: str) -> None:
    """Run a Prefect command to its end. Raises LprismError."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
    try:
        with log.open("ab") as file:
            subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=COMMAND_S,
                check=True,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        how = f"took longer than {COMMAND_S:.0f} s"
    except subprocess.CalledProcessError as error:
        how = f"ended with exit code {error.returncode}"
    else:
        return
    raise LprismError(f"`prefect {' '.join(words[:2])}` {how}; its log: {log}")


def _deployment(api: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{api}/deployments/name/pipeline/pipeline", timeout=10) as answer:
        return str(json.load(answer)["id"])


def _stop(worker: subprocess.Popen[bytes]) -> None:
    """End the worker, and the runs under it: each gets the time to leave its host as it was."""
    runs = [pid for pid in _session(worker.pid) if pid != worker.pid]
    _signal([*runs, worker.pid], signal.SIGTERM)
    end = time.monotonic() + UNDO_S
    while time.monotonic() < end and (worker.poll() is None or any(map(_alive, runs))):
        time.sleep(0.1)
    _signal(_session(worker.pid), signal.SIGKILL)
    worker.wait(10)


def _session(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _signal(pids: list[int], which: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, which)
        except ProcessLookupError:
            continue
