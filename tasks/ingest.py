"""The steps of the ingest flow."""

from pathlib import Path

from prefect import task

from tasks.lake_tables import publish
from tasks.progress import Progress, say
from tasks.traces.bundle import bundles_of, ingest_bundle, ingest_campaign


@task(name="find bundles")
def find_bundles(home: str, campaign: str) -> list[Path]:
    """The campaign's bundle folders, in order of name."""
    return bundles_of(Path(home), campaign)


@task(name="ingest run", task_run_name="ingest {bundle.name}")
def ingest_run(home: str, bundle: Path) -> int:
    """One bundle to the lake; the number of rows it has there."""
    say(Progress("ingest", expected_s=0.5, detail=bundle.name))
    return sum(ingest_bundle(Path(home), bundle).rows.values())


@task(name="ingest campaign record")
def ingest_campaign_record(home: str, campaign: str) -> None:
    """What was planned and what came of it, as one row."""
    ingest_campaign(Path(home), campaign)


@task(name="publish warehouse")
def publish_warehouse(home: str) -> Path:
    """Replace the published file by one made from the lake."""
    say(Progress("publish", expected_s=1.0))
    return publish(Path(home))
