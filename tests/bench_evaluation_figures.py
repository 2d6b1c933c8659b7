"""The pictures of `python -m tests.bench_evaluation score`: what the model knows, what alarms find."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.bench_sentinel_figures import BLUE, GREY, RED

if TYPE_CHECKING:
    import pandas as pd

    from tasks.sentinel.registry import Registered

Row = dict[str, Any]

SHADES = {"baseline": "#e8f1f8", "fault": "#fbe3d6", "recovery": "#e8f1f8"}
MARKS = "os^Dv"
MOST_POINTS = 4000
GAP_S = 1.0  # what was not scored for longer is no line
MS_TICKS = (5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Known:
    """Champion of batch times, and the complete sessions of three campaigns."""

    champion: "Registered"
    training: "pd.DataFrame"
    full: "pd.DataFrame"
    normal: "pd.DataFrame"


def draw(home: Path, engine: str, rows: Sequence[Row], folder: Path) -> None:
    """Draw evaluation_<engine>_model.svg, _control.svg and _found.svg into the folder."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "evaluation"  # the same bytes for the same figures
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    known = known_of(home, engine)
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    expected_against_actual(panels[0], known)
    learning_curve(panels[1], known)
    error_by_load(panels[2], known)
    _save(figure, folder / f"evaluation_{engine}_model.svg")
    shown = [runs.iloc[0] for _, runs in known.full.groupby("scenario")["run_id"]]
    figure, panels = plt.subplots(
        len(shown), 1, figsize=(9, 1.7 * len(shown)), layout="constrained", squeeze=False, sharey=True
    )
    for panel, run in zip(panels[:, 0], shown, strict=True):
        control_chart(panel, known.full[known.full["run_id"] == run], known.champion)
    panels[-1, 0].set_xlabel("s since the first batch")
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False
    )
    _save(figure, folder / f"evaluation_{engine}_control.svg")
    figure, panel = plt.subplots(figsize=(6, 3.8), layout="constrained")
    found_by_slowdown(panel, [row for row in rows if row["model_id"] == known.champion.model_id])
    _save(figure, folder / f"evaluation_{engine}_found.svg")


def known_of(home: Path, engine: str) -> Known:
    """What the pictures are made of, out of the lake."""
    from tasks.lake_tables import lake_connection
    from tasks.sentinel.evaluate import CHAMPION
    from tasks.sentinel.features import TARGET, batch_features
    from tasks.sentinel.registry import load_models
    from tests.bench_evaluation import FULL, NORMAL, TRAIN, name_of

    frames = []
    for name in (name_of(engine, part) for part in (TRAIN, FULL, NORMAL)):
        with lake_connection(home, name) as con:
            frame = batch_features(con, name)
            frames.append(frame[frame["status"] == "complete"].sort_values(["run_id", "batch_index"]))
    with lake_connection(home, name_of(engine, TRAIN)) as con:
        models = load_models(home, con, name_of(engine, TRAIN))
    champion = next(one for one in models if (one.purpose, one.model.target) == (CHAMPION, TARGET))
    return Known(champion, *frames)


