"""What a campaign planned and what came of it, from its folder alone: campaign.json and the bundles.

`bundles/<campaign>/campaign.json` is written before anything is done; a cell is done when its bundle is
there, which appears as a whole. The lock `.running` is held by the one process that adds to it.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.files import sha256_of
from tasks.plan import Cell
from tasks.settings import LprismError, SpecError
from tasks.spec import CampaignSpec, load_spec, masked, parse_spec
from tasks.spec_errors import unknown
from tasks.staging import checked_name
from tasks.traces.manifest import MANIFEST

RECORD = "campaign.json"
RUNNING = ".running"
FREE_BYTES_A_CELL = 50_000_000
COMPLETE, FAILED, PENDING = "complete", "failed", "pending"


def new_instance(name: str) -> str:
    """A campaign instance: its name and the time it was started (UTC)."""
    return f"{name}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"


def folder_of(home: Path, campaign: str) -> Path:
    """Where a campaign's bundles are. Raises LprismError when it is no name."""
    return home / "bundles" / checked_name(campaign)


def open_campaign(spec: CampaignSpec, home: Path, campaign: str, cells: Sequence[Cell]) -> None:
    """Write bundles/<campaign>/campaign.json: what was planned, before anything is done."""
    folder = folder_of(home, campaign)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / RECORD).exists():
        raise LprismError(
            f"{folder}: this campaign instance was run already: `lprism campaign resume {campaign}` goes on "
            "with it; for a new one leave the instance out, or name another"
        )
    free, needed = shutil.disk_usage(folder).free, len(cells) * FREE_BYTES_A_CELL
    if free < needed:
        raise LprismError(
            f"{folder}: {free >> 20} MiB free, {needed >> 20} MiB needed: free some space or use --home"
        )
    _write(
        folder,
        {
            "schema": 1, "campaign": campaign, "campaign_name": spec.name, "started_ns": time.time_ns(),
            "closed_ns": None, "seed": spec.seed, "runs_planned": len(cells),
            "spec": _shown(spec), "cells": [asdict(cell) for cell in cells],
        },
    )  # fmt: skip


def reopen_campaign(spec: CampaignSpec, home: Path, campaign: str) -> None:
    """Note that a campaign goes on. Raises LprismError when it never began, or began with another spec."""
    known = record(home, campaign)
    other = sorted(key for key, value in _shown(spec).items() if known["spec"].get(key) != value)
    if other:
        raise LprismError(
            f"{campaign} began with another spec: {', '.join(other)} differ; resume it by its name alone, "
            "or run a new campaign"
        )
    _write(folder_of(home, campaign), {**known, "closed_ns": None})


def close_campaign(home: Path, campaign: str) -> None:
    """Note in campaign.json that nothing more will be added."""
    _write(folder_of(home, campaign), {**record(home, campaign), "closed_ns": time.time_ns()})


def record(home: Path, campaign: str) -> dict[str, Any]:
    """What campaign.json says. Raises LprismError."""
    path = folder_of(home, campaign) / RECORD
    try:
        known: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise LprismError(f"there is no campaign {campaign} in {home}") from None
    except (OSError, ValueError) as error:
        raise LprismError(f"{path} cannot be read: {error}") from error
    return known


def outcomes(home: Path, campaign: str) -> dict[str, str]:
    """{run_id: `complete` or `failed`} of every bundle that is there."""
    found = {}
    for path in folder_of(home, campaign).glob(f"[!.]*/{MANIFEST}"):
        found[path.parent.name] = str(_manifest(path)["status"])
    return found


