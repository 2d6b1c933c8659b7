"""The engine's own metrics: a page from a real server in, its lines out; and those lines as rows."""

import http.server
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.host import metrics
from tasks.host.metrics import Metrics, kept
from tasks.lake_tables import lake_connection
from tasks.settings import LprismError
from tasks.traces import bundle as bundles
from tasks.traces.bundle import ingest_bundle
from tasks.warehouse import execute
from tests.tree import ROOT
from tests.warehouse_cases import CAMPAIGN, MS, OFFSET, at, clock, good_bundle, jsonl, write_bundle

PAGE = """\
# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 6143.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 1.5e+06
# TYPE vllm:prefix_cache_hits_created gauge
vllm:prefix_cache_hits_created{engine="0",model_name="tiny"} 1.79540041e+09
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_sum{model_name="tiny"} 17.25
vllm:e2e_request_latency_seconds_bucket{le="0.3",model_name="tiny"} 4.0
vllm:e2e_request_latency_seconds_count{model_name="tiny"} 12.0
vllm:estimated_flops NaN 1795400410000
"""
KEPT = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 1.5e+06
# TYPE vllm:prefix_cache_hits_created gauge
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_sum{model_name="tiny"} 17.25
vllm:e2e_request_latency_seconds_count{model_name="tiny"} 12.0
vllm:estimated_flops NaN 1795400410000"""


class Server(http.server.ThreadingHTTPServer):
    """Answers with `status` and `body`, after `stall_s`."""

    daemon_threads = True
    status, body, stall_s, is_chunked = 200, PAGE.encode(), 0.0, False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.clients: set[object] = set()

    def handle_error(self, *_: object) -> None:
        """A client that went is none."""


class Answer(http.server.BaseHTTPRequestHandler):
    """Gives the server's page."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer."""
        time.sleep(self.server.stall_s)
        self.send_response(self.server.status)
        self.server.clients.add(self.client_address)
        body = self.server.body
        if self.server.is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def page() -> Iterator[Callable[[str], Metrics]]:
    """Pages whose connections are closed after."""
    made: list[Metrics] = []

    def made_of(url: str) -> Metrics:
        made.append(Metrics(url, "vllm:"))
        return made[-1]

    yield made_of
    for one in made:
        one.page.connection.close()


@contextmanager
def a_server(**changes: Any) -> Iterator[tuple[Server, str]]:  # noqa: ANN401  fields of Server
    """A server and the address of its page."""
    with Server() as server:
        vars(server).update(changes)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server, f"http://127.0.0.1:{server.server_port}/metrics"
        finally:
            server.shutdown()


def taken(page: Metrics) -> dict[str, Any]:
    """The line of the page as it is now."""
    (line,) = page.lines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_engines_own_numbers_are_kept_as_they_came() -> None:
    """Neither those of its Python, nor help texts, buckets and times of creation."""
    assert kept(PAGE, "vllm:") == KEPT
    assert kept("# TYPE\n#\n\nvllm:\nx 1", "vllm:") == "vllm:"


def test_what_is_kept_of_a_page_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole lines, as many as there is room for."""
    page = "vllm:é 1\nvllm:b 22222\nvllm:c 333333333\nvllm:d 4"
    for most, expected in ((22, "vllm:é 1"), (23, "vllm:é 1\nvllm:b 22222")):  # in bytes, with their ends
        monkeypatch.setattr(metrics, "LARGEST_KEPT", most)
        assert kept(page, "vllm:") == expected


@pytest.mark.parametrize("chunked", ["", "chunked"])
def test_a_page_is_a_line_with_the_time_it_took(chunked: str, page: Callable[[str], Metrics]) -> None:
    """Page after page over one connection, however its length is told."""
    with a_server(is_chunked=bool(chunked)) as (server, url):
        one = page(url)
        first, second, _ = taken(one), taken(one), taken(one)
        assert len(server.clients) == 1
    assert [one["text"] for one in (first, second)] == [KEPT, KEPT]
    assert 0 < first["took_ns"] <= second["mono_ns"] - first["mono_ns"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": 404}, "HTTP 404"),
        ({"stall_s": 1.0}, "timed out"),
        ({"body": b"x" * 4096}, "a page of more than 4000 bytes"),
    ],
)
def test_a_page_that_cannot_be_had_is_a_gap_with_its_reason(
    changes: dict[str, Any],
    reason: str,
    page: Callable[[str], Metrics],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is raised, and the next page is read as if nothing had been."""
    monkeypatch.setattr(metrics, "ANSWER_S", 0.3)
    monkeypatch.setattr(metrics, "LARGEST_PAGE", 4000)
    with a_server(**changes) as (server, url):
        one = page(url)
        found = taken(one)
        assert (found["type"], "text" in found) == ("gap", False)
        assert reason in found["reason"]
        vars(server).update(status=200, stall_s=0.0, body=PAGE.encode())
        assert taken(one)["text"] == KEPT


