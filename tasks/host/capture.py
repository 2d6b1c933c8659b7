"""One deep capture of a running server, by its own profiler over HTTP or by an installed one.

    python3 -m tasks.host.capture '{"name": "baseline", "folder": RUN_FOLDER, ...}'

Every wait has a bound; what cannot be had is told as `lost`, and the server goes on. The last line printed
is {"type": "capture", ...}: `start_ns` the profiler is told to start, `ready_ns` it runs, `stop_ns` the first
sign that a trace is being written (the engine may stall from before that), `end_ns` it is written and the
engine goes on. These are ns since 1970 by the realtime clock at the start, counted on by the monotonic one;
`offset_ns` is the one less the other. Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable

from tasks.host import clock

POLL_S = 0.05
LOOK_S = 0.5
BATCH = re.compile(rb'"type": ?"batch"')
MORE, MORE_BATCHES = 1.2, 10  # a server that counts ends by itself before that
KILL_S = 3.0
TRACE = (".json", ".json.gz")
STOP = "stop"
_ODD = re.compile(r"[^A-Za-z0-9_.@+=,-]")
LONGEST_NAME = 150


class Lost(Exception):
    """There is no capture; the text says why."""


class Times:
    """Moments of one capture: the realtime clock as it was at its start, counted on by the monotonic one."""

    def __init__(self) -> None:
        pair = clock.pair()
        self.offset_ns = pair["realtime_ns"] - pair["monotonic_ns"]
        self.noted: dict[str, int] = {"offset_ns": self.offset_ns}

    def note(self, name: str) -> None:
        """Note the time."""
        self.noted[name] = time.monotonic_ns() + self.offset_ns


def post(url: str, path: str, body: dict[str, Any] | None, timeout_s: float) -> int:
    """POST a JSON body to a server on loopback; its status, an error's too. Raises Lost."""
    data = json.dumps(body).encode() if body is not None else b""
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(url + path, data, kind, method="POST")  # noqa: S310 - a server of ours
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        slow = isinstance(why, TimeoutError) or "timed out" in str(why)
        told = f"no answer within {timeout_s:g} s" if slow else str(why)
        raise Lost(f"POST {path}: {told}") from error


def traces(folder: str) -> set[Path]:
    """The trace files of a folder."""
    with contextlib.suppress(OSError):
        return {Path(entry.path) for entry in os.scandir(folder) if entry.name.endswith(TRACE)}
    return set()


def waited(until: Callable[[], object], seconds: float) -> bool:
    """Wait for something, for so long at most; whether it came."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


class Whole:
    """Whether there is a trace of every rank, and none grew any more between two looks."""

    def __init__(self, written: Callable[[], set[Path]], ranks: int) -> None:
        self.written = written
        self.ranks = ranks
        self.sizes: dict[Path, int] = {}
        self.next_look = 0.0

    def __call__(self) -> bool:
        """Look, if it is time to."""
        if time.monotonic() < self.next_look:
            return False
        self.next_look = time.monotonic() + LOOK_S
        before, self.sizes = self.sizes, {path: path.stat().st_size for path in self.written()}
        return len(self.sizes) >= self.ranks and self.sizes == before


class Passed:
    """Whether so many iterations have passed, and some more, as the probe tells: not every server counts."""

    def __init__(self, folder: str, iterations: int) -> None:
        self.folder = folder
        self.next_look = 0.0
        self.enough = self._batches() + iterations * MORE + MORE_BATCHES

    def __call__(self) -> bool:
        """Look, if it is time to."""
        if time.monotonic() < self.next_look:
            return False
        self.next_look = time.monotonic() + LOOK_S
        return self._batches() > self.enough

    def _batches(self) -> int:
        files = Path(self.folder).glob("batches-*.jsonl")
        return sum(len(BATCH.findall(path.read_bytes())) for path in files)


def by_server(asked: dict[str, Any], times: Times) -> set[Path]:
    """Have the server's profiler record some iterations; the traces that it wrote. Raises Lost."""
    os.makedirs(asked["traces"], exist_ok=True)
    before = traces(asked["traces"])
    (start, body), (stop, stop_body) = asked["start"], asked["stop"]
    times.note("start_ns")
    status = post(asked["url"], start, body, asked["start_s"])
    if status == http.client.NOT_FOUND:
        raise Lost("the server has no profiler: it was started without one")
    if status >= http.client.BAD_REQUEST:
        raise Lost(f"the server refuses to profile: POST {start} answers {status}")
    times.note("ready_ns")
    passed = Passed(asked["folder"], asked["iterations"])
    waited(lambda: traces(asked["traces"]) - before or passed(), asked["iterations_s"])
    times.note("stop_ns")
    end = time.monotonic() + asked["export_s"]
    try:
        # It is answered when what was written is whole; one that has stopped by itself may say that it has.
        status = post(asked["url"], stop, stop_body, asked["export_s"])
        # Ranks stop by themselves one after another, and an answer is that of one of them.
        ranks = asked.get("ranks", 1)
        whole = Whole(lambda: traces(asked["traces"]) - before, ranks)
        waited(whole, max(end - time.monotonic(), 0.0) if ranks > 1 else 0.0)
    finally:
        times.note("end_ns")
    written = traces(asked["traces"]) - before
    if not written:
        raise Lost(f"the server wrote no trace (POST {stop} answers {status})")
    return written


