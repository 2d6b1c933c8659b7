"""The host `lab`: a real SSH server on this machine, for itself alone.

It listens on 127.0.0.1 with keys made for this one start, and runs in a process of its own (`sshd.py`), whose
standard input is a pipe from here: when that closes, by an orderly end or by kill -9, the host goes.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.settings import LprismError

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0


class LabError(LprismError):
    """The loopback host did not start, or did not end."""


@dataclass(frozen=True)
class LoopbackHost:
    """A running loopback host: where it listens, who may enter with which key, where its sessions run."""

    address: str
    port: int
    user: str
    identity_file: Path
    known_hosts: Path
    home: Path
    pid: int


@contextmanager
def loopback_host(home: Path) -> Iterator[LoopbackHost]:
    """Run the host `lab` under `<home>/lab/` for as long as the block lasts.

    Raises:
        LabError: it is not ready within 10 s, or another command uses the same home.
    """
    lab = home.absolute() / "lab"
    lab.mkdir(mode=0o700, parents=True, exist_ok=True)
    lab.chmod(0o700)
    process = _start(home.absolute(), lab / "loopback.log")
    try:
        yield _await_ready(process, lab / "loopback.log")
    finally:
        _stop(process)


def _start(home: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "tasks.lab.sshd", "--home", str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).parents[2],
            start_new_session=True,  # Ctrl-C is for the orchestrator, which takes things down in order
        )


def _await_ready(process: subprocess.Popen[bytes], log: Path) -> LoopbackHost:
    line = _first_line(process)
    if not line.endswith(b"\n"):
        said = log.read_text(errors="replace").strip().splitlines()[-3:]
        code = process.poll()
        how = f"within {START_TIMEOUT_S:.0f} s" if code is None else f"(exit code {code})"
        raise LabError("\n".join([f"the loopback SSH host did not start {how}; its log is {log}", *said]))
    ready = json.loads(line)
    paths = {name: Path(ready[name]) for name in ("identity_file", "known_hosts", "home")}
    return LoopbackHost(ready["address"], ready["port"], ready["user"], **paths, pid=ready["pid"])


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """Read the child's output up to its first newline, its end, or the end of our patience."""
    deadline = time.monotonic() + START_TIMEOUT_S
    line = b""
    while process.stdout and not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            break
        chunk = os.read(process.stdout.fileno(), 4096)
        if not chunk:
            process.wait(STOP_TIMEOUT_S)
            break
        line += chunk
    return line


def _stop(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT_S)
