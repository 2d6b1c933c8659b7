"""What it costs to get from a trace to its usage table, anchor found without help.

    python -m tests.bench_deepdive [--rounds N]

Each round is a process of its own that imports everything first, and then reads the trace, puts its events
into a lake, divides them into cycles and puts `cycles` and `function_usage` there too. Prints medians and
ranges of wall and CPU time after imports, and the peak memory of the process: of the H100 trace (178,812
events) and of the recorded one of 2.5 million.
"""

import argparse
import json
import statistics
import subprocess
import sys

from tests.bench import ROOT, say, spread

TRACES = ROOT.parent / "shared/data/traces"
RECORDED = (
    ("gpu/vllm_tp4_h100_1prefill_9decode.pt.trace.json.gz", 1.0),
    ("cpu/vllm_cpu_decode_stack_2.5M_events.pt.trace.json.gz", 20.0),
)

PROGRAM = """
import json, resource, sys, tempfile, time
from pathlib import Path
import duckdb, isal.igzip, numpy, pandas, pyarrow, pyarrow.compute, pyarrow.dataset, pyarrow.parquet, pydantic
from tasks.deepdive.cycles import divide_run
from tasks.traces import registry, scan
registry.formats(), scan.scan(bytearray(b"{}]"), scan.Place(), final=True, offset=0)
with tempfile.TemporaryDirectory() as home:
    start, cpu = time.perf_counter(), time.process_time()
    (found,) = registry.find(Path(sys.argv[1]))
    loaded = registry.ingest(Path(home), found)
    middle = time.perf_counter()
    divided = divide_run(Path(home), loaded.run_id)
    end = time.perf_counter()
    print(json.dumps({
        "events": loaded.rows["events"], "load_s": middle - start, "divide_s": end - middle,
        "wall_s": end - start,
        "cpu_s": time.process_time() - cpu, "cycles": divided.cycles, "rows": divided.usage_rows,
        "anchors": divided.anchors, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))
"""


def measure(path: str) -> dict[str, float]:
    """One round in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], cwd=ROOT, check=True, capture_output=True, text=True
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for name, reach_s in RECORDED:
        path = TRACES / name
        if not path.exists():
            say(f"{path} is not there")
            continue
        rounds = [measure(str(path)) for _ in range(given.rounds)]
        last = rounds[-1]
        say(
            f"\n{path.name}: {last['events']} events to {last['cycles']} cycles, {last['rows']} rows of usage"
        )
        say(f"anchors: {last['anchors']}; {given.rounds} rounds after imports, median (range)")
        for key, unit in (
            ("wall_s", "s"),
            ("load_s", "s"),
            ("divide_s", "s"),
            ("cpu_s", "s"),
            ("peak_mib", "MiB"),
        ):
            say(f"  {key:9} {spread([one[key] for one in rounds], unit)}")
        reached = statistics.median(one["wall_s"] for one in rounds) <= reach_s
        say(f"  to reach: {reach_s:g} s: {'reached' if reached else 'not reached'}")


if __name__ == "__main__":
    main()
