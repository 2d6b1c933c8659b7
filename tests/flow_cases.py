"""Runs flows on a home and prints what came of each, as JSON: Prefect reads its settings once a process."""

import json
import sys
from collections.abc import Callable
from typing import Any

from prefect.artifacts import Artifact

import flows.pipeline
from flows.ingest import ingest
from flows.report import report
from flows.validate import validate
from tasks.settings import LprismError
from tasks.spec import CampaignSpec
from tests.test_cli import SPEC


def error_of(call: Callable[[], Any]) -> str:
    """What an LprismError said; empty without any."""
    try:
        call()
    except LprismError as error:
        return str(error)
    return ""


def stand_in(name: str, seen: list[str]) -> None:
    """Have the pipeline call a tripwire instead of one of its flows."""
    setattr(flows.pipeline, name, lambda *_: seen.append(name))


def main(home: str, campaign: str, broken: str) -> None:
    """Ingest and pipeline of `campaign`, which has a bundle that cannot be read; validation of `broken`."""
    seen: list[str] = []
    said = {"ingest": error_of(lambda: ingest(home, campaign))}
    for name in ("campaign", "train", "diagnose", "report"):
        stand_in(name, seen)
    spec = CampaignSpec.model_validate(SPEC)
    said["pipeline"] = error_of(lambda: flows.pipeline.pipeline(spec, home, campaign))
    ingest(home, broken)
    said["validate"] = error_of(lambda: validate(home, broken))
    artifact = Artifact.get("validation")
    said["artifact"] = str(artifact.data) if artifact else ""  # type: ignore[union-attr]  # a coroutine only when awaited
    said["report"] = report(broken, home)
    sys.stdout.write(json.dumps({**said, "seen": seen}))


if __name__ == "__main__":
    main(*sys.argv[1:])
