"""Bundles of our own recorders into the lake: every line kept or quarantined, a load whole or not there."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.lake import SEAL, load_of, put_run, write_draft, write_part
from tasks.lake_tables import lake_connection
from tasks.settings import LprismError
from tasks.staging import checked_name, staging
from tasks.traces.manifest import MANIFEST, MARKS, Listed, Manifest, read_manifest
from tasks.warehouse import create_table, execute, memory_connection, sql_names, sql_text, told

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

LONGEST_LINE = 1 << 20  # a batch of a thousand requests is 20 kB
RAW_TEXT = 2000
LINES_A_BATCH = 1000
CONVERTED = ("batches", "counters")


@dataclass(frozen=True)
class IngestSummary:
    """What a bundle gave: rows by table of the lake, quarantined lines; skipped when it was there already."""

    run_id: str
    rows: dict[str, int]
    quarantined: int
    skipped: bool


@dataclass(frozen=True)
class _Line:
    number: int
    text: str
    problem: str | None


def sniff(path: Path) -> bool:
    """Whether a path looks like a bundle: a folder with a manifest."""
    return (path / MANIFEST).is_file()


def bundles_of(home: Path, campaign: str) -> list[Path]:
    """The campaign's bundle folders in the home, sorted by name; drafts begin with a dot and are none."""
    folder = home / "bundles" / checked_name(campaign)
    return sorted(path.parent for path in folder.glob("[!.]*/" + MANIFEST))


def ingest_bundle(home: Path, bundle: Path) -> IngestSummary:
    """Load one bundle: check its files against the manifest, convert them, put them in the lake.

    The same bundle again is skipped, a changed one takes the place of what it gave before. A load that is
    killed, or fails, leaves nothing that a reader of the lake sees.

    Raises:
        LprismError: names the file that is missing, changed, not allowed or whose lines do not add up.
    """
    manifest, content = read_manifest(bundle)
    for listed in manifest.files:
        _check_file(bundle, listed)
    campaign, run_id = manifest.campaign, manifest.run_id
    source = _source(content)
    with staging(home / "lake", f"{campaign}.{run_id}") as folder, told(bundle):
        if loaded := _loaded(home, manifest, source):
            return loaded
        with memory_connection(folder / "spill") as con:
            _convert(con, bundle, manifest, content, _place(home, bundle))
            drafts = {table: [write_draft(con, table, folder, campaign, run_id, source)] for table in _TABLES}
            rows = {table: len(con.table(table)) for table in _TABLES}
        put_run(home, campaign, run_id, drafts)
    return IngestSummary(run_id, rows, rows["quarantine"], skipped=False)


_TABLES = ("batches", "counters", "files", "quarantine", SEAL)


