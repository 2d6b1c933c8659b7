"""A watch on a probe's file: alarms, incidents that open and close, and what is said when nothing fits."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tasks.sentinel.evaluate import CHAMPION
from tasks.sentinel.features import TARGET, key_of
from tasks.sentinel.model import fit
from tasks.sentinel.registry import Registered
from tasks.watch import Event, Live, Watch, follow
from tasks.watch_lines import followed, local_tail
from tests.test_sentinel import sessions

WAIT_S = 60.0


def steps(count: int, slow: range) -> list[str]:
    """The probe's lines: decode steps of four requests of 15 ms."""
    lines = [json.dumps({"type": "clock", "pid": 7, "realtime_ns": 10**18, "monotonic_ns": 0})]
    for index in range(count):
        start = index * 60_000_000
        lasts = 15_000_000 * (3 if index in slow else 1)
        lines.append(json.dumps({
            "type": "batch", "source": "vllm_probe", "pid": 7, "rank": 0, "start_mono_ns": start,
            "end_mono_ns": start + lasts, "requests": [[32, 33, 1, 2]] * 4, "admitted": 0, "finished": 0,
            "preempted": 0, "prefix_hit_tokens": 0,
        }))  # fmt: skip
    return lines


@pytest.fixture(scope="module")
def models() -> list[Registered]:
    """A champion of made-up sessions."""
    frame = sessions(2)
    return [Registered("m0", CHAMPION, "vllm", key_of(frame), fit(frame, 7, target=TARGET), 0.3)]


@contextmanager
def receiver() -> Iterator[tuple[str, list[Event]]]:
    """A web address that takes events."""
    came: list[Event] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", came
    server.shutdown()
    server.server_close()


def watched(
    home: Path,
    file: Path,
    models: list[Registered],
    until: str,
    webhook: str | None = None,
    model: str = "m0",
) -> list[Event]:
    """Events of a watch on a file, which ends after the first event of type `until`."""
    said: list[Event] = []

    def tell(event: Event) -> None:
        said.append(event)
        if event["type"] == until:
            raise KeyboardInterrupt

    watch = Watch(home, str(file), tell, webhook)
    with pytest.raises(KeyboardInterrupt):
        follow(followed(local_tail, ["--path", str(file)]), Live(models, watch, model, 5.0), WAIT_S)
    watch.close()
    written = [json.loads(line) for line in watch.written.path.read_text().splitlines()]
    assert written == said
    return said


def test_a_slow_stretch_is_said_written_and_posted(
    tmp_path: Path, models: list[Registered], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alarms within ten batches, one incident with its severity by the objective, and the webhook has it."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    file = tmp_path / "batches-7.jsonl"
    file.write_text("\n".join([*steps(400, range(200, 260)), "no record", ""]))
    with receiver() as (url, came):
        said = watched(tmp_path, file, models, "incident_closed", url)
    first = next(event for event in said if event["type"] == "alarm")
    (opened,) = [event for event in said if event["type"] == "incident_opened"]
    (closed,) = [event for event in said if event["type"] == "incident_closed"]
    assert 200 <= first["batch_index"] < 210
    assert opened["first_batch_index"] == first["batch_index"]
    assert (closed["how"], closed["severity"]) == ("over", "critical")
    assert [event["type"] for event in came if event["type"] != "out_of_domain"] == [
        "incident_opened",
        "incident_closed",
    ]
    assert said[-1]["type"] == "summary"


def test_what_does_not_fit_is_said_and_not_judged(
    tmp_path: Path, models: list[Registered], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is not there gives a sentence and no number."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    file = tmp_path / "batches-7.jsonl"
    file.write_text("\n".join([*steps(20, range(0)), ""]))
    said = watched(tmp_path, file, models, "no_model", model="another")
    assert not [event for event in said if event["type"] == "alarm"]
