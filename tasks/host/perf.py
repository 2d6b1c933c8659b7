"""A running `perf record` of the scheduler's tracepoints, which writes into a pipe: nothing on disk.

perf counts what it loses, is told when to begin and to stop, and follows every new thread: the kernel
filters by CPU, which a thread that comes later does not escape as it would a list of pids. Where it was not
mounted perf mounts tracefs, which stays. Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time

INIT_PID_NAMESPACE = "pid:[4026531836]"
START_S, STOP_S = 10.0, 2.0
PIPE_BYTES = 1 << 20
FILTERED = {
    "sched_switch": ("CPU",), "sched_wakeup": ("target_cpu",), "sched_wakeup_new": ("target_cpu",),
    "sched_migrate_task": ("orig_cpu", "dest_cpu"),
}  # fmt: skip


class Missing(Exception):
    """The host cannot have it; the text says why."""


def missing() -> str | None:
    """Why this host cannot record the scheduler; None when it seems that it can."""
    if os.geteuid() != 0:
        return "the scheduler's tracepoints are for root"
    if shutil.which("perf") is None:
        return "there is no perf: the package is linux-perf, or linux-tools"
    with contextlib.suppress(OSError):
        if os.readlink("/proc/self/ns/pid") != INIT_PID_NAMESPACE:
            return "this is a container with pids of its own: the tracepoints speak of the host's"
    return None


def argv(cpus: list[int], told: int, answered: int) -> list[str]:
    """The command, for what happens on these CPUs, or on all; it is told on one descriptor, and answers."""
    words = [
        "perf", "record", "-q", "-a", "-k", "CLOCK_MONOTONIC", "-D", "-1",
        "--control", f"fd:{told},{answered}", "--synth=no", "--no-bpf-event", "-B", "-N", "-o", "-",
    ]  # fmt: skip
    for event, fields in FILTERED.items():
        words += ["-e", f"sched:{event}"]
        if cpus:
            words += ["--filter", " || ".join(_one_of(field, cpus) for field in fields)]
    return words


def _one_of(field: str, cpus: list[int]) -> str:
    """A condition of the kernel's filters, in ranges, for its length is bounded."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return " || ".join(
        f"{field} == {a}" if a == b else f"({field} >= {a} && {field} <= {b})" for a, b in ranges
    )


class Perf:
    """A running `perf record`; its records come out of `pipe`. Raises Missing with its last words."""

    def __init__(self, cpus: list[int]) -> None:
        told, tell = os.pipe()
        answer, answered = os.pipe()
        try:
            self.process = subprocess.Popen(
                argv(cpus, told, answered), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, pass_fds=(told, answered), preexec_fn=_deaf,
                env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
        except OSError as error:
            raise Missing(f"perf: {error.strerror}") from error
        finally:
            os.close(told)
            os.close(answered)
        self.tell, self.answer = tell, answer
        self.pipe = self.process.stdout.fileno() if self.process.stdout else -1
        os.set_blocking(self.pipe, False)
        with contextlib.suppress(OSError, ImportError):
            _widen(self.pipe)
        self.early = b""

    def enable(self) -> int:
        """Begin; the monotonic time from which on everything is recorded, ns. Raises Missing."""
        self._say(b"enable\n")
        return time.monotonic_ns()

    def disable(self) -> int:
        """Stop; the monotonic time up to which everything was recorded, ns. Raises Missing."""
        at_ns = time.monotonic_ns()
        self._say(b"disable\n")
        return at_ns

    def _say(self, word: bytes) -> None:
        """Say it and wait for the answer; what comes out of the pipe meanwhile is kept for read()."""
        try:
            os.write(self.tell, word)
        except OSError:
            raise Missing(self.last_words()) from None
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            ready = select.select([self.answer, self.pipe], [], [], 0.2)[0]
            if self.answer in ready:
                if os.read(self.answer, 64):
                    return
                raise Missing(self.last_words())
            if self.pipe in ready:
                piece = self._piece()
                if piece == b"":
                    raise Missing(self.last_words())
                self.early += piece or b""
        raise Missing(f"perf did not answer within {START_S:g} s")

    def _piece(self) -> bytes | None:
        """What is there; None when nothing is yet, b"" when it has ended."""
        try:
            return os.read(self.pipe, PIPE_BYTES)
        except BlockingIOError:
            return None

    def read(self, seconds: float) -> bytes | None:
        """What has come within so long; None when it has ended."""
        early, self.early = self.early, b""
        if early:
            return early
        if not select.select([self.pipe], [], [], seconds)[0]:
            return b""
        piece = self._piece()
        return b"" if piece is None else piece or None

    def finish(self) -> None:
        """Let it write the rest and end; read() gives that until None."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def last_words(self) -> str:
        """Why it has ended, or what it says."""
        self.close()
        said = (
            (self.process.stderr.read() if self.process.stderr else b"").decode(errors="replace").split("\n")
        )
        lines = [line.strip() for line in said if line.strip()]
        return f"perf ended: {' '.join(lines)[:300] or f'exit code {self.process.returncode}'}"

    def close(self) -> None:
        """End it, whatever it does."""
        self.finish()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_S)


def _deaf() -> None:
    """A SIGTERM for the whole session must not end it before what it holds has been asked for."""
    signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGTERM, signal.SIGHUP))


def _widen(pipe: int) -> None:
    import fcntl

    fcntl.fcntl(pipe, getattr(fcntl, "F_SETPIPE_SZ", 1031), PIPE_BYTES)
