"""One campaign on one host: connected, checked, its server kept between cells of one configuration."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import attached, containers
from tasks import server as servers
from tasks.addresses import reachable
from tasks.engine_spec import Engine
from tasks.fault import Fault
from tasks.modes import DEEPDIVE, DeepDive
from tasks.plan import ENGINE_START_S, Cell
from tasks.progress import Progress, say
from tasks.remote import HostError, Supervisor, supervise
from tasks.run import Run, RunFailed, execute
from tasks.server import Server
from tasks.settings import LprismError, cache_path
from tasks.spec import LAB, CampaignSpec, Host, masked

TINY = "tiny"
RECORD = "campaign.json"
FREE_BYTES_A_CELL = 50_000_000


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

    def run(self, cell: Cell, cells: int) -> str:
        """Carry out one cell; returns its status, and keeps the reason of a failure in its manifest.

        Raises CampaignStopped after `max_consecutive_failures`, with the last reason.
        """
        try:
            server = self._server_for(self.spec.engines[cell.engine], self._profiled(cell))
            run = Run(self.supervisor, server, self.host, cell, self.spec, cells, self.facts)
            if cell.has_fault:
                run.fault = Fault(self.supervisor, cell.scenario, cell.strength)
            execute(run, self.home, self.campaign)
        except RunFailed as error:
            self.server = None  # whatever state it is in, the next cell gets a fresh one
            self.failures_in_a_row += 1
            if self.failures_in_a_row >= self.spec.limits.max_consecutive_failures:
                raise CampaignStopped(
                    f"{self.failures_in_a_row} cells failed in a row; the last: {error}"
                ) from error
            return "failed"
        self.failures_in_a_row = 0
        if run.captures.lost:
            self.server = None  # it may go on profiling, or writing
        return "complete"

    def _profiled(self, cell: Cell) -> DeepDive | None:
        """What the server's own profiler is to record in a cell, if anything."""
        deep = self.spec.deepdive if cell.mode == DEEPDIVE else None
        return deep if deep and not deep.profiler else None

    def _server_for(self, engine: Engine, deep: DeepDive | None) -> Server:
        if self.server is None or (self.server.engine, self.server.deep) != (engine, deep):
            servers.stop(self.supervisor)
            say(Progress("start the server", expected_s=ENGINE_START_S, detail=engine.kind))
            self.server = self._started(engine, deep)
        return self.server

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


@contextmanager
def open_session(spec: CampaignSpec, host: Host, home: Path, campaign: str) -> Iterator[HostSession]:
    """Connect to a host (the lab host is started first) and end everything there on leaving."""
    say(Progress("connect", expected_s=2.0, detail=host.name))
    with (
        reachable(host, home) as address,
        supervise(address, f"{campaign}-{os.getpid()}") as supervisor,
    ):
        yield HostSession(supervisor, host, spec, home, campaign, supervisor.ask("facts"))
        say(Progress("stop the server", expected_s=3.0, detail=host.name))


def new_instance(name: str) -> str:
    """A campaign instance: its name and the time it was started (UTC)."""
    return f"{name}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"


def open_campaign(spec: CampaignSpec, home: Path, campaign: str, cells: Sequence[Cell]) -> None:
    """Write bundles/<campaign>/campaign.json: what was planned, before anything is done."""
    folder = home / "bundles" / campaign
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / RECORD).exists():
        raise LprismError(
            f"{folder}: this campaign instance was run already: leave the instance out, or name another"
        )
    free, needed = shutil.disk_usage(folder).free, len(cells) * FREE_BYTES_A_CELL
    if free < needed:
        raise LprismError(
            f"{folder}: {free >> 20} MiB free, {needed >> 20} MiB needed: free some space or use --home"
        )
    _write_campaign(
        folder,
        {
            "schema": 1, "campaign": campaign, "campaign_name": spec.name, "started_ns": time.time_ns(),
            "closed_ns": None, "seed": spec.seed, "runs_planned": len(cells),
            "spec": _shown(spec),
        },
    )  # fmt: skip


def close_campaign(home: Path, campaign: str) -> None:
    """Note in campaign.json that nothing more will be added."""
    folder = home / "bundles" / campaign
    _write_campaign(folder, {**json.loads((folder / RECORD).read_text()), "closed_ns": time.time_ns()})


def _shown(spec: CampaignSpec) -> dict[str, Any]:
    """The spec as it may be written down; the values of `env` are masked by their type."""
    shown = spec.model_dump(mode="json")
    for engine in shown["engines"]:
        engine["args"] = masked(engine["args"])
    return shown


def _write_campaign(folder: Path, campaign: dict[str, Any]) -> None:
    draft = folder / f".{RECORD}"
    draft.write_text(json.dumps(campaign, indent=1))
    draft.replace(folder / RECORD)
