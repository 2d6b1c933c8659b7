"""What is known of each serving engine: pure functions from arguments to command lines and back.

A module an engine, all with the functions of `Adapter`; here is what holds for every one of them.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Protocol, TypeAlias, cast

from tasks.settings import SpecError

ArgumentValue: TypeAlias = bool | int | float | str | Mapping[str, object] | Sequence[object] | None

_FLAG_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-.][a-z0-9]+)*")
_EXCEPTION = re.compile(r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit): \S")
_NEVER = re.compile(r"(?!)")
_FAILURE_LINES = 15
_NEWEST = (1 << 31,)


class Adapter(Protocol):
    """An engine: its command lines, environment, readiness, profiler and last words.

    `TESTED` are the versions that were run. What each function does with its engine is told there. A version
    that is not told is taken for the newest one that is known.
    """

    KIND: str
    TESTED: tuple[str, ...]
    READY_PATH: str
    VERSION_PATHS: tuple[str, ...]
    GENERATED: str

    def serve_command(
        self, python: str | PurePosixPath, model: str, host: str, port: int, args: Mapping[str, ArgumentValue]
    ) -> list[str]:
        """Build the server's command line."""

    def serve_environment(self, *, cpu: bool, threads: int = 1, offline: bool = True) -> dict[str, str]:
        """Build the variables that the server needs on top of the host's own."""

    def client_environment(self, *, offline: bool = True) -> dict[str, str]:
        """Build the variables of the load client."""

    def bench_command(
        self,
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
        """Build the load client's command line, as the client's version has it."""

    def version_command(self, python: str | PurePosixPath) -> list[str]:
        """Build a command that prints the engine's version."""

    def ranks(self, args: Mapping[str, ArgumentValue]) -> int:
        """How many workers a server with these arguments has; each writes a trace of its own."""

    def profile_flags(
        self, folder: str, version: str, *, iterations: int = 0, stack: bool = False
    ) -> dict[str, ArgumentValue]:
        """Build the arguments of a server that can be profiled, so many iterations at a time (0: any)."""

    def profile_environment(self, folder: str, version: str, *, stack: bool = False) -> dict[str, str]:
        """Build the variables of a server that can be profiled."""

    def profile_start(
        self, folder: str, iterations: int, *, stack: bool = False
    ) -> tuple[str, dict[str, object]]:
        """Path and JSON body of the POST that starts a capture."""

    def profile_stop(self) -> tuple[str, None]:
        """Path and body of the POST that ends a capture."""

    def server_failure(self, log_tail: str) -> str:
        """Pick what a dead server said last, its cause first."""


def adapter(kind: str) -> Adapter:
    """The module of an engine kind, which the spec has checked."""
    return cast("Adapter", importlib.import_module(f"tasks.engines.{kind}"))


def is_tested(kind: str, version: str) -> bool:
    """Whether this version of an engine was run with us; `+cpu` and the like make no difference."""
    return version.partition("+")[0] in adapter(kind).TESTED


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, (0, 7, 3) of `0.7.3.post1+cpu`, to compare; of no version above all."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else _NEWEST


def parallel(args: Mapping[str, ArgumentValue], *names: str) -> int:
    """The size that is given by any of a flag's names; 1 where none is."""
    sizes = (str(args[name]) for name in names if name in args)
    return next((int(size) for size in sizes if size.isdecimal()), 1)


def engine_key(kind: str, version: str, args: Mapping[str, ArgumentValue]) -> str:
    """Hash what makes two servers comparable (engine, version, arguments in any order) to 16 hex digits."""
    text = json.dumps([kind, version, dict(args)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_flag(name: str, program: str, ours: Container[str]) -> None:
    """Refuse what is no flag name as in `program`, and what the campaign sets itself. Raises SpecError."""
    if not _FLAG_NAME.fullmatch(name):
        message = f"engine argument {name!r} is not a flag name: write it as in `{program}`, without the --"
        raise SpecError(message)
    if name in ours:
        message = f"engine argument {name!r} is set by the campaign itself: leave it out of `args`"
        raise SpecError(message)


def denied(name: str) -> str:
    """The flag that denies `--name`. Raises SpecError for one that denies already."""
    if name.startswith("no-"):
        positive = name.removeprefix("no-")
        raise SpecError(f"engine argument '{name}: false' denies twice: write '{positive}: true'")
    return f"--no-{name}"


def last_words(log_tail: str, prefix: re.Pattern[str] = _NEVER, reports: re.Pattern[str] = _NEVER) -> str:
    """Pick what a dead program said last: its last exception first, then the last 15 lines of the log.

    `prefix` is what a log line may begin with. An exception that matches `reports` only tells that there was
    another, and is picked when there is no other.
    """
    lines = [line.rstrip() for line in log_tail.splitlines() if line.strip()]
    if not lines:
        return "(the server's log is empty)"
    exceptions = [text for line in lines if _EXCEPTION.match(text := prefix.sub("", line).strip())]
    causes = [text for text in exceptions if not reports.search(text)] or exceptions
    return "\n".join([*causes[-1:], *lines[-_FAILURE_LINES:]])
