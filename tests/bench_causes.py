"""Scores named causes against what was injected: AC@k, Avg@5, confusion; the headline with masked counters.

    python -m tests.bench_causes --engine vllm [--home DIR] [--json]
    python -m tests.bench_causes --campaigns A,B [--shifted B] [--home DIR]

Reads the lake alone. With --engine the campaigns are those of `python -m tests.bench_evaluation` that nothing
was trained on, after its `score` has found the incidents. Writes `rca_evaluation`; prints Markdown, or JSON.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.deepdive.evaluate import INCIDENT, MASKED, SIGNATURES, evaluate_causes
from tasks.lake import campaigns_of
from tasks.lake_tables import publish
from tasks.settings import home_path
from tasks.warehouse import open_published
from tests.bench_evaluation import JUDGED, SHIFT, TRAIN, name_of

Row = dict[str, Any]

RESAMPLES, SEED = 2000, 7
HEADLINE = {"judge": SIGNATURES, "counters": MASKED, "asked": INCIDENT}
WAYS = ("judge", "counters", "asked")
SHARES = ("ac_1_ratio", "ac_3_ratio", "ac_5_ratio", "avg_5_ratio")


def rows_of(home: Path, view: str, evaluation: str) -> list[Row]:
    """The rows of a view of the published warehouse that are of one evaluation."""
    with open_published(home) as con:
        found: list[Row] = con.table(view).filter(f"evaluation = '{evaluation}'").to_arrow_table().to_pylist()
    return found


def interval(places: Sequence[int | None]) -> tuple[float, float]:
    """Of AC@1 the 95 percent interval, runs resampled."""
    right = np.array([place == 1 for place in places], dtype=float)
    draws = np.random.default_rng(SEED).choice(right, (RESAMPLES, len(right))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def tables(scores: Sequence[Row], confusion: Sequence[Row], cases: Sequence[Row]) -> Iterator[str]:
    """Lines of Markdown: totals by way of asking, then the headline by strength, then its confusion."""
    yield "| engine | judge | counters | asked | of | runs | missed | AC@1 (95 %) | AC@3 | AC@5 | Avg@5 |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for row in scores:
        if row["injected"] in ("any anomaly", "nothing"):
            yield _line(row, cases, [row[way] for way in WAYS] + [row["injected"]])
    yield from ("", "| engine | injected | strength | runs | missed | AC@1 (95 %) | AC@3 | AC@5 | Avg@5 |")
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in scores:
        if is_headline(row) and row["injected"] not in ("any anomaly", "nothing"):
            yield _line(row, cases, [row["injected"], row["strength"] or ""])
    yield from ("", "| engine | injected | named first | runs |", "|---|---|---|---|")
    for row in confusion:
        if is_headline(row):
            yield (
                "| "
                + " | ".join(str(row[name]) for name in ("engine", "injected", "named_cause", "runs"))
                + " |"
            )


def is_headline(row: Row) -> bool:
    """Whether a row is of the judgement that counts: from incidents, by signatures, counters masked."""
    return all(row[way] == HEADLINE[way] for way in WAYS)


def _line(row: Row, cases: Sequence[Row], named: Sequence[object]) -> str:
    low, high = interval([one["right_rank"] for one in cases if _is_of(one, row)])
    shares = [f"{row[name]:.2f}" for name in SHARES]
    shares[0] += f" ({low:.2f} to {high:.2f})"
    cells = [row["engine"], *named, row["runs"], row["runs_missed"], *shares]
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def _is_of(case: Row, row: Row) -> bool:
    """Whether a run is among those that a row of scores is about."""
    if case["engine"] != row["engine"] or any(case[way] != row[way] for way in WAYS):
        return False
    if row["injected"] in ("any anomaly", "nothing"):
        is_harmless = case["injected"] in ("normal", "sham", "workload_shift")
        return bool(is_harmless == (row["injected"] == "nothing"))
    return bool(case["injected"] == row["injected"] and case["strength"] == row["strength"])


def main() -> None:
    """Evaluate and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--engine")
    options.add_argument("--campaigns", default="")
    options.add_argument("--shifted", default="")
    options.add_argument("--home", type=Path)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    home = home_path(given.home)
    if given.engine:
        known = {part: name_of(given.engine, part) for part in JUDGED if part != TRAIN}
        there = set(campaigns_of(home))
        campaigns, shifted = [name for name in known.values() if name in there], [known[SHIFT]]
        evaluation = f"causes-{given.engine}"
    else:
        campaigns, shifted = given.campaigns.split(","), given.shifted.split(",")
        evaluation = "causes"
    evaluate_causes(home, evaluation, campaigns, shifted)
    publish(home)
    found = [
        rows_of(home, name, evaluation) for name in ("v_cause_scores", "v_cause_confusion", "rca_evaluation")
    ]
    if given.json:
        sys.stdout.write(json.dumps(dict(zip(("scores", "confusion", "runs"), found, strict=True)), indent=1))
    else:
        sys.stdout.write("\n".join(tables(*found)) + "\n")


if __name__ == "__main__":
    main()
