"""How well the latency model does on the published data, beside the published one, in one run.

    python -m tests.bench_sentinel [--data DIR] [--seeds 5] [--figures DIR]

Reads the published Sentinel folder and the two sets of forward passes (by default ../shared/data) into a lake
in a temporary folder. On vLLM's normal table, mean and range of the seeds: errors with whole jobs and with
whole (input, output) pairs left out, of scikit-learn's gradient boosting on the five published features and
of our model with and without looking a row ahead; where the rest of the error is; the learning curve on rows
drawn at random, as published. On the forward passes: which rows stand out at 15 % when each tenth of the
run's time is judged by the other nine. Prints Markdown, and draws.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from tasks.sentinel.evaluate import Errors

DATA = Path(__file__).resolve().parent.parent.parent / "shared/data"
PUBLISHED, FORWARDS = "latencyprism/Sentinel", "sentinel"
FOLDS = 5
BLOCKS = 10
STANDS_OUT = 0.15  # as published: e = max(0, (actual - expected) / actual) above it
CURVE_SEEDS = 3
SIZES = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 28_000)
SPLITS = {"whole jobs": "session", "whole (input, output) pairs": "lengths"}

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Predict = Callable[["pd.DataFrame", "pd.DataFrame", int], Floats]


def ours(train: "pd.DataFrame", test: "pd.DataFrame", seed: int) -> Floats:
    """Our champion's kind."""
    from tasks.sentinel.model import fit

    expected: Floats = fit(train, seed).expected_ns(test)
    return expected


def published(train: "pd.DataFrame", test: "pd.DataFrame", seed: int) -> Floats:
    """Gradient boosting of time on the five published features, scikit-learn's with its defaults."""
    from sklearn.ensemble import GradientBoostingRegressor

    from tasks.sentinel.features import PUBLISHED_FEATURES, TARGET, matrix

    model = GradientBoostingRegressor(random_state=seed)
    model.fit(matrix(train, PUBLISHED_FEATURES).to_numpy(), train[TARGET].to_numpy(dtype=float))
    expected: Floats = np.maximum(model.predict(matrix(test, PUBLISHED_FEATURES).to_numpy()), 1.0)
    return expected


def lake(data: Path, home: Path) -> dict[str, "pd.DataFrame"]:
    """Batches with their features: the normal table offline and online, and each set of forward passes."""
    from tasks.lake_tables import lake_connection
    from tasks.sentinel.features import batch_features, normal_runs
    from tasks.traces.registry import find, ingest

    for folder in (PUBLISHED, FORWARDS):
        for found in find(data / folder):
            ingest(home, found)
    frames: dict[str, pd.DataFrame] = {}
    with lake_connection(home, "published") as con:
        for name, ahead in (("offline", True), ("online", False)):
            frames[name] = normal_runs(batch_features(con, "published", look_ahead=ahead))
    with lake_connection(home, "ingested") as con:
        names = dict(con.table("runs").select("run_id", "run_name").fetchall())
        for run, rows in batch_features(con, "ingested").groupby("run_id"):
            frames[str(names[run])] = rows.sort_values("batch_index")
    return {name: rows.reset_index(drop=True) for name, rows in frames.items()}


def left_out(frame: "pd.DataFrame", column: str, seed: int, predict: Predict) -> Floats:
    """Expected times, of each row by a model that saw nothing of its group."""
    groups = frame[column].to_numpy()
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    fold = {name: index % FOLDS for index, name in enumerate(names)}
    of_row = np.array([fold[name] for name in groups])
    expected = np.zeros(len(frame))
    for one in range(FOLDS):
        held = of_row == one
        expected[held] = predict(frame[~held], frame[held], seed)
    return expected


def errors(frame: "pd.DataFrame", expected: Floats) -> "Errors":
    """MAPE, median and within 10 %."""
    from tasks.sentinel.evaluate import errors_between
    from tasks.sentinel.features import TARGET

    return errors_between(frame[TARGET].to_numpy(dtype=np.float64), expected)


def row_kinds(frame: "pd.DataFrame") -> np.ndarray[Any, np.dtype[np.str_]]:
    """What kind of step each row is, by the counts of its neighbours."""
    admitted, before = (
        frame["admitted"].to_numpy(dtype=float),
        frame["previous_admitted"].to_numpy(dtype=float),
    )
    busy = frame["waiting_requests"].to_numpy(dtype=float) > 0
    return np.select(
        [np.isnan(admitted), admitted > 0, (before > 0) | np.isnan(before) | busy],
        ["last of its job", "hides prefill", "first, after a prefill, or while requests wait"],
        "plain decode",
    )


def shares(frame: "pd.DataFrame", expected: Floats) -> "pd.DataFrame":
    """By kind of row: its share of the rows, of the sum of errors, and of the rows off by more than 10 %."""
    import pandas as pd

    from tasks.sentinel.features import TARGET

    actual = frame[TARGET].to_numpy(dtype=np.float64)
    error = np.abs(expected - actual) / actual
    table = pd.DataFrame({"kind": row_kinds(frame), "rows": 1.0, "error": error, "off": error > 0.1})
    table["median"] = table.groupby("kind")["error"].transform("median")
    sums = table.groupby("kind").agg({"rows": "sum", "error": "sum", "off": "sum", "median": "first"})
    medians = sums.pop("median")
    return (sums / sums.sum()).assign(median=medians).sort_values("error", ascending=False)


