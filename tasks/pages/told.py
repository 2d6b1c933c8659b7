"""What Prefect's UI is told of a campaign, as Markdown: its plan, its cells, a run, injected vs diagnosed."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.plan import Cell, estimate_s
from tasks.spec import CampaignSpec

if TYPE_CHECKING:
    from tasks.sentinel.retrain import Change

MOST_CELLS = 200
MOST_TEXT = 300
# Whatever could be HTML, a link, or the end of a table's cell.
_ACTIVE = re.compile(r"([\\`*_{}\[\]()#+!|~])")


def plain(text: object, most: int = MOST_TEXT) -> str:
    """A text that Markdown shows as it is, in one line; what servers and people wrote is never markup."""
    one_line = " ".join(str(text).split())
    short = one_line if len(one_line) <= most else one_line[: most - 3] + "..."
    escaped = short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _ACTIVE.sub(r"\\\1", escaped)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; None is an empty cell."""
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(f"{value:.4g}" if isinstance(value, float) else value)


def plan(spec: CampaignSpec, campaign: str, cells: Sequence[Cell]) -> str:
    """Every cell in its order, and how long they will take."""
    minutes = max(1, round(estimate_s(spec, cells) / 60))
    head = (
        f"# Plan of {plain(campaign)}\n\n{len(cells)} cells, hosts: {len(spec.hosts)}, about {minutes} min, "
        f"shuffled by seed {spec.seed}.\n\n"
    )
    return head + _cells(cells, {})


def progress(
    campaign: str, cells: Sequence[Cell], statuses: Mapping[str, str], now: Mapping[str, str]
) -> str:
    """How far a campaign is: counts, what each host does now, and the cells with their states."""
    counts = Counter(statuses.get(cell.run_id, "complete") for cell in cells)
    told = ", ".join(f"{counts[status]} {status}" for status in ("complete", "failed", "pending"))
    clock = time.strftime("%H:%M:%S UTC", time.gmtime())
    head = f"# {plain(campaign)}\n\n**{told}** of {len(cells)} cells, {clock}\n\n"
    doing = "".join(f"- {plain(host)}: {plain(what)}\n" for host, what in sorted(now.items()))
    return head + (doing + "\n" if doing else "") + _cells(cells, statuses)


def _cells(cells: Sequence[Cell], statuses: Mapping[str, str]) -> str:
    """The state comes first: a page has no room for every axis of a cell."""
    columns = ["order", "run", "host", "engine", "scenario", "strength", "workload", "mode", "repetition"]
    rows = [
        [*([statuses.get(cell.run_id, "complete")] if statuses else []), *_axes(cell)]
        for cell in cells[:MOST_CELLS]
    ]
    more = f"\nand {len(cells) - MOST_CELLS} more\n" if len(cells) > MOST_CELLS else ""
    return table([*(["state"] if statuses else []), *columns], rows) + more


def _axes(cell: Cell) -> list[object]:
    strength = " ".join(f"{name}={value}" for name, value in cell.strength.items())
    axes = (cell.scenario, strength, cell.workload, cell.mode, cell.repetition)
    return [cell.run_order, cell.run_id, cell.host, cell.engine_kind, *axes]


def run(manifest: Mapping[str, Any]) -> str:
    """One run: what came of it, its effect, its windows and files, and where it lies."""
    cell, effect = manifest["cell"], manifest.get("effect")
    lines = [f"# Run {plain(manifest['run_id'])}: {plain(manifest['status'])}\n"]
    if manifest.get("reason"):
        lines.append(f"**{plain(manifest['reason'], 2000)}**\n")
    lines.append(
        table(["what", "value"], [(key, cell.get(key)) for key in _CELL if cell.get(key) not in (None, {})])
    )
    if effect:
        shown = [(key, effect.get(key)) for key in _EFFECT if effect.get(key) is not None]
        lines.append("\n## The fault's effect\n\n" + table(["measure", "value"], shown))
    lines.append(
        "\n## Files\n\n"
        + table(
            ["file", "bytes", "sha256"],
            [(file["name"], file["size_bytes"], file["sha256"][:16]) for file in manifest.get("files", [])],
        )
    )
    return "\n".join(lines)


_CELL = (
    "host", "engine", "engine_version", "model", "scenario", "strength", "input_length", "output_length",
    "concurrency", "mode", "repetition",
)  # fmt: skip
_EFFECT = ("metric", "unit", "before", "during", "after", "proved", "undone", "detail")


def verdicts(campaign: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Injected beside diagnosed, and why."""
    right = sum(row["verdict"] == "right" for row in rows)
    shown = table(
        ["run", "injected", "named cause", "verdict", "incidents", "lag (ms)", "slowdown", "evidence"],
        [[row[key] for key in _VERDICT] for row in rows[:MOST_CELLS]],
    )
    return (
        f"# Injected vs diagnosed: {plain(campaign)}\n\n**{right} of {len(rows)} right**\n\n{shown}\n"
        'The same: `lprism sql "FROM v_injected_vs_diagnosed"`\n'
    )


_VERDICT = (
    "run_id", "scenario", "named_cause", "verdict", "incidents", "lag_ms", "slowdown", "evidence",
)  # fmt: skip


def links(home: str, campaign: str) -> str:
    """Where everything of a campaign lies."""
    return "# Where it lies\n\n" + table(
        ["what", "where"],
        [
            ("bundles", f"{home}/bundles/{campaign}"),
            ("warehouse", f"{home}/warehouse.duckdb"),
            ("lake", f"{home}/lake"),
        ],
    )


def champions(changes: Sequence["Change"]) -> str:
    """What became of every champion that was trained again."""
    rows = [
        (one.campaign, one.engine, one.key[0], one.target, _OUTCOMES[one.outcome], one.model_before,
         one.model_after, one.error_before, one.error_after)
        for one in changes
    ]  # fmt: skip
    columns = (
        "campaign",
        "engine",
        "configuration",
        "of",
        "outcome",
        "before",
        "trained",
        "error before",
        "error",
    )
    counts = Counter(one.outcome for one in changes)
    head = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "nothing to train"
    return (
        f"# Champions\n\n**{head}**\n\n{table(columns, rows)}\n"
        "Errors are means of |actual - expected| / actual on sessions left out.\n"
    )


_OUTCOMES = {
    "first": "first model",
    "same": "the same",
    "replaced": "replaced",
    "kept": "the old one stays, the new judged worse",
    "gone": "gone, nothing left to train on",
}
