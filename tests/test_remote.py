"""Hosts over real SSH: what is shipped, asked, fetched and refused."""

import hashlib
import io
import os
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from tasks import remote, transfer
from tasks.host import processes, state, undo
from tasks.remote import Address, HostError, LinkError, supervise
from tasks.shipping import shipped
from tests.processes import pid_of

SLEEPER = [
    sys.executable,
    "-c",
    "import subprocess, time; subprocess.Popen(['sleep', '300']); time.sleep(300)",
]


def gone_within(session: int, seconds: float) -> bool:
    """Whether nothing of a process session is left after at most so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not processes.session_members(session):
            return True
        time.sleep(0.1)
    return False


def test_a_session_answers_and_leaves_nothing_running(sshd: Address) -> None:
    """Leaving the session ends what it started, descendants included."""
    with supervise(sshd, "one") as host:
        assert host.ask("facts")["cores"] == os.cpu_count()
        session = host.ask("start", name="engine", argv=SLEEPER, log=f"{host.folder}/engine.log")
        assert host.ask("alive", name="engine") == {"alive": True, "exit_code": None}
        time.sleep(0.3)
        assert len(processes.session_members(session)) == 2
    assert gone_within(session, 5)


def test_a_second_campaign_is_refused_while_the_first_has_the_host(sshd: Address) -> None:
    """One campaign a host; the refusal names who has it."""
    refusal = "another campaign has this host: one, supervisor pid"
    with supervise(sshd, "one"), pytest.raises(HostError, match=refusal), supervise(sshd, "two"):
        pass
    with supervise(sshd, "three"):
        pass


def test_an_unknown_host_key_is_refused(sshd: Address, tmp_path: Path) -> None:
    """Host keys are never added by themselves."""
    (tmp_path / "known_hosts").write_text("")
    with (
        pytest.raises(HostError, match="known_hosts"),
        supervise(replace(sshd, known_hosts=tmp_path / "known_hosts"), "x"),
    ):
        pass


def test_a_changed_host_key_is_refused_with_the_remedy(sshd: Address, tmp_path: Path) -> None:
    """A host that shows another key than the known one is not talked to."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {other}\n")
    with (
        pytest.raises(HostError, match="ssh-keygen -R"),
        supervise(replace(sshd, known_hosts=tmp_path / "known_hosts"), "x"),
    ):
        pass


def test_nobody_at_the_address_is_one_clear_error(sshd: Address) -> None:
    """A dead host names itself."""
    with (
        pytest.raises(HostError, match=r"sshd: 127\.0\.0\.1 cannot be reached"),
        supervise(replace(sshd, port=1), "x"),
    ):
        pass


def test_files_arrive_whole_and_are_checked(sshd: Address, tmp_path: Path) -> None:
    """Fetched bytes are those of the host, also with an odd name."""
    with supervise(sshd, "one") as host:
        folder = host.ask("run_folder", run_id="r0123456789")
        Path(folder, "a b;$(x).jsonl").write_bytes(b"\x00\xff" * 100_000)
        sums = host.fetch(folder, tmp_path)
        assert sums["a b;$(x).jsonl"][0] == 200_000
        assert (tmp_path / "a b;$(x).jsonl").read_bytes() == b"\x00\xff" * 100_000
        host.ask("remove", run_folder=folder)
        assert not Path(folder).exists()
        with pytest.raises(HostError, match="not one of our run folders"):
            host.ask("remove", run_folder=str(tmp_path))


