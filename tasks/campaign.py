"""The steps of the campaign flow."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import tell, work
from tasks.books import FAILED
from tasks.failures import CellFailed, reason_of
from tasks.plan import Cell, plan
from tasks.session import HostSession
from tasks.spec import CampaignSpec, Host


@task(name="plan cells")
def plan_cells(spec: CampaignSpec, instance: str) -> list[Cell]:
    """Every cell of the spec, in the order they will run."""
    return plan(spec, instance)


@task(name="serve host", task_run_name="{host.name}", cache_policy=NO_CACHE)
def serve_host(shared: work.Work, host: Host) -> None:
    """One host's cells, one at a time; hosts work side by side."""
    work.work(shared, host, check_host, outcome_of)


@task(name="check host", cache_policy=NO_CACHE)
def check_host(session: HostSession, cells: Sequence[Cell]) -> None:
    """Refuse now what the host cannot do later."""
    session.preflight(cells)


@task(name="run cell", task_run_name="{cell.run_order}: {cell.scenario}", cache_policy=NO_CACHE)
def run_cell(session: HostSession, cell: Cell, cells: int) -> str:
    """Carry out one cell and show what came of it; a cell that failed is a task that did."""
    try:
        status = session.run(cell, cells)
    finally:
        tell.show_run(session.home, session.campaign, cell)
    if status == FAILED:
        raise CellFailed(reason_of(session.home, session.campaign, cell.run_id))
    return status


def outcome_of(session: HostSession, cell: Cell, cells: int) -> str:
    """The status of a cell after its task: a failed cell is no error of its host's."""
    try:
        return run_cell(session, cell, cells)
    except CellFailed:
        return FAILED
