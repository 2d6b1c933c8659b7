"""`lprism export-trace`: a run for Perfetto."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tasks.cli import options
from tasks.cli.output import busy, print_json, printable
from tasks.settings import home_path


class Window(StrEnum):
    """A part of a run."""

    baseline = "baseline"
    fault = "fault"
    recovery = "recovery"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    example = "Example: lprism export-trace r0123456789 --window fault --out fault.json.gz"
    app.command("export-trace", epilog=example)(export_trace)


def export_trace(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run_id, or campaign/engine/scenario[/workload].")
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; default ./RUN_ID.perfetto.json.gz.")
    ] = None,
    window: Annotated[Window | None, typer.Option(help="Only what overlaps this window.")] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Write all that was recorded of a run on one time line, for ui.perfetto.dev."""
    from tasks.pages.perfetto import export_trace as export

    with busy("exporting"):
        done = export(home_path(home), run, out, window.value if window else None)
    if as_json:
        print_json({"run_id": done.run_id, "path": str(done.path), "events": done.events})
        return
    told = ", ".join(f"{count:,} {name}" for name, count in done.events.items() if count)
    typer.echo(printable(f"wrote {done.path}: {told or 'nothing was recorded'}; open it at ui.perfetto.dev"))
