"""`lprism validate`, `train`, `diagnose`: the steps after ingest; and `compare`, of any two runs."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.cli import options
from tasks.cli.output import busy, print_csv, print_json, print_table, printable

if TYPE_CHECKING:
    from pathlib import Path

SEED = 7
TOP_ROWS = 20
SHOWN = (
    "function_name",
    "metric_name",
    "device",
    "suspicion_score",
    "beta_difference_pct",
    "mu_difference_pct",
    "slowdown",
    "p_corrected",
    "mu_p_corrected",
)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (validate, train, diagnose):
        name = command.__name__
        app.command(name, epilog=f"Example: lprism {name} --campaign demo-20261123T014500")(command)
    pair = "published/sglang/gpu_instability"
    app.command(epilog=f"Example: lprism compare {pair}/normal {pair}/abnormal --format csv")(compare)


def validate(campaign: options.Campaign, *, home: options.Home = None, as_json: options.Json = False) -> None:
    """Check a campaign's rows, and name every promise that they break (exit code 1 if one must hold).

    Any campaign in the lake: one of ours, or the recordings of others under the name that they got.
    """
    chosen = options.home_of(home, campaign)
    from tasks.quality.report import COLUMNS, table
    from tasks.quality.suites import raise_on_failure
    from tasks.quality.suites import validate as judged

    outcome = _published(chosen, campaign, "checking", lambda: judged(chosen, campaign))
    if as_json:
        print_json(asdict(outcome))
    else:
        print_table(COLUMNS, table(outcome))
    raise_on_failure(outcome)
    if not as_json:
        typer.echo(f"{campaign}: every check that must hold does")


def train(
    campaign: options.Campaign,
    *,
    engine: Annotated[
        str | None, typer.Option(metavar="E", help="Only this engine's models; others stay.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = SEED,
    home: options.Home = None,
) -> None:
    """Train the latency models of a campaign on its normal runs, with alarm limits from held-out ones."""
    chosen = options.home_of(home, campaign)
    from tasks.sentinel.registry import train_campaign

    _show(_published(chosen, campaign, "training", lambda: train_campaign(chosen, campaign, seed, engine)))


def diagnose(
    normal: Annotated[
        str | None,
        typer.Argument(
            metavar="[NORMAL | RUN]",
            help="A run_id or campaign/engine/scenario; #baseline: one window. Alone: its longest incident.",
        ),
    ] = None,
    abnormal: Annotated[
        str | None, typer.Argument(metavar="[ABNORMAL]", help="The run whose difference is to be explained.")
    ] = None,
    *,
    campaign: Annotated[
        str | None, typer.Option(metavar="C", help="Every incident of a campaign instead.")
    ] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Name the cause that sets an abnormal run apart from a normal one; or of incidents.

    With --campaign: score its batches, merge alarms into incidents, and name the cause of each.
    """
    if (normal is None) == (campaign is None):
        raise typer.BadParameter("give two runs, one run, or --campaign")
    if campaign is not None:
        _diagnose_campaign(options.home_of(home, campaign), campaign, as_json=as_json)
        return
    from tasks.deepdive.diagnose_pair import diagnose_run, diagnose_runs
    from tasks.settings import home_path

    chosen, run = home_path(home), str(normal)
    with busy("diagnosing"):
        found = diagnose_runs(chosen, run, abnormal) if abnormal else diagnose_run(chosen, run)
    if as_json:
        print_json(asdict(found))
    else:
        _show_causes(asdict(found))


def _show_causes(found: dict[str, Any]) -> None:
    for warning in found["warnings"]:
        typer.echo(f"warning: {printable(warning)}", err=True)
    for one in found["causes"]:
        on = f" on {printable(one['device'])}" if one["device"] else ""
        sure = f"score {one['score']:.2f}, confidence {one['confidence']:.2f}"
        typer.echo(f"{one['rank']}. {one['cause']}{on} ({sure})")
        for part in one["evidence"]:
            typer.echo(f"   - {printable(part)}")
    typer.echo(f"baseline rules: {', '.join(one['cause'] for one in found['baseline']) or 'not asked'}")
    typer.echo(f"matched cycles: {found['matched_cycles']}")


def _diagnose_campaign(chosen: "Path", campaign: str, *, as_json: bool) -> None:
    from tasks.deepdive.diagnose import diagnose_campaign
    from tasks.sentinel.detect import detect_campaign

    # Incidents first: they must be those of the models that are there now.
    detected = _published(chosen, campaign, "detecting", lambda: detect_campaign(chosen, campaign))
    named = _published(chosen, campaign, "diagnosing", lambda: diagnose_campaign(chosen, campaign))
    if as_json:
        print_json({"detected": asdict(detected), "diagnosed": asdict(named)})
        return
    _show(detected)
    _show(named)


def compare(
    normal: Annotated[
        str,
        typer.Argument(metavar="NORMAL", help="A run_id, or a name that one run has; #baseline: a window."),
    ],
    abnormal: Annotated[
        str | None,
        typer.Argument(metavar="[ABNORMAL]", help="What to compare with it. Without: NORMAL's fault window."),
    ] = None,
    *,
    form: Annotated[
        options.RowsFormat, typer.Option("--format", help="csv and json give every row and column.")
    ] = options.RowsFormat.table,
    home: options.Home = None,
) -> None:
    """Compare two runs, or two windows of one, function by function, the most suspicious first.

    The published statistics of all cycles, then ours of like cycles alone: how much longer a call takes
    (slowdown), which counters moved, and how surely (p corrected for all that was looked at).
    """
    from tasks.deepdive.comparison import compare_runs, listed
    from tasks.settings import home_path

    with busy("comparing"):
        found = compare_runs(home_path(home), normal, abnormal)
    for warning in found.warnings:
        typer.echo(f"warning: {printable(warning)}", err=True)
    rows = listed(found.rows)
    if form is options.RowsFormat.csv:
        print_csv(list(rows.columns), rows.itertuples(index=False, name=None))
    elif form is options.RowsFormat.json:
        print_json(rows.to_dict("records"))
    else:
        highest = rows.sort_values("suspicion_score", ascending=False, kind="stable")[list(SHOWN)]
        print_table(SHOWN, list(highest.head(TOP_ROWS).itertuples(index=False, name=None)))


def _published(home: "Path", campaign: str, what: str, step: Callable[[], Any]) -> Any:  # noqa: ANN401 - the step's own
    from tasks.lake_tables import publish

    with busy(f"{what} {campaign}"):
        result = step()
        publish(home)
    return result


def _show(summary: Any) -> None:  # noqa: ANN401 - any summary, they are all dataclasses
    print_table(("what", "value"), list(asdict(summary).items()))
