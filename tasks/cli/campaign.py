"""`lprism campaign plan` and `lprism campaign run`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.cli import options
from tasks.cli.output import print_json, print_table
from tasks.settings import home_path

if TYPE_CHECKING:
    from tasks.plan import Cell

_COLUMNS = ("order", "host", "engine", "model", "scenario", "strength", "workload", "mode", "repetition")


def add_to(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("plan", epilog="Example: lprism campaign plan nightly.yaml --json")(plan)
    group.command("run", epilog="Example: lprism campaign run nightly.yaml --home /data/lprism")(run)
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


def _row(cell: "Cell") -> tuple[object, ...]:
    strength = " ".join(f"{name}={value}" for name, value in cell.strength.items())
    axes = (cell.scenario, strength, cell.workload, cell.mode, cell.repetition)
    return (cell.run_order, cell.host, cell.engine_kind, cell.model, *axes, cell.run_id)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"  # noqa: PLR2004 - clock
