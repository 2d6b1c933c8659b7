"""Steps of `publish`: a finished campaign's runs go into one file a table; what is superseded goes away.

No load waits for either. A compaction writes new files and then replaces the campaign's manifest; killed
before that, it has left files that nobody sees. Whatever is loaded meanwhile has a larger version than the
manifest says, and stands above it. `events` stay in a folder a run.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.files import sha256_of
from tasks.lake import (
    EVENTS,
    SEAL,
    SEALED,
    Compacted,
    Held,
    LakeFile,
    Load,
    campaigns_of,
    described,
    held,
    manifest_path,
)
from tasks.lake_rows import rows_of, superseded
from tasks.settings import LprismError
from tasks.staging import put, staging
from tasks.warehouse import create_table, execute, memory_connection, told

if TYPE_CHECKING:
    import duckdb

SECOND_NS = 1_000_000_000
KEPT_NS = 86_400 * SECOND_NS  # a shell that opened an earlier published file reads superseded files on
QUIET_NS = (
    3_600 * SECOND_NS
)  # foreign files belong to no campaign that would be closed: their last load decides
FOREIGN_AT_LEAST = 10  # loose runs, so that a file dropped in a day does not rewrite all of last year's
SWEPT = "superseded.json"


def compact_what_is_due(home: Path) -> None:
    """Compact every campaign that is closed, and foreign files of which none was added for an hour.

    Raises:
        LprismError: a file to be compacted is not what was put there.
    """
    holdings = [held(home, campaign) for campaign in campaigns_of(home)]
    with memory_connection() as con, told("the lake's campaigns"):
        if (rows := rows_of(con, home, "campaigns", holdings)) is None:
            create_table(con, "campaigns")
        else:
            rows.create_view("campaigns")
        closed: dict[str, bool] = dict(execute(con, "publish/campaign_states").fetchall())
    for holding in holdings:
        if _is_due(holding, closed.get(holding.campaign), time.time_ns()):
            compact(home, holding.campaign)


def _is_due(holding: Held, closed: bool | None, now_ns: int) -> bool:  # noqa: FBT001  None: nobody's campaign
    loose = _run_loads(holding)
    if closed is None:
        quiet = all(now_ns - load.sealed_ns > QUIET_NS for load in loose)
        return quiet and len(loose) >= FOREIGN_AT_LEAST
    known = len(holding.compacted.runs) if holding.compacted else 0
    return closed and bool(loose) and known + len(loose) > 1


def _run_loads(holding: Held) -> list[Load]:
    return [load for load in holding.loads if load.table == SEAL]


def compact(home: Path, campaign: str) -> None:
    """Put the rows of all the campaign's runs, as they are sealed now, into one file a table.

    Raises:
        LprismError: a file is not what was put there, or the disk is full; the campaign stays as it was.
    """
    with staging(home / "lake", f"compact.{campaign}") as folder:
        holding = held(home, campaign)
        holding = holding.model_copy(update={"loads": tuple(_run_loads(holding))})
        for load in holding.loads:
            _check_files(home, load)
        made = _made(home, holding, folder)
        draft = folder / "manifest.json"
        draft.write_text(made.model_dump_json(), encoding="utf-8")
        for file in made.files.values():
            put(folder / Path(file.path).name, home / "lake" / file.path)
        put(draft, manifest_path(home, campaign))


def _made(home: Path, holding: Held, folder: Path) -> Compacted:
    """The manifest of the campaign's next generation; its files are drafts in `folder` by their last name."""
    runs, rows = _runs_and_rows(holding)
    generation = _next_generation(home, holding)
    files = {}
    with memory_connection(folder / "spill", memory="1GB") as con, told(f"campaign {holding.campaign}"):
        for table in (SEAL, *(name for name in SEALED if name != EVENTS)):
            expected = sum(counts.get(table, 0) for counts in rows.values())
            if (found := rows_of(con, home, table, [holding])) is None:
                continue
            place = _place(holding.campaign, table, generation)
            files[table] = _written(con, table, found, folder / Path(place).name, place)
            if files[table].rows != expected:
                raise LprismError(
                    f"{holding.campaign}: {files[table].rows} rows in {table} where its seals say {expected}"
                )
    return Compacted(generation=generation, files=files, runs=runs, rows=rows)


def _written(
    con: "duckdb.DuckDBPyConnection", table: str, rows: "duckdb.DuckDBPyRelation", draft: Path, place: str
) -> LakeFile:
    # Runs keep the order of their files and stay together: no sort, and statistics that tell them apart.
    rows.create_view("outgoing", replace=True)
    with told(f"{table} could not be written"):
        names = {"table_name": table, "campaign": place.split("/")[1], "part": "compacted", "source": ""}
        execute(con, "publish/lake_part", path=str(draft), **names)
    return described(con, table, draft, place)


