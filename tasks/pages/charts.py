"""Charts of the report as inline SVG; colours are CSS variables: light, dark and print each have their own.

The only matplotlib importer of tasks/. A name from data is text, never markup and never a formula.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
# Drawn in these, which nothing else uses, and then replaced by the page's variables.
COLOURS = {
    "#010101": "--ink", "#020202": "--faint", "#030303": "--line", "#040404": "--alarm",
    "#050505": "--limit", "#060606": "--shade",
}  # fmt: skip
INK, FAINT, LINE, ALARM, LIMIT, SHADE = COLOURS
NO_FAULT = ("normal", "sham")
MOST_POINTS = 600  # a chart is 720 px wide
MOST_ROWS = 40
MOST_NAME = 40
_PROLOGUE = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)


def control_chart(scores: Sequence[Row], marks: Row) -> str:
    """Residual of each batch over time (s since the recording began), its limit, alarms, fault shaded."""
    figure, axes = _canvas(7.2, 2.2)
    _shade(axes, marks)
    alarms = _thinned([row for row in scores if row["alarm"]])
    kept = _thinned(scores)
    times = [row["start_s"] for row in kept]
    axes.plot(times, [_share(row["smoothed_residual"]) for row in kept], color=LINE, linewidth=1.1)
    axes.plot(times, [_share(row["limit_residual"]) for row in kept], color=LIMIT, linewidth=1, dashes=(5, 3))
    axes.plot(
        [row["start_s"] for row in alarms],
        [_share(row["smoothed_residual"]) for row in alarms],
        "o", color=ALARM, markersize=2.6, linestyle="none",
    )  # fmt: skip
    axes.set_xlabel("s since the recording began", color=FAINT)
    axes.set_ylabel("slower than expected, %", color=FAINT)
    axes.set_ylim(bottom=0)
    return _svg(figure)


def latency_chart(rows: Sequence[Row]) -> str:
    """Median (dot) to 99th percentile (end of the line) of a decode step, ms, by scenario and window."""
    shown = rows[:MOST_ROWS]
    figure, axes = _canvas(7.2, 0.8 + 0.22 * len(shown))
    for place, row in enumerate(shown):
        colour = ALARM if row["run_window"] == "fault" and row["scenario"] not in NO_FAULT else LINE
        axes.plot([row["p50_ms"], row["p99_ms"]], [place, place], color=colour, linewidth=1.6)
        axes.plot(row["p50_ms"], place, "o", color=colour, markersize=5)
    names = [f"{_short(row['scenario'])} · {row['run_window']}" for row in shown]
    axes.set_yticks(range(len(shown)), names)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("start-to-start time of a decode step, ms", color=FAINT)
    return _svg(figure)


def dose_chart(parameter: str, doses: Sequence[Row]) -> str:
    """Slowdown of the fault window of each run over one parameter of its strength; hollow: no alarm."""
    figure, axes = _canvas(7.2, 2.4)
    axes.axhline(1, color=FAINT, linewidth=0.8, linestyle=":")
    for row in doses:
        for slowdown, found in zip(row["slowdowns"], row["were_found"], strict=True):
            fill = ALARM if found else "none"
            axes.plot(row["dose"], slowdown, "o", color=ALARM, markerfacecolor=fill, markersize=5)
    axes.set_xlabel(_short(parameter), color=FAINT, parse_math=False)
    axes.set_ylabel("times as slow as the baseline", color=FAINT)
    axes.set_ylim(bottom=0)
    return _svg(figure)


def counter_chart(samples: Sequence[Row]) -> str:
    """Samples of a counter (s since the recording began); incident shaded, the fault between dotted lines."""
    figure, axes = _canvas(7.2, 1.8)
    first = samples[0]
    axes.axvspan(first["incident_start_s"], first["incident_end_s"], color=SHADE, linewidth=0)
    for mark in ("fault_apply_s", "fault_end_s"):
        if first[mark] is not None:
            axes.axvline(first[mark], color=INK, linewidth=0.8, linestyle=":")
    kept = _thinned(samples)
    axes.plot([row["start_s"] for row in kept], [row["value"] for row in kept], color=LINE, linewidth=1.1)
    axes.set_xlabel("s since the recording began", color=FAINT)
    axes.set_ylabel(_short(first["unit"] or ""), color=FAINT, parse_math=False)
    if min(row["value"] for row in kept) >= 0:
        axes.set_ylim(bottom=0)
    return _svg(figure)


def time_chart(functions: Sequence[Row]) -> str:
    """Time a cycle in each function, ms: hollow where normal, full where abnormal, a line between."""
    figure, axes = _canvas(7.2, 0.8 + 0.24 * len(functions))
    for place, row in enumerate(functions):
        before, now = row["beta_normal_ms"], row["beta_abnormal_ms"]
        axes.plot([before, now], [place, place], color=FAINT, linewidth=1.2, zorder=1)
        axes.plot(before, place, "o", color=LINE, markerfacecolor="none", markersize=5.5)
        axes.plot(now, place, "o", color=ALARM, markersize=4.5)
    axes.set_yticks(range(len(functions)), [_function(row) for row in functions])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_ylim(len(functions) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("ms a cycle: hollow baseline, full fault", color=FAINT)
    return _svg(figure)


def call_chart(normal_us: Sequence[float], abnormal_us: Sequence[float]) -> str:
    """Share of cycles (%) in which a call took at most so long (us): dashed normal, whole line abnormal."""
    figure, axes = _canvas(7.2, 2.0)
    sides = ((normal_us, LINE, (0, (5, 3)), "baseline"), (abnormal_us, ALARM, "solid", "fault"))
    for times, colour, style, name in sides:
        ordered = sorted(times)
        shares = [100 * place / len(ordered) for place in range(1, len(ordered) + 1)]
        axes.step(ordered, shares, where="post", color=colour, linestyle=style, linewidth=1.4)
        middle = len(ordered) // 2
        axes.annotate(
            name, (ordered[middle], shares[middle]), xytext=(5, -9), textcoords="offset points", fontsize=8
        )
    axes.set_ylim(0, 102)
    axes.set_xlabel("time of a call, us", color=FAINT)
    axes.set_ylabel("% of cycles", color=FAINT)
    return _svg(figure)


def _canvas(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.tick_params(colors=FAINT, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)
    return figure, axes


def _shade(axes: "Axes", marks: Row) -> None:
    if marks["fault_apply_s"] is not None and marks["fault_end_s"] is not None:
        axes.axvspan(marks["fault_apply_s"], marks["fault_end_s"], color=SHADE, linewidth=0)
    for name in ("baseline_start_s", "baseline_end_s", "recovery_start_s", "recovery_end_s"):
        if marks[name] is not None:
            axes.axvline(marks[name], color=FAINT, linewidth=0.6, linestyle=":")


def _svg(figure: "Figure") -> str:
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lprism", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = _METADATA.sub("", _PROLOGUE.sub("", out.getvalue(), count=1))
    for colour, variable in COLOURS.items():
        text = text.replace(colour, f"var({variable})")
    return text


def _thinned(rows: Sequence[Row]) -> Sequence[Row]:
    """At most MOST_POINTS of the rows, evenly spread: a chart has no more pixels."""
    return rows[:: -(-len(rows) // MOST_POINTS) or 1]


def _share(value: float | None) -> float:
    return float("nan") if value is None else 100 * value


def _function(row: Row) -> str:
    """Its name, the GPU where it runs on one, and whether it only waits."""
    where = "" if row["device"] in (None, "Host") else f" · {_short(row['device'])}"
    return _short(row["simple_name"]) + where + (" (waits)" if row["is_waiting"] else "")


def _short(name: str) -> str:
    return name if len(name) <= MOST_NAME else name[: MOST_NAME - 1] + "…"
