"""Stands where a vLLM server of somebody else's stands: its pages, and a log with an iteration every 10 ms.

    stand_in_server.py PORT LOG

It is no engine and measures nothing; a real one is attached by `python -m tests.try_attached`.
"""

import http.server
import itertools
import json
import sys
import threading
import time
from pathlib import Path

ASKED = itertools.count(1)
LINE = (
    "INFO 11-22 09:01:17 [loggers.py:199] Engine 000: Iteration({}): 0 context requests, 0 context tokens, "
    "2 generation requests, 2 generation tokens, iteration elapsed time: 10.00 ms, CPU KV cache usage: 0.2%\n"
)


class Pages(http.server.BaseHTTPRequestHandler):
    """Health, version, models and metrics, as vLLM has them."""

    def do_GET(self) -> None:
        """Answer."""
        pages = {
            "/health": "",
            "/version": json.dumps({"version": "0.32.0+stand-in"}),
            "/v1/models": json.dumps({"data": [{"id": "m"}]}),
        }
        page = pages.get(self.path)
        if self.path == "/metrics":
            page = f'vllm:generation_tokens_total{{engine="0"}} {2.0 * next(ASKED)}\n'
        self.send_response(404 if page is None else 200)
        self.end_headers()
        self.wfile.write((page or "").encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def write_log(path: str) -> None:
    """Log an iteration every 10 ms."""
    with Path(path).open("a", encoding="utf-8", buffering=1) as log:
        for number in itertools.count():
            time.sleep(0.01)
            log.write(LINE.format(number))


if __name__ == "__main__":
    threading.Thread(target=write_log, args=(sys.argv[2],), daemon=True).start()
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Pages).serve_forever()
