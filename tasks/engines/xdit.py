"""xDiT (`xfuser`): command lines, requests and traces of its diffusion pipelines. Pure; not run with us yet.

Read off the sources of xfuser 0.4.3 to 0.7.0. A campaign does not run it: its load is images of a size in so
many steps, and no client of its own measures them. Every command is an argument list, never shell text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tasks.engines import ArgumentValue, check_flag, parallel, release
from tasks.settings import SpecError

KIND = "xdit"
TESTED: tuple[str, ...] = ()
PORT = 6000
"""Its server listens there, on every interface, and cannot be told otherwise."""

READY_PATH = "/openapi.json"
"""It has no page of its own for health: this one answers once it listens, the models may still be loading."""

_RUNNER_SINCE = (0, 5)
_STACK_SINCE = (0, 6)
_SERVER_OURS = frozenset({"model-path", "world-size", "host", "port"})
_RUNNER_OURS = frozenset({
    "model", "height", "width", "num-inference-steps", "prompt", "seed", "batch-size", "output-directory",
    "profile", "profile-wait", "profile-warmup", "profile-active", "profile-with-stack",
})  # fmt: skip
_DEGREES = (
    "ulysses-degree", "ulysses-parallel-degree", "ring-degree", "pipefusion-parallel-degree",
    "tensor-parallel-degree", "data-parallel-degree",
)  # fmt: skip
_TRACE = re.compile(r"profile_trace_rank_(\d+)\.json\.gz")


def _flags(args: Mapping[str, ArgumentValue], ours: frozenset[str], program: str) -> list[str]:
    """`{ulysses-degree: 2, use-cfg-parallel: true}` as `--ulysses_degree=2 --use_cfg_parallel`: underscores.

    True becomes a bare flag, false and null are left out, a list several words, a mapping JSON.

    Raises:
        SpecError: a name is no flag name, or one that is set here.
    """
    words = []
    for name, value in args.items():
        check_flag(name, program, ours)
        flag = f"--{name.replace('-', '_')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [flag, *map(str, value)]
        elif value is not None and value is not False:
            words.append(f"{flag}={json.dumps(value) if isinstance(value, Mapping) else value}")
    return words


def ranks(args: Mapping[str, ArgumentValue]) -> int:
    """How many workers these degrees of parallelism take together; each writes a trace of its own."""
    product = 2 if args.get("use-cfg-parallel") else 1
    for name in _DEGREES:
        product *= parallel(args, name)
    return product


def serve_command(
    python: str | PurePosixPath, model: str, host: str, port: int, args: Mapping[str, ArgumentValue]
) -> list[str]:
    """Build the HTTP server's command line. Raises SpecError for another port than 6000."""
    del host
    if port != PORT:
        raise SpecError(f"xDiT's server listens on port {PORT} alone, not on {port}")
    program = [str(python), "-m", "entrypoints.launch", f"--model_path={model}"]
    return [*program, f"--world_size={ranks(args)}", *_flags(args, _SERVER_OURS, "entrypoints/launch.py")]


def client_environment(*, offline: bool = True) -> dict[str, str]:
    """Build the variables of every program: no telemetry, and no model hub unless asked."""
    environment = {"DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if offline:
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return environment


def generate_request(width: int, height: int, steps: int, seed: int) -> tuple[str, dict[str, Any]]:
    """Path and JSON body of the POST that makes one image of so many pixels in so many denoising steps."""
    size = {"width": width, "height": height, "num_inference_steps": steps, "seed": seed}
    return "/generate", {"prompt": "a photograph", **size}


def run_command(
    python: str | PurePosixPath,
    model: str,
    args: Mapping[str, ArgumentValue],
    *,
    width: int,
    height: int,
    steps: int,
    batch_size: int,
    seed: int,
    folder: str,
    version: str,
    profiled: int = 0,
    stack: bool = False,
) -> list[str]:
    """Build a run without a server (0.5 on); with `profiled` it records so many generations, after one.

    The traces are `<folder>/profile_trace_rank_N.json.gz`, one a rank. From 0.6 on they hold a label around
    each generation, all its denoising steps together: `execute_diffusion_{batch size}_{height}x{width}`;
    stacks are recorded from 0.6 on too.

    Raises:
        SpecError: an older version, which brings examples and no runner.
    """
    if release(version) < _RUNNER_SINCE:
        raise SpecError(f"xDiT {version} brings no runner: it is there from 0.5 on")
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={ranks(args)}", "-m", "xfuser.runner"]
    size = [f"--width={width}", f"--height={height}", f"--num_inference_steps={steps}"]
    load = ["--prompt", "a photograph", f"--batch_size={batch_size}", f"--seed={seed}"]
    program = [str(python), *launcher, f"--model={model}", *size, *load, f"--output_directory={folder}"]
    capture = ["--profile", "--profile_wait=0", "--profile_warmup=1", f"--profile_active={profiled}"]
    stacks = ["--profile_with_stack"] if stack and release(version) >= _STACK_SINCE else []
    return [*program, *_flags(args, _RUNNER_OURS, "xfuser.runner"), *(capture + stacks if profiled else ())]


def trace_rank(name: str) -> int | None:
    """The rank that wrote a trace of this name; None for a file that is none."""
    found = _TRACE.fullmatch(name)
    return int(found[1]) if found else None


def version_command(python: str | PurePosixPath) -> list[str]:
    """Build a command that prints the engine's version on one line, without importing the engine."""
    return [str(python), "-c", "from importlib.metadata import version; print(version('xfuser'))"]
