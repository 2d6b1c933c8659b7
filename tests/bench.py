"""`make bench`: what ingest costs beside what people use today, in one run, as ratios.

    python -m tests.bench [TRACE] [--rounds N]

Every round runs every program in turn, each in a process of its own: a trace (by default the recorded one of
2.5 million events, where it is at hand) to Parquet by us, and the same bytes only loaded by others; a bundle
of 200,000 batch lines by us, and parsed by the standard library. Prints medians and ranges of wall time, CPU
time and peak memory of all processes; imports and the start of Python are in them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.warehouse_cases import batch, clock, write_bundle

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT.parent / "shared/data/traces/cpu/vllm_cpu_decode_stack_2.5M_events.pt.trace.json.gz"
BATCH_LINES = 200_000

OURS = """
import sys, tempfile
from pathlib import Path
from tasks.traces.registry import find, ingest
with tempfile.TemporaryDirectory() as home:
    for found in find(Path(sys.argv[1])):
        ingest(Path(home), found)
"""
OTHERS_ON_A_TRACE = {
    "json.load": "import gzip, json, sys; json.load(gzip.open(sys.argv[1]))",
    "orjson + pandas": (
        "import gzip, orjson, pandas, sys;"
        "pandas.DataFrame(orjson.loads(gzip.open(sys.argv[1]).read())['traceEvents'])"
    ),
    "DuckDB, whole object": (
        "import duckdb, sys;"
        "duckdb.sql('SET enable_progress_bar = false');"
        "duckdb.execute('CREATE TABLE events AS SELECT UNNEST(traceEvents) FROM "
        "read_json($1, maximum_object_size = 2000000000)', [sys.argv[1]])"
    ),
}
OTHERS_ON_A_BUNDLE = {
    "json.loads": (
        "import json, sys; rows = [json.loads(line) for line in open(sys.argv[1] + '/batches-7.jsonl')]"
    )
}


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def measure(program: str, path: str) -> Cost | None:
    """Run a Python program in a process of its own; None when it fails (it has said why)."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", program, path], cwd=ROOT)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - start
    return None if child.returncode else Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(title: str, path: str, others: Mapping[str, str], rounds: int) -> None:
    """Run ours and the others in turn, and print the table."""
    programs = {"ours, to Parquet": OURS, **others}
    seen: dict[str, list[Cost]] = {name: [] for name in programs}
    measure(OURS, path)  # compiles what is compiled once, and brings the file into memory
    for _ in range(rounds):
        for name, program in programs.items():
            if cost := measure(program, path):
                seen[name].append(cost)
    say(f"\n{title}; {rounds} rounds, median (range)")
    for name, costs in seen.items():
        say(f"{name:22} {row(costs, seen['ours, to Parquet'])}" if costs else f"{name:22} failed")


def row(costs: list[Cost], ours: list[Cost]) -> str:
    """One line: wall, CPU, memory, and how many times what ours took in the same round."""
    walls = [cost.wall_s for cost in costs]
    ratios = [theirs.wall_s / mine.wall_s for theirs, mine in zip(costs, ours, strict=False)]
    return (
        f"{spread(walls, 's')}  CPU {statistics.median(cost.cpu_s for cost in costs):5.1f} s"
        f"  {max(cost.peak_mib for cost in costs):5.0f} MiB  {spread(ratios, 'x ours')}"
    )


def spread(values: list[float], unit: str) -> str:
    """Median and range."""
    return f"{statistics.median(values):6.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("trace", nargs="?", default=str(RECORDED))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if Path(given.trace).exists():
        compare(Path(given.trace).name, given.trace, OTHERS_ON_A_TRACE, given.rounds)
    else:
        say(f"{given.trace} is not there: name a trace of your own")
    with tempfile.TemporaryDirectory() as folder:
        middle = (batch(0.02 * number, iteration=number) for number in range(BATCH_LINES))
        bundle = write_bundle(Path(folder) / "bundle", [clock(0), *middle, clock(10**9)])
        compare(f"{BATCH_LINES} batch lines", str(bundle), OTHERS_ON_A_BUNDLE, given.rounds)


if __name__ == "__main__":
    main()
