"""The steps of the validate flow."""

from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact

from tasks.progress import Progress, say
from tasks.quality.report import markdown
from tasks.quality.suites import ValidationOutcome, raise_on_failure, validate


@task(name="judge")
def judge(home: str, campaign: str) -> ValidationOutcome:
    """Every check on every run, judged by Great Expectations."""
    say(Progress("validate", expected_s=8.0))
    return validate(Path(home), campaign)


@task(name="show judgement")
def show_judgement(outcome: ValidationOutcome) -> None:
    """The table of checks as an artifact of the flow run."""
    create_markdown_artifact(
        markdown(outcome), key="validation", description=f"Checks on campaign {outcome.campaign}"
    )


@task(name="report judgement")
def report_judgement(outcome: ValidationOutcome) -> bool:
    """Fail the flow on a failed check of policy `fail`; else whether all passed."""
    raise_on_failure(outcome)
    return outcome.success
