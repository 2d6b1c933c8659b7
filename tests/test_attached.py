"""Servers that somebody else runs: found, loaded, recorded from outside, and left as they were."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks import attached
from tasks.addresses import reachable
from tasks.host import facts, follow, listener, ports, tail
from tasks.lake_tables import lake_connection
from tasks.remote import HostError, supervise
from tasks.server import Client, ServerError
from tasks.spec import parse_spec
from tasks.traces.bundle import ingest_bundle
from tests.openssh import wait_for_port
from tests.test_bundle_ingest import seen
from tests.test_run import STAND_IN, manifests_in, run_all
from tests.warehouse_cases import MS, OFFSET, at, clock, jsonl, steady, write_bundle

SERVER = str(Path(__file__).with_name("stand_in_server.py"))
WHOLE = (
    "INFO [loggers.py:199] Engine 001: Iteration(7): 1 context requests, 20 context tokens, 2 generation "
    "requests, 2 generation tokens, iteration elapsed time: 4.44 ms, CPU KV cache usage: 0.0%\n"
)


def told(lines: list[str]) -> list[dict[str, Any]]:
    """The lines of a file without their times."""
    found = [json.loads(line) for line in lines]
    return [{key: value for key, value in one.items() if key != "mono_ns"} for one in found]


SEVENTH = {
    "type": "iteration", "elapsed_ns": 4_440_000, "rank": 1, "iteration": 7, "context_requests": 1,
    "context_tokens": 20, "generation_requests": 2, "generation_tokens": 2,
}  # fmt: skip


def test_a_log_is_followed_from_now_on(tmp_path: Path) -> None:
    """Whole lines of iterations, from the end on, also when it is turned over or emptied; no others."""
    path = tmp_path / "server.log"
    path.write_text(WHOLE)
    log = follow.Log(str(path))
    assert log.lines() == []
    with path.open("a") as file:
        file.write("INFO started\nStopIteration(7)\n" + WHOLE + WHOLE[:40])
        file.flush()
        assert told(log.lines()) == [SEVENTH]
        file.write(WHOLE[40:] + WHOLE[:60] + "\n")
        file.flush()
    whole, damaged = told(log.lines())
    assert (whole, damaged["type"]) == (SEVENTH, "damaged")
    path.rename(tmp_path / "server.log.1")
    assert log.lines() == []
    path.write_text(WHOLE)
    assert told(log.lines()) == [SEVENTH]
    path.write_text(WHOLE[:50])
    assert log.lines() == []
    path.write_text("")
    assert log.lines() == []
    path.write_text(WHOLE)
    assert told(log.lines()) == [SEVENTH]


@pytest.mark.parametrize("reader", [follow.Log, lambda path: tail.File(path, None)])
def test_a_log_that_cannot_be_opened_again_is_tried_until_it_can(
    reader: Callable[[str], follow.Log | tail.File], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned over into something that opens for nobody: no error, and read as soon as it is a file."""
    monkeypatch.chdir(tmp_path)
    path = Path("server.log")
    path.touch()
    log = reader(str(path))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as no_file:
        no_file.bind(str(path))
        assert [log.lines(), log.lines()] == [[], []]
    path.unlink()
    path.write_text(WHOLE)
    came = [*log.lines(), *log.lines()]
    assert [json.loads(line)["iteration"] for line in came] == [7]


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 66, as for any input that is not there."""
    assert follow.main(["--out", str(tmp_path / "o"), "--log", str(tmp_path / "none")]) == os.EX_NOINPUT
    assert capsys.readouterr().err == f"{tmp_path / 'none'}: No such file or directory\n"


def test_iterations_that_were_seen_become_batches(tmp_path: Path) -> None:
    """A step ends when its line is seen; of two seen at once the first ends where the second begins."""

    def line(seconds: float, **changes: int) -> dict[str, Any]:
        return {**SEVENTH, "mono_ns": at(seconds), "rank": 0, "elapsed_ns": 10 * MS, **changes}

    lines = [
        clock(0), line(1.5), line(4.5, context_requests=0), line(4.5, generation_requests=0), line(2.005),
        {"type": "damaged", "mono_ns": at(5), "text": "Iteration("}, line(8.5, elapsed_ns=-1), clock(at(9)),
    ]  # fmt: skip
    files = {"iterations.jsonl": jsonl(lines), "counters.jsonl": jsonl([clock(0), *steady(), clock(at(9))])}
    ingest_bundle(tmp_path, write_bundle(tmp_path / "b", files=files))
    columns = "start_ns duration_ns forward_mode batch_size new_input_tokens run_window source"
    assert seen(tmp_path, "batches", *columns.split()) == [
        (at(1.49) + OFFSET, 10 * MS, "mixed", 3, 22, "baseline", "vllm_log"),
        (at(1.995) + OFFSET, 10 * MS, "mixed", 3, 22, "transition", "vllm_log"),
        (at(4.48) + OFFSET, 10 * MS, "decode", 2, 22, "fault", "vllm_log"),
        (at(4.49) + OFFSET, 10 * MS, "prefill", 1, 22, "fault", "vllm_log"),
    ]  # fmt: skip
    assert seen(tmp_path, "quarantine", "reason") == [("damaged iteration line",)] * 2


@pytest.mark.parametrize(
    ("page", "total"),
    [
        ('a:b{x="1"} 2\na:b{x="2"} 3.5\na:bc 9\n# a:b 1\n', 5.5),
        ("a:b 7\n", 7.0),
        ("a:b none\n", None),
        ("", None),
    ],
)
def test_a_metric_is_summed_over_its_labels(page: str, total: float | None) -> None:
    """Another metric whose name begins the same is not counted."""
    assert listener.total(page, "a:b") == total


@contextmanager
def serving(tmp_path: Path) -> Iterator[tuple[str, Path, subprocess.Popen[bytes]]]:
    """Somebody's server in a process session of its own: its URL, its log and its process."""
    port, log = ports.free(None), tmp_path / "vllm.log"
    words = [sys.executable, SERVER, str(port), str(log)]
    with subprocess.Popen(words, start_new_session=True) as process:
        try:
            wait_for_port("127.0.0.1", port)
            yield f"http://127.0.0.1:{port}", log, process
        finally:
            process.kill()


