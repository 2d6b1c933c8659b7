"""Every file of the lake against what was noted when it was put there: its digest, and its rows by run."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.compaction import digest_of, files_of, files_there, used_by
from tasks.lake import SEAL, SEALED, Held, LakeFile, campaigns_of, held
from tasks.settings import LprismError
from tasks.warehouse import as_glob, execute, memory_connection, told

if TYPE_CHECKING:
    import duckdb

_LOADED = re.compile(
    r"(?P<table>[a-z_]+)/(?P<campaign>[^/]+)/(run_id=)?(?P<part>[^/]+)[./](?P<version>\d+)(-\d+)?\.parquet"
)
_SEALED = re.compile(r"seals/(?P<campaign>[^/]+)/(?P<table>[a-z_]+)\.(?P<part>[^/]+)\.(?P<version>\d+)\.json")


@dataclass(frozen=True)
class Finding:
    """A file (its path from the lake), what is wrong with it in a word, and the particulars.

    The word is missing, changed, miscounted, extra, or damaged for a campaign whose seals cannot be read.
    """

    path: str
    what: str
    detail: str


@dataclass(frozen=True)
class CheckedFiles:
    """How much was looked at, and what was found."""

    files: int
    rows: int
    findings: list[Finding]


def check(home: Path) -> CheckedFiles:
    """Read the whole lake and hold every file against its seal or manifest, a file at a time.

    Superseded files, which `publish` clears away a day later, are not looked at. What is loaded meanwhile is
    no finding.
    """
    there = set(files_there(home / "lake"))
    files, rows, findings = 0, 0, list[Finding]()
    with memory_connection() as con:
        for campaign in campaigns_of(home):
            try:
                holding = held(home, campaign)
            except LprismError as error:
                findings.append(Finding(campaign, "damaged", str(error)))
                continue
            expected = _rows_by_run(holding)
            for file in files_of(holding):
                files, rows = files + 1, rows + file.rows
                findings += _checked(con, home, file, expected.get(file.path))
    findings += [Finding(path, "extra", "belongs to no load") for path in _extra(home, there)]
    return CheckedFiles(files, rows, sorted(findings, key=lambda found: found.path))


def _rows_by_run(holding: Held) -> dict[str, Mapping[str, int]]:
    """How many rows each file of a run, or of all compacted ones, has of which run, by the file's path."""
    found: dict[str, Mapping[str, int]] = {}
    loads = [load for load in holding.loads if load.table == SEAL]
    if holding.compacted:
        loads += holding.compacted.runs.values()
        for table, file in holding.compacted.files.items():
            counts = {run: rows.get(table, 0) for run, rows in holding.compacted.rows.items()}
            found[file.path] = {run: count for run, count in counts.items() if count}
    for load in loads:
        for file in (file for files in load.files.values() for file in files):
            found[file.path] = {load.part: file.rows} if file.rows else {}
    return found


def _checked(
    con: "duckdb.DuckDBPyConnection", home: Path, file: LakeFile, expected: Mapping[str, int] | None
) -> Iterator[Finding]:
    path = home / "lake" / file.path
    if (digest := digest_of(path)) is None:
        yield Finding(file.path, "missing", f"{file.rows} rows")
    elif digest != file.sha256:
        yield Finding(file.path, "changed", f"sha256 {digest[:12]} where {file.sha256[:12]} was put")
    elif expected is not None and (found := _counted(con, path)) != expected:
        odd = {run for run, _ in found.items() ^ expected.items()}
        runs = [f"{run} has {found.get(run, 0)} rows, not {expected.get(run, 0)}" for run in sorted(odd)[:3]]
        yield Finding(file.path, "miscounted", "; ".join(runs))


def _counted(con: "duckdb.DuckDBPyConnection", path: Path) -> dict[str, int]:
    with told(path):
        con.read_parquet(as_glob(path), hive_partitioning=False).create_view("lake_file", replace=True)
        return dict(execute(con, "publish/rows_by_run").fetchall())


def _extra(home: Path, there: set[str]) -> Iterator[str]:
    """Files that were there when the check began, and that no load has or had; of a damaged campaign none."""
    holdings = {campaign: _held(home, campaign) for campaign in campaigns_of(home)}
    unused = there - {path for holding in holdings.values() if holding for path in used_by(holding)}
    before = {campaign: _superseded(holding) for campaign, holding in holdings.items() if holding}
    # Loads that are named for one of their tables.
    several = {load.table for one in holdings.values() if one for load in one.loads if len(load.files) > 1}
    for path in sorted(unused):
        name = _LOADED.fullmatch(path) or _SEALED.fullmatch(path)
        campaign = name["campaign"] if name else path.removeprefix("compacted/").removesuffix(".json")
        if campaign in holdings and campaign not in before:
            continue
        versions = before.get(campaign, {})
        loads = [(table, name["part"]) for table in (SEAL, name["table"], *several)] if name else []
        if not name or all(int(name["version"]) > versions.get(load, 0) for load in loads):
            yield path


def _held(home: Path, campaign: str) -> Held | None:
    try:
        return held(home, campaign)
    except LprismError:
        return None


def _superseded(holding: Held) -> dict[tuple[str, str], int]:
    """Of every load, and of the common file of a table, the last version that is not to be read any more."""
    found = {(load.table, load.part): load.version - 1 for load in holding.loads}
    if holding.compacted:
        found |= {("compacted", table): holding.compacted.generation - 1 for table in (SEAL, *SEALED)}
        runs = holding.compacted.runs
        found |= {(SEAL, run): load.version for run, load in runs.items() if (SEAL, run) not in found}
    return found
