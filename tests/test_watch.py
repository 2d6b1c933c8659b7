"""A watch on a probe's file: alarms, incidents that open and close, and what is said when nothing fits."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.lake_runs import is_run_id
from tasks.prefect_server import NOTE
from tasks.remote import Address, supervise, tail
from tasks.sentinel.evaluate import CHAMPION
from tasks.sentinel.features import TARGET, key_of
from tasks.sentinel.model import fit
from tasks.sentinel.registry import Registered
from tasks.watch import Event, Live, Watch, follow
from tasks.watch_lines import FROM_START, followed, local_tail
from tests.test_sentinel import CONFIGURATION, sessions

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
def receiver() -> Iterator[tuple[str, list[Any]]]:
    """A web address that takes events."""
    came: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

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
        records = followed(local_tail, ["--path", str(file), FROM_START])
        follow(records, Live(models, watch, model, 5.0), WAIT_S)
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


def test_what_a_file_holds_already_sounds_no_alarm(
    tmp_path: Path, models: list[Registered], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow stretch of before is passed over, and said to be; a half line and what comes then are judged."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    file = tmp_path / "batches-7.jsonl"
    old, new = steps(300, range(100, 200)), steps(330, range(0))[301:]
    file.write_text("\n".join([*old, new[0][:20]]))
    said: list[Event] = []

    def tell(event: Event) -> None:
        said.append(event)
        if "passed over" in event.get("text", ""):
            with file.open("a") as more:
                more.write("\n".join([new[0][20:], *new[1:], "no record", ""]))
        if "cannot be read" in event.get("text", ""):
            raise KeyboardInterrupt

    watch = Watch(tmp_path, str(file), tell)
    with pytest.raises(KeyboardInterrupt):
        follow(followed(local_tail, ["--path", str(file)]), Live(models, watch, "m0", None), WAIT_S)
    watch.close()
    counts = {name: said[-1][name] for name in ("batches", "alarms", "damaged")}
    assert counts == {"batches": 30, "alarms": 0, "damaged": 1}


def link_of(sessions: Path) -> int:
    """The process of sshd that a tail of these sessions hangs on."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"tasks.host.tail" in words and str(sessions).encode() in words:
                return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    raise AssertionError("nobody follows")


def test_a_host_is_watched_across_a_cut_link(
    sshd: Address, tmp_path: Path, models: list[Registered], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over OpenSSH: the server's configuration is known; cut in an incident, no batch is lost or doubled."""
    said: list[Event] = []
    lines = steps(400, range(200, 260))
    with receiver() as (url, came), supervise(sshd, "watched") as host:
        monkeypatch.delenv("PREFECT_API_URL", raising=False)
        (tmp_path / "prefect").mkdir()
        (tmp_path / "prefect" / NOTE).write_text(url)
        run = host.ask("run_folder", run_id="r0123456789")
        host.doing = {"run_id": "r0123456789", "engine_key": CONFIGURATION[0], "workload": "in32_out64_conc4"}
        host.ask("record", run_folder=run)
        file = Path(run, "batches-7.jsonl")
        file.write_text("\n".join([*lines[:242], ""]))

        def tell(event: Event) -> None:
            said.append(event)
            if event["type"] == "incident_opened":
                os.kill(link_of(Path(host.folder).parent), signal.SIGKILL)
                with file.open("a") as more:
                    more.write("\n".join([*lines[242:], ""]))
            if event["type"] == "incident_closed":
                raise KeyboardInterrupt

        watch = Watch(tmp_path, "far", tell)
        records = followed(lambda words: tail(sshd, words), [FROM_START])
        with pytest.raises(KeyboardInterrupt):
            follow(records, Live(models, watch, "m0", 5.0), WAIT_S)
        host.ask("record", run_folder="")
        watch.close()
    told = [event for event in said if event["type"] not in ("alarm", "out_of_domain")]
    kinds = ["session", "model", "incident_opened", "link", "link", "incident_closed", "summary"]
    assert [event["type"] for event in told] == kinds
    assert told[1]["text"] == "judged by m0"
    assert (told[5]["how"], json.loads(told[5]["workloads"])) == ("over", ["in32_out64_conc4"])
    assert told[5]["first_batch_index"] <= 210
    assert told[5]["last_batch_index"] >= 259
    assert (told[6]["damaged"], told[6]["incidents"]) == (0, 1)
    alarms = [event["batch_index"] for event in said if event["type"] == "alarm"]
    assert alarms == list(range(alarms[0], alarms[0] + len(alarms)))
    assert [one["event"] for batch in came for one in batch if "incident" in one["event"]] == [
        "latencyprism.incident.opened",
        "latencyprism.incident.closed",
    ]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("vllm_probe", "judged by m0"),
        ("sglang_probe", "judged by m1"),
        ("other", "batches of other are"),
    ],
)
def test_a_model_of_another_engine_judges_nothing(
    source: str, text: str, tmp_path: Path, models: list[Registered], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two champions that may fit the one of the source's engine is taken; a source of none is said."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    said: list[Event] = []
    watch = Watch(tmp_path, "t", said.append)
    live = Live([*models, replace(models[0], model_id="m1", engine="sglang")], watch, None, None)
    for line in steps(3, range(0)):
        live.take(json.loads(line.replace("vllm_probe", source)))
    watch.close()
    assert said[0]["text"].startswith(text)


@pytest.mark.parametrize(
    ("name", "is_one"), [("r0123456789", True), ("rackserver1", False), ("r01234567890", False)]
)
def test_a_host_whose_name_is_as_long_is_no_run(name: str, *, is_one: bool) -> None:
    """A run_id is r and ten hex digits."""
    assert is_run_id(name) is is_one
