"""Bundles of our own recorders into the lake: every line kept or quarantined, a load whole or not there."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.lake import write_part
from tasks.lake_tables import lake_connection
from tasks.settings import LprismError
from tasks.staging import checked_name
from tasks.traces import load
from tasks.traces.load import IngestSummary, InputFile, Source
from tasks.traces.manifest import MANIFEST, MARKS, Manifest, read_manifest
from tasks.traces.text import lines_view
from tasks.warehouse import create_table, execute, memory_connection, told

if TYPE_CHECKING:
    import duckdb

NAME = "bundle"
CONVERTED = ("batches", "counters")


def sniff(path: Path, head: bytes) -> bool:
    """Whether a path looks like a bundle: a folder with a manifest."""
    del head
    return (path / MANIFEST).is_file()


def sources(path: Path) -> list[Source]:
    """The bundle's run, as its manifest tells it.

    Raises:
        LprismError: the manifest cannot be read, or a file that it lists is not there as a plain file.
    """
    manifest, _ = read_manifest(path)
    names = (MANIFEST, *(listed.name for listed in manifest.files))
    for name in names:
        if (path / name).is_symlink() or not (path / name).is_file():
            raise LprismError(f"{path / name} is in the manifest but not there as a plain file")
    facts = {**_facts(manifest), "bundle": str(path.absolute())}
    name = "/".join((manifest.campaign, manifest.cell.engine, manifest.cell.scenario, facts["workload"]))
    files = tuple(InputFile(path / name, name) for name in names)
    return [Source(name, files, facts, manifest.campaign, manifest.run_id)]


def fill(con: "duckdb.DuckDBPyConnection", source: Source, folder: Path) -> None:
    """Batches and counters of a bundle whose files are those that its manifest lists. Raises LprismError."""
    del folder
    _check_files(source)
    converted = {file.name: file.path for file in source.files if _format(file.name) in CONVERTED}
    with lines_view(con, converted) as counts:
        execute(con, "convert/recorder_lines")
    for name in ("run_clocks", "batches", "probe_calls", "counters", "quarantine"):
        execute(con, f"convert/{name}")
    for file in source.files:
        execute(
            con, "convert/files", name=file.name, size_bytes=file.size_bytes, sha256=file.sha256,
            format=_format(file.name), rows_in=counts.get(file.name, 0),
        )  # fmt: skip
    for name, account in execute(con, "convert/recorder_lost").fetchall():
        raise LprismError(f"{name}: {account}: nothing of it was loaded")


def ingest_bundle(home: Path, bundle: Path) -> IngestSummary:
    """Load one bundle, as tasks/traces/load.py loads. Raises LprismError naming the file."""
    (source,) = sources(bundle)
    return load.load(home, load.format_of(__name__), source)


def bundles_of(home: Path, campaign: str) -> list[Path]:
    """The campaign's bundle folders in the home, sorted by name; drafts begin with a dot and are none."""
    folder = home / "bundles" / checked_name(campaign)
    return sorted(path.parent for path in folder.glob("[!.]*/" + MANIFEST))


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


def _check_files(source: Source) -> None:
    """See that every file is the one that was recorded."""
    manifest, _ = read_manifest(source.files[0].path.parent)
    found = {file.name: file for file in source.files}
    for listed in manifest.files:
        file = found[listed.name]
        if (file.size_bytes, file.sha256) != (listed.size_bytes, listed.sha256):
            raise LprismError(
                f"{file.path} is not the file that was recorded: {file.size_bytes} bytes, sha256 "
                f"{file.sha256[:12]}; the manifest says {listed.size_bytes} bytes, {listed.sha256[:12]}"
            )


def _facts(manifest: Manifest) -> dict[str, Any]:
    """The columns of `runs` that a manifest tells."""
    marks: dict[str, int | None] = {f"{name}_ns": None for name in MARKS}
    marks.update({f"{mark.name}_ns": mark.epoch_ns for mark in manifest.marks})
    effect = manifest.effect.model_dump() if manifest.effect else {}
    names = ("metric", "unit", "before", "during", "after", "proved", "undone")
    cell = manifest.cell.model_dump()
    return {
        **cell, **marks, "strength": json.dumps(cell["strength"]),
        "workload": f"in{cell['input_length']}_out{cell['output_length']}_conc{cell['concurrency']}",
        **{f"effect_{name}": effect.get(name) for name in names},
        **{name: getattr(manifest, name) for name in ("engine_key", "run_order", "status", "reason")},
        "slo_ttft_ms": manifest.slo.ttft_ms, "slo_tpot_ms": manifest.slo.tpot_ms,
        "cpu_model": manifest.host_facts.cpu_model,
    }  # fmt: skip


def _format(name: str) -> str:
    """What a file of a bundle holds; each process of a server writes its own batches-<pid>.jsonl."""
    stem, _, suffix = name.rpartition(".")
    if suffix == "jsonl" and stem.partition("-")[0] in CONVERTED:
        return stem.partition("-")[0]
    return "manifest" if name == MANIFEST else "log" if suffix == "log" else "other"
