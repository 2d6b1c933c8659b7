"""One campaign on one host: connected, checked, its server kept between cells of one configuration."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import attached, containers
from tasks import server as servers
from tasks.books import COMPLETE, FAILED, FREE_BYTES_A_CELL
from tasks.bundling import execute
from tasks.engine_spec import Engine
from tasks.fault import Fault
from tasks.modes import DEEPDIVE, DeepDive
from tasks.plan import ENGINE_START_S, Cell
from tasks.progress import Progress, say
from tasks.remote import HostError, LinkError, Supervisor
from tasks.run import Phase, Run, RunFailed
from tasks.server import Server
from tasks.settings import LprismError, cache_path
from tasks.spec import LAB, CampaignSpec, Host

TINY = "tiny"


class CampaignStopped(LprismError):
    """Too many cells failed in a row; the campaign is not worth going on with."""


@dataclass
class HostSession:
    """A supervised host and the server that runs there now."""

    supervisor: Supervisor
    host: Host
    spec: CampaignSpec
    home: Path
    campaign: str
    facts: dict[str, Any]
    server: Server | None = None
    failures_in_a_row: int = 0
    last_try: bool = False  # of the next cell: it fails if the link is lost once more
    phases: list[Phase] = field(default_factory=list)  # what was done for the next run, before it

    def run(self, cell: Cell, cells: int) -> str:
        """Carry out one cell; returns its status, and keeps the reason of a failure in its manifest.

        Raises:
            CampaignStopped: `max_consecutive_failures` cells failed; with the last reason.
            LinkError: the link was lost; the cell has no bundle, but on its last try.
            UndoFailed: the host is dirty.
        """
        try:
            run = self._run_of(cell, cells)
            execute(run, self.home, self.campaign)
        except RunFailed as error:
            self.server = None  # whatever state it is in, the next cell gets a fresh one
            self.failures_in_a_row += 1
            if self.failures_in_a_row >= self.spec.limits.max_consecutive_failures:
                raise CampaignStopped(
                    f"{self.failures_in_a_row} cells failed in a row; the last: {error}"
                ) from error
            return FAILED
        self.failures_in_a_row = 0
        if run.captures.lost or (run.recovery and run.recovery.differs):
            self.server = None  # it may go on profiling or writing, or is no longer the one that it was
        return COMPLETE

    def _run_of(self, cell: Cell, cells: int) -> Run:
        """The run of a cell on a server that is ready, or, where none can be started, one that says so."""
        engine = self.spec.engines[cell.engine]
        refused = None
        try:
            server = self._server_for(engine, self._profiled(cell))
        except LinkError:
            raise
        except LprismError as error:
            self.server, server, refused = None, servers.unstarted(engine), error
        run = Run(self.supervisor, server, self.host, cell, self.spec, cells, self.facts)
        run.refused, run.last_try = refused, self.last_try
        run.phases, self.phases = self.phases, []
        if cell.has_fault:
            run.fault = Fault(self.supervisor, cell.scenario, cell.strength)
        return run

    @contextmanager
    def _phase(self, name: str, expected_s: float, detail: str) -> Iterator[None]:
        """Note how long something took that the next run needs, and say that it goes on."""
        say(Progress(name, expected_s=expected_s, detail=detail, host=self.host.name))
        start, began = time.time_ns(), time.monotonic_ns()
        try:
            yield
        finally:
            self.phases.append({"name": name, "start_ns": start, "duration_ns": time.monotonic_ns() - began})

    def _profiled(self, cell: Cell) -> DeepDive | None:
        """What the server's own profiler is to record in a cell, if anything."""
        deep = self.spec.deepdive if cell.mode == DEEPDIVE else None
        return deep if deep and not deep.profiler else None

    def _server_for(self, engine: Engine, deep: DeepDive | None) -> Server:
        if self.server and (self.server.engine, self.server.deep) == (engine, deep) and self._healthy():
            return self.server
        with self._phase("start the server", ENGINE_START_S, engine.kind):
            servers.stop(self.supervisor)
            self.server = self._started(engine, deep)
        return self.server

    def _healthy(self) -> bool:
        """Whether the server of the last cell is alive and answers."""
        server = self.server
        if server is None or (not server.engine.attach and not self._alive()):
            return False
        return bool(self.supervisor.ask("healthy", url=server.url + server.speaks.READY_PATH))

    def _alive(self) -> bool:
        return bool(self.supervisor.ask("alive", name="engine")["alive"])

    def _started(self, engine: Engine, deep: DeepDive | None) -> Server:
        host, python = self.host, engine_python(self.host, engine)
        if engine.attach:
            client = servers.client(self.supervisor, host, self.facts, engine, python)
            return attached.attach(self.supervisor, host, self.facts, engine, client)
        return servers.start(
            self.supervisor, host, self.facts, engine, python, served_model(host, engine), deep,
            self.spec.windows.deep_iterations,
        )  # fmt: skip

    def preflight(self, cells: Sequence[Cell]) -> None:
        """Ask for everything the cells need before the first one starts. Raises HostError."""
        with self._phase("check the host", 1.0, self.host.name):
            self._check(cells)

    def _check(self, cells: Sequence[Cell]) -> None:
        free, needed = int(self.facts["disk_free_bytes"]), len(cells) * FREE_BYTES_A_CELL
        if free < needed:
            raise HostError(f"{self.host.name}: {free >> 20} MiB free, {needed >> 20} MiB needed for records")
        _check_cpus(self.host, self.facts)
        _check_gpus(self.host, self.facts)
        self.supervisor.ask("bind", cpus=servers.our_cpus(self.host, self.facts))
        for scenario, strength, engine in sorted(
            {(cell.scenario, json.dumps(cell.strength), cell.engine) for cell in cells if cell.has_fault}
        ):
            fault = Fault(self.supervisor, scenario, json.loads(strength))
            try:
                fault.plan(
                    cpus=servers.engine_cpus(self.host, self.facts), seconds=self.spec.windows.fault_s + 1,
                    log=f"{self.supervisor.folder}/fault.log", gpus=self.host.gpus,
                    python=engine_python(self.host, self.spec.engines[engine]),
                )  # fmt: skip
            except HostError as error:
                why = str(error).removeprefix(f"{self.host.name}: ")
                raise HostError(f"{self.host.name} cannot have {scenario}: {why}") from error


