"""The lease on a host: who has it, until when, and how the next one gets it."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.host import lease, processes, state
from tasks.remote import Address, HostBusy, LinkError, look, supervise


def test_the_lease_says_who_has_the_host_and_what_for(sshd: Address) -> None:
    """Owner, session, since when, until when; nobody is refused for asking, and a free host has none."""
    with supervise(sshd, "one", owner="ann@desk:7") as host:
        host.doing = {"cell": 3}
        host.send_heartbeat()
        host.ask("mark")
        time.sleep(2)  # it is written once in a while
        host.send_heartbeat()
        host.ask("mark")
        held = look(sshd)
        assert held is not None
        assert (held["session"], held["owner"], held["doing"]) == ("one", "ann@desk:7", {"cell": 3})
        assert 0 < held["expires_ns"] - time.time_ns() < 61e9
        said = r"another campaign has this host: one, supervisor pid \d+ of ann@desk:7"
        with pytest.raises(HostBusy, match=said) as refused, ExitStack() as stack:
            stack.enter_context(supervise(sshd, "two"))
        assert refused.value.holder["session"] == "one"
    assert look(sshd) is None  # from the moment that we have let go of it


def test_a_holder_that_hangs_past_its_time_is_ended_and_undone(sshd: Address) -> None:
    """Its processes are gone and the host is the next one's; before that moment it is busy."""
    with pytest.raises(LinkError), supervise(sshd, "one") as host:
        started = host.ask("start", name="x", argv=["sleep", "300"], log="/dev/null")
        sessions = Path(host.folder).parent
        guards = lease.read(sessions)["guards"]
        for pid, _ in reversed(guards):
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(HostBusy), supervise(sshd, "two"):
            pass
        state.write_json(sessions / lease.HOLDER, {**lease.read(sessions), "expires_mono_s": 0.0})
        with supervise(sshd, "three"):
            assert lease.read(sessions)["session"] == "three"
            assert processes.session_members(started) == set()
            assert not any(processes.alive(*guard) for guard in guards)
