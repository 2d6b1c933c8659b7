"""The fault `network_contention`: what it asks of the kernel, whom it spares, that nothing of it stays."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from injectors import _networks, network_contention
from tasks.fault import Fault
from tasks.host import fault, state, strengths
from tasks.host.site import Site, Trouble, read, write
from tasks.remote import HostError, restore, supervise
from tests.namespaces import PEER, PEER_6, Network
from tests.tree import ROOT

ASK = """
import ipaddress, json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from injectors import _udp_stream, network_contention
from tasks.host.site import Trouble, read
try:
    if sys.argv[2] == "stream":
        said = _udp_stream.mbit_per_s(ipaddress.ip_address(sys.argv[3]), 20)
    else:
        said = getattr(network_contention, sys.argv[2])(read(Path(sys.argv[3])))
    print(json.dumps({"value": said}))
except Trouble as trouble:
    print(json.dumps({"trouble": str(trouble)}))
"""
FILTER = "filter add dev eth0 parent 1ca7: protocol all prio 1 u32"
NEIGHBOURS = [
    f"{FILTER} match u32 0x00010800 0xffffffff at 0 flowid 1ca7:0",
    f"{FILTER} match u8 0x60 0xf0 at 0 match u8 58 0xff at 6 match u8 135 0xff at 40 flowid 1ca7:0",
    f"{FILTER} match u8 0x60 0xf0 at 0 match u8 58 0xff at 6 match u8 136 0xff at 40 flowid 1ca7:0",
]


def complete(**given: Any) -> dict[str, Any]:  # noqa: ANN401  JSON
    """A whole strength."""
    return strengths.complete("network_contention", network_contention.STRENGTH, given)


@pytest.fixture
def site(network: Network, tmp_path: Path) -> Site:
    """1 Mbit/s on the host's interface to its peer."""
    strength = complete(interface=network.interface, mbit=1, peer=PEER)
    log = str(tmp_path / "log")
    return Site("network_contention", strength, str(tmp_path), log, [0], 30, peer=network.mine)


def stronger(site: Site, **strength: Any) -> Site:  # noqa: ANN401  JSON
    """The same fault with another strength."""
    return replace(site, strength={**site.strength, **strength})


def ask(network: Network, do: str, about: Site | str, *within: str) -> Any:  # noqa: ANN401  JSON
    """Have a fresh process on the host do it: a function of the injector, or a `stream` to an address."""
    if isinstance(about, Site):
        path = Path(about.folder, "site.json")
        write(about, path)
        about = str(path)
    said = json.loads(network.on_host(*within, sys.executable, "-c", ASK, str(ROOT), do, about))
    if "trouble" in said:
        raise Trouble(said["trouble"])
    return said["value"]


def wait_until(true: Callable[[], object], seconds: float) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.1)


def test_what_is_exempt_stands_before_the_limit() -> None:
    """The kernel's modules, and the lines for tc, in an order that never slows the SSH peer."""
    assert network_contention.commands("eth0", "203.0.113.7", complete()) == [
        ("sch_htb", "qdisc add dev eth0 root handle 1ca7: htb default 2"),
        *(("cls_u32", line) for line in NEIGHBOURS),
        ("cls_u32", f"{FILTER} match u8 0x40 0xf0 at 0 match ip dst 203.0.113.7/32 flowid 1ca7:0"),
        ("sch_htb",
         "class add dev eth0 parent 1ca7: classid 1ca7:2 htb rate 100mbit ceil 100mbit quantum 60000"),
        ("sch_fifo", "qdisc add dev eth0 parent 1ca7:2 handle 1ca8: pfifo limit 416"),
    ]  # fmt: skip


def test_delay_and_loss_take_the_place_of_the_queue_and_hold_what_is_on_its_way() -> None:
    """100 Mbit/s for 60 ms are 500 packets; an SSH peer of link-local IPv6 is exempt by its bare address."""
    lines = [line for _, line in network_contention.commands("eth0", "fe80::7%eth0", complete(delay_ms=60))]
    assert lines[4] == f"{FILTER} match u8 0x60 0xf0 at 0 match ip6 dst fe80::7/128 flowid 1ca7:0"
    assert lines[-1] == (
        "qdisc add dev eth0 parent 1ca7:2 handle 1ca8: netem limit 1500 delay 60.000000ms loss 0.000000%"
    )
    lossy = network_contention.commands("eth0", None, complete(loss_pct=0.00001))
    assert lossy[-1] == (
        "sch_netem",
        "qdisc add dev eth0 parent 1ca7:2 handle 1ca8: netem limit 1000 delay 0.000000ms loss 0.000010%",
    )