def test_a_server_is_known_by_what_it_says_and_by_its_port(tmp_path: Path) -> None:
    """Version, models, tokens, process and session; of one elsewhere and a dead one nothing is claimed."""
    metric = "vllm:generation_tokens_total"
    with serving(tmp_path) as (url, _, process):
        found = listener.look(url, metric, ["/none", "/version"])
        assert found == {
            "version": "0.32.0+stand-in", "models": ["m"], "generated": 2.0, "pid": process.pid,
            "session": process.pid, "why": None,
        }  # fmt: skip
    dead = listener.look(url, metric, ["/version"])
    assert (dead["version"], dead["models"], dead["generated"], dead["pid"]) == (None, [], None, None)
    assert listener.process("http://192.0.2.1:80")["why"] == "192.0.2.1 is not this host"


def spec_of(url: str, log: Path | None = None, **changes: object) -> dict[str, Any]:
    """A spec of short windows for somebody's server, on the lab host."""
    cpus = facts.usable_cpus()
    engine = {"kind": "vllm", "model": "m", "attach": url, "python": STAND_IN}
    return {
        "name": "life",
        "hosts": [{"name": "lab", "allow_faults": True, "engine_cpus": cpus[:1], "our_cpus": cpus[-1:]}],
        "engines": [{**engine, **({"log": str(log)} if log else {})}],
        "workload": {"input_lengths": [8], "output_lengths": [8], "concurrency": [2]},
        "scenarios": ["normal"],
        "windows": {"warmup_s": 0.2, "baseline_s": 1.0, "fault_s": 1.0, "recovery_s": 1.0},
        **changes,
    }


def kill_when(process: subprocess.Popen[bytes], folder: Path, pattern: str) -> None:
    """End a process once there is such a file."""
    end = time.monotonic() + 60
    while not any(folder.glob(pattern)) and time.monotonic() < end:
        time.sleep(0.05)
    process.kill()


def test_somebodys_server_is_measured_and_left_as_it_is(tmp_path: Path) -> None:
    """Its process is told from others, its log's batches are in every window, and it lives on."""
    with serving(tmp_path) as (url, log, process):
        spec = spec_of(url, log, scenarios=["sham"])
        spec["engines"][0]["allow_faults"] = True
        (manifest,) = run_all(parse_spec(spec, "test"), tmp_path)
        assert process.poll() is None
        assert listener.page(f"{url}/health") == ""
    assert (manifest["status"], manifest["effect"]["undone"]) == ("complete", True)
    assert (manifest["commands"]["engine"], manifest["versions"]["engine"]) == ([], "0.32.0+stand-in")
    ingest_bundle(tmp_path, tmp_path / "bundles/life-1" / manifest["run_id"])
    with lake_connection(tmp_path, "life-1") as con:
        windows = {window for (window,) in con.table("batches").select("run_window").fetchall()}
        pids = con.table("counters").filter("counter_name = 'process_cpu_usage'").select("pid").fetchall()
    assert windows >= {"baseline", "fault", "recovery"}
    assert set(pids) == {(process.pid,)}


def test_a_server_that_ends_is_told_from_one_that_is_slow(tmp_path: Path) -> None:
    """The run fails with who it was, and the bundle has what was recorded."""
    with serving(tmp_path) as (url, _, process):
        spec = spec_of(url, windows={"warmup_s": 60.0, "baseline_s": 1.0, "fault_s": 1.0, "recovery_s": 1.0})
        loaded = threading.Thread(target=kill_when, args=(process, tmp_path, "**/runs/*/load.log"))
        loaded.start()
        (manifest,) = run_all(parse_spec(spec, "test"), tmp_path)
        loaded.join()
    assert manifest["status"] == "failed"
    assert f"the server at {url} has ended: pid {process.pid} is gone" in manifest["reason"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "other"}, "does not serve other; it serves: m"),
        ({"kind": "sglang", "log": None}, "is no sglang: it tells no version"),
        ({"attach": "http://127.0.0.1:9", "log": None}, "nobody answers at http://127.0.0.1:9"),
    ],
)
def test_a_server_that_is_not_as_the_spec_says_is_refused(
    change: dict[str, Any], why: str, tmp_path: Path
) -> None:
    """One line that names it, before anything is loaded."""
    with serving(tmp_path) as (url, log, _):
        written = spec_of(url, log)
        written["engines"][0] |= change
        spec = parse_spec(written, "test")
        (host,), (engine,) = spec.hosts, spec.engines
        with reachable(host, tmp_path) as address, supervise(address, "look") as supervisor:
            told, client = supervisor.ask("facts"), Client("python3", "0.32.0")
            with pytest.raises(ServerError, match=why):
                attached.attach(supervisor, host, told, engine, client)


def test_gpus_that_are_not_there_are_refused_before_anything_starts(tmp_path: Path) -> None:
    """The spec's mistake is told as one, with what there is."""
    spec = spec_of("http://127.0.0.1:9")
    spec["hosts"][0]["gpus"] = [99]
    with pytest.raises(HostError, match="lab has no GPU 99: there are none"):
        run_all(parse_spec(spec, "test"), tmp_path)
    assert manifests_in(tmp_path) == []
