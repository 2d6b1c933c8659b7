"""Campaigns over several hosts, real OpenSSH each: side by side, killed and resumed, lost and handed over."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasks import books
from tasks.board import Board, CampaignIncomplete
from tasks.host import ports
from tasks.plan import plan
from tasks.remote import Address
from tasks.session import HostSession
from tasks.settings import LprismError
from tasks.spec import CampaignSpec, Host, parse_spec
from tasks.status import status
from tasks.work import Work, campaign_at_work, work
from tests.test_run import holders, spec_of

CAMPAIGN = "many-1"
RUNNER = """
import sys
from pathlib import Path
from tests.test_campaign import run_hosts
from tasks.spec import load_spec
run_hosts(load_spec(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
"""


def spec_on(hosts: list[Address], **changes: object) -> dict[str, Any]:
    """Cells without faults on these hosts, which are of one group."""
    spec = {**spec_of(scenarios=["normal"]), **changes}
    cpus = {key: spec["hosts"][0][key] for key in ("engine_cpus", "our_cpus")}
    spec["hosts"] = [
        {
            "name": host.name, "address": host.address, "user": host.user, "port": host.port,
            "group": "alike", "identity_file": str(host.identity_file),
            "known_hosts": str(host.known_hosts), **cpus,
        }
        for host in hosts
    ]  # fmt: skip
    spec["windows"] = {"warmup_s": 0.1, "baseline_s": 0.5, "fault_s": 0.5, "recovery_s": 0.5}
    return {**spec, "limits": {"busy_host": "wait"}}


def run_hosts(spec: CampaignSpec, home: Path, resume: str = "") -> None:
    """What the campaign flow does, without Prefect."""
    with campaign_at_work(spec, home, CAMPAIGN, plan(spec, CAMPAIGN), resume) as shared:
        threads = [threading.Thread(target=_work, args=(shared, host), daemon=True) for host in spec.hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _work(shared: Work, host: Host) -> None:
    with contextlib.suppress(LprismError):  # the board has it
        work(shared, host, HostSession.preflight, HostSession.run)


def manifests(home: Path) -> list[dict[str, Any]]:
    """Of all bundles."""
    return [json.loads(path.read_text()) for path in (home / "bundles" / CAMPAIGN).glob("r*/manifest.json")]


def wait_until(true: Callable[[], object]) -> None:
    """At most a minute."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_campaign_killed_is_resumed_without_a_cell_lost_or_doubled(
    two: list[Address], tmp_path: Path
) -> None:
    """Kill -9 amid cells on two hosts; what was whole stays, what is damaged is made anew; all is clean."""
    (tmp_path / "spec.json").write_text(json.dumps(spec_on(two, repetitions=2)))
    home = tmp_path / "home"
    words = [sys.executable, "-c", RUNNER, str(tmp_path / "spec.json"), str(home)]
    folder = home / "bundles" / CAMPAIGN
    with subprocess.Popen([*words, ""]) as child:
        wait_until(lambda: len(list(folder.glob("r*/manifest.json"))) >= 2)
        wait_until(lambda: any(host["doing"] for host in status(home, CAMPAIGN)["hosts"]))
        said = status(home, CAMPAIGN)
        assert (said["state"], said["pid"]) == ("running", child.pid)
        child.kill()
    damaged, *whole = folder.glob("r*/manifest.json")
    os.truncate(damaged.with_name("counters.jsonl"), 100)
    before = {path: path.stat().st_mtime_ns for path in whole}
    assert status(home, CAMPAIGN)["state"] == "interrupted"
    assert subprocess.run([*words, "pending"], check=False, timeout=240).returncode == 0
    said = status(home, CAMPAIGN)
    assert (said["state"], said["complete"], said["pending"]) == ("closed", 4, 0)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert damaged.parent.with_name(f".{damaged.parent.name}.damaged").is_dir()
    assert len({manifest["run_id"] for manifest in manifests(home)}) == 4
    assert [
        wrong for manifest in manifests(home) for wrong in books.verified(folder / manifest["run_id"])
    ] == []
    for host in two:
        place = openssh_home(host)
        assert list(place.glob(".latencyprism/sessions/*/*/runs/*")) == []
        wait_until(partial(all_gone, place))


def all_gone(place: Path) -> bool:
    """Whether nothing but the sshd is left there."""
    return all("sshd" in found for found in holders(place))


def openssh_home(host: Address) -> Path:
    """The host's home folder."""
    assert host.known_hosts is not None
    return host.known_hosts.parent / "home"


def test_a_host_that_is_not_there_leaves_its_cells_to_its_group(
    two: list[Address], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All cells are complete, and each bundle says where it was planned and where it ran."""
    monkeypatch.setattr("tasks.work.BACKOFF_S", (0.1,))
    spec = spec_on(two)
    spec["hosts"][0]["port"] = ports.free(None)
    run_hosts(parse_spec(spec, "test"), tmp_path / "home")
    found = [
        (m["cell"]["planned_host"], m["cell"]["host"], m["status"]) for m in manifests(tmp_path / "home")
    ]
    assert sorted(found) == [("one", "two", "complete"), ("two", "two", "complete")]
    spec["hosts"][0].pop("group")
    with pytest.raises(
        CampaignIncomplete, match=r"1 of 2 cells complete, 1 pending: one: .* cannot be reached"
    ):
        run_hosts(parse_spec(spec, "test"), tmp_path / "other")


def test_requests_that_fail_mark_the_run_and_are_kept(two: list[Address], tmp_path: Path) -> None:
    """Half of them: the run has failed and says how many; its records are all there."""
    spec = spec_on(two[:1])
    spec["engines"][0]["model"] = "refuses-half"
    run_hosts(parse_spec(spec, "test"), tmp_path / "home")
    (manifest,) = manifests(tmp_path / "home")
    assert manifest["status"] == "failed"
    counts = manifest["requests"]
    assert abs(counts["failed"] - counts["ok"]) <= 1 < counts["failed"]
    assert f"{counts['failed']} of {sum(counts.values())} requests failed" in manifest["reason"]
    assert {"counters.jsonl", "load.log"} < {file["name"] for file in manifest["files"]}


def test_a_lost_host_s_cells_are_taken_once_each() -> None:
    """Its group shares them; a host of another group and a stopped campaign's get none."""
    hosts = [
        {"name": name, "address": name, "group": group}
        for name, group in (("a", "x"), ("b", "x"), ("c", "y"))
    ]
    spec = parse_spec({**spec_of(scenarios=["normal"], repetitions=3), "hosts": hosts})
    cells = plan(spec, CAMPAIGN)
    board = Board(cells, spec.hosts, len(cells))
    board.leave("a", OSError("gone"))
    taken = [board.take("b") for _ in range(6)]
    assert [cell.run_id for cell in taken if cell] == [
        cell.run_id for cell in cells if cell.host in ("b", "a")
    ] or {cell.run_id for cell in taken if cell} == {cell.run_id for cell in cells if cell.host in ("a", "b")}
    assert board.take("b") is None
    assert [cell.host for cell in board.mine("c")] == ["c"] * 3
    board.stop()
    with pytest.raises(KeyboardInterrupt):
        board.take("c")
