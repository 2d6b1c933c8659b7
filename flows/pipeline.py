"""pipeline: campaign -> ingest -> validate -> train -> diagnose -> report, the main job."""

from pathlib import Path

from prefect import flow
from prefect.logging.handlers import APILogHandler

from flows.campaign import campaign
from flows.diagnose import diagnose
from flows.ingest import ingest
from flows.report import report
from flows.train import train
from flows.validate import validate
from tasks.board import CampaignIncomplete
from tasks.books import new_instance
from tasks.failures import CellsFailed
from tasks.settings import LprismError, home_path
from tasks.spec import CampaignSpec


@flow(name="pipeline")
def pipeline(
    spec: CampaignSpec, home: str | None = None, instance: str | None = None, resume: str = ""
) -> str:
    """Run a campaign and turn it into named causes; returns the campaign instance's name.

    Cells that no host could run and bundles that cannot be read are left out, and in the end it fails for
    them: no night is lost for a host or a file. `resume` is as in the campaign flow.
    """
    left: LprismError | None = None
    folder = str(home_path(home))
    name = instance or new_instance(spec.name)
    try:
        campaign(spec, folder, name, resume)
    except CampaignIncomplete as error:
        if not error.complete:
            raise
        left = error
    except CellsFailed as error:
        left = error
    loaded = ingest(folder, name, return_state=True)
    try:
        validate(folder, name)
        train(folder, name, spec.seed)
        diagnose(folder, name)
        report(name, folder)
    except LprismError as error:
        if left:  # what it could not analyse is what it could not run
            raise LprismError(f"{left}\n{error}") from error
        raise
    finally:
        loaded.result()
    if left:
        raise left
    return name


def run_here(spec: CampaignSpec, home: Path, instance: str, resume: str = "") -> None:
    """Run the pipeline in this process, and hand every log to the Prefect server before that may stop."""
    try:
        pipeline(spec, home=str(home), instance=instance, resume=resume)
    finally:
        APILogHandler().flush()
