"""The inference server on a host: started once for all cells of one configuration, watched, ended.

Knows the supervisor's requests and the engine's command lines; decides nothing about campaigns.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from tasks import containers
from tasks.engine_spec import Container, Engine
from tasks.engines import Adapter, adapter, engine_key, last_words
from tasks.modes import DeepDive
from tasks.remote import HostError, Supervisor
from tasks.settings import LprismError
from tasks.spec import LAB, Host, masked

READY_S = 240.0
READY_POLL_S = 0.5
CLIENT_START_S = 15.0  # its imports


class ServerError(LprismError):
    """The server did not start, or died."""


@dataclass(frozen=True)
class Client:
    """What loads a server: an interpreter with an engine's own client, and that engine's version."""

    python: str
    version: str


@dataclass(frozen=True)
class Server:
    """A running server: what it is, where it answers, and the process session it lives in.

    One that is attached has no command, a session only where it can be seen, and `pid`, if anything.
    """

    engine: Engine
    model: str
    python: str
    version: str
    key: str
    command: list[str]
    url: str
    session: int | None
    log: str
    client_env: dict[str, str]
    client: Client
    deep: DeepDive | None = None
    pid: int | None = None

    @property
    def speaks(self) -> Adapter:
        """How this kind of engine is called and understood."""
        return adapter(self.engine.kind)


def client(
    supervisor: Supervisor, host: Host, facts: Mapping[str, Any], engine: Engine, python: str
) -> Client:
    """The load client of an engine: `client_python` where the spec names one. Raises HostError."""
    python = engine.client_python or python
    return Client(python, version_of(supervisor, engine, python, our_cpus(host, facts)))


def version_of(supervisor: Supervisor, engine: Engine, python: str, cpus: list[int]) -> str:
    """The version that an interpreter has of an engine, in its container if any. Raises HostError."""
    command = adapter(engine.kind).version_command(python)
    if engine.container:
        command = containers.once(engine.container, command)
    return str(supervisor.ask("output", argv=command, cpus=cpus)).strip()


def start(
    supervisor: Supervisor, host: Host, facts: Mapping[str, Any], engine: Engine, python: str, model: str,
    deep: DeepDive | None = None, iterations: int = 0,
) -> Server:  # fmt: skip
    """Start the server, pinned to its CPUs, with its profiler where it is captured; wait until it is ready.

    `iterations` is how many a capture lasts.

    Raises:
        ServerError: it died, or is not ready within READY_S; with its last log lines.
    """
    speaks = adapter(engine.kind)
    version = version_of(supervisor, engine, python, our_cpus(host, facts))
    load = client(supervisor, host, facts, engine, python)
    port = supervisor.ask("port", wanted=engine.port)
    traces = trace_folder(supervisor)
    profiler = speaks.profile_flags(traces, version, iterations=iterations, stack=deep.stack) if deep else {}
    command = speaks.serve_command(python, model, "127.0.0.1", port, {**engine.args, **profiler})
    shown = speaks.serve_command(python, model, "127.0.0.1", port, {**masked(engine.args), **profiler})
    log = f"{supervisor.folder}/engine.log"
    given = engine.given_env
    cpus, offline = engine_cpus(host, facts), host.name == LAB
    environment = speaks.serve_environment(cpu=not host.gpus, threads=len(cpus), offline=offline)
    if deep:
        environment |= speaks.profile_environment(traces, version, stack=deep.stack)
    environment |= {**_environment(supervisor, host, engine), **_with_probe(supervisor, given)}
    if engine.container:
        session = _start_in(supervisor, engine.container, command, environment, log, cpus, host.gpus)
    else:
        session = supervisor.ask(
            "start", name="engine", argv=command, log=log, cpus=cpus, env=environment
        )  # fmt: skip
    launch: dict[str, Any] = {**masked(engine.args), "env": masked(given), "engine_cpus": len(cpus)}
    if deep:  # another server: a model of its own describes it
        launch["profiler_stack"] = deep.stack
    if engine.probe_points:
        launch["probe_points"] = [point.model_dump() for point in engine.probe_points]
    key = engine_key(engine.kind, version, launch)
    client_env = {**speaks.client_environment(offline=offline), **given}
    server = Server(
        engine, model, python, version, key, shown, f"http://127.0.0.1:{port}", session, log, client_env,
        load, deep,
    )  # fmt: skip
    _wait_ready(supervisor, server)
    if engine.container:
        return replace(server, session=_session_in(supervisor, server, our_cpus(host, facts)))
    return server


def _start_in(
    supervisor: Supervisor, container: Container, command: list[str], environment: Mapping[str, str],
    log: str, cpus: list[int], gpus: list[int],
) -> int:  # fmt: skip
    """Start the server in its container; returns the session of what ends it, which is not the server's."""
    if container.image:  # docker gives it the GPUs that it is to see, counted from 0
        environment = {name: it for name, it in environment.items() if name != "CUDA_VISIBLE_DEVICES"}
    base, pid_file = str(PurePosixPath(supervisor.code).parent), f"{supervisor.folder}/engine.pid"
    commands = containers.server(container, command, environment, base, pid_file, cpus, gpus)
    argv, env = containers.wrapped(commands, environment, supervisor.python, supervisor.code)
    return int(supervisor.ask("start", name="engine", argv=argv, log=log, cpus=cpus, env=env))


