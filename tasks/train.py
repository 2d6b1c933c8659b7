"""The steps of the train flow."""

from pathlib import Path

from prefect import task

from tasks.progress import Progress, say
from tasks.sentinel.registry import TrainSummary, train_campaign


@task(name="train models")
def train_models(home: str, campaign: str, seed: int) -> TrainSummary:
    """Champion and leave-one-run-out models, each with its limit."""
    say(Progress("train", expected_s=10.0))
    return train_campaign(Path(home), campaign, seed)
