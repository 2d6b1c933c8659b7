"""A program in a container, as long as this one lives: docker's client can die and leave it running.

    python3 -m tasks.host.container '{"before": [[...]], "start": [...], "end": [...]}'

SIGTERM, SIGHUP and SIGINT end it by the command `end`, which is carried out even if we are killed. Variables
that begin with LPRISM_IN_ are for the container, without that. Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

GIVEN = "LPRISM_IN_"
BEFORE_S = 10.0
END_S = 30.0  # whoever ends us is less patient
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def environment(ours: dict[str, str]) -> dict[str, str]:
    """Docker's own environment, with the variables that are for the container."""
    plain = {name: value for name, value in ours.items() if not name.startswith(GIVEN)}
    given = {name[len(GIVEN) :]: value for name, value in ours.items() if name.startswith(GIVEN)}
    return {**plain, **given}


def run(asked: dict[str, Any]) -> int:
    """Run it to its end, or until told to end; returns docker's exit code."""
    for words in asked["before"]:
        _try(words)
    signal.pthread_sigmask(signal.SIG_BLOCK, {*STOP, signal.SIGCHLD})
    try:
        # In a session of its own: what ends ours is for us, and docker's client ends when the program has.
        child = subprocess.Popen(
            asked["start"], stdin=subprocess.DEVNULL, env=environment(dict(os.environ)), preexec_fn=_open,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        sys.stderr.write(f"{asked['start'][0]}: {error.strerror}\n")
        return os.EX_UNAVAILABLE
    while child.poll() is None:
        if signal.sigwait({*STOP, signal.SIGCHLD}) != signal.SIGCHLD:
            _end(child, asked["end"])
            break
    return child.wait()


def _end(child: subprocess.Popen[bytes], words: list[str]) -> None:
    """Run what ends it, in a session of its own; docker's client is the last."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=_open,
        ).wait(END_S)  # fmt: skip
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(1.0)
    if child.poll() is None:
        child.kill()


def _open() -> None:
    """What docker starts with: no signal is held back."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _try(words: list[str]) -> None:
    """Run a command that may have nothing to do."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=BEFORE_S, check=False)


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
