"""cpu_quota on real control groups: v1 where this machine has it, v2 in a second kernel (at the end)."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from injectors import _cgroups, cpu_quota
from injectors._cgroups import QUOTA, SWITCH, Group
from tasks.fault import Fault, InjectionFailed, UndoFailed
from tasks.host import fault, processes, state, strengths, undo
from tasks.host.site import Site, Trouble, write
from tests import second_kernel

if TYPE_CHECKING:
    from tasks.remote import Address, Supervisor

# A leader with children, one of them with a session of its own; it forks faster than anybody can look.
SERVER = """
import json, os, subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(100)"]
busy = [sys.executable, "-c", "import time\\nend = time.time() + 100\\nwhile time.time() < end: pass"]
kids = [subprocess.Popen(sleeper), subprocess.Popen(busy), subprocess.Popen(sleeper, start_new_session=True)]
print(json.dumps([os.getpid(), *(kid.pid for kid in kids)]), flush=True)
for line in sys.stdin:
    for number in range(int(line)):
        if os.fork() == 0:
            if number % 2:
                os.setsid()
            os.fork()
            time.sleep(100)
            os._exit(0)
        time.sleep(0.001)
time.sleep(100)
"""
UNDO = (
    "import sys; from pathlib import Path; from tasks.host import fault; print(fault.undo(Path(sys.argv[1])))"
)


def here() -> Group | None:
    """The CPU cgroup that the tests run in, where they may make others."""
    with contextlib.suppress(Trouble):
        group = _cgroups.of(os.getpid(), "cpu")
        return group if group and os.access(group.top, os.W_OK) else None
    return None


needs_cgroups = pytest.mark.skipif(here() is None, reason="needs root and a cpu controller of cgroups")


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    """The server's process tree; it is on its feet."""
    argv = [sys.executable, "-c", SERVER]
    child = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    child.stdout.readline()
    with child:
        yield child
        with contextlib.suppress(Trouble):
            for pid in tree_of(child):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def box() -> Iterator[Path]:
    """A cgroup beside the server's; whoever is in it at the end goes back."""
    home = here()
    assert home is not None
    folder = home.top / f"latencyprism-test-{os.getpid()}"
    if home.version == 2:
        (home.top / SWITCH).write_text("+cpu")
    folder.mkdir()
    yield folder
    for pid in _cgroups.pids_below(folder):
        _cgroups.move(pid, home.folder)
    for at, _, _ in os.walk(folder, topdown=False):
        Path(at).rmdir()


def tree_of(server: subprocess.Popen[str]) -> set[int]:
    """All its processes."""
    return cpu_quota._tree(site_of(Path("/nowhere"), server.pid))


def site_of(folder: Path, target: int | None, quota_pct: float = 20) -> Site:
    """A fault on one CPU."""
    cpus = sorted(os.sched_getaffinity(0))[:1]
    strength = strengths.complete("cpu_quota", cpu_quota.STRENGTH, {"quota_pct": quota_pct})
    return Site("cpu_quota", strength, str(folder), str(folder / "log"), cpus, 60, target)


def groups_of(pids: set[int]) -> dict[int, Path]:
    """{pid: folder of its group}."""
    found = {pid: _cgroups.of(pid, "cpu") for pid in pids}
    return {pid: group.folder for pid, group in found.items() if group}


def applied(site: Site) -> Path:
    """Save, write to disk and apply; the group that is limited."""
    site.saved = cpu_quota.saved(site)
    write(site, Path(site.folder) / fault.STATE)
    cpu_quota.apply(site)
    return Path(site.saved["group"])


def put(server: subprocess.Popen[str], folder: Path) -> None:
    """Move all of the server there."""
    for pid in tree_of(server):
        _cgroups.move(pid, folder)


def throttled(group: Path) -> int:
    """In how many periods the group was halted."""
    return int(dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())["nr_throttled"])


def switches() -> dict[Path, str]:
    """Which controllers v2 hands down where, as far down as our own group."""
    home = here()
    return {at: (at / SWITCH).read_text() for at in home.line if (at / SWITCH).exists()} if home else {}


