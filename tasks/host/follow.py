"""A server's log as it grows: the iterations that vLLM logs, each with the time at which its line was seen.

    python3 -m tasks.host.follow --out FILE --log /var/log/vllm.log [--seconds 60]

The weakest source of batches, for a server that somebody else runs: the front end prints a line after the
step, and late when it is starved. A line that begins as an iteration's and cannot be read is kept as it is.
It goes on until SIGTERM, also when the log is turned over. Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from decimal import Decimal
from typing import TYPE_CHECKING

from tasks.host import recording

if TYPE_CHECKING:
    from collections.abc import Iterable

EVERY_S = 0.005
MOST_BYTES = 4 << 20  # of one look; the rest comes with the next
LONGEST = 2000
_IS_ITERATION = re.compile(r"(?:^|[^A-Za-z0-9_])Iteration\(\d*(?:\)|$)")
_ITERATION = re.compile(
    r"(?:Engine (?P<rank>\d{1,9}): )?Iteration\((?P<iteration>\d{1,18})\): "
    r"(?P<context_requests>\d{1,9}) context requests, (?P<context_tokens>\d{1,9}) context tokens, "
    r"(?P<generation_requests>\d{1,9}) generation requests, "
    r"(?P<generation_tokens>\d{1,9}) generation tokens, "
    r"iteration elapsed time: (?P<elapsed_ms>\d{1,12}(?:\.\d{1,9})?) ms\b"
)


class Log:
    """The end of a log from now on. Raises OSError when it cannot be opened."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rest = b""
        self.file = os.open(path, os.O_RDONLY)
        self.at = os.lseek(self.file, 0, os.SEEK_END)

    def lines(self) -> list[str]:
        """What has come since the last look, as lines of the file."""
        piece = self._piece()
        if not piece:
            return []
        *whole, self.rest = (self.rest + piece).split(b"\n")
        self.rest = self.rest[-LONGEST:]
        return told_of(whole, time.monotonic_ns())

    def _piece(self) -> bytes:
        try:
            piece = os.pread(self.file, MOST_BYTES, self.at)
            if not piece and (begun := turned(self.file, self.path, self.at)) is not None:
                self.file, self.at, self.rest = begun, 0, b""
                piece = os.pread(self.file, MOST_BYTES, self.at)
        except OSError:
            return b""  # between its old name and its new one
        self.at += len(piece)
        return piece


def turned(file: int, path: str, at: int) -> int | None:
    """The file to read from its beginning: another one that has the name now, or the same one, emptied.

    None where it goes on from `at`. Raises OSError where the name has no file that can be read: try again.
    """
    mine, named = os.fstat(file), os.stat(path)
    if (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino):
        return file if named.st_size < at else None
    other = os.open(path, os.O_RDONLY)
    os.close(file)
    return other


def told_of(lines: Iterable[bytes], now: int) -> list[str]:
    """The lines of the file for those of a log that begin as an iteration's, all seen at `now` (ns)."""
    said = (line.decode(errors="replace") for line in lines if b"Iteration(" in line)
    return [json.dumps(told(line, now)) for line in said if is_iteration(line)]


def is_iteration(line: str) -> bool:
    """Whether a line begins as an iteration's, readable or not."""
    return _IS_ITERATION.search(line) is not None


def told(line: str, now: int) -> dict[str, object]:
    """The line of the file for one of the log: an iteration's numbers, or the text that has none."""
    found = _ITERATION.search(line)
    if not found:
        return {"type": "damaged", "mono_ns": now, "text": line[:LONGEST]}
    parts = found.groupdict()
    elapsed_ns = int(Decimal(parts.pop("elapsed_ms")) * 1_000_000)
    numbers = {name: int(text or 0) for name, text in parts.items()}
    return {"type": "iteration", "mono_ns": now, "elapsed_ns": elapsed_ns, **numbers}


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="record the iterations in a server's log into a file")
    parser.add_argument("--out", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--seconds", type=float, default=3600.0)
    given = parser.parse_args(argv)
    try:
        log = Log(given.log)
    except OSError as error:
        sys.stderr.write(f"{given.log}: {error.strerror}\n")
        return os.EX_NOINPUT
    return recording.record(given.out, EVERY_S, given.seconds, log.lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
