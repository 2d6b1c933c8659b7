"""`make bench`: what ingest costs, as a ratio to parsing its lines by the standard library, in one run.

    python -m tests.bench [BATCHES] [ROUNDS]

A bundle of hand-made batch lines; each round runs both in turn, in processes of their own. Prints medians and
ranges.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.warehouse_cases import batch, clock, write_bundle

PARSE = "import json, sys; rows = [json.loads(line) for line in open(sys.argv[1] + '/batches-7.jsonl')]"
INGEST = (
    "import sys, tempfile; from pathlib import Path; from tasks.traces.bundle import ingest_bundle;"
    "home = tempfile.TemporaryDirectory(); ingest_bundle(Path(home.name), Path(sys.argv[1]))"
)
IMPORTS = "import duckdb, pyarrow.parquet; from tasks.traces.bundle import ingest_bundle"


def measure(program: str, bundle: str) -> tuple[float, float]:
    """Wall seconds and peak memory (MiB) of a Python program in a process of its own."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", program, bundle], cwd=Path(__file__).parents[1])
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(child.returncode)
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main(batches: int = 200_000, rounds: int = 5) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            clock(0),
            *(batch(0.02 * number, iteration=number) for number in range(batches)),
            clock(10**9),
        ]
        bundle = str(write_bundle(Path(folder) / "bundle", lines))
        seen: dict[str, list[tuple[float, float]]] = {"json.loads": [], "imports": [], "ingest": []}
        for _ in range(rounds):
            for name, program in (("json.loads", PARSE), ("imports", IMPORTS), ("ingest", INGEST)):
                seen[name].append(measure(program, bundle))
    say(f"{batches} batch lines, {rounds} rounds; whole processes; median (range)")
    for name, rows in seen.items():
        walls, peaks = zip(*rows, strict=True)
        say(
            f"{name:10}  {statistics.median(walls):6.2f} s ({min(walls):.2f} to {max(walls):.2f})"
            f"  {max(peaks):5.0f} MiB"
        )
    ratios = [(i - m) / j for (j, _), (m, _), (i, _) in zip(*seen.values(), strict=True)]
    say(
        f"ingest less its imports, by json.loads: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