def test_nobody_there_is_a_gap(page: Callable[[str], Metrics]) -> None:
    """Before the server is up, and after it went."""
    with a_server() as (_, url):
        one = page(url)
    assert taken(one)["reason"].startswith("ConnectionRefusedError: ")


def test_it_records_until_it_is_ended(tmp_path: Path) -> None:
    """Clock pairs around the pages, and at once a clean end on SIGTERM."""
    out = tmp_path / "metrics.jsonl"
    with a_server() as (_, url):
        program = [sys.executable, "-m", "tasks.host.metrics", "--out", str(out), "--url", url]
        with subprocess.Popen([*program, "--family", "vllm:"], cwd=ROOT) as child:
            end = time.monotonic() + 60
            while (not out.exists() or out.read_text().count("scrape") < 2) and time.monotonic() < end:
                time.sleep(0.05)
            child.send_signal(signal.SIGTERM)
            assert child.wait(60) == 0
    kinds = [json.loads(line)["type"] for line in out.read_text().splitlines()]
    assert kinds[-1] == "clock"
    assert kinds.count("clock") >= 2
    assert kinds.count("scrape") >= 2


def scrape(second: float, text: str = KEPT) -> dict[str, Any]:
    """A page's line."""
    return {"type": "scrape", "text": text, "mono_ns": at(second), "took_ns": 5 * MS}


def gap(second: float) -> dict[str, Any]:
    """The line of a page that could not be had."""
    return {"type": "gap", "reason": 'HTTP "404"', "mono_ns": at(second), "took_ns": MS}


def with_metrics(folder: Path, *lines: Any) -> Path:  # noqa: ANN401  lines, or bytes
    """A bundle with these lines of metrics."""
    return write_bundle(folder, files={"metrics.jsonl": jsonl(lines)})


def rows(home: Path) -> list[tuple[Any, ...]]:
    """Metrics as a reader of the lake sees them."""
    columns = ("start_ns", "duration_ns", "metric_name", "labels", "metric_type", "value")
    with lake_connection(home, CAMPAIGN) as con:
        found: list[tuple[Any, ...]] = con.table("engine_metrics").select(*columns).fetchall()
    return found


def test_a_page_becomes_a_row_a_number(tmp_path: Path) -> None:
    """With its labels, the type that the page says, and whether it could be had; NaN among them."""
    ingest_bundle(tmp_path, with_metrics(tmp_path / "b", clock(0), scrape(1.5), gap(2.5)))
    found = rows(tmp_path)
    assert {row[:2] for row in found if row[2] != "up"} == {(at(1.5) + OFFSET, 5 * MS)}
    assert {str(row[2:]) for row in found} == {
        str(row)
        for row in (
            ("vllm:num_requests_running", '{"engine":"0","model_name":"tiny"}', "gauge", 3.0),
            ("vllm:prefix_cache_hits_total", '{"engine":"0","model_name":"tiny"}', "counter", 1_500_000.0),
            ("vllm:e2e_request_latency_seconds_sum", '{"model_name":"tiny"}', "histogram", 17.25),
            ("vllm:e2e_request_latency_seconds_count", '{"model_name":"tiny"}', "histogram", 12.0),
            ("vllm:estimated_flops", "{}", None, float("nan")),
            ("up", "{}", "gauge", 1.0),
            ("up", '{"reason":"HTTP \\"404\\""}', "gauge", 0.0),
        )
    }
    assert len(found) == 7


LABELS = {
    '{a="x",b="y"}': {"a": "x", "b": "y"},
    '{b="y",a="x",}': {"a": "x", "b": "y"},
    r'{a="q\"uote",b="back\\slash\nline, {brace} \\n"}': {
        "a": 'q"uote',
        "b": "back\\slash\nline, {brace} \\n",
    },
    '{a="äé"}': {"a": "äé"},
    "{}": {},
    "": {},
}


