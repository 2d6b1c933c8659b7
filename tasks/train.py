"""The steps of the train and retrain flows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import State, task
from prefect.artifacts import create_markdown_artifact

from tasks.pages import told
from tasks.progress import Progress, say
from tasks.sentinel.registry import TrainSummary, train_campaign
from tasks.sentinel.retrain import Change, retrain, training_campaigns
from tasks.settings import LprismError


@task(name="train models")
def train_models(home: str, campaign: str, seed: int) -> TrainSummary:
    """Champion and leave-one-run-out models, each with its limit."""
    say(Progress("train", expected_s=10.0))
    return train_campaign(Path(home), campaign, seed)


@task(name="find campaigns")
def find_campaigns(home: str, weeks: int) -> list[str]:
    """Campaigns with batches of the last so many weeks (0: all), the earliest first."""
    return training_campaigns(Path(home), weeks)


@task(name="retrain models", task_run_name="retrain {campaign}")
def retrain_models(home: str, campaign: str, seed: int) -> list[Change]:
    """Train a campaign again, and keep the old models where the new judged worse."""
    say(Progress("train", expected_s=10.0, detail=campaign))
    return retrain(Path(home), campaign, seed)


@task(name="show champions")
def show_champions(changes: Sequence[Change]) -> None:
    """The artifact `champions`: what became of each."""
    create_markdown_artifact(told.champions(changes), key="champions", description="Champions, trained again")


def changes_of(trained: Sequence[State[list[Change]]]) -> list[Change]:
    """What changed in the campaigns that could be trained. No task: these take no failed states."""
    return [change for one in trained if one.is_completed() for change in one.result()]


def raise_on_untrained(trained: Sequence[State[Any]]) -> None:
    """Raise LprismError with what the trainings said that failed."""
    problems = [one.result(raise_on_failure=False) for one in trained if not one.is_completed()]
    if problems:
        named = "; ".join(" ".join(str(problem).split()) for problem in problems)
        raise LprismError(
            f"{len(problems)} of {len(trained)} campaigns had models and could not be trained again; the old "
            f"ones stay: {named}"
        )
