"""Hosts over SSH: one connection, one supervisor on the other side. The only importer of Fabric.

Host keys are checked against known_hosts and never added. What runs on the host is shipped as one
content-addressed tar under ~/.latencyprism/<sha>/; nothing is installed there.
"""

import contextlib
import hashlib
import io
import json
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fabric
import paramiko

from tasks import transfer
from tasks.host.tail import SILENT_S
from tasks.settings import LprismError
from tasks.shipping import BOOTSTRAP, UNPACK, shipped

CONNECT_S = 10.0
COMMAND_S = 60.0
HEARTBEAT_EVERY_S = 2.0
KEEPALIVE_S = 5
ENDED_S = 10.0


class HostError(LprismError):
    """A host cannot be reached, or refuses what was asked of it."""


class LinkError(HostError):
    """The host does not answer, or the link to it is gone: another try may do better."""


class HostBusy(HostError):
    """Another campaign has the host; `holder` is what its lease says (tasks/host/lease.py)."""

    def __init__(self, text: str, holder: dict[str, Any]) -> None:
        super().__init__(text)
        self.holder = holder


class HostDirty(HostError):
    """An undo is not proved there: nothing runs before `lprism restore`."""


@dataclass(frozen=True)
class Address:
    """Where a host is and how to log in: None leaves it to the user's SSH configuration."""

    name: str
    address: str
    user: str | None = None
    port: int | None = None
    identity_file: Path | None = None
    known_hosts: Path | None = None
    python: str = "python3"


