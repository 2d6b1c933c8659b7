"""`lprism report`: a campaign as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from tasks.cli import options
from tasks.cli.output import busy, printable
from tasks.settings import home_path


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", epilog="Example: lprism report demo-20261123T014500")(report)


def report(
    campaign: Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Its instance, as `runs` names it.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to; reports/CAMPAIGN.html in the home by default."),
    ] = None,
    home: options.Home = None,
) -> None:
    """Write a campaign as one HTML file that opens offline: verdict, charts, causes, and every query."""
    from tasks.pages.report import write_report

    with busy("writing the report"):
        path = write_report(home_path(home), campaign, output)
    typer.echo(printable(f"report: {path}"))
