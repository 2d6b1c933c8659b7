"""The lines of a live source: a tail here or on a host over SSH, made again when it is lost."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tasks.host.tail import SILENT_S
from tasks.settings import LprismError

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
CHUNK = 1 << 16
FROM_START = "--from-start"

Record = dict[str, Any]
Read = Callable[[], bytes]  # what has come; empty at the end; LprismError after SILENT_S of silence
Tail = Callable[[list[str]], AbstractContextManager[Read]]


@contextmanager
def local_tail(words: list[str]) -> Iterator[Read]:
    """Follow what lies on this machine."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tasks.host.tail", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        start_new_session=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    out = process.stdout
    if out is None:
        raise LprismError("the tail has no output")

    def read() -> bytes:
        if not select.select([out], [], [], SILENT_S)[0]:
            raise LprismError(f"nothing was heard for {SILENT_S:.0f} s")
        return os.read(out.fileno(), CHUNK)

    try:
        yield read
    finally:
        process.communicate()


class _Place:
    """How far a tail has come: where the next one goes on, and how long to wait before it."""

    def __init__(self) -> None:
        self.offsets: dict[str, int] = {}
        self.folder: str | None = None
        self.has_begun = False
        self.wait_s = FIRST_WAIT_S

    def words(self) -> list[str]:
        """What tells the next tail; what came while the link was away is judged, too."""
        return ["--since", json.dumps(self.offsets), *([FROM_START] if self.has_begun else [])]

    def note(self, record: Record) -> list[Record]:
        """Take what a tail says; returns what else is to be said."""
        kind = record.get("type")
        if kind == "at":
            self.offsets[record["path"]] = record["offset"]
        if kind == "session" and record.get("folder") != self.folder:
            self.offsets, self.folder = {}, record.get("folder")
        if kind == "hello" and self.wait_s != FIRST_WAIT_S:
            return [{"type": "link", "text": "link is back"}]
        if kind == "beat":
            self.has_begun, self.wait_s = True, FIRST_WAIT_S
        return []


def followed(tail: Tail, words: list[str]) -> Iterator[Record]:
    """Every record of a tail, and `link` where it is lost, gone on with after a wait, and back."""
    place = _Place()
    while True:
        try:
            with tail([*words, *place.words()]) as read:
                for record in _records(read):
                    yield from place.note(record)
                    yield record
            why = "the tail ended"
        except LprismError as error:
            why = str(error)
        yield {"type": "link", "text": f"link lost ({why}): next try in {place.wait_s:.0f} s"}
        time.sleep(place.wait_s)
        place.wait_s = min(place.wait_s * 2, LONGEST_WAIT_S)


def _records(read: Read) -> Iterator[Record]:
    rest = b""
    while chunk := read():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            try:
                record = json.loads(line)
            except ValueError:
                record = {"type": "damaged"}
            yield record if isinstance(record, dict) else {"type": "damaged"}
