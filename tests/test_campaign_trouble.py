"""What befalls a campaign's hosts while it runs: busy, dirty, lost, full, with another clock, ill servers."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tasks import books
from tasks.board import CampaignIncomplete
from tasks.host import processes
from tasks.plan import plan
from tasks.progress import Progress, listening
from tasks.remote import Address, restore, supervise
from tasks.spec import parse_spec
from tests.test_campaign import (
    CAMPAIGN,
    all_gone,
    manifests,
    openssh_home,
    run_hosts,
    spec_on,
    wait_until,
)
from tests.test_cli_faults import mark_dirty, sessions_of
from tests.test_hosts_check import AN_HOUR_AHEAD
from tests.test_run import spec_of
from tests.warehouse_cases import write_bundle


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is asked again soon, and given up soon."""
    monkeypatch.setattr("tasks.work.BACKOFF_S", (0.1,))
    monkeypatch.setattr("tasks.work.BUSY_POLL_S", 0.2)
    monkeypatch.setattr("tasks.work.BUSY_WAIT_S", 60.0)


@contextmanager
def somebody_on(host: Address) -> Iterator[None]:
    """Another campaign has the host."""
    with supervise(host, "theirs-1", owner="ann@desk:7"):
        yield


def when(phase: str, do: Callable[[Progress], object]) -> Callable[[Progress], None]:
    """A listener that does something at the begin of a phase."""

    def heard(said: Progress) -> None:
        if said.phase == phase:
            do(said)

    return heard


def ran(home: Path) -> list[tuple[str, str, str]]:
    """(where a cell was planned, where it ran, what came of it) of all bundles, sorted."""
    return sorted(
        (one["cell"]["planned_host"], one["cell"]["host"], one["status"]) for one in manifests(home)
    )


def test_a_dirty_host_and_a_busy_one_take_no_cells_until_they_are_free(
    two: list[Address], tmp_path: Path
) -> None:
    """With busy_host refuse: nothing is done, each host is named with its reason, and resume finds both."""
    spec = spec_on(two)
    spec["limits"] = {"busy_host": "refuse"}
    for host in spec["hosts"]:
        host.pop("group")
    mark_dirty(sessions_of(openssh_home(two[0])))
    home, parsed = tmp_path / "home", parse_spec(spec, "test")
    with somebody_on(two[1]), pytest.raises(CampaignIncomplete) as incomplete:
        run_hosts(parsed, home)
    said = str(incomplete.value)
    assert "0 of 2 cells complete, 2 pending" in said
    assert "one: this host is dirty: session gone-1: the quota stands; lprism restore" in said
    assert "two: another campaign has this host: theirs-1, supervisor pid" in said
    assert ran(home) == []
    restore(two[0])
    run_hosts(parsed, home, "pending")
    assert ran(home) == [("one", "one", "complete"), ("two", "two", "complete")]


def test_a_campaign_waits_for_a_busy_host(two: list[Address], tmp_path: Path) -> None:
    """With busy_host wait: it says so, begins as soon as the other one has let go, and not before."""
    heard = threading.Event()
    spec = parse_spec(spec_on(two[:1]), "test")
    thread = threading.Thread(target=run_hosts, args=(spec, tmp_path / "home"), daemon=True)
    with listening(when("wait for the host", lambda _: heard.set())), somebody_on(two[0]):
        thread.start()
        assert heard.wait(60)
        assert ran(tmp_path / "home") == []
    thread.join(60)
    assert ran(tmp_path / "home") == [("one", "one", "complete")]


def test_a_host_lost_amid_a_cell_leaves_it_to_its_group(two: list[Address], tmp_path: Path) -> None:
    """Its sshd is killed with every connection: each cell is recorded once, and it cleans itself."""
    lost = threading.Event()

    def lose(said: Progress) -> None:
        if said.host == "one" and not lost.is_set():
            lost.set()
            end_sshd(openssh_home(two[0]).parent)

    home = tmp_path / "home"
    with listening(when("fault window", lose)):
        run_hosts(parse_spec(spec_on(two), "test"), home)
    assert lost.is_set()
    assert ran(home) == [("one", "two", "complete"), ("two", "two", "complete")]
    sessions = sessions_of(openssh_home(two[0]))
    wait_until(lambda: list(sessions.glob("*/closed")))
    assert list(sessions.glob("*/session-engine")) == []


def end_sshd(folder: Path) -> None:
    """Kill the server of this folder and what it serves with, as if the host went off the network."""
    family = [pid for pid in pids() if str(folder / "config") in words_of(pid)]
    for parent in family:
        family += [pid for pid in pids() if parent_of(pid) == parent and is_sshd(pid)]
    for pid in family:
        os.kill(pid, signal.SIGKILL)


