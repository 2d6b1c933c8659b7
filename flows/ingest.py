"""ingest: bundles of a campaign to the lake, and the lake to the published warehouse."""

from prefect import flow

from tasks.ingest import find_bundles, ingest_campaign_record, ingest_run, publish_warehouse


@flow(name="ingest")
def ingest(home: str, campaign: str) -> int:
    """Load every bundle of a campaign that is not loaded yet; returns how many runs it has."""
    bundles = find_bundles(home, campaign)
    for bundle in bundles:
        ingest_run(home, bundle)
    ingest_campaign_record(home, campaign)
    publish_warehouse(home)
    return len(bundles)
