"""A Prefect server of our own for one command, on loopback, with its database in the home.

It runs in a session of its own, so that Ctrl-C in the terminal reaches the campaign alone and the
campaign can still tell the server how it ended; the kernel ends it when we die. `lprism serve` notes its
server's URL in the home: commands of that home use it then, and their runs are in its UI.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.host import ports
from tasks.settings import LprismError, pin_telemetry_off

START_S = 90.0
STOP_S = 3.0
PR_SET_PDEATHSIG = 1
NOTE = "serving.url"


@contextmanager
def prefect_server(home: Path, port: int | None = None) -> Iterator[str]:
    """Run flows against PREFECT_API_URL, else the server that serves this home, else one started here.

    Yields the URL. Call it before anything imports Prefect: settings are read once. With `port` a server is
    always started, and noted for others. Raises LprismError.
    """
    pin_telemetry_off()
    given = os.environ.get("PREFECT_API_URL")
    if given and port is None:
        yield given
        return
    folder = home / "prefect"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(folder)
    os.environ.setdefault("PREFECT_UI_API_URL", "/api")  # from wherever the page was had, a tunnel too
    serving = noted(folder)
    if serving and port is not None:
        raise LprismError(f"{home} is being served already: {serving.removesuffix('/api')}")
    with contextlib.nullcontext(serving) if serving else _started(folder, port) as url:
        os.environ["PREFECT_API_URL"] = url
        try:
            yield url
        finally:
            os.environ.pop("PREFECT_API_URL", None)


@contextmanager
def _started(folder: Path, port: int | None) -> Iterator[str]:
    chosen = _free(port)
    server = _start(folder, chosen)
    url = f"http://127.0.0.1:{chosen}/api"
    note = folder / NOTE
    try:
        _wait(server, url, folder / "server.log")
        if port is not None:
            note.write_text(url)
        yield url
    finally:
        if port is not None:
            note.unlink(missing_ok=True)
        _stop(server)


def _free(port: int | None) -> int:
    try:
        return ports.free(port)
    except ports.InUse as error:
        raise LprismError(f"{error} (--port)") from error


def noted(folder: Path) -> str | None:
    """The URL of the server that serves a home, if it answers."""
    try:
        url = (folder / NOTE).read_text()
    except OSError:
        return None
    return url if url and _answers(url) else None


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    return start_beside(
        ["server", "start", "--host", "127.0.0.1", "--port", str(port)], folder / "server.log"
    )


def start_beside(words: list[str], log: Path, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a Prefect command in a session of its own; the kernel ends it when we die."""
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job has it ignored
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "prefect", *words],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  two calls of the kernel, and no threads yet
        )


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        if _answers(url):
            return
        time.sleep(0.2)
    code = server.poll()
    how = f"was not ready after {START_S:.0f} s" if code is None else f"ended with exit code {code}"
    raise LprismError(f"the Prefect server {how}; its log: {log}")


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/health", timeout=2):
            return True
    except (OSError, ValueError):
        return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(STOP_S)
