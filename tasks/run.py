"""One run: a cell executed on a host, from the load's start to its end; tasks/bundling.py fetches the bundle.

Order of things (design, "One run"): load -> warm up -> effect before -> record -> baseline window ->
fault on -> fault window -> effect during -> fault off -> effect after -> recovery window -> fetch.
The victim's measure competes for the same cores as the server, so it is taken outside the windows:
never between the onset of the fault and its window, where it would help the detection along.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tasks import attached, capture, clock_offset
from tasks import server as servers
from tasks.capture import Captures
from tasks.fault import Fault, UndoFailed
from tasks.modes import DEEPDIVE, DeepDive
from tasks.plan import Cell
from tasks.progress import Progress, say
from tasks.recorders import Recorder, Recorders, recorders_of
from tasks.recovery import Recovery
from tasks.remote import HostError, Supervisor
from tasks.server import Server
from tasks.settings import LprismError
from tasks.spec import CampaignSpec, Host

FIRST_BATCHES = 20  # seen before the warm-up begins: the load runs
LOAD_START_S = 120.0
PROBE_CLOSE_S = 5.0
SETTLE_S = 0.3  # between the start of a recorder and the first window
DEEP_SETTLE_S = 1.5  # perf opens an event on every CPU before it begins
# The load must outlast the windows: so many prompts as a server this fast would finish in them and the slack.
FASTEST_STEP_S = 0.004
LOAD_SLACK_S = 30.0
FAILED_SHARE = 0.01  # of a run's requests: with more of them failed, the load was not the one asked for
FAULT_MARGIN_S = 60  # the fault ends by itself this long after it should have been undone

Phase = dict[str, Any]  # {"name", "start_ns", "duration_ns"}, on the orchestrator's clock


class RunFailed(LprismError):
    """This cell could not be carried out; the text is the reason in its manifest."""


@dataclass
class Run:
    """One cell on one host, while it is carried out: what it has noted so far becomes the manifest."""

    supervisor: Supervisor
    server: Server
    host: Host
    cell: Cell
    spec: CampaignSpec
    cells: int
    facts: dict[str, Any]
    marks: list[dict[str, Any]] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    commands: dict[str, list[str]] = field(default_factory=dict)
    exit_codes: dict[str, int | None] = field(default_factory=dict)
    fault: Fault | None = None
    recorders: Recorders | None = None
    captures: Captures = field(init=False)
    clock: clock_offset.ClockOffset | None = None
    probe_errors: int | None = None
    requests: dict[str, int] = field(default_factory=dict)  # how the server answered: ok, failed
    recovery: Recovery | None = None
    refused: LprismError | None = None  # why there is no server to run on
    last_try: bool = False  # a link that is lost fails the cell
    folder: str = ""
    _answers_end: int = -1
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Make what is asked again and again."""
        iterations = self.spec.windows.deep_iterations
        self.captures = Captures(
            self.supervisor, self.server, self.our_cpus, self.deep, iterations, self._check_alive
        )

    @property
    def engine_cpus(self) -> list[int]:
        """The CPUs of the server, and of a fault that presses on it."""
        return servers.engine_cpus(self.host, self.facts)

    @property
    def our_cpus(self) -> list[int]:
        """The CPUs of load and recorders."""
        return servers.our_cpus(self.host, self.facts)

    @property
    def deep(self) -> DeepDive | None:
        """The deep captures that this cell is to have, if any."""
        return self.spec.deepdive if self.cell.mode == DEEPDIVE else None

    @property
    def longest_s(self) -> float:
        """From the first request to the end of the recovery window, however long its captures take."""
        return self.spec.windows.total_s + len(capture.WINDOWS) * capture.seconds_at_most(self.deep)

    def carry_out(self) -> None:
        """Do it all, and leave nothing of it running but the server. Raises LprismError."""
        if self.refused:
            raise self.refused
        self.folder = self.supervisor.ask("run_folder", run_id=self.cell.run_id)
        self.clock = clock_offset.measure(self.supervisor)
        self.captures.folder = self.folder
        try:
            with self.phase("load", 12.0):
                self._count_answers()
                self._start_load()
            with self.phase("warm up", self.spec.windows.warmup_s):
                self._hold(self.spec.windows.warmup_s)
            if self.fault:
                self._prepare(self.fault)
            self._start_recording()
            self._windows()
        except BaseException:
            with contextlib.suppress(HostError):  # what went wrong first is what is told
                self._stop_all()
            raise
        self._stop_all()
        if self.probe_errors:
            raise RunFailed(f"the function probe failed {self.probe_errors} times: batches are missing")
        failed, asked = self.requests.get("failed", 0), sum(self.requests.values())
        if failed > FAILED_SHARE * asked:
            raise RunFailed(f"{failed} of {asked} requests failed: the load was not the one of the cell")

    def _count_answers(self) -> None:
        """Ask how the server answered since the last time; the first time, begin to count."""
        if self.server.engine.attach:
            return  # its log is somebody else's
        said = self.supervisor.ask("answers", name="engine", since=self._answers_end)
        if self._answers_end >= 0:
            self.requests = {"ok": said["ok"], "failed": said["failed"]}
        self._answers_end = said["end"]

    def _windows(self) -> None:
        windows = self.spec.windows
        self._window("baseline", windows.baseline_s)
        if self.fault:
            self._apply(self.fault)
        self._window("fault", windows.fault_s)
        if self.fault:
            self._revert(self.fault)
        self._window("recovery", windows.recovery_s)
        self.mark("recording_stop")

    def _start_load(self) -> None:
        cell = self.cell
        seconds = self.longest_s + LOAD_SLACK_S
        command = self.server.speaks.bench_command(
            self.server.client.python, self.server.url, self.server.model, input_length=cell.input_length,
            output_length=cell.output_length, concurrency=cell.concurrency, result_dir=self.folder,
            prompts=math.ceil(seconds * cell.concurrency / (FASTEST_STEP_S * cell.output_length)),
            seed=self.spec.seed + cell.run_order, result_file="load.json", ready_timeout_s=0,
            version=self.server.client.version,
        )  # fmt: skip
        self.commands["load"] = command
        argv, env = servers.client_command(self.supervisor, self.server, command, self.our_cpus)
        self.supervisor.ask("record", run_folder=self.folder)
        self.supervisor.ask(
            "start", name="load", argv=argv, log=f"{self.folder}/load.log", cpus=self.our_cpus, env=env
        )  # fmt: skip
        if not self._is_loaded():
            raise RunFailed(f"no batches after {LOAD_START_S:.0f} s of load: {self._last_words('load')}")

    def _is_loaded(self) -> bool:
        """Wait for the first batches; whether they came."""
        if self.server.engine.attach:
            check = self._check_alive
            return attached.wait_for_load(self.supervisor, self.server, self.our_cpus, LOAD_START_S, check)
        end = time.monotonic() + LOAD_START_S
        while self.supervisor.ask("batches", run_folder=self.folder) < FIRST_BATCHES:
            self._check_alive()
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True

    def _start_recording(self) -> None:
        self.recorders = Recorders(self.supervisor, self.folder, self.our_cpus, self._recorders())
        self.recorders.start()
        time.sleep(DEEP_SETTLE_S if self.deep else SETTLE_S)
        self.mark("recording_start")

    def _recorders(self) -> list[Recorder]:
        """What records this run; each stops by itself a while after it should have been stopped."""
        return [
            *recorders_of(
                self.server, self.folder, session=attached.session_of(self.server), cpus=self.engine_cpus,
                gpus=self.host.gpus, seconds=self.longest_s + LOAD_START_S, facts=self.facts,
                is_deep=self.deep is not None,
            ),
            *attached.log_recorder(self.server, self.folder, str(self.longest_s + LOAD_START_S)),
        ]  # fmt: skip

    def _window(self, name: str, seconds: float) -> None:
        with self.phase(f"{name} window", seconds), self.captures.around(name, seconds):
            self.mark(f"{name}_start")
            self._hold(seconds)
            self.captures.take(name)
            self.mark(f"{name}_end")

    def _prepare(self, fault: Fault) -> None:
        with self.phase("measure the effect, before", 1.0):
            fault.plan(
                cpus=self.engine_cpus,
                seconds=self.spec.windows.fault_s + FAULT_MARGIN_S + capture.seconds_at_most(self.deep),
                gpus=self.host.gpus, log=f"{self.folder}/fault.log", python=self.server.python,
                target=self.server.session,
            )  # fmt: skip
            fault.measure("before")

    def _apply(self, fault: Fault) -> None:
        with self.phase("inject", 0.5):
            self.mark("fault_apply")
            fault.apply()

    def _revert(self, fault: Fault) -> None:
        with self.phase("measure the effect, during", 1.0):
            fault.check_on()
            fault.measure("during")
            fault.check_on()
        with self.phase("undo", 0.5):
            self.mark("fault_revert")
            fault.revert()
        with self.phase("measure the effect, after", 1.0):
            fault.judge()

    def _hold(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._check_alive()
            time.sleep(min(left, 1.0))

    def _check_alive(self) -> None:
        limit_s = self.spec.limits.cell_timeout_s
        if time.monotonic() - self.began > limit_s:
            raise RunFailed(f"it took longer than limits.cell_timeout_s, {limit_s:g} s")
        if self.server.engine.attach:
            attached.check_alive(self.supervisor, self.server)
        for name in ("load",) if self.server.engine.attach else ("engine", "load"):
            servers.check_alive(self.supervisor, name, self.server.speaks)
        if self.recorders:
            self.recorders.check()

    def _last_words(self, name: str) -> str:
        return self.server.speaks.server_failure(str(self.supervisor.ask("tail", name=name)))

    def _stop_all(self) -> None:
        if self.fault and self.fault.on:  # only when something has gone wrong
            with contextlib.suppress(UndoFailed):  # the host is dirty then, and takes no other cell
                self.fault.revert()
        with self.phase("stop load and recorders", 2.0):
            errors = self.captures.close()
            errors += self.recorders.stop() if self.recorders else []
            errors += self._stop_load()
            self._count_answers()
            self.supervisor.ask("record", run_folder="")
            end = time.monotonic() + PROBE_CLOSE_S
            while (errors_seen := self._probe_errors()) is None and time.monotonic() < end:
                time.sleep(0.1)
            self.probe_errors = errors_seen
        if errors:
            raise UndoFailed("; ".join(errors))

    def _probe_errors(self) -> int | None:
        count: int | None = self.supervisor.ask("probe_errors", run_folder=self.folder)
        return count

    def _stop_load(self) -> list[str]:
        """End the load client; what stands in the way is returned, for the rest has to be stopped too."""
        try:
            self.exit_codes["load"] = self.supervisor.ask("stop", name="load")
        except HostError as error:
            return [str(error)]
        return []

    def mark(self, name: str) -> None:
        """Note the time on the host."""
        self.marks.append({"name": name, **self.supervisor.ask("mark")})

    @contextmanager
    def phase(self, name: str, expected_s: float) -> Iterator[None]:
        """Note how long a part took, and say that it goes on."""
        say(Progress(name, self.cell.run_order, self.cells, expected_s, self.cell.scenario, self.host.name))
        self.supervisor.doing = {
            "run_id": self.cell.run_id, "cell": self.cell.run_order, "cells": self.cells,
            "scenario": self.cell.scenario, "workload": self.cell.workload, "engine_key": self.server.key,
            "phase": name, "since_ns": time.time_ns(),
        }  # fmt: skip
        start, began = time.time_ns(), time.monotonic_ns()
        try:
            yield
        finally:
            self.phases.append({"name": name, "start_ns": start, "duration_ns": time.monotonic_ns() - began})
