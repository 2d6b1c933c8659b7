"""The lake: what every table holds, as Parquet files that belong to sealed loads.

A load is a run with all of its tables, or a part of one table. Its files have names of their own,

    <home>/lake/<table>/<campaign>/<part>.<n>.parquet
    <home>/lake/events/<campaign>/run_id=<run>/<n>-<k>.parquet     a question about one run opens no other's

and it is seen from the moment that its seal is there, lake/seals/<campaign>/<table>.<part>.<n>.json, which
lists them with their rows and digests. n counts the times that it was loaded: the largest is what readers
see, so a load takes the place of the one before in one step. Nothing is ever overwritten: who has begun to
read the files of before reads on, and `publish` clears them away a day later. Compacted runs stand in
lake/compacted/<campaign>.json.
"""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.files import sha256_of
from tasks.settings import LprismError
from tasks.staging import checked_name, put, staging
from tasks.warehouse import (
    columns_of,
    create_table,
    execute,
    insert_by_name,
    memory_connection,
    sql_names,
    told,
)

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

SEAL = "runs"  # the table in which every run has its one row; a run's seal is named for it
EVENTS = "events"
_LOADED = (
    "batches", "counters", "files", "quarantine", "requests", "function_usage", "published_comparison",
    "published_curves", "devices", "hosts", "engine_metrics", "captures", "scheduler_slices", "phases",
    EVENTS,
)  # fmt: skip
# What a load of a run can fill beside `runs`, as far as sql/tables has it.
SEALED = tuple(table for table in _LOADED if table in sql_names("tables"))
_PLACE = r"^[a-z_]+(/(run_id=)?[A-Za-z0-9][A-Za-z0-9_.-]*){2,3}$"


Kind = TypeVar("Kind", bound=BaseModel)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LakeFile(_Record):
    """A file of the lake: its path from there, its rows, its size and digest, its columns in short."""

    path: Annotated[str, Field(pattern=_PLACE)]
    rows: int
    size_bytes: int
    sha256: str
    columns: str


class Load(_Record):
    """What a seal says: which files a load is made of, by table, and what from (`source`)."""

    table: str
    part: str
    version: int
    source: str
    sealed_ns: int
    files: dict[str, tuple[LakeFile, ...]]


class Compacted(_Record):
    """A campaign's manifest: one file a table, and of each run in them its load, with its rows by table."""

    generation: int
    files: dict[str, LakeFile]
    runs: dict[str, Load]
    rows: dict[str, dict[str, int]]


class Held(_Record):
    """What the lake has of a campaign: compacted runs, and the loads beside or above them."""

    campaign: str
    compacted: Compacted | None
    loads: tuple[Load, ...]


def campaigns_of(home: Path) -> list[str]:
    """Every campaign that has something in the lake, sorted."""
    folder = home / "lake"
    sealed = {path.name for path in (folder / "seals").glob("[!.]*")}
    return sorted(sealed | {path.stem for path in (folder / "compacted").glob("[!.]*.json")})


def held(home: Path, campaign: str) -> Held:
    """What the lake has of a campaign now. Raises LprismError for a seal that cannot be read."""
    # Seals first: one that is compacted between the two is then in the manifest, and never in neither.
    seals = newest_seals(home, campaign)
    compacted = compacted_of(home, campaign)
    known = compacted.runs if compacted else {}
    loose = [
        _read(path, Load)
        for (table, part), (version, path) in sorted(seals.items())
        if table != SEAL or part not in known or version > known[part].version
    ]
    return Held(campaign=campaign, compacted=compacted, loads=tuple(loose))


def newest_seals(home: Path, campaign: str) -> dict[tuple[str, str], tuple[int, Path]]:
    """Of every (table, part) of a campaign its largest version, and its seal."""
    newest: dict[tuple[str, str], tuple[int, Path]] = {}
    for path in _listed(home / "lake" / "seals" / checked_name(campaign)):
        table, _, rest = path.name.partition(".")
        part, version, suffix = (*rest.rsplit(".", 2), "", "")[:3]
        if suffix == "json" and version.isdecimal():
            newest[table, part] = max(newest.get((table, part), (0, path)), (int(version), path))
    return newest


def compacted_of(home: Path, campaign: str) -> Compacted | None:
    """The campaign's manifest, None without one. Raises LprismError when it cannot be read."""
    path = manifest_path(home, campaign)
    return _read(path, Compacted) if path.is_file() else None


