"""The recorders of one run: programs on the host, each of which writes a file of the bundle.

One that is needed and dies fails the run. Another that dies, or that the host cannot have, is named with the
reason in the manifest, and the run goes on without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks import server as servers
from tasks.remote import HostError, Supervisor
from tasks.server import Server

SAMPLER_HZ = 10.0
DEEP_HZ = 100.0  # cycles last 10 to 50 ms


@dataclass(frozen=True)
class Recorder:
    """A module of tasks/host that records until SIGTERM; `missing` is why the host cannot have it."""

    name: str
    module: str
    words: tuple[str, ...]
    needed: bool = False
    missing: str | None = None


@dataclass
class Recorders:
    """All recorders of a run, and what became of each."""

    supervisor: Supervisor
    folder: str
    cpus: list[int]
    recorders: list[Recorder]
    commands: dict[str, list[str]] = field(default_factory=dict)
    exit_codes: dict[str, int | None] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start all that the host can have. Raises HostError when one that is needed does not start."""
        for one in self.recorders:
            if one.missing:
                self.lost[one.name] = one.missing
                continue
            command = [self.supervisor.python, "-m", one.module, *one.words]
            try:
                self.supervisor.ask(
                    "start", name=one.name, argv=command, log=f"{self.folder}/{one.name}.log",
                    cpus=self.cpus, env={"PYTHONPATH": self.supervisor.code},
                )  # fmt: skip
            except HostError as error:
                if one.needed:
                    raise
                self.lost[one.name] = str(error)
            else:
                self.commands[one.name] = command

    def check(self) -> None:
        """Raise ServerError when one that is needed has ended; note others that have."""
        for one in self.recorders:
            if one.name in self.commands and one.name not in self.lost:
                try:
                    servers.check_alive(self.supervisor, one.name)
                except servers.ServerError as error:
                    if one.needed:
                        raise
                    self.lost[one.name] = str(error)

    def stop(self) -> list[str]:
        """End them all; returns what stands in the way of any."""
        errors = []
        for name in self.commands:
            try:
                self.exit_codes[name] = self.supervisor.ask("stop", name=name)
            except HostError as error:
                errors.append(str(error))
        return errors

    def told(self) -> list[dict[str, Any]]:
        """Each recorder for the manifest: its name, command line, exit code, and why it was lost."""
        return [
            {
                "name": one.name, "command": self.commands.get(one.name), "lost": self.lost.get(one.name),
                "exit_code": self.exit_codes.get(one.name),
            }
            for one in self.recorders
        ]  # fmt: skip


def recorders_of(
    server: Server, folder: str, *, session: int, cpus: list[int], gpus: list[int], seconds: float,
    facts: Mapping[str, Any], is_deep: bool,
) -> list[Recorder]:  # fmt: skip
    """What records a server that is the process session `session` on these CPUs; at most so many seconds."""
    until = ("--seconds", str(seconds))
    about = ("--engine-session", str(session), "--cpus", ",".join(map(str, cpus)))
    sampler = (
        "--out", f"{folder}/counters.jsonl", *about, "--hz", str(DEEP_HZ if is_deep else SAMPLER_HZ), *until,
        *(("--gpus", ",".join(map(str, gpus))) if gpus else ()),
    )  # fmt: skip
    metrics = (
        "--out", f"{folder}/metrics.jsonl", "--url", f"{server.url}/metrics",
        "--family", f"{server.engine.kind}:", *until,
    )  # fmt: skip
    slices = ("--out", f"{folder}/slices.jsonl", *about, *until)
    deep = [Recorder("slices", "tasks.host.slices", slices, missing=lacks_slices(facts))]
    return [
        Recorder("sampler", "tasks.host.sampler", sampler, needed=True),
        Recorder("metrics", "tasks.host.metrics", metrics),
        *(deep if is_deep else []),  # it costs every switch of the server's threads
    ]


def lacks_slices(facts: Mapping[str, Any]) -> str | None:
    """Why a host of these facts cannot have the scheduler's slices; None when it seems that it can."""
    if not facts["root"]:
        return "the scheduler's tracepoints are for root"
    if not (facts["tools"] or {}).get("perf"):
        return "there is no perf on the host: the package is linux-perf, or linux-tools"
    return None
