"""`lprism serve`: Prefect with its UI, our deployments and a worker, on this machine."""

import signal
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.cli import options
from tasks.cli.output import busy, printable
from tasks.settings import home_path

if TYPE_CHECKING:
    from tasks.serving import Served

PORT = 4200  # Prefect's own


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve", epilog="Example: lprism serve --home /data/lprism --port 4200")(serve)


def serve(
    *,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the UI listens, on loopback only.")
    ] = PORT,
    home: options.Home = None,
) -> None:
    """Serve Prefect's UI for this home: start campaigns from a form, nightly or by hand, and watch them.

    Ctrl-C or SIGTERM ends it, and what runs then, whose faults are undone first. No internet is needed.
    """
    from tasks.serving import serving

    signal.signal(signal.SIGTERM, _as_interrupt)
    with ExitStack() as stack:
        with busy("starting Prefect's server, deployments and worker"):
            served = stack.enter_context(serving(home_path(home), port))
        _say(served)
        try:
            served.wait()
        except KeyboardInterrupt:
            typer.echo("stopping: what runs is undone first", err=True)
        finally:
            for which in (signal.SIGINT, signal.SIGTERM):
                signal.signal(which, signal.SIG_IGN)  # one is enough: what follows has its bounds


def _say(served: "Served") -> None:
    told = (
        f"Prefect UI        {served.url}",
        f"start a campaign  {served.form}",
        f"drop folder       {served.drop}",
        f"log               {served.log}",
        "Ctrl-C stops it",
    )
    for line in told:
        typer.echo(printable(line))


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
