"""A link that goes dead without a FIN: the host cleans itself, and nothing here waits for ever."""

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from tasks import remote
from tasks.fault import Fault
from tasks.host import fault, state
from tasks.remote import HostError, restore, supervise
from tests.namespaces import PEER, Network, command

CLEAN_WITHIN_S = 30


def processes(network: Network) -> set[str]:
    """The names of what runs on the host."""
    pids = command("ip", "netns", "pids", network.host).split()
    names = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # gone meanwhile
            names.add(Path("/proc", pid, "comm").read_text().strip())
    return names


def stands(network: Network) -> tuple[bool, bool]:
    """Whether a connection between the test and the host's sshd is open as (we, the host's kernel) see it."""
    port = f"sport = :{network.address.port}"
    ours = command("ss", "-Htn", "state", "established", "dst", network.address.address)
    return bool(ours.strip()), bool(network.on_host("ss", "-Htn", "state", "established", port).strip())


def remains(network: Network, folder: Path, qdiscs: object) -> list[str]:
    """What of a session is still there: processes other than sshd, a fault on record, qdiscs."""
    left = [name for name in sorted(processes(network)) if not name.startswith("sshd")]
    left += [str(path) for path in (folder / fault.STATE, folder.parent / state.DIRTY) if path.exists()]
    return left + ([] if network.qdiscs() == qdiscs else ["other qdiscs than before"])


def given(anomaly: str, network: Network) -> dict[str, object]:
    """A mild dose of it."""
    if anomaly == "cpu_compute_squeeze_out":
        return {"threads_per_cpu": 1}
    return {"interface": network.interface, "mbit": 10, "peer": PEER}


@pytest.mark.parametrize("anomaly", ["cpu_compute_squeeze_out", "network_contention"])
def test_the_link_cut_under_a_fault_the_host_is_clean_within_30_s(network: Network, anomaly: str) -> None:
    """Neither end hears of it; the host undoes it all the same, and takes the next campaign as it is."""
    qdiscs = network.qdiscs()
    with pytest.raises(HostError, match=r"^far: "), supervise(network.address, "one") as host:
        folder = Path(host.folder)
        caused = Fault(host, anomaly, given(anomaly, network))
        caused.plan(cpus=[0], seconds=120, log=str(folder / "log"))
        caused.apply()
        assert (folder / fault.STATE).exists()
        network.cut()
        end = time.monotonic() + CLEAN_WITHIN_S
        with pytest.raises(HostError, match=r"^far: no answer to 'fault_ended' within \d+ s"):
            host.ask("fault_ended", timeout_s=2)
        while (left := remains(network, folder, qdiscs)) and time.monotonic() < end:
            time.sleep(0.2)
        assert left == []
        assert stands(network) == (True, True)
        network.mend()
    assert restore(network.address) == {"found": [], "left": []}
    with supervise(network.address, "two") as host:
        assert host.ask("fault_ended") == "it was undone"


def test_what_is_asked_over_a_dead_link_ends_and_names_the_host(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file, a new connection, the close: a HostError each, after as long as each may take."""
    monkeypatch.setattr(remote, "COMMAND_S", 2.0)
    monkeypatch.setattr(remote, "CONNECT_S", 2.0)
    silent = r"^far: no answer to 'close' within 30 s; its log is in "
    with pytest.raises(HostError, match=silent), supervise(network.address, "one") as host:
        network.cut()
        with pytest.raises(ConnectionError), remote._Doors(host).open() as sftp:
            sftp.get(f"{host.folder}/heartbeat", str(tmp_path / "heartbeat"))
        with pytest.raises(HostError, match=rf"^far: {network.address.address} cannot be reached"):
            restore(network.address)


def test_a_link_that_dies_right_after_the_login_is_noticed(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To open a channel takes at most as long as to connect."""
    monkeypatch.setattr(remote, "CONNECT_S", 2.0)
    ship = remote._ship

    def cut_and_ship(*connected: Any) -> tuple[str, str]:  # noqa: ANN401  what it is given goes on as it is
        network.cut()
        return ship(*connected)

    monkeypatch.setattr(remote, "_ship", cut_and_ship)
    with pytest.raises(HostError, match=r"^far: Timeout opening channel"):
        restore(network.address)
