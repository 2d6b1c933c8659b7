"""validate: judge what was loaded before anything is learned from it."""

from prefect import flow

from tasks.ingest import publish_warehouse
from tasks.validate import judge, report_judgement, show_judgement


@flow(name="validate")
def validate(home: str, campaign: str) -> bool:
    """Run every check on a campaign; fails when a check of policy `fail` does. Returns whether all passed.

    What was found is published and shown before it can fail, so that it can be asked about.
    """
    outcome = judge(home, campaign)
    publish_warehouse(home)
    show_judgement(outcome)
    return report_judgement(outcome)