def test_a_link_that_goes_while_files_come_is_made_again(
    sshd: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They arrive whole, and what had arrived is not asked for twice."""
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 1_000_000)
    read, starts = paramiko.SFTPFile.read, list[int]()
    with pytest.raises(LinkError, match="the link to the supervisor is gone"), supervise(sshd, "one") as host:
        folder = host.ask("run_folder", run_id="r0123456789")
        content = os.urandom(20_000_000)
        Path(folder, "events.jsonl").write_bytes(content)

        def read_and_break(file: paramiko.SFTPFile, size: int | None = None) -> bytes:
            starts.append(file.tell())
            if len(starts) == 3:
                host.connection.close()
            return bytes(read(file, size))

        monkeypatch.setattr(paramiko.SFTPFile, "read", read_and_break)
        host.fetch(folder, tmp_path)
        assert (tmp_path / "events.jsonl").read_bytes() == content
        assert starts == sorted(starts)
        assert len(set(starts)) == len(starts) - 1
        (tmp_path / "events.jsonl").write_bytes(b"half of another")
        with pytest.raises(transfer.Damaged):
            transfer.fetch({"../x": (1, "")}, folder, tmp_path, remote._Doors(host).open)
        transfer.fetch(
            {"events.jsonl": (len(content), hashlib.sha256(content).hexdigest())},
            folder, tmp_path, remote._Doors(host, first=False).open,
        )  # fmt: skip
        assert (tmp_path / "events.jsonl").read_bytes() == content
        host.ask("mark")


def test_copies_of_runs_that_are_elsewhere_are_deleted_and_no_others(sshd: Address) -> None:
    """Those of ended sessions, by the run's id; the session's own and other runs stay."""
    with supervise(sshd, "one") as host:
        old = [Path(host.ask("run_folder", run_id=run_id)) for run_id in ("r1", "r2")]
    with supervise(sshd, "two") as host:
        mine = Path(host.ask("run_folder", run_id="r1"))
        assert host.ask("sweep", run_ids=["r1", "..", "r9"]) == [str(old[0])]
        assert [path.exists() for path in (*old, mine)] == [False, True, True]


def test_the_orchestrator_killed_leaves_the_host_clean(sshd: Address) -> None:
    """Kill -9 of the orchestrator: engine and fault are gone within 10 s."""
    script = f"""
import sys, time
from pathlib import Path
from tasks.remote import Address, supervise
address = Address("sshd", "127.0.0.1", {sshd.user!r}, {sshd.port}, Path({str(sshd.identity_file)!r}),
                  Path({str(sshd.known_hosts)!r}), sys.executable)
with supervise(address, "one") as host:
    print(host.ask("start", name="engine", argv={SLEEPER!r}, log=host.folder + "/engine.log"), flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        session = int(child.stdout.readline())
        assert processes.session_members(session)
        child.kill()
    assert gone_within(session, 10)


@pytest.mark.parametrize("victim", ["supervisor", "watchdog"])
def test_either_process_killed_the_other_cleans_up(sshd: Address, victim: str) -> None:
    """Kill -9 of the supervisor or of its watchdog: the other one ends everything within 10 s."""
    with pytest.raises(HostError), supervise(sshd, "one") as host:
        session = host.ask("start", name="fault", argv=SLEEPER, log=f"{host.folder}/fault.log")
        os.kill(pid_of(f"tasks.host.{victim}\0{host.folder}"), signal.SIGKILL)
        gone = gone_within(session, 10)
        host.ask("mark")
    assert gone  # out here: inside, the error of leaving would hide it


def sleepers(folder: Path, *names: str) -> dict[str, int]:
    """Start a sleeping process of each name, on record in the folder; {name: session}."""
    started = {}
    for name in names:
        child = processes.start(["sleep", "300"], folder / "log", state.record_of(folder, name))
        started[name] = child.pid
        threading.Thread(target=child.wait, daemon=True).start()  # nobody else reaps it
    return started


def test_what_was_started_is_on_record_before_it_runs(tmp_path: Path) -> None:
    """The record is written by the child itself; what could not become its program is off it again."""
    (session,) = sleepers(tmp_path, "engine").values()
    assert state.read_sessions(tmp_path) == {"engine": (session, processes.start_ticks(session))}
    assert undo.everything(tmp_path) == []
    assert (state.read_sessions(tmp_path), processes.session_members(session)) == ({}, set())


def test_a_full_disk_does_not_stop_the_undo(tmp_path: Path) -> None:
    """Ending what runs writes nothing; the heartbeat's last word stands."""
    started = sleepers(tmp_path, "fault", "engine")
    state.beat(tmp_path)
    said = (tmp_path / "heartbeat").read_text()
    unlimited, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # every write now fails with an OSError
    try:
        state.beat(tmp_path)
        failures = undo.everything(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, hard))
    assert failures == []
    assert (tmp_path / "heartbeat").read_text() == said
    assert [session for session in started.values() if processes.session_members(session)] == []


def test_what_cannot_be_ended_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the system's at the fault is reported, stays on record, and the engine is ended."""
    started, end_session = sleepers(tmp_path, "fault", "engine"), processes.end_session

    def end(
        session: int, _grace_s: float = 0
    ) -> None:  # the system refuses: not to be had from a real kernel as root
        if session == started["fault"]:
            raise PermissionError(1, "Operation not permitted")
        end_session(session)

    monkeypatch.setattr(processes, "end_session", end)
    assert undo.everything(tmp_path) == ["fault: [Errno 1] Operation not permitted"]
    assert processes.session_members(started["engine"]) == set()
    assert list(state.read_sessions(tmp_path)) == ["fault"]
    assert (tmp_path.parent / state.DIRTY).exists()
    monkeypatch.undo()
    assert undo.everything(tmp_path) == []
    assert processes.session_members(started["fault"]) == set()


def test_a_silent_orchestrator_loses_the_host(sshd: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a heartbeat for 10 s the host cleans itself, though the link still stands."""
    monkeypatch.setattr("tasks.remote.HEARTBEAT_EVERY_S", 3600.0)
    with pytest.raises(HostError), supervise(sshd, "one") as host:
        session = host.ask("start", name="fault", argv=SLEEPER, log=f"{host.folder}/fault.log")
        too_soon, gone = gone_within(session, 5), gone_within(session, 12)
        host.ask("mark")
    assert (too_soon, gone) == (False, True)  # out here: inside, the error of leaving would hide it


def test_what_is_shipped_is_the_standard_library_side_alone() -> None:
    """The same bytes every time; two packages and one file of NVML's, and nothing that an editor left."""
    assert shipped() == shipped()
    with tarfile.open(fileobj=io.BytesIO(shipped())) as tar:
        names = tar.getnames()
    rest = [name for name in names if not name.startswith(("tasks/host/", "injectors/"))]
    assert rest == ["tasks/__init__.py", "vendor/pynvml.py"]
    kinds = {Path(name).suffix or Path(name).name for name in names}
    assert kinds == {".py", ".c", "METADATA", ".txt"}
    assert len(names) == len(set(names))


def test_a_port_in_use_names_its_owner(sshd: Address) -> None:
    """The refusal names the port and the process that has it."""
    with supervise(sshd, "one") as host:
        with pytest.raises(HostError, match=f"port {sshd.port} is in use by sshd"):
            host.ask("port", wanted=sshd.port)
        assert host.ask("port", wanted=None) > 1024


def test_requests_are_json_lines(sshd: Address) -> None:
    """A name that is no request is refused in words."""
    with supervise(sshd, "one") as host, pytest.raises(HostError, match="no such request: _end"):
        host.ask("_end")


def test_a_file_that_arrives_damaged_is_refused(sshd: Address, tmp_path: Path) -> None:
    """What was fetched is held against the digest taken on the host."""
    with supervise(sshd, "one") as host:
        folder = host.ask("run_folder", run_id="r0123456789")
        Path(folder, "counters.jsonl").write_text("as recorded")
        sums = host.ask("checksums", run_folder=folder)
        Path(folder, "counters.jsonl").write_text("as damaged.")
        ask = host.ask
        host.ask = lambda do, **_: sums if do == "checksums" else ask(do)  # type: ignore[method-assign]  # the link
        try:
            with pytest.raises(HostError, match=r"counters\.jsonl arrived damaged"):
                host.fetch(folder, tmp_path)
        finally:
            host.ask = ask  # type: ignore[method-assign]  # put back for the close
