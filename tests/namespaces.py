"""Hosts of a test's own, in network namespaces: one with an OpenSSH server, and one that it talks to.

    orchestrator (the test) ---- cable, can be cut ---- host (sshd) ---- peer

Names and the cable's addresses hold the test's pid; the addresses behind the host are seen by nobody else.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.remote import Address
from tests import openssh

PORT = 2222
HOST, PEER = "198.51.100.1", "198.51.100.2"
HOST_6, PEER_6 = "2001:db8::1", "2001:db8::2"
NOBODY = "02:00:00:00:00:01"  # a hardware address that no interface has
# `ip netns exec` puts a fresh sysfs on /sys, without the host's cgroups.
WITH_CGROUPS = (
    "sh",
    "-c",
    """mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/cpu &&
       mount -t cgroup -o cpu none /sys/fs/cgroup/cpu; exec "$@\"""",
    "sh",
)
LONG_S = 10
numbers = itertools.count()


@dataclass(frozen=True)
class Network:
    """What was built, in the words of the drawing above."""

    address: Address  # of the host
    mine: str  # the test's address on the cable
    bystander: str  # another one of the test's, which no SSH comes from
    host: str  # namespaces
    peer: str
    here: str  # interfaces: the test's end of the cable,
    uplink: str  # the host's end of it,
    interface: str  # and the host's to the peer

    def on_host(self, *words: str) -> str:
        """Run a command in the host's namespace; what it printed."""
        return command("ip", "netns", "exec", self.host, *words)

    def qdiscs(self, *options: str) -> list[dict[str, Any]]:
        """What stands on the interfaces of the host; with "-statistics", what it did."""
        found: list[dict[str, Any]] = json.loads(self.on_host("tc", "-json", *options, "qdisc", "show"))
        return found

    def cut(self) -> None:
        """From now on both ends send to a hardware address that nobody has.

        Neither sees a FIN, an error or a lost carrier: as with a dead switch in between.
        """
        self._neighbours("replace", "lladdr", NOBODY, "nud", "permanent")

    def mend(self) -> None:
        """Both ends ask again where the other one is."""
        self._neighbours("del")

    def _neighbours(self, do: str, *words: str) -> None:
        command("ip", "neigh", do, self.address.address, "dev", self.here, *words)
        command("ip", "-n", self.host, "neigh", do, self.mine, "dev", self.uplink, *words)


def missing() -> str | None:
    """Why no network can be built here."""
    if not shutil.which("ip") or not shutil.which("tc"):
        return "ip and tc are not installed (apt-get install iproute2)"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    try:
        with namespace(f"lp{os.getpid()}try"):
            return None
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """Build it, start sshd on the host, and take all of it down again."""
    sweep()
    number = next(numbers)
    prefix = f"lp{os.getpid()}{chr(ord('a') + number % 26)}"
    host, peer = f"{prefix}host", f"{prefix}peer"
    here, uplink, interface, beyond = (f"{prefix}{end}" for end in range(4))
    with contextlib.ExitStack() as stack:
        stack.enter_context(namespace(host))
        stack.enter_context(namespace(peer))
        stack.enter_context(cable((), here, ("-n", host), uplink))
        stack.enter_context(cable(("-n", host), interface, ("-n", peer), beyond))
        mine, its, bystander = unused_subnet(os.getpid() + number)
        give((), here, f"{mine}/29", f"{bystander}/29")
        give(("-n", host), uplink, f"{its}/29")
        give(("-n", host), interface, f"{HOST}/30", f"{HOST_6}/126")
        give(("-n", peer), beyond, f"{PEER}/30", f"{PEER_6}/126")
        server = openssh.serving(folder, PORT, "far", its, ("ip", "netns", "exec", host, *WITH_CGROUPS))
        address = stack.enter_context(server)
        yield Network(address, mine, bystander, host, peer, here, uplink, interface)


def sweep() -> None:
    """Remove what a killed test run left: the names say whose it was."""
    links = [link["ifname"] for link in json.loads(command("ip", "-json", "link", "show"))]
    for name in [*command("ip", "netns", "list").split(), *links]:
        ours = re.match(r"lp(\d+)[a-z]", name)
        if ours and not Path("/proc", ours[1]).exists():
            with contextlib.suppress(subprocess.CalledProcessError):  # another run sweeps too
                command("ip", "link", "del", name) if name in links else end_namespace(name)


@contextlib.contextmanager
def namespace(name: str) -> Iterator[None]:
    """A network namespace with its loopback up; what still runs in it in the end is killed."""
    command("ip", "netns", "add", name)
    try:
        command("ip", "-n", name, "link", "set", "lo", "up")
        yield
    finally:
        end_namespace(name)


def end_namespace(name: str) -> None:
    """Kill what runs in it, and remove it."""
    end = time.monotonic() + LONG_S
    while (pids := command("ip", "netns", "pids", name).split()) and time.monotonic() < end:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)
    command("ip", "netns", "del", name)


@contextlib.contextmanager
def cable(one: tuple[str, ...], end: str, other: tuple[str, ...], far_end: str) -> Iterator[None]:
    """Two joined interfaces; where each is, is said as `ip` wants it: () or ("-n", namespace)."""
    far = ["netns", other[1]] if other else []
    command("ip", *one, "link", "add", end, "type", "veth", "peer", "name", far_end, *far)
    try:
        yield
    finally:
        command("ip", *one, "link", "del", end)  # at once; with the namespace it takes a while


def give(where: tuple[str, ...], interface: str, *addresses: str) -> None:
    """Put an interface up under these addresses."""
    for address in addresses:
        nodad = ["nodad"] if ":" in address else []
        command("ip", *where, "address", "add", address, "dev", interface, *nodad)
    command("ip", *where, "link", "set", interface, "up")


def unused_subnet(seed: int) -> tuple[str, str, str]:
    """Three addresses of a /29 of 10.213.0.0/16 that no route here leads to."""
    for k in range(seed, seed + 100):
        high, low = divmod(k % 8192 * 8, 256)
        if not command("ip", "route", "show", f"10.213.{high}.{low}/29"):
            first, second, third = (f"10.213.{high}.{low + end}" for end in (1, 2, 3))
            return first, second, third
    raise LookupError("10.213.0.0/16 is in use")


def command(*words: str) -> str:
    """Run it to its end; what it printed. Raises subprocess.CalledProcessError with what it said."""
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=LONG_S).stdout