def manifest_path(home: Path, campaign: str) -> Path:
    """Where the manifest of a campaign lies, if it has been compacted."""
    return home / "lake" / "compacted" / f"{checked_name(campaign)}.json"


def load_of(home: Path, campaign: str, run_id: str) -> Load | None:
    """A run's load as readers see it now, compacted or not; None when it is not there or lacks a file."""
    found = newest_seals(home, campaign).get((SEAL, run_id))
    compacted = compacted_of(home, campaign)
    load = compacted.runs.get(run_id) if compacted else None
    if found and (load is None or found[0] > load.version):
        load = _read(found[1], Load)
    elif load and compacted:
        load = load.model_copy(update={"files": load.files | _in_common(compacted, run_id)})
    paths = [file.path for files in load.files.values() for file in files] if load else []
    return load if all((home / "lake" / path).is_file() for path in paths) else None


def _in_common(compacted: Compacted, run_id: str) -> dict[str, tuple[LakeFile, ...]]:
    """The compacted files that hold rows of a run, with the number of these."""
    rows = compacted.rows[run_id]
    return {table: (compacted.files[table].model_copy(update={"rows": rows[table]}),) for table in rows}


def loaded_source(home: Path, campaign: str, run_id: str) -> str | None:
    """What a run's load was made from, as its seal says; None when it is not in the lake or lacks a file."""
    load = load_of(home, campaign, run_id)
    return load.source if load else None


def sealed_in(home: Path, run_id: str) -> str | None:
    """The campaign that has the run in the lake; None when none has."""
    marks = f"{SEAL}.{checked_name(run_id)}.", f'"{run_id}"'.encode()
    for campaign in campaigns_of(home):
        manifest = manifest_path(home, campaign)
        seals = _listed(home / "lake" / "seals" / campaign)
        if any(seal.name.startswith(marks[0]) for seal in seals) or (
            manifest.is_file() and marks[1] in manifest.read_bytes()
        ):
            return campaign
    return None