@needs_cgroups
def test_every_process_of_the_server_is_halted_and_set_free(
    server: subprocess.Popen[str], tmp_path: Path
) -> None:
    """The whole tree, a worker in another session too, is throttled in our group, and back where it was."""
    site, before, handed_down = site_of(tmp_path, server.pid), groups_of(tree_of(server)), switches()
    assert len(before) == 4
    assert cpu_quota.requirements(site) is None
    group = applied(site)
    assert (group.name[:13], set(groups_of(set(before)).values())) == ("latencyprism-", {group})
    end = time.monotonic() + 60
    while not throttled(group) and time.monotonic() < end:
        time.sleep(0.1)
    assert throttled(group) > 0
    assert "is still there" in str(cpu_quota.left(site))
    cpu_quota.revert(site)
    assert (groups_of(set(before)), group.exists(), cpu_quota.left(site)) == (before, False, None)
    assert switches() == handed_down
    cpu_quota.revert(site)  # a second time
    assert (groups_of(set(before)), cpu_quota.left(site)) == (before, None)


@needs_cgroups
def test_what_forks_during_the_move_is_moved_too(server: subprocess.Popen[str], tmp_path: Path) -> None:
    """No child is forgotten: those forked between the look and the move are found, and they all come back."""
    assert server.stdin is not None
    site, home = site_of(tmp_path, server.pid, 90), groups_of(tree_of(server))[server.pid]
    server.stdin.write("40\n")
    server.stdin.flush()
    time.sleep(0.03)
    group = applied(site)
    end = time.monotonic() + 60
    while len(tree_of(server)) < 84 and time.monotonic() < end:
        time.sleep(0.05)
    assert len(tree_of(server)) == 84
    assert len(site.saved["former"]) < 84
    assert set(groups_of(tree_of(server)).values()) == {group}
    cpu_quota.revert(site)
    assert set(groups_of(tree_of(server)).values()) == {home}
    assert not group.exists()


@needs_cgroups
def test_each_process_goes_back_to_its_own_group(
    server: subprocess.Popen[str], box: Path, tmp_path: Path
) -> None:
    """Workers that were elsewhere are put back there, and one whose pid was reused goes to the server's."""
    workers = sorted(tree_of(server) - {server.pid})
    for pid in workers[:2]:
        _cgroups.move(pid, box)
    site, before = site_of(tmp_path, server.pid), groups_of(tree_of(server))
    applied(site)
    site.saved["former"][str(workers[1])][0] -= 1  # it started at another time: it is another process
    cpu_quota.revert(site)
    assert groups_of(set(before)) == {**before, workers[1]: before[server.pid]}


@needs_cgroups
def test_a_group_of_the_servers_own_is_limited_in_place(
    server: subprocess.Popen[str], box: Path, tmp_path: Path
) -> None:
    """Nobody is moved, the dose is one of the quota that stands there, and that comes back."""
    put(server, box)
    file = next(box / name for name in QUOTA.values() if (box / name).exists())
    old = {"cpu.max": "80000 100000"}.get(file.name, "80000")
    file.write_text(old)
    site, before = site_of(tmp_path, server.pid, 50), groups_of(tree_of(server))
    assert (applied(site), groups_of(tree_of(server))) == (box, before)
    assert file.read_text().split()[0] == "40000"
    assert "still stands" in str(cpu_quota.left(site))
    cpu_quota.revert(site)
    assert (file.read_text().strip(), cpu_quota.left(site)) == (old, None)
    cpu_quota.apply(site)
    file.write_text(old.replace("80000", "70000"))  # somebody sets another one meanwhile
    cpu_quota.revert(site)
    assert (file.read_text().split()[0], cpu_quota.left(site)) == ("70000", None)


@needs_cgroups
def test_a_group_with_strangers_is_not_limited(
    server: subprocess.Popen[str], box: Path, tmp_path: Path
) -> None:
    """Another process in the server's group, or in a group within, keeps its CPU."""
    put(server, box)
    with subprocess.Popen(["sleep", "100"]) as stranger:
        _cgroups.move(stranger.pid, box)
        site = site_of(tmp_path, server.pid)
        group = applied(site)
        assert (group != box, groups_of({stranger.pid})) == (True, {stranger.pid: box})
        cpu_quota.revert(site)
        assert set(groups_of(tree_of(server)).values()) == {box}
        stranger.kill()
    inner = box / "inner"
    inner.mkdir()
    with subprocess.Popen(["sleep", "100"]) as stranger:
        _cgroups.move(stranger.pid, inner)
        assert not cpu_quota.saved(site)["in_place"]
        stranger.kill()
    inner.rmdir()


