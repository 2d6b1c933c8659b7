"""The host's network as `ip` and `tc` tell it: what stands on an interface, what is reached over it.

Runs on the host, standard library only (Python >= 3.9).
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
from typing import TYPE_CHECKING, Any, Union

from tasks.host import readings
from tasks.host.site import Trouble

if TYPE_CHECKING:
    from tasks.host.site import Site

IP = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
KERNELS_OWN = "0:"  # the handle of every qdisc that nobody chose
PLAIN = ("1", "32", "772")  # ARPHRD of Ethernet, InfiniBand and loopback; tunnels have others


def tool(name: str) -> str:
    """Where `tc` or `ip` is: the PATH of a command over SSH often lacks /usr/sbin. Raises Trouble."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise Trouble(f"no {name} on the host; on Debian: apt-get install iproute2")
    return found


def asked(site: Site, name: str, *words: str) -> list[dict[str, Any]]:
    """What `tc` or `ip` answers in JSON. Raises Trouble."""
    found: list[dict[str, Any]] = json.loads(site.run([tool(name), "-json", *words]) or "[]")
    return found


def root_qdisc(qdiscs: list[dict[str, Any]]) -> tuple[str, str]:
    """(kind, handle) of the one at the root."""
    for qdisc in qdiscs:
        if qdisc.get("root"):
            return qdisc["kind"], qdisc["handle"]
    return "noqueue", KERNELS_OWN


def address(text: str) -> IP:
    """The IP address, without the interface that may stand behind it. Raises Trouble."""
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise Trouble(f"{text} is no IP address") from None


def reached_over(site: Site, other: IP) -> str:
    """The interface that the route to an address takes. Raises Trouble."""
    return str(asked(site, "ip", "route", "get", str(other))[0]["dev"])


def is_tunnel(interface: str) -> bool:
    """Whether what this interface sends leaves by another one, under other addresses."""
    return readings.text(f"/sys/class/net/{interface}/type").strip() not in PLAIN


def next_to(site: Site, interface: str) -> list[IP]:
    """Whom this interface reaches without a router in between: the gateway first. Raises Trouble."""
    gateways = asked(site, "ip", "route", "show", "default", "dev", interface)
    neighbours = asked(site, "ip", "neigh", "show", "dev", interface)
    answering = sorted(entry["dst"] for entry in neighbours if "lladdr" in entry)
    found = [
        address(text) for text in [*(way["gateway"] for way in gateways if "gateway" in way), *answering]
    ]
    return [other for other in found if not other.is_link_local and not other.is_multicast]
