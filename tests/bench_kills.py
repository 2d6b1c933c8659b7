"""Fifty kills and cuts at random moments of random faults: is the host clean afterwards, and how soon?

    python -m tests.bench_kills [--trials 50] [--seed 7]

Root and network namespaces are needed: the host is an OpenSSH server behind a cable that can be cut. An
orchestrator of its own process goes through the life of a fault again and again; at a random moment one or
two of those who guard it are killed (-9), or the link is cut without a FIN. Clean means: no process of ours
but what was left alone on purpose, no record of a fault, the host's qdiscs and cgroups as they were, and
`restore` finds nothing to do. Where nobody is left who could undo it, the host must be marked dirty, and
`restore` must prove it clean. Prints a row a trial, and a table by fault and by what was done to it.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.fault import Fault
from tasks.host import facts, fault, processes, state
from tasks.host.site import PROGRAM
from tasks.remote import Address, restore, supervise
from tasks.settings import LprismError
from tests.namespaces import PEER, Network, missing, network
from tests.processes import pid_of

LIMIT_S = 30.0
CGROUPS = Path("/sys/fs/cgroup")
FAULTS: dict[str, dict[str, object]] = {
    "cpu_compute_squeeze_out": {"threads_per_cpu": 1},
    "cpu_quota": {},
    "cpu_swap": {"gb": 0.5},
    "network_contention": {"mbit": 20, "peer": PEER},
    "sham": {},
}
GUARDS = ("supervisor", "watchdog", "fault", "program")
ACTIONS: tuple[tuple[str, ...], ...] = (
    ("orchestrator",), ("link",), ("supervisor",), ("watchdog",), ("fault",), ("program",),
    ("supervisor", "watchdog"), ("fault", "supervisor"), ("fault", "watchdog"),
    ("orchestrator", "watchdog"), ("orchestrator", "fault"), ("supervisor", "watchdog", "fault"),
)  # fmt: skip
BUSY = "import os\nos.fork()\nwhile True: pass"
HOLD_S = 1.5


@dataclass
class Trial:
    """What was done, and what came of it."""

    number: int
    anomaly: str
    action: str
    phase: str
    outcome: str
    seconds: float


def orchestrate(address: Address, anomaly: str, interface: str) -> None:
    """Go through the life of a fault again and again, and say where we are. Ends by being killed."""
    strength = {**FAULTS[anomaly], **({"interface": interface} if anomaly == "network_contention" else {})}
    cpus = facts.usable_cpus()
    with supervise(address, f"kills-{os.getpid()}") as host:
        say(f"folder {host.folder}")
        host.ask("start", name="engine", argv=[sys.executable, "-c", BUSY], log=f"{host.folder}/engine.log")
        while True:
            one = Fault(host, anomaly, strength)
            say("plan")
            one.plan(cpus=cpus[:1], seconds=60.0, log=f"{host.folder}/fault.log")
            say("measure before")
            one.measure("before")
            say("apply")
            one.apply()
            say("hold")
            time.sleep(HOLD_S)
            say("measure during")
            one.measure("during")
            say("revert")
            one.revert()


def bent(net: Network, home: Path, before: list[str]) -> list[str]:
    """What is not as it was, seen without any record of ours: processes, cgroups, qdiscs."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if entry.name.isdigit() and str((entry / "cwd").readlink()).startswith(str(home)):
                found.append(f"pid {entry.name}")
    groups = [Path(top, name) for top, names, _ in os.walk(CGROUPS) for name in names]
    found += [f"cgroup {path}" for path in groups if path.name.startswith("latencyprism-")]
    return found + [f"qdisc {line}" for line in qdiscs(net) if line not in before]


def qdiscs(net: Network) -> list[str]:
    """The host's qdiscs, a line each."""
    return net.on_host("tc", "qdisc", "show").splitlines()


