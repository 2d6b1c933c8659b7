"""One recording into the lake: hashed, converted by its format, every row accounted for, put whole or not.

A format is a module of this package with

    NAME                          what `files.format` says
    sniff(path, head)             whether a path is of this format; `head` is how what a file holds begins
    sources(path)                 the runs that it holds
    fill(con, source, folder)     one run into the tables of `con`

`fill` finds every table of the lake empty in `con`, and in `runs` the one row of its run. It inserts rows,
and one row of `files` for each of `source.files`. A table too large for memory it writes by itself, as
<folder>/<table>-<n>.parquet.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tasks.files import sha256_of
from tasks.lake import SEAL, SEALED, Load, load_of, put_run, sealed_in, write_draft
from tasks.settings import LprismError
from tasks.staging import checked_name, staging
from tasks.warehouse import create_table, execute, memory_connection, sql_names, sql_text, told

if TYPE_CHECKING:
    import duckdb

MEMORY = "500MB"  # of DuckDB's, whatever the size of the file; the rest of the process takes as much again
FOREIGN = "ingested"  # the campaign of what was not recorded by a campaign of ours


@dataclass(frozen=True)
class InputFile:
    """A file of a recording: where it is, its name in `files`, its size and digest."""

    path: Path
    name: str
    size_bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Source:
    """One run in a recording. `facts` are columns of `runs`; a run of ours brings its run_id and campaign."""

    run_name: str
    files: tuple[InputFile, ...]
    facts: Mapping[str, object] = field(default_factory=dict)
    campaign: str = ""
    run_id: str = ""


class Format(Protocol):
    """What a module of a format offers."""

    NAME: str

    def sniff(self, path: Path, head: bytes) -> bool:
        """Whether it is of this format."""

    def sources(self, path: Path) -> Sequence[Source]:
        """The runs that it holds."""

    def fill(self, con: "duckdb.DuckDBPyConnection", source: Source, folder: Path) -> None:
        """Convert one run."""


@dataclass(frozen=True)
class IngestSummary:
    """What a source gave: rows by table of the lake, rows set aside; skipped when it was there already."""

    run_id: str
    run_name: str
    rows: dict[str, int]
    quarantined: int
    skipped: bool


def load(home: Path, form: Format, source: Source, campaign: str = "") -> IngestSummary:
    """Load one run; the same bytes again are skipped, changed ones take the place of what they gave before.

    A load that is killed, or fails, leaves nothing that a reader of the lake sees.

    Raises:
        LprismError: names the file that cannot be read or whose rows do not add up, or the full disk.
    """
    source = _identified(home, form, source, campaign)
    with staging(home / "lake", f"{source.campaign}.{source.run_id}") as folder, told(source.files[0].path):
        digest = _digest(source)
        if loaded := _loaded(home, source, digest):
            return loaded
        with memory_connection(folder / "spill", MEMORY) as con:
            prepare(con, source)
            form.fill(con, source, folder)
            _check_accounts(con, source)
            drafts = dict(_drafts(con, source, folder, digest))
        made = put_run(home, source.campaign, source.run_id, drafts)
    return _summary(source, made, skipped=False)


def format_of(module: str) -> Format:
    """The format that a module is, such as tasks.traces.bundle."""
    form: Format = import_module(module)
    return form


def _loaded(home: Path, source: Source, digest: str) -> IngestSummary | None:
    """What is in the lake of these very files; None when they have to be loaded. Raises LprismError."""
    there = sealed_in(home, source.run_id)
    if there not in {None, source.campaign}:
        raise LprismError(f"{source.files[0].path} is in the warehouse already, in campaign {there}")
    known = load_of(home, source.campaign, source.run_id)
    if known is None or known.source != digest:
        return None
    return _summary(source, known, skipped=True)


def _summary(source: Source, made: Load, *, skipped: bool) -> IngestSummary:
    rows = {table: sum(file.rows for file in files) for table, files in made.files.items()}
    return IngestSummary(source.run_id, source.run_name, rows, rows.get("quarantine", 0), skipped)


def _identified(home: Path, form: Format, source: Source, campaign: str) -> Source:
    """The source with its files hashed, and with a run_id and a campaign where it brought none."""
    files = tuple(_hashed(file) for file in source.files)
    if source.run_id:
        place = Path(str(source.facts["bundle"]))
        if place.is_relative_to(home.absolute()):
            place = place.relative_to(home.absolute())
        return replace(source, files=files, facts={**source.facts, "bundle": str(place)})
    chosen = checked_name(campaign or source.campaign or FOREIGN)
    name = source.run_name.removeprefix(f"{source.campaign}/")
    # A folder of runs may hold the same file in two of them; a file alone is its bytes, whatever its name.
    text = "\n".join([form.NAME, *([name] if source.campaign else []), *(file.sha256 for file in files)])
    run_id = "r" + hashlib.sha256(text.encode()).hexdigest()[:10]
    return replace(source, files=files, run_id=run_id, campaign=chosen, run_name=f"{chosen}/{name}")


def _hashed(file: InputFile) -> InputFile:
    try:
        return replace(file, size_bytes=file.path.stat().st_size, sha256=sha256_of(file.path))
    except OSError as error:
        raise LprismError(f"{file.path}: {error.strerror}") from error


def _digest(source: Source) -> str:
    """What a load is made from: its files, and how they are converted."""
    digest = hashlib.sha256()
    for file in source.files:
        digest.update(file.sha256.encode())
    for folder in ("convert", "tables"):
        for name in sql_names(folder):
            digest.update(sql_text(f"{folder}/{name}").encode())
    return digest.hexdigest()


def prepare(con: "duckdb.DuckDBPyConnection", source: Source) -> None:
    """Make every table of the lake, empty, and the row of the run in `runs`."""
    for table in SEALED:
        create_table(con, table, is_working=True)
    create_table(con, SEAL, is_working=True)
    facts: dict[str, Any] = {
        "status": "complete", **source.facts,
        "run_id": source.run_id, "campaign": source.campaign, "run_name": source.run_name,
    }  # fmt: skip
    insert_row(con, SEAL, facts)


def insert_row(con: "duckdb.DuckDBPyConnection", table: str, row: Mapping[str, object]) -> None:
    """Insert one row by column names. Raises LprismError for a column that the table has not."""
    columns = con.table(table).columns
    if extra := sorted(row.keys() - set(columns)):
        raise LprismError(f"{table} has no column {', '.join(extra)}")
    con.table(table).insert([row.get(column) for column in columns])


def _check_accounts(con: "duckdb.DuckDBPyConnection", source: Source) -> None:
    for name, account in execute(con, "convert/unaccounted_files").fetchall():
        raise LprismError(f"{name}: {account}: nothing of it was loaded")
    if len(con.table("files")) != len(source.files):
        raise LprismError(
            f"{source.run_name}: {len(source.files)} files, {len(con.table('files'))} in its account"
        )


def _drafts(
    con: "duckdb.DuckDBPyConnection", source: Source, folder: Path, digest: str
) -> Iterator[tuple[str, list[Path]]]:
    """The table's Parquet files: those that the format wrote, else what is in the connection, if anything."""
    for table in (*SEALED, SEAL):
        written = sorted(folder.glob(f"{table}-*.parquet"))
        if written or len(con.table(table)):
            yield table, written or [write_draft(con, table, folder, source.campaign, source.run_id, digest)]