def by_command(asked: dict[str, Any], times: Times) -> set[Path]:
    """Have a program record until the stop file is there; what it wrote. Raises Lost."""
    output = Path(asked["output"])
    times.note("start_ns")
    try:
        child = subprocess.Popen(asked["command"], stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Lost(f"{asked['command'][0]}: {error.strerror or error}") from error
    try:
        if waited(lambda: child.poll() is not None, asked["start_s"]):
            raise Lost(f"{asked['command'][0]} ended with exit code {child.returncode} before the window")
        times.note("ready_ns")
        stop = Path(asked["folder"], f"{asked['name']}.{STOP}")
        waited(lambda: stop.exists() or child.poll() is not None, asked["window_s"])
        stop.unlink(missing_ok=True)
        times.note("stop_ns")
        ended_early = child.poll()
        child.send_signal(signal.SIGTERM)
        if not waited(lambda: child.poll() is not None, asked["export_s"]):
            raise Lost(f"{asked['command'][0]} did not end within {asked['export_s']:g} s of SIGTERM")
    finally:
        _end(child)
        times.note("end_ns")
    if ended_early is not None:
        raise Lost(f"{asked['command'][0]} ended with exit code {ended_early} within the window")
    if not output.is_file():
        raise Lost(f"{asked['command'][0]} left no {output.name} (exit code {child.returncode})")
    return {output}


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a program that may still run."""
    if child.poll() is None:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(KILL_S)


def collected(asked: dict[str, Any], written: set[Path]) -> list[str]:
    """Move traces into the run's folder, under names that a bundle may have. Raises Lost."""
    begin, names = f"{asked['name']}-", []
    for path in sorted(written):
        names.append(begin + _ODD.sub("_", path.name.removeprefix(begin))[-LONGEST_NAME:])
        try:
            os.replace(path, Path(asked["folder"], names[-1]))
        except OSError as error:
            raise Lost(f"{path.name} could not be stored: {error.strerror}") from error
    return names


def capture(asked: dict[str, Any]) -> dict[str, Any]:
    """Carry one capture out, and tell what came of it."""
    times = Times()
    files: list[str] = []
    lost = None
    try:
        files = collected(asked, (by_command if "command" in asked else by_server)(asked, times))
    except Lost as error:
        lost = str(error)
    if lost is None and len(files) < asked.get("ranks", 1):
        lost = f"{len(files)} of {asked['ranks']} ranks wrote a trace"
    return {"type": "capture", "name": asked["name"], **times.noted, "files": files, "lost": lost}


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(capture(json.loads(sys.argv[1]))) + "\n")
