"""Start an installed engine once with the tiny model, ask it for four tokens, and stop it.

Run as a program by the installer, which holds the other end of its standard input: when that closes, the
server goes too, however the installer ended.
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tasks.engines import Adapter, adapter
from tasks.host import ports
from tasks.lab.tiny_model import SERVE_ARGS

TIMEOUT_S = 180.0
_PROMPT = ("w100", "w200", "w300")
_TOKENS = 4
_POLL_S = 0.3
_STOP_S = 20.0
_TAIL_BYTES = 65_536


class VerifyError(Exception):
    """The engine does not serve; the message says how far it came."""


def verify_command(kind: str, python: Path, model: Path, log: Path) -> list[str]:
    """Build the command that verifies the engine of interpreter `python`; run it in the repository's root."""
    return [sys.executable, "-m", "tasks.lab.verify", kind, str(python), str(model), str(log)]


def verify_engine(kind: str, python: Path, model: Path, log: Path, *, timeout_s: float = TIMEOUT_S) -> None:
    """Start the server, wait for its health, have it generate four tokens, stop it.

    Raises:
        VerifyError: it ended, was not healthy within `timeout_s`, or answered something else.
    """
    engine, port = adapter(kind), ports.free(None)
    deadline = time.monotonic() + timeout_s
    # Its caches and settings must not land in the user's home.
    with tempfile.TemporaryDirectory(prefix="lprism-verify-") as scratch, log.open("wb") as output:
        server = subprocess.Popen(
            engine.serve_command(str(python), str(model), "127.0.0.1", port, SERVE_ARGS[kind]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=scratch,
            env={**os.environ, **engine.serve_environment(cpu=True), "HOME": scratch},
        )
        try:
            _wait_healthy(server, engine, port, deadline, log)
            _generate(port, str(model), deadline)
        finally:
            _stop(server)


def _wait_healthy(
    server: subprocess.Popen[bytes], engine: Adapter, port: int, deadline: float, log: Path
) -> None:
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise VerifyError(f"the server ended with code {server.returncode}; {_said(log, engine)}")
        if _answer(port, "GET", engine.READY_PATH, None, timeout_s=2)[0] == http.client.OK:
            return
        time.sleep(_POLL_S)
    raise VerifyError(f"the server was not healthy in time; {_said(log, engine)}")


def _generate(port: int, model: str, deadline: float) -> None:
    body = {"model": model, "prompt": " ".join(_PROMPT), "max_tokens": _TOKENS, "ignore_eos": True}
    timeout_s = max(1.0, deadline - time.monotonic())
    status, text = _answer(port, "POST", "/v1/completions", json.dumps(body), timeout_s=timeout_s)
    usage = json.loads(text)["usage"] if status == http.client.OK else {}
    if (usage.get("prompt_tokens"), usage.get("completion_tokens")) != (len(_PROMPT), _TOKENS):
        wanted = f"{_TOKENS} tokens out of {len(_PROMPT)}"
        raise VerifyError(f"the server did not make {wanted}; it answered {status}: {text[:500]}")


def _answer(port: int, method: str, path: str, body: str | None, timeout_s: float) -> tuple[int, str]:
    """Ask the server on this machine, past any proxy; (0, reason) when it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(_STOP_S)


def _end_with_input() -> None:
    """Turn the end of standard input, and SIGTERM, into an exit that stops the server on the way out."""

    def watch() -> None:
        while os.read(0, 1024):  # not sys.stdin: Python cannot end while a thread waits on that
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=watch, daemon=True).start()


def _said(log: Path, engine: Adapter) -> str:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read().decode(errors="replace")
    return f"its log {log} ends with:\n{engine.server_failure(tail)}"


def main() -> int:
    """Verify the engine named on the command line; exit code 0 when it serves."""
    parser = argparse.ArgumentParser(description="Start an installed engine once and ask it for four tokens.")
    parser.add_argument("kind")
    for name in ("python", "model", "log"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    _end_with_input()
    try:
        verify_engine(arguments.kind, arguments.python, arguments.model, arguments.log)
    except VerifyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
