"""Real parts for the tests: an OpenSSH server on loopback, with keys of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.host import ports
from tasks.remote import Address
from tasks.settings import pin_telemetry_off

pin_telemetry_off()
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
SSHD_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/client_key.pub
PasswordAuthentication no
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
SetEnv HOME={folder}/home
"""


@pytest.fixture
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A host behind a real OpenSSH server; its home is a folder of the test."""
    if SSHD is None:
        pytest.skip("OpenSSH's sshd is not installed (apt-get install openssh-server)")
    folder = tmp_path_factory.mktemp("sshd")
    (folder / "home").mkdir()
    for name in ("host_key", "client_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = ports.free(None)
    (folder / "config").write_text(SSHD_CONFIG.format(port=port, folder=folder))
    host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own privilege separation folder
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", folder / "config"], stderr=log, start_new_session=True
        )
    try:
        wait_for_port(port)
        user = os.environ.get("USER") or "root"
        yield Address(
            "sshd", "127.0.0.1", user, port, folder / "client_key", folder / "known_hosts", sys.executable
        )
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def wait_for_port(port: int) -> None:
    """Wait until somebody listens; at most 10 s."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port}")
