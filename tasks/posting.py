"""Events to a web address, beside the work: bounded, counted, never in its way."""

import contextlib
import json
import queue
import threading
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tasks.settings import SpecError

ANSWER_S = 5.0
MOST_WAITING = 100
END_S = 6.0

Event = dict[str, Any]


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
