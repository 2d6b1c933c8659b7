"""campaign: run every cell of a spec on its hosts, one bundle each."""

from pathlib import Path

from prefect import flow
from prefect.futures import wait

from tasks.campaign import plan_cells, serve_host
from tasks.failures import raise_on_failed
from tasks.spec import CampaignSpec
from tasks.tell import show_plan, showing_progress
from tasks.work import campaign_at_work, keep_off_engine_cpus


@flow(name="campaign")
def campaign(spec: CampaignSpec, home: str, instance: str, resume: str = "") -> list[str]:
    """Run the cells of `spec`, its hosts side by side; returns the status of each cell that was left to run.

    It fails in the end when a cell did: the bundles of all are there, and the error is CellsFailed.
    `resume` goes on with an instance that has begun: `pending`, or `failed` to run failed cells again too.
    """
    keep_off_engine_cpus(spec)
    cells = plan_cells(spec, instance)
    show_plan(spec, instance, cells)
    with campaign_at_work(spec, Path(home), instance, cells, resume) as shared:
        statuses = shared.board.statuses
        with showing_progress(instance, cells, statuses):
            wait([serve_host.submit(shared, host) for host in spec.hosts])
    raise_on_failed(Path(home), instance, cells, statuses)
    return list(statuses.values())
