"""The steps of the diagnose flow."""

from pathlib import Path

from prefect import task
from prefect.logging import get_run_logger

from tasks import tell
from tasks.deepdive.comparison import compare_campaign
from tasks.deepdive.cycles import divide_campaign
from tasks.deepdive.diagnose import DiagnoseSummary, diagnose_campaign
from tasks.lake_tables import publish
from tasks.progress import Progress, say
from tasks.sentinel.detect import DetectSummary, detect_campaign


@task(name="detect incidents")
def detect_incidents(home: str, campaign: str) -> DetectSummary:
    """Score every batch of every run, and merge alarms into incidents."""
    say(Progress("detect", expected_s=3.0))
    found = detect_campaign(Path(home), campaign)
    for said in found.drift:
        get_run_logger().warning("%s", said)
    return found


@task(name="divide traces")
def divide_traces(home: str, campaign: str) -> None:
    """Cycles of deep captures, and what ran in them; a capture that cannot be divided is told and left."""
    say(Progress("cycles", expected_s=3.0))
    _, failed = divide_campaign(Path(home), campaign)
    for run_id, why in failed.items():
        get_run_logger().warning("run %s is not divided into cycles: %s", run_id, why)


@task(name="compare windows")
def compare_windows(home: str, campaign: str) -> None:
    """The fault window of every deep capture against its baseline, like cycle with like."""
    say(Progress("compare", expected_s=2.0))
    for run_id, doubts in compare_campaign(Path(home), campaign).warnings.items():
        get_run_logger().info("comparing the windows of run %s: %s", run_id, "; ".join(doubts))


@task(name="name causes")
def name_causes(home: str, campaign: str) -> DiagnoseSummary:
    """A ranked list of causes for every incident."""
    say(Progress("diagnose", expected_s=3.0))
    return diagnose_campaign(Path(home), campaign)


@task(name="publish results")
def publish_results(home: str) -> Path:
    """Replace the published file by one made from the lake."""
    say(Progress("publish", expected_s=1.0))
    return publish(Path(home))


@task(name="show verdicts")
def show_verdicts(home: str, campaign: str) -> None:
    """Injected beside diagnosed as an artifact, and an event for each run with incidents."""
    tell.show_verdicts(home, campaign)
