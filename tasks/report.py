"""The steps of the report flow."""

from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact

from tasks.pages.report import write_report
from tasks.pages.told import plain
from tasks.progress import Progress, say


@task(name="write page")
def write_page(home: str, campaign: str) -> Path:
    """The campaign as one HTML file in the home."""
    say(Progress("report", expected_s=5.0))
    return write_report(Path(home), campaign)


@task(name="show page")
def show_page(path: Path, campaign: str) -> None:
    """Where the report lies, as an artifact."""
    text = f"The report of {plain(campaign)}: {plain(path, 4000)}\n"
    create_markdown_artifact(text, key="report", description=f"Report of {campaign}")
