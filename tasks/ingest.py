"""The steps of the ingest flow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import State, task

from tasks import drop
from tasks.lake_tables import publish
from tasks.progress import Progress, say
from tasks.settings import LprismError
from tasks.traces.bundle import bundles_of, ingest_bundle, ingest_campaign

MOST_NAMED = 5


@task(name="find bundles")
def find_bundles(home: str, campaign: str) -> list[Path]:
    """The campaign's bundle folders, in order of name."""
    return bundles_of(Path(home), campaign)


@task(name="ingest run", task_run_name="ingest {bundle.name}")
def ingest_run(home: str, bundle: Path) -> int:
    """One bundle to the lake; the number of rows it has there."""
    say(Progress("ingest", expected_s=0.5, detail=bundle.name))
    return sum(ingest_bundle(Path(home), bundle).rows.values())


@task(name="ingest campaign record")
def ingest_campaign_record(home: str, campaign: str) -> None:
    """What was planned and what came of it, as one row."""
    ingest_campaign(Path(home), campaign)


@task(name="publish warehouse")
def publish_warehouse(home: str) -> Path:
    """Replace the published file by one made from the lake."""
    say(Progress("publish", expected_s=1.0))
    return publish(Path(home))


@task(name="look into drop folder")
def look_into(home: str, folder: str, still_s: float) -> drop.Looked:
    """What lies there to be read now; what was read before, or is being written, is left."""
    return drop.look(Path(home), Path(folder), still_s)


@task(name="ingest dropped", task_run_name="ingest {name}")
def ingest_dropped(home: str, folder: str, name: str, campaign: str, still_s: float) -> int:
    """One file or folder of the drop folder to the lake; the number of runs that it holds."""
    say(Progress("ingest", expected_s=0.5, detail=name))
    return drop.read(Path(home), Path(folder) / name, campaign, still_s)


def raise_on_unread(what: str, loads: Sequence[State[Any]], odd: Sequence[str] = ()) -> None:
    """Raise LprismError with what the loads said that failed. No task: these take no failed states."""
    failed = [one.result(raise_on_failure=False) for one in loads if not one.is_completed()]
    problems = [*odd, *failed]
    if problems:
        named = [" ".join(str(problem).split()) for problem in problems[:MOST_NAMED]]
        more = [f"and {len(problems) - MOST_NAMED} more"] if len(problems) > MOST_NAMED else []
        raise LprismError(
            f"{what}: {len(problems)} of {len(odd) + len(loads)} could not be read, the others are in the "
            f"warehouse: {'; '.join(named + more)}"
        )
