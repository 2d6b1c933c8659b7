"""`lprism ingest`: recordings into the lake."""

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.cli import options
from tasks.cli.output import busy, print_json, printable
from tasks.settings import LprismError, home_path

if TYPE_CHECKING:
    from tasks.traces.registry import Found


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ingest", epilog="Example: lprism ingest traces/ run7.pt.trace.json.gz --campaign tuesday")(
        ingest
    )


def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Files, folders and patterns; what they are is found out."),
    ],
    *,
    campaign: Annotated[
        str,
        typer.Option(metavar="NAME", help="Campaign of what none of ours recorded.", show_default="ingested"),
    ] = "",
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Read traces, logs, tables and bundles into the lake and publish the warehouse; what is there stays.

    One that cannot be read is named on standard error, and the rest goes on (exit code 1 at the end).
    """
    from tasks.lake_tables import publish

    chosen = home_path(home)
    found = _found(paths)
    told = []
    for number, one in enumerate(found, start=1):
        place = f"{number} of {len(found)}"
        told.append(_loaded(chosen, one, campaign, place=place, named=one.path in paths))
        if not as_json and (line := _line(told[-1])):
            typer.echo(line)
    _campaigns(chosen, found)
    with busy("publishing"):
        publish(chosen)
    _close(told, as_json=as_json)


def _close(told: list[dict[str, Any]], *, as_json: bool) -> None:
    """Say in the end how many there were of each kind. Raises LprismError when one failed."""
    counts = Counter(one["outcome"] for one in told)
    if as_json:
        print_json(told)
    else:
        typer.echo(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "nothing to read")
    if counts["failed"]:
        raise LprismError(
            f"{counts['failed']} of {len(told)} could not be read; the others are in the warehouse"
        )


def _found(paths: list[Path]) -> "list[Found]":
    from tasks.traces.registry import Found, find

    nothing = "holds nothing that is read here"
    with busy("looking for recordings"):
        places = [place for path in paths for place in _expanded(path)]
        return [found for place in places for found in list(find(place)) or [Found(place, problem=nothing)]]


def _expanded(path: Path) -> list[Path]:
    """The paths that a pattern stands for, if the shell has not expanded it."""
    if path.exists() or path.is_symlink() or not set("*?[") & set(str(path)):
        return [path]
    root, pattern = Path(path.anchor), str(path.relative_to(path.anchor))
    return sorted(root.glob(pattern)) or [path]


def _loaded(home: Path, found: "Found", campaign: str, *, place: str, named: bool) -> dict[str, object]:
    """What came of a run that was found; `named` says that the user named this very path."""
    from tasks.traces.registry import UNKNOWN, ingest

    told: dict[str, object] = {"path": str(found.path)}
    if found.problem == UNKNOWN and not named:
        return {**told, "outcome": "passed over", "reason": UNKNOWN}
    began = time.monotonic()
    try:
        with busy(f"{place} {found.path.name}"):
            summary = ingest(home, found, campaign)
    except LprismError as error:
        reason = str(error).removeprefix(f"{found.path}: ")
        typer.echo(f"lprism: {printable(str(found.path))}: {printable(reason)}", err=True)
        return {**told, "outcome": "failed", "reason": reason}
    return {
        **told, "outcome": "already there" if summary.skipped else "loaded", "run_id": summary.run_id,
        "run_name": summary.run_name, "rows": summary.rows, "quarantined": summary.quarantined,
        "seconds": round(time.monotonic() - began, 3),
    }  # fmt: skip


def _line(told: dict[str, Any]) -> str | None:
    """One line about a run; what failed has been told already."""
    if "run_id" not in told:
        return None
    counted = {
        table: rows for table, rows in told["rows"].items() if table not in {"runs", "files", "quarantine"}
    }
    rows = ", ".join(f"{rows:,} {table}" for table, rows in counted.items()) or "no rows"
    left = f", {told['quarantined']:,} quarantined" if told["quarantined"] else ""
    what = (
        "already there" if told["outcome"] == "already there" else f"{rows}{left} ({told['seconds']:.1f} s)"
    )
    return printable(f"{told['run_id']} {told['run_name']}: {what}")


def _campaigns(home: Path, found: "list[Found]") -> None:
    """Load the campaign records beside the bundles that lie in the home."""
    from tasks.traces.bundle import ingest_campaign

    folders = {one.path.resolve().parent for one in found if one.source and one.source.run_id}
    for folder in sorted(folders):
        if folder.parent == home.resolve() / "bundles" and (folder / "campaign.json").is_file():
            ingest_campaign(home, folder.name)