@dataclass
class Supervisor:
    """One supervisor on one host: requests in, answers out, with a heartbeat beside them."""

    address: Address
    connection: fabric.Connection
    channel: paramiko.Channel
    code: str
    folder: str
    stopped: threading.Event = field(default_factory=threading.Event)
    doing: dict[str, Any] | None = None  # told with every heartbeat, for whoever looks at the lease
    _sending: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)
    _buffer: bytes = b""
    _last_id: int = 0

    @property
    def name(self) -> str:
        """What the host is called."""
        return self.address.name

    @property
    def python(self) -> str:
        """The interpreter that our own programs run in there."""
        return self.address.python

    def ask(self, do: str, *, timeout_s: float = 30.0, **arguments: Any) -> Any:  # noqa: ANN401  JSON
        """Send one request of `tasks.host.supervisor.Session` and wait for its answer.

        Raises HostError when the host refuses, LinkError when it is silent for timeout_s or the link is gone,
        and KeyboardInterrupt once `stopped` is set: another thread was interrupted.
        """
        if self.stopped.is_set() and do != "close":
            raise KeyboardInterrupt
        self._last_id += 1
        self._send({"id": self._last_id, "do": do, "with": arguments})
        return self.answer(do, self._last_id, timeout_s)

    def _send(self, request: dict[str, Any]) -> None:
        try:
            with self._sending:
                self.channel.sendall(json.dumps(request).encode() + b"\n")
        except (OSError, paramiko.SSHException) as error:
            raise LinkError(f"{self.name}: the link to the supervisor is gone ({error})") from error

    def answer(self, do: str, number: int, timeout_s: float) -> Any:  # noqa: ANN401  JSON
        """Wait for the answer of that number; the supervisor says number 0 by itself when it is ready."""
        end = time.monotonic() + timeout_s
        while True:
            line = self._line(do, end, timeout_s)
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # a login script printed something of its own first
            if isinstance(answer, dict) and answer.get("id") == number:
                if "refused" in answer:
                    raise _refusal(f"{self.name}: {answer['refused']}", answer)
                return answer.get("value")

    def _line(self, do: str, end: float, timeout_s: float) -> bytes:
        while b"\n" not in self._buffer:
            self.channel.settimeout(max(end - time.monotonic(), 0.01))
            try:
                chunk = self.channel.recv(65536)
            except TimeoutError:
                raise LinkError(
                    f"{self.name}: no answer to {do!r} within {timeout_s:.0f} s; its log is in {self.folder}"
                ) from None
            if not chunk:
                said = self._said_on_stderr()
                raise LinkError(f"{self.name}: the supervisor ended during {do!r}{said}")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _said_on_stderr(self) -> str:
        if not self.channel.recv_stderr_ready():
            return ""
        return ": " + str(self.channel.recv_stderr(4000), errors="replace").strip()[-300:]

    def beat(self) -> None:
        """Write a heartbeat line every 2 s until closed (runs in a thread)."""
        while not self._closed.wait(HEARTBEAT_EVERY_S):
            with contextlib.suppress(HostError):  # the next request reports a lost link
                self.send_heartbeat()

    def send_heartbeat(self) -> None:
        """Say that we are here, and what we do. Raises LinkError."""
        self._send({"do": "heartbeat", "doing": self.doing})

    def close(self) -> None:
        """End everything on the host. Raises HostError naming what could not be ended."""
        try:
            failures = self.ask("close", timeout_s=30.0)
            self._closed.set()
            self._wait_for_its_end()
        finally:
            self._closed.set()
            self.channel.close()  # end of input: the supervisor undoes what is left
        if failures:
            raise HostError(f"{self.name}: could not be cleaned: {'; '.join(failures)}")

    def _wait_for_its_end(self) -> None:
        """Whoever asks for the host after us finds it free; one that hangs is its watchdog's business."""
        self.channel.shutdown_write()
        end = time.monotonic() + ENDED_S
        while not self.channel.exit_status_ready() and time.monotonic() < end:
            time.sleep(0.02)

    def fetch(self, remote_folder: str, local_folder: Path) -> dict[str, tuple[int, str]]:
        """Copy a run's files by SFTP; {name: (size, sha256)}. Sizes and digests are checked.

        A link that goes meanwhile is made again, and the files gone on with. Raises HostError, or OSError
        when they cannot be stored here.
        """
        said = self.ask("checksums", run_folder=remote_folder, timeout_s=120.0)
        sums = {name: (int(size), str(digest)) for name, (size, digest) in said.items()}
        try:
            transfer.fetch(sums, remote_folder, local_folder, _Doors(self).open)
        except transfer.Damaged as error:
            raise HostError(f"{self.name}: {error}") from error
        except ConnectionError as error:
            raise LinkError(f"{self.name}: {remote_folder} could not be fetched: {error}") from error
        return sums


@dataclass
class _Doors:
    """SFTP clients of a host: the first on the connection that is there, each other on a new one."""

    supervisor: Supervisor
    first: bool = True

    @contextlib.contextmanager
    def open(self) -> Iterator[paramiko.SFTPClient]:
        """A client; raises ConnectionError when its link cannot be made, or goes."""
        first, self.first = self.first, False
        address = self.supervisor.address
        there = contextlib.nullcontext(self.supervisor.connection) if first else _connected(address)
        try:
            with there as connection, contextlib.closing(connection.client.open_sftp()) as sftp:
                sftp.get_channel().settimeout(COMMAND_S)
                yield sftp
        except (EOFError, paramiko.SSHException, TimeoutError, LinkError) as error:
            raise ConnectionError(str(error) or repr(error)) from error


def _refusal(text: str, answer: dict[str, Any]) -> HostError:
    if "holder" in answer:
        return HostBusy(text, answer["holder"])
    return HostDirty(text) if "dirty" in answer else HostError(text)


