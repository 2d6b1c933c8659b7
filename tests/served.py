"""A running `lprism serve`, asked over Prefect's API as its UI asks it."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.host import ports
from tests.test_run import left_running
from tests.tree import ROOT

LPRISM = [sys.executable, "-m", "tasks.cli.main"]
WAIT_S = 120.0
BUSY = 503  # its database is locked for a moment; the UI asks again, too
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def wait_until(true: Callable[[], object], what: str, seconds: float = WAIT_S) -> None:
    """Bounded, and far beyond what a slow machine takes."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.2)


@dataclass
class Serve:
    """A running `lprism serve`."""

    home: Path
    url: str
    wait_s: float = WAIT_S

    def ask(self, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Ask Prefect's API, as the UI does."""
        data = None if body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api{path}", data, kind)  # noqa: S310 - loopback
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for pause_s in (0.2, 0.5, 1.0, 2.0, 4.0, 0.0):
            try:
                with opener.open(request, timeout=30) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code != BUSY or not pause_s:
                    raise
            time.sleep(pause_s)
        return None

    def start(self, deployment: str, **parameters: object) -> str:
        """Start a run as the form's button does; returns its id."""
        found = self.ask(f"/deployments/name/{deployment}")["id"]
        made = self.ask(f"/deployments/{found}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def state(self, run: str) -> dict[str, str]:
        """The state of a run: type, name, message."""
        found: dict[str, str] = self.ask(f"/flow_runs/{run}")["state"]
        return found

    def end_of(self, run: str) -> dict[str, str]:
        """Its state when it has ended."""
        wait_until(lambda: self.state(run)["type"] in ENDED, f"{run} does not end", self.wait_s)
        return self.state(run)

    def newest(self, key: str, at_least: float | None = None) -> dict[str, Any]:
        """The newest artifact of a key, as soon as it is there, and a progress so far."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            asked = {"sort": "UPDATED_DESC", "artifacts": {"key": {"any_": [key]}}}
            found[:] = self.ask("/artifacts/filter", asked)[:1]
            return bool(found) and (at_least is None or float(found[0]["data"]) >= at_least)

        wait_until(is_there, f"there is no artifact {key}", self.wait_s)
        return found[0]

    def artifacts(self) -> dict[str, str]:
        """The data of the newest artifact of each key."""
        found = self.ask("/artifacts/filter", {"sort": "UPDATED_DESC"})
        return {one["key"]: str(one["data"]) for one in reversed(found)}

    def events(self, name: str) -> list[dict[str, Any]]:
        """Events of a name, of today."""
        span = {"since": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
        asked = {"filter": {"event": {"name": [name]}, "occurred": span}}
        found: list[dict[str, Any]] = self.ask("/events/filter", asked)["events"]
        return found

    def runs_of(self, flow: str) -> list[dict[str, Any]]:
        """The runs of a flow."""
        query = {"flows": {"name": {"any_": [flow]}}}
        found: list[dict[str, Any]] = self.ask("/flow_runs/filter", query)
        return found


@contextmanager
def served(home: Path) -> Iterator[Serve]:
    """Serve a home until the block ends; then Ctrl-C ends it, with exit code 0 and nothing left."""
    port = ports.free(None)
    words = ["serve", "--port", str(port), "--home", str(home)]
    process = subprocess.Popen([*LPRISM, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        told = [process.stdout.readline() for _ in range(5)]
        assert told[-1] == "Ctrl-C stops it\n", told
        yield Serve(home, f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert left_running(home) == []