def test_without_an_ssh_peer_only_the_neighbours_are_exempt() -> None:
    """Nobody is made up."""
    lines = network_contention.commands("eth0", None, complete())
    assert [line for module, line in lines if module == "cls_u32"] == NEIGHBOURS


@pytest.mark.parametrize(
    "given",
    [
        {"interface": "-batch"},
        {"interface": "../eth0"},
        {"interface": "eth0 root"},
        {"interface": "sixteen-letters-"},
        {"mbit": 0},
        {"mbit": 1001},
        {"mbit": 1.5},
        {"delay_ms": -1},
        {"loss_pct": 91},
        {"peer": "example.org"},
    ],
)
def test_a_strength_that_tc_would_read_otherwise_is_refused(given: dict[str, Any]) -> None:
    """No word of a spec is an option of tc's or a path, and no limit needs more than 2 Gbit/s to be shown."""
    with pytest.raises(strengths.Unusable, match=f"strength {next(iter(given))} is "):
        complete(**given)


@pytest.mark.parametrize(
    ("before", "during", "proved"),
    [(20, 10, True), (20, 12.4, True), (20, 12.6, False), (13, 10, False), (0, 0, False)],
)
def test_a_limit_is_proved_by_what_it_takes_and_by_what_it_lets_through(
    before: float, during: float, *, proved: bool
) -> None:
    """The stream loses 30 % or more, and gets no more than a quarter over the limit."""
    site = Site("network_contention", complete(mbit=10), "", "", [0], 1)
    assert network_contention.proved(site, before, during) is proved


def test_a_missing_tool_is_named_with_its_package() -> None:
    """Whoever lacks one lacks both."""
    with pytest.raises(Trouble, match="no tc-of-old on the host; on Debian: apt-get install iproute2"):
        _networks.tool("tc-of-old")


def test_the_fault_takes_what_it_says_and_leaves_the_interface_as_it_was(
    network: Network, tmp_path: Path
) -> None:
    """Over SSH: measured before, during and after; the supervisor goes on answering; the default is back."""
    before = network.qdiscs()
    network.on_host("ip", "route", "add", "default", "via", PEER)  # so that `peer` can be left out
    given = {"interface": network.interface, "mbit": 10}
    with supervise(network.address, "one") as host:
        slow = Fault(host, "network_contention", given)
        slow.plan(cpus=[0], seconds=60, log=str(tmp_path / "log"))
        slow.measure("before")
        slow.apply()
        assert [qdisc["handle"] for qdisc in network.qdiscs() if qdisc["dev"] == network.interface] == [
            "1ca7:",
            "1ca8:",
        ]
        slow.measure("during")
        asked = time.monotonic()
        host.ask("mark")
        print(f"an answer took {time.monotonic() - asked:.4f} s under the fault")  # noqa: T201  for pytest -s
        slow.revert()
        assert network.qdiscs() == before
        slow.judge()
    assert {key: slow.effect[key] for key in ("proved", "undone", "metric", "unit")} == {
        "proved": True, "undone": True, "metric": "probe_mbit", "unit": "Mbit/s",
    }  # fmt: skip
    assert slow.effect["during"] <= 12.5 < slow.effect["before"]
    detail = f"10 Mbit/s out of {network.interface}, all but to {network.mine} (SSH); qdisc pfifo 1ca8:"
    assert slow.effect["detail"].startswith(detail)


