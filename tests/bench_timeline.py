"""Draws one time line of a run from what `lprism export-trace` wrote: what Perfetto would show, as a picture.

    python -m tests.bench_timeline EXPORT.json.gz PICTURE.png [--from S] [--until S] [--counter NAME ...]

Rows from above: windows and fault, batches by forward mode, slices of the scheduler (on the CPU, in the run
queue), events of the trace by depth, counters. Seconds count from the start of the recording.
"""

import argparse
import gzip
import json
import math
import sys
import zlib
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import patches
from matplotlib import pyplot as plt

MODES = {"prefill": "tab:orange", "decode": "tab:blue", "mixed": "tab:purple", "idle": "lightgrey"}
COUNTERS = ("process_cpu_usage", "host_cpu_usage", "other_cpu_usage")
APART = ("run", "batch", "sched", "Trace")
MOST_SLICES, MOST_DEPTH, THREADS = 20_000, 12, 6
Event = dict[str, Any]


def spans(events: list[Event], start_s: float, end_s: float) -> list[tuple[Event, float, float]]:
    """Slices that overlap a part, with begin and length in s."""
    found = []
    for event in events:
        begin, length = event["ts"] / 1e6, event.get("dur", 0) / 1e6
        if event["ph"] == "X" and begin < end_s and begin + length > start_s:
            found.append((event, begin, length))
    return found


def draw_marks(axis: Any, events: list[Event], part: tuple[float, float]) -> None:  # noqa: ANN401 - matplotlib's
    """Windows, fault and captures, a row each."""
    colours = {1: "tab:green", 2: "tab:red", 3: "tab:brown"}
    for event, begin, length in spans([e for e in events if e.get("cat") == "run"], *part):
        axis.barh(
            -event["tid"], length, left=begin, color=colours[event["tid"]], alpha=0.5, edgecolor="black"
        )
        axis.text(
            max(begin, part[0]), -event["tid"], f" {event['name']}", va="center", fontsize=7, clip_on=True
        )
    axis.set_yticks([-1, -2, -3], ["windows", "fault", "captures"])


def draw_batches(axis: Any, events: list[Event], part: tuple[float, float]) -> None:  # noqa: ANN401 - matplotlib's
    """Batches by forward mode, as high as they are large."""
    for event, begin, length in spans([e for e in events if e.get("cat") == "batch"], *part):
        colour = MODES.get(event["args"]["forward_mode"], "grey")
        axis.bar(
            begin, event["args"]["batch_size"], length, align="edge", color=colour, edgecolor="white", lw=0.2
        )
    axis.set_ylabel("batch size")
    axis.legend([patches.Patch(color=c) for c in MODES.values()], MODES, fontsize=6, loc="upper left")


def draw_slices(axis: Any, events: list[Event], part: tuple[float, float]) -> None:  # noqa: ANN401 - matplotlib's
    """On the CPU and in the run queue, a row for each of the busiest threads."""
    found = spans([e for e in events if e.get("cat") == "sched"], *part)
    time_of: dict[tuple[int, int], float] = {}
    for event, _, length in found:
        time_of[event["pid"], event["tid"]] = time_of.get((event["pid"], event["tid"]), 0) + length
    busiest = sorted(time_of, key=lambda key: -time_of[key])[:THREADS]
    bars: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for event, begin, length in longest(found):
        if (key := (event["pid"], event["tid"])) in busiest:
            colour = "tab:green" if event["name"].startswith("on") else "tab:red"
            bars.setdefault((-busiest.index(key), colour), []).append((begin, length))
    draw_bars(axis, bars)
    axis.set_yticks([-i for i in range(len(busiest))], [str(tid) for _, tid in busiest], fontsize=6)
    axis.set_ylabel("on CPU / queue" if found else "no slices")


def longest(found: list[tuple[Event, float, float]]) -> list[tuple[Event, float, float]]:
    """As many as can be drawn: the longest are what can be seen."""
    return sorted(found, key=lambda one: -one[2])[:MOST_SLICES]


def draw_bars(axis: Any, bars: dict[tuple[int, str], list[tuple[float, float]]]) -> None:  # noqa: ANN401 - matplotlib's
    """Bars by row and colour."""
    for (row, colour), places in bars.items():
        axis.broken_barh(places, (row - 0.45, 0.9), color=colour)


def draw_trace(axis: Any, events: list[Event], part: tuple[float, float]) -> None:  # noqa: ANN401 - matplotlib's
    """Events of the busiest thread of the trace, the called below the caller."""
    found = spans([e for e in events if e.get("cat") not in APART], *part)
    threads = [(event["pid"], event["tid"]) for event, *_ in found]
    busiest = max(set(threads), key=threads.count, default=None)
    depths: dict[int, int] = {}
    ends: list[float] = []
    for event, begin, length in found:
        if (event["pid"], event["tid"]) == busiest:
            while ends and ends[-1] <= begin:
                ends.pop()
            depths[id(event)] = len(ends)
            ends.append(begin + length)
    bars: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for event, begin, length in longest([one for one in found if depths.get(id(one[0]), 99) < MOST_DEPTH]):
        colour = mpl.colors.to_hex(plt.get_cmap("tab20")(zlib.crc32(event["name"].encode()) % 20))
        bars.setdefault((-depths[id(event)], colour), []).append((begin, length))
    draw_bars(axis, bars)
    axis.set_ylabel(f"trace of thread {busiest[1]}" if busiest else "no trace", fontsize=8)


def draw_counters(axis: Any, events: list[Event], part: tuple[float, float], names: list[str]) -> None:  # noqa: ANN401 - of it
    """Counters whose name begins as asked, a line each."""
    series: dict[str, list[tuple[float, float]]] = {}
    for event in events:
        if event["ph"] == "C" and event["name"].split()[0] in names:
            series.setdefault(event["name"], []).append((event["ts"] / 1e6, event["args"]["value"]))
    for name, points in series.items():
        shown = [point for point in points if part[0] <= point[0] <= part[1]]
        axis.step(
            [at for at, _ in shown], [value for _, value in shown], where="post", label=name[:50], lw=0.8
        )
    axis.legend(fontsize=5, loc="upper left")
    axis.set_ylabel("counters")


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("export", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--from", dest="start", type=float, default=0.0)
    parser.add_argument("--until", type=float, default=math.inf)
    parser.add_argument("--counter", nargs="*", default=list(COUNTERS))
    given = parser.parse_args()
    whole = json.loads(gzip.decompress(given.export.read_bytes()))
    events = [event for event in whole["traceEvents"] if event["ph"] != "M"]
    last = max((event["ts"] + event.get("dur", 0)) / 1e6 for event in events)
    part = (given.start, min(given.until, last))
    _, axes = plt.subplots(5, 1, sharex=True, figsize=(16, 11), height_ratios=[1.2, 2, 2, 2.5, 2])
    draw_marks(axes[0], events, part)
    draw_batches(axes[1], events, part)
    draw_slices(axes[2], events, part)
    draw_trace(axes[3], events, part)
    draw_counters(axes[4], events, part, given.counter)
    axes[4].set_xlim(*part)
    axes[4].set_xlabel(f"s from the start of {whole['otherData']['run_name']}")
    plt.tight_layout()
    plt.savefig(given.picture, dpi=110)
    sys.stdout.write(f"wrote {given.picture}\n")


if __name__ == "__main__":
    main()
