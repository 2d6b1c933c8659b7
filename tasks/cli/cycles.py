"""`lprism cycles`: a run's traces divided into steps or layers, and one of them in detail."""

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.cli import options
from tasks.cli.output import busy, print_json, print_table, printable
from tasks.settings import home_path

if TYPE_CHECKING:
    from tasks.deepdive.cycles import Divided


class Division(StrEnum):
    """What a cycle is."""

    step = "step"
    layer = "layer"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cycles", epilog="Example: lprism cycles r0123456789 --cycle 2")(cycles)


def cycles(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run_id, or campaign/engine/scenario[/workload].")
    ],
    *,
    anchor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The function whose calls delimit cycles, or its last words; by default found.",
        ),
    ] = None,
    divide_by: Annotated[Division, typer.Option(help="One engine step, or one layer of the model.")] = (
        Division.step
    ),
    cycle: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Show cycle N, as it was divided last: stack, calls, kernels."),
    ] = None,
    pid: Annotated[
        int | None, typer.Option(help="With --cycle: of this process; else of the first rank.")
    ] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Divide a run's traces into cycles, and tell what ran in them; `function_usage` then has it all."""
    from tasks.deepdive.breakdown import breakdown
    from tasks.deepdive.cycles import divide_run, is_divided
    from tasks.lake_tables import publish

    place = home_path(home)
    if cycle is None or not is_divided(place, run) or anchor:
        with busy("dividing"):
            done = divide_run(place, run, anchor, divide_by.value)
            publish(place)
    if cycle is not None:
        typer.echo("\n".join(map(printable, breakdown(place, run, cycle, pid).splitlines())))
    elif as_json:
        print_json(asdict(done))
    else:
        _show(done)


def _show(done: "Divided") -> None:
    for title, rows in (
        ("what may delimit cycles", done.candidates),
        ("cycles", done.modes),
        ("largest shares, mean over the cycles of the usual mode", done.functions),
    ):
        if rows:
            typer.echo(title)
            print_table(list(rows[0]), [list(row.values()) for row in rows])
    for warning in done.warnings:
        typer.echo(printable(f"warning: {warning}"))
    told = ", ".join(done.anchors) or "nothing delimits them"
    typer.echo(printable(f"{done.run_id}: {done.cycles} cycles ({told}), {done.usage_rows} rows of usage"))
