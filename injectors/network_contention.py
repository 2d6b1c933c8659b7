"""Network contention: what leaves the host by one interface gets a given rate, and delay and loss if asked.

An htb qdisc at the interface's root lets pass, untouched, what goes to the SSH peer, ARP and neighbour
discovery; all the rest shares one class of `mbit` with a queue of 50 ms, or with netem. Only what leaves is
slowed, and RDMA does not pass tc. Deleting the qdisc has the kernel put its default back (mq with its queues
included), so any other than the default is refused. Runs on the host, standard library only.

The victim's measure is what a UDP stream of twice the limit gets through to `peer`, where nobody need listen.
Delay and loss come on top of the limit: the detail gives them as the kernel reads them back, unmeasured.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from injectors import _networks, _udp_stream
from tasks.host import readings
from tasks.host.site import Site, Trouble
from tasks.host.strengths import Number, Word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.host.strengths import Parameters

INTERFACE = r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,14}"
STRENGTH: Parameters = {
    "interface": Word(None, INTERFACE, "the name of a network interface"),
    "mbit": Number(100, 1, 1000, "Mbit/s for all that leaves by the interface"),
    "delay_ms": Number(0, 0, 10_000, "further delay of each packet, in ms", whole=False),
    "loss_pct": Number(0, 0, 90, "share of the packets lost, in %", whole=False),
    "peer": Word(None, r"[0-9A-Fa-f:.]{2,45}", "an IP address that is reached over the interface"),
}
METRIC, UNIT = "probe_mbit", "Mbit/s"
HANDLE, LIMITED, QUEUE = "1ca7:", "1ca7:2", "1ca8:"  # the first is how we know our own
LOSES, OVER, NOISE = 0.3, 0.25, 0.15
QUEUE_MS, PACKET_BITS = 50, 12_000
CAP_NET_ADMIN = 12
ARP = "match u32 0x00010800 0xffffffff at 0"
IS_V4, IS_V6 = "match u8 0x40 0xf0 at 0", "match u8 0x60 0xf0 at 0"
NEIGHBOURS = [f"{IS_V6} match u8 58 0xff at 6 match u8 {kind} 0xff at 40" for kind in (135, 136)]  # ICMPv6


def requirements(site: Site) -> str | None:
    """What this host lacks, in one line, or None. Tries the kernel in a network namespace of its own."""
    named, known = site.strength["interface"], [name for _, name in socket.if_nameindex()]
    if named not in known:
        return f"no network interface {named or 'is named'}: give interface, one of {', '.join(known)}"
    rights = re.search(r"^CapEff:\s*(\w+)", readings.text("/proc/self/status"), re.MULTILINE)
    if rights is None or not int(rights[1], 16) >> CAP_NET_ADMIN & 1:
        return "no right to change the network (CAP_NET_ADMIN): log in as root"
    try:
        saved(site)
        _ssh_peer_can_be_exempt(site)
        _probed(site)
        _rehearse(site)
    except Trouble as trouble:
        return str(trouble)
    return None


def saved(site: Site) -> dict[str, Any]:
    """What stands there: the kernel's default, which comes back by itself. Raises Trouble for any other."""
    interface = site.strength["interface"]
    qdiscs = _networks.asked(site, "tc", "qdisc", "show", "dev", interface)
    kind, handle = _networks.root_qdisc(qdiscs)
    if handle != _networks.KERNELS_OWN:
        raise Trouble(
            f"{interface} has a qdisc of somebody's choice, {kind} {handle}, which we could not put back; "
            f"if nobody needs it: tc qdisc del dev {interface} root"
        )
    return {"qdiscs": qdiscs}


def apply(site: Site) -> str:
    """Put the limit on the interface, and before it what is exempt."""
    interface, mbit = site.strength["interface"], site.strength["mbit"]
    tc = _networks.tool("tc")
    site.run([tc, "-batch", str(_script(site, interface))])
    queue = site.run([tc, "qdisc", "show", "dev", interface, "parent", LIMITED]).strip()
    exempt = f"all but to {site.peer} (SSH)" if site.peer else "nothing exempt, since no SSH peer is known"
    return f"{mbit} Mbit/s out of {interface}, {exempt}; {queue}"


def revert(site: Site) -> None:
    """Delete our qdisc and no other: the kernel puts its default back."""
    if not left(site):
        return
    ours = ["dev", site.strength["interface"], "root", "handle", HANDLE]
    try:
        site.run([_networks.tool("tc"), "qdisc", "del", *ours])
    except Trouble:
        if left(site):  # else somebody was faster
            raise


