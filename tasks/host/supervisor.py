"""The supervisor: starts, measures and ends everything a campaign runs on this host.

    python3 -m tasks.host.supervisor FOLDER [OWNER]

Reads one JSON request a line on stdin, answers one JSON line each on stdout. The orchestrator also
writes a heartbeat line every 2 s; 10 s without one, end of input, SIGTERM, SIGHUP or SIGINT end the
session, and everything it started is ended, the fault first. A second process, the watchdog, does
the same when this one dies. One supervisor a host at a time (a lock, given back by the kernel).
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any, Callable

from tasks.host import clock, facts, fault, lease, ports, processes, state, strengths, undo
from tasks.host.site import Site, Trouble, boot_id, write

LOG_TAIL_BYTES = 65_536  # a dying vLLM reports a hundred lines after the exception that matters
ANSWER = re.compile(rb'"POST /(?:v1/completions|v1/chat/completions|generate) HTTP/[0-9.]+" ([0-9]{3})')
RENEW_EVERY_NS = 1_500_000_000
BUSY_S = 8.0  # the longest a command may keep us from the next heartbeat: the watchdog waits 12 s


class Refused(Exception):
    """A request cannot be granted; the text goes to the user as it is."""


class Session:
    """What the orchestrator may ask for: every public method is one request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.watchdog = 0
        self.holder: dict[str, Any] = {}
        self.renew_ns = 0
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.logs: dict[str, Path] = {}

    def hold(self, owner: str) -> None:
        """Put our name on the lease."""
        guards = [(pid, processes.start_ticks(pid) or 0) for pid in (os.getpid(), self.watchdog)]
        self.holder = {
            "session": self.folder.name, "owner": owner, "guards": guards, "since_ns": time.time_ns(),
            "doing": None,
        }  # fmt: skip
        lease.write(self.folder, self.holder)

    def heard(self, doing: dict[str, Any] | None = None) -> None:
        """The orchestrator was heard from: the lease is ours for longer, and what it does now is known."""
        state.beat(self.folder)
        if doing is not None:
            self.holder["doing"] = doing
        if time.time_ns() > self.renew_ns:
            self.renew_ns = time.time_ns() + RENEW_EVERY_NS
            lease.write(self.folder, self.holder)

    def facts(self) -> dict[str, Any]:
        """What this host is."""
        return facts.gather(self.folder)

    def bind(self, cpus: list[int]) -> None:
        """Keep this process and its watchdog on these CPUs, out of the server's way."""
        for pid in (0, self.watchdog):
            os.sched_setaffinity(pid, cpus)

    def disk_free(self) -> int:
        """Bytes that can still be written where runs are recorded."""
        return shutil.disk_usage(self.folder).free

    def mark(self) -> dict[str, int]:
        """The time now, on the clock that joins everything."""
        pair = clock.pair()
        return {"epoch_ns": pair["realtime_ns"], "monotonic_ns": pair["monotonic_ns"]}

    def port(self, wanted: int | None) -> int:
        """A free port on loopback, or the wanted one if it is free."""
        try:
            return ports.free(wanted)
        except ports.InUse as error:
            raise Refused(str(error)) from error

    def run_folder(self, run_id: str) -> str:
        """Make the folder of one run."""
        if not run_id.isalnum():
            raise Refused(f"{run_id!r} is no run id")
        folder = self.folder / "runs" / run_id
        folder.mkdir(parents=True)
        return str(folder)

    def start(
        self,
        name: str,
        argv: list[str],
        log: str,
        cpus: list[int] | None = None,
        env: dict[str, str] | None = None,
    ) -> int:
        """Start a process in a session of its own; returns the session's id."""
        if name in self.children:
            raise Refused(f"{name} is running already")
        record = state.record_of(self.folder, name)
        with processes.undisturbed():
            try:
                child = processes.start(argv, Path(log), record, cpus, env, self.folder)
            except (OSError, subprocess.SubprocessError) as error:
                record.unlink(missing_ok=True)
                raise Refused(f"cannot start {argv[0]}: {error}") from error
            self.children[name], self.logs[name] = child, Path(log)
        return child.pid

    def alive(self, name: str) -> dict[str, Any]:
        """{"alive", "exit_code"} of a started process."""
        code = self.children[name].poll()
        return {"alive": code is None, "exit_code": code}

    def stop(self, name: str, grace_s: float = 3.0) -> int | None:
        """End a process and all its descendants; returns its exit code (None: it was not running)."""
        child = self.children.pop(name, None)
        if child is None:
            return None
        try:
            processes.end_session(child.pid, grace_s)
        except processes.StillAlive as error:
            self.children[name] = child
            raise Refused(f"{name} did not end: {error}") from error
        state.forget(self.folder, name)
        return child.wait(timeout=5)

    def tail(self, name: str) -> str:
        """The end of a process's log."""
        with self.logs[name].open("rb") as file:
            file.seek(max(self.logs[name].stat().st_size - LOG_TAIL_BYTES, 0))
            return file.read().decode(errors="replace")

    def healthy(self, url: str) -> bool:
        """Whether a GET on a loopback URL answers 200 within 2 s."""
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, timeout=2) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def output(self, argv: list[str], cpus: list[int]) -> str:
        """Run a command of a few seconds to its end on these CPUs; returns what it printed, or refuses."""

        def bind() -> None:
            os.sched_setaffinity(0, cpus)

        try:
            ended = subprocess.run(
                argv, capture_output=True, text=True, timeout=BUSY_S, check=False, preexec_fn=bind
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Refused(f"{argv[0]}: {error}") from error
        if ended.returncode != 0:
            raise Refused(f"{argv[0]} exited with {ended.returncode}: {ended.stderr.strip()[-400:]}")
        return ended.stdout

    def record(self, run_folder: str) -> None:
        """Point the function probe at this run's folder; an empty text switches it off."""
        draft = self.folder / ".probe_target"
        draft.write_text(run_folder)
        os.replace(draft, self.folder / "probe_target")

    def batches(self, run_folder: str) -> int:
        """How many batches the function probe has written for this run."""
        return sum(path.read_bytes().count(b'"batch"') for path in Path(run_folder).glob("batches-*.jsonl"))

    def probe_errors(self, run_folder: str) -> int | None:
        """Errors and lost records of the probe in this run; None until it has written its last line."""
        errors = 0
        for path in Path(run_folder).glob("batches-*.jsonl"):
            _, end, rest = path.read_bytes()[-200:].rpartition(b'{"type": "end"')
            if not rest.endswith(b"\n") or not end:
                return None
            said = json.loads(end + rest)
            errors += int(said["probe_errors"]) + int(said.get("lost_records", 0))
        return errors

    def session_of(self, pid: int) -> int:
        """The process session that a server of somebody else's is in."""
        fields = processes.stat_fields(pid)
        if fields is None or fields[0] in ("Z", "X"):
            raise Refused(f"no process has pid {pid}")
        if int(fields[3]) in (0, os.getsid(0)):  # the kernel's own session, and ours
            raise Refused(f"pid {pid} is in no process session of its own: start the server with setsid")
        return int(fields[3])

    def fault_plan(
        self, anomaly: str, strength: dict[str, Any], cpus: list[int], seconds: float, log: str,
        target: int | None = None, gpus: list[int] | None = None, python: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Say which fault the next requests are about; returns its strength with the defaults filled in.

        `target` is the process session of the server, by default the one started here.
        """
        if seconds < 1:
            raise Refused(f"a fault lasts at least 1 s, not {seconds:g}")
        if (self.folder / fault.STATE).exists():
            raise Refused("a fault is on already: revert it first")
        if target is None and "engine" in self.children:
            target = self.children["engine"].pid
        whole = strengths.complete(anomaly, fault.injector(anomaly).STRENGTH, strength)
        peer = (os.environ.get("SSH_CONNECTION") or "").partition(" ")[0] or None
        guards = [(pid, processes.start_ticks(pid) or 0) for pid in (os.getpid(), self.watchdog)]
        site = Site(
            anomaly,
            whole,
            str(self.folder),
            log,
            cpus,
            seconds,
            target,
            gpus or [],
            python,
            peer,
            guards=guards,
        )
        write(site, self.folder / fault.PLAN)
        return whole

    def fault_start(self, what: str) -> None:
        """Begin to `check` for what is lacking, to `measure` or to `hold`: then ask `fault_said`."""
        name = fault.HOLDER if what == "hold" else f"fault-{what}"
        self.stop(name)
        for old in (f"fault-{what}.json", *(["fault-ended"] if what == "hold" else [])):
            (self.folder / old).unlink(missing_ok=True)
        argv = [sys.executable, "-m", "tasks.host.fault", str(self.folder), what]
        self.start(name, argv, str(self.folder / "fault.log"), env={"PYTHONPATH": os.getcwd()})

    def fault_said(self, what: str) -> dict[str, Any] | None:
        """{"value": ...} once that part of the fault is done; None while it goes on."""
        name = fault.HOLDER if what == "hold" else f"fault-{what}"
        ended = self.children[name].poll() is not None  # looked at first: it writes, then it ends
        try:
            said: dict[str, Any] = json.loads((self.folder / f"fault-{what}.json").read_text())
        except FileNotFoundError:
            if ended:
                raise Refused(f"the fault's {what} died; it said last: {self.tail(name)[-300:]}") from None
            return None
        if "refused" in said:
            raise Refused(said["refused"])
        return said

    def fault_ended(self) -> str | None:
        """Why the fault ended by itself; None while it holds."""
        path = self.folder / "fault-ended"
        if path.exists():
            return str(json.loads(path.read_text()))
        return None if (self.folder / fault.STATE).exists() else "it was undone"

    def fault_revert(self) -> None:
        """Undo the fault and see that it is gone; else this host is dirty from now on."""
        left = undo.the_fault(self.folder)
        self.children.pop(fault.HOLDER, None)
        if left:
            raise Refused(f"the fault is not undone, the host is dirty: {left}")

    def fault_judge(self, before: float, during: float, after: float) -> dict[str, bool]:
        """Whether the effect and its undo are proved by the three measures."""
        site = fault.planned(self.folder)
        module = fault.injector(site.anomaly)
        return {"proved": module.proved(site, before, during), "undone": module.undone(site, before, after)}

    def mark_dirty(self, why: str) -> None:
        """No fault and no cell may run on this host until it was restored."""
        state.mark_dirty(self.folder, why)

    def look(self) -> None:
        """Reap what ended, and undo a fault whose own process cannot."""
        for child in self.children.values():
            child.poll()
        why = fault.forsaken(self.folder)
        if why:
            state.write_json(self.folder / "fault-ended", why)
            undo.the_fault(self.folder)

    def checksums(self, run_folder: str) -> dict[str, tuple[int, str]]:
        """{file name: (size, sha256)} of a run's folder."""
        sums = {}
        for path in sorted(Path(run_folder).iterdir()):
            sums[path.name] = facts.size_and_sha256(path)
            self.heard()  # large files take longer than the watchdog's patience
        return sums

    def remove(self, run_folder: str) -> None:
        """Delete a run's folder, after it was fetched; only inside this session's own folder."""
        if Path(run_folder).parent != self.folder / "runs":
            raise Refused(f"{run_folder} is not one of our run folders")
        shutil.rmtree(run_folder)

    def sweep(self, run_ids: list[str]) -> list[str]:
        """Delete what ended sessions kept of these runs, which are elsewhere now; returns the folders."""
        wanted = set(run_ids)
        found = [path for path in self.folder.parent.glob("*/runs/*") if path.name in wanted]
        kept = [path for path in found if path.parents[1] != self.folder and not path.is_symlink()]
        for path in kept:
            shutil.rmtree(path)
        return [str(path) for path in kept]

    def answers(self, name: str, since: int = 0) -> dict[str, int]:
        """How a server answered requests for tokens since that byte of its log: {"end", "ok", "failed"}.

        Both engines' front ends are uvicorn, which writes a line a request. With -1 nothing is counted yet.
        """
        if since < 0:
            return {"end": self.logs[name].stat().st_size, "ok": 0, "failed": 0}
        with self.logs[name].open("rb") as file:
            file.seek(since)
            text = file.read()
        codes = ANSWER.findall(text)
        ok = sum(code.startswith(b"2") for code in codes)
        return {"end": since + len(text), "ok": ok, "failed": len(codes) - ok}

    def close(self) -> list[str]:
        """End everything; returns what could not be ended."""
        self.children = {name: child for name, child in self.children.items() if child.poll() is None}
        failures = undo.everything(self.folder)
        for child in self.children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=1)
        return failures


def answer(session: Session, line: bytes) -> dict[str, Any] | None:
    """One request line to its answer; a heartbeat has none."""
    request = json.loads(line)
    if request["do"] == "heartbeat":
        session.heard(request.get("doing"))
        return None
    reply: dict[str, Any] = {"id": request["id"]}
    try:
        reply["value"] = _method(session, request["do"])(**request.get("with", {}))
    except (Refused, Trouble, strengths.Unusable) as error:
        reply["refused"] = str(error)
    except Exception as error:  # noqa: BLE001  the orchestrator hears of it, and we live on to the undo
        reply["refused"] = f"{request['do']} failed on the host: {error!r}"
    return reply


def serve(session: Session, watchdog: subprocess.Popen[bytes]) -> str:
    """Answer until the end of input, silence, or the death of the watchdog; returns why it ended."""
    buffer = b""
    state.beat(session.folder)
    while True:
        readable, _, _ = select.select([0], [], [], 0.5)
        session.look()
        if readable:
            chunk = os.read(0, 65536)
            if not chunk:
                return "end of input"
            session.heard()
            *lines, buffer = (buffer + chunk).split(b"\n")
            closing = [_answered_close(session, line) for line in lines]  # every line gets its answer
            if True in closing:
                return "closed"
        if state.silent_for_s(session.folder) > state.HEARTBEAT_LIMIT_S:
            return "no heartbeat"
        if watchdog.poll() is not None:
            return "the watchdog died"


def _method(session: Session, name: str) -> Callable[..., Any]:
    method = None if name.startswith("_") else getattr(session, name, None)
    if not callable(method):
        raise Refused(f"no such request: {name}")
    found: Callable[..., Any] = method
    return found


def _answered_close(session: Session, line: bytes) -> bool:
    reply = answer(session, line)
    if reply is not None:
        os.write(1, json.dumps(reply).encode() + b"\n")
    return bool(json.loads(line)["do"] == "close")


def main(folder: Path, owner: str = "") -> int:
    """Take the lease, start the watchdog, serve, undo. `owner` is who asks, for others to read."""
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGHUP, _end)
    signal.signal(signal.SIGTERM, _end)
    folder.mkdir(parents=True)
    try:
        file, taken_from = lease.take(folder.parent)
    except lease.Held as held:
        return _refused({"refused": str(held), "holder": held.holder})
    with file:
        if taken_from:
            undo.everything(folder.parent / taken_from)  # what it leaves makes the host dirty
        why = undo.why_dirty(folder.parent)
        if why:
            refusal = f"this host is dirty: {why}; lprism restore proves it clean"
            return _refused({"refused": refusal, "dirty": why})
        (folder / "boot").write_text(boot_id())
        status = _lead(folder, file.fileno(), owner)
        if status == 0:  # else the watchdog keeps it: something is left to undo
            lease.give_back(file, folder.parent)
        return status


def _refused(why: dict[str, Any]) -> int:
    print(json.dumps({"id": 0, **why}), flush=True)
    return 1


def _lead(folder: Path, lock: int, owner: str) -> int:
    session = Session(folder)
    session.record("")
    state.beat(folder)
    watch = [sys.executable, "-m", "tasks.host.watchdog", str(folder), str(os.getpid())]
    log, record = folder / "watchdog.log", folder / "watchdog.session"
    watchdog = processes.start(watch, log, record, cwd=Path.cwd(), keep=(lock,))
    session.watchdog = watchdog.pid
    session.hold(owner)
    print(json.dumps({"id": 0, "value": "ready"}), flush=True)
    why = "interrupted"
    try:
        why = serve(session, watchdog)
    except (KeyboardInterrupt, OSError):  # told to end, nobody listens any more, or the disk is full
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # nothing interrupts the undo
        failures = session.close()
        if not failures:  # else the watchdog tries once more when we are gone
            with contextlib.suppress(OSError):
                state.write_json(folder / "closed", {"why": why})
    return 1 if failures else 0


def _end(number: int, _frame: Any) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), *sys.argv[2:3]))
