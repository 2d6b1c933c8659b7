"""Puts the commands together, and turns what goes wrong into one or two lines and an exit code."""

import sys
from typing import NoReturn

import typer

from tasks.cli import (
    analysis,
    campaign,
    cycles,
    demo,
    doctor,
    engines,
    faults,
    ingest,
    models,
    report,
    serve,
    sql,
    traces,
    watch,
)
from tasks.cli.output import printable
from tasks.settings import LprismError, pin_telemetry_off

INTERRUPTED = 130  # what a shell expects of a command that Ctrl-C ended

app = typer.Typer(
    name="lprism",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Tell, batch by batch, when an LLM inference server is slower than its workload explains, and why.",
    epilog="Example: lprism demo",
)
demo.add_to(app)
doctor.add_to(app)
campaign.add_to(app)
engines.add_to(app)
faults.add_to(app)
ingest.add_to(app)
analysis.add_to(app)
models.add_to(app)
cycles.add_to(app)
report.add_to(app)
serve.add_to(app)
sql.add_to(app)
traces.add_to(app)
watch.add_to(app)


def run() -> NoReturn:
    """Run the command line; exit code 0, 1 (failed), 2 (bad usage) or 130 (Ctrl-C)."""
    pin_telemetry_off()
    try:
        app()
    except LprismError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as end:
        if end.code == INTERRUPTED:  # Typer has caught the Ctrl-C already
            _interrupted()
        raise
    sys.exit(0)


def _interrupted() -> NoReturn:
    _say("interrupted")
    sys.exit(INTERRUPTED)


def _say(message: str) -> None:
    # Messages may quote what a server, a file or a person wrote.
    lines = [printable(line) for line in message.splitlines()]
    print("lprism: " + "\n".join(lines), file=sys.stderr)  # noqa: T201 - the last thing this process says


if __name__ == "__main__":
    run()
