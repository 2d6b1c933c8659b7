"""The picture of `python -m tests.bench_sentinel`: expected and actual, learning curve, error by load."""

import csv
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

BLUE, RED, GREY = "#0072b2", "#d55e00", "#777777"
MS_TICKS = (30, 50, 100, 200, 400)
BATCH_BINS = (1, 2, 4, 8, 16, 32, 64, 128, 257)


def draw(
    frame: "pd.DataFrame",
    expected: np.ndarray[tuple[int], np.dtype[np.float64]],
    points: Sequence[tuple[int, float, float]],
    published: Path,
    folder: Path,
) -> None:
    """Draw sentinel_model.svg into the folder: three panels."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "sentinel"  # the same bytes for the same figures
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    actual = frame["duration_ns"].to_numpy(dtype=np.float64)
    _expected_against_actual(panels[0], frame, actual / 1e6, expected / 1e6)
    _learning_curve(panels[1], points, published)
    _error_by_load(panels[2], frame, np.abs(expected - actual) / actual)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "sentinel_model.svg", metadata={"Date": None})


def _expected_against_actual(panel: Any, frame: "pd.DataFrame", actual: Any, expected: Any) -> None:  # noqa: ANN401 - matplotlib's
    from matplotlib.ticker import FixedLocator

    hidden = frame["prefill_inferred"].to_numpy(dtype=bool)
    for rows, color, label in ((~hidden, BLUE, "decode"), (hidden, RED, "with prefill")):
        panel.plot(actual[rows], expected[rows], ".", color=color, markersize=2, label=label, rasterized=True)
    ends = [actual.min(), actual.max()]
    panel.plot(ends, ends, color=GREY, linewidth=0.8)
    panel.set(xscale="log", yscale="log", xlabel="batch took, ms", ylabel="expected, ms")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_formatter("")
        axis.set_major_locator(FixedLocator(MS_TICKS))
        axis.set_major_formatter("{x:.0f}")
    panel.set_title("whole jobs left out")
    panel.legend(frameon=False, markerscale=5)


def _learning_curve(panel: Any, points: Sequence[tuple[int, float, float]], published: Path) -> None:  # noqa: ANN401 - matplotlib's
    path = published / "Results" / "vllm_curve.csv"
    if path.is_file():
        with path.open(encoding="utf-8-sig") as file:
            rows = [(int(row["Size"]), float(row["MAPE"])) for row in csv.DictReader(file)]
        panel.plot(*zip(*rows, strict=True), color=GREY, linewidth=0.8, label="published")
    panel.plot([size for size, *_ in points], [mape for _, mape, _ in points], "o-", color=BLUE, label="ours")
    panel.set(xscale="log", yscale="log", xlabel="rows learned from, at random", ylabel="MAPE of the others")
    panel.set_title("learning curve")
    panel.legend(frameon=False)


def _error_by_load(panel: Any, frame: "pd.DataFrame", error: Any) -> None:  # noqa: ANN401 - matplotlib's
    from matplotlib.ticker import FixedLocator

    batch = frame["batch_size"].to_numpy(dtype=float)
    inputs = frame["lengths"].str.extract(r"in(\d+)_")[0].astype(int).to_numpy()
    for index, length in enumerate(sorted(set(inputs))):
        rows = [
            np.median(error[(inputs == length) & (batch >= low) & (batch < high)])
            for low, high in pairwise(BATCH_BINS)
        ]
        panel.plot(BATCH_BINS[:-1], np.array(rows) * 100, "os^"[index % 3] + "-", label=f"{length} tokens in")
    panel.set(xscale="log", xlabel="batch size, from", ylabel="median error, %")
    panel.xaxis.set_minor_formatter("")
    panel.xaxis.set_major_locator(FixedLocator(BATCH_BINS[:-1]))
    panel.xaxis.set_major_formatter("{x:.0f}")
    panel.set_ylim(bottom=0)
    panel.set_title("error by batch size and length")
    panel.legend(frameon=False)
