"""Whether a spec's hosts can take its campaign: one finding a question, asked of the real host.

Nothing is changed on a host but our own folder, and one host's trouble is not another's.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tasks import attached, containers
from tasks import server as servers
from tasks.addresses import reachable
from tasks.books import FREE_BYTES_A_CELL
from tasks.engine_spec import Container, Engine
from tasks.engines import adapter, is_tested
from tasks.fault import Fault
from tasks.plan import plan
from tasks.remote import HostError, Supervisor, forget_command, supervise
from tasks.session import engine_python
from tasks.settings import LprismError
from tasks.spec import LAB, CampaignSpec, Host

AT_ONCE = 8
LOOKS = 5  # at the clock: the one with the shortest round trip counts
CLOCK_LIMIT_S = 1.0
# What a host says when it may not be had, by the check that it fails; all else is about reaching it.
REFUSALS = {
    "this host is dirty": ("clean", "lprism restore {host}"),
    "another campaign has this host": ("lease", "wait until it is done, or end it"),
    "has CHANGED": ("host key", "if it is a new machine, forget the old key: {forget}"),
    "not found in known_hosts": ("host key", "look at the key and take it: ssh {where}"),
    "a passphrase is wanted": ("login", "leave out identity_file, and load the key with ssh-add"),
    "it asks for a password": ("login", "let your key in: ssh-copy-id {where}"),
    "login refused": ("login", "give the right user and identity_file, or ssh-copy-id {where}"),
    "waits for an answer": ("login", "see what `ssh {where} true` asks, and have it ask nothing"),
    "python 3.9": ("python", "install python 3.9 or newer there"),
    "python3 exited with": ("python", "install python 3.9 or newer there"),
}


@dataclass
class Visit:
    """A host that answers, and what is asked for it."""

    supervisor: Supervisor
    host: Host
    spec: CampaignSpec
    facts: Mapping[str, Any]


Finding = dict[str, Any]  # {"host", "check", "passed", "found", "remedy"}


def check(spec: CampaignSpec, home: Path) -> list[Finding]:
    """Ask every host of the spec everything; the findings in the spec's order."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda host: _of_host(spec, host, home), spec.hosts)
        return [finding for findings in found for finding in findings]


def _of_host(spec: CampaignSpec, host: Host, home: Path) -> list[Finding]:
    findings: list[Finding] = []
    try:
        with reachable(host, home) as address, supervise(address, f"check-{time.time_ns()}") as supervisor:
            visit = Visit(supervisor, host, spec, supervisor.ask("facts"))
            for name, passed, found, remedy in _answers(visit):
                findings.append(_finding(host, name, passed=passed, found=found, remedy=remedy))
    except LprismError as error:
        findings.append(_refusal(host, str(error)))
    except OSError as error:
        findings.append(_refusal(host, f"{host.name}: {error}"))
    return findings


def _finding(host: Host, name: str, *, passed: bool, found: str, remedy: str) -> Finding:
    return {
        "host": host.name, "check": name, "passed": passed, "found": found,
        "remedy": None if passed else remedy,
    }  # fmt: skip


def _refusal(host: Host, said: str) -> Finding:
    found = said.removeprefix(f"{host.name}: ")
    where = f"{host.user}@{host.address}" if host.user else str(host.address)
    if host.port:
        where = f"-p {host.port} {where}"
    forget = forget_command(str(host.address), host.port, host.known_hosts)
    for words, (name, remedy) in REFUSALS.items():
        if words in found:
            told = remedy.format(host=host.name, where=where, forget=forget)
            return _finding(host, name, passed=False, found=found, remedy=told)
    remedy = "try again with another --home" if host.name == LAB else f"see that `ssh {where}` gets in"
    return _finding(host, "ssh", passed=False, found=found, remedy=remedy)


Answer = tuple[str, bool, str, str]  # check, passed, what was found, what to do if not


