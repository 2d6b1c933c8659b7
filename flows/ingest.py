"""ingest: bundles of a campaign to the lake, and the lake to the published warehouse."""

from prefect import flow

from tasks.ingest import (
    find_bundles,
    ingest_campaign_record,
    ingest_run,
    publish_warehouse,
    raise_on_unread,
)


@flow(name="ingest")
def ingest(home: str, campaign: str) -> int:
    """Load every bundle of a campaign that is not loaded yet; returns how many runs it has.

    One that cannot be read does not stop the others; what can be read is published, and then the flow fails.
    """
    bundles = find_bundles(home, campaign)
    loads = [ingest_run(home, bundle, return_state=True) for bundle in bundles]
    record = ingest_campaign_record(home, campaign, return_state=True)
    publish_warehouse(home)
    raise_on_unread(f"campaign {campaign}", [*loads, record])
    return len(bundles)
