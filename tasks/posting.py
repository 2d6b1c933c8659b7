"""Events to a web address, beside the work: bounded, counted, never in its way.

The events of LatencyPrism by their names in Prefect; their resource is latencyprism.watch.<target> of a
watch, latencyprism.run.<run_id> of a flow:

- latencyprism.incident.opened, .closed (watch): alarms have become an incident; it is over, with its figures
- latencyprism.incident.diagnosed (flows): a stored run has incidents; with the cause that was named
- latencyprism.injection.failed (flows): a fault was not proved, or not undone
- latencyprism.drift, .out_of_domain (watch): the model no longer fits; it knows no batches like these
- latencyprism.link (watch): the host was lost, or is back
"""

import contextlib
import json
import queue
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from tasks.settings import SpecError

ANSWER_S = 5.0
MOST_WAITING = 100
END_S = 6.0

INCIDENT_DIAGNOSED = "latencyprism.incident.diagnosed"
INJECTION_FAILED = "latencyprism.injection.failed"
# What a watch posts, by its type.
POSTED = {
    "incident_opened": "latencyprism.incident.opened",
    "incident_closed": "latencyprism.incident.closed",
    "drift": "latencyprism.drift",
    "out_of_domain": "latencyprism.out_of_domain",
    "link": "latencyprism.link",
}

Event = dict[str, Any]


def for_prefect(event: Event) -> list[Event]:
    """An event of a watch, of a type in POSTED, as Prefect's API takes it (POST /events)."""
    return [{
        "id": str(uuid4()), "event": POSTED[event["type"]],
        "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(event["told_ns"] / 1e9)),
        "resource": {"prefect.resource.id": f"latencyprism.watch.{event['target']}"}, "payload": event,
    }]  # fmt: skip


class Poster:
    """POSTs JSON to one address from a thread of its own; what fails, or finds no room, is counted."""

    def __init__(self, url: str, body: Callable[[Event], object] = dict) -> None:
        """Take an address, and what is made of an event. Raises SpecError when it is no web address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SpecError("--webhook needs an address such as https://host/path")
        self.host = parts.hostname  # the rest of it may be a secret
        self.failed = self.sent = 0
        self.why = ""
        self._url, self._body = url, body
        self._waiting: queue.Queue[Event | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._loop, daemon=True, name="poster")
        self._thread.start()

    def post(self, event: Event) -> None:
        """Take an event."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self.failed += 1
            self.why = f"{MOST_WAITING} events wait already"

    def close(self) -> None:
        """Wait a little for what is on its way."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(END_S)

    def _loop(self) -> None:
        while (event := self._waiting.get()) is not None:
            data = json.dumps(self._body(event)).encode()
            head = {"Content-Type": "application/json"}
            try:
                request = urllib.request.Request(self._url, data, head, method="POST")  # noqa: S310 - checked
                with urllib.request.urlopen(request, timeout=ANSWER_S):  # noqa: S310 - http or https alone
                    self.sent += 1
            except (OSError, ValueError) as error:
                self.failed += 1
                self.why = str(error)[:200]
