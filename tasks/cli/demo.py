"""`lprism demo`: the whole way, on this machine alone."""

import os
from typing import Annotated, Any

import typer

from tasks.cli import options
from tasks.cli.pipeline import run_pipeline
from tasks.lab.tiny_model import SERVE_ARGS
from tasks.settings import home_path

REPETITIONS = 3
# About twice the quickest decode step of four requests seen on one core: SGLang has no kernels for it.
TPOT_MS = {"vllm": 35.0, "sglang": 90.0}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog="Example: lprism demo --engine sglang --home /tmp/demo")(demo)


def demo(
    engine: Annotated[str, typer.Option(help="The engine to serve with.")] = "vllm",
    repetitions: Annotated[int, typer.Option(min=2, help="Runs of each scenario.")] = REPETITIONS,
    home: options.Home = None,
) -> None:
    """Run a small campaign on this machine and print what was injected beside what was diagnosed.

    A real engine with a tiny model, a loopback SSH host, a real CPU fault: no GPU, no root, no model hub.
    """
    from tasks.lab.install import install
    from tasks.lab.recipes import recipe_for
    from tasks.spec import parse_spec

    spec = parse_spec(demo_spec(engine, repetitions, sorted(os.sched_getaffinity(0))), "the demo's spec")
    if recipe := recipe_for(engine):
        install(recipe.name)
    run_pipeline(spec, home_path(home))


def demo_spec(engine: str, repetitions: int, cpus: list[int]) -> dict[str, Any]:
    """The demo's campaign spec on these CPUs.

    Server and fault share one CPU and everything of ours has another, where there are two: a fault is then
    felt by the server alone, and we are not felt at all.
    """
    pinned = {"engine_cpus": cpus[:1], "our_cpus": cpus[1:2]} if len(cpus) > 1 else {}
    return {
        "name": "demo",
        "hosts": [{"name": "lab", "allow_faults": True, **pinned}],
        "engines": [{"kind": engine, "model": "tiny", "args": SERVE_ARGS.get(engine, {})}],
        "workload": {"input_lengths": [32], "output_lengths": [64], "concurrency": [4]},
        "scenarios": ["normal", "cpu_compute_squeeze_out"],
        "windows": {"warmup_s": 4.0, "baseline_s": 10.0, "fault_s": 10.0, "recovery_s": 6.0},
        "slo": {"ttft_ms": 1000.0, "tpot_ms": TPOT_MS.get(engine, 50.0)},
        "repetitions": repetitions,
        "seed": 7,
    }