def levels(frame: "pd.DataFrame", expected: Floats) -> float:
    """Share of the sum of errors that a job's own level explains: what is left when each job is set right."""
    from tasks.sentinel.features import SESSION, TARGET

    actual = frame[TARGET].to_numpy(dtype=np.float64)
    ratio = frame.assign(ratio=np.log(actual / expected))
    level = ratio.groupby(SESSION)["ratio"].transform("median").to_numpy()
    before = np.abs(expected - actual) / actual
    after = np.abs(expected * np.exp(level) - actual) / actual
    return float(1 - after.sum() / before.sum())


def curve(frame: "pd.DataFrame", seeds: int) -> Iterator[tuple[int, list["Errors"]]]:
    """Errors on all the others by the number of rows learned from, drawn at random, as published."""
    for size in SIZES:
        found = []
        for seed in range(1, seeds + 1):
            order = np.random.default_rng(seed).permutation(len(frame))
            train, test = frame.iloc[order[:size]], frame.iloc[order[size:]]
            found.append(errors(test, ours(train, test, seed)))
        yield size, found


def standing_out(frame: "pd.DataFrame") -> list[int]:
    """Rows above STANDS_OUT, each tenth of the time judged by a model of the others."""
    from tasks.sentinel.features import TARGET

    block = np.arange(len(frame)) * BLOCKS // len(frame)
    expected = np.zeros(len(frame))
    for one in range(BLOCKS):
        expected[block == one] = ours(frame[block != one], frame[block == one], 1)
    actual = frame[TARGET].to_numpy(dtype=np.float64)
    return [int(index) for index in frame["batch_index"][(actual - expected) / actual > STANDS_OUT]]


def say(line: str) -> None:
    """Print it at once: the whole takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def shown(found: list["Errors"]) -> str:
    """Mean of the seeds, and the range, of each error."""
    parts = []
    for name, form in (("mape", "{:.4f}"), ("median_ape", "{:.2%}"), ("within_10pct", "{:.4f}")):
        values = [getattr(one, name) for one in found]
        low, mean, high = (form.format(v) for v in (min(values), float(np.mean(values)), max(values)))
        parts.append(f"{mean} ({low}-{high})")
    return " | ".join(parts)


def say_errors(frames: dict[str, "pd.DataFrame"], seeds: int) -> dict[str, Floats]:
    """Table of errors by model and split; returns our expected times of the first seed, offline, by split."""
    kept = {}
    say("| model | left out | MAPE | median APE | within 10 % |")
    say("|---|---|---|---|---|")
    for split, column in SPLITS.items():
        for name, frame, predict in (
            ("published gradient boosting", frames["offline"], published),
            ("ours", frames["offline"], ours),
            ("ours, online: no row ahead", frames["online"], ours),
        ):
            expected = [left_out(frame, column, seed, predict) for seed in range(1, seeds + 1)]
            kept[f"{name}, {split}"] = expected[0]
            say(f"| {name} | {split} | {shown([errors(frame, one) for one in expected])} |")
    return kept


def say_shares(frame: "pd.DataFrame", expected: Floats) -> None:
    """Where the error is, by kind of row."""
    say("\n| rows | share of the rows | of the error | of the rows off by > 10 % | median APE |")
    say("|---|---|---|---|---|")
    for kind, row in shares(frame, expected).iterrows():
        cells = " | ".join(f"{row[name]:.1%}" for name in ("rows", "error", "off", "median"))
        say(f"| {kind} | {cells} |")
    say(f"\nof the error, a job's own level (one factor a job) explains {levels(frame, expected):.0%}")


def say_curve(frame: "pd.DataFrame", seeds: int) -> list[tuple[int, float, float]]:
    """The learning curve; returns its points: rows, MAPE, share within 10 %."""
    points = []
    say("\n| rows learned from | MAPE | median APE | within 10 % |")
    say("|---|---|---|---|")
    for size, found in curve(frame, seeds):
        points.append(
            (size, float(np.mean([e.mape for e in found])), float(np.mean([e.within_10pct for e in found])))
        )
        say(f"| {size:,} | {shown(found)} |")
    return points


def main() -> int:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--figures", type=Path, default=None)
    given = parser.parse_args()
    if not (given.data / PUBLISHED).is_dir():
        say(f"{given.data / PUBLISHED} is not there: nothing to measure on")
        return 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        frames = lake(given.data, Path(home))
    for name in [name for name in frames if "fwd" in name]:
        say(f"{name}: rows {standing_out(frames[name])} stand out at {STANDS_OUT:.0%}")
    expected = say_errors(frames, given.seeds)
    by_split = {split: expected[f"ours, {split}"] for split in SPLITS}
    for split, of_rows in by_split.items():
        say(f"\n{split} left out, first seed:")
        say_shares(frames["offline"], of_rows)
    points = say_curve(frames["offline"], min(given.seeds, CURVE_SEEDS))
    if given.figures:
        from tests.bench_sentinel_figures import draw

        draw(frames["offline"], by_split["whole jobs"], points, given.data / PUBLISHED, given.figures)
    say(f"\n{time.monotonic() - began:.0f} s, {given.seeds} seeds")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
