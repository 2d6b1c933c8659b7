"""The life of a fault on a real host over SSH: proved, undone by whoever is left, or the host is dirty."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.fault import Fault, InjectionFailed, UndoFailed
from tasks.host import facts, fault, processes, state, strengths, undo
from tasks.host.site import PROGRAM, Site, Trouble, boot_id, read, write
from tasks.remote import Address, HostError, Supervisor, restore, supervise
from tests.processes import pid_of

SQUEEZE = "cpu_compute_squeeze_out"
CPU = facts.usable_cpus()[:1]


@contextmanager
def applied(address: Address, anomaly: str = SQUEEZE, seconds: float = 60.0) -> Iterator[Fault]:
    """A host with that fault on; what leaving it raises does not matter here."""
    with suppress(HostError), supervise(address, "one") as host:
        one = planned(host, anomaly, seconds)
        one.apply()
        yield one


def planned(host: Supervisor, anomaly: str = SQUEEZE, seconds: float = 60.0) -> Fault:
    """A fault that the host has agreed to."""
    one = Fault(host, anomaly, {})
    one.plan(cpus=CPU, seconds=seconds, log=f"{host.folder}/fault.log")
    return one


def within(seconds: float, true: Callable[[], bool]) -> bool:
    """Whether it became true in that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.1)
    return False


def clean(folder: str) -> bool:
    """Nothing of a fault is on record, and no program of one runs."""
    sessions = state.read_sessions(Path(folder))
    running = any(processes.session_members(session) for session, _ in sessions.values())
    return not running and not (Path(folder) / fault.STATE).exists()


def programs(folder: str) -> set[int]:
    """The pids of what a fault lets run."""
    session, _ = state.read_sessions(Path(folder))[PROGRAM]
    return processes.session_members(session)


def test_a_fault_is_proved_and_its_undo_too(sshd: Address) -> None:
    """Before, during and after are measured by a victim; the program is gone at the end."""
    with supervise(sshd, "one") as host:
        one = planned(host)
        one.measure("before")
        one.apply()
        assert programs(host.folder)
        one.measure("during")
        one.check_on()
        one.revert()
        assert clean(host.folder)
        one.judge()
    assert one.effect["metric"] == "victim_gflops"
    assert one.effect["during"] < one.effect["before"]
    assert (one.effect["proved"], one.effect["undone"]) == (True, True)
    assert restore(sshd) == {"found": [], "left": []}


def test_sham_lives_the_whole_life_and_changes_nothing(sshd: Address) -> None:
    """It holds, ends when told to, and proves nothing by its measure."""
    with supervise(sshd, "one") as host:
        one = planned(host, "sham")
        one.measure("before")
        one.apply()
        assert (Path(host.folder) / fault.STATE).exists()
        one.measure("during")
        one.check_on()
        one.revert()
        one.judge()
        assert within(2, lambda: clean(host.folder))  # the last measure is said, then its process ends
    assert one.effect["detail"] == "nothing was changed"
    assert all(one.effect[when] > 0 for when in ("before", "during", "after"))


@pytest.mark.parametrize(
    "victims",
    [
        ["fault"], ["program"], ["supervisor"], ["watchdog"], ["supervisor", "watchdog"],
        ["fault", "supervisor"], ["fault", "watchdog"],
    ],
)  # fmt: skip
def test_whoever_is_killed_the_host_is_clean(sshd: Address, victims: list[str]) -> None:
    """Kill -9 of one or two of those who guard a fault: who is left undoes it within 30 s."""
    with applied(sshd) as one:
        folder = one.supervisor.folder
        for victim in victims:
            os.kill(guard(folder, victim), signal.SIGKILL)
        cleaned = within(30, lambda: clean(folder))
    assert cleaned
    assert within(5, lambda: restore(sshd) == {"found": [], "left": []})


def guard(folder: str, name: str) -> int:
    """The pid of one of those who guard a fault, or of its program."""
    if name == "program":
        return min(programs(folder))
    if name == "fault":
        return state.read_sessions(Path(folder))[fault.HOLDER][0]
    return pid_of(f"tasks.host.{name}\0{folder}")


