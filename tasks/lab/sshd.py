"""The SSH server behind the host `lab`; the only importer of asyncssh. `python -m tasks.lab.sshd --home DIR`.

It lets in the current user with the one client key made for this start, gives sessions and SFTP, and ends
when its standard input ends. A session is what OpenSSH gives without a terminal: pipes for the three streams,
and when the connection goes, the end of input for the command and broken pipes for what it writes. OpenSSH
leaves it at that; here a command still there `HANGUP_AFTER_S` later has its process group sent SIGHUP.
"""

import argparse
import asyncio
import fcntl
import getpass
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import asyncssh

from tasks.lab.loopback import LabError, LoopbackHost

ADDRESS = "127.0.0.1"
HANGUP_AFTER_S = 3.0
_LOCK_TIMEOUT_S = 6.0
_PARENT_POLL_S = 0.5
_CHUNK = 65536


class Sessions:
    """The commands running on the host, so that its end can wait for theirs."""

    def __init__(self, folder: Path) -> None:
        """Run every command in `folder`, which is also its HOME."""
        self._folder = folder
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "HOME": str(folder),
        }
        self._running: set[asyncio.Task[None]] = set()

    async def handle(self, channel: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run the channel's command, or a shell that reads its input, and report how it ended."""
        task = asyncio.ensure_future(self._run(channel))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await task

    async def _run(self, channel: asyncssh.SSHServerProcess[bytes]) -> None:
        child, stdin, stdout, stderr = await self._spawn(channel.command)
        feeding = asyncio.create_task(_feed_input(channel, child.pid, stdin))
        outputs = [
            asyncio.create_task(_feed_output(stdout, channel.stdout)),
            asyncio.create_task(_feed_output(stderr, channel.stderr)),
        ]
        done = asyncio.create_task(_finished(child, outputs))
        gone = asyncio.create_task(channel.channel.wait_closed())
        await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
        finished = done.done()
        for task in (feeding, *outputs, done, gone):  # the first three close our ends of the pipes
            task.cancel()
        if finished:
            _report(channel, child.returncode or 0)
        else:
            await _hang_up(child)

    async def _spawn(self, command: str | None) -> tuple[asyncio.subprocess.Process, int, int, int]:
        """Start the command in a session of its own; returns it and our ends of its three pipes."""
        stdin_read, stdin = os.pipe()
        stdout, stdout_write = os.pipe()
        stderr, stderr_write = os.pipe()
        for descriptor in (stdin, stdout, stderr):
            os.set_blocking(descriptor, False)
        try:
            child = await asyncio.create_subprocess_exec(
                *(["/bin/sh", "-c", command] if command else ["/bin/sh"]),
                stdin=stdin_read,
                stdout=stdout_write,
                stderr=stderr_write,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
        finally:
            for descriptor in (stdin_read, stdout_write, stderr_write):
                os.close(descriptor)
        return child, stdin, stdout, stderr

    async def wait(self) -> None:
        """Wait until every session has ended or been hung up; bounded by the hang-up itself."""
        if self._running:
            await asyncio.wait(self._running, timeout=HANGUP_AFTER_S + 1)


async def _finished(child: asyncio.subprocess.Process, outputs: list[asyncio.Task[None]]) -> None:
    # Like OpenSSH: a background process that keeps the output open keeps the session open.
    await child.wait()
    await asyncio.wait(outputs)


async def _hang_up(child: asyncio.subprocess.Process) -> None:
    """Give the command time to end by itself, now that its input has ended; then hang up on its group."""
    deadline = time.monotonic() + HANGUP_AFTER_S
    while child.returncode is None:
        if time.monotonic() > deadline:
            _deliver(child.pid, signal.SIGHUP)
            return
        await asyncio.sleep(0.05)


def _report(channel: asyncssh.SSHServerProcess[bytes], code: int) -> None:
    with suppress(OSError):  # the client may have gone in this very moment
        if code < 0:
            channel.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            channel.exit(code)


async def _feed_input(channel: asyncssh.SSHServerProcess[bytes], pid: int, stdin: int) -> None:
    """Pass the client's bytes and signals to the command, until either side has had enough."""
    try:
        while True:
            try:
                data = await channel.stdin.read(_CHUNK)
            except (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
                continue
            except asyncssh.SignalReceived as received:
                number = getattr(signal, f"SIG{received.signal}", None)
                if isinstance(number, signal.Signals):
                    _deliver(pid, number)
                continue
            if not data:
                return
            await _write(stdin, data)
    except (OSError, asyncssh.Error):
        return  # the command does not read any more, or the connection is gone
    finally:
        os.close(stdin)


async def _feed_output(source: int, sink: asyncssh.SSHWriter[bytes]) -> None:
    """Pass what the command writes to the client, no faster than the client takes it."""
    try:
        while data := await _read(source):
            sink.write(data)
            await sink.drain()
    except (OSError, asyncssh.Error):
        return
    finally:
        os.close(source)


async def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _CHUNK)
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            await _event(descriptor, loop.add_reader, loop.remove_reader)


async def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            await _event(descriptor, loop.add_writer, loop.remove_writer)


async def _event(descriptor: int, add: Callable[..., None], remove: Callable[[int], bool]) -> None:
    """Wait until the descriptor can be read or written, whichever `add` watches for."""
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)


def _deliver(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _make_keys(lab: Path) -> tuple[asyncssh.SSHKey, asyncssh.SSHKey]:
    """Make a fresh host key and client key, and write both where only this user reads them."""
    keys = []
    for name in ("host_key", "client_key"):
        path = lab / name
        path.unlink(missing_ok=True)
        key = asyncssh.generate_private_key("ssh-ed25519")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.export_private_key())
        keys.append(key)
    return keys[0], keys[1]


def _lock(lab: Path) -> int:
    """Keep the home for this process; waits a little for a predecessor that is about to end."""
    descriptor = os.open(lab / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LabError(f"another command uses {lab.parent}: wait for it, or use --home") from None
            time.sleep(0.1)
        else:
            return descriptor


async def _serve(home: Path) -> None:
    lab = home / "lab"
    host_key, client_key = _make_keys(lab)
    user = getpass.getuser()
    connections: set[asyncssh.SSHServerConnection] = set()

    class Door(asyncssh.SSHServer):
        """Lets in one user with one key, and keeps the book of who is in."""

        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._connection = conn
            connections.add(conn)

        def connection_lost(self, exc: Exception | None) -> None:
            del exc
            connections.discard(self._connection)

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return username == user and key.public_data == client_key.public_data

    sessions = Sessions(lab / "host")
    server = await asyncssh.create_server(
        Door,
        ADDRESS,
        0,
        server_host_keys=[host_key],
        process_factory=sessions.handle,
        sftp_factory=True,
        encoding=None,
        line_editor=False,
        agent_forwarding=False,
        login_timeout=10,
    )
    port = server.get_port()
    known_hosts = lab / "known_hosts"
    public_key = host_key.export_public_key().decode().strip()
    known_hosts.write_text(f"[{ADDRESS}]:{port} {public_key}\n", encoding="ascii")
    host = LoopbackHost(ADDRESS, port, user, lab / "client_key", known_hosts, lab / "host", os.getpid())
    sys.stdout.write(json.dumps({"status": "READY", **asdict(host)}, default=str) + "\n")
    sys.stdout.flush()
    await _end_of_parent()
    server.close()
    for connection in list(connections):
        connection.abort()
    await sessions.wait()


async def _end_of_parent() -> None:
    """Wait until standard input ends, the parent is another one, or SIGTERM comes."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)

    def look() -> None:
        if not os.read(sys.stdin.fileno(), _CHUNK):
            ended.set()

    loop.add_reader(sys.stdin.fileno(), look)
    parent = os.getppid()
    # A process forked by the orchestrator may hold the pipe open after its end: look at the parent, too.
    while not ended.is_set() and os.getppid() == parent:
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), _PARENT_POLL_S)
    loop.remove_reader(sys.stdin.fileno())


def main() -> int:
    """Be the host until standard input ends; exit code 1 with one line when that is not possible."""
    # A handler and not SIG_IGN, which every command on this host would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    parser = argparse.ArgumentParser(description="The loopback SSH host; standard input must be a pipe.")
    parser.add_argument("--home", type=Path, required=True)
    home: Path = parser.parse_args().home.absolute()
    folder = home / "lab" / "host"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _lock(home / "lab")
        os.chdir(folder)  # relative paths over SFTP begin here
        asyncio.run(_serve(home))
    except (LabError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
