"""report: a campaign as one HTML file that opens offline."""

from prefect import flow

from tasks.report import show_page, write_page
from tasks.settings import home_path


@flow(name="report")
def report(campaign: str, home: str | None = None) -> str:
    """Write what the warehouse has of a campaign into the home's reports; returns the file's path."""
    path = write_page(str(home_path(home)), campaign)
    show_page(path, campaign)
    return str(path)
