"""The steps of the campaign flow."""

from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.plan import Cell, plan
from tasks.session import HostSession, open_campaign
from tasks.spec import CampaignSpec


@task(name="plan cells")
def plan_cells(spec: CampaignSpec, instance: str) -> list[Cell]:
    """Every cell of the spec, in the order they will run."""
    return plan(spec, instance)


@task(name="open books")
def open_books(spec: CampaignSpec, home: str, campaign: str, cells: Sequence[Cell]) -> None:
    """Write down what is planned before anything is done."""
    open_campaign(spec, Path(home), campaign, cells)


@task(name="check host", cache_policy=NO_CACHE)
def check_host(session: HostSession, cells: Sequence[Cell]) -> None:
    """Refuse now what the host cannot do later."""
    session.preflight(cells)


@task(name="run cell", task_run_name="{cell.run_order}: {cell.scenario}", cache_policy=NO_CACHE)
def run_cell(session: HostSession, cell: Cell, cells: int) -> str:
    """Carry out one cell; `complete` or `failed`."""
    return session.run(cell, cells)
