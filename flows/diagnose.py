"""diagnose: score batches, merge alarms into incidents, divide traces and compare them, name each cause."""

from prefect import flow

from tasks.diagnose import (
    compare_windows,
    detect_incidents,
    divide_traces,
    name_causes,
    publish_results,
    show_verdicts,
)


@flow(name="diagnose")
def diagnose(home: str, campaign: str) -> None:
    """Detect and diagnose over all runs of a campaign, and publish what was found."""
    detect_incidents(home, campaign)
    divide_traces(home, campaign)
    compare_windows(home, campaign)
    name_causes(home, campaign)
    publish_results(home)
    show_verdicts(home, campaign)
