"""A server that runs on this host without us: what it says of itself, and which process it is.

    python3 -m tasks.host.listener URL METRIC VERSION_PATH...

prints one object: `version` (the first path that tells one), `models` that it serves, `generated`, the sum of
the metric, its `pid` and process `session`; what cannot be had is null, and `why` tells of the process.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from tasks.host import ports, processes

ANSWER_S = 2.0
LARGEST = 8 << 20


def page(url: str) -> str | None:
    """A page of the server; None unless it answers 200 in time."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_S) as answer:
            text: str = answer.read(LARGEST).decode(errors="replace")
            return text if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException, ValueError):
        return None


def document(url: str) -> dict[str, Any]:
    """A page that is a JSON object; empty where there is none."""
    try:
        found = json.loads(page(url) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def total(text: str, metric: str) -> float | None:
    """The sum of a metric over its labels on a page of metrics; None where it is not told."""
    lines = (
        line.rpartition(" ") for line in text.splitlines() if line.startswith((f"{metric}{{", f"{metric} "))
    )
    values = []
    for _, _, value in lines:
        try:
            values.append(float(value))
        except ValueError:
            continue
    return sum(values) if values else None


def process(url: str) -> dict[str, Any]:
    """The pid and the session of who listens there, on this host; `why` not, where it cannot be told."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not _is_here(parts.hostname or ""):
        return {"pid": None, "session": None, "why": f"{parts.hostname} is not this host"}
    pid = ports.listener(port)
    if pid is None:
        return {"pid": None, "session": None, "why": "whose it is, its own user or root can see alone"}
    fields = processes.stat_fields(pid)
    session = int(fields[3]) if fields else 0
    if session in (0, os.getsid(0)):
        return {"pid": pid, "session": None, "why": f"pid {pid} has no process session of its own"}
    return {"pid": pid, "session": session, "why": None}


def _is_here(name: str) -> bool:
    """Whether a name is this host's: an address that can be bound to."""
    try:
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
        except OSError:
            continue
        return True
    return False


def look(url: str, metric: str, version_paths: list[str]) -> dict[str, Any]:
    """All of it."""
    versions = (document(url + path).get("version") for path in version_paths)
    models = document(f"{url}/v1/models").get("data")
    named = [one.get("id") for one in models if isinstance(one, dict)] if isinstance(models, list) else []
    return {
        "version": next((said for said in versions if isinstance(said, str)), None), "models": named,
        "generated": total(page(f"{url}/metrics") or "", metric), **process(url),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1], sys.argv[2], sys.argv[3:])))
