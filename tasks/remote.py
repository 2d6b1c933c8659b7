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
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from typing import Any

import fabric
import paramiko

from tasks.settings import LprismError

CONNECT_S = 10.0
COMMAND_S = 60.0
HEARTBEAT_EVERY_S = 2.0
KEEPALIVE_S = 5
MAX_FILE_BYTES = 4 << 30
BOOTSTRAP = """
import json, os, platform, sys
if sys.version_info < (3, 9): sys.exit("the host needs python 3.9 or newer, not " + sys.version.split()[0])
base = os.path.join(os.path.expanduser("~"), ".latencyprism")
node = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in platform.node())
sessions = os.path.join(base, "sessions", node)  # a home on NFS is that of many hosts
os.makedirs(sessions, mode=0o700, exist_ok=True)
shipped = os.path.isdir(os.path.join(base, sys.argv[1]))
print(json.dumps({"base": base, "sessions": sessions, "shipped": shipped}))
"""
UNPACK = """
import os, shutil, sys, tarfile
base, sha, archive = sys.argv[1:]
with tarfile.open(archive) as tar: tar.extractall(archive + ".draft")
try: os.rename(archive + ".draft", os.path.join(base, sha))
except OSError: shutil.rmtree(archive + ".draft")
os.remove(archive)
"""


class HostError(LprismError):
    """A host cannot be reached, or refuses what was asked of it."""


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

    name: str
    connection: fabric.Connection
    channel: paramiko.Channel
    python: str
    code: str
    folder: str
    _sending: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)
    _buffer: bytes = b""
    _last_id: int = 0

    def ask(self, do: str, *, timeout_s: float = 30.0, **arguments: Any) -> Any:  # noqa: ANN401  JSON
        """Send one request of `tasks.host.supervisor.Session` and wait for its answer.

        Raises HostError when the host refuses, is silent for timeout_s, or the link is gone.
        """
        self._last_id += 1
        self._send({"id": self._last_id, "do": do, "with": arguments})
        return self.answer(do, self._last_id, timeout_s)

    def _send(self, request: dict[str, Any]) -> None:
        try:
            with self._sending:
                self.channel.sendall(json.dumps(request).encode() + b"\n")
        except (OSError, paramiko.SSHException) as error:
            raise HostError(f"{self.name}: the link to the supervisor is gone ({error})") from error

    def answer(self, do: str, number: int, timeout_s: float) -> Any:  # noqa: ANN401  JSON
        """Wait for the answer of that number; the supervisor says number 0 by itself when it is ready."""
        end = time.monotonic() + timeout_s
        while True:
            line = self._line(do, end)
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # a login script printed something of its own first
            if isinstance(answer, dict) and answer.get("id") == number:
                if "refused" in answer:
                    raise HostError(f"{self.name}: {answer['refused']}")
                return answer.get("value")

    def _line(self, do: str, end: float) -> bytes:
        while b"\n" not in self._buffer:
            self.channel.settimeout(max(end - time.monotonic(), 0.01))
            try:
                chunk = self.channel.recv(65536)
            except TimeoutError:
                raise HostError(
                    f"{self.name}: no answer to {do!r} in time; its log is in {self.folder}"
                ) from None
            if not chunk:
                said = self._said_on_stderr()
                raise HostError(f"{self.name}: the supervisor ended during {do!r}{said}")
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
                self._send({"do": "heartbeat"})

    def close(self) -> None:
        """End everything on the host. Raises HostError naming what could not be ended."""
        try:
            failures = self.ask("close", timeout_s=30.0)
        finally:
            self._closed.set()
            self.channel.close()  # end of input: the supervisor undoes what is left
        if failures:
            raise HostError(f"{self.name}: could not be cleaned: {'; '.join(failures)}")

    def _get(self, remote: str, local: Path) -> None:
        try:
            sftp = self.connection.sftp()
            sftp.get_channel().settimeout(COMMAND_S)
            sftp.get(remote, str(local))
        except (EOFError, paramiko.SSHException, TimeoutError, ConnectionError) as error:
            raise HostError(f"{self.name}: {remote} could not be fetched: {error!r}") from error

    def fetch(self, remote_folder: str, local_folder: Path) -> dict[str, tuple[int, str]]:
        """Copy a run's files by SFTP; {name: (size, sha256)}. Sizes and digests are checked."""
        sums: dict[str, tuple[int, str]] = {
            name: (int(size), str(digest))
            for name, (size, digest) in self.ask(
                "checksums", run_folder=remote_folder, timeout_s=120.0
            ).items()
        }
        for name, (size, digest) in sums.items():
            if Path(name).name != name or name in {".", ".."} or size > MAX_FILE_BYTES:
                raise HostError(f"{self.name}: refuses to fetch {name!r} of {size} bytes")
            self._get(f"{remote_folder}/{name}", local_folder / name)
            _check(self.name, local_folder / name, digest)
        return sums


