"""What the sampler costs: its share of a CPU beside a server under load, at 10 and 100 samples a second.

    python -m tests.bench_sampler [--engine PYTHON] [--windows 6] [--seconds 5] [--hz 10,100] [--code DIR]

With --engine, an interpreter that has vLLM, it serves the tiny model to four clients at a time; else there is
a stand-in of as many threads: three processes, 99 threads, one busy and six that wake 200 times a second. The
sampler's CPU time is its process clock's, read around windows that begin when it has settled; imports are not
in it. Prints the median and the range of the windows a rate, what a line costs in bytes, and what 1 Hz of
/metrics costs the recorder and the server (--engine: by switching the recorder on and off, window by window).
`--code` measures another checkout's sampler.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.host.census import Census, used_ns
from tasks.host.facts import usable_cpus
from tasks.host.readings import Files
from tests.tree import ROOT

STAND_IN = """
import multiprocessing, threading, time
def doze(seconds):
    while True: time.sleep(seconds)
def work(busy):
    for k in range(32):
        threading.Thread(target=doze, args=(0.005 if k < 2 else 3600,), daemon=True).start()
    while busy: sum(range(1000))
    doze(3600)
children = [multiprocessing.Process(target=work, args=(busy,), daemon=True) for busy in (True, False)]
for child in children: child.start()
work(False)
"""
READY_S, SETTLE_S = 180.0, 3.0


@contextmanager
def started(argv: list[str], cpus: list[int], **other: str) -> Iterator[int]:
    """A program in a session of its own, bound to these CPUs; all of the session is ended after."""
    with subprocess.Popen(
        argv, env={**os.environ, **other}, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, cwd=ROOT,
    ) as child:  # fmt: skip
        os.sched_setaffinity(child.pid, cpus)
        try:
            yield child.pid
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(child.pid, number)
                    child.wait(10)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


@contextmanager
def a_server(*, engine: str, cpus: list[int], ours: list[int]) -> Iterator[tuple[int, str]]:
    """(session, address) of a server under load; without the engine it has no address."""
    if not engine:
        with started([sys.executable, "-c", STAND_IN], cpus) as pid:
            time.sleep(SETTLE_S)
            yield pid, ""
        return
    from tasks.engines import vllm
    from tasks.lab.tiny_model import make_tiny_model
    from tasks.settings import cache_path

    model = str(make_tiny_model(cache_path()))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    flags: dict[str, Any] = {
        "load-format": "dummy",
        "enforce-eager": True,
        "max-model-len": 2048,
        "max-num-seqs": 16,
    }
    command = vllm.serve_command(engine, model, "127.0.0.1", port, flags)
    environment = vllm.serve_environment(cpu=True, threads=len(cpus))
    with started(command, cpus, **environment) as pid, tempfile.TemporaryDirectory() as folder:
        wait_for(url + vllm.READY_PATH)
        load = vllm.bench_command(
            engine, url, model, input_length=64, output_length=64, concurrency=4, prompts=100_000, seed=1,
            result_dir=folder, result_file="load.json",
        )  # fmt: skip
        with started(load, ours, **vllm.client_environment()):
            time.sleep(25)  # its imports, and the first requests
            yield pid, url


def wait_for(url: str) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310  our own server's
                return
        except OSError:
            time.sleep(0.5)
    sys.exit(f"the server did not answer within {READY_S:.0f} s")


def share(pid: int, seconds: float) -> float:
    """The CPU time of a process in % of one CPU, over so long."""
    before, begin = used_ns(pid) or 0, time.monotonic()
    time.sleep(seconds)
    return ((used_ns(pid) or 0) - before) / 1e7 / (time.monotonic() - begin)


def told(what: str, shares: list[float], more: str = "") -> None:
    """Print a row."""
    median = statistics.median(shares)
    say(f"{what:34} {median:7.3f} %  ({min(shares):.3f} to {max(shares):.3f}){more}")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def sampling(session: int, hz: str, cpus: list[int], ours: list[int], given: argparse.Namespace) -> None:
    """Measure the sampler at one rate."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "counters.jsonl")
        words = ["--out", str(out), "--engine-session", str(session), "--cpus", ",".join(map(str, cpus))]
        argv = [sys.executable, "-m", "tasks.host.sampler", *words, "--hz", hz]
        with started(["env", "-C", str(given.code), *argv], ours, PYTHONPATH=str(given.code)) as pid:
            time.sleep(SETTLE_S)
            shares = [share(pid, given.seconds) for _ in range(given.windows)]
        lines = out.read_bytes().splitlines()
    more = (
        f"  {sum(map(len, lines)) / max(len(lines), 1):.0f} bytes a line" if lines else "  it wrote nothing"
    )
    told(f"sampler at {hz} Hz", shares, more)


def scraping(session: int, url: str, ours: list[int], given: argparse.Namespace) -> None:
    """Measure the recorder of /metrics, and the server's first process with it and without."""
    recorder: list[float] = []
    without: list[float] = []
    beside: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "tasks.host.metrics", "--out", f"{folder}/metrics.jsonl"]
        for _ in range(given.windows):
            without.append(share(session, given.seconds))
            with started([*argv, "--url", f"{url}/metrics", "--family", "vllm:"], ours) as pid:
                time.sleep(SETTLE_S)
                before, begin = used_ns(pid) or 0, time.monotonic()
                beside.append(share(session, given.seconds))
                recorder.append(((used_ns(pid) or 0) - before) / 1e7 / (time.monotonic() - begin))
    told("recorder of /metrics at 1 Hz", recorder)
    told("server's front end without it", without)
    told("server's front end with it", beside)
    told("difference, pair by pair", [one - other for one, other in zip(beside, without, strict=True)])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="measure the cost of the sampler")
    parser.add_argument("--engine", default="", help="an interpreter that has vLLM")
    parser.add_argument("--windows", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--hz", default="10,100")
    parser.add_argument("--code", type=Path, default=ROOT)
    given = parser.parse_args()
    usable = usable_cpus()
    cpus, ours = usable[:1], usable[-1:]
    with a_server(engine=given.engine, cpus=cpus, ours=ours) as (session, url):
        census = Census(Files(), session, cpus)
        census.take()
        threads = sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in census.ours())
        say(
            f"{len(census.ours())} processes, {threads} threads of the server; "
            f"{len(census.people)} processes on the host"
        )
        for hz in given.hz.split(","):
            sampling(session, hz, cpus, ours, given)
        if url:
            scraping(session, url, ours, given)


if __name__ == "__main__":
    main()