def pids() -> list[int]:
    """Of all processes."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def parent_of(pid: int) -> int:
    """Its parent; 0 when it is gone."""
    fields = processes.stat_fields(pid)
    return int(fields[1]) if fields else 0


def words_of(pid: int) -> str:
    """A process's command line; empty when it is gone."""
    try:
        return (
            (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return ""


def is_sshd(pid: int) -> bool:
    """Whether it serves a connection, and is not what a client runs over it."""
    return "sshd" in words_of(pid).partition(" ")[0]


def test_a_server_is_restarted_when_it_is_not_the_one_that_it_was(two: list[Address], tmp_path: Path) -> None:
    """After a recovery that differs from its baseline, and when it is ill; else it serves the next cell."""
    told = tmp_path / "told"
    spec = spec_on(two[:1], repetitions=4)
    spec["engines"][0]["model"] = f"obeys={told}"

    def say(said: Progress) -> None:
        if said.phase == "start the server":
            told.unlink(missing_ok=True)
        if (said.phase, said.cell) == ("recovery window", 1):
            told.write_text("16")
        if (said.phase, said.cell) == ("compare recovery with baseline", 2):
            told.write_text("ill")

    with listening(say):
        run_hosts(parse_spec(spec, "test"), tmp_path / "home")
    found = sorted(manifests(tmp_path / "home"), key=lambda one: int(one["run_order"]))
    assert [one["status"] for one in found] == ["complete"] * 4
    assert [one["recovery"]["differs"] for one in found] == [True, False, False, False]
    started = ["start the server" in [phase["name"] for phase in one["phases"]] for one in found]
    assert started == [True, True, True, False]


def test_a_host_whose_clock_is_an_hour_off_records_as_any_other(two: list[Address], tmp_path: Path) -> None:
    """Waits go by monotonic clocks; the offset is measured, and stands in the manifest."""
    folder = openssh_home(two[0])
    (folder / "sitecustomize.py").write_text(AN_HOUR_AHEAD)
    (folder / ".bashrc").write_text(f"export PYTHONPATH={folder}\n")
    run_hosts(parse_spec(spec_on(two[:1]), "test"), tmp_path / "home")
    (manifest,) = manifests(tmp_path / "home")
    assert manifest["status"] == "complete"
    assert abs(manifest["clock"]["offset_ns"] / 1e9 - 3600) < 30
    marks = {mark["name"]: mark["epoch_ns"] for mark in manifest["marks"]}
    assert abs((marks["baseline_start"] - manifest["phases"][0]["start_ns"]) / 1e9 - 3600) < 300


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="a small disk is root's to mount")
def test_a_disk_that_fills_up_fails_the_run_and_not_the_campaign(
    two: list[Address], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cell's reason says what is full; once there is room the next cell is complete, the host clean."""
    monkeypatch.setattr("tasks.session.FREE_BYTES_A_CELL", 1 << 20)
    place = openssh_home(two[0])
    with ExitStack() as stack:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", place], check=False).returncode:
            pytest.skip("nothing can be mounted here")
        stack.callback(lambda: subprocess.run(["umount", "-l", place], check=True))
        filler = place / "filler"

        def fill(said: Progress) -> None:
            if (said.phase, said.cell) == ("baseline window", 1):
                fill_up(filler)
            if said.phase == "start the server":
                filler.unlink(missing_ok=True)

        with listening(fill):
            run_hosts(parse_spec(spec_on(two[:1], repetitions=2), "test"), tmp_path / "home")
        reasons = {one["run_order"]: one["reason"] for one in manifests(tmp_path / "home")}
        assert re.match(rf"one: the disk of {place}\S* is full, \d+ KiB free: ", reasons[1])
        assert reasons[2] is None
        wait_until(partial(all_gone, place))


def fill_up(path: Path) -> None:
    """Write until there is no room for more."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 65536)
        except OSError:
            return


def test_what_is_damaged_is_recorded_anew_and_nothing_else(tmp_path: Path) -> None:
    """Cut short, changed in place, gone: these cells run again, and their bundles are set aside, not lost."""
    spec = parse_spec(spec_of(scenarios=["normal"], repetitions=6), "test")
    cells = plan(spec, CAMPAIGN)
    whole, short, changed, gone, failed, never = (cell.run_id for cell in cells)
    folder = books.folder_of(tmp_path, CAMPAIGN)
    for run_id in (whole, short, changed, gone, failed):
        status = "failed" if run_id == failed else "complete"
        write_bundle(folder / run_id, files={"load.log": b"12345"}, run_id=run_id, status=status)
    (folder / short / "load.log").write_bytes(b"1234")
    (folder / changed / "load.log").write_bytes(b"12346")
    (folder / gone / "load.log").unlink()
    (folder / failed / "load.log").unlink()
    assert [cell.run_id for cell in books.to_run(tmp_path, CAMPAIGN, cells)] == [short, changed, gone, never]
    assert books.outcomes(tmp_path, CAMPAIGN) == {whole: "complete", failed: "failed"}
    aside = folder / f".{short}.damaged"
    assert json.loads((aside / "manifest.json").read_text())["run_id"] == short
    again = books.to_run(tmp_path, CAMPAIGN, cells, failed_too=True)
    assert [cell.run_id for cell in again] == [short, changed, gone, failed, never]
