"""`lprism demo`: the whole way, on this machine alone."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.cli import options
from tasks.cli.output import busy, printable
from tasks.settings import LprismError, SpecError, home_path

if TYPE_CHECKING:
    from tasks.spec import CampaignSpec

REPETITIONS = 2  # the fewest: each normal run is judged by a model of the others
GO_ON = "the same command goes on with it; --new begins another"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog="Example: lprism demo --engine sglang --home /tmp/demo")(demo)


def demo(
    *,
    engine: Annotated[
        list[str] | None, typer.Option(help="An engine to serve with; may be given twice. Default: all.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One engine, two faults: 6 minutes.")] = False,
    fault: Annotated[
        list[str] | None, typer.Option(help="A fault; may be repeated. Default: all that run here, and sham.")
    ] = None,
    repetitions: Annotated[int, typer.Option(min=2, help="Runs of each scenario.")] = REPETITIONS,
    new: Annotated[bool, typer.Option("--new", help="Begin another, even if one was interrupted.")] = False,
    home: options.Home = None,
) -> None:
    """Run a campaign on this machine and print what was injected beside what was diagnosed.

    Real engines with a tiny model, a loopback SSH host, real faults: no GPU, no root, no model hub. It takes
    some 15 minutes once the engines are installed. One that was interrupted goes on with the same command.
    """
    from tasks.cli.pipeline import run_pipeline
    from tasks.lab.demo import FULL, QUICK, unfinished
    from tasks.plan import plan

    place, size = home_path(home), QUICK if quick else FULL
    kinds = _known_kinds(engine or size.engines)
    _install(kinds)
    faults = _faults(place, kinds, fault or size.faults)
    spec = _spec(kinds, repetitions, faults, size.seconds)
    resumed = None if new else unfinished(place, spec)
    cells = len(plan(spec, spec.name))
    typer.echo(
        f"{resumed} goes on; --new begins another" if resumed else f"{cells} cells, {_minutes(spec)}",
        err=True,
    )
    try:
        run_pipeline(spec, place, resumed, "pending" if resumed else "")
    except KeyboardInterrupt:
        typer.echo(f"lprism: the demo is not done: {GO_ON}", err=True)
        raise


def _known_kinds(kinds: Sequence[str]) -> list[str]:
    """The engine kinds, each once. Raises SpecError naming the nearest."""
    from tasks.lab.demo import KINDS
    from tasks.spec_errors import unknown

    for kind in kinds:
        if kind not in KINDS:
            raise SpecError(unknown("engine", kind, KINDS))
    return list(dict.fromkeys(kinds))


def _install(kinds: Sequence[str]) -> None:
    from tasks.lab.install import install
    from tasks.lab.recipes import recipe_for

    for kind in kinds:
        if recipe := recipe_for(kind):
            install(recipe.name)


def _faults(home: Path, kinds: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """The faults that this machine can have, each refusal told. Raises LprismError when there is none."""
    from tasks.host_check import check
    from tasks.injection import anomalies, parameters_of
    from tasks.lab.demo import asked_of_this_machine, chosen_faults, here

    names = list(wanted or anomalies())
    for name in names:
        parameters_of(name)  # a name that is none is refused in its words
    with busy("looking what runs on this machine"):
        findings = check(asked_of_this_machine(kinds, names), home)
    can = here(findings, names)
    for name, why in can.items():
        if why:
            typer.echo(printable(f"left out: {name}: {why}"), err=True)
    faults = chosen_faults(can, wanted)
    if not faults:
        broken = next((row for row in findings if not row["passed"]), None)
        why = f": {broken['check']}: {broken['found']}" if broken else ""
        raise LprismError(f"no fault can be injected here{why}; `lprism doctor` says what is missing")
    return faults


def _spec(kinds: Sequence[str], repetitions: int, faults: Sequence[str], seconds: float) -> "CampaignSpec":
    from tasks.lab.demo import demo_spec
    from tasks.spec import parse_spec

    cpus = sorted(os.sched_getaffinity(0))
    return parse_spec(demo_spec(kinds, repetitions, cpus, faults, seconds), "the demo's spec")


def _minutes(spec: "CampaignSpec") -> str:
    from tasks.plan import ANALYSIS_S, estimate_s, plan

    return f"about {round((estimate_s(spec, plan(spec, spec.name)) + ANALYSIS_S) / 60)} minutes"
