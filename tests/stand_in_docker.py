"""Stands where docker's client stands: `run`, `exec`, `stop` and `rm` of programs that are in no container.

It shows what is started and ended when, and what is left; it proves nothing about docker. A container is a
file in STAND_IN_DOCKER with the session of its program. Options that it does not know are errors.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["STAND_IN_DOCKER"])
KNOWN = ("--rm", "--pull", "--name", "--network", "--pid", "--ipc", "--volume", "--cpuset-cpus", "--env",
         "--entrypoint", "--shm-size")  # fmt: skip


def options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options (the last of each, variables under their own names), and the words after them."""
    found: dict[str, str] = {}
    while words and words[0].startswith("-"):
        name, _, value = words.pop(0).partition("=")
        if name not in KNOWN:
            sys.exit(f"unknown flag: {name}")
        if name == "--env":
            found[value] = os.environ[value]
        else:
            found[name] = value
    return found, words


def program(given: dict[str, str], argv: list[str]) -> subprocess.Popen[bytes]:
    """A program with its variables and nothing of ours, in a session of its own."""
    env = {"PATH": os.environ["PATH"], **{name: value for name, value in given.items() if name[0] != "-"}}
    return subprocess.Popen(argv, env=env, start_new_session=True)


def end(name: str) -> None:
    """End a container."""
    record = FOLDER / name
    if record.exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(record.read_text()), signal.SIGKILL)
        record.unlink()


def main(words: list[str]) -> int:
    """Do what is asked."""
    what = words.pop(0)
    if what in {"stop", "rm"}:
        end(words[-1])
        return 0
    given, rest = options(words)
    if what == "exec":
        if not (FOLDER / rest[0]).exists():
            sys.exit(f"Error response from daemon: No such container: {rest[0]}")
        return program(given, rest[1:]).wait()
    child = program(given, [given["--entrypoint"], *rest[1:]])
    (FOLDER / given.get("--name", f"unnamed-{time.time_ns()}")).write_text(str(child.pid))
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