@contextlib.contextmanager
def supervise(
    address: Address, session: str, owner: str = "", stopped: threading.Event | None = None
) -> Iterator[Supervisor]:
    """Connect, ship what runs there, start the supervisor; on leaving, everything on the host is ended.

    `owner` is who asks, for others to read; once `stopped` is set, nothing but the end is asked of the host.

    Raises:
        LinkError: it cannot be reached, or the link goes. HostBusy, HostDirty: nothing may run there now.
        HostError: it refuses us, or what was asked of it.
    """
    with _connected(address) as connection:
        code, sessions = _ship(connection, address)
        folder = f"{sessions}/{session}"
        channel = _start(connection, address, code, [folder, owner])
        supervisor = Supervisor(address, connection, channel, code, folder, stopped or threading.Event())
        supervisor.answer("start", 0, CONNECT_S)
        threading.Thread(target=supervisor.beat, daemon=True, name=f"heartbeat-{address.name}").start()
        try:
            yield supervisor
        except BaseException:
            with contextlib.suppress(HostError):  # what went wrong first is what is told
                supervisor.close()
            raise
        supervisor.close()


@contextlib.contextmanager
def _connected(address: Address) -> Iterator[fabric.Connection]:
    connection = fabric.Connection(
        address.address,
        user=address.user,
        port=address.port,
        connect_timeout=int(CONNECT_S),
        connect_kwargs=_login(address),
    )
    try:
        _open(connection, address)
        yield connection
    except paramiko.SSHException as error:
        raise LinkError(f"{address.name}: {error}") from error
    finally:
        connection.close()


def _open(connection: fabric.Connection, address: Address) -> None:
    client = connection.client
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    try:
        client.load_system_host_keys(str(address.known_hosts) if address.known_hosts else None)
    except OSError as error:
        raise HostError(
            f"{address.name}: known_hosts {address.known_hosts} cannot be read: {error}"
        ) from error
    try:
        connection.open()
        connection.transport.set_keepalive(KEEPALIVE_S)
    except paramiko.BadHostKeyException as error:
        forget = forget_command(address.address, address.port, address.known_hosts)
        raise HostError(
            f"{address.name}: the host key of {address.address} has CHANGED: if that is right, "
            f"remove the old one with {forget}"
        ) from error
    except paramiko.PasswordRequiredException as error:
        raise HostError(f"{address.name}: a passphrase is wanted for {address.identity_file}") from error
    except paramiko.AuthenticationException as error:
        allowed = getattr(error, "allowed_types", [])
        password = ": it asks for a password" if "password" in allowed and "publickey" not in allowed else ""
        raise HostError(
            f"{address.name}: login refused ({error}){password}: check user and identity_file"
        ) from error
    except paramiko.SSHException as error:
        hint = ": connect once with ssh and check the key" if "known_hosts" in str(error) else ""
        raise (HostError if hint else LinkError)(f"{address.name}: {error}{hint}") from error
    except (OSError, EOFError) as error:
        raise LinkError(f"{address.name}: {address.address} cannot be reached ({error})") from error


def forget_command(address: str, port: int | None, known_hosts: Path | str | None) -> str:
    """The command by which a user forgets a host's old key, wherever it is noted."""
    named = address if port in (None, 22) else f"[{address}]:{port}"
    return shlex.join(["ssh-keygen", "-R", named, *(["-f", str(known_hosts)] if known_hosts else [])])


def _login(address: Address) -> dict[str, Any]:
    login: dict[str, Any] = {"channel_timeout": CONNECT_S}  # an hour by default
    if address.identity_file is not None:
        key = str(address.identity_file)
        login.update({"key_filename": key, "look_for_keys": False, "allow_agent": False})
    return login


def restore(address: Address) -> dict[str, list[str]]:
    """Undo what ended sessions left on a host: {"found": [what], "left": [what could not be undone]}.

    Raises HostError when it cannot be reached, or a campaign has it now.
    """
    said: dict[str, Any] = _said(address, "tasks.host.undo")
    if "refused" in said:
        raise HostError(f"{address.name}: {said['refused']}")
    return said


def look(address: Address) -> dict[str, Any] | None:
    """Who has a host now and what they do there, by its lease; None when nobody has. Raises HostError."""
    found: dict[str, Any] | None = _said(address, "tasks.host.lease")
    return found