def _answers(visit: Visit) -> Iterator[Answer]:
    facts, host = visit.facts, visit.host
    yield "ssh", True, f"{host.address or host.name} answers, and lets us in", ""
    yield "host key", True, "it is the one that is known", ""
    yield "python", True, str(facts["python"]), ""
    yield "clean", True, "nothing is left of earlier sessions", ""
    yield "lease", True, "no campaign has it", ""
    yield _clock(visit.supervisor)
    yield _disk(visit)
    yield _cpus(host, facts)
    if host.gpus:
        yield _gpus(host, facts)
    yield from _engines(visit)
    yield from _faults(visit)


def _clock(supervisor: Supervisor) -> Answer:
    offset_s, unsure_s = clock_offset_s(supervisor)
    found = f"{1000 * offset_s:+.1f} ms from ours, within {1000 * unsure_s:.1f} ms"
    return "clock", abs(offset_s) - unsure_s <= CLOCK_LIMIT_S, found, "run chrony or ntpd on both machines"


def clock_offset_s(supervisor: Supervisor) -> tuple[float, float]:
    """How far the host's clock is ahead of ours, and how wrong that may be: half a round trip."""
    looks = []
    for _ in range(LOOKS):
        before = time.time_ns()
        there = int(supervisor.ask("mark")["epoch_ns"])
        after = time.time_ns()
        looks.append((after - before, there - (before + after) // 2))
    trip, offset = min(looks)
    return offset / 1e9, trip / 2e9


def _disk(visit: Visit) -> Answer:
    free = visit.facts["disk_free_bytes"]
    cells = [cell for cell in plan(visit.spec, visit.spec.name) if cell.host == visit.host.name]
    needed = len(cells) * FREE_BYTES_A_CELL
    found = f"{(free or 0) >> 20} MiB free, {needed >> 20} MiB needed for {len(cells)} cells"
    return "disk", (free or 0) >= needed, found, f"free some space under {visit.supervisor.folder}"


def _cpus(host: Host, facts: Mapping[str, Any]) -> Answer:
    usable = facts["usable_cpus"]
    missing = sorted({*(host.engine_cpus or []), *(host.our_cpus or [])} - set(usable))
    found = f"there are {_listed(usable)}" + (f", and not {_listed(missing)}" if missing else "")
    return "cpus", not missing, found, "change engine_cpus and our_cpus in the spec"


def _gpus(host: Host, facts: Mapping[str, Any]) -> Answer:
    there = [gpu["index"] for gpu in facts.get("gpus") or []]
    missing = sorted(set(host.gpus) - set(there))
    found = f"there are {_listed(there)}" + (f", and not {_listed(missing)}" if missing else "")
    return "gpus", not missing, found, "change gpus in the spec, or see that nvidia-smi works there"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _engines(visit: Visit) -> Iterator[Answer]:
    for engine in visit.spec.engines:
        if engine.attach:
            yield from _attached(visit, engine)
        else:
            yield _installed(visit, engine)
        if engine.container and engine.container.name:
            yield _mounted(visit, engine, engine.container)
        if engine.client_python or engine.attach:
            yield _client(visit, engine)
        if visit.host.gpus and (ranks := adapter(engine.kind).ranks(engine.args)) > len(visit.host.gpus):
            found = f"{ranks} are asked for by its arguments, and gpus names {len(visit.host.gpus)}"
            yield f"gpus of {engine}", False, found, "name more gpus, or ask for fewer in args"
        if engine.port is not None:
            yield _port(visit, engine.port)


def _installed(visit: Visit, engine: Engine) -> Answer:
    name = f"engine {engine}"
    try:
        python = engine_python(visit.host, engine)
        version = _version(visit, engine, python)
    except LprismError as error:
        is_lab = visit.host.name == LAB
        remedy = f"lprism engines install {engine.kind}-cpu" if is_lab else "name a python that has it"
        if engine.container:
            remedy = "see that docker runs there, and that the container or the image is on the host"
        return name, False, _why(visit, error), remedy
    return name, True, f"{engine.kind} {version} of {python}{_untested(engine, version)}", ""


def _version(visit: Visit, engine: Engine, python: str) -> str:
    return servers.version_of(visit.supervisor, engine, python, servers.our_cpus(visit.host, visit.facts))


def _mounted(visit: Visit, engine: Engine, container: Container) -> Answer:
    """Whether a container that runs already has our folder under the path that it has on the host."""
    command, ours = ["test", "-d", visit.supervisor.code], servers.our_cpus(visit.host, visit.facts)
    name, base = f"container of {engine}", str(PurePosixPath(visit.supervisor.code).parent)
    remedy = f"start it with --volume={base}:{base} --network=host --pid=host"
    try:
        visit.supervisor.ask("output", argv=containers.once(container, command), cpus=ours)
    except HostError as error:
        return name, False, f"our folder is not there: {_why(visit, error)}", remedy
    return name, True, f"{container.name} has our folder", ""


def _untested(engine: Engine, version: str) -> str:
    return "" if is_tested(engine.kind, version) else ", a version that is untested with us"


def _attached(visit: Visit, engine: Engine) -> Iterator[Answer]:
    """A server that somebody else runs: what it says, whether its process is seen, and its log."""
    name, ours = f"engine {engine}", servers.our_cpus(visit.host, visit.facts)
    try:
        nobody = servers.Client("", "")
        server = attached.attach(visit.supervisor, visit.host, visit.facts, engine, nobody)
    except LprismError as error:
        yield name, False, _why(visit, error), "see that it runs, and that attach and model are right"
        return
    yield name, True, f"{engine.kind} {server.version} answers{_untested(engine, server.version)}", ""
    seen = f"pid {server.pid}, process session {server.session}"
    why = (
        f"not seen: {attached.look(visit.supervisor, engine, ours)['why']}" if server.session is None else ""
    )
    wanted = engine.allow_faults
    yield f"process of {engine}", not (why and wanted), why or seen, "log in as root or as its user"
    if engine.log:
        try:
            visit.supervisor.ask("output", argv=["test", "-r", engine.log], cpus=ours)
            yield "log", True, f"{engine.log} can be read", ""
        except HostError:
            yield "log", False, f"{engine.log} cannot be read", "name the file that its output goes to"


def _client(visit: Visit, engine: Engine) -> Answer:
    name = f"client of {engine}"
    try:
        python = engine.client_python or engine_python(visit.host, engine)
        return name, True, f"{engine.kind} {_version(visit, engine, python)} of {python}", ""
    except LprismError as error:
        return (
            name,
            False,
            _why(visit, error),
            "name as client_python an interpreter that has the load client",
        )


def _port(visit: Visit, port: int) -> Answer:
    try:
        visit.supervisor.ask("port", wanted=port)
    except HostError as error:
        return "port", False, _why(visit, error), "end whoever has it, or choose another in the spec"
    return "port", True, f"{port} is free", ""


def _faults(visit: Visit) -> Iterator[Answer]:
    wanted, allowed = any(scenario.anomaly for scenario in visit.spec.scenarios), visit.host.allow_faults
    found = "allowed" if allowed else "not allowed" if wanted else "not allowed, and none is wanted"
    yield "faults", allowed or not wanted, found, "set allow_faults: true in the spec if it may be disturbed"
    for scenario in visit.spec.scenarios:
        if scenario.anomaly and allowed:
            yield _fault(visit, scenario.anomaly, scenario.strength)


def _fault(visit: Visit, anomaly: str, strength: Mapping[str, Any]) -> Answer:
    fault = Fault(visit.supervisor, anomaly, strength)
    name = " ".join([anomaly, *(f"{key}={value}" for key, value in strength.items())])
    try:
        python = engine_python(visit.host, visit.spec.engines[0])
    except LprismError:
        python = None  # told already; most faults do without
    try:
        fault.plan(
            cpus=servers.engine_cpus(visit.host, visit.facts), seconds=visit.spec.windows.fault_s + 1,
            log=f"{visit.supervisor.folder}/fault.log", gpus=visit.host.gpus, python=python,
        )  # fmt: skip
    except HostError as error:
        why, is_root = _why(visit, error), bool(visit.facts["root"])
        root = "" if is_root else "log in as root (nothing here answers sudo), "
        return name, False, why, f"{root}give the host what is missing, or leave the scenario out"
    return name, True, f"it can be had, and shown by {fault.effect['metric']}", ""


def _why(visit: Visit, error: LprismError) -> str:
    return str(error).removeprefix(f"{visit.host.name}: ")
