"""Cells that failed, told as errors: a campaign that has some is not green."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.books import FAILED, folder_of
from tasks.plan import Cell
from tasks.settings import LprismError
from tasks.traces.manifest import MANIFEST

MOST_TEXT = 300


class CellFailed(LprismError):
    """One cell failed; its bundle has the reason."""


class CellsFailed(LprismError):
    """Cells of a campaign failed; the others are whole, and what comes after goes on with them."""


def raise_on_failed(home: Path, campaign: str, cells: Sequence[Cell], statuses: Mapping[str, str]) -> None:
    """Raise CellsFailed when cells failed, with the reason of the first."""
    failed = [cell for cell in cells if statuses.get(cell.run_id) == FAILED]
    if failed:
        first = failed[0]
        raise CellsFailed(
            f"{campaign}: {len(failed)} of {len(cells)} cells failed; the first, {first.run_id} "
            f"({first.scenario} on {first.host}): {reason_of(home, campaign, first.run_id)}"
        )


def reason_of(home: Path, campaign: str, run_id: str) -> str:
    """Why a run failed, as its bundle says, in one line."""
    try:
        said = json.loads((folder_of(home, campaign) / run_id / MANIFEST).read_text())
    except (OSError, ValueError):
        return "it has no bundle"
    return " ".join(str(said.get("reason") or "no reason was noted").split())[:MOST_TEXT]