@contextlib.contextmanager
def tail(address: Address, words: list[str]) -> Iterator[Callable[[], bytes]]:
    """Follow a host's batches (tasks/host/tail.py); yields what reads the next bytes, none at the end.

    Raises HostError, LinkError when nothing was heard for SILENT_S.
    """
    with _connected(address) as connection:
        code, sessions = _ship(connection, address)
        channel = connection.transport.open_session(timeout=CONNECT_S)
        argv = shlex.join([address.python, "-m", "tasks.host.tail", sessions, *words])
        channel.exec_command(f"cd {shlex.quote(code)} && exec {argv}")
        channel.settimeout(SILENT_S)

        def read() -> bytes:
            try:
                return bytes(channel.recv(65536))
            except TimeoutError:
                raise LinkError(f"{address.name}: nothing was heard for {SILENT_S:.0f} s") from None

        with contextlib.closing(channel):
            yield read


def _said(address: Address, module: str) -> Any:  # noqa: ANN401  JSON
    """What a module of ours says on the host about its sessions."""
    with _connected(address) as connection:
        code, sessions = _ship(connection, address)
        there = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", code]
        answer = run(connection, address, [*there, address.python, "-m", module, sessions])
        return json.loads(answer.splitlines()[-1])


def _ship(connection: fabric.Connection, address: Address) -> tuple[str, str]:
    """Unpack there what runs there; returns (its folder, the folder of the host's sessions)."""
    archive = shipped()
    sha = hashlib.sha256(archive).hexdigest()[:16]
    answer = run(connection, address, [address.python, "-c", BOOTSTRAP, sha])
    try:
        said = json.loads(answer.splitlines()[-1])  # a login script may print something of its own first
    except (ValueError, IndexError) as error:
        raise HostError(f"{address.name}: {address.python} answered {answer[-200:]!r}") from error
    base = str(said["base"])
    if not said["shipped"]:
        tar = f"{base}/{sha}.{os.getpid()}.tar"
        connection.sftp().putfo(io.BytesIO(archive), tar)
        run(connection, address, [address.python, "-c", UNPACK, base, sha, tar])
    return f"{base}/{sha}", str(said["sessions"])


def run(connection: fabric.Connection, address: Address, argv: list[str]) -> str:
    """Run a short command to its end; returns its output. Raises HostError with what it said."""
    command = shlex.join(argv)
    try:
        ended = connection.run(command, hide=True, warn=True, in_stream=False, timeout=COMMAND_S)
    except Exception as error:
        if isinstance(error, OSError | EOFError | paramiko.SSHException):
            raise LinkError(f"{address.name}: {error or repr(error)}") from error
        late = f"{address.name}: {argv[0]} did not end within {COMMAND_S:.0f} s"
        if asked := _asked(error):
            raise HostError(f"{late}: something there waits for an answer to {asked!r}") from error
        raise LinkError(late) from error
    if ended.exited != 0:
        said = (ended.stderr or ended.stdout).strip()[-300:]
        raise HostError(f"{address.name}: {argv[0]} exited with {ended.exited}: {said}")
    return str(ended.stdout)


def _asked(error: Exception) -> str | None:
    """What a command that ran out of time had asked for: a password, or anything that ends in a colon."""
    result = getattr(error, "result", None)
    said = "\n".join([getattr(result, "stdout", ""), getattr(result, "stderr", "")]).strip()
    last = said.rpartition("\n")[2].strip()
    return last[-100:] if last.endswith((":", "?")) else None


def _start(connection: fabric.Connection, address: Address, code: str, words: list[str]) -> paramiko.Channel:
    transport = connection.transport
    channel: paramiko.Channel = transport.open_session(timeout=CONNECT_S)
    argv = shlex.join([address.python, "-m", "tasks.host.supervisor", *words])
    channel.exec_command(f"cd {shlex.quote(code)} && exec {argv}")
    return channel