def test_when_nobody_is_left_the_host_is_dirty_until_restored(sshd: Address) -> None:
    """All guards killed at once: no session is let in; `restore` finds the fault on disk and undoes it."""
    with applied(sshd, "sham") as one:
        folder = one.supervisor.folder
        for pid in [guard(folder, name) for name in ("watchdog", "supervisor", "fault")]:
            os.kill(pid, signal.SIGKILL)
    with pytest.raises(HostError, match=r"dirty: session one ended .*lprism restore"), supervise(sshd, "two"):
        pass
    said = restore(sshd)
    assert (said["left"], len(said["found"])) == ([], 1)
    assert clean(folder)
    with supervise(sshd, "three"):
        pass


def test_a_fault_ends_at_its_deadline(sshd: Address) -> None:
    """Without another word from us it reverts; who asks for it later hears why."""
    with supervise(sshd, "one") as host:
        one = planned(host, seconds=1.0)
        one.apply()
        assert within(10, lambda: clean(host.folder))
        with pytest.raises(InjectionFailed, match="before its time: its deadline came"):
            one.check_on()


def test_a_fault_whose_program_dies_has_failed(sshd: Address) -> None:
    """What is measured after that is no fault, and is not called one."""
    with supervise(sshd, "one") as host:
        one = planned(host)
        one.apply()
        for pid in programs(host.folder):
            os.kill(pid, signal.SIGKILL)
        assert within(10, lambda: clean(host.folder))
        with pytest.raises(InjectionFailed, match="its program ended by itself"):
            one.check_on()


def test_a_second_fault_is_refused_while_one_is_on(sshd: Address) -> None:
    """One at a time: else nobody knows whose effect is measured."""
    with supervise(sshd, "one") as host:
        planned(host, "sham").apply()
        with pytest.raises(HostError, match="a fault is on already"):
            planned(host)


