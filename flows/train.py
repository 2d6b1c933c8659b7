"""train: latency models and control limits from a campaign's normal runs."""

from prefect import flow

from tasks.train import train_models


@flow(name="train")
def train(home: str, campaign: str, seed: int) -> None:
    """Fit the champion and the leave-one-run-out models of a campaign, with their limits."""
    train_models(home, campaign, seed)