def test_on_the_interface_that_ssh_comes_by_the_link_is_spared(network: Network, tmp_path: Path) -> None:
    """Of 4 MB over SSH nothing is in the queue of a limit of 1 Mbit/s, which others of that wire share."""
    given = {"interface": network.uplink, "mbit": 1, "peer": network.bystander}
    with supervise(network.address, "one") as host:
        slow = Fault(host, "network_contention", given)
        slow.plan(cpus=[0], seconds=60, log=str(tmp_path / "log"))
        slow.measure("before")
        slow.apply()
        folder = host.ask("run_folder", run_id="r0123456789")
        Path(folder, "large").write_bytes(os.urandom(4_000_000))
        host.fetch(folder, tmp_path)
        limited = sum(qdisc["bytes"] for qdisc in network.qdiscs("-statistics") if qdisc["handle"] == "1ca8:")
        slow.measure("during")
        slow.revert()
        slow.judge()
    assert (tmp_path / "large").stat().st_size == 4_000_000
    assert limited < 100_000
    assert slow.effect["during"] <= 1.25


@pytest.mark.parametrize(("spared", "slowed"), [(PEER, PEER_6), (PEER_6, PEER)])
def test_one_address_is_spared_and_its_neighbour_is_not(
    network: Network, site: Site, spared: str, slowed: str
) -> None:
    """By IPv4 and by IPv6: of a stream of 20 Mbit/s one passes as it is, the other as 1 Mbit/s."""
    network.on_host("ip", "neigh", "flush", "dev", network.interface)
    ask(network, "apply", replace(site, peer=spared))
    assert ask(network, "stream", slowed) <= 1.25
    assert ask(network, "stream", spared) > 10
    ask(network, "revert", site)


def test_neighbours_find_each_other_whatever_the_queue(network: Network, site: Site) -> None:
    """Asking for a hardware address goes past the limit: else SSH would be lost for want of one."""
    ask(network, "apply", replace(site, peer=None))
    for address in (PEER, PEER_6):
        network.on_host("ip", "neigh", "flush", "dev", network.interface)
        ask(network, "stream", address)
    (root,) = (qdisc for qdisc in network.qdiscs("-statistics") if qdisc["handle"] == "1ca7:")
    (queue,) = (qdisc for qdisc in network.qdiscs("-statistics") if qdisc["handle"] == "1ca8:")
    assert root["options"]["direct_packets_stat"] >= 2
    assert queue["packets"] > 20
    ask(network, "revert", site)


def test_undone_from_disk_alone_at_any_time_and_any_number_of_times(network: Network, site: Site) -> None:
    """Before it began, half-way, twice, and four at once: each in a process of its own."""
    before = network.qdiscs()
    ask(network, "revert", site)
    assert (ask(network, "left", site), network.qdiscs()) == (None, before)
    network.on_host(*f"tc qdisc add dev {network.interface} root handle 1ca7: htb".split())
    assert ask(network, "left", site) == f"{network.interface} still has our qdisc htb 1ca7:"
    ask(network, "revert", site)
    ask(network, "revert", site)
    assert (ask(network, "left", site), network.qdiscs()) == (None, before)
    assert "1 Mbit/s out of" in ask(network, "apply", site)
    path = str(Path(site.folder, "site.json"))
    argv = ["ip", "netns", "exec", network.host, sys.executable, "-c", ASK, str(ROOT), "revert", path]
    four = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [json.loads(one.communicate(timeout=30)[0]) for one in four] == [{"value": None}] * 4
    assert network.qdiscs() == before


def test_a_qdisc_that_somebody_chose_is_neither_replaced_nor_deleted(network: Network, site: Site) -> None:
    """The refusal names it; a revert passes by."""
    network.on_host(*f"tc qdisc add dev {network.interface} root handle 5: pfifo".split())
    chosen = network.qdiscs()
    refusal = f"{network.interface} has a qdisc of somebody's choice, pfifo 5:, which we could not put back"
    assert ask(network, "requirements", site).startswith(refusal)
    with pytest.raises(Trouble, match=refusal):
        ask(network, "saved", site)
    with pytest.raises(Trouble, match="tc exited with"):
        ask(network, "apply", site)
    ask(network, "revert", site)
    assert (ask(network, "left", site), network.qdiscs()) == (None, chosen)


def test_an_interface_that_is_gone_has_nothing_left(network: Network, site: Site) -> None:
    """With an interface its qdiscs go."""
    site = stronger(site, interface="gone0")
    ask(network, "revert", site)
    assert ask(network, "left", site) is None


