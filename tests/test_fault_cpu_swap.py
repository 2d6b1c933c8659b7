"""cpu_swap on real memory: at most 1 GiB of this machine's, and a second kernel's swap."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from injectors import _cgroups, cpu_swap
from tasks.fault import Fault, InjectionFailed, UndoFailed
from tasks.host import fault, processes, readings, state, strengths, undo
from tasks.host.site import PROGRAM, Site, write
from tests import second_kernel

if TYPE_CHECKING:
    from tasks.remote import Address, Supervisor

GIB = 1 << 30
MIB = 1 << 20
MEMORY = Path("/sys/fs/cgroup/memory")
needs_memory_cgroup = pytest.mark.skipif(
    not (os.access(MEMORY, os.W_OK) and (MEMORY / "cgroup.procs").exists()),
    reason="needs root and the memory controller of cgroup v1",
)
IN_A_BOX = """
import os, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
ENGINE = (
    "import time; kept = bytes(1) * (80 << 20); print('up', flush=True); time.sleep(60); print(len(kept))"
)
REFUSAL = """
from injectors import cpu_swap
from tasks.host.site import Site
print(cpu_swap.requirements(Site("cpu_swap", {"gb": 0.2, "share_of_ram_pct": 80}, "/", "/", [0], 9)))
"""
SHORT = """
import json, os, sys, warnings
from injectors import cpu_swap
from tasks.host.site import Site, Trouble
warnings.simplefilter("ignore", ResourceWarning)
def tried(**strength):
    strength = {"gb": None, "share_of_ram_pct": 80, **strength}
    site = Site("cpu_swap", strength, sys.argv[1], sys.argv[1] + "/log", sorted(os.sched_getaffinity(0)), 60)
    try:
        print(json.dumps(cpu_swap.apply(site)))
        print(cpu_swap._held_gib(site) * cpu_swap.GIB)
    except Trouble as error:
        print(json.dumps(str(error)))
    cpu_swap.revert(site)
cpu_swap.RESERVE = 100 << 20  # of 300 MiB
tried(gb=1)
tried()
cpu_swap.RESERVE = 1 << 30
tried()
"""
UNDO = (
    "import sys; from pathlib import Path; from tasks.host import fault; print(fault.undo(Path(sys.argv[1])))"
)
# A program that an injector starts is its process's child to the end, and nobody's Popen.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


def site_of(folder: Path, **strength: object) -> Site:
    """A fault of this strength."""
    whole = strengths.complete("cpu_swap", cpu_swap.STRENGTH, strength)
    cpus = sorted(os.sched_getaffinity(0))
    return Site("cpu_swap", whole, str(folder), str(folder / "log"), cpus, 60)


@pytest.fixture
def box() -> Iterator[Path]:
    """A cgroup with 300 MiB of memory; who is left in it at the end is killed."""
    folder = MEMORY / f"latencyprism-test-{os.getpid()}"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(str(300 * MIB))
    yield folder
    end = time.monotonic() + 60
    while folder.exists() and time.monotonic() < end:
        for pid in _cgroups.pids(folder):
            os.kill(pid, signal.SIGKILL)
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.05)


def in_the_box(box: Path, *words: str) -> subprocess.Popen[str]:
    """Run Python under its limit."""
    argv = [sys.executable, "-c", IN_A_BOX, str(box), *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=second_kernel.ROOT)


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    return readings.resident_bytes([pid])


def pages_of(pid: int) -> Iterator[bytes]:
    """A page of each 16 MiB that a process has written to in large areas of its own."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        area, access, _, _, inode, *name = line.split()
        first, last = (int(end, 16) for end in area.split("-"))
        if access.startswith("rw") and inode == "0" and not name and last - first >= 16 * MIB:
            with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
                for at in range(first, last, 16 * MIB):
                    memory.seek(at)
                    page = memory.read(cpu_swap.PAGE)
                    if any(page):
                        yield page


def test_the_memory_is_held_rewritten_and_given_back(tmp_path: Path) -> None:
    """What is asked for is resident on return, full of noise, changing, first in the OOM killer's line."""
    site = site_of(tmp_path, gb=0.5)
    before = cpu_swap.probe(site)
    assert (cpu_swap.requirements(site), cpu_swap.saved(site)) == (None, {})
    said = cpu_swap.apply(site)
    (pid,) = site.programs()
    assert said.startswith("0.50 GiB held, ")
    assert resident(pid) >= 0.5 * GIB
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
    assert os.sched_getaffinity(pid) == set(site.cpus)
    first = list(pages_of(pid))
    assert len(first) >= 32
    assert all(len(set(page)) > 200 for page in first)  # of 256 values: nothing to be saved by compressing
    assert len(set(first)) == len(first)
    end = time.monotonic() + 30
    while any(old == new for old, new in zip(first, pages_of(pid), strict=False)) and time.monotonic() < end:
        time.sleep(0.2)
    assert all(old != new for old, new in zip(first, pages_of(pid), strict=False))
    assert "still holds memory" in str(cpu_swap.left(site))
    cpu_swap.revert(site)
    assert (site.programs(), cpu_swap.left(site)) == (set(), None)
    cpu_swap.revert(site)  # a second time
    assert cpu_swap.probe(site) > before - 0.4  # others use this machine too; the judging has its own test


