"""What each stage costs as campaigns grow: planning, ingest, lake, publish, questions; time and memory.

    python -m tests.bench_scale [--bundle DIR] [--cells 1000,10000,100000] [--bundles 300] [--runs 1000,10000]
        [--events-a-run 10000] [--trace TRACE] [--folder DIR]

Bundles are one real bundle (--bundle, a folder with manifest.json) under new run_ids, or a made-up one
without it; runs in the lake are made as tests/bench_warehouse.py makes them, their events those of TRACE
shifted in time. 100,000, where it was not run, lies on the straight line through the two largest sizes that
were, and has a tilde. Prints markdown. Needs some 10 GB of disk for 1e8 events, all of it removed at the end.
"""

import argparse
import json
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.bench_warehouse import QUESTIONS, ask, build, say, spent
from tests.warehouse_cases import good_bundle

GOAL = 100_000
CELLS_A_REPETITION = 100
MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """What a stage took at one size: seconds, peak memory of its process in MiB, bytes it left."""

    stage: str
    size: int
    seconds: float
    peak_mib: float
    left_bytes: float


def timed(command: Sequence[str], stage: str, size: int, left: Callable[[], int]) -> Cost:
    """One `lprism` command as a whole process; it must succeed."""
    seconds, peak_mib = spent(*command)
    return Cost(stage, size, seconds, peak_mib, left())


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder; one that has several names counts once."""
    kinds = {(one.stat().st_ino, one.stat().st_size) for one in folder.rglob("*") if one.is_file()}
    return sum(size for _, size in kinds)


def spec_of(cells: int) -> dict[str, Any]:
    """A spec with so many cells: ten workloads, ten scenarios, and the repetitions that it takes."""
    shares = [{"anomaly": "cpu_quota", "strength": {"quota_pct": 90 - 10 * at}} for at in range(8)]
    return {
        "name": "many", "hosts": [{"name": "lab", "allow_faults": True}],
        "engines": [{"kind": "vllm", "model": "tiny"}],
        "workload": {
            "input_lengths": [32, 64, 128, 256, 512], "output_lengths": [32, 64], "concurrency": [4],
        },
        "scenarios": ["normal", "sham", *shares],
        "repetitions": max(1, cells // CELLS_A_REPETITION), "seed": 7,
    }  # fmt: skip


def planning(folder: Path, sizes: Sequence[int]) -> Iterator[Cost]:
    """`lprism campaign plan --json`."""
    for cells in sizes:
        spec = folder / f"spec-{cells}.yaml"
        spec.write_text(json.dumps(spec_of(cells)))
        yield timed(["campaign", "plan", str(spec), "--json"], "plan", cells, lambda: 0)


def repeat(bundle: Path, into: Path, count: int) -> None:
    """The bundle again under new run_ids and one campaign's name; its files are linked, not copied."""
    known = json.loads((bundle / "manifest.json").read_bytes())
    for number in range(count):
        one = into / f"r{number:010x}"
        one.mkdir(parents=True)
        for listed in known["files"]:
            os.link(bundle / listed["name"], one / listed["name"])
        told = {**known, "run_id": one.name, "campaign": into.name, "run_order": number + 1}
        (one / "manifest.json").write_text(json.dumps(told))


def ingesting(folder: Path, bundle: Path, sizes: Sequence[int]) -> Iterator[Cost]:
    """`lprism ingest` of a folder of bundles, and the publishing that is part of it."""
    for count in sizes:
        home, bundles = folder / f"ingest-{count}", folder / "bundles" / f"many-{count}"
        repeat(bundle, bundles, count)
        command = ["ingest", str(bundles), "--home", str(home)]
        yield timed(command, "ingest", count, partial(size_of, home / "lake"))


def publishing(folder: Path, trace: str | None, runs: int, events: int) -> Iterator[Cost]:
    """`lprism warehouse rebuild` of a lake of so many runs, and questions to what it published."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        home = Path(place) / "home"
        home.mkdir()
        # In a process of its own: it makes runs with threads and gigabytes that the commands shall not see.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as maker:
            asked = maker.submit(build, home, trace, events, max(1, runs // 100), 100).result()
        size = size_of(home / "lake")
        yield timed(["warehouse", "rebuild", "--home", str(home)], "publish", runs, lambda: size)
        for name in QUESTIONS:
            _, cold, warm = ask(home, QUESTIONS[name], asked[name])
            for kind, seconds in (("first", cold), ("again", warm)):
                yield Cost(f"{name}, {kind}", runs, statistics.median(seconds), math.nan, math.nan)


def beyond(costs: Sequence[Cost], goal: int = GOAL) -> Cost | None:
    """The cost at the goal, on a line through the two largest sizes; None where it was run or cannot be."""
    known = sorted(costs, key=lambda one: one.size)[-2:]
    if len(known) < 2 or known[-1].size >= goal:
        return None
    first, last = known
    steps = (goal - last.size) / (last.size - first.size)

    def at_goal(name: str) -> float:
        before, now = float(getattr(first, name)), float(getattr(last, name))
        return max(now, now + steps * (now - before))

    return Cost(last.stage, goal, at_goal("seconds"), at_goal("peak_mib"), at_goal("left_bytes"))


def line(cost: Cost, about: str = "") -> str:
    """A row of the table."""
    peak = "" if math.isnan(cost.peak_mib) else f"{about}{cost.peak_mib:.0f} MiB"
    left = "" if not cost.left_bytes > 0 else f"{about}{cost.left_bytes / MIB:.0f} MiB"
    return f"| {cost.stage} | {cost.size:,} | {about}{cost.seconds:.3g} s | {peak} | {left} |"


def table(costs: Sequence[Cost]) -> Iterator[str]:
    """Markdown: every stage at every size, and what is beyond those, marked."""
    yield "| stage | size | time | peak memory | lake |"
    yield "|---|---|---|---|---|"
    for stage in dict.fromkeys(cost.stage for cost in costs):
        same = [cost for cost in costs if cost.stage == stage]
        yield from map(line, same)
        far = beyond(same)
        if far:
            yield line(far, "~")


def sizes(text: str) -> list[int]:
    """Numbers with commas between them; 1e5 is one too."""
    return [int(float(one)) for one in text.split(",") if one]


def main() -> None:
    """Measure every stage at every size, and print each as it is known and all at the end."""
    options = argparse.ArgumentParser()
    options.add_argument("--bundle", type=Path)
    options.add_argument("--trace")
    options.add_argument("--folder")
    options.add_argument("--cells", type=sizes, default=[1_000, 10_000, 100_000])
    options.add_argument("--bundles", type=sizes, default=[100, 300, 1_000])
    options.add_argument("--runs", type=sizes, default=[1_000, 10_000])
    options.add_argument("--events-a-run", type=int, default=10_000)
    given = options.parse_args()
    costs: list[Cost] = []
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        bundle = given.bundle or good_bundle(folder / "made-up")
        stages = [planning(folder, given.cells), ingesting(folder, bundle, given.bundles)]
        stages += [publishing(folder, given.trace, runs, runs * given.events_a_run) for runs in given.runs]
        for stage in stages:
            for cost in stage:
                costs.append(cost)
                say(line(cost))
    say("\n" + "\n".join(table(costs)))


if __name__ == "__main__":
    main()
