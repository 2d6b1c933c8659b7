"""What one cell makes of an engine in a version: every command line, as in tests/cases/engines/cells.

    python -m tests.engine_cells        writes the case files anew: read the difference before you commit it

The cell is the same for all: two GPUs, 512 tokens in, 128 out, 8 at a time, captures of 50 iterations.
"""

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tasks.engines import Adapter, adapter, is_tested, xdit
from tasks.settings import SpecError

CELLS = Path(__file__).parent / "cases" / "engines" / "cells"
PYTHON, FOLDER = "/opt/engine/bin/python", "/srv/bench/.latencyprism/sessions/gpu-01/nightly"
VERSIONS = {
    "vllm": ("0.7.3", "0.10.0", "0.10.2", "0.11.0", "0.12.0", "0.13.0", "0.16.0", "0.31.0", "0.32.0"),
    "sglang": ("0.4.10", "0.5.1", "0.5.5", "0.5.6", "0.5.10", "0.5.13", "0.5.23"),
    "xdit": ("0.4.3", "0.5.0", "0.6.0", "0.7.0"),
}
CASES = [(kind, version) for kind, versions in VERSIONS.items() for version in versions]
Built = dict[str, Any]


def cell(kind: str, version: str) -> Built:
    """Everything that is run, sent or set for one cell."""
    of_version = {"engine": kind, "version": version, "tested": is_tested(kind, version)}
    return {**of_version, **(_of_xdit(version) if kind == "xdit" else _of_server(adapter(kind), version))}


def _of_server(speaks: Adapter, version: str) -> Built:
    args = {"tensor-parallel-size": 2}
    traces = f"{FOLDER}/traces"
    profiler = speaks.profile_flags(traces, version, iterations=50)
    client = partial(
        speaks.bench_command, PYTHON, "http://127.0.0.1:8000", "/models/m", input_length=512,
        output_length=128, concurrency=8, prompts=400, seed=7, result_dir=f"{FOLDER}/runs/r1",
        result_file="load.json", ready_timeout_s=0, version=version,
    )  # fmt: skip
    return {
        "detect": shlex.join(speaks.version_command(PYTHON)),
        "start": shlex.join(speaks.serve_command(PYTHON, "/models/m", "127.0.0.1", 8000, args)),
        "start_to_capture": shlex.join(
            speaks.serve_command(PYTHON, "/models/m", "127.0.0.1", 8000, {**args, **profiler})
        ),
        "environment": speaks.serve_environment(cpu=False, offline=False),
        "environment_to_capture": speaks.profile_environment(traces, version),
        "ready": f"GET {speaks.READY_PATH}",
        "detect_attached": [f"GET {path}" for path in speaks.VERSION_PATHS],
        "client": _told(client),
        "client_environment": speaks.client_environment(offline=False),
        "capture": ["POST", *speaks.profile_start(traces, 50)],
        "capture_end": ["POST", *speaks.profile_stop()],
        "traces": speaks.ranks(args),
    }


def _of_xdit(version: str) -> Built:
    args = {"ulysses-degree": 2}
    run = partial(
        xdit.run_command, PYTHON, "/models/m", args, width=1024, height=768, steps=28, batch_size=1, seed=7,
        folder=f"{FOLDER}/runs/r1", version=version,
    )  # fmt: skip
    server = {"ulysses-parallel-degree": 2}
    return {
        "detect": shlex.join(xdit.version_command(PYTHON)),
        "start": shlex.join(xdit.serve_command(PYTHON, "/models/m", "127.0.0.1", xdit.PORT, server)),
        "environment": xdit.client_environment(offline=False),
        "ready": f"GET {xdit.READY_PATH}",
        "client": ["POST", *xdit.generate_request(1024, 768, 28, 7)],
        "run": _told(run),
        "run_to_capture": _told(partial(run, profiled=3)),
        "traces": xdit.ranks(args),
    }


def _told(build: Callable[[], list[str]]) -> str:
    try:
        return shlex.join(build())
    except SpecError as error:
        return f"refused: {error}"


def path(kind: str, version: str) -> Path:
    """The case file of an engine's version."""
    return CELLS / f"{kind}-{version}.json"


if __name__ == "__main__":
    for case in CASES:
        path(*case).write_text(json.dumps(cell(*case), indent=1) + "\n")
