"""`lprism campaign compare`: two campaigns against each other."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tasks.cli import options
from tasks.cli.output import busy, print_json, print_table, printable
from tasks.settings import LprismError, home_path

SHOWN = (
    "engine", "workload", "metric", "before_runs", "after_runs", "before_ms", "after_ms", "ratio",
    "ratio_low", "ratio_high", "p_corrected", "verdict",
)  # fmt: skip
VARIES = ("host", "model", "mode", "before_version", "after_version")


def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="The campaign's instance to hold against.")],
    after: Annotated[
        str, typer.Argument(metavar="AFTER", help="The campaign's instance that may be slower.")
    ],
    *,
    least: Annotated[
        float, typer.Option(metavar="PCT", min=0, max=1000, help="A difference below this is none, %.")
    ] = 5.0,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Say what got slower from one campaign to the next, where nothing was injected.

    Runs are compared, not batches: with one run a side nothing can be told. The exit code is 1 when something
    got slower beyond chance, so that a build can stop for it.
    """
    from tasks.campaign_comparison import compared_at, got_slower

    with busy(f"comparing {before} with {after}"):
        comparison = compared_at(home_path(home), before, after, least)
    if as_json:
        print_json(comparison)
    else:
        _print(comparison)
    slower = got_slower(comparison)
    if slower:
        worst = max(slower, key=lambda row: row["ratio"])
        raise LprismError(
            f"{after} is slower than {before} in {len(slower)} of {len(comparison['rows'])} comparisons; "
            f"most: {worst['metric']} of {worst['engine']} at {worst['workload']}, {worst['ratio']:.2f} times"
        )


def _print(comparison: Mapping[str, Any]) -> None:
    rows = comparison["rows"]
    columns = [*(name for name in VARIES if len({row[name] for row in rows}) > 1), *SHOWN]
    print_table(columns, [[_short(row[name]) for name in columns] for row in rows])
    for side in ("before", "after"):
        for place in comparison[f"only_{side}"]:
            typer.echo(printable(f"only in {comparison[side]}: {place}"))
    versions = {(row["engine"], row["before_version"], row["after_version"]) for row in rows}
    for engine, old, new in sorted(versions):
        typer.echo(printable(f"{engine}: {old}" + (f" -> {new}" if new != old else " on both sides")))


def _short(value: object) -> object:
    return float(f"{value:.3g}") if isinstance(value, float) else value