@pytest.mark.parametrize("text", LABELS)
def test_labels_are_read_as_prometheus_writes_them(text: str, tmp_path: Path) -> None:
    """Sorted by name, whatever is in them."""
    ingest_bundle(tmp_path, with_metrics(tmp_path / "b", clock(0), scrape(1, f"vllm:x{text} +Inf\n\n# EOF")))
    ((labels, value),) = [(json.loads(row[3]), row[5]) for row in rows(tmp_path) if row[2] == "vllm:x"]
    assert list(labels.items()) == sorted(LABELS[text].items())
    assert value == float("inf")


def test_a_number_has_its_own_type_before_that_of_its_family(tmp_path: Path) -> None:
    """The sum of a histogram is the histogram's, unless the page says what it is."""
    text = "# TYPE vllm:a histogram\n# TYPE vllm:a_sum gauge\nvllm:a_sum 1\nvllm:a_count 2\nvllm:b_count 3"
    ingest_bundle(tmp_path, with_metrics(tmp_path / "b", clock(0), scrape(1, text)))
    assert {row[2]: row[4] for row in rows(tmp_path) if row[2] != "up"} == {
        "vllm:a_sum": "gauge", "vllm:a_count": "histogram", "vllm:b_count": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        scrape(1, "vllm:x{a=b} 1"), scrape(1, "vllm:x 1 2 3"), scrape(1, "vllm:x one"), scrape(1, "vllm:x"),
        scrape(1, 'vllm:x{a="\x00"} 1'), scrape(1, r'vllm:x{a="\x"} 1'), scrape(1, '5vllm 1\nvllm:x{a="b} 1'),
        {**scrape(1), "text": None}, {**scrape(1), "took_ns": "5"},
        {**scrape(1), "mono_ns": 1.5}, {**gap(1), "reason": 5}, b'{"type":"scrape","te',
    ],
)  # fmt: skip
def test_a_page_that_cannot_be_read_goes_to_quarantine(line: object, tmp_path: Path) -> None:
    """Whole, with its reason; the others are kept."""
    raw = line + b"\n" if isinstance(line, bytes) else line
    summary = ingest_bundle(tmp_path, with_metrics(tmp_path / "b", clock(0), raw, scrape(2)))
    assert summary.quarantined == 1
    assert len(rows(tmp_path)) == 6


TEXTS = st.lists(
    st.sampled_from(['vllm:x{a="b"} 1', "{", "}", '"', "\\", "\n", " ", "#", "1e5", "=", ",", "\x00"]),
    max_size=9,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS.map("".join) | st.text(max_size=20))
def test_whatever_a_server_says_no_load_fails(tmp_path: Path, text: str) -> None:
    """A page is kept whole, or set aside whole."""
    home = tmp_path / str(time.monotonic_ns())
    summary = ingest_bundle(home, with_metrics(home / "b", clock(0), scrape(1, text), scrape(2)))
    assert summary.rows["engine_metrics"] >= 6
    assert summary.quarantined in {0, 1}


def test_a_lost_number_fails_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept page must have become its rows."""
    lost = "convert/engine_metrics"
    monkeypatch.setattr(
        bundles, "execute", lambda con, name, /, **given: con if name == lost else execute(con, name, **given)
    )
    with pytest.raises(LprismError, match="engine_metrics: 7 numbers, 0 rows"):
        ingest_bundle(tmp_path, with_metrics(tmp_path / "b", clock(0), scrape(1), gap(2)))


@pytest.mark.parametrize(("gaps", "told"), [(0, 0), (1, 0), (2, 1)])
def test_a_server_that_often_does_not_answer_is_told(gaps: int, told: int, tmp_path: Path) -> None:
    """Nine pages in ten are enough."""
    path = good_bundle(tmp_path / "b")
    lines = [clock(0), *(gap(s) if s < gaps else scrape(s) for s in range(10))]
    names = {name: (path / name).read_bytes() for name in ("batches-7.jsonl", "counters.jsonl")}
    write_bundle(path, files={**names, "metrics.jsonl": jsonl(lines)})
    ingest_bundle(tmp_path, path)
    with lake_connection(tmp_path, CAMPAIGN) as con:
        found = execute(con, "checks/engine_metrics_are_told_most_of_the_time").fetchall()
    assert [(row[1], row[2]) for row in found] == ([(0.8, 'HTTP "404"')] if told else [])
