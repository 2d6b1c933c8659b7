"""validate: judge what was loaded before anything is learned from it."""

from prefect import flow

from tasks.validate import judge, report_judgement


@flow(name="validate")
def validate(home: str, campaign: str) -> bool:
    """Run every check on a campaign; fails when a check of policy `fail` does. Returns whether all passed."""
    outcome = judge(home, campaign)
    return report_judgement(outcome)
