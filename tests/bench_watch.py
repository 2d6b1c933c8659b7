"""What it costs to judge a batch as it comes, and how late an alarm is.

    python -m tests.bench_watch [--batches 20000] [--rate 200] [--seconds 30]

First the scorer alone: a model of the size that is trained, of the duration and of the interval, one record
after another; the time of each from its line as text to its answer. Then what `lprism watch` makes of a file
that is appended to at a steady rate, with a slow stretch: the delay of an alarm is from the moment before its
line was written to the moment after it stood in the watch's own file. The writer is a thread beside it.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tasks.sentinel.evaluate import CHAMPION
from tasks.sentinel.features import INTERVAL, TARGET, key_of
from tasks.sentinel.model import fit
from tasks.sentinel.online import Scorer
from tasks.sentinel.records import Records
from tasks.sentinel.registry import Registered
from tasks.watch import Live, Watch, follow
from tasks.watch_lines import followed, local_tail
from tests.test_sentinel import sessions

SLOW = 2.5
SETTLE_S = 2.0


def records(count: int, rate: float, slow: range) -> list[bytes]:
    """Lines as the probe writes them: decode steps of four requests, a prefill every 65th."""
    step_ns = round(1e9 / rate)
    lines = []
    for index in range(count):
        turn = index % 65
        prefills = turn == 0
        requests = [[32, 0 if prefills else 32 + turn - 1, 32 if prefills else 1, turn]] * 4
        start = index * step_ns
        lasts = step_ns * (0.35 if index not in slow else 0.35 * SLOW)
        lines.append(json.dumps({
            "type": "batch", "source": "vllm_probe", "pid": 7, "rank": 0, "iteration": index,
            "start_mono_ns": start, "execute_end_mono_ns": start + 1, "end_mono_ns": start + round(lasts),
            "requests": requests, "admitted": 4 * prefills, "finished": 4 * prefills, "preempted": 0,
            "prefix_hit_tokens": 0,
        }).encode() + b"\n")  # fmt: skip
    return lines


def judges() -> list[Registered]:
    """Models of made-up sessions: what is measured is time, not how good they are."""
    frame = sessions(3)
    return [
        Registered(f"m-{t}", CHAMPION, "vllm", key_of(frame), fit(frame, 7, target=t), 0.3)
        for t in (TARGET, INTERVAL)
    ]


def scoring(batches: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Microseconds from a line to its answer."""
    scorer, reader = Scorer(*judges()), Records()
    spent = []
    for line in records(batches, 60.0, range(0)):
        began = time.perf_counter_ns()
        for batch in reader.take(json.loads(line)):
            scorer.take(batch)
        spent.append((time.perf_counter_ns() - began) / 1000)
    return np.array(spent[100:])


def delays(home: Path, rate: float, seconds: float) -> tuple[list[float], dict[str, int]]:
    """Milliseconds from line written to alarm written by the watch, and how many events of each type came."""
    count = round(rate * seconds)
    lines = records(count, rate, range(count // 2, 3 * count // 4))
    file = home / "batches-7.jsonl"
    file.write_text(json.dumps({"type": "clock", "pid": 7, "realtime_ns": 10**18, "monotonic_ns": 0}) + "\n")
    written: dict[int, int] = {}

    def writes() -> None:
        time.sleep(SETTLE_S)
        began = time.monotonic()
        with file.open("ab", buffering=0) as out:
            for index, line in enumerate(lines):
                time.sleep(max(0.0, began + index / rate - time.monotonic()))
                written[index] = time.time_ns()
                out.write(line)

    late: list[float] = []
    kinds: Counter[str] = Counter()

    def tell(event: dict[str, Any]) -> None:
        kinds[event["type"]] += 1
        if event["type"] == "alarm":
            late.append((time.time_ns() - written[event["batch_index"]]) / 1e6)

    watch = Watch(home, str(file), tell)
    writer = threading.Thread(target=writes)
    writer.start()
    follow(
        followed(local_tail, ["--path", str(file)]), Live(judges(), watch, "m-" + TARGET, None), seconds + 6
    )
    writer.join()
    watch.close()
    return late, dict(kinds)


def main(argv: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="cost of scoring and delay of alarms")
    parser.add_argument("--batches", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args(argv)
    out = sys.stdout.write
    spent = scoring(given.batches)
    shown = ", ".join(f"p{q:g} {np.percentile(spent, q):.0f}" for q in (50, 99, 99.9))
    out(f"scoring a record, two models, us: {shown}, most {spent.max():.0f} ({len(spent)} batches)\n")
    with tempfile.TemporaryDirectory() as folder:
        late, kinds = delays(Path(folder), given.rate, given.seconds)
    if not late:
        out(f"no alarm came: {kinds}\n")
        return 1
    shown = ", ".join(f"p{q:g} {np.percentile(late, q):.1f}" for q in (50, 99))
    out(f"alarm after its record, at {given.rate:g} batches/s, ms: {shown}, most {max(late):.1f}; {kinds}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
