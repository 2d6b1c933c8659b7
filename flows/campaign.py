"""campaign: run every cell of a spec on its hosts, one bundle each."""

from pathlib import Path

from prefect import flow

from tasks.campaign import check_host, open_books, plan_cells, run_cell
from tasks.session import close_campaign, open_session
from tasks.spec import CampaignSpec


@flow(name="campaign")
def campaign(spec: CampaignSpec, home: str, instance: str) -> list[str]:
    """Run the cells of `spec`, host by host; returns each cell's status, in the order they ran."""
    cells = plan_cells(spec, instance)
    open_books(spec, home, instance, cells)
    statuses = []
    for host in spec.hosts:
        mine = [cell for cell in cells if cell.host == host.name]
        with open_session(spec, host, Path(home), instance) as session:
            check_host(session, mine)
            statuses += [run_cell(session, cell, len(cells)) for cell in mine]
    close_campaign(Path(home), instance)
    return statuses
