"""vLLM: its command lines, environment, readiness and last words. Pure: nothing here starts anything.

Checked against vLLM 0.32 (CPU build). Every command is an argument list for one process, never shell text.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeAlias

from tasks.settings import SpecError

READY_PATH = "/health"
"""`GET` answers 200 once the server takes requests."""

KIND = "vllm"
_FLAG_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-.][a-z0-9]+)*")
_OURS = frozenset({"host", "port", "model"})
_EXCEPTION = re.compile(r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit): \S")
_LOG_PREFIX = re.compile(
    r"^(?:\([^)]*pid=\d+\)\s*)?(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d [\d:.]+ \[[^\]]*\] ?)?"
)
_FAILURE_LINES = 15

ArgumentValue: TypeAlias = bool | int | float | str | Mapping[str, object] | Sequence[object] | None


def flags(args: Mapping[str, ArgumentValue]) -> list[str]:
    """Turn `{max-model-len: 2048, enforce-eager: true}` into `--max-model-len=2048 --enforce-eager`.

    True becomes a bare flag, false `--no-x`, null is left out; a mapping or a list becomes JSON, and so does
    true or false inside of one (`a.b: true`), as vLLM reads them.

    Raises:
        SpecError: a name is no flag name, is one that the campaign itself sets (host, port, model), or denies
            twice (`no-x: false`).
    """
    return [_flag(name, value) for name, value in args.items() if value is not None]


def _flag(name: str, value: ArgumentValue) -> str:
    if not _FLAG_NAME.fullmatch(name):
        message = f"engine argument {name!r} is not a flag name: write it as in `vllm serve`, without the --"
        raise SpecError(message)
    if name in _OURS:
        message = f"engine argument {name!r} is set by the campaign itself: leave it out of `args`"
        raise SpecError(message)
    if isinstance(value, bool) and "." not in name:
        return _switch(name, on=value)
    # One word with `=`: a value that begins with a dash stays a value.
    return f"--{name}={value if isinstance(value, str) else json.dumps(value)}"


def _switch(name: str, *, on: bool) -> str:
    if on:
        return f"--{name}"
    if name.startswith("no-"):
        positive = name.removeprefix("no-")
        raise SpecError(f"engine argument '{name}: false' denies twice: write '{positive}: true'")
    return f"--no-{name}"


def serve_command(
    python: str | PurePosixPath, model: str, host: str, port: int, args: Mapping[str, ArgumentValue]
) -> list[str]:
    """Build the server's command line; `model` is a folder on the host or a hub name."""
    program = [str(python), "-m", "vllm.entrypoints.cli.main", "serve", model]
    return [*program, f"--host={host}", f"--port={port}", *flags(args)]


def serve_environment(*, cpu: bool, threads: int = 1, offline: bool = True) -> dict[str, str]:
    """Build the variables that the server needs on top of the host's own environment.

    On a CPU vLLM binds its OpenMP threads itself unless told not to, without a look at the cores it is pinned
    to; with `nobind` they inherit the affinity of the process, and `threads` is the number of cores in it.
    """
    environment = client_environment(offline=offline)
    if cpu:
        environment["VLLM_CPU_KVCACHE_SPACE"] = "1"
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def client_environment(*, offline: bool = True) -> dict[str, str]:
    """Build the variables of `vllm bench serve`: no telemetry, and no model hub unless asked."""
    environment = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if offline:
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return environment


def bench_command(
    python: str | PurePosixPath,
    base_url: str,
    model: str,
    *,
    input_length: int,
    output_length: int,
    concurrency: int,
    prompts: int,
    seed: int,
    result_dir: str,
    result_file: str,
    ready_timeout_s: int = 60,
) -> list[str]:
    """Build the load client's command line: random prompts of exact lengths, `concurrency` at a time.

    Lengths are in tokens. It writes `<result_dir>/<result_file>` (JSON) only when all prompts are done.
    `ready_timeout_s` bounds the one request it sends before the load (0: none).
    """
    return [
        *(str(python), "-m", "vllm.entrypoints.cli.main", "bench", "serve"),
        *("--backend=vllm", f"--base-url={base_url}", f"--model={model}"),
        *("--dataset-name=random", f"--random-input-len={input_length}"),
        *(f"--random-output-len={output_length}", "--ignore-eos", "--temperature=0"),
        *(f"--num-prompts={prompts}", f"--max-concurrency={concurrency}"),
        *(f"--seed={seed}", f"--ready-check-timeout-sec={ready_timeout_s}", "--disable-tqdm"),
        *("--save-result", f"--result-dir={result_dir}", f"--result-filename={result_file}"),
    ]


def version_command(python: str | PurePosixPath) -> list[str]:
    """Build a command that prints the engine's version on one line, without importing the engine (0.1 s)."""
    return [str(python), "-c", "from importlib.metadata import version; print(version('vllm'))"]


def profile_flags(folder: str, *, stack: bool = False) -> dict[str, ArgumentValue]:
    """Build the arguments of a server that can be profiled over HTTP (0.13 on); traces go into `folder`.

    The front end is left out: it would be recorded without an end. Python stacks make the trace ten times as
    large and the stall while it is written as long.
    """
    config = {"profiler": "torch", "torch_profiler_dir": folder, "torch_profiler_with_stack": stack}
    return {"profiler-config": {**config, "ignore_frontend": True}}


def profile_start(folder: str, iterations: int, *, stack: bool = False) -> tuple[str, dict[str, object]]:
    """Path and JSON body of the POST that starts a capture; it stops by itself after so many iterations.

    Where traces go and what they hold was said at the server's start.
    """
    del folder, stack
    return "/start_profile", {"max_iterations": iterations}


def profile_stop() -> tuple[str, None]:
    """Path and body of the POST that ends a capture; it is answered when the traces are written."""
    return "/stop_profile", None


def engine_key(kind: str, version: str, args: Mapping[str, ArgumentValue]) -> str:
    """Hash what makes two servers comparable (engine, version, arguments in any order) to 16 hex digits."""
    text = json.dumps([kind, version, dict(args)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def server_failure(log_tail: str) -> str:
    """Pick what a dead server said last: its last exception first, then the last 15 lines of the log.

    A worker's exception is followed by 100 lines in which the engine core and the front end say that there
    was one ("See root cause above"): picked is the last that points nowhere else. Give it the last 64 KiB.
    """
    lines = [line.rstrip() for line in log_tail.splitlines() if line.strip()]
    if not lines:
        return "(the server's log is empty)"
    exceptions = [text for line in lines if _EXCEPTION.match(text := _LOG_PREFIX.sub("", line).strip())]
    causes = [text for text in exceptions if "root cause" not in text] or exceptions
    return "\n".join([*causes[-1:], *lines[-_FAILURE_LINES:]])