@needs_cgroups
def test_a_former_group_that_is_gone_is_made_again(
    server: subprocess.Popen[str], box: Path, tmp_path: Path
) -> None:
    """What was left empty may have been removed meanwhile, as systemd does it."""
    if (box / QUOTA[1]).exists():
        pytest.skip("on v1 our group lies in it, so that nobody can remove it")
    put(server, box)
    with subprocess.Popen(["sleep", "100"]) as stranger:
        _cgroups.move(stranger.pid, box)
        site = site_of(tmp_path, server.pid)
        group = applied(site)
        stranger.kill()
    box.rmdir()
    cpu_quota.revert(site)
    assert (set(groups_of(tree_of(server)).values()), group.exists()) == ({box}, False)


@needs_cgroups
@pytest.mark.parametrize("step", ["nothing", "group", "half", "all"])
def test_an_undo_needs_only_the_disk(server: subprocess.Popen[str], tmp_path: Path, step: str) -> None:
    """However far apply came, another process undoes it from what is on disk; two at once do it too."""
    site, before = site_of(tmp_path, server.pid), groups_of(tree_of(server))
    site.saved = cpu_quota.saved(site)
    write(site, tmp_path / fault.STATE)
    group = Path(site.saved["group"])
    if step != "nothing":
        for folder in site.saved["switched_on"]:
            (Path(folder) / SWITCH).write_text("+cpu")
        group.mkdir()
    if step in ("half", "all"):
        (group / QUOTA[site.saved["version"]]).write_text(site.saved["quota"])
        for pid in sorted(before)[:2]:
            _cgroups.move(pid, group)
    if step == "all":
        cpu_quota.apply(site)
    argv = [sys.executable, "-c", UNDO, str(tmp_path)]
    undos = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.communicate(timeout=60)[0] for one in undos] == ["None\n", "None\n"]
    assert (groups_of(set(before)), group.exists(), cpu_quota.left(site)) == (before, False, None)
    assert not (tmp_path / fault.STATE).exists()


@needs_cgroups
def test_the_fault_of_before_a_reboot_is_gone(server: subprocess.Popen[str], tmp_path: Path) -> None:
    """Groups do not outlive the kernel: what has the name of ours then is not touched."""
    site = site_of(tmp_path, server.pid)
    group = applied(site)
    old = replace(site, boot_id="another")
    cpu_quota.revert(old)
    assert (group.exists(), cpu_quota.left(old)) == (True, None)
    cpu_quota.revert(site)


@needs_cgroups
def test_kill_everything_and_undo_leaves_nothing(server: subprocess.Popen[str], tmp_path: Path) -> None:
    """The fault's own process and the server die by kill -9 while it is on: the undo of the rest is clean."""
    me = (os.getpid(), processes.start_ticks(os.getpid()) or 0)
    site = replace(site_of(tmp_path, server.pid), guards=[me])
    write(site, tmp_path / fault.PLAN)
    state.beat(tmp_path)
    argv = [sys.executable, "-m", "tasks.host.fault", str(tmp_path), "hold"]
    record = state.record_of(tmp_path, fault.HOLDER)
    with processes.start(argv, tmp_path / "log", record, cwd=second_kernel.ROOT) as holder:
        end = time.monotonic() + 30
        while not (tmp_path / "fault-hold.json").exists() and time.monotonic() < end:
            state.beat(tmp_path)
            time.sleep(0.05)
        said = json.loads((tmp_path / "fault-hold.json").read_text())["value"]["detail"]
        assert "CPUs for 4 processes of the server (cgroup v" in said
        group, workers = groups_of({server.pid})[server.pid], tree_of(server) - {server.pid}
        for pid in (holder.pid, server.pid):
            os.kill(pid, signal.SIGKILL)
    assert group.exists()
    assert (undo.everything(tmp_path), group.exists()) == ([], False)
    assert group not in groups_of(workers).values()
    assert not (tmp_path / fault.STATE).exists()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