def _manifest(path: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LprismError(f"{path} cannot be read: {error}: move its folder away and resume") from error
    return said


def verified(bundle: Path) -> list[str]:
    """What is wrong with a bundle's files, by the sizes and digests in its manifest; empty if nothing."""
    wrong = []
    for file in _manifest(bundle / MANIFEST)["files"]:
        path = bundle / file["name"]
        if not path.is_file():
            wrong.append(f"{path} is missing")
        elif path.stat().st_size != file["size_bytes"] or sha256_of(path) != file["sha256"]:
            wrong.append(f"{path} is not the file that was recorded")
    return wrong


def to_run(home: Path, campaign: str, cells: Sequence[Cell], *, failed_too: bool = False) -> list[Cell]:
    """The cells that have no whole bundle, in their order; with `failed_too` those that failed as well.

    A complete bundle whose files are not those that were recorded is set aside under a name with a dot.
    """
    known = outcomes(home, campaign)
    for run_id in [run_id for run_id, status in known.items() if status == COMPLETE]:
        if verified(bundle := folder_of(home, campaign) / run_id):
            shutil.rmtree(aside := bundle.with_name(f".{run_id}.damaged"), ignore_errors=True)
            bundle.rename(aside)
            del known[run_id]
    done = {run_id for run_id, status in known.items() if status == COMPLETE or not failed_too}
    return [cell for cell in cells if cell.run_id not in done]


@contextmanager
def running(home: Path, campaign: str) -> Iterator[None]:
    """Hold a campaign for this process. Raises LprismError when another one has it."""
    folder = folder_of(home, campaign)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / RUNNING).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise LprismError(
                f"{campaign} is being run by process {file.read()}: wait for it, or end it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def runner(home: Path, campaign: str) -> int | None:
    """The process that runs a campaign of this home now, if any."""
    try:
        with (folder_of(home, campaign) / RUNNING).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(file.read() or 0)
    except OSError:
        pass
    return None


def campaigns(home: Path) -> dict[str, dict[str, Any]]:
    """{campaign instance: its record}, the last begun first."""
    names = [path.parent.name for path in (home / "bundles").glob(f"[!.]*/{RECORD}")]
    known = {name: record(home, name) for name in names}
    return dict(sorted(known.items(), key=lambda one: int(one[1]["started_ns"]), reverse=True))


def find(home: Path, text: str) -> tuple[str, CampaignSpec]:
    """The campaign instance that is meant by a spec file, an instance, or a campaign's name, and its spec.

    A file or a name means the last one begun. What campaign.json holds is enough for a spec without secrets.

    Raises:
        LprismError: there is none; or it has secrets, which are written nowhere: the spec file is needed.
    """
    campaign = called(home, text)
    return campaign, load_spec(text) if Path(text).is_file() else spec_of(record(home, campaign))


def called(home: Path, text: str) -> str:
    """The instance that is meant by a spec file, an instance, or a campaign's name. Raises SpecError."""
    known = campaigns(home)
    if Path(text).is_file():
        return _last(home, known, load_spec(text).name)
    return text if text in known else _last(home, known, text)


def _last(home: Path, known: Mapping[str, Mapping[str, Any]], name: str) -> str:
    found = next((campaign for campaign, said in known.items() if said["campaign_name"] == name), None)
    if found is None:
        there = unknown("campaign", name, list(known)) if known else "it has none"
        raise SpecError(f"{home} holds no campaign {name!r}: {there}")
    return found


def spec_of(known: Mapping[str, Any]) -> CampaignSpec:
    """The spec of a campaign's record. Raises SpecError when a secret was left out of it."""
    campaign = str(known["campaign"])
    if '"***' in json.dumps(known["spec"]["engines"]):
        raise SpecError(
            f"{campaign} has an engine with a secret or with `env`, which are written nowhere: name its spec "
            "file"
        )
    return parse_spec(known["spec"], campaign)


def planned(known: Mapping[str, Any]) -> list[Cell]:
    """The cells of a campaign's record."""
    return [Cell(**cell) for cell in known["cells"]]


def _shown(spec: CampaignSpec) -> dict[str, Any]:
    """The spec as it may be written down; the values of `env` are masked by their type."""
    shown = spec.model_dump(mode="json")
    for engine in shown["engines"]:
        engine["args"] = masked(engine["args"])
    return shown


def _write(folder: Path, campaign: dict[str, Any]) -> None:
    draft = folder / f".{RECORD}"
    with draft.open("w") as file:
        json.dump(campaign, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / RECORD)
