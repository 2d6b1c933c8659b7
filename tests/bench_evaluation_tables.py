"""The tables of `python -m tests.bench_evaluation score`, in Markdown, out of rows of detection_metrics."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.sentinel.metrics import poisson_interval

Row = Mapping[str, Any]

FOUND = 0.9
OURS, NORMAL = "calibrated", "normal"
LEFT_OUT = ("interface", "peer")  # of a strength: the same in every dose


def smallest_found(rows: Sequence[Row]) -> float | None:
    """The smallest mean slowdown from which on every fault and strength is found in FOUND of its runs."""
    least = None
    for row in sorted(rows, key=lambda one: -(one.get("mean_slowdown") or 0.0)):
        if row.get("mean_slowdown") is None:
            continue
        if (row.get("detection_ratio") or 0.0) < FOUND:
            break
        least = row["mean_slowdown"]
    return least


def tables(rows: Sequence[Row], full: Mapping[str, Row]) -> list[str]:
    """Lines of Markdown: of each model what was false, what was found, the published limits beside.

    `full` is the full strength of each fault.
    """
    lines: list[str] = []
    for model_id in dict.fromkeys(row["model_id"] for row in rows):
        mine = [row for row in rows if row["model_id"] == model_id]
        ours = [row for row in mine if row["strategy"] == OURS]
        lines += [f"### {model_id}", "", *quiet(ours), "", *faults(ours), "", *strategies(mine, full), ""]
    return lines


def quiet(rows: Sequence[Row]) -> list[str]:
    """Sentences on runs in which nothing was injected, and on the smallest slowdown that is found."""
    harmless = [row for row in rows if row.get("false_incidents") is not None]
    said = [
        f"- {row['scenario']}: {row['false_incidents']} false incidents in {row['hours']:.2f} h "
        f"({row['runs']} runs): {row['false_incidents_an_hour']:.2f} an hour "
        f"({row['false_incidents_an_hour_low']:.2f} to {row['false_incidents_an_hour_high']:.2f}), "
        f"{row['false_alarm_ratio']:.2%} of batches"
        for row in harmless
    ]
    hours, false = (sum(row[name] for row in harmless) for name in ("hours", "false_incidents"))
    if hours:
        low, high = (end / hours for end in poisson_interval(false))
        said.append(
            f"- all of these: {false} in {hours:.2f} h: {false / hours:.2f} an hour ({low:.2f} to {high:.2f})"
        )
    least = smallest_found(rows)
    return [*said, f"- slowdown from which on every fault is found in 90 % of its runs: {_number(least)}"]


def faults(rows: Sequence[Row]) -> list[str]:
    """A row a fault and strength: mean slowdown; times that the objective broke, share foreseen, ms."""
    lines = [
        "| fault | runs | slowdown | found | lag, batches / ms | F1 | F1 of ten | false | objective |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted((row for row in rows if row.get("detection_ratio") is not None), key=_by_fault):
        foreseen = ", ".join(
            _number(row[f"slo_{name}"]) for name in ("violations", "foreseen_ratio", "lead_ms")
        )
        cells = (
            f"{row['scenario']} {_dose(row)}", row["runs"], _number(row["mean_slowdown"]),
            _between(row, "detection"), f"{_number(row['lag_batches'])} / {_number(row['lag_ms'])}",
            _between(row, "f1"), _between(row, "f1_of_ten"), f"{row['false_alarm_ratio']:.2%}", foreseen,
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def strategies(rows: Sequence[Row], full: Mapping[str, Row]) -> list[str]:
    """A row a strategy: what is false in normal sessions, and F1 of each fault at full strength."""
    named = " | ".join(f"{name}: F1, of ten" for name in full)
    lines = [
        f"| limit | false incidents an hour | alarms, normal | {named} |",
        "|---" * (3 + len(full)) + "|",
    ]
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        mine = [row for row in rows if row["strategy"] == strategy]
        normal = next((row for row in mine if row["scenario"] == NORMAL), {})
        shown = [_number(normal.get("false_incidents_an_hour")), _number(normal.get("false_alarm_ratio"))]
        for name, dose in full.items():
            row = next((r for r in mine if (r["scenario"], _strength(r)) == (name, dose)), {})
            shown.append(f"{_number(row.get('f1_ratio'))}, {_number(row.get('f1_of_ten_ratio'))}")
        lines.append(f"| {strategy} | {' | '.join(shown)} |")
    return lines


def _by_fault(row: Row) -> tuple[str, float]:
    return row["scenario"], -(row["mean_slowdown"] or 0.0)


def _between(row: Row, name: str) -> str:
    low, middle, high = (row[f"{name}{end}_ratio"] for end in ("_low", "", "_high"))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _strength(row: Row) -> Row:
    return dict(json.loads(row["strength"] or "{}"))


def _dose(row: Row) -> str:
    return " ".join(f"{name}={value}" for name, value in _strength(row).items() if name not in LEFT_OUT)