def left(site: Site) -> str | None:
    """What of it is still there."""
    interface = site.strength["interface"]
    if not Path("/sys/class/net", interface).exists():
        return None
    found = _networks.root_qdisc(_networks.asked(site, "tc", "qdisc", "show", "dev", interface))
    return f"{interface} still has our qdisc htb {HANDLE}" if found == ("htb", HANDLE) else None


def probe(site: Site) -> float:
    """The victim's measure: Mbit/s that leave of a stream of twice the limit."""
    return _udp_stream.mbit_per_s(_probed(site), 2 * site.strength["mbit"])


def proved(site: Site, before: float, during: float) -> bool:
    """Whether the stream lost what a limit takes, and got no more than the limit."""
    return during < before * (1 - LOSES) and during <= site.strength["mbit"] * (1 + OVER)


def undone(_site: Site, before: float, after: float) -> bool:
    """Whether the stream gets through as before."""
    return after >= before * (1 - NOISE)


def commands(interface: str, ssh_peer: str | None, strength: Mapping[str, Any]) -> list[tuple[str, str]]:
    """[(kernel module, line for `tc -batch`)]: what is exempt comes before the limit does.

    `protocol all`, since what a VLAN on the interface sends is no `protocol ip` here.
    """
    mbit, delay, loss = strength["mbit"], strength["delay_ms"], strength["loss_pct"]
    filters = f"filter add dev {interface} parent {HANDLE} protocol all prio 1 u32"
    leaf = f"qdisc add dev {interface} parent {LIMITED} handle {QUEUE}"
    if delay or loss:
        packets = 1000 + int(mbit * 1000 * delay / PACKET_BITS)  # those on their way are in the queue
        queue = ("sch_netem", f"{leaf} netem limit {packets} delay {delay:f}ms loss {loss:f}%")
    else:
        queue = ("sch_fifo", f"{leaf} pfifo limit {max(mbit * 1000 * QUEUE_MS // PACKET_BITS, 32)}")
    limited = f"class add dev {interface} parent {HANDLE} classid {LIMITED} htb"
    return [
        ("sch_htb", f"qdisc add dev {interface} root handle {HANDLE} htb default 2"),
        *(("cls_u32", f"{filters} {match} flowid {HANDLE}0") for match in (ARP, *NEIGHBOURS, *_to(ssh_peer))),
        ("sch_htb", f"{limited} rate {mbit}mbit ceil {mbit}mbit quantum 60000"),
        queue,
    ]


def _to(ssh_peer: str | None) -> list[str]:
    if ssh_peer is None:
        return []
    address = _networks.address(ssh_peer)
    is_v6 = address.version == 6  # noqa: PLR2004  of IP
    return [f"{IS_V6} match ip6 dst {address}/128" if is_v6 else f"{IS_V4} match ip dst {address}/32"]


def _script(site: Site, interface: str) -> Path:
    lines = [line for _, line in commands(interface, site.peer, site.strength)]
    path = site.work / f"{interface}.tc"
    path.write_text("\n".join(lines) + "\n")
    return path


def _rehearse(site: Site) -> None:
    argv = ["unshare", "--net", _networks.tool("tc"), "-batch", str(_script(site, "lo"))]
    try:
        site.run(argv)
    except Trouble as trouble:
        failed = re.search(r"(?:Error: (.*)\n)?Command failed .*:(\d+)", str(trouble))
        if failed is None:  # no namespace to be had in this container: apply will find out
            return
        module = commands("lo", site.peer, site.strength)[int(failed[2]) - 1][0]
        raise Trouble(f"no {module[4:]} in this kernel ({module}): {failed[1] or trouble}") from trouble


def _ssh_peer_can_be_exempt(site: Site) -> None:
    if site.peer is None:
        return
    way = _networks.reached_over(site, _networks.address(site.peer))
    if way != site.strength["interface"] and _networks.is_tunnel(way):
        raise Trouble(f"SSH comes through the tunnel {way}, which may use {site.strength['interface']}: "
                      "it could not be told from what is to be slowed")  # fmt: skip


def _probed(site: Site) -> _networks.IP:
    """Whom the probe stream goes to. Raises Trouble."""
    interface, peer = site.strength["interface"], site.strength["peer"]
    exempt = _networks.address(site.peer) if site.peer else None
    if peer is None:
        others = [other for other in _networks.next_to(site, interface) if other != exempt]
        if not others:
            raise Trouble(f"nobody to send a probe stream to over {interface}: give peer=ADDRESS")
        return others[0]
    chosen = _networks.address(peer)
    if chosen == exempt:
        raise Trouble(f"peer {peer} is where SSH comes from, which is exempt: give another peer")
    way = _networks.reached_over(site, chosen)
    if way != interface:
        raise Trouble(f"peer {peer} is reached over {way}, not over {interface}: give another peer")
    return chosen
