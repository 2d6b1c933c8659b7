"""From what a user calls a host to where it is: `lab`, a host of a spec, or an address of their own."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.remote import Address
from tasks.settings import SpecError
from tasks.spec import LAB, CampaignSpec, Host
from tasks.spec_errors import unknown

# An ssh_config alias, a name, an IPv4 address, or an IPv6 one in brackets. No leading dash, as ssh has it.
ADDRESS = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][^@\s]*)@)?"
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*))"
    r"(?::(?P<port>\d{1,5}))?"
)
HIGHEST_PORT = 65_535


def host_called(name: str, spec: CampaignSpec | None = None) -> Host:
    """The host that is called so: in the spec where one is given, else `lab` or [user@]address[:port].

    `allow_faults` is what the spec says; without a spec `lab` alone has it.

    Raises:
        SpecError: the spec has no such host, or it is no address.
    """
    if spec is not None:
        hosts = {host.name: host for host in spec.hosts}
        if name not in hosts:
            raise SpecError(f"the spec {spec.name}: {unknown('host', name, list(hosts))}")
        return hosts[name]
    return Host(name=LAB, allow_faults=True) if name == LAB else _dialled(name)


def _dialled(text: str) -> Host:
    found = ADDRESS.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if not found or (port is not None and not 0 < port <= HIGHEST_PORT):
        raise SpecError(
            f"{text!r} is no host: write {LAB}, an ssh_config alias or [user@]address[:port], with an IPv6 "
            "address in brackets"
        )
    address = found["name"] or found["ipv6"]
    # Not validated: an IPv6 address is no name for a spec, and here it is the only name the host has.
    return Host.model_construct(name=address, address=address, user=found["user"], port=port)


@contextmanager
def reachable(host: Host, home: Path) -> Iterator[Address]:
    """Where the host can be dialled while the block lasts: `lab` is started for it under this home.

    Raises:
        LabError: `lab` did not start, or another command uses this home.
    """
    if host.name != LAB:
        yield Address(
            host.name, str(host.address), host.user, host.port,
            Path(host.identity_file).expanduser() if host.identity_file else None,
            Path(host.known_hosts).expanduser() if host.known_hosts else None,
        )  # fmt: skip
        return
    from tasks.lab.loopback import loopback_host

    with loopback_host(home) as lab:
        yield Address(
            LAB, lab.address, lab.user, lab.port, lab.identity_file, lab.known_hosts, sys.executable
        )
