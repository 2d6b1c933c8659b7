"""Runs the main job from the command line: a Prefect server, the screen, the flow, and what came out."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tasks.cli.output import print_table, printable
from tasks.settings import LprismError

if TYPE_CHECKING:
    from tasks.spec import CampaignSpec

SHOWN = (
    "run_id",
    "engine",
    "scenario",
    "incidents",
    "lag_batches",
    "lag_ms",
    "slowdown",
    "named_cause",
    "verdict",
)


def run_pipeline(spec: "CampaignSpec", home: Path, resumed: str | None = None, resume: str = "") -> None:
    """Run the pipeline and print the verdicts. Raises LprismError when it failed, or when a cell did.

    `resumed` is an instance that has begun; `resume` says which of its cells to run, as in the campaign flow.
    """
    from tasks.books import new_instance, to_run
    from tasks.cli.screen import campaign_screen
    from tasks.plan import ANALYSIS_S, plan, queues_s
    from tasks.prefect_server import prefect_server
    from tasks.work import keep_off_engine_cpus

    keep_off_engine_cpus(spec)  # Prefect's server, too
    instance = resumed or new_instance(spec.name)
    cells = plan(spec, instance)
    if resumed:
        cells = to_run(home, instance, cells, failed_too=resume == "failed")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # errors are told once, by us
    with campaign_screen(ANALYSIS_S, queues_s(spec, cells)), prefect_server(home):
        from flows.pipeline import run_here
        from tasks.failures import CellsFailed

        with suppress(CellsFailed):  # the verdicts tell how many, and fail
            run_here(spec, home, instance, resume)
    try:
        show_verdicts(home, instance)
    finally:
        show_report(home, instance)


def show_report(home: Path, campaign: str) -> None:
    """Say where the campaign's report is; it is written first where the flow did not get so far."""
    from tasks.pages.report import default_path, write_report
    from tasks.warehouse import PUBLISHED

    path = default_path(home, campaign)
    if not path.is_file() or path.stat().st_mtime < (home / PUBLISHED).stat().st_mtime:
        write_report(home, campaign)
    typer.echo(printable(f"report: {path}"))


def show_verdicts(home: Path, campaign: str) -> None:
    """Print injected beside diagnosed, from the published view, and one sentence a fault."""
    rows = verdicts(home, campaign)
    print_table(SHOWN, [[_short(row[name]) for name in SHOWN] for row in rows])
    for row in rows:
        if row["scenario"] != "normal" and row["verdict"] != "failed":
            typer.echo(printable(sentence(row)))
    ask = f"{sys.argv[0]} sql 'FROM %s' --home {home}"
    right = sum(row["verdict"] == "right" for row in rows)
    typer.echo(f"\n{right} of {len(rows)} right; the same: {ask % 'v_injected_vs_diagnosed'}")
    failed = sum(row["verdict"] == "failed" for row in rows)
    if failed:
        raise LprismError(f"{failed} of {len(rows)} cells failed; why: {ask % 'v_runs'}")


def verdicts(home: Path, campaign: str) -> list[dict[str, Any]]:
    """The campaign's rows of v_injected_vs_diagnosed, in the order they ran."""
    from tasks import warehouse

    with warehouse.open_published(home) as con:
        found = con.table("v_injected_vs_diagnosed").order("run_order").to_arrow_table()
    return [row for row in found.to_pylist() if row["campaign"] == campaign]


def sentence(row: dict[str, Any]) -> str:
    """One fault, told in one sentence: what was injected, when it was found, what it was called and why."""
    found = "no alarm"
    if row["lag_ms"] is not None:
        found = f"first alarm after {row['lag_batches']} batches ({row['lag_ms'] / 1000:.1f} s)"
    undone = "undone, and the undo proved" if row["effect_undone"] else "the undo is NOT proved"
    slo = {True: "SLO broken", False: "SLO kept", None: "no SLO judged"}[row["slo_violated"]]
    told = f"{row['run_id']}: injected {row['scenario']}, {found}, cause named {row['named_cause']}"
    return f"{told}: {row['evidence']}; {slo}; {undone}"


def _short(value: object) -> object:
    return round(value, 2) if isinstance(value, float) else value
