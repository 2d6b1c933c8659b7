"""Bundles of our own recorders into the lake: every line kept or quarantined, a load whole or not there."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.lake import write_part
from tasks.lake_tables import lake_connection
from tasks.settings import LprismError
from tasks.staging import checked_name
from tasks.traces import captures, load
from tasks.traces.clocks import marked_ns, reference_ns, step_ns
from tasks.traces.load import IngestSummary, InputFile, Source
from tasks.traces.manifest import MANIFEST, MARKS, Manifest, read_manifest
from tasks.traces.text import lines_view
from tasks.warehouse import create_table, execute, memory_connection, told

if TYPE_CHECKING:
    import duckdb

NAME = "bundle"
CONVERTED = ("batches", "iterations", "counters", "metrics", "slices")
FILLED = (
    "batches", "followed_batches", "batch_windows", "probe_calls", "counters", "engine_metrics",
    "scheduler_slices", "quarantine",
)  # fmt: skip


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
    """What the recorders of a bundle wrote, in files that its manifest lists. Raises LprismError."""
    manifest, written = _checked(source)
    reference = reference_ns(manifest.marks)
    converted = {file.name: file.path for file in source.files if _format(file.name) in CONVERTED}
    with lines_view(con, converted) as counts:
        execute(con, "convert/recorder_lines")
    for name in ("recorder_clocks", "run_clocks"):
        execute(con, f"convert/{name}", reference_ns=reference)
    for name in ("hosts", "phases"):
        execute(con, f"convert/{name}", manifest=written.decode())
    for name in FILLED:
        execute(con, f"convert/{name}")
    for name, account in execute(con, "convert/recorder_lost").fetchall():
        raise LprismError(f"{name}: {account}: nothing of it was loaded")
    traces = captures.trace_names(manifest)
    unread = captures.add(con, source, manifest, reference, folder)
    for file in (*(file for file in source.files if file.name not in traces), *unread):
        execute(
            con, "convert/files", name=file.name, size_bytes=file.size_bytes, sha256=file.sha256,
            format=_format(file.name), rows_in=counts.get(file.name, 0),
        )  # fmt: skip


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


def _checked(source: Source) -> tuple[Manifest, bytes]:
    """The manifest of a bundle, every file of which is the one that was recorded, and its bytes."""
    manifest, written = read_manifest(source.files[0].path.parent)
    found = {file.name: file for file in source.files}
    for listed in manifest.files:
        file = found[listed.name]
        if (file.size_bytes, file.sha256) != (listed.size_bytes, listed.sha256):
            raise LprismError(
                f"{file.path} is not the file that was recorded: {file.size_bytes} bytes, sha256 "
                f"{file.sha256[:12]}; the manifest says {listed.size_bytes} bytes, {listed.sha256[:12]}"
            )
    return manifest, written


def _facts(manifest: Manifest) -> dict[str, Any]:
    """The columns of `runs` that a manifest tells."""
    marks: dict[str, int | None] = {f"{name}_ns": None for name in MARKS}
    marks.update({f"{name}_ns": time for name, time in marked_ns(manifest.marks).items()})
    effect = manifest.effect.model_dump() if manifest.effect else {}
    names = ("metric", "unit", "before", "during", "after", "proved", "undone")
    cell = manifest.cell.model_dump()
    return {
        **cell, **marks, "strength": json.dumps(cell["strength"]),
        "workload": f"in{cell['input_length']}_out{cell['output_length']}_conc{cell['concurrency']}",
        **{f"effect_{name}": effect.get(name) for name in names},
        **{name: getattr(manifest, name) for name in ("engine_key", "run_order", "status", "reason")},
        "slo_ttft_ms": manifest.slo.ttft_ms, "slo_tpot_ms": manifest.slo.tpot_ms,
        "cpu_model": manifest.host_facts.cpu_model, "clock_step_ns": step_ns(manifest.marks),
        "clock_offset_ns": manifest.clock.offset_ns if manifest.clock else None,
        "clock_offset_uncertainty_ns": manifest.clock.uncertainty_ns if manifest.clock else None,
    }  # fmt: skip


def _format(name: str) -> str:
    """What a file of a bundle holds; each process of a server writes its own batches-<pid>.jsonl."""
    stem, _, suffix = name.rpartition(".")
    if suffix == "jsonl" and stem.partition("-")[0] in CONVERTED:
        return stem.partition("-")[0]
    return "manifest" if name == MANIFEST else "log" if suffix == "log" else "other"