def test_an_undo_needs_only_the_disk(tmp_path: Path) -> None:
    """Another process frees the memory; with nothing begun there is nothing to do."""
    site = site_of(tmp_path, gb=0.1)
    cpu_swap.revert(site)
    assert cpu_swap.left(site) is None
    write(site, tmp_path / fault.STATE)
    cpu_swap.apply(site)
    ended = subprocess.run(
        [sys.executable, "-c", UNDO, str(tmp_path)], cwd=second_kernel.ROOT, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert (ended.stdout, site.programs()) == ("None\n", set())
    assert not (tmp_path / fault.STATE).exists()


def test_the_program_dies_with_the_holder_of_the_fault(tmp_path: Path) -> None:
    """After kill -9 of the fault's own process the kernel frees the memory; the rest of the undo is clean."""
    me = (os.getpid(), processes.start_ticks(os.getpid()) or 0)
    site = replace(site_of(tmp_path, gb=0.1), guards=[me])
    write(site, tmp_path / fault.PLAN)
    state.beat(tmp_path)
    argv = [sys.executable, "-m", "tasks.host.fault", str(tmp_path), "hold"]
    record = state.record_of(tmp_path, fault.HOLDER)
    with processes.start(argv, tmp_path / "log", record, cwd=second_kernel.ROOT) as holder:
        end = time.monotonic() + 30
        while not (tmp_path / "fault-hold.json").exists() and time.monotonic() < end:
            state.beat(tmp_path)
            time.sleep(0.05)
        assert len(site.programs()) == 1
        holder.kill()
    end = time.monotonic() + 60
    while site.programs() and time.monotonic() < end:
        time.sleep(0.02)
    assert site.programs() == set()
    assert (undo.everything(tmp_path), list(state.read_sessions(tmp_path))) == ([], [])
    assert not (tmp_path / fault.STATE).exists()


def test_a_parent_that_is_gone_already_starts_nothing(tmp_path: Path) -> None:
    """The parent may die before the program could ask to die with it: then it takes no memory."""
    argv = [
        sys.executable,
        "-m",
        "injectors.cpu_swap",
        "hold",
        str(GIB),
        "0",
        "9",
        "1",
        str(tmp_path / "said"),
    ]
    ended = subprocess.run(argv, cwd=second_kernel.ROOT, timeout=60, check=False, capture_output=True)
    assert (ended.returncode, ended.stdout, (tmp_path / "said").exists()) == (1, b"", False)


def test_more_than_there_is_is_refused_with_the_figures(tmp_path: Path) -> None:
    """An amount that would leave the host less than the reserve is not even begun."""
    refusal = cpu_swap.requirements(site_of(tmp_path, gb=99_999))
    assert refusal is not None
    assert refusal.startswith("not enough memory to hold 99999 GiB: of ")
    assert "GiB fit" in refusal
    total, room = cpu_swap._memory()
    fits = (room - cpu_swap._reserve(total)) / GIB
    assert cpu_swap.requirements(site_of(tmp_path, gb=fits + 2)) is not None
    assert cpu_swap.requirements(site_of(tmp_path, gb=fits - 2)) is None


@needs_memory_cgroup
def test_what_could_not_be_had_is_no_success(box: Path, tmp_path: Path) -> None:
    """Less than the amount, or nothing at all, is said so; of a share what there is; the reserve stays."""
    with in_the_box(box, "-c", SHORT, str(tmp_path)) as child:
        amount, share, held, nothing = map(json.loads, child.communicate(timeout=60)[0].splitlines())
    assert re.fullmatch(r"only 0\.1\d of 1\.00 GiB could be had in \d+ s", amount)
    assert re.fullmatch(r"0\.1\d of 0\.23 GiB held, \d+ pages were swapped out for it in .* s", share)
    assert 100 * MIB < held < 200 * MIB
    assert nothing.startswith("only 0.00 of 0.23 GiB could be had")


def test_the_reserve_grows_with_the_host() -> None:
    """Half a GiB, or 3 % of the RAM."""
    assert [cpu_swap._reserve(size * GIB) / GIB for size in (4, 100)] == [0.5, 3.0]


@needs_memory_cgroup
def test_a_limit_of_the_cgroup_counts(box: Path) -> None:
    """In a container it is the container's memory that can be had, and its size that the share is of."""
    child = in_the_box(box, "-c", REFUSAL)
    said = child.communicate(timeout=30)[0]
    assert said.startswith("not enough memory to hold 0.2 GiB: of 0.3 GiB 0.")
    assert "0.5 stay with the host" in said


@needs_memory_cgroup
def test_the_oom_killer_takes_the_fault_before_the_server(box: Path, tmp_path: Path) -> None:
    """When memory does run out, our program dies and the engine lives."""
    engine = in_the_box(box, "-c", ENGINE)
    assert engine.stdout is not None
    assert engine.stdout.readline() == "up\n"
    (box / "cgroup.procs").write_text(str(engine.pid))
    no_reserve = -(10**15)
    words = ["-m", "injectors.cpu_swap", "hold", str(GIB), str(no_reserve), "30", str(os.getpid())]
    program = in_the_box(box, *words, str(tmp_path / "said"))
    with engine, program:
        assert program.wait(60) == -signal.SIGKILL
        assert engine.poll() is None
        engine.kill()


def test_what_is_proved_is_what_is_held(tmp_path: Path) -> None:
    """Most of what is held must be missing, and be there again but for what others take."""
    site = site_of(tmp_path)
    (site.work / "held.json").write_text(json.dumps({"held": 100 * GIB}))
    assert [cpu_swap.proved(site, 120, during) for during in (20, 39, 41)] == [True, True, False]
    assert [cpu_swap.undone(site, 120, after) for after in (109, 111)] == [False, True]


@pytest.mark.parametrize(
    "strength", [{"gb": 0.05}, {"gb": "1"}, {"gb": True}, {"share_of_ram_pct": 96}, {"share_of_ram_pct": 1.5}]
)
def test_a_dose_that_is_none_is_refused(strength: dict[str, Any]) -> None:
    """A share leaves the host something, an amount is a number."""
    with pytest.raises(strengths.Unusable, match=next(iter(strength))):
        strengths.complete("cpu_swap", cpu_swap.STRENGTH, strength)


def live(host: "Supervisor") -> Fault:
    """The whole life of a fault on a host; what came of it."""
    life = Fault(host, "cpu_swap", {"gb": 0.5})
    life.plan(cpus=sorted(os.sched_getaffinity(0)), seconds=60, log=f"{host.folder}/log")
    life.measure("before")
    life.apply()
    assert PROGRAM in state.read_sessions(Path(host.folder))
    life.measure("during")
    life.check_on()
    life.revert()
    assert PROGRAM not in state.read_sessions(Path(host.folder))
    with contextlib.suppress(InjectionFailed, UndoFailed):
        life.judge()
    return life


def test_the_whole_life_over_ssh(sshd: "Address") -> None:
    """Planned, measured, applied, proved, reverted and seen to be gone, by the fault's own process."""
    from tasks.remote import HostError, supervise  # a second of imports that the second kernel does without

    with supervise(sshd, "swap") as host:
        lives = (live(host) for _ in range(5))  # half a GiB is what others here may take or give meanwhile
        effect = next(life.effect for life in lives if life.effect["proved"] and life.effect["undone"])
        assert effect["detail"].startswith("0.50 GiB held, ")
        assert effect["during"] < effect["before"]
        assert (effect["metric"], effect["unit"]) == ("mem_obtainable_gb", "GiB")
        with pytest.raises(HostError, match="not enough memory to hold 90000 GiB"):
            Fault(host, "cpu_swap", {"gb": 90_000}).plan(cpus=[0], seconds=9, log=f"{host.folder}/log")


needs_swap = pytest.mark.skipif(readings.memory().get("SwapTotal", 0) == 0, reason="this machine has no swap")


@needs_swap
def test_a_host_with_swap_swaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the free RAM is held by pushing pages out, the detail says how many, and all comes back."""
    memory = readings.memory()
    gb = (memory["MemAvailable"] + memory["SwapFree"] / 3) * 1024 / GIB
    monkeypatch.setattr(cpu_swap, "RESERVE", 16 * MIB)  # the host is a small one
    site = site_of(tmp_path, gb=gb)
    before = cpu_swap.probe(site)
    assert cpu_swap.requirements(site) is None
    said = cpu_swap.apply(site)
    assert int(said.split(" pages were swapped")[0].split()[-1]) > 1000, said
    during = cpu_swap.probe(site)
    assert cpu_swap.proved(site, before, during)
    cpu_swap.revert(site)
    assert cpu_swap.undone(site, before, cpu_swap.probe(site))


@pytest.mark.skipif(
    second_kernel.LINUX is None, reason="needs a second kernel: apt-get install user-mode-linux"
)
def test_that_holds_where_there_is_swap(tmp_path: Path) -> None:
    """A kernel with little RAM and a disk to swap to, which this machine has not, passes that test."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(180 * MIB)
    said = second_kernel.pytest_in(
        tmp_path, "tests/test_fault_cpu_swap.py", "-k", "host_with_swap", disk=disk, memory="256M",
        before="mkswap /dev/ubda >/dev/null; swapon /dev/ubda",
    )  # fmt: skip
    assert "second kernel: exit 0" in said, said[-3000:]
    assert "1 passed" in said