def test_what_is_missing_is_named(network: Network, site: Site) -> None:
    """In one line: the interface, somebody to send to, another one than SSH's, on this interface."""
    before, known = network.qdiscs(), f"one of lo, {network.uplink}, {network.interface}"
    unnamed = stronger(site, interface=None)
    assert ask(network, "requirements", unnamed) == f"no network interface is named: give interface, {known}"
    unknown = stronger(site, interface="eth9")
    assert ask(network, "requirements", unknown) == f"no network interface eth9: give interface, {known}"
    assert ask(network, "requirements", stronger(site, peer=None)) == (
        f"nobody to send a probe stream to over {network.interface}: give peer=ADDRESS"
    )
    assert ask(network, "requirements", stronger(site, peer=network.mine)) == (
        f"peer {network.mine} is where SSH comes from, which is exempt: give another peer"
    )
    far = f"peer {network.bystander} is reached over {network.uplink}, not over {network.interface}"
    assert ask(network, "requirements", stronger(site, peer=network.bystander)) == f"{far}: give another peer"
    assert ask(network, "requirements", stronger(site, peer="1.2.3.456")) == "1.2.3.456 is no IP address"
    assert ask(network, "requirements", site) is None
    assert network.qdiscs() == before


def test_a_missing_right_is_named(network: Network, site: Site) -> None:
    """Root without it, as in a container, is refused like anybody."""
    refusal = ask(network, "requirements", site, "setpriv", "--bounding-set", "-net_admin")
    assert refusal == "no right to change the network (CAP_NET_ADMIN): log in as root"


def test_ssh_through_a_tunnel_is_not_risked(network: Network, site: Site) -> None:
    """What a tunnel sends has other addresses: it cannot be told from what is to be slowed."""
    try:
        network.on_host("ip", "tuntap", "add", "dev", "tun9", "mode", "tun")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no tunnel here: {error.stderr.strip()}")
    network.on_host("ip", "link", "set", "tun9", "up")
    network.on_host("ip", "route", "add", "203.0.113.7", "dev", "tun9")
    assert ask(network, "requirements", replace(site, peer="203.0.113.7")) == (
        f"SSH comes through the tunnel tun9, which may use {network.interface}: "
        "it could not be told from what is to be slowed"
    )


def test_delay_and_loss_are_refused_where_the_kernel_has_no_netem(network: Network, site: Site) -> None:
    """Found out without touching the interface; where it has netem, it is on, and read back."""
    before, worse = network.qdiscs(), stronger(site, delay_ms=20.0, loss_pct=5.0)
    refusal = ask(network, "requirements", worse)
    assert network.qdiscs() == before
    if refusal is None:
        assert "delay 20ms loss 5%" in ask(network, "apply", worse)
        ask(network, "revert", worse)
    else:
        assert refusal == "no netem in this kernel (sch_netem): Specified qdisc kind is unknown."
        with pytest.raises(Trouble, match="Specified qdisc kind is unknown"):
            ask(network, "apply", worse)
        assert ask(network, "left", worse)
        ask(network, "revert", worse)
    assert network.qdiscs() == before


@pytest.mark.parametrize("killed", ["holder", "guards", "all"])
def test_killed_at_once_the_interface_is_clean(network: Network, tmp_path: Path, killed: str) -> None:
    """Kill -9 of the fault's process, of supervisor and watchdog, of all three: undone, or by a restore."""
    before = network.qdiscs()
    given = {"interface": network.interface, "mbit": 10, "peer": PEER}
    with (
        pytest.raises(HostError) if killed != "holder" else contextlib.nullcontext(),
        supervise(network.address, "one") as host,
    ):
        slow = Fault(host, "network_contention", given)
        slow.plan(cpus=[0], seconds=120, log=str(tmp_path / "log"))
        slow.apply()
        site = read(Path(host.folder, fault.STATE))
        assert site
        holder, _ = state.read_sessions(Path(host.folder))[fault.HOLDER]
        guards = [pid for pid, _ in site.guards]
        for pid in {"holder": [holder], "guards": guards, "all": [*guards, holder]}[killed]:
            os.kill(pid, signal.SIGKILL)
        if killed != "all":
            wait_until(lambda: network.qdiscs() == before, 15)
    if killed == "all":
        assert network.qdiscs() != before
        with pytest.raises(HostError, match="this host is dirty"), supervise(network.address, "two"):
            pass
    assert restore(network.address)["left"] == []
    assert network.qdiscs() == before
    assert restore(network.address) == {"found": [], "left": []}