def trial(net: Network, number: int, anomaly: str, action: tuple[str, ...], after_s: float) -> Trial:
    """Start an orchestrator, do it, and see what becomes of the host."""
    home, before = net.address.known_hosts.parent if net.address.known_hosts else Path(), qdiscs(net)
    argv = [
        sys.executable,
        "-m",
        "tests.bench_kills",
        "--orchestrate",
        anomaly,
        net.interface,
        *words(net.address),
    ]
    out = home / "orchestrator.out"
    with out.open("w") as file, subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT) as child:
        while "plan" not in out.read_text():
            time.sleep(0.05)
            assert child.poll() is None, f"the orchestrator died by itself: {out.read_text()}"
        time.sleep(after_s)
        assert child.poll() is None, f"the orchestrator died by itself: {out.read_text()}"
        said = out.read_text()
        folder = Path(said.splitlines()[0].partition(" ")[2])
        strike(net, child, folder, action)
        began = time.monotonic()
        if action in (("fault",), ("program",)):  # the session goes on; its orchestrator hears of it
            time.sleep(1.5)
            child.kill()
        seconds, outcome = settled(net, home, folder, before, began)
        child.kill()
    net.mend()
    said_by_restore = restore(net.address)
    if said_by_restore["left"] or bent(net, home / "home", before):
        outcome = f"BENT: {said_by_restore['left']} {bent(net, home / 'home', before)}"
    elif said_by_restore["found"]:
        outcome = "dirty, restored"
    return Trial(number, anomaly, "+".join(action), said.splitlines()[-1], outcome, seconds)


def strike(net: Network, child: "subprocess.Popen[bytes]", folder: Path, action: tuple[str, ...]) -> None:
    """Kill -9 everybody named, or cut the link."""
    pids = []
    for who in action:
        if who == "link":
            net.cut()
        elif who == "orchestrator":
            pids.append(child.pid)
        elif who in ("supervisor", "watchdog"):
            pids.append(pid_of(f"tasks.host.{who}\0{folder}"))
        else:
            known = state.read_sessions(folder).get(fault.HOLDER if who == "fault" else PROGRAM)
            pids += [known[0]] if known and processes.session_members(known[0]) else []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def settled(net: Network, home: Path, folder: Path, before: list[str], began: float) -> tuple[float, str]:
    """Seconds until the host is as it was, or LIMIT_S."""
    while (seconds := time.monotonic() - began) < LIMIT_S:
        if not (folder / fault.STATE).exists() and not bent(net, home / "home", before):
            return seconds, "clean"
        time.sleep(0.1)
    return LIMIT_S, "NOT CLEAN"


def say(line: str) -> None:
    """Print it at once: somebody waits."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def words(address: Address) -> list[str]:
    """An address as arguments."""
    return [str(value or "") for value in asdict(address).values()]


def address_of(said: Sequence[str]) -> Address:
    """And back."""
    name, address, user, port, identity_file, known_hosts, python = said
    return Address(name, address, user, int(port), Path(identity_file), Path(known_hosts), python)


def report(trials: Sequence[Trial]) -> None:
    """A table by fault, and one by what was done."""
    for title, key in (("fault", "anomaly"), ("killed or cut", "action")):
        groups: dict[str, list[Trial]] = defaultdict(list)
        for one in trials:
            groups[getattr(one, key)].append(one)
        say(f"\n| {title} | trials | clean by itself | dirty, then restored | bent | worst s |")
        say("|---|---|---|---|---|---|")
        for name, group in sorted(groups.items()):
            clean = [one for one in group if one.outcome == "clean"]
            dirty = [one for one in group if one.outcome == "dirty, restored"]
            worst = f"{max(one.seconds for one in clean):.1f}" if clean else ""
            bent_ones = len(group) - len(clean) - len(dirty)
            say(f"| {name} | {len(group)} | {len(clean)} | {len(dirty)} | {bent_ones} | {worst} |")


def main() -> int:
    """Run the trials; exit code 1 if a host was left bent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--orchestrate", nargs="+", default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.orchestrate:
        anomaly, interface, *where = given.orchestrate
        try:
            orchestrate(address_of(where), anomaly, interface)
        except LprismError as error:  # the killed host says so
            say(str(error))
        return 0
    if why := missing():
        say(f"cannot be run here: {why}")
        return 1
    chance, trials = random.Random(given.seed), []  # noqa: S311 - moments, no secrets
    with tempfile.TemporaryDirectory() as folder, network(Path(folder)) as net:
        for number in range(1, given.trials + 1):
            anomaly = sorted(FAULTS)[number % len(FAULTS)]
            action = ACTIONS[(number - 1) % len(ACTIONS)]
            one = trial(net, number, anomaly, action, chance.uniform(0, 5))
            trials.append(one)
            what = f"{one.number:3} {one.anomaly:24} {one.action:28} during {one.phase:16}"
            say(f"{what} {one.outcome} {one.seconds:5.1f} s")
    report(trials)
    return int(any(one.outcome not in ("clean", "dirty, restored") for one in trials))


if __name__ == "__main__":
    raise SystemExit(main())
