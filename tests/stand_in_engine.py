#!/usr/bin/env python3
"""Stands where an engine's interpreter stands, so that a run's life cycle can be tested in seconds.

It is no engine and measures nothing: it answers /health, writes batch records of a fixed shape to the
folder that the probe's target names, and dies on demand. What the real engine does is in the e2e tests.

    stand_in_engine.py -c "..."                          prints a version
    stand_in_engine.py -m X serve MODEL --port=P ...     the "server"; MODEL says how it behaves:
                                                         steady | dies-at-start | dies-in-fault |
                                                         stays-slow (presses on its own CPU once the
                                                         fault has come) | spoils-records | errs |
                                                         refuses-half (of its requests) |
                                                         never-writes (a capture is never over) |
                                                         obeys=FILE, which says how long a batch takes,
                                                         ms, or `ill`: then it is not healthy
                                                         With --profiler-config=JSON it can be captured over
                                                         HTTP: its "trace" tells the batches it has written.
    stand_in_engine.py -m X bench serve ...              the "load client": waits to be ended
"""

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

EXPORT_S = 0.5


class Capture:
    """The profiler that stands in: it takes the batches, and writes them as a trace while nothing goes on."""

    folder = ""
    model = ""
    taken: list[tuple[int, int]] | None = None
    wanted = 0
    written = threading.Event()

    @classmethod
    def take(cls, start: int, end: int) -> None:
        """Take a batch; when it is the last that was asked for, write them all."""
        if cls.taken is not None:
            cls.taken.append((start, end))
            if len(cls.taken) == cls.wanted:
                cls.write()

    @classmethod
    def write(cls) -> None:
        """Write what was taken, as torch does, and let the batches wait for a while."""
        taken, cls.taken = cls.taken, None
        if taken is not None and cls.model != "never-writes":
            time.sleep(EXPORT_S)
            path = Path(cls.folder, f"rank0.{time.time_ns()}.pt.trace.json.gz")
            path.write_bytes(gzip.compress(json.dumps(trace(taken)).encode()))
            cls.written.set()


def trace(taken: list[tuple[int, int]]) -> dict[str, object]:
    """Step labels and an operator each, in us from a base in the clock of 1970."""
    offset = time.time_ns() - time.monotonic_ns()
    base, pid = taken[0][0] + offset, os.getpid()
    events = []
    for start, end in taken:
        ts, dur = (start + offset - base) / 1e3 + 20, (end - start) / 1e3 - 40
        about = {"ph": "X", "pid": pid, "tid": pid}
        label = "execute_context_0(0)_generation_2(2)"
        events.append({**about, "cat": "user_annotation", "name": label, "ts": ts, "dur": dur})
        events.append({**about, "cat": "cpu_op", "name": "aten::mm", "ts": ts + 1, "dur": dur - 2})
    return {"schemaVersion": 1, "baseTimeNanoseconds": base, "traceEvents": events}


def told(model: str) -> str:
    """What an obedient server is told just now; nothing where nobody has said anything."""
    kind, _, file = model.partition("=")
    return Path(file).read_text() if kind == "obeys" and Path(file).exists() else ""


class Health(http.server.BaseHTTPRequestHandler):
    """Answers 200 to every question, unless it is ill, and starts and stops captures."""

    def do_GET(self) -> None:
        """Say yes."""
        self.send_response(503 if told(Capture.model) == "ill" else 200)
        self.end_headers()

    def do_POST(self) -> None:
        """Start or stop the profiler, if there is one."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200 if Capture.folder else 404)
        if Capture.folder and self.path == "/start_profile":
            Capture.written.clear()
            Capture.wanted = json.loads(body)["max_iterations"]
            Capture.taken = []
        elif Capture.folder and self.path == "/stop_profile":
            Capture.write()
            Capture.written.wait(600)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def write_batches(model: str) -> None:
    """Write a batch record every 10 ms for whichever run the target names."""
    target, number = Path(os.environ["LPRISM_PROBE_TARGET"]), 0
    errors = 2 if model == "errs" else 0
    while True:
        folder = target.read_text()
        if folder:
            if model == "spoils-records":
                Path(folder, "a folder").mkdir()
            path = Path(folder, f"batches-{os.getpid()}.jsonl")
            with path.open("a") as file:
                write_clock(file)
                while target.read_text() == folder:
                    number += 1
                    write_batch(file, number, told(model))
                    if model == "refuses-half":
                        code = ("200 OK", "500 Internal Server Error")[number % 2]
                        sys.stdout.write(f'INFO: 127.0.0.1:1 - "POST /v1/completions HTTP/1.1" {code}\n')
                        sys.stdout.flush()
                    if Path(folder, "fault.log").exists():
                        model = meet_fault(model)
                write_clock(file)
                file.write(json.dumps({"type": "end", "pid": os.getpid(), "probe_errors": errors}) + "\n")
        time.sleep(0.02)


def meet_fault(model: str) -> str:
    """Do what the model does under the fault; returns how it goes on."""
    if model == "dies-in-fault":
        sys.stdout.write("RuntimeError: stood in until the fault\n")
        sys.stdout.flush()
        os._exit(3)
    if model == "stays-slow":
        for _ in range(2):
            subprocess.Popen([sys.executable, "-c", "while True: pass"])  # in our session: ended with us
    return "steady"


def write_clock(file: TextIO) -> None:
    """Write a clock line."""
    pair = {"realtime_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()}
    file.write(json.dumps({"type": "clock", "pid": os.getpid(), **pair}) + "\n")


def write_batch(file: TextIO, number: int, told_ms: str) -> None:
    """Spend 10 ms, or as long as is told, and write it down as a decode step of two requests."""
    start = time.monotonic_ns()
    time.sleep(int(told_ms) / 1e3 if told_ms.isdigit() else 0.01)
    end = time.monotonic_ns()
    Capture.take(start, end)
    file.write(json.dumps({
        "type": "batch", "source": "vllm_probe", "pid": os.getpid(), "rank": 0, "iteration": number,
        "requests": [[8, 8 + number % 8, 1, number % 8]] * 2, "admitted": 0, "finished": 0, "preempted": 0,
        "prefix_hit_tokens": 0, "start_mono_ns": start, "execute_end_mono_ns": end, "end_mono_ns": end,
    }) + "\n")  # fmt: skip
    file.flush()


def serve(model: str, port: int, profiler: str) -> None:
    """Be the server."""
    Capture.model = model
    Capture.folder = json.loads(profiler)["torch_profiler_dir"] if profiler else ""
    if model == "dies-at-start":
        sys.stdout.write("INFO loading\nValueError: no such model: dies-at-start\n")
        sys.exit(7)
    threading.Thread(target=write_batches, args=(model,), daemon=True).start()
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Health).serve_forever()


def main(argv: list[str]) -> None:
    """Do what the command line asks for."""
    if argv[0] == "-c":
        sys.stdout.write("0.32.0+stand-in\n")
    elif "bench" in argv:
        time.sleep(600)
    else:
        port = next(int(word.partition("=")[2]) for word in argv if word.startswith("--port="))
        profiler = "".join(word.partition("=")[2] for word in argv if word.startswith("--profiler-config="))
        serve(argv[argv.index("serve") + 1], port, profiler)


if __name__ == "__main__":
    main(sys.argv[1:])
