"""A server that somebody else runs: found, measured and left as it is.

It is not started, not stopped, and has no probe: batches come from its log, where the spec names one, or from
nowhere.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from tasks import server as servers
from tasks.engine_spec import Engine
from tasks.engines import adapter, engine_key
from tasks.recorders import Recorder
from tasks.remote import HostError, Supervisor
from tasks.server import Client, Server, ServerError
from tasks.spec import LAB, Host

LOG = "iterations.jsonl"
POLL_S = 0.5
UNSEEN = -1  # no session of any process: nothing is taken for the engine's


def attach(
    supervisor: Supervisor, host: Host, facts: Mapping[str, Any], engine: Engine, client: Client
) -> Server:
    """Find the server and say what it is; `client` is what loads it.

    Raises:
        ServerError: nobody answers there, or it is not what the spec says.
    """
    url = str(engine.attach)
    if not supervisor.ask("healthy", url=url + adapter(engine.kind).READY_PATH):
        raise ServerError(f"{host.name}: nobody answers at {url}: start the server, or change `attach`")
    said = look(supervisor, engine, servers.our_cpus(host, facts))
    if said["version"] is None:
        raise ServerError(f"{host.name}: what answers at {url} is no {engine.kind}: it tells no version")
    if engine.model not in said["models"]:
        there = ", ".join(map(str, said["models"])) or "none"
        raise ServerError(
            f"{host.name}: the server at {url} does not serve {engine.model}; it serves: {there}"
        )
    key = engine_key(engine.kind, said["version"], {"attach": url, "model": engine.model})
    speaks = adapter(engine.kind)
    client_env = {**speaks.client_environment(offline=host.name == LAB), **engine.given_env}
    return Server(
        engine, engine.model, client.python, said["version"], key, [], url, said["session"], engine.log or "",
        client_env, client=client, pid=said["pid"],
    )  # fmt: skip


def look(supervisor: Supervisor, engine: Engine, cpus: list[int]) -> dict[str, Any]:
    """What the host can say of the server. Raises HostError."""
    return servers.look(supervisor, engine, str(engine.attach), cpus)


def session_of(server: Server) -> int:
    """The process session that recorders look at; UNSEEN where there is none to be seen."""
    return UNSEEN if server.session is None else server.session


def check_alive(supervisor: Supervisor, server: Server) -> None:
    """Raise ServerError when its process has gone; one that cannot be seen is not asked about."""
    if server.pid is None:
        return
    try:
        supervisor.ask("session_of", pid=server.pid)
    except HostError as error:
        if f"no process has pid {server.pid}" in str(error):
            why = f"{supervisor.name}: the server at {server.url} has ended: pid {server.pid} is gone"
            raise ServerError(why) from error


def wait_for_load(
    supervisor: Supervisor, server: Server, cpus: list[int], seconds: float, check: Callable[[], None]
) -> bool:
    """Wait until the server answers with tokens; whether it did. Raises what `check` raises.

    A server that does not tell (SGLang tells nothing before its first token) is taken to do so when the time
    that a client needs is over.
    """
    first = look(supervisor, server.engine, cpus)["generated"]
    end = time.monotonic() + (seconds if first is not None else servers.CLIENT_START_S)
    while time.monotonic() < end:
        check()
        now = look(supervisor, server.engine, cpus)["generated"]
        if now is not None and now > (first or 0.0):
            return True
        time.sleep(POLL_S)
    return first is None


def log_recorder(server: Server, folder: str, seconds: str) -> list[Recorder]:
    """What records its batches, where the spec names its log."""
    if not server.engine.log:
        return []
    words = ("--out", f"{folder}/{LOG}", "--log", server.engine.log, "--seconds", seconds)
    return [Recorder("iterations", "tasks.host.follow", words, needed=True)]
