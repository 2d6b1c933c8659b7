"""`lprism campaign plan`, `run`, `resume`, `status` and `compare`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.cli import options
from tasks.cli.campaign_compare import compare
from tasks.cli.output import busy, print_json, print_table
from tasks.settings import home_path

if TYPE_CHECKING:
    from tasks.plan import Cell

Known = Annotated[
    str,
    typer.Argument(metavar="SPEC_OR_NAME", help="A spec file, a campaign's name, or one instance of it."),
]
_COLUMNS = ("order", "host", "engine", "model", "scenario", "strength", "workload", "mode", "repetition")


def add_to(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("plan", epilog="Example: lprism campaign plan nightly.yaml --json")(plan)
    group.command("run", epilog="Example: lprism campaign run nightly.yaml --home /data/lprism")(run)
    group.command("resume", epilog="Example: lprism campaign resume nightly")(resume)
    group.command("status", epilog="Example: lprism campaign status nightly.yaml --json")(status)
    example = "Example: lprism campaign compare nightly-20261122T014500 nightly-20261123T014500"
    group.command("compare", epilog=example)(compare)
    example = "Example: lprism campaign plan nightly.yaml"
    app.add_typer(group, name="campaign", help="Plan and run campaigns.", epilog=example)


def plan(
    spec_file: options.SpecFile,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    instance: Annotated[
        str | None, typer.Option(metavar="C", help="With this campaign's instance: its run ids too.")
    ] = None,
    home: options.Home = None,  # noqa: ARG001 - every command takes it, so that scripts can always pass it
) -> None:
    """Print every cell of a spec in its order, and how long they will take. Touches nothing."""
    from tasks.plan import estimate_s
    from tasks.plan import plan as ordered
    from tasks.spec import load_spec

    spec = load_spec(spec_file)
    cells = ordered(spec, instance or spec.name)
    seconds = estimate_s(spec, cells)
    if as_json:
        shown = [{**asdict(cell), "run_id": cell.run_id if instance else None} for cell in cells]
        print_json({"name": spec.name, "estimate_s": seconds, "cells": shown})
        return
    columns = (*_COLUMNS, "run_id") if instance else _COLUMNS
    print_table(columns, [_row(cell)[: len(columns)] for cell in cells])
    typer.echo(f"{len(cells)} cells, about {_duration(seconds)}")


def run(spec_file: options.SpecFile, *, home: options.Home = None) -> None:
    """Run a spec's campaign: record, ingest, validate, train, diagnose, and print what came out."""
    from tasks.cli.pipeline import run_pipeline
    from tasks.spec import load_spec

    run_pipeline(load_spec(spec_file), home_path(home))


def resume(
    campaign: Known,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Run cells that failed again, too.")] = False,
    home: options.Home = None,
) -> None:
    """Go on with a campaign that was interrupted: every cell without a whole bundle is run, and no other."""
    from tasks.books import find
    from tasks.cli.pipeline import run_pipeline

    place = home_path(home)
    instance, spec = find(place, campaign)
    typer.echo(f"{instance} goes on", err=True)
    run_pipeline(spec, place, instance, "failed" if failed else "pending")


def status(campaign: Known, *, home: options.Home = None, as_json: options.Json = False) -> None:
    """Say how far a campaign is and what its hosts do now, also when it is run from elsewhere."""
    from tasks.status import status as asked

    with busy(f"asking the hosts of {campaign}"):
        said = asked(home_path(home), campaign)
    if as_json:
        print_json(said)
        return
    if said["campaign"]:
        counts = ", ".join(f"{said[one]} {one}" for one in ("complete", "failed", "pending"))
        by = f" (process {said['pid']})" if said["pid"] else ""
        typer.echo(f"{said['campaign']}: {said['state']}{by}: {counts} of {said['planned']} cells")
    print_table(
        ("host", "complete", "failed", "pending", "now", "lease"),
        [
            (host["host"], host["complete"], host["failed"], host["pending"], _now(host["doing"]),
             host["error"] or host["holder"] or "free")
            for host in said["hosts"]
        ],
    )  # fmt: skip


def _now(doing: dict[str, Any] | None) -> str:
    if not doing:
        return ""
    return f"cell {doing['cell']} of {doing['cells']}: {doing['phase']} ({doing['scenario']})"


def _row(cell: "Cell") -> tuple[object, ...]:
    strength = " ".join(f"{name}={value}" for name, value in cell.strength.items())
    axes = (cell.scenario, strength, cell.workload, cell.mode, cell.repetition)
    return (cell.run_order, cell.host, cell.engine_kind, cell.model, *axes, cell.run_id)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"  # noqa: PLR2004 - clock