@needs_cgroups
def test_the_measure_falls_and_comes_back(server: subprocess.Popen[str], tmp_path: Path) -> None:
    """The loops of the measure are under the quota as the server is, busy or not."""
    site = site_of(tmp_path, server.pid, 5)
    before = cpu_quota.probe(site)
    applied(site)
    during = cpu_quota.probe(site)
    cpu_quota.revert(site)
    assert during < before / 2
    assert cpu_quota.proved(site, before, during)
    assert groups_of(tree_of(server)) == {
        pid: groups_of({os.getpid()})[os.getpid()] for pid in tree_of(server)
    }


def test_what_is_proved_depends_on_the_dose() -> None:
    """Half of what the quota takes must be missing, and the measure come back to less than that."""
    half, weak = (site_of(Path("/nowhere"), None, pct) for pct in (50, 97))
    assert [cpu_quota.proved(half, 100, during) for during in (50, 74, 76)] == [True, True, False]
    assert [cpu_quota.proved(weak, 100, during) for during in (95, 97)] == [True, False]
    assert [cpu_quota.undone(half, 100, after) for after in (50, 74, 76)] == [False, False, True]
    assert [cpu_quota.undone(weak, 100, after) for after in (84, 86)] == [False, True]


@needs_cgroups
def test_without_a_server_nothing_is_done(tmp_path: Path) -> None:
    """Before it runs only the rights are looked at; the fault itself needs it."""
    assert cpu_quota.requirements(site_of(tmp_path, None)) is None
    for target in (None, 2**22 - 1):
        with pytest.raises(Trouble, match="no server to squeeze"):
            cpu_quota.saved(site_of(tmp_path, target))
        with pytest.raises(Trouble, match="no server to squeeze"):
            cpu_quota.apply(site_of(tmp_path, target))
    site = site_of(tmp_path, None)
    cpu_quota.revert(site)  # nothing was saved
    assert cpu_quota.left(site) is None


@pytest.mark.parametrize("quota_pct", [0, 100, 12.5, True, "50", 10_000])
def test_a_dose_that_is_none_is_refused(quota_pct: object) -> None:
    """A share of 100 % or more would take nothing, or even loosen a quota."""
    with pytest.raises(strengths.Unusable, match="quota_pct"):
        strengths.complete("cpu_quota", cpu_quota.STRENGTH, {"quota_pct": quota_pct})


@needs_cgroups
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_without_the_right_it_is_refused(tmp_path: Path) -> None:
    """The refusal names what may not be written, and the remedy."""
    read, told = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        os.write(told, str(cpu_quota.requirements(site_of(tmp_path, None))).encode())
        os._exit(0)
    os.close(told)
    with os.fdopen(read) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    assert said.startswith("no right to write /sys/fs/cgroup")
    assert "needs root or a delegated cgroup" in said


