"""`lprism ingest`: recordings into the lake."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tasks.cli import options
from tasks.cli.output import printable
from tasks.settings import LprismError, home_path


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ingest", epilog="Example: lprism ingest lprism-home/bundles/demo-20261123T014500")(ingest)


def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Bundles, or folders of bundles.")],
    *,
    home: options.Home = None,
) -> None:
    """Read recordings into the lake and publish the warehouse; what is there already is skipped.

    One that cannot be read is named on standard error, and the rest goes on (exit code 1 at the end).
    """
    from tasks.lake_tables import publish
    from tasks.traces.bundle import ingest_campaign

    chosen = home_path(home)
    bundles = [bundle for path in paths for bundle in _bundles(path.resolve())]
    failed = [bundle for bundle in bundles if not _told(chosen, bundle)]
    for campaign in sorted({bundle.parent for bundle in bundles}):
        if campaign.parent == chosen.resolve() / "bundles" and (campaign / "campaign.json").is_file():
            ingest_campaign(chosen, campaign.name)
    publish(chosen)
    if failed:
        raise LprismError(
            f"{len(failed)} of {len(bundles)} could not be read; the others are in the warehouse"
        )


def _bundles(path: Path) -> Iterator[Path]:
    """Find the bundles at a path: itself, or those one or two folders below it (a campaign's, or all)."""
    below = sorted(found.parent for depth in ("*", "*/*") for found in path.glob(f"{depth}/manifest.json"))
    yield from below if below and not (path / "manifest.json").exists() else [path]


def _told(home: Path, bundle: Path) -> bool:
    try:
        typer.echo(printable(_ingest(home, bundle)))
    except LprismError as error:
        typer.echo(f"lprism: {printable(str(bundle))}: {printable(str(error))}", err=True)
        return False
    return True


def _ingest(home: Path, bundle: Path) -> str:
    from tasks.traces.bundle import ingest_bundle, sniff

    if not bundle.exists():
        raise LprismError("is not there")
    if not sniff(bundle):
        raise LprismError("is no bundle of ours, and no other format is read yet")
    summary = ingest_bundle(home, bundle)
    rows = "already there" if summary.skipped else f"{sum(summary.rows.values())} rows"
    return f"{summary.run_id}: {rows}, {summary.quarantined} quarantined"
