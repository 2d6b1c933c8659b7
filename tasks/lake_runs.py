"""A run of the lake by its run_id, or by a name that one run has."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.lake import SEAL, Held, Load, held, load_of, sealed_in
from tasks.lake_rows import rows_of
from tasks.settings import LprismError
from tasks.staging import checked_name
from tasks.warehouse import create_table, execute, memory_connection, told

if TYPE_CHECKING:
    import duckdb

_RUN_ID = re.compile(r"r[0-9a-f]{10}")


@dataclass(frozen=True)
class RunName:
    """A run: its id, its campaign, its load, and what else the lake has of that."""

    run_id: str
    campaign: str
    load: Load
    holding: Held


def is_run_id(name: str) -> bool:
    """Whether a name is a run_id; a name of a run, or of a host, is none."""
    return _RUN_ID.fullmatch(name) is not None


def campaign_of(home: Path, run: str) -> str:
    """The campaign that has a run, by its run_id or by its name. Raises LprismError."""
    campaign = sealed_in(home, run) if is_run_id(run) else checked_name(run.partition("/")[0])
    if campaign is None:
        raise LprismError(f"there is no run {run} in {home}")
    return campaign


def find_run(home: Path, run: str) -> RunName:
    """The one run that is meant by a run_id, or by a name to the end or up to a slash.

    Raises:
        LprismError: there is none, several have the name, or its files are not all there.
    """
    campaign = campaign_of(home, run)
    holding = held(home, campaign)
    run_id = run if is_run_id(run) else _named_in_lake(home, holding, run)
    load = load_of(home, campaign, run_id)
    if load is None:
        raise LprismError(f"run {run_id} lacks a file in {home / 'lake'}: ingest it again")
    return RunName(run_id, campaign, load, holding)


def _named_in_lake(home: Path, holding: Held, run: str) -> str:
    with memory_connection() as con, told("the lake's runs"):
        if (rows := rows_of(con, home, SEAL, [holding])) is None:
            create_table(con, SEAL)
        else:
            rows.create_view(SEAL)
        return run_named(con, run)


def run_named(con: "duckdb.DuckDBPyConnection", run: str) -> str:
    """The run_id of the one run of `runs` that is meant. Raises LprismError."""
    found = execute(con, "export/runs_named", name=run).fetchall()
    if not found:
        raise LprismError(f"there is no run {run}: v_runs has the run_id of every one")
    if len(found) > 1:
        shown = ", ".join(run_id for run_id, *_ in found[:5])
        raise LprismError(f"{len(found)} runs are called {run}: name one by its run_id ({shown} ...)")
    return str(found[0][0])
