"""A Prefect server of our own for one command, on loopback, with its database in the home.

It runs in a session of its own, so that Ctrl-C in the terminal reaches the campaign alone and the
campaign can still tell the server how it ended; the kernel ends it when we die.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.host import ports
from tasks.settings import LprismError, pin_telemetry_off

START_S = 90.0
STOP_S = 3.0
PR_SET_PDEATHSIG = 1


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """Run flows against PREFECT_API_URL if it is set, else against a server started here; yields the URL.

    Call it before anything imports Prefect: settings are read once. Raises LprismError.
    """
    pin_telemetry_off()
    given = os.environ.get("PREFECT_API_URL")
    if given:
        yield given
        return
    folder = home / "prefect"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(folder)
    port = ports.free(None)
    server = _start(folder, port)
    url = f"http://127.0.0.1:{port}/api"
    try:
        _wait(server, url, folder / "server.log")
        os.environ["PREFECT_API_URL"] = url
        yield url
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        _stop(server)


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  one prctl call, and no threads yet
        )


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < end and server.poll() is None:
        try:
            with opener.open(f"{url}/health", timeout=2):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    code = server.poll()
    how = f"was not ready after {START_S:.0f} s" if code is None else f"ended with exit code {code}"
    raise LprismError(f"the Prefect server {how}; its log: {log}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(STOP_S)
