"""Deep captures of one run: one in the baseline window and one in the fault window, none in recovery.

They are made on the host (tasks/host/capture.py). A capture that cannot be had, or takes too long, is lost
and named in the manifest; the run goes on. The torch profiler slows the steps that it records and the engine
stands still while a trace is written, so a capture comes after the plain part of its window, and its batches
count for no window. An installed profiler records the window from outside.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tasks import server as servers
from tasks.modes import DeepDive, Profiler
from tasks.remote import HostError, Supervisor
from tasks.server import Server

WINDOWS = ("baseline", "fault")
START_S = 30.0  # the profiler's first start loads libraries
ITERATIONS_S = 60.0  # for the iterations to come by: a load that has ended brings none
MARGIN_S = 10.0
SETTLE_S = 0.5  # for a profiler that is started before a window, beside its own `start_s`
POLL_S = 0.2
NAME = "capture"


def seconds_at_most(deep: DeepDive | None) -> float:
    """How much longer a window may last for its capture."""
    return START_S + ITERATIONS_S + deep.export_s + MARGIN_S if deep else 0.0


@dataclass
class Captures:
    """The deep captures of a run, each of `iterations` at most; with `deep` None there are none."""

    supervisor: Supervisor
    server: Server
    cpus: list[int]
    deep: DeepDive | None
    iterations: int
    check: Callable[[], None]
    folder: str = ""
    taken: list[dict[str, Any]] = field(default_factory=list)

    @property
    def lost(self) -> bool:
        """Whether one was lost: what state the server's profiler is in is then not known."""
        return any(one["lost"] for one in self.taken)

    def take(self, window: str) -> None:
        """Have the server's own profiler record some iterations now. Raises what `check` raises."""
        if self.deep and not self.deep.profiler and window in WINDOWS:
            with self._one(window, "torch", self.iterations):
                self._start(self._by_server(window, self.deep))
                self._finish(seconds_at_most(self.deep))

    @contextmanager
    def around(self, window: str, seconds: float) -> Iterator[None]:
        """Have the installed profiler, where there is one, record the block."""
        if not (self.deep and self.deep.profiler and window in WINDOWS):
            yield
            return
        with self._one(window, "command", None):
            self._start(self._by_command(window, self.deep, self.deep.profiler, seconds))
            time.sleep(self.deep.profiler.start_s + SETTLE_S)
        yield
        with self._told():
            stop = f"{self.folder}/{NAME}-{window}.stop"
            self.supervisor.ask("output", argv=["touch", stop], cpus=self.cpus)
            self._finish(self.deep.export_s + MARGIN_S)

    def close(self) -> list[str]:
        """End one that still runs; returns what stands in the way."""
        try:
            self.supervisor.ask("stop", name=NAME)
        except HostError as error:
            return [str(error)]
        return []

    @contextmanager
    def _one(self, window: str, profiler: str, iterations: int | None) -> Iterator[None]:
        name = f"{NAME}-{window}"
        told = {"name": name, "window": window, "profiler": profiler, "iterations": iterations}
        self.taken.append({**told, "files": [], "lost": None})
        with self._told():
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the host refuses loses the capture, and not the run."""
        try:
            yield
        except HostError as error:
            self.taken[-1]["lost"] = self.taken[-1]["lost"] or str(error)

    def _start(self, asked: dict[str, Any]) -> None:
        command = [self.supervisor.python, "-m", "tasks.host.capture", json.dumps(asked)]
        self.supervisor.ask(
            "start", name=NAME, argv=command, log=f"{self.folder}/{asked['name']}.log", cpus=self.cpus,
            env={"PYTHONPATH": self.supervisor.code},
        )  # fmt: skip

    def _finish(self, seconds: float) -> None:
        """Wait for the end of the capture and note what came of it."""
        end = time.monotonic() + seconds
        while self.supervisor.ask("alive", name=NAME)["alive"]:
            self.check()
            if time.monotonic() > end:
                self.supervisor.ask("stop", name=NAME)
                raise HostError(f"{self.supervisor.name}: the capture was not over after {seconds:g} s")
            time.sleep(POLL_S)
        log = str(self.supervisor.ask("tail", name=NAME))
        self.supervisor.ask("stop", name=NAME)
        self.taken[-1] |= _said(log)

    def _by_server(self, window: str, deep: DeepDive) -> dict[str, Any]:
        traces = servers.trace_folder(self.supervisor)
        start = self.server.speaks.profile_start(traces, self.iterations, stack=deep.stack)
        return {
            "name": f"{NAME}-{window}", "folder": self.folder, "url": self.server.url, "traces": traces,
            "iterations": self.iterations, "ranks": self.server.speaks.ranks(self.server.engine.args),
            "start": list(start), "stop": list(self.server.speaks.profile_stop()),
            "start_s": START_S, "iterations_s": ITERATIONS_S, "export_s": deep.export_s,
        }  # fmt: skip

    def _by_command(self, window: str, deep: DeepDive, profiler: Profiler, seconds: float) -> dict[str, Any]:
        output = f"{self.folder}/{NAME}-{window}-{profiler.output}"
        words = profiler.words(output=output, session=self.server.session, url=self.server.url)
        return {
            "name": f"{NAME}-{window}", "folder": self.folder, "command": words, "output": output,
            "start_s": profiler.start_s, "window_s": seconds + MARGIN_S, "export_s": deep.export_s,
        }  # fmt: skip


def _said(log: str) -> dict[str, Any]:
    """What the capture told of itself in the last line of its log. Raises HostError when it did not."""
    last = log.strip().rpartition("\n")[2]
    try:
        said: dict[str, Any] = json.loads(last)
    except ValueError:
        said = {}
    if said.pop("type", None) != "capture":
        raise HostError(f"the capture broke off; it said last: {last[-200:]}")
    return said