def fake_v2(top: Path, groups: dict[str, str], at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders and files as cgroup v2 has them. They do nothing when written: only plans are looked at.

    `groups` says which controllers each hands down; this process is in `at`.
    """
    for name, handed_down in groups.items():
        folder = top / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.controllers").write_text("cpu memory")
        (folder / SWITCH).write_text(handed_down)
        (folder / "cgroup.procs").write_text(f"{os.getpid()}\n" if name == at else "")
        if name:
            (folder / "cgroup.type").write_text("domain\n")
            (folder / "cpu.max").write_text("max 100000\n")
    proc = top / ".proc"
    for pid in ("self", str(os.getpid())):
        (proc / pid).mkdir(parents=True)
        (proc / pid / "cgroup").write_text(f"0::/{at}\n")
    mount = f"31 23 0:28 / {top} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
    (proc / "self" / "mountinfo").write_text(mount)
    monkeypatch.setattr(_cgroups, "PROC", proc)


SCOPE = "user.slice/user-0.slice/session-1.scope"


def test_on_v2_the_group_lies_beside_the_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the controller is not handed down that far it is switched on, which is on record."""
    groups = {"": "cpu memory", "user.slice": "memory", "user.slice/user-0.slice": "memory", SCOPE: ""}
    fake_v2(tmp_path, groups, SCOPE, monkeypatch)
    (tmp_path / SCOPE / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")  # a stranger, too
    plan: dict[str, Any] = cpu_quota._plan(site_of(tmp_path, None, 50), {os.getpid()})
    assert Path(plan["group"]).parent == tmp_path / "user.slice/user-0.slice"
    assert plan["switched_on"] == [str(tmp_path / "user.slice"), str(tmp_path / "user.slice/user-0.slice")]
    assert (plan["in_place"], plan["quota"]) == (False, "50000 100000")


def test_on_v2_a_quota_above_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dose is one of what the groups above leave, by their own periods."""
    groups = {"": "cpu", "user.slice": "cpu", "user.slice/user-0.slice": "cpu", SCOPE: ""}
    fake_v2(tmp_path, groups, SCOPE, monkeypatch)
    (tmp_path / "user.slice" / "cpu.max").write_text("10000 40000\n")
    plan = cpu_quota._plan(site_of(tmp_path, None, 50), {os.getpid()})
    assert (plan["in_place"], plan["quota"], plan["switched_on"]) == (True, "12500 100000", [])


def test_on_v2_a_group_with_processes_above_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process may be in a group that hands a controller down, so in a bare container it cannot be."""
    groups = {"": "memory", "box": "", "box/inner": ""}
    fake_v2(tmp_path, groups, "box/inner", monkeypatch)
    (tmp_path / "box" / "cgroup.procs").write_text("1\n")
    refusal = cpu_quota.requirements(site_of(tmp_path, None))
    with pytest.raises(Trouble, match="box has processes of its own"):
        cpu_quota._plan(site_of(tmp_path, None), {os.getpid()})
    assert (
        refusal == f"{tmp_path}/box has processes of its own, so cgroup v2 allows no quota in it or beside it"
    )


def test_no_cpu_controller_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without it, or one that hides it, is named."""
    fake_v2(tmp_path, {"": "", "box": ""}, "box", monkeypatch)
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    assert str(cpu_quota.requirements(site_of(tmp_path, None))).startswith("no cpu controller of cgroups")


def test_a_group_outside_of_the_container_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be seen cannot be limited."""
    fake_v2(tmp_path, {"": "cpu", "box": ""}, "box", monkeypatch)
    (tmp_path / ".proc" / str(os.getpid()) / "cgroup").write_text("0::/../other\n")
    assert "cannot be seen from in here" in str(cpu_quota.requirements(site_of(tmp_path, None)))


def live(host: "Supervisor", server: subprocess.Popen[str]) -> Fault:
    """The whole life of a fault on a host; what came of it."""
    before, life = groups_of(tree_of(server)), Fault(host, "cpu_quota", {"quota_pct": 5})
    cpus = sorted(os.sched_getaffinity(0))[:1]
    life.plan(cpus=cpus, seconds=60, log=f"{host.folder}/log", target=server.pid)
    assert life.strength == {"quota_pct": 5}
    life.measure("before")
    life.apply()
    group = groups_of(tree_of(server))[server.pid]
    assert group not in before.values()
    life.measure("during")
    life.check_on()
    life.revert()
    assert (groups_of(tree_of(server)), group.exists()) == (before, False)
    with contextlib.suppress(InjectionFailed, UndoFailed):
        life.judge()
    return life


@needs_cgroups
def test_the_whole_life_over_ssh(sshd: "Address", server: subprocess.Popen[str]) -> None:
    """Planned, measured, applied, proved, reverted and seen to be gone, by the fault's own process."""
    from tasks.remote import HostError, supervise  # a second of imports that the second kernel does without

    with supervise(sshd, "quota") as host:
        lives = (live(host, server) for _ in range(4))  # others here may take the CPU between two measures
        effect = next(life.effect for life in lives if life.effect["proved"] and life.effect["undone"])
        assert "CPUs for 4 processes of the server (cgroup v" in effect["detail"]
        assert (effect["metric"], effect["unit"]) == ("cpus_to_be_had", "CPUs")
        with pytest.raises(HostError, match="no server to squeeze"):
            Fault(host, "cpu_quota", {}).plan(cpus=[0], seconds=9, log=f"{host.folder}/log", target=2**22 - 1)


@pytest.mark.skipif(
    second_kernel.LINUX is None, reason="needs a second kernel: apt-get install user-mode-linux"
)
def test_all_of_this_holds_on_cgroup_v2(tmp_path: Path) -> None:
    """A kernel with cgroup v2 and its CPU controller passes the tests of this file, but not over SSH."""
    said = second_kernel.pytest_in(
        tmp_path, "tests/test_fault_cpu_quota.py", "-k", "not ssh and not all_of_this",
        before="mount -t cgroup2 none /sys/fs/cgroup",
    )  # fmt: skip
    assert "second kernel: exit 0" in said, said[-3000:]
