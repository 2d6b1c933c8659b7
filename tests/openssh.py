"""A real OpenSSH server for the tests, with keys of its own and a folder of the test as its home."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tasks.remote import Address

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
MISSING = None if SSHD else "OpenSSH's sshd is not installed (apt-get install openssh-server)"
SSHD_CONFIG = """
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/client_key.pub
PasswordAuthentication no
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
SetEnv HOME={folder}/home
"""


@contextlib.contextmanager
def serving(
    folder: Path, port: int, name: str = "sshd", address: str = "127.0.0.1", within: Sequence[str] = ()
) -> Iterator[Address]:
    """An sshd that listens there; `within` are the words that run a command where it is to be."""
    (folder / "home").mkdir()
    for key in ("host_key", "client_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    (folder / "config").write_text(SSHD_CONFIG.format(port=port, folder=folder, address=address))
    host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[{address}]:{port} {host_key}\n")
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own privilege separation folder
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*within, str(SSHD), "-D", "-e", "-f", folder / "config"], stderr=log, start_new_session=True
        )
    try:
        wait_for_port(address, port)
        user = os.environ.get("USER") or "root"
        yield Address(
            name, address, user, port, folder / "client_key", folder / "known_hosts", sys.executable
        )
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def wait_for_port(address: str, port: int) -> None:
    """Wait until somebody listens; at most 10 s."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with socket.socket(family) as probe:
            probe.settimeout(1)
            if probe.connect_ex((address, port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on {address} port {port}")
