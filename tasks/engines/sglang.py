"""SGLang: its command lines, environment, readiness and last words. Pure: nothing here starts anything.

Run with SGLang 0.5.23 on a CPU; what differs from 0.4.10 on is read off the sources of those versions. Every
command is an argument list for one process, never shell text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from tasks.engines import ArgumentValue, check_flag, last_words, parallel, release
from tasks.settings import SpecError

READY_PATH = "/health"
"""`GET` answers 200 once the server takes requests."""

VERSION_PATHS = ("/server_info", "/get_server_info")
"""Where a running server tells its version, as JSON with the key `version`: the first that answers 200.

The second was the only one before 0.5.6, and is on its way out.
"""

GENERATED = "sglang:generation_tokens_total"
"""The metric that counts the tokens it has answered with."""

KIND = "sglang"
TESTED = ("0.5.23",)
_READY_CHECK_SINCE = (0, 5, 10)
_TEMPERATURE_SINCE = (0, 5, 13)  # before, the client always asks for 0
_OURS = frozenset({"host", "port", "model", "model-path"})
_LOG_PREFIX = re.compile(r"^(?:\[\d{4}-\d\d-\d\d [\d:.]+[^\]]*\] ?)?")
# A request to itself that found no server: it died of something else, or lives.
_REPORTS = re.compile(r"HTTPConnection")
_BIND = re.compile(r"^\[[^\]]*\] ERROR: +(\[Errno \d+\] .*)", re.MULTILINE)


def flags(args: Mapping[str, ArgumentValue]) -> list[str]:
    """Turn `{context-length: 2048, sleep-on-idle: true}` into `--context-length=2048 --sleep-on-idle`.

    True becomes a bare flag, false and null are left out (few switches can be denied: `no-x: true` does); a
    list becomes several words and a mapping JSON, as SGLang reads them.

    Raises:
        SpecError: a name is no flag name, or one that the campaign itself sets (host, port, model), or a word
            of a list would be taken for a flag.
    """
    return [word for name, value in args.items() for word in _flag(name, value)]


def _flag(name: str, value: ArgumentValue) -> list[str]:
    check_flag(name, "sglang serve", _OURS)
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [f"--{name}", *(_word(name, one) for one in value)]
    return [f"--{name}={json.dumps(value) if isinstance(value, Mapping) else value}"]


def _word(name: str, value: object) -> str:
    word = str(value)
    if word.startswith("-"):
        raise SpecError(f"engine argument {name!r}: {word!r} in a list would be taken for a flag")
    return word


def serve_command(
    python: str | PurePosixPath, model: str, host: str, port: int, args: Mapping[str, ArgumentValue]
) -> list[str]:
    """Build the server's command line; `model` is a folder on the host or a hub name.

    It tells its metrics, which it does not by itself, unless `args` say otherwise.
    """
    program = [str(python), "-m", "sglang.launch_server", f"--model-path={model}"]
    return [*program, f"--host={host}", f"--port={port}", *flags({"enable-metrics": True, **args})]


def serve_environment(*, cpu: bool, threads: int = 1, offline: bool = True) -> dict[str, str]:
    """Build the variables that the server needs on top of the host's own environment.

    On a CPU `threads` is the number of cores that the process is pinned to.
    """
    environment = client_environment(offline=offline)
    if cpu:
        environment["SGLANG_USE_CPU_ENGINE"] = "1"
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def client_environment(*, offline: bool = True) -> dict[str, str]:
    """Build the variables of the load client: no telemetry, and no model hub unless asked."""
    environment = {"DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
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
    """Build the load client's command line: random token ids of exact lengths, `concurrency` at a time.

    Lengths are in tokens. It appends a line to `<result_dir>/<result_file>` when all prompts are done.
    `ready_timeout_s` bounds its wait for the server (0: none); before 0.5.10 it does not wait.
    """
    found = release(version)
    temperature = ["--temperature=0"] if found >= _TEMPERATURE_SINCE else []
    patience = [f"--ready-check-timeout-sec={ready_timeout_s}"] if found >= _READY_CHECK_SINCE else []
    return [
        *(str(python), "-m", "sglang.bench_serving"),
        *("--backend=sglang", f"--base-url={base_url}", f"--model={model}"),
        # Not `random`: that takes its words from a data set on the hub. Its ids are sent as they are.
        *("--dataset-name=random-ids", "--tokenize-prompt", f"--random-input-len={input_length}"),
        *(f"--random-output-len={output_length}", "--random-range-ratio=1", *temperature),
        *(f"--num-prompts={prompts}", f"--max-concurrency={concurrency}", "--warmup-requests=0"),
        *(f"--seed={seed}", *patience, "--disable-tqdm"),
        *("--output-details", f"--output-file={result_dir}/{result_file}"),
    ]


def version_command(python: str | PurePosixPath) -> list[str]:
    """Build a command that prints the engine's version on one line, without importing the engine (0.1 s)."""
    return [str(python), "-c", "from importlib.metadata import version; print(version('sglang'))"]


def ranks(args: Mapping[str, ArgumentValue]) -> int:
    """How many schedulers a server with these arguments has; each writes a trace of its own.

    With attention that is data parallel those are among the ranks of the tensors.
    """
    tensors = parallel(args, "tensor-parallel-size", "tp-size")
    stages = parallel(args, "pipeline-parallel-size", "pp-size")
    copies = parallel(args, "data-parallel-size", "dp-size")
    return tensors * stages * (1 if args.get("enable-dp-attention") else copies)


def profile_flags(
    folder: str, version: str, *, iterations: int = 0, stack: bool = False
) -> dict[str, ArgumentValue]:
    """Build nothing: a server can always be profiled, and is told the rest when it is."""
    del folder, version, iterations, stack
    return {}


def profile_environment(folder: str, version: str, *, stack: bool = False) -> dict[str, str]:
    """Build nothing: the same."""
    del folder, version, stack
    return {}


def profile_start(folder: str, iterations: int, *, stack: bool = False) -> tuple[str, dict[str, object]]:
    """Path and JSON body of the POST that starts a capture; it stops by itself after so many iterations."""
    return "/start_profile", {"output_dir": folder, "num_steps": iterations, "with_stack": stack}


def profile_stop() -> tuple[str, None]:
    """Path and body of the POST that ends a capture; one that has ended by itself makes it answer 500."""
    return "/stop_profile", None


def server_failure(log_tail: str) -> str:
    """Pick what a dead server said last: its last exception first, then the last 15 lines of the log.

    An address that is taken it logs without an exception, and goes on to fail at asking itself.
    """
    said = last_words(log_tail, _LOG_PREFIX, _REPORTS)
    bind = _BIND.findall(log_tail)
    return "\n".join([*bind[-1:], said])
