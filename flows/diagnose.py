"""diagnose: score every batch, merge alarms into incidents, name each incident's cause."""

from prefect import flow

from tasks.diagnose import detect_incidents, name_causes, publish_results


@flow(name="diagnose")
def diagnose(home: str, campaign: str) -> None:
    """Detect and diagnose over all runs of a campaign, and publish what was found."""
    detect_incidents(home, campaign)
    name_causes(home, campaign)
    publish_results(home)
