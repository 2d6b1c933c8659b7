"""What a server's batches are, as they come: the probe's files of the run that is recorded now, or a log.

    python3 -m tasks.host.tail SESSIONS                 the run that has this host now (its lease says which)
    python3 -m tasks.host.tail --path FOLDER_OR_FILE    batches-PID.jsonl in a folder, a file, vLLM's log

prints JSON lines: `hello`; `session` with its folder and what is done there, or null while there is none;
`at` with the file and the place in it from where the lines of the files follow, as they are (of a log the
iterations alone, as follow.py tells them); a `beat` every 2 s. What was there before is passed over, but for
what --from-start or --since '{"FILE": OFFSET}' asks for: then also of files that came while nobody looked.
It ends with its standard input or output. Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from tasks.host import clock, facts, follow, lease, readings

EVERY_S = 0.005
LOOK_EVERY_S = 0.25  # for new files and runs; the probe writes no oftener
BEAT_EVERY_S = 2.0
SILENT_S = 15.0  # who hears nothing for so long has lost it
MOST_BYTES = 1 << 20  # of one look; the rest comes with the next
LARGEST = 64 << 20  # what is longer when it is first seen is followed from its end
RECORDS = "batches-*.jsonl"
DOING_S = 6.0  # by then a lease says what is done in the folder of a run that has just begun
PASSED_OVER = "what it holds already is passed over"


class File:
    """One file that grows."""

    def __init__(self, path: str, offset: int | None, *, from_start: bool = True) -> None:
        self.path = path
        self.rest = b""
        self.is_log = not path.endswith(".jsonl")
        self.file = os.open(path, os.O_RDONLY)
        size = os.fstat(self.file).st_size
        self.skipped = 0
        if offset is None or offset > size:
            is_whole = from_start and not self.is_log and size <= LARGEST
            offset = self.skipped = 0 if is_whole else self._last_line(size)
        self.offset = offset

    def lines(self) -> list[bytes]:
        """Whole lines since the last look; `offset` is where the next one begins."""
        piece = os.pread(self.file, MOST_BYTES, self.offset + len(self.rest))
        if not piece:
            self._follow_turned()
            return []
        *whole, self.rest = (self.rest + piece).split(b"\n")
        self.offset += sum(map(len, whole)) + len(whole)
        if len(self.rest) > MOST_BYTES:
            self.offset, self.rest = self.offset + len(self.rest), b""
        if not self.is_log:
            return whole
        return [line.encode() for line in follow.told_of(whole, time.monotonic_ns())]

    def _last_line(self, size: int) -> int:
        """Where the line begins that is not whole yet."""
        begin = max(size - MOST_BYTES, 0)
        return begin + os.pread(self.file, size - begin, begin).rfind(b"\n") + 1

    def _follow_turned(self) -> None:
        """Begin again where the file was emptied, or another one has its name."""
        try:
            begun = follow.turned(self.file, self.path, self.offset + len(self.rest))
        except OSError:
            return  # between its old name and its new one
        if begun is not None:
            self.file, self.offset, self.rest = begun, 0, b""

    def close(self) -> None:
        """Close it."""
        os.close(self.file)


class Tail:
    """All files of the session that is there now."""

    def __init__(self, sessions: str, path: str, since: dict[str, int], *, from_start: bool) -> None:
        self.sessions, self.path, self.since = sessions, path, since
        self.from_start = from_start
        self.files: dict[str, File] = {}
        self.folder: str | None = None
        self.is_told = False
        self.awaited: tuple[str | None, float] = (None, 0.0)
        self.look_due = self.beat_due = 0.0

    def turn(self) -> list[bytes]:
        """What there is to say now."""
        said: list[bytes] = []
        now = time.monotonic()
        if now >= self.look_due:
            said += self._look()
            self.look_due = now + LOOK_EVERY_S
        for file in self.files.values():
            at = file.offset
            if lines := file.lines():
                said += [_line("at", path=file.path, offset=at), *lines]
                said.append(_line("at", path=file.path, offset=file.offset))
        if now >= self.beat_due:
            said.append(_line("beat"))
            self.beat_due = now + BEAT_EVERY_S
        return said

    def _look(self) -> list[bytes]:
        folder, doing = (self.path, None) if self.path else recorded_now(self.sessions)
        said = []
        if folder != self.folder or not self.is_told:
            if not self.path and folder and self._awaits(folder, doing):
                return []
            said += [*self._rest(), _line("session", folder=folder, doing=doing)]
            self.folder, self.is_told = folder, True
        for path in files_of(folder):
            if path not in self.files:
                try:
                    file = File(path, self.since.pop(path, None), from_start=self.from_start)
                except OSError as error:
                    said.append(_line("note", text=f"{path}: {error.strerror}"))
                    continue
                self.files[path] = file
                said.append(_line("at", path=path, offset=file.offset))
                if file.offset:
                    said.append(_line("clock", **clock.pair()))
                if file.skipped and not file.is_log:
                    said.append(_line("note", text=f"{path}: {PASSED_OVER}"))
        self.from_start = True  # what comes from now on is new
        return said

    def _awaits(self, folder: str, doing: Any) -> bool:
        """Whether the lease is still to say what is done there: its holder does so every few seconds."""
        if self.awaited[0] != folder:
            self.awaited = (folder, time.monotonic() + DOING_S)
        is_said = (doing or {}).get("run_id") == os.path.basename(folder)
        return not is_said and time.monotonic() < self.awaited[1]

    def _rest(self) -> list[bytes]:
        """The last lines of the session that was there."""
        lines = [line for file in self.files.values() for line in file.lines()]
        for file in self.files.values():
            file.close()
        self.files.clear()
        return lines


def recorded_now(sessions: str) -> tuple[str | None, Any]:
    """The folder of the run that the probe writes to now, and what its orchestrator says that it does."""
    holder = lease.now(Path(sessions))
    if holder is None:
        return None, None
    try:
        target = Path(sessions, holder["session"], "probe_target").read_text().strip()
    except OSError:
        target = ""
    return target or None, holder.get("doing")


def files_of(folder: str | None) -> list[str]:
    """The files to follow there; a file is itself."""
    if not folder:
        return []
    return (
        sorted(glob.glob(os.path.join(glob.escape(folder), RECORDS))) if os.path.isdir(folder) else [folder]
    )


def _line(kind: str, **content: Any) -> bytes:
    return json.dumps({"type": kind, **content}).encode()


def _write(lines: list[bytes]) -> None:
    left = b"".join(line + b"\n" for line in lines)
    while left:
        left = left[os.write(1, left) :]


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="follow a server's batches")
    parser.add_argument("sessions", nargs="?", default="")
    parser.add_argument("--path", default="")
    parser.add_argument("--since", default="{}")
    parser.add_argument("--from-start", action="store_true")
    given = parser.parse_args(argv)
    if given.path and not os.path.exists(given.path):
        sys.stderr.write(f"{given.path}: there is no such file or folder\n")
        return os.EX_NOINPUT
    path, since = os.path.abspath(given.path) if given.path else "", json.loads(given.since)
    tail = Tail(given.sessions, path, since, from_start=given.from_start)
    try:
        _write([_line("hello", cpu_model=facts.cpu_model(readings.text("/proc/cpuinfo")), **clock.pair())])
        clock_due = time.monotonic() + BEAT_EVERY_S
        while not select.select([0], [], [], EVERY_S)[0] or os.read(0, 4096):
            said = tail.turn()
            if said and any(file.is_log for file in tail.files.values()) and time.monotonic() >= clock_due:
                said.insert(0, _line("clock", **clock.pair()))
                clock_due = time.monotonic() + BEAT_EVERY_S
            _write(said)
    except (BrokenPipeError, KeyboardInterrupt):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
