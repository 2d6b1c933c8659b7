"""The host `lab`, seen with the real `ssh`, with asyncssh, and with Fabric."""

import asyncio
import getpass
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncssh
import pytest
from fabric import Connection
from paramiko import RejectPolicy

from tasks.lab.loopback import LabError, LoopbackHost, loopback_host

ROOT = Path(__file__).parents[1]
needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="the ssh client is not installed")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHost]:
    """One running host for the tests that leave it as it is."""
    with loopback_host(tmp_path_factory.mktemp("home")) as host:
        yield host


def ssh(host: LoopbackHost, *words: str, **changed: str) -> list[str]:
    """The ssh client's command line; `changed` options win over those that let it in."""
    options = {
        "Port": str(host.port),
        "User": host.user,
        "IdentityFile": str(host.identity_file),
        "UserKnownHostsFile": str(host.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "BatchMode": "yes",
        "ConnectTimeout": "10",
    }
    pairs = [word for name, value in {**options, **changed}.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", *pairs, host.address, *words]


def run(host: LoopbackHost, *words: str, stdin: str = "", **changed: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the host to its end."""
    command = ssh(host, *words, **changed)
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def dial(host: LoopbackHost, **changed: object) -> AbstractAsyncContextManager[asyncssh.SSHClientConnection]:
    """Connect with asyncssh, with the host's own key and book of known hosts."""
    options: dict[str, object] = {
        "username": host.user,
        "client_keys": [str(host.identity_file)],
        "known_hosts": str(host.known_hosts),
        "config": None,
        "agent_path": None,
        **changed,
    }
    return asyncssh.connect(host.address, host.port, **options)


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def started(host: LoopbackHost, script: str) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a script on the host under a client of its own; returns the client and the script's pid there."""
    (host.home / "pid").unlink(missing_ok=True)
    client = subprocess.Popen(
        ssh(host, f"echo $$ > pid.new; mv pid.new pid; {script}"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    wait_until((host.home / "pid").exists)
    return client, int((host.home / "pid").read_text())


def kill(client: "subprocess.Popen[bytes]") -> None:
    """End a client as a power cut would."""
    client.kill()
    client.communicate()


@needs_ssh
def test_a_command_gives_its_output_errors_and_exit_code(lab: LoopbackHost) -> None:
    """Both streams arrive apart, and the exit code is the command's."""
    done = run(lab, "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


@needs_ssh
def test_a_session_lives_in_the_hosts_folder_with_next_to_no_environment(lab: LoopbackHost) -> None:
    """Nothing of the user's home or of the orchestrator's environment is seen by a command."""
    done = run(lab, "pwd; env | cut -d= -f1 | sort; echo $HOME")
    assert done.stdout.split() == [str(lab.home), "HOME", "LANG", "PATH", "PWD", str(lab.home)]


@needs_ssh
def test_a_session_leads_a_process_group_and_ignores_no_signal(lab: LoopbackHost) -> None:
    """A command can be signalled as a group, and Ctrl-C means to it what it means anywhere."""
    done = run(lab, "ps -o pid=,pgid=,sid= -p $$; grep SigIgn /proc/self/status")
    process, group, session, _, ignored = done.stdout.split()
    assert process == group == session
    assert int(ignored, 16) & 1 << (signal.SIGINT - 1) == 0


@needs_ssh
def test_input_reaches_the_command_and_so_does_its_end(lab: LoopbackHost) -> None:
    """Binary-safe, and `cat` ends when the client's input does; without a command there is a shell."""
    text = "x" * 300_000
    assert run(lab, "cat", stdin=text).stdout == text
    assert run(lab, stdin="echo $((6 * 7))\n").stdout == "42\n"


@needs_ssh
def test_much_output_arrives_whole(lab: LoopbackHost) -> None:
    """Five megabytes, more than any buffer between, and none of it lost at the end."""
    assert run(lab, "head -c 5000000 /dev/zero | tr '\\0' a").stdout == "a" * 5_000_000


@needs_ssh
def test_a_background_process_keeps_the_session_while_it_holds_the_output(lab: LoopbackHost) -> None:
    """As with OpenSSH: what is started with `&` and not redirected is waited for, and heard."""
    assert run(lab, "(sleep 0.3; echo late) & echo soon").stdout == "soon\nlate\n"


@needs_ssh
def test_a_request_for_a_terminal_does_no_harm(lab: LoopbackHost) -> None:
    """There is none to be had, and the command runs all the same."""
    done = run(lab, "tty; echo there", RequestTTY="force")
    assert (done.stdout.split("\n")[:2], done.returncode) == (["not a tty", "there"], 0)


def test_a_signal_goes_to_the_command_and_comes_back_as_its_end(lab: LoopbackHost) -> None:
    """A client may signal the command; how a command was killed is reported by name."""

    async def signalled() -> tuple[str, str]:
        async with dial(lab) as connection, connection.create_process("echo up; sleep 60 & wait") as process:
            up = await process.stdout.readline()
            process.send_signal("TERM")
            done = await process.wait(timeout=60)
            assert done.exit_signal
            return str(up), done.exit_signal[0]

    assert asyncio.run(signalled()) == ("up\n", "TERM")


def test_files_go_there_and_back(lab: LoopbackHost, tmp_path: Path) -> None:
    """SFTP through Fabric with a checked host key; relative paths begin in the host's folder."""
    content = os.urandom(1_000_000)
    (tmp_path / "sent").write_bytes(content)
    options = {"key_filename": str(lab.identity_file), "allow_agent": False, "look_for_keys": False}
    with Connection(lab.address, user=lab.user, port=lab.port, connect_kwargs=options) as connection:
        connection.client.set_missing_host_key_policy(RejectPolicy())
        connection.client.load_host_keys(str(lab.known_hosts))
        connection.put(str(tmp_path / "sent"), "file")
        connection.get("file", str(tmp_path / "got"))
        said = connection.run("wc -c < file", hide=True, in_stream=False).stdout
    assert (tmp_path / "got").read_bytes() == content == (lab.home / "file").read_bytes()
    assert said.strip() == "1000000"


@needs_ssh
def test_an_unknown_host_key_is_refused_by_the_client(lab: LoopbackHost, tmp_path: Path) -> None:
    """The host is known by its own book only: with another, or none, nobody connects."""
    (tmp_path / "none").touch()
    done = run(lab, "echo in", UserKnownHostsFile=str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (255, "")
    assert "Host key verification failed" in done.stderr


def test_another_key_is_refused(lab: LoopbackHost) -> None:
    """Only the client key made for this start opens the door."""

    async def enter() -> None:
        async with dial(lab, client_keys=[asyncssh.generate_private_key("ssh-ed25519")]):
            pass

    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(enter())


def test_another_user_is_refused_with_the_right_key(lab: LoopbackHost) -> None:
    """The one user is the one who runs it."""
    assert lab.user == getpass.getuser()

    async def enter() -> None:
        async with dial(lab, username="nobody-else"):
            pass

    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(enter())


def test_a_password_is_not_asked_for(lab: LoopbackHost) -> None:
    """Public keys are the only way in."""

    async def methods() -> list[str]:
        return list(await asyncssh.get_server_auth_methods(lab.address, lab.port, lab.user))

    assert asyncio.run(methods()) == ["publickey"]


@needs_ssh
def test_the_host_forwards_nothing(lab: LoopbackHost) -> None:
    """It is no way to anywhere else, not even to this machine's other ports."""
    forward = {"RemoteForward": "0 127.0.0.1:1", "ExitOnForwardFailure": "yes", "SessionType": "none"}
    done = run(lab, **forward)
    assert done.returncode == 255
    assert "remote port forwarding failed" in done.stderr


@needs_ssh
def test_keys_are_for_this_user_and_this_start_alone(tmp_path: Path) -> None:
    """Files 0600, folder 0700; the next start has other keys and another port's entry."""
    texts = set()
    for _ in range(2):
        with loopback_host(tmp_path) as host:
            files = [host.identity_file, tmp_path / "lab" / "host_key"]
            assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
            assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "lab", host.home)} == {0o700}
            assert len(host.known_hosts.read_text().splitlines()) == 1
            assert run(host, "echo in").stdout == "in\n"
            texts |= {path.read_bytes() for path in files}
    assert len(texts) == 4


@needs_ssh
def test_a_dead_client_is_the_end_of_input(lab: LoopbackHost) -> None:
    """Within a second of a client's death its command reads the end of its input and can tidy up."""
    mark = lab.home / "tidied"
    client, pid = started(lab, f"cat; echo tidied > {mark.name}")
    kill(client)
    wait_until(mark.exists, 2)
    wait_until(lambda: not alive(pid), 2)


@needs_ssh
def test_a_dead_client_is_a_broken_pipe(lab: LoopbackHost) -> None:
    """As with OpenSSH, a command that goes on writing to a client that has gone is told so."""
    mark = lab.home / "broken"
    client, _ = started(
        lab, f"trap '' PIPE; while echo x; do sleep 0.05; done 2>/dev/null; echo > {mark.name}"
    )
    kill(client)
    wait_until(mark.exists, 2)


@needs_ssh
def test_a_command_that_stays_is_hung_up_and_one_that_detached_is_not(lab: LoopbackHost) -> None:
    """Some seconds after its client a command and its group get SIGHUP; other sessions are left alone."""
    mark = lab.home / "hung-up"
    apart = "setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $! > apart"
    client, pid = started(
        lab, f"{apart}; sleep 61 & echo $! > child; trap 'echo > {mark.name}; exit' HUP; wait"
    )
    wait_until(lambda: (lab.home / "child").exists() and (lab.home / "child").read_text() != "")
    child, detached = (int((lab.home / name).read_text()) for name in ("child", "apart"))
    kill(client)
    wait_until(mark.exists)
    wait_until(lambda: not alive(pid) and not alive(child))
    assert alive(detached)
    os.kill(detached, signal.SIGKILL)


def test_a_channel_closed_on_an_open_connection_ends_its_command(lab: LoopbackHost) -> None:
    """A client that closes one channel and keeps the connection leaves no command behind."""

    async def close_one() -> int:
        async with dial(lab) as connection:
            process = await connection.create_process("echo $$; cat; exit")
            pid = int(await process.stdout.readline())
            process.close()
            await process.wait_closed()
            await asyncio.to_thread(wait_until, lambda: not alive(pid), 3)
            return (await connection.run("exit 7")).exit_status or 0

    assert asyncio.run(close_one()) == 7


@needs_ssh
def test_ctrl_c_in_the_terminal_is_not_for_the_host(lab: LoopbackHost) -> None:
    """The host is in a session of its own and goes on after a SIGINT: the orchestrator takes things down."""
    assert os.getsid(lab.pid) == lab.pid
    os.kill(lab.pid, signal.SIGINT)
    time.sleep(0.2)
    assert run(lab, "echo in").stdout == "in\n"


@needs_ssh
def test_leaving_the_block_ends_the_host_and_its_commands(tmp_path: Path) -> None:
    """No process and no open port is left, within the time that a hang-up takes."""
    with loopback_host(tmp_path) as host:
        client, pid = started(host, "sleep 60")
        begun = time.monotonic()
    assert time.monotonic() - begun < 8
    assert not alive(host.pid)
    wait_until(lambda: not alive(pid), 2)
    client.communicate(timeout=60)
    with socket.socket() as probe:
        assert probe.connect_ex((host.address, host.port)) != 0


@needs_ssh
def test_kill_9_of_the_orchestrator_is_the_end_of_the_host(tmp_path: Path) -> None:
    """A few seconds later neither the host nor what it ran is there, and the home can be used again."""
    code = (
        "import sys, time; from pathlib import Path; from tasks.lab.loopback import loopback_host\n"
        "with loopback_host(Path(sys.argv[1])) as host:\n"
        "    print(host.pid, host.port, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as orchestrator:
        assert orchestrator.stdout
        host_pid, port = map(int, orchestrator.stdout.readline().split())
        lab = tmp_path / "lab"
        user = getpass.getuser()
        host = LoopbackHost("127.0.0.1", port, user, lab / "client_key", lab / "known_hosts", lab / "host", 0)
        client, pid = started(host, "cat")
        orchestrator.kill()
    wait_until(lambda: not alive(host_pid) and not alive(pid), 5)
    client.communicate(timeout=60)
    with loopback_host(tmp_path) as again:
        assert alive(again.pid)


def test_a_home_in_use_is_told_and_its_host_goes_on(tmp_path: Path) -> None:
    """Two commands on one home: the second gets one clear message, the first keeps its keys."""
    with loopback_host(tmp_path) as first:
        key = first.identity_file.read_bytes()
        with pytest.raises(LabError, match=f"another command uses {tmp_path}"), loopback_host(tmp_path):
            pass
        assert first.identity_file.read_bytes() == key
        assert alive(first.pid)


def test_a_host_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error names the log and shows its end, at once."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "host").write_text("a file where a folder should be")
    begun = time.monotonic()
    with pytest.raises(LabError) as caught, loopback_host(tmp_path):
        pass
    assert time.monotonic() - begun < 5
    lines = str(caught.value).splitlines()
    assert (
        lines[0]
        == f"the loopback SSH host did not start (exit code 1); its log is {tmp_path}/lab/loopback.log"
    )
    assert "File exists" in lines[-1]