def expected_against_actual(panel: Any, known: Known) -> None:  # noqa: ANN401 - matplotlib's
    """A dot a batch of sessions never trained on, and the line where both are the same."""
    rows = known.normal.iloc[:: max(1, len(known.normal) // MOST_POINTS)]
    actual, expected = (
        rows["duration_ns"].to_numpy(dtype=float) / 1e6,
        known.champion.model.expected_ns(rows) / 1e6,
    )
    decode = (rows["forward_mode"] == "decode").to_numpy()
    for some, color, label in ((decode, BLUE, "decode"), (~decode, RED, "with prefill")):
        panel.plot(actual[some], expected[some], ".", color=color, markersize=2, label=label, rasterized=True)
    ends = np.percentile(actual, [0.1, 99.9])
    panel.plot(ends, ends, color=GREY, linewidth=0.8)
    panel.set(xscale="log", yscale="log", xlabel="batch took, ms", ylabel="expected, ms")
    for axis in (panel.xaxis, panel.yaxis):
        _plain(axis, MS_TICKS)
    panel.set_title("sessions never trained on")
    panel.legend(frameon=False, markerscale=5)


def learning_curve(panel: Any, known: Known) -> None:  # noqa: ANN401 - matplotlib's
    """Median error on sessions never trained on, of models of one to all training sessions in their order."""
    from tasks.sentinel.features import training_rows
    from tasks.sentinel.model import fit

    rows = training_rows(known.training)
    sessions = list(dict.fromkeys(rows["run_id"]))
    sizes = sorted({min(2**power, len(sessions)) for power in range(len(sessions).bit_length() + 1)})
    points = []
    for size in sizes:
        some = rows[rows["run_id"].isin(sessions[:size])]
        points.append((len(some), _errors(known.normal, fit(some, 7).expected_ns(known.normal))))
    for share, color, label in ((50, BLUE, "median"), (90, GREY, "9 of 10 are below")):
        ends = [float(np.percentile(errors, share)) * 100 for _, errors in points]
        panel.plot([count for count, _ in points], ends, "o-", color=color, label=label)
    panel.set(xscale="log", xlabel="batches learned from, whole sessions", ylabel="error of the others, %")
    _plain(panel.xaxis, [count for count, _ in points])
    panel.set_ylim(bottom=0)
    panel.set_title("learning curve")
    panel.legend(frameon=False)


def error_by_load(panel: Any, known: Known) -> None:  # noqa: ANN401 - matplotlib's
    """Median error by batch size and input length, sessions never trained on."""
    error = _errors(known.normal, known.champion.model.expected_ns(known.normal))
    told = known.normal.assign(error=100 * error)
    for mark, (lengths, rows) in zip(MARKS, told.groupby("lengths"), strict=False):
        sizes = rows.groupby("batch_size")["error"].agg(["median", "size"])
        sizes = sizes[sizes["size"] >= 50]
        panel.plot(sizes.index, sizes["median"], f"{mark}-", label=f"{lengths}".replace("_", ", "))
    panel.set(xlabel="batch size", ylabel="median error, %")
    panel.set_ylim(bottom=0)
    panel.set_title("error by batch size and length")
    panel.legend(frameon=False)


def control_chart(panel: Any, rows: "pd.DataFrame", champion: "Registered") -> None:  # noqa: ANN401 - matplotlib's
    """A run: how much slower than expected, mean of ten, over time; limit, alarms, the windows shaded."""
    from tasks.sentinel.limits import resumptions, score_session

    actual = rows["duration_ns"].to_numpy(dtype=float)
    scores = score_session(actual, champion.model.expected_ns(rows), resumptions(rows, actual))
    seconds = (rows["start_ns"] - rows["start_ns"].iloc[0]).to_numpy() / 1e9
    for name, shade in SHADES.items():
        window = seconds[(rows["run_window"] == name).to_numpy()]
        if len(window):
            panel.axvspan(window[0], window[-1], color=shade, linewidth=0)
    alarm = scores.smoothed > champion.limit
    shown = np.where(np.diff(seconds, prepend=0.0) < GAP_S, 100 * scores.smoothed, np.nan)
    panel.plot(seconds, shown, color=BLUE, linewidth=1, label="mean of ten batches")
    panel.plot(seconds[alarm], 100 * scores.smoothed[alarm], ".", color=RED, markersize=4, label="alarm")
    panel.axhline(100 * champion.limit, color=GREY, linewidth=0.8, linestyle="--", label="limit")
    panel.set_title(str(rows["scenario"].iloc[0]), loc="left", fontsize=9)
    panel.set_ylabel("slower, %")
    panel.set_ylim(0, 63)  # a batch counts as 60 % slower at most


def found_by_slowdown(panel: Any, rows: Sequence[Row]) -> None:  # noqa: ANN401 - matplotlib's
    """A point a fault and strength by our limit: share of runs found, with its interval, by mean slowdown."""
    ours = [row for row in rows if row["strategy"] == "calibrated" and row.get("detection_ratio") is not None]
    names = list(dict.fromkeys(row["scenario"] for row in ours))
    for mark, name in zip(MARKS, names, strict=False):
        mine = sorted((row for row in ours if row["scenario"] == name), key=lambda row: row["mean_slowdown"])
        share = [100 * row["detection_ratio"] for row in mine]
        ends = [
            [100 * abs(row["detection_ratio"] - row[f"detection_{end}_ratio"]) for row in mine]
            for end in ("low", "high")
        ]
        slowdown = [row["mean_slowdown"] for row in mine]
        panel.errorbar(slowdown, share, yerr=ends, fmt=f"{mark}-", capsize=3, linewidth=1, label=name)
    panel.axhline(90, color=GREY, linewidth=0.8, linestyle="--")
    panel.axvline(1.25, color=GREY, linewidth=0.8, linestyle=":")
    panel.set(xlabel="mean slowdown under the fault, times", ylabel="runs found, %", ylim=(-3, 103))
    panel.legend(frameon=False, fontsize=8)


def _plain(axis: Any, ticks: Sequence[float]) -> None:  # noqa: ANN401 - matplotlib's
    """Whole numbers at these places of a logarithmic axis, those alone that lie on it."""
    from matplotlib.ticker import FixedLocator

    low, high = axis.get_view_interval()
    axis.set_minor_formatter("")
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_major_formatter("{x:,.0f}")


def _errors(rows: "pd.DataFrame", expected: Any) -> Any:  # noqa: ANN401 - arrays of floats
    actual = rows["duration_ns"].to_numpy(dtype=float)
    return np.abs(expected - actual) / actual


def _save(figure: Any, file: Path) -> None:  # noqa: ANN401 - matplotlib's
    figure.savefig(file, metadata={"Date": None})
