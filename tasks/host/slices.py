"""The scheduler's slices of the engine's threads: on a CPU, and in the queue for one, into slices.jsonl.

    python3 -m tasks.host.slices --out FILE --engine-session ID [--cpus 0,2] [--seconds 60]

Needs root and `perf`. The CPUs are the engine's: what else runs there is told as who ran instead. perf's
records are made into slices on our own CPUs as they come: what is left is JSON lines, 45 bytes a slice,
which no version of perf is needed to read. What comes faster than that is lost from perf's buffers, and
counted; after --most slices the recording stops and says so. It goes on until SIGTERM. Standard library
only (Python >= 3.9).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time

from tasks.host import perf, processes, recording, tracepoints
from tasks.host.slicing import Slicer

LOOK_S = 0.2
DRAIN_S = 2.0  # of the three that the supervisor gives
FLUSH_S = 5.0
MOST = 1_000_000  # slices: about 45 MB, which a load of a run takes in its memory


def engine_processes(session: int) -> set[int]:
    """Pids of the engine's session and of their descendants, whatever session they have made."""
    parents = {}
    pids = set()
    for entry in os.scandir("/proc"):
        fields = processes.stat_fields(int(entry.name)) if entry.name.isdigit() else None
        if fields:
            parents[int(entry.name)] = int(fields[1])
            if int(fields[3]) == session:
                pids.add(int(entry.name))
    while True:
        more = {pid for pid, parent in parents.items() if parent in pids} - pids
        if not more:
            return pids
        pids |= more


def threads(pids: set[int]) -> dict[int, int]:
    """{tid: pid} of these processes."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            found.update({int(tid): pid for tid in os.listdir(f"/proc/{pid}/task")})
    return found


class Recorder:
    """perf, and what makes slices of its records. Raises Missing where the host cannot have it."""

    def __init__(self, session: int, cpus: list[int], most: int) -> None:
        lack = perf.missing()
        if lack:
            raise perf.Missing(lack)
        self.most = most
        self.reason: str | None = None  # why it ended by itself
        self.perf = perf.Perf(cpus)
        try:
            begin_ns = self.perf.enable()
            self.decoder = tracepoints.Decoder(tracepoints.layouts())
        except (perf.Missing, tracepoints.Unknown) as error:
            self.perf.close()
            raise perf.Missing(str(error)) from error
        pids = engine_processes(session)
        self.slicer = Slicer(pids, threads(pids), begin_ns)
        self.flush_due = time.monotonic() + FLUSH_S

    def turn(self, seconds: float) -> bool:
        """Take what comes within so long; whether more can come."""
        piece = self.perf.read(seconds)
        if piece is None:
            return False
        try:
            self.slicer.take(self.decoder.feed(piece))
        except tracepoints.Unknown as error:
            self.reason = str(error)
            return False
        if time.monotonic() > self.flush_due:
            self.slicer.flush()
            self.flush_due = time.monotonic() + FLUSH_S
        return True

    def goes_on(self) -> bool:
        """Take what comes for a while; False, with the reason, when the recording cannot go on."""
        if not self.turn(LOOK_S):
            self.reason = self.reason or self.perf.last_words()
        elif self.slicer.slices >= self.most:
            self.reason = f"{self.most} slices are recorded, which is the most"
        return self.reason is None

    def stop(self) -> None:
        """Stop, take what is left, and cut what goes on to the end."""
        try:
            self.slicer.end_ns = self.perf.disable()
            self.perf.finish()
            end = time.monotonic() + DRAIN_S
            while self.turn(LOOK_S) and time.monotonic() < end:
                pass
        except perf.Missing as error:
            self.reason = self.reason or str(error)
        self.slicer.take(self.decoder.close())
        if self.reason or self.perf.process.poll() is None:  # what was heard last is the end
            self.slicer.end_ns = self.slicer.last_ns
        self.slicer.finish()

    def last_line(self) -> str:
        """What the recording covers, and what is missing in it."""
        slicer = self.slicer
        told = {
            "type": "recorded", "begin_mono_ns": slicer.begin_ns, "end_mono_ns": slicer.end_ns,
            "slices": slicer.slices, "lost_events": slicer.lost, "odd_events": slicer.odd,
            "reason": self.reason,
        }  # fmt: skip
        return json.dumps(told)


def record(path: str, recorder: Recorder, seconds: float) -> None:
    """Record until SIGTERM, or for so long, or until it cannot go on. Raises recording.NotWritten."""
    out = recording.Lines(path)
    end = time.monotonic() + seconds
    while recorder.goes_on() and time.monotonic() < end and not signal.sigtimedwait(recording.STOP, 0):
        out.add(recorder.slicer.told())
    recorder.stop()
    out.add([*recorder.slicer.told(), recorder.last_line()])
    out.close()


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="record the scheduler's slices of the engine into a file")
    parser.add_argument("--out", required=True)
    parser.add_argument("--engine-session", type=int, required=True)
    parser.add_argument(
        "--cpus", type=_numbers, default=[], help="the engine's CPUs, such as 0,2; default: all"
    )
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--most", type=int, default=MOST, help="slices")
    given = parser.parse_args(argv)
    signal.pthread_sigmask(signal.SIG_BLOCK, recording.STOP)
    try:
        recorder = Recorder(given.engine_session, given.cpus, given.most)
    except perf.Missing as error:
        sys.stderr.write(f"no scheduler slices: {error}\n")
        return os.EX_UNAVAILABLE
    try:
        record(given.out, recorder, given.seconds)
    except recording.NotWritten as error:
        sys.stderr.write(f"{error}: recording stops\n")
        return recording.NOT_WRITTEN
    finally:
        recorder.perf.close()
    if recorder.reason:
        sys.stderr.write(f"the recording of slices ended early: {recorder.reason}\n")
        return os.EX_SOFTWARE
    return 0


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