@pytest.mark.parametrize(
    ("anomaly", "strength", "seconds", "said"),
    [
        (SQUEEZE, {}, 0.0, "a fault lasts at least 1 s, not 0"),
        (SQUEEZE, {"share_pct": 101}, 5.0, "strength share_pct is 101, not a whole number from 1 to 100"),
        ("cpu_melt", {}, 5.0, "there is no anomaly 'cpu_melt'"),
        ("../host/undo", {}, 5.0, "is no anomaly"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    sshd: Address, anomaly: str, strength: dict[str, Any], seconds: float, said: str
) -> None:
    """Nothing is started and nothing is left."""
    with supervise(sshd, "one") as host:
        one = Fault(host, anomaly, strength)
        with pytest.raises(HostError, match=said):
            one.plan(cpus=CPU, seconds=seconds, log=f"{host.folder}/fault.log")
        assert clean(host.folder)


def test_a_victim_that_stays_slow_marks_the_host_dirty(sshd: Address) -> None:
    """No other session is let in until somebody has restored it."""
    with supervise(sshd, "one") as host:
        one = planned(host)
        one.effect.update({"before": 1e9, "during": 1.0})  # no core recovers to that
        with pytest.raises(UndoFailed, match="the host is dirty"):
            one.judge()
    with pytest.raises(HostError, match="dirty: session one: the undo of"), supervise(sshd, "two"):
        pass
    assert restore(sshd)["left"] == []
    with supervise(sshd, "three"):
        pass


def test_a_fault_without_effect_has_failed(sshd: Address) -> None:
    """The figures are in the reason."""
    with supervise(sshd, "one") as host:
        one = planned(host)
        one.effect.update({"before": 0.001, "during": 0.001})
        with pytest.raises(
            InjectionFailed, match=r"injection_failed: no effect .*before 0\.001, during 0\.001"
        ):
            one.judge()


def test_a_host_in_use_is_not_restored(sshd: Address) -> None:
    """`restore` never pulls a fault from under a running campaign."""
    with supervise(sshd, "one"), pytest.raises(HostError, match="another campaign has this host: one"):
        restore(sshd)


def site_in(folder: Path, **changes: Any) -> Site:  # noqa: ANN401  whatever a site takes
    """A sham fault on disk, as its own process leaves it."""
    site = Site("sham", {}, str(folder), str(folder / "log"), CPU, 60.0)
    write(replace(site, **changes), folder / fault.STATE)
    return site


def test_what_a_reboot_ended_is_not_killed_again(tmp_path: Path) -> None:
    """A state older than the boot: pids on record are other people's now; the record goes, they stay."""
    site_in(tmp_path, anomaly=SQUEEZE, boot_id="an-earlier-boot")
    (tmp_path / "boot").write_text("an-earlier-boot")
    names = (fault.HOLDER, PROGRAM, "engine")
    others = [processes.start(["sleep", "60"], tmp_path / "log", state.record_of(tmp_path, n)) for n in names]
    try:
        assert undo.why_dirty(tmp_path.parent) is not None
        assert undo.everything(tmp_path) == []
        assert [other.poll() for other in others] == [None] * 3
        assert undo.leftovers(tmp_path.parent) == []
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_a_state_that_cannot_be_read_is_never_taken_for_clean(tmp_path: Path) -> None:
    """A damaged record leaves the host dirty, and says which file."""
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / fault.STATE).write_text("{ cut")
    with pytest.raises(Trouble, match="cannot be read"):
        read(folder / fault.STATE)
    assert "ended without undoing" in str(undo.why_dirty(tmp_path))
    assert "cannot be read" in undo.restore(tmp_path)["left"][0]
    assert undo.why_dirty(tmp_path) is not None


def test_a_revert_that_fails_leaves_the_state_and_marks_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not undone stays on record, so that the next one can try."""
    folder = tmp_path / "one"
    folder.mkdir()
    site_in(folder)
    monkeypatch.setattr(fault.injector("sham"), "left", lambda _site: "a bent knob")
    assert undo.everything(folder) == ["fault: sham is not undone: a bent knob"]
    assert (folder / fault.STATE).exists()
    assert "a bent knob" in str(undo.why_dirty(tmp_path))
    assert undo.restore(tmp_path)["left"] == ["one: fault: sham is not undone: a bent knob"]
    assert (tmp_path / state.DIRTY).exists()
    monkeypatch.undo()
    said = undo.restore(tmp_path)
    assert (said["left"], undo.why_dirty(tmp_path)) == ([], None)


def test_the_state_is_on_disk_before_anything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apply that dies half-way is reverted from what was saved before it began."""
    seen: dict[str, Any] = {}
    sham = fault.injector("sham")
    site = Site("sham", {}, str(tmp_path), str(tmp_path / "log"), CPU, 60.0)

    def apply(_site: Site) -> str:
        seen["applying"] = json.loads((tmp_path / fault.STATE).read_text())["saved"]
        raise Trouble("half-way")

    monkeypatch.setattr(sham, "saved", lambda _site: {"knob": 7})
    monkeypatch.setattr(sham, "apply", apply)
    monkeypatch.setattr(sham, "revert", lambda it: seen.update(reverting=it.saved))
    with pytest.raises(Trouble, match="half-way"):
        fault.hold(site)
    assert seen == {"applying": {"knob": 7}, "reverting": {"knob": 7}}
    assert not (tmp_path / fault.STATE).exists()


def test_a_site_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    """Whoever undoes a fault knows all that its own process knew."""
    site = site_in(tmp_path)
    assert read(tmp_path / fault.STATE) == site
    assert (site.boot_id, site.rebooted) == (boot_id(), False)
    assert read(tmp_path / "absent") is None


PARAMETERS: strengths.Parameters = {
    "threads": strengths.Number(2, 1, 64, "threads"),
    "gb": strengths.Number(None, 0.5, 8, "memory", whole=False),
    "interface": strengths.Word("lo", "[a-z0-9]+", "an interface"),
}


def test_a_strength_is_filled_in_and_checked() -> None:
    """Defaults come from the anomaly's table; whole numbers stay whole."""
    assert strengths.complete("x", PARAMETERS, {}) == {"threads": 2, "gb": None, "interface": "lo"}
    assert strengths.complete("x", PARAMETERS, {"gb": 1, "threads": 3.0}) == {
        "threads": 3, "gb": 1.0, "interface": "lo"
    }  # fmt: skip
    for given in ({"threads": 0}, {"threads": 1.5}, {"gb": float("nan")}, {"interface": "a b"}, {"gb": "1"},
                  {"thread": 1}):  # fmt: skip
        with pytest.raises(strengths.Unusable):
            strengths.complete("x", PARAMETERS, given)