def ingest_campaign(home: Path, campaign: str) -> None:
    """Load campaign.json, the orchestrator's record of a campaign; run it after the campaign's bundles.

    Raises:
        LprismError: it is missing, or not as it should be.
    """
    path = home / "bundles" / checked_name(campaign) / "campaign.json"
    keys = ("campaign", "campaign_name", "started_ns", "closed_ns", "seed", "runs_planned")
    try:
        record = json.loads(path.read_bytes())
        known = {key: record[key] for key in keys}
        spec = json.dumps(record["spec"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LprismError(f"{path} cannot be read: {error!r}") from error
    if known["campaign"] != campaign:
        raise LprismError(f"{path} is about campaign {known['campaign']!r}")
    with lake_connection(home, campaign) as con, told(path):
        rows = execute(con, "convert/campaigns", spec=spec, **known).to_arrow_table()
        with memory_connection() as target:
            create_table(target, "campaigns")
            target.from_arrow(rows).insert_into("campaigns")
            write_part(target, "campaigns", home, campaign, "all")


def _check_file(bundle: Path, listed: Listed) -> None:
    path = bundle / listed.name
    if path.is_symlink() or not path.is_file():
        raise LprismError(f"{path} is in the manifest but not there as a plain file")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LprismError(f"{path}: {error.strerror}") from error
    found, wanted = (path.stat().st_size, digest), (listed.size_bytes, listed.sha256)
    if found != wanted:
        raise LprismError(
            f"{path} is not the file that was recorded: {found[0]} bytes, sha256 {found[1][:12]}; "
            f"the manifest says {wanted[0]} bytes, {wanted[1][:12]}"
        )


def _source(manifest: bytes) -> str:
    """What a load is made from: the manifest, which holds every file's digest, and how it is converted."""
    digest = hashlib.sha256(manifest)
    for folder, names in (("convert", sql_names("convert")), ("tables", _TABLES)):
        for name in names:
            digest.update(sql_text(f"{folder}/{name}").encode())
    return digest.hexdigest()


def _loaded(home: Path, manifest: Manifest, source: str) -> IngestSummary | None:
    """What is in the lake of this very bundle; None when it has to be loaded."""
    load = load_of(home, manifest.campaign, manifest.run_id)
    if load is None or load.source != source:
        return None
    rows = {table: sum(file.rows for file in load.files.get(table, ())) for table in _TABLES}
    return IngestSummary(manifest.run_id, rows, rows["quarantine"], skipped=True)


def _place(home: Path, bundle: Path) -> str:
    absolute = bundle.absolute()
    return str(
        absolute.relative_to(home.absolute()) if absolute.is_relative_to(home.absolute()) else absolute
    )


def _convert(
    con: "duckdb.DuckDBPyConnection", bundle: Path, manifest: Manifest, content: bytes, place: str
) -> None:
    """Fill the run's tables in `con`, and see that every line is accounted for."""
    for table in _TABLES:
        create_table(con, table)
    counts = {listed.name: 0 for listed in manifest.files}
    con.from_arrow(_lines(bundle, counts)).create("lines")
    execute(con, "convert/recorder_lines")
    execute(con, "convert/runs", **_run(manifest), bundle=place)
    for name in ("batches", "counters", "quarantine"):
        execute(con, f"convert/{name}")
    own = Listed(name=MANIFEST, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    for listed in (own, *manifest.files):
        file = {"format": _format(listed.name), "rows_in": counts.get(listed.name, 0)}
        execute(con, "convert/files", **listed.model_dump(), **file)
    for name, account in execute(con, "convert/unaccounted_files").fetchall():
        raise LprismError(f"{bundle}: {name}: {account}: nothing of it was loaded")


def _run(manifest: Manifest) -> dict[str, Any]:
    """The parameters of convert/runs.sql, the bundle's place excepted."""
    marks: dict[str, int | None] = dict.fromkeys(MARKS)
    marks.update({mark.name: mark.epoch_ns for mark in manifest.marks})
    effect = manifest.effect.model_dump() if manifest.effect else {}
    names = ("metric", "unit", "before", "during", "after", "proved", "undone")
    cell = manifest.cell.model_dump()
    return {
        **cell, **marks, "strength": json.dumps(cell["strength"]),
        **{f"effect_{name}": effect.get(name) for name in names},
        **{name: getattr(manifest, name) for name in
           ("run_id", "campaign", "engine_key", "run_order", "status", "reason")},
        "slo_ttft_ms": manifest.slo.ttft_ms, "slo_tpot_ms": manifest.slo.tpot_ms,
        "cpu_model": manifest.host_facts.cpu_model,
    }  # fmt: skip


def _format(name: str) -> str:
    """What a file of a bundle holds; each process of a server writes its own batches-<pid>.jsonl."""
    stem, _, suffix = name.rpartition(".")
    if suffix == "jsonl" and stem.partition("-")[0] in CONVERTED:
        return stem.partition("-")[0]
    return "manifest" if name == MANIFEST else "log" if suffix == "log" else "other"


def _lines(bundle: Path, counts: dict[str, int]) -> "pa.RecordBatchReader":
    """The lines of the files that are converted, in batches, while `counts` counts them by file."""
    import pyarrow as pa

    schema = pa.schema(
        [("file_name", pa.string()), ("format", pa.string()), ("line_number", pa.int64()),
         ("raw_text", pa.string()), ("problem", pa.string())]
    )  # fmt: skip

    def batches() -> Iterator[pa.RecordBatch]:
        for name in counts:
            if (form := _format(name)) not in CONVERTED:
                continue
            for lines in _some(_read_lines(bundle / name)):
                counts[name] += len(lines)
                columns = zip(
                    *((name, form, line.number, line.text, line.problem) for line in lines), strict=True
                )
                yield pa.record_batch([*map(pa.array, columns)], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _some(lines: Iterator[_Line]) -> Iterator[list[_Line]]:
    while chunk := [line for _, line in zip(range(LINES_A_BATCH), lines, strict=False)]:
        yield chunk


def _read_lines(path: Path) -> Iterator[_Line]:
    """Every line of a file, blank ones too; of one that is too long its beginning."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LONGEST_LINE):
            number += 1
            if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
                text = raw[: 4 * RAW_TEXT].decode(errors="backslashreplace")
                yield _Line(number, text, f"longer than {LONGEST_LINE >> 20} MiB")
                continue
            yield _line(number, raw.removesuffix(b"\n"))


def _line(number: int, raw: bytes) -> _Line:
    try:
        return _Line(number, raw.decode(), None)
    except UnicodeDecodeError:
        return _Line(number, raw.decode(errors="backslashreplace"), "not UTF-8")