def _runs_and_rows(holding: Held) -> tuple[dict[str, Load], dict[str, dict[str, int]]]:
    """Each run's load with the files that stay its own, and its rows in the common ones, by table."""
    runs, rows = {}, {}
    if holding.compacted:
        hidden = set(superseded(holding))
        runs = {run: load for run, load in holding.compacted.runs.items() if run not in hidden}
        rows = {run: holding.compacted.rows[run] for run in runs}
    for load in holding.loads:
        own = {table: files for table, files in load.files.items() if table == EVENTS}
        runs[load.part] = load.model_copy(update={"files": own})
        rows[load.part] = {
            table: sum(file.rows for file in files) for table, files in load.files.items() if table not in own
        }
    return runs, rows


def _next_generation(home: Path, holding: Held) -> int:
    """Above the manifest's, and above what a killed compaction may have left behind."""
    generation = 1 + (holding.compacted.generation if holding.compacted else 0)
    while any(
        (home / "lake" / _place(holding.campaign, table, generation)).exists() for table in (SEAL, *SEALED)
    ):
        generation += 1
    return generation


def _place(campaign: str, table: str, generation: int) -> str:
    return f"compacted/{campaign}/{table}.{generation}.parquet"


def _check_files(home: Path, load: Load) -> None:
    """A damaged file must not be copied into a new one with a good digest."""
    for file in (file for files in load.files.values() for file in files):
        if digest_of(home / "lake" / file.path) != file.sha256:
            raise LprismError(
                f"{home / 'lake' / file.path} has changed since it was put there: remove it and ingest "
                f"{load.part} again"
            )


def digest_of(path: Path) -> str | None:
    """The sha256 of a file; None where there is none."""
    try:
        return sha256_of(path)
    except FileNotFoundError:
        return None


# ---- clearing away


def sweep(home: Path, now_ns: int | None = None) -> None:
    """Remove what has been unused for a day: superseded files, and what killed loads left behind."""
    lake, now = home / "lake", now_ns or time.time_ns()
    if not lake.is_dir():
        return
    # Files first: one that is sealed between the two is used.
    unused = set(files_there(lake)) - used(home)
    known = read_swept(lake)
    since = {path: known.get(path, now) for path in unused}
    for path in [path for path, first in since.items() if now - first > KEPT_NS]:
        (lake / path).unlink(missing_ok=True)
        del since[path]
    with staging(lake, "sweep") as folder:
        (folder / SWEPT).write_text(json.dumps(since), encoding="utf-8")
        put(folder / SWEPT, lake / SWEPT)


def read_swept(lake: Path) -> Mapping[str, int]:
    """Files that a sweep found unused, and when it first did, ns since 1970."""
    try:
        known: Mapping[str, int] = json.loads((lake / SWEPT).read_bytes())
    except (OSError, ValueError):
        return {}
    return known


def files_there(lake: Path) -> Iterator[str]:
    """Every file of the lake but those that are being made, by its path from there."""
    for folder, folders, names in os.walk(lake):
        if Path(folder) == lake:
            folders[:] = [name for name in folders if name != ".staging"]
            names = [name for name in names if name != SWEPT]  # noqa: PLW2901  the sweep's own note
        inside = os.path.relpath(folder, lake)
        yield from (name if inside == "." else f"{inside}/{name}" for name in names)


def used(home: Path) -> set[str]:
    """Every file that readers of the lake need now, by its path from there."""
    return {path for campaign in campaigns_of(home) for path in used_by(held(home, campaign))}


def used_by(holding: Held) -> Iterator[str]:
    """The files of a campaign, its seals and its manifest, by their paths from the lake."""
    yield from (file.path for file in files_of(holding))
    for load in holding.loads:
        yield f"seals/{holding.campaign}/{load.table}.{load.part}.{load.version}.json"
    if holding.compacted:
        yield f"compacted/{holding.campaign}.json"


def files_of(holding: Held) -> Iterator[LakeFile]:
    """The files of a campaign, common ones and each load's own, superseded ones left out."""
    loads: Sequence[Load] = holding.loads
    if holding.compacted:
        hidden = set(superseded(holding))
        yield from holding.compacted.files.values()
        loads = [*loads, *(load for run, load in holding.compacted.runs.items() if run not in hidden)]
    for load in loads:
        for files in load.files.values():
            yield from files