def _session_in(supervisor: Supervisor, server: Server, cpus: list[int]) -> int:
    """The server's own process session as the host sees it. Raises ServerError where it cannot be seen."""
    found = look(supervisor, server.engine, server.url, cpus)
    if found["session"] is None:
        raise ServerError(f"{supervisor.name}: the server in the container is not seen: {found['why']}")
    return int(found["session"])


def look(supervisor: Supervisor, engine: Engine, url: str, cpus: list[int]) -> dict[str, Any]:
    """What the host can say of a server that it did not start, as tasks/host/listener.py tells it."""
    speaks = adapter(engine.kind)
    words = [url, speaks.GENERATED, *speaks.VERSION_PATHS]
    command = [supervisor.python, "-m", "tasks.host.listener", *words]
    said = str(supervisor.ask("output", argv=command, cpus=cpus))
    found: dict[str, Any] = json.loads(said.strip().rpartition("\n")[2])
    return found


def client_command(
    supervisor: Supervisor, server: Server, command: list[str], cpus: list[int]
) -> tuple[list[str], dict[str, str]]:
    """The load client's command line and variables, where its server is: in the same container."""
    container = server.engine.container
    if container is None:
        return command, server.client_env
    pid_file = f"{supervisor.folder}/load.pid"
    commands = containers.inside(container, command, server.client_env, pid_file, cpus)
    return containers.wrapped(commands, server.client_env, supervisor.python, supervisor.code)


def unstarted(engine: Engine) -> Server:
    """What stands in a manifest where no server could be started."""
    nobody = Client("", "")
    return Server(engine, engine.model, "", "", "", [], "", None, "", {}, nobody)


def trace_folder(supervisor: Supervisor) -> str:
    """Where the server's own profiler writes, on the host."""
    return f"{supervisor.folder}/traces"


def our_cpus(host: Host, facts: Mapping[str, Any]) -> list[int]:
    """The host's CPUs for everything that is ours; all but the engine's where the spec does not say."""
    usable = list(facts["usable_cpus"])
    return (
        list(host.our_cpus or []) or [cpu for cpu in usable if cpu not in (host.engine_cpus or [])] or usable
    )


def engine_cpus(host: Host, facts: Mapping[str, Any]) -> list[int]:
    """The host's CPUs for the server and for faults that press on it; all where the spec does not say."""
    return list(host.engine_cpus or facts["usable_cpus"])


def _environment(supervisor: Supervisor, host: Host, engine: Engine) -> dict[str, str]:
    points = [point.model_dump() for point in engine.probe_points]
    return {
        **({"LPRISM_PROBE_POINTS": json.dumps(points)} if points else {}),
        **({"CUDA_VISIBLE_DEVICES": ",".join(map(str, host.gpus))} if host.gpus else {}),
        "LPRISM_PROBE_TARGET": f"{supervisor.folder}/probe_target",
    }


def _with_probe(supervisor: Supervisor, given: Mapping[str, str]) -> dict[str, str]:
    """The user's variables, with the function probe's folder first on PYTHONPATH."""
    probe = str(PurePosixPath(supervisor.code) / "tasks" / "host" / "probe")
    paths = [probe, *([given["PYTHONPATH"]] if "PYTHONPATH" in given else [])]
    return {**given, "PYTHONPATH": ":".join(paths)}


def _wait_ready(supervisor: Supervisor, server: Server) -> None:
    end = time.monotonic() + READY_S
    while not supervisor.ask("healthy", url=server.url + server.speaks.READY_PATH):
        check_alive(supervisor, "engine", server.speaks)
        if time.monotonic() > end:
            raise ServerError(
                f"{_named(supervisor, server)} was not ready after {READY_S:.0f} s; its log: {server.log}"
            )
        time.sleep(READY_POLL_S)


def _named(supervisor: Supervisor, server: Server) -> str:
    return f"{supervisor.name}: {server.engine.kind} {server.version}"


def check_alive(supervisor: Supervisor, name: str, speaks: Adapter | None = None) -> None:
    """Raise ServerError with the last log lines when the process has ended; an engine's as it `speaks`."""
    said: dict[str, Any] = supervisor.ask("alive", name=name)
    if not said["alive"]:
        tail = str(supervisor.ask("tail", name=name))
        words = speaks.server_failure(tail) if speaks else last_words(tail)
        what = {"engine": "the server", "load": "the load client"}.get(name, name)
        raise ServerError(
            f"{supervisor.name}: {what} ended with exit code {said['exit_code']}; it said last:\n{words}"
        )


def stop(supervisor: Supervisor) -> None:
    """End the server and all its workers; nothing happens when none runs."""
    try:
        supervisor.ask("stop", name="engine", grace_s=5.0)
    except HostError as error:
        raise ServerError(str(error)) from error
