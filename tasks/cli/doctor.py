"""`lprism doctor`: what is installed, what works here, what is missing for what."""

from collections.abc import Mapping
from typing import Any

import typer

from tasks.cli import options
from tasks.cli.output import busy, print_json, print_table
from tasks.settings import LprismError, home_path


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", epilog="Example: lprism doctor --json")(doctor)


def doctor(*, home: options.Home = None, as_json: options.Json = False) -> None:
    """Say what is installed, what works on this machine, and what is missing for which fault or recorder.

    Nothing is changed. The exit code is 1 only when the demo could not run here.
    """
    from tasks.doctor import can_run_the_demo, examined

    with busy("looking at this machine"):
        rows = examined(home_path(home))
    if as_json:
        print_json(rows)
    else:
        print_table(("part", "name", "works", "found", "remedy"), list(map(_cells, rows)))
    if not can_run_the_demo(rows):
        raise LprismError(f"the demo cannot run here: {rows[0]['found']}")


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    return (row["part"], row["name"], "yes" if row["works"] else "no", row["found"], row["remedy"] or "")
