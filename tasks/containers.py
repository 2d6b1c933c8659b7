"""Servers in containers, as docker's command lines. Pure; untested with a docker that runs containers.

Nothing of a variable's value stands in a command: docker takes it from its own environment (`--env=NAME`).
Our folder on the host is in the container under the same path, so the probe, its records and traces are where
they always are. In a container that runs already its owner has to have mounted it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from tasks.engine_spec import Container

PYTHON = "python3"
NAME = "latencyprism-engine"  # of a container that is made from an image; one campaign has a host at a time
GIVEN = "LPRISM_IN_"  # before the name of a variable that is for the container alone
STOP_S = 2
# In a container that runs already: note who we are there, keep to the CPUs, become the program.
ENTER = (
    "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); "
    "os.sched_setaffinity(0, map(int, sys.argv[2].split(','))); os.execvp(sys.argv[3], sys.argv[3:])"
)
# Shells differ in how they are told to kill a group; where an engine is, there is a Python.
LEAVE = f"""
import os, signal, sys, time
group, end = int(open(sys.argv[1]).read()), time.monotonic() + {STOP_S}
try:
    os.killpg(group, signal.SIGTERM)
    while time.monotonic() < end: os.killpg(group, 0); time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
except ProcessLookupError: pass
"""


@dataclass(frozen=True)
class Commands:
    """A program in a container: what starts it, and what ends it, gently first, when it is to end."""

    before: list[list[str]]
    start: list[str]
    end: list[str]


def name_of(container: Container) -> str:
    """What docker calls it."""
    return container.name or NAME


def server(
    container: Container, argv: Sequence[str], env: Iterable[str], base: str, pid_file: str,
    cpus: Sequence[int], gpus: Sequence[int],
) -> Commands:  # fmt: skip
    """A server: the container's own program where it is made from an image, else one more in it.

    `env` are names of variables, `base` is our folder on the host, `pid_file` one in it.
    """
    if container.image is None:
        return inside(container, argv, env, pid_file, cpus)
    remove = ["docker", "rm", "--force", NAME]
    place = [f"--name={NAME}", "--network=host", "--pid=host", "--ipc=host", f"--volume={base}:{base}"]
    devices = [f'--gpus="device={_listed(gpus)}"'] if gpus else []
    start = [
        *("docker", "run", "--rm", "--pull=never", *place, f"--cpuset-cpus={_listed(cpus)}", *devices),
        *(f"--env={name}" for name in sorted(env)), *container.options,
        f"--entrypoint={argv[0]}", container.image, *argv[1:],
    ]  # fmt: skip
    return Commands([remove], start, ["docker", "stop", "-t", str(STOP_S), NAME])


def inside(
    container: Container, argv: Sequence[str], env: Iterable[str], pid_file: str, cpus: Sequence[int]
) -> Commands:
    """A program in a container that runs: the load client of a server, or a server itself."""
    name = name_of(container)
    variables = [f"--env={one}" for one in sorted(env)]
    enter = [PYTHON, "-c", ENTER, pid_file, _listed(cpus)]
    leave = ["docker", "exec", name, PYTHON, "-c", LEAVE, pid_file]
    return Commands([], ["docker", "exec", *variables, name, *enter, *argv], leave)


def once(container: Container, argv: Sequence[str]) -> list[str]:
    """A command of a second or two, such as one that prints a version."""
    if container.image is None:
        return ["docker", "exec", str(container.name), *argv]
    words = ["docker", "run", "--rm", "--pull=never", "--network=none", *container.options]
    return [*words, f"--entrypoint={argv[0]}", container.image, *argv[1:]]


def wrapped(
    commands: Commands, env: Mapping[str, str], python: str, code: str
) -> tuple[list[str], dict[str, str]]:
    """What is started on the host for it, which ends it when it is ended itself, and with which variables."""
    given = {f"{GIVEN}{name}": value for name, value in env.items()}
    return [python, "-m", "tasks.host.container", json.dumps(asdict(commands))], {**given, "PYTHONPATH": code}


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
