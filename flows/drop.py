"""drop: whatever was put into the drop folder since the last look to the lake, and the lake published."""

from prefect import flow

from tasks.drop import STILL_S, drop_folder
from tasks.ingest import ingest_dropped, look_into, publish_warehouse, raise_on_unread
from tasks.settings import home_path


@flow(name="drop")
def drop(
    home: str | None = None, folder: str | None = None, campaign: str = "", still_s: float = STILL_S
) -> int:
    """Load each file or folder that stands still in the drop folder; returns how many runs there were.

    What is read stays where it lies, and is read once. What cannot be read is named once: the flow fails for
    it when the others are published, and not again. `still_s` is how long nothing may have changed.
    """
    place = str(home_path(home))
    where = str(drop_folder(place, folder))
    looked = look_into(place, where, still_s)
    loads = [
        ingest_dropped(place, where, name, campaign, still_s, return_state=True) for name in looked.ready
    ]
    if loads:
        publish_warehouse(place)
    raise_on_unread(f"drop folder {where}", loads, looked.odd)
    return sum(load.result() for load in loads)
