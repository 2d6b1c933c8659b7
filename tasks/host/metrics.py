"""The engine's own metrics, read once a second from its /metrics page (Prometheus text) into metrics.jsonl.

    python3 -m tasks.host.metrics --out FILE --url http://127.0.0.1:8000/metrics --family vllm: [--seconds 60]

A line of the file is one page: the lines of it that are about the family, as they came; the comments that
say of which type a metric is with them, help texts, the buckets of histograms and `_created` times without.
A page that could not be had is a line too, a gap with its reason: the server goes on whatever happens here.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
from urllib.parse import urlsplit

from tasks.host import recording

EVERY_S = 1.0
ANSWER_S = 2.0  # a whole page
LARGEST_PAGE = 8 << 20
LARGEST_KEPT = 512 << 10  # as JSON this is less than the longest line that is read
PIECE = 1 << 16
OK = 200
LEFT_OUT = ("_bucket", "_created")


class Gap(Exception):
    """The page could not be had; the text says why."""


class Page:
    """One page of a server, asked for again and again over one connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.netloc, timeout=ANSWER_S)
        self.path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"

    def read(self) -> str:
        """The page as it is now. Raises Gap."""
        try:
            return self._read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            raise Gap(f"{type(error).__name__}: {error}"[:200]) from error
        except Gap:
            self.connection.close()
            raise

    def _read(self) -> str:
        end = time.monotonic() + ANSWER_S
        self.connection.request("GET", self.path, headers={"Accept": "text/plain"})
        response = self.connection.getresponse()
        if response.status != OK:
            raise Gap(f"HTTP {response.status}")
        pieces: list[bytes] = []
        size = 0
        while piece := response.read1(PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > LARGEST_PAGE:
                raise Gap(f"a page of more than {LARGEST_PAGE} bytes")
            if time.monotonic() > end:
                raise Gap(f"no whole page within {ANSWER_S:g} s")
        response.close()  # else the connection takes it for unread
        return b"".join(pieces).decode(errors="replace")


class Metrics:
    """The pages of one server, as lines of the file."""

    def __init__(self, url: str, family: str) -> None:
        self.page = Page(url)
        self.family = family

    def lines(self) -> list[str]:
        """The line of the page as it is now."""
        begin = time.monotonic_ns()
        try:
            found: dict[str, object] = {"type": "scrape", "text": kept(self.page.read(), self.family)}
        except Gap as gap:
            found = {"type": "gap", "reason": str(gap)}
        return [json.dumps({**found, "mono_ns": begin, "took_ns": time.monotonic_ns() - begin})]


def kept(page: str, family: str) -> str:
    """The lines of a page that are recorded: whole ones, up to LARGEST_KEPT bytes."""
    lines = []
    size = 0
    for line in page.splitlines():
        if _is_kept(line, family):
            size += len(line.encode()) + 1
            if size > LARGEST_KEPT:
                break
            lines.append(line)
    return "\n".join(lines)


def _is_kept(line: str, family: str) -> bool:
    if line.startswith("#"):
        words = line.split(None, 3)
        return len(words) == 4 and words[1] == "TYPE" and words[2].startswith(family)  # noqa: PLR2004  # TYPE a b
    name = line.partition("{")[0].partition(" ")[0]
    return name.startswith(family) and not name.endswith(LEFT_OUT)


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="record the engine's /metrics into a file")
    parser.add_argument("--out", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--family", required=True, help="what the names of its metrics begin with")
    parser.add_argument("--seconds", type=float, default=3600.0)
    given = parser.parse_args(argv)
    return recording.record(given.out, EVERY_S, given.seconds, Metrics(given.url, given.family).lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
