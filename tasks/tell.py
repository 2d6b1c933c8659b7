"""What Prefect's UI is told while a campaign goes on: artifacts and events.

Telling is no part of the work: what the server does not take is logged, and the campaign goes on.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.events import emit_event
from prefect.logging import get_run_logger

from tasks.books import PENDING, folder_of
from tasks.pages import told
from tasks.plan import Cell
from tasks.posting import INCIDENT_DIAGNOSED, INJECTION_FAILED
from tasks.progress import Progress, listening
from tasks.spec import CampaignSpec
from tasks.traces.manifest import MANIFEST
from tasks.warehouse import open_published

EVERY_S = 3.0


def _told(what: Callable[[], object]) -> None:
    """Tell something, or log why not."""
    try:
        what()
    except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises, no campaign ends for it
        get_run_logger().warning("Prefect was not told: %s", error)


def show_plan(spec: CampaignSpec, campaign: str, cells: Sequence[Cell]) -> None:
    """The artifact `campaign-plan` of the flow run."""
    text = told.plan(spec, campaign, cells)
    _told(lambda: create_markdown_artifact(text, key="campaign-plan", description=f"Plan of {campaign}"))


@contextmanager
def showing_progress(campaign: str, cells: Sequence[Cell], statuses: Mapping[str, str]) -> Iterator[None]:
    """Keep the artifacts `campaign-progress` and `campaign-cells` up to date while the block lasts."""
    now: dict[str, str] = {}
    ended = threading.Event()
    made: list[tuple[UUID, UUID]] = []
    _told(lambda: made.append(_begin(campaign, cells, statuses)))
    if not made:
        yield
        return
    teller = threading.Thread(
        target=_keep, args=(made[0], campaign, cells, statuses, now, ended), daemon=True
    )
    teller.start()
    try:
        with listening(lambda said: _note(now, said)):
            yield
    finally:
        ended.set()
        teller.join(20)


def _begin(campaign: str, cells: Sequence[Cell], statuses: Mapping[str, str]) -> tuple[UUID, UUID]:
    text = told.progress(campaign, cells, statuses, {})
    bar = create_progress_artifact(
        _percent(cells, statuses), key="campaign-progress", description=f"Progress of {campaign}"
    )
    listed = create_markdown_artifact(text, key="campaign-cells", description=f"Cells of {campaign}")
    return bar, listed  # type: ignore[return-value]  # coroutines only when awaited


def _note(now: dict[str, str], said: Progress) -> None:
    if said.host or said.cell:
        cell = f"cell {said.cell} of {said.cells}: " if said.cell else ""
        now[said.host or "now"] = cell + said.phase


def _keep(
    made: tuple[UUID, UUID],
    campaign: str,
    cells: Sequence[Cell],
    statuses: Mapping[str, str],
    now: dict[str, str],
    ended: threading.Event,
) -> None:
    """Write what is new every few seconds, and once more in the end. A thread of its own."""
    last, over = None, False
    while not over:
        over = ended.wait(EVERY_S)
        doing = {} if over else dict(now)
        state = (dict(statuses), doing)
        if state != last:
            try:
                _update(made, _percent(cells, statuses), told.progress(campaign, cells, *state))
                last = state
            except Exception:  # noqa: BLE001, S112 - the server may be back in a moment; the work goes on
                continue


def _update(made: tuple[UUID, UUID], percent: float, text: str) -> None:
    update_progress_artifact(made[0], percent)
    with get_client(sync_client=True) as client:
        client.update_artifact(made[1], ArtifactUpdate(data=text))


def _percent(cells: Sequence[Cell], statuses: Mapping[str, str]) -> float:
    pending = sum(status == PENDING for status in dict(statuses).values())
    return 100.0 * (len(cells) - pending) / max(len(cells), 1)


def show_run(home: Path, campaign: str, cell: Cell) -> None:
    """The artifact of one run, and an event where its fault was not proved or not undone."""
    path = folder_of(home, campaign) / cell.run_id / MANIFEST
    if not path.is_file():
        return  # the link was lost under it: it has no bundle, and is run again
    manifest = json.loads(path.read_text())
    text, about = told.run(manifest), f"{cell.scenario}, {cell.workload}, {cell.host}"
    _told(lambda: create_markdown_artifact(text, key=f"run-{cell.run_id}", description=about))
    effect = manifest.get("effect") or {}
    if cell.anomaly and not (effect.get("proved") and effect.get("undone")):
        reason = str(manifest.get("reason") or "its effect was not proved")
        _told(lambda: _injection_failed(campaign, cell, reason, effect))


def _injection_failed(campaign: str, cell: Cell, reason: str, effect: Mapping[str, Any]) -> None:
    emit_event(
        INJECTION_FAILED,
        resource={
            "prefect.resource.id": f"latencyprism.run.{cell.run_id}",
            "prefect.resource.name": cell.scenario,
        },
        payload={
            "campaign": campaign,
            "host": cell.host,
            "scenario": cell.scenario,
            "reason": reason[:1000],
            "proved": bool(effect.get("proved")),
            "undone": bool(effect.get("undone")),
        },
    )


def show_verdicts(home: str, campaign: str) -> None:
    """The artifact `injected-vs-diagnosed`, where everything lies, and an event a run with incidents."""
    with open_published(Path(home)) as con:
        found = con.table("v_injected_vs_diagnosed").order("run_order").to_arrow_table().to_pylist()
    rows = [row for row in found if row["campaign"] == campaign]
    text = told.verdicts(campaign, rows) + "\n" + told.links(home, campaign)
    about = f"Injected vs diagnosed: {campaign}"
    _told(lambda: create_markdown_artifact(text, key="injected-vs-diagnosed", description=about))
    for row in rows:
        if row["incidents"]:
            _told(lambda row=row: _incident(campaign, row))  # type: ignore[misc]  # bound now


def _incident(campaign: str, row: Mapping[str, Any]) -> None:
    emit_event(
        INCIDENT_DIAGNOSED,
        resource={
            "prefect.resource.id": f"latencyprism.run.{row['run_id']}",
            "prefect.resource.name": row["run_id"],
        },
        payload={
            "campaign": campaign,
            "host": row["host"],
            "scenario": row["scenario"],
            "cause": row["named_cause"],
            "incidents": row["incidents"],
            "slo_violated": row["slo_violated"],
            "evidence": row["evidence"],
        },
    )
