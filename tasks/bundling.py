"""A run carried out, and what it leaves: its bundle, whole or not there, with the reason where it failed."""

import contextlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.fault import UndoFailed
from tasks.recovery import recovery_of
from tasks.remote import HostError, LinkError
from tasks.run import Run, RunFailed
from tasks.settings import LprismError
from tasks.spec import masked
from tasks.traces.manifest import MANIFEST

FULL_BYTES = 1 << 20  # with less free, what dies on a host dies of its full disk


def execute(run: Run, home: Path, campaign: str) -> Path:
    """Carry a run out and leave its bundle under <home>/bundles/<campaign>/, also when it fails.

    Raises:
        LinkError: the link was lost: there is a bundle only if this was the last try.
        RunFailed: it failed; the bundle has the reason. UndoFailed: and the host is not clean.
    """
    error: LprismError | None = None
    try:
        run.carry_out()
    except LprismError as raised:
        error = _with_the_disk(run, raised)
    finished = home / "bundles" / campaign / run.cell.run_id
    draft = finished.with_name(f".{finished.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        error = _bundle(run, campaign, draft, error)
        shutil.rmtree(finished, ignore_errors=True)
        draft.rename(finished)
    except OSError as raised:
        raise LprismError(
            f"{draft}: the records could not be stored: {raised.strerror or raised}"
        ) from raised
    if run.folder:
        with contextlib.suppress(HostError):  # a copy left on the host is swept at the next visit
            run.supervisor.ask("remove", run_folder=run.folder)
    if isinstance(error, UndoFailed | LinkError):
        raise error
    if error:
        raise RunFailed(f"{run.cell.run_id} ({run.cell.scenario}): {error}") from error
    return finished


def _with_the_disk(run: Run, error: LprismError) -> LprismError:
    """The error, or one that names the host's full disk first: what dies of that cannot write why."""
    if run.folder and not isinstance(error, LinkError | UndoFailed):
        with contextlib.suppress(HostError):
            free = int(run.supervisor.ask("disk_free"))
            if free < FULL_BYTES:
                full = f"{run.host.name}: the disk of {run.folder} is full, {free >> 10} KiB free"
                return RunFailed(f"{full}: {error}")
    return error


def _bundle(run: Run, campaign: str, draft: Path, error: LprismError | None) -> LprismError | None:
    """Fill the draft; returns what the run failed for. Raises LinkError while there is another try."""
    fetched: list[dict[str, Any]] = []
    try:
        if run.folder:
            with run.phase("fetch", 0.5):
                fetched = _fetch(run, draft)
    except LprismError as raised:
        error = error or raised
    if isinstance(error, LinkError) and not run.last_try:
        shutil.rmtree(draft, ignore_errors=True)
        raise error
    if not error:
        with run.phase("compare recovery with baseline", 0.1):
            run.recovery = recovery_of(draft, run.marks)
    _write_manifest(draft, _manifest(run, campaign, str(error) if error else None, fetched))
    return error


def _fetch(run: Run, draft: Path) -> list[dict[str, Any]]:
    """The run's files, each as in the manifest. Raises LprismError; what arrived stays in `draft`."""
    try:
        sums = run.supervisor.fetch(run.folder, draft)
    except OSError as error:
        raise RunFailed(f"{draft}: the records could not be stored: {error.strerror or error}") from error
    return [{"name": name, "size_bytes": size, "sha256": digest} for name, (size, digest) in sums.items()]


def _manifest(run: Run, campaign: str, reason: str | None, fetched: list[dict[str, Any]]) -> dict[str, Any]:
    cell, engine = run.cell, run.server.engine
    return {
        "schema": 1, "run_id": cell.run_id, "campaign": campaign, "campaign_name": run.spec.name,
        "status": "failed" if reason else "complete", "reason": reason,
        "cell": {
            "host": run.host.name, "planned_host": cell.host,
            "engine": engine.kind, "engine_version": run.server.version,
            "model": engine.model, "engine_args": masked(engine.args), "attached": engine.attach is not None,
            "scenario": cell.scenario,
            "anomaly": cell.anomaly, "strength": dict(cell.strength), "input_length": cell.input_length,
            "output_length": cell.output_length, "concurrency": cell.concurrency, "mode": cell.mode,
            "repetition": cell.repetition,
        },
        "engine_key": run.server.key, "seed": run.spec.seed, "run_order": cell.run_order,
        "slo": run.spec.slo.model_dump(), "host_facts": run.facts, "engine_cpus": run.engine_cpus,
        "our_cpus": run.our_cpus, "versions": {"engine": run.server.version, "python": run.facts["python"]},
        "commands": {"engine": run.server.command, **run.commands}, "marks": run.marks, "phases": run.phases,
        "effect": run.fault.effect if run.fault else None, "exit_codes": run.exit_codes,
        "recorders": run.recorders.told() if run.recorders else [],
        "captures": run.captures.taken,
        "clock": asdict(run.clock) if run.clock else None,
        "probe_errors": run.probe_errors, "requests": run.requests or None,
        "recovery": run.recovery.told() if run.recovery else None,
        "session": PurePosixPath(run.supervisor.folder).name, "files": fetched,
    }  # fmt: skip


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    with (folder / MANIFEST).open("w") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
