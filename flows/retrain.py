"""retrain: the latency models of all campaigns again, the better champion of each configuration kept."""

from prefect import flow

from tasks.ingest import publish_warehouse
from tasks.settings import home_path
from tasks.train import changes_of, find_campaigns, raise_on_untrained, retrain_models, show_champions


@flow(name="retrain")
def retrain(home: str | None = None, weeks: int = 0, seed: int = 7) -> list[str]:
    """Train every campaign with batches of the last `weeks` (0: all) again; returns the campaigns.

    No model gives way to one that judged worse on sessions left out. A campaign without models that has too
    few normal runs is passed over; one whose models cannot be trained again keeps them, and the flow fails.
    """
    place = str(home_path(home))
    campaigns = find_campaigns(place, weeks)
    trained = [retrain_models(place, campaign, seed, return_state=True) for campaign in campaigns]
    publish_warehouse(place)
    show_champions(changes_of(trained))
    raise_on_untrained(trained)
    return campaigns