def _listed(folder: Path) -> list[Path]:
    try:
        return [folder / entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []


def _read(path: Path, kind: type[Kind]) -> Kind:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        why = str(error).splitlines()[0]
        raise LprismError(f"{path} is damaged ({why}): remove it and ingest again what it was of") from error


# ---- putting


def put_run(home: Path, campaign: str, run_id: str, drafts: Mapping[str, Sequence[Path]]) -> Load:
    """Make a run's drafts, by table, its load in the lake; only `events` may have several.

    Until the seal is put readers see what was there before, then this load and nothing else of the run. The
    drafts lie in the folder of `staging` that the caller holds for the run.

    Raises:
        LprismError: a draft's columns are not its table's, or `runs` is not among them.
    """
    if odd := [table for table, paths in drafts.items() if table != EVENTS and len(paths) != 1]:
        raise LprismError(f"a load of {run_id} has one file of {', '.join(odd)}, not several")
    return _put_load(home, campaign, SEAL, run_id, drafts)


def write_part(con: "duckdb.DuckDBPyConnection", table: str, home: Path, campaign: str, part: str) -> Path:
    """Make the connection's table a part of the lake, in one step; returns its path. Raises LprismError."""
    with staging(home / "lake", f"{table}.{checked_name(campaign)}.{checked_name(part)}") as folder:
        draft = write_draft(con, table, folder, campaign, part)
        return home / "lake" / _put_load(home, campaign, table, part, {table: [draft]}).files[table][0].path


def write_parts(
    con: "duckdb.DuckDBPyConnection", tables: Sequence[str], home: Path, campaign: str, part: str
) -> Load:
    """Make several tables of the connection one load, which is named for the first. Raises LprismError."""
    name = f"{tables[0]}.{checked_name(campaign)}.{checked_name(part)}"
    with staging(home / "lake", name) as folder:
        drafts = {table: [write_draft(con, table, folder, campaign, part)] for table in tables}
        return _put_load(home, campaign, tables[0], part, drafts)


def write_frame(home: Path, table: str, campaign: str, part: str, frame: "pd.DataFrame") -> Path:
    """Make a frame a part of the lake: columns by name, cast to the table's types, absent ones NULL.

    Raises:
        LprismError: a column that the table has not, a value that cannot be cast, or as `write_part`.
    """
    extra = sorted(set(frame.columns) - columns_of(table).keys())
    if extra:
        raise LprismError(f"{table} has no column {', '.join(extra)}")
    with memory_connection() as con:
        create_table(con, table)
        with told(f"a frame does not fit {table}"):
            insert_by_name(con.from_df(frame), table)
        return write_part(con, table, home, campaign, part)


def write_draft(
    con: "duckdb.DuckDBPyConnection", table: str, folder: Path, campaign: str, part: str, source: str = ""
) -> Path:
    """Write the connection's table to <folder>/<table>.parquet, in no lake yet; returns its path.

    `source` says in the file's metadata what the part was made from.

    Raises:
        LprismError: columns or types are not those of sql/tables, or the file cannot be written.
    """
    rows, draft = con.table(table), folder / f"{table}.parquet"
    _check_columns(table, rows)
    rows.create_view("outgoing", replace=True)
    with told(f"{table} could not be written"):
        names = {"table_name": table, "campaign": campaign, "part": part, "source": source}
        execute(con, "publish/lake_part", path=str(draft), **names)
    return draft


def _put_load(home: Path, campaign: str, table: str, part: str, drafts: Mapping[str, Sequence[Path]]) -> Load:
    lake = home / "lake"
    version = _next_version(home, campaign, table, part, drafts)
    with memory_connection() as con:
        files = {
            name: tuple(
                described(con, name, draft, place(name, campaign, part, version, number))
                for number, draft in enumerate(paths)
            )
            for name, paths in drafts.items()
        }
        made_from = _made_from(con, drafts[table][0])
    load = Load(
        table=table, part=part, version=version, source=made_from, sealed_ns=time.time_ns(), files=files
    )
    seal = drafts[table][0].with_name(f"{table}.{part}.{version}.json")
    seal.write_text(load.model_dump_json(), encoding="utf-8")
    for name, paths in drafts.items():
        for draft, file in zip(paths, files[name], strict=True):
            put(draft, lake / file.path)
    put(seal, lake / "seals" / campaign / seal.name)
    return load


def _next_version(
    home: Path, campaign: str, table: str, part: str, drafts: Mapping[str, Sequence[Path]]
) -> int:
    """Above every version that is or was sealed, and with no file there that a killed load left behind."""
    sealed, _ = newest_seals(home, campaign).get((table, part), (0, None))
    compacted = compacted_of(home, campaign) if table == SEAL else None
    known = compacted.runs.get(part) if compacted else None
    version = 1 + max(sealed, known.version if known else 0)
    while any((home / "lake" / place(name, campaign, part, version)).exists() for name in drafts):
        version += 1
    return version


def place(table: str, campaign: str, part: str, version: int, number: int = 0) -> str:
    """Path from the lake of a file of a load. Raises LprismError for a name that is not allowed."""
    campaign, part = checked_name(campaign), checked_name(part)
    if table == EVENTS:
        return f"{table}/{campaign}/run_id={part}/{version}-{number}.parquet"
    return f"{table}/{campaign}/{part}.{version}.parquet"


def described(con: "duckdb.DuckDBPyConnection", table: str, draft: Path, path: str) -> LakeFile:
    """What the lake notes of a file that is to lie at `path`. Raises LprismError for a foreign column."""
    with told(draft):
        rows = con.read_parquet(str(draft), hive_partitioning=False)
        _check_columns(table, rows)
        size, digest = draft.stat().st_size, sha256_of(draft)
        return LakeFile(
            path=path, rows=len(rows), size_bytes=size, sha256=digest, columns=columns_digest(table)
        )


def columns_digest(table: str) -> str:
    """A table's column names and types in short: a file that was written with others is read by name."""
    return hashlib.sha256(repr(columns_of(table)).encode()).hexdigest()[:12]


def _made_from(con: "duckdb.DuckDBPyConnection", draft: Path) -> str:
    with told(draft):
        found = execute(con, "publish/part_source", path=str(draft)).fetchone()
    return str(found[0]) if found else ""


def _check_columns(table: str, rows: "duckdb.DuckDBPyRelation") -> None:
    found = list(zip(rows.columns, map(str, rows.types), strict=True))
    wanted = list(columns_of(table).items())
    if found != wanted:
        odd = sorted(set(found) ^ set(wanted)) or "their order"
        raise LprismError(f"rows for {table} differ from sql/tables/{table}.sql in {odd}")