def _check(host: str, path: Path, digest: str) -> None:
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise HostError(
                f"{host}: {path.name} arrived damaged: its sha256 is not the one taken on the host"
            )


@contextlib.contextmanager
def supervise(address: Address, session: str) -> Iterator[Supervisor]:
    """Connect, ship what runs there, start the supervisor; on leaving, everything on the host is ended."""
    with _connected(address) as connection:
        code, sessions = _ship(connection, address)
        folder = f"{sessions}/{session}"
        channel = _start(connection, address, code, folder)
        supervisor = Supervisor(address.name, connection, channel, address.python, code, folder)
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
        raise HostError(f"{address.name}: {error}") from error
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
        raise HostError(
            f"{address.name}: the host key of {address.address} has CHANGED: if that is right, "
            f"remove the old one with ssh-keygen -R {address.address}"
        ) from error
    except paramiko.AuthenticationException as error:
        raise HostError(f"{address.name}: login refused ({error}): check user and identity_file") from error
    except paramiko.SSHException as error:
        hint = ": connect once with ssh and check the key" if "known_hosts" in str(error) else ""
        raise HostError(f"{address.name}: {error}{hint}") from error
    except (OSError, EOFError) as error:
        raise HostError(f"{address.name}: {address.address} cannot be reached ({error})") from error


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
    with _connected(address) as connection:
        code, sessions = _ship(connection, address)
        there = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", code]
        answer = run(connection, address, [*there, address.python, "-m", "tasks.host.undo", sessions])
        said: dict[str, Any] = json.loads(answer.splitlines()[-1])
    if "refused" in said:
        raise HostError(f"{address.name}: {said['refused']}")
    return said


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


def shipped() -> bytes:
    """The tar of everything that runs on a host: the same bytes for the same sources."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for package, inside in (("tasks", ("__init__.py", "host")), ("injectors", ("",))):
            root = Path(str(files(package)))
            for start in inside:
                _add(tar, package, root, root / start)
        nvml = Path(str(distribution("nvidia-ml-py").locate_file("pynvml.py")))  # for hosts that have none
        _add(tar, "vendor", nvml.parent, nvml)
    return out.getvalue()


def _add(tar: tarfile.TarFile, package: str, root: Path, start: Path) -> None:
    paths = [start] if start.is_file() else sorted(path for path in start.rglob("*") if path.is_file())
    for path in paths:
        if "__pycache__" not in path.parts:
            entry = tarfile.TarInfo(f"{package}/{path.relative_to(root)}")
            entry.size, entry.mode = path.stat().st_size, 0o644
            tar.addfile(entry, io.BytesIO(path.read_bytes()))


def run(connection: fabric.Connection, address: Address, argv: list[str]) -> str:
    """Run a short command to its end; returns its output. Raises HostError with what it said."""
    command = shlex.join(argv)
    try:
        ended = connection.run(command, hide=True, warn=True, in_stream=False, timeout=COMMAND_S)
    except Exception as error:
        if isinstance(error, OSError | EOFError | paramiko.SSHException):
            raise
        raise HostError(f"{address.name}: {argv[0]} did not end within {COMMAND_S:.0f} s") from error
    if ended.exited != 0:
        said = (ended.stderr or ended.stdout).strip()[-300:]
        raise HostError(f"{address.name}: {argv[0]} exited with {ended.exited}: {said}")
    return str(ended.stdout)


def _start(connection: fabric.Connection, address: Address, code: str, folder: str) -> paramiko.Channel:
    transport = connection.transport
    channel: paramiko.Channel = transport.open_session(timeout=CONNECT_S)
    argv = shlex.join([address.python, "-m", "tasks.host.supervisor", folder])
    channel.exec_command(f"cd {shlex.quote(code)} && exec {argv}")
    return channel