def _check_cpus(host: Host, facts: dict[str, Any]) -> None:
    missing = sorted({*(host.engine_cpus or []), *(host.our_cpus or [])} - set(facts["usable_cpus"]))
    if missing:
        raise HostError(f"{host.name} has no CPU {missing[0]}: usable are {facts['usable_cpus']}")


def _check_gpus(host: Host, facts: dict[str, Any]) -> None:
    there = [gpu["index"] for gpu in facts.get("gpus") or []]
    missing = sorted(set(host.gpus) - set(there))
    if missing:
        raise HostError(f"{host.name} has no GPU {missing[0]}: there are {there or 'none'}")


def engine_python(host: Host, engine: Engine) -> str:
    """The interpreter of the engine on the host. Raises LprismError when nobody said which."""
    if python := engine.python or (engine.client_python if engine.attach else None):
        return python
    if engine.container:
        return containers.PYTHON
    if host.name != LAB:
        raise LprismError(
            f"engine {engine.kind} on {host.name} needs `python`: the path of its interpreter there"
        )
    from tasks.lab.install import installed_for

    return str(installed_for(engine.kind).python)


def served_model(host: Host, engine: Engine) -> str:
    """What the server is told to serve: `tiny` on the lab host is the model that is made there."""
    if host.name == LAB and engine.model == TINY:
        from tasks.lab.tiny_model import make_tiny_model

        return str(make_tiny_model(cache_path()))
    return engine.model
