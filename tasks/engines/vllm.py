"""vLLM: its command lines, environment, readiness and last words. Pure: nothing here starts anything.

Run with vLLM 0.32 (CPU build); what differs in 0.7 (V0) and from 0.10 on is read off the sources of those
versions. Every command is an argument list for one process, never shell text.
"""

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from tasks.engines import ArgumentValue, check_flag, denied, last_words, parallel, release
from tasks.settings import SpecError

READY_PATH = "/health"
"""`GET` answers 200 once the server takes requests."""

VERSION_PATHS = ("/version",)
"""Where a running server tells its version, as JSON with the key `version`: the first that answers 200."""

GENERATED = "vllm:generation_tokens_total"
"""The metric that counts the tokens it has answered with."""

KIND = "vllm"
TESTED = ("0.32.0",)
_OURS = frozenset({"host", "port", "model"})
_LOG_PREFIX = re.compile(
    r"^(?:\([^)]*pid=\d+\)\s*)?(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d [\d:.]+ \[[^\]]*\] ?)?"
)
_REPORTS = re.compile("root cause")
_CLIENT_SINCE = (0, 10)
_READY_CHECK_SINCE = (0, 10, 1)
_PROFILER_CONFIG_SINCE = (0, 13)
_COUNTS_WHEN_TOLD_SINCE = (0, 32)  # before, `max_iterations` in the body of /start_profile is not looked at


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
    check_flag(name, "vllm serve", _OURS)
    if isinstance(value, bool) and "." not in name:
        return f"--{name}" if value else denied(name)
    # One word with `=`: a value that begins with a dash stays a value.
    return f"--{name}={value if isinstance(value, str) else json.dumps(value)}"


def serve_command(
    python: str | PurePosixPath, model: str, host: str, port: int, args: Mapping[str, ArgumentValue]
) -> list[str]:
    """Build the server's command line (0.7.3 on); `model` is a folder on the host or a hub name."""
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
    version: str = "",
) -> list[str]:
    """Build the load client's command line: random prompts of exact lengths, `concurrency` at a time.

    Lengths are in tokens. It writes `<result_dir>/<result_file>` (JSON) only when all prompts are done.
    `ready_timeout_s` bounds the one request it sends before the load (0: none); 0.10.0 always sends it.

    Raises:
        SpecError: this version has no load client; a newer one's works with its servers.
    """
    if release(version) < _CLIENT_SINCE:
        raise SpecError(
            f"vLLM {version} brings no load client: name as `client_python` an interpreter with vLLM 0.10 or "
            "newer"
        )
    can_wait = release(version) >= _READY_CHECK_SINCE
    patience = [f"--ready-check-timeout-sec={ready_timeout_s}"] if can_wait else []
    return [
        *(str(python), "-m", "vllm.entrypoints.cli.main", "bench", "serve"),
        *("--backend=vllm", f"--base-url={base_url}", f"--model={model}"),
        *("--dataset-name=random", f"--random-input-len={input_length}"),
        *(f"--random-output-len={output_length}", "--ignore-eos", "--temperature=0"),
        *(f"--num-prompts={prompts}", f"--max-concurrency={concurrency}"),
        *(f"--seed={seed}", *patience, "--disable-tqdm", "--save-result"),
        *(f"--result-dir={result_dir}", f"--result-filename={result_file}"),
    ]


def version_command(python: str | PurePosixPath) -> list[str]:
    """Build a command that prints the engine's version on one line, without importing the engine (0.1 s)."""
    return [str(python), "-c", "from importlib.metadata import version; print(version('vllm'))"]


def ranks(args: Mapping[str, ArgumentValue]) -> int:
    """How many workers a server with these arguments has; each writes a trace of its own."""
    return (
        parallel(args, "tensor-parallel-size")
        * parallel(args, "pipeline-parallel-size")
        * parallel(args, "data-parallel-size")
    )


def profile_flags(
    folder: str, version: str, *, iterations: int = 0, stack: bool = False
) -> dict[str, ArgumentValue]:
    """Build the arguments of a server that can be profiled over HTTP (0.13 on); traces go into `folder`.

    The front end is left out: it would be recorded without an end. Python stacks make the trace ten times as
    large and the stall while it is written as long. How many iterations a capture lasts has to be said here
    until 0.31.
    """
    if release(version) < _PROFILER_CONFIG_SINCE:
        return {}
    config = {"profiler": "torch", "torch_profiler_dir": folder, "torch_profiler_with_stack": stack}
    counts_when_told = release(version) >= _COUNTS_WHEN_TOLD_SINCE
    limit = {} if counts_when_told or not iterations else {"max_iterations": iterations}
    return {"profiler-config": {**config, "ignore_frontend": True, **limit}}


def profile_environment(folder: str, version: str, *, stack: bool = False) -> dict[str, str]:
    """Build the variables that do the same before 0.13, where nothing bounds the iterations.

    A version heeds those that it knows: that about stacks from 0.11 on, that about the front end in 0.12.
    """
    if release(version) >= _PROFILER_CONFIG_SINCE:
        return {}
    heeded = {"WITH_STACK": str(int(stack)), "DISABLE_ASYNC_LLM": "1"}
    others = {f"VLLM_TORCH_PROFILER_{name}": value for name, value in heeded.items()}
    return {"VLLM_TORCH_PROFILER_DIR": folder, **others}


def profile_start(folder: str, iterations: int, *, stack: bool = False) -> tuple[str, dict[str, object]]:
    """Path and JSON body of the POST that starts a capture; it stops by itself after so many iterations.

    Where traces go and what they hold was said at the server's start; until 0.31 so was the number, and
    before 0.13 a capture has to be stopped.
    """
    del folder, stack
    return "/start_profile", {"max_iterations": iterations}


def profile_stop() -> tuple[str, None]:
    """Path and body of the POST that ends a capture; it is answered when the traces are written."""
    return "/stop_profile", None


def server_failure(log_tail: str) -> str:
    """Pick what a dead server said last: its last exception first, then the last 15 lines of the log.

    A worker's exception is followed by 100 lines in which the engine core and the front end say that there
    was one ("See root cause above"): picked is the last that points nowhere else. Give it the last 64 KiB.
    """
    return last_words(log_tail, _LOG_PREFIX, _REPORTS)
