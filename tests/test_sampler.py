"""The sampler: two readings in, rates out; and the real one at work for a second."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from injectors import _cgroups
from tasks.deepdive.signatures import BATCH_MEASURES, CALL_TIME_MEASURES, COUNTERS, DERIVED
from tasks.host import census, facts, readings, recording, sampler
from tasks.host import engine as engines
from tasks.host.census import Census, Person
from tasks.host.cgroup import Cgroup, mounts
from tasks.host.engine import Engine, Waits
from tasks.host.readings import Files
from tasks.host.sampler import Group, Sampler, _rates
from tasks.warehouse import sql_text
from tests.tree import ROOT

S = 1_000_000_000
STAT = b"cpu  100 0 0 100 0 0 0 0 0 0\ncpu0 100 0 0 50 0 0 0 0 0 0\ncpu1 0 0 0 50 0 0 0 0 0 0\nintr 5 5\n"
LATER = (
    b"cpu  150 0 10 120 10 0 0 10 0 0\ncpu0 150 0 10 48 1 0 0 10 0 0\n"
    b"cpu1 30 0 0 50 0 0 0 0 0 0\ncpu2 9 0 0 9 0 0 0 0 0 0\nintr 9 9\n"
)


def write(root: Path, **said: str | bytes) -> Files:
    """Files of a host that is a folder; `_S_` in a name stands for a slash."""
    for name, text in said.items():
        path = root / name.replace("_S_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Files(str(root))


def named(values: Any) -> dict[tuple[str, str], float]:  # noqa: ANN401  an iterable of values
    """{(counter, device): value}."""
    return {(value[0], value[1]): value[4] for value in values}


def test_cpu_usage_is_the_share_of_its_ticks(tmp_path: Path) -> None:
    """Of (busy, idle, stolen) since the last reading, a CPU each, and the host; idle ticks may go back."""
    one = Sampler(1, [0], files=write(tmp_path, proc_S_stat=STAT))
    old, new = (one._each_cpu(said, {9: used}) for said, used in ((STAT, 0), (LATER, S // 2)))
    assert named(one._cpu_rows(old, new, 2.0)) == {
        ("cpu_usage", "CPU 0"): pytest.approx(100 * 60 / 70),
        ("cpu_steal", "CPU 0"): pytest.approx(100 * 10 / 70),
        ("cpu_usage", "CPU 1"): 100.0,
        ("cpu_steal", "CPU 1"): 0.0,
        ("other_cpu_usage", "Host"): pytest.approx(100 * 60 / 70 - 25),
    }
    assert sampler._shares(*(readings.ticks(said.partition(b"\n")[0]) for said in (STAT, LATER))) == (
        60.0,
        10.0,
    )


def reading(**changed: Any) -> dict[str, Any]:  # noqa: ANN401  of any field
    """What the engine's counters stood at."""
    return {"used": {}, "waited": 0, "halted": {}, **changed}


def halts(periods: int, throttled: int, ns: int) -> dict[str, int]:
    """What a cgroup counts."""
    return {"periods": periods, "throttled_periods": throttled, "throttled_ns": ns}


def test_the_engines_counters_are_sums_over_its_processes(tmp_path: Path) -> None:
    """Of those that both readings know; halts of its cgroup, and of those above it with a quota, add up."""
    old = reading(used={1: 0, 2: 5 * S}, halted={"/a": halts(1, 0, 0), "/b": halts(0, 0, 9)})
    new = reading(
        used={1: S, 2: 5 * S, 3: 9 * S}, waited=3 * S,
        halted={"/a": halts(21, 5, S), "/new": halts(9, 9, 9 * S), "/b": halts(0, 0, 0)},
    )  # fmt: skip
    engine = Engine(Files(str(tmp_path)), 77)
    found = list(engine.fast_rows(old, new, 2.0))
    assert {(row[1], row[2], row[3]) for row in found} == {("Host", 77, None)}
    assert {row[0]: row[4] for row in found} == {
        "process_cpu_usage": 50.0, "process_runq_wait": 1500.0, "process_cgroup_throttled": 500.0,
        "process_cgroup_throttled_periods": 25.0,
    }  # fmt: skip
    assert list(engine.fast_rows(old, reading(), 2.0)) == []
    assert list(engine.fast_rows(reading(), new, 2.0)) == []  # it was found just now
    still = reading(used={1: 0}, halted={"": halts(0, 0, 0)})
    quota = reading(used={1: 0}, halted={"/a": halts(99, 9, 9 * S)})
    for one, other, names in ((still, still, True), (still, quota, False), (quota, quota, True)):
        names_there = {row[0] for row in engine.fast_rows(one, other, 2.0)}
        assert ("process_cgroup_throttled" in names_there) == names


def test_what_changes_slowly_is_told_of_all_processes(tmp_path: Path) -> None:
    """Memory, also what is swapped out, and the cgroup's use of CPUs; nothing of an engine that has gone."""
    files = write(
        tmp_path, proc_S_1_S_statm="9 3 1", proc_S_2_S_statm="9 1 1", proc_S_1_S_status="VmSwap:\t 5 kB\n"
    )
    engine = Engine(files, 77)
    assert list(engine.slow_rows({}, {}, 2.0, 1000)) == []
    engine.pids = [1, 2, 3]
    total = 40 * readings.PAGE_BYTES // 1024
    assert named(engine.slow_rows({"/a": 0, "/b": 5}, {"/a": S, "/b": 4, "/c": S}, 2.0, total)) == {
        ("process_mem_rss", "Host"): 4 * readings.PAGE_BYTES, ("process_mem_usage", "Host"): 10.0,
        ("process_mem_swap", "Host"): 5120, ("process_cgroup_cpu_usage", "Host"): 50.0,
    }  # fmt: skip


def test_a_rate_is_a_difference_over_its_seconds() -> None:
    """Of every device that both readings know; what wrapped or began anew has none."""
    old = {"lo": (10, 0), "gone": (1, 1), "wrapped": (2**32 - 1, 5)}
    new = {"lo": (30, 5), "new": (1, 1), "wrapped": (3, 6)}
    rows = _rates(("net_rx", "net_tx"), old, new, 2.0)
    assert named(rows) == {
        ("net_rx", "lo"): 10.0, ("net_tx", "lo"): 2.5, ("net_tx", "wrapped"): 0.5,
    }  # fmt: skip


def test_the_kernels_texts_become_numbers() -> None:
    """What real files hold, unknown fields and missing ones among it."""
    assert readings.number(b"MemTotal:  24691 kB\nMemFree: 7 kB", b"MemFree:") == 7
    assert readings.number(b"some avg10=1.0 total=12\nfull avg10=0.0 total=5", b"total=") == 12
    assert readings.number(b"pswpin 5", b"pswpout ") is None
    assert readings.number(b"pswpin", b"pswpin") is None
    said = b"Inter-| R\n face |b\n    lo: 637 9 0 0 0 0 0 0 640 9\neth0:7 1 0 0 0 0 0 0 9 1\n"
    assert readings.network_bytes(said) == {"lo": (637, 640), "eth0": (7, 9)}
    disks = b" 254 0 vda 1 2 3 4 5 6 7 8 0\n 7 0 loop0 1 1 1 1 1 1 1 1 1\n"
    assert readings.disk_bytes(disks, lambda name: name == "vda") == {"vda": (10 * 512,)}
    assert readings.said_mhz(b"processor\t: 4\ncpu MHz\t: 2596.1\n\nprocessor\t: 6\ncpu MHz\t: 800\n") == {
        4: 2596.1, 6: 800.0,
    }  # fmt: skip
    assert readings.stat_of(b"") is None
    stat = readings.stat_of(Path("/proc/self/stat").read_bytes())
    assert stat is not None
    assert int(stat[1][census.SESSION]) == os.getsid(0)
    memory = named(
        sampler._memory_rows(b"MemTotal: 200 kB\nMemFree: 50 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")
    )
    assert memory == {("host_mem_usage", "Host"): 75.0, ("host_swap_usage", "Host"): 0.0}


def test_a_file_is_opened_once_and_followed_until_its_process_has_gone(tmp_path: Path) -> None:
    """What is read changes, the descriptor does not; no other process is taken for it; none is left open."""
    files = write(tmp_path, a="1")
    (tmp_path / "a").write_text("22")
    assert (files.read("/a"), files.read("/a"), files.read("/nowhere")) == (b"22", b"22", b"")
    assert len(files.descriptors) == 1
    files.most = 1
    assert (write(tmp_path, b="x").read("/b"), files.read("/b"), len(files.descriptors)) == (b"x", b"x", 1)
    real = Files()
    with subprocess.Popen(["sleep", "60"]) as child:
        path = f"/proc/{child.pid}/statm"
        assert real.read(path)
        child.kill()
        child.wait(60)
        assert (real.read(path), real.descriptors) == (b"", {})
    files.close()
    assert files.descriptors == {}
    assert len(real.whole("/proc/kallsyms")) > 4096


def person(pid: int, **other: Any) -> Person:  # noqa: ANN401  of any field
    """A process that is nobody's."""
    return Person(**{"name": f"p{pid}", "parent": 1, "session": 1, "born": pid, "ours": False, **other})


def a_census(monkeypatch: pytest.MonkeyPatch, cpus: list[int]) -> Census:
    """A census of processes 11 to 16: 13 runs elsewhere, 16 is another now."""
    one = Census(Files(), 7, cpus)
    one.people = {pid: person(pid) for pid in range(11, 17)}
    fresh = {**one.people, 12: person(12, name="b2"), 16: person(16, born=99)}
    monkeypatch.setattr(one, "_met", fresh.get)
    monkeypatch.setattr(one, "_threads", lambda pid: [str(pid)])
    monkeypatch.setattr(one, "_was_on", lambda pid, _thread: pid != 13)
    monkeypatch.setattr(one, "_avx512_age_ms", lambda pid: 8 if pid == 15 else None)
    return one


def test_the_busiest_neighbours_on_the_engines_cpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three at most, the busiest first, by the names they have now; none that ran elsewhere or is another."""
    one = a_census(monkeypatch, [0])
    old = {11: 0, 12: 0, 13: 0, 14: 5 * S, 16: 0, os.getpid(): 0}
    new = {11: S, 12: 2 * S, 13: 5 * S, 14: 5 * S, 15: 3 * S, 16: 9 * S, os.getpid(): 9 * S}
    assert list(one.neighbours(old, new, 2.0)) == [
        ("other_process_cpu_usage", "Host", 15, "p15", 150.0),
        ("other_process_avx512_age", "Host", 15, "p15", 8),
        ("other_process_cpu_usage", "Host", 12, "b2", 100.0),
        ("other_process_cpu_usage", "Host", 11, "p11", 50.0),
    ]
    assert 16 not in one.people
    one = a_census(monkeypatch, [0])
    new[14] = 9 * S
    assert [row[2] for row in one.neighbours(old, new, 2.0)] == [14, 15, 15, 12]


def test_a_neighbour_is_told_by_what_the_kernel_says_of_its_threads() -> None:
    """A thread that was last on one of the engine's CPUs; none that may not run there."""
    cpu = facts.usable_cpus()[0]
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as child:
        try:
            os.sched_setaffinity(child.pid, {cpu})
            there, away = Census(Files(), 1, [cpu]), Census(Files(), 1, [cpu + 1])
            for one in (there, away):
                one.take()
            assert there._near(child.pid)
            assert not away._near(child.pid)
            age = there._avx512_age_ms(child.pid)
            assert (age is None) == (not Path(f"/proc/{child.pid}/arch_status").exists())
        finally:
            child.kill()


PROGRAM = (
    "import os, sys, time; {}; sys.stdout.write(f'{{os.getpid()}}\\n'); sys.stdout.flush(); time.sleep(60)"
)


@pytest.fixture
def tree() -> Iterator[tuple[int, int]]:
    """A process that leads a session, and a child of it that has left the session."""
    leave = PROGRAM.format("os.fork() or os.setsid()")
    with subprocess.Popen(
        [sys.executable, "-c", leave], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as lead:
        assert lead.stdout is not None
        pids = {int(lead.stdout.readline()) for _ in range(2)}
        (child,) = pids - {lead.pid}
        try:
            yield lead.pid, child
        finally:
            lead.kill()
            os.kill(child, signal.SIGKILL)


def test_the_engine_is_its_session_and_all_that_descend_from_it(tree: tuple[int, int]) -> None:
    """Also a child that left the session, and still when its parent has ended; what ended is forgotten."""
    lead, child = tree
    one = Census(Files(), lead, facts.usable_cpus())
    others = one.take()
    assert one.ours() == sorted(tree)
    assert os.getpid() in others
    assert not set(tree) & others.keys()
    os.kill(lead, signal.SIGKILL)
    os.waitpid(lead, 0)
    one.take()
    assert one.ours() == [child]


def test_who_gets_the_pid_of_the_engine_is_not_the_engine(tmp_path: Path) -> None:
    """A process is known by its open file: that of one that ended says nothing, whoever has the pid now."""
    stat = Path("/proc/self/stat").read_text()
    files = write(tmp_path, proc_S_50_S_stat=stat, proc_S_51_S_stat=stat, proc_S_self_S_stat=stat)
    one = Census(files, os.getsid(0), [0])
    one.take()
    assert one.ours() == [50, 51]
    files.read("/proc/50/stat")
    with (tmp_path / "proc/50/stat").open("w"):  # its process has ended: nothing more is said
        pass
    (tmp_path / "proc/50/stat").unlink()
    write(tmp_path, proc_S_50_S_stat=stat.replace(f" {os.getsid(0)} ", " 4 "))
    one.take()
    assert one.ours() == [51]


def threads(root: Path, **said: str) -> Files:
    """Threads of process 5: what the kernel says of each (ns on a CPU, ns waiting, times)."""
    return write(root, **{f"proc_S_5_S_task_S_{name[1:]}_S_schedstat": text for name, text in said.items()})


def test_every_wait_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The busy threads' at once, the others' when samples are told; a new one counts from where it stands."""
    many = {f"t{number}": "5 5 1" for number in range(100, 120)}
    waits = Waits(threads(tmp_path, t5="100 1000 1", **many))
    waits.find([5])
    assert (waits.read(), waits.others(), waits.busy) == ([], 0, [])
    threads(tmp_path, t5="9000 1500 2", **dict.fromkeys(many, "6 6 2"))
    assert (waits.read(), waits.others(), waits.busy) == ([], 500 + 20, ["/proc/5/task/5/schedstat"])
    threads(tmp_path, t5="9900 1700 3", **dict.fromkeys(many, "7 7 3"))
    assert (waits.count(waits.read()), waits.others()) == (200, 20)
    threads(tmp_path, t7="900 900 9")
    waits.find([5])
    threads(tmp_path, t7="901 901 9")
    assert (waits.count(waits.read()), waits.others()) == (0, 1)
    monkeypatch.setattr(engines, "AT_ONCE", 8)  # each in turn, where there are many
    threads(tmp_path, t5="9900 1700 3", **dict.fromkeys(many, "7 9 4"))
    assert sum(waits.others() for _ in range(4)) == 2 * 20
    for name in ("5", "7"):
        (tmp_path / f"proc/5/task/{name}/schedstat").write_text("")
    assert sum(waits.count(waits.read()) + waits.others() for _ in range(9)) == 0


def test_what_idle_threads_waited_is_spread_over_the_samples(tmp_path: Path) -> None:
    """Of four samples each gets a quarter, from the first second on."""
    engine = Engine(threads(tmp_path, t5="100 1000 1"), 5)
    engine.waits.find([5])
    said = [engine.fast() for _ in range(4)]
    threads(tmp_path, t5="100 1400 2")
    engine.settle(4)
    assert [engine.digest(one)["waited"] for one in said] == [100.0, 200.0, 300.0, 400.0]


MOUNTS = {
    1: "1 0 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "2 0 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "3 0 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n4 0 0:3 / / rw - ext4 /dev/vda rw\n",
    2: "1 0 0:2 /me /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
}
IN = {1: "3:memory:/m\n2:cpu,cpuacct:/a/b\n0::/x\n", 2: "0::/me/a/b\n"}


def a_cgroup(root: Path, version: int) -> Cgroup:
    """Process 5 in group b of group a, which has a quota of half a CPU; b has none."""
    group, up = (
        "sys_S_fs_S_cgroup_S_" + at for at in (("cpu_S_a_S_b", "cpu_S_a") if version == 1 else ("a_S_b", "a"))
    )
    stat = {1: "nr_periods 20\nnr_throttled 5\nthrottled_time 7000\n",
            2: "usage_usec 3\nnr_periods 20\nnr_throttled 5\nthrottled_usec 7\n"}[version]  # fmt: skip
    limits = {
        1: {f"{up}_S_cpu.cfs_quota_us": "50000", f"{up}_S_cpu.cfs_period_us": "100000",
            f"{group}_S_cpu.cfs_quota_us": "-1", f"{group}_S_cpuacct.usage": "3000",
            "sys_S_fs_S_cgroup_S_memory_S_m_S_memory.usage_in_bytes": "4096"},
        2: {f"{up}_S_cpu.max": "50000 100000", f"{group}_S_cpu.max": "max 100000",
            f"{group}_S_memory.current": "4096", "sys_S_fs_S_cgroup_S_cgroup.controllers": "cpu memory"},
    }[version]  # fmt: skip
    files = write(
        root, proc_S_self_S_mountinfo=MOUNTS[version], proc_S_5_S_cgroup=IN[version],
        **{f"{group}_S_cpu.stat": stat, f"{up}_S_cpu.stat": stat}, **limits,
    )  # fmt: skip
    return Cgroup(files)


def halted(one: Cgroup) -> dict[str, dict[str, int]]:
    """What its groups count now."""
    return one.halted(one.read())


@pytest.mark.parametrize("version", [1, 2])
def test_a_cgroup_and_those_above_it_with_a_quota_are_read(version: int, tmp_path: Path) -> None:
    """Halts, quota, use and memory, of version 1 and 2; in a container its paths begin where it does."""
    one = a_cgroup(tmp_path, version)
    one.find(5)
    assert {folder.rpartition("/")[2]: counted for folder, counted in halted(one).items()} == {
        "a": halts(20, 5, 7000)
    }
    assert (one.cpus(), list(one.used_ns().values()), one.memory_bytes()) == (0.5, [3000], 4096)
    write(tmp_path, proc_S_5_S_cgroup=IN[version].replace("/a/b", "/"))
    one.files.close()
    top = "sys_S_fs_S_cgroup_S_cpu_S_"
    write(tmp_path, **{f"{top}cpu.stat": "throttled_time 5\n", f"{top}cpuacct.usage": "7"})
    write(tmp_path, **{"sys_S_fs_S_cgroup_S_cpu.stat": "usage_usec 7\n"})
    one.find(5)
    assert (one.cpus(), one.used_ns()) == (None, {})
    assert halted(one) == ({"": halts(0, 0, 0)} if version == 1 else {})


def test_this_machines_cgroups_are_found() -> None:
    """Of a real process, whatever version this kernel has."""
    if "cpu" not in mounts(Files()):
        pytest.skip("no cpu controller of cgroups here")
    one = Cgroup(Files())
    one.find(os.getpid())
    assert len(halted(one)) <= max(len(one.limited), 1)


def digested(engine: Engine) -> dict[str, Any]:
    """What is read at every sample, as numbers."""
    engine.settle(1)
    return engine.digest(engine.fast())


@pytest.mark.skipif(os.geteuid() != 0, reason="a quota needs root")
def test_a_quota_that_is_set_shows_as_halts() -> None:
    """A real group of this kernel with a tenth of a CPU: first nothing, then halts and the quota."""
    home = _cgroups.of(os.getpid(), "cpu")
    if home is None:
        pytest.skip("no cpu controller of cgroups here")
    group = _cgroups.place_for_quota(home) / f"latencyprism-test-{os.getpid()}"
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as child:
        engine = Engine(Files(), child.pid)
        try:
            engine.find([child.pid])
            rows = named(engine.fast_rows(digested(engine), digested(engine), 1.0))
            assert rows["process_cgroup_throttled", "Host"] == 0.0
            group.mkdir()
            quota = group / _cgroups.QUOTA[home.version]
            if not quota.exists():
                pytest.skip("groups made here have no quota")
            quota.write_text("10000 100000" if home.version == _cgroups.V2 else "10000")
            (group / "cgroup.procs").write_text(str(child.pid))
            engine.find([child.pid])
            before, end = digested(engine), time.monotonic() + 60
            halted = 0.0
            while not halted and time.monotonic() < end:
                time.sleep(0.1)
                rows = named(engine.fast_rows(before, digested(engine), 1.0))
                halted = rows["process_cgroup_throttled", "Host"]
            assert halted
            slow = named(engine.slow_rows({}, {}, 1.0, None))
            assert slow["process_cgroup_quota", "Host"] == 10.0
        finally:
            child.kill()
            child.wait(60)
            if group.exists():
                group.rmdir()


def test_a_host_of_256_cpus_costs_little_more_a_sample(tmp_path: Path) -> None:
    """Ten times a second the host as a whole; each CPU, its clock, and what others use, once a second."""
    lines = [b"cpu%d 100 0 50 900 0 0 0 0 0 0" % number for number in range(256)]
    total = b"cpu 25600 0 12800 230400 0 0 0 0 0 0"
    files = write(tmp_path, proc_S_stat=b"\n".join([total, *lines, b"intr 1"]))
    clock = "sys_S_devices_S_system_S_cpu_S_cpu{}_S_cpufreq_S_scaling_cur_freq"
    write(tmp_path, **{clock.format(cpu): "2000000" for cpu in range(256)})
    one = Sampler(1, list(range(256)), files=files)
    assert [*one.lines(), *one.rest()] == []
    (tmp_path / "proc/stat").write_bytes(b"\n".join([total.replace(b"25600", b"51200"), *lines, b"intr 1"]))
    later = time.monotonic_ns() + 10 * S
    fast = one.fast.told(later, one._digest(one._fast()))[1]
    slow = one.groups[3].sample(later)[1]
    assert {name for name, _ in named(fast)} == {"host_cpu_usage"}
    each = named(slow)
    assert len(each) == 2 * 256 + 1
    clocks = one.groups[2].sample(later)[1]
    assert len(clocks) == 256
    assert set(named(clocks).values()) == {2000.0}


def test_what_is_dear_is_read_less_often() -> None:
    """A group that took many times its share of a CPU waits that much longer, and says over how long."""

    def dear() -> int:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return 1

    group = Group(dear, lambda _old, _new, seconds: [("x", "Host", None, None, seconds)], 0.001, share=0.01)
    assert group.sample(0) == (0, [])
    assert group.sample(int(1.9 * S)) == (0, [])
    interval_ns, ((_, _, _, _, seconds),) = group.sample(100 * S)
    assert (interval_ns, seconds) == (100 * S, 100.0)


def test_the_first_reading_has_nothing_to_compare_with() -> None:
    """No value is made up; the second sample has the counters of every kind that a diagnosis asks for."""
    one = Sampler(os.getsid(0), facts.usable_cpus())
    assert list(one.lines()) == []
    one.due_ns = 0
    for group in one.groups:
        group.due_ns = 0
    lines = [json.loads(line) for line in one.lines()]
    values = [value for line in lines for value in line["values"]]
    assert all(line["type"] == "sample" and line["interval_ns"] > 0 for line in lines)
    assert {
        "host_cpu_usage", "cpu_usage", "cpu_steal", "process_cpu_usage", "process_runq_wait",
        "other_cpu_usage", "process_mem_rss", "process_mem_usage", "host_mem_usage", "host_swap_usage",
        "host_swap_in", "host_swap_out", "net_rx", "net_tx", "sampler_cpu_usage",
    } <= {value[0] for value in values}  # fmt: skip
    assert all(len(value) == 5 and isinstance(value[4], float) for value in values)


def test_processes_that_come_and_go_between_readings_do_no_harm() -> None:
    """A server and neighbours that start and end hundreds of short programs: samples go on."""
    churn = "for k in $(seq 300); do /bin/true & (setsid /bin/true &); done; wait"
    with (
        subprocess.Popen(["sh", "-c", churn], start_new_session=True) as engine,
        subprocess.Popen(["sh", "-c", churn], start_new_session=True),
    ):
        one = Sampler(engine.pid, facts.usable_cpus())
        while engine.poll() is None:
            for group in (one, *one.groups):
                vars(group)["due_ns"] = 0
            assert all(json.loads(line)["values"] for line in one.lines())
    files = len(one.files.descriptors)
    for _ in range(3):
        for group in (one, *one.groups):
            vars(group)["due_ns"] = 0
        list(one.lines())
    assert one.engine.pids == []
    assert len(one.files.descriptors) <= files
    assert not any(f"/proc/{engine.pid}/" in path for path in one.files.descriptors)


def test_every_counter_has_a_unit() -> None:
    """What the sampler names, what a signature may ask for, and what has a unit are the same."""
    units = set(re.findall(r"\('([a-z0-9_]+)', '", sql_text("convert/counters")))
    assert units - {"sampler_cpu_usage"} == COUNTERS - BATCH_MEASURES - CALL_TIME_MEASURES - DERIVED
    sources = (ROOT / "tasks/host" / f"{name}.py" for name in ("sampler", "engine", "census", "gpu_counters"))
    named_there = {name for path in sources for name in re.findall(r'"([a-z0-9_]+)"', path.read_text())}
    assert units - named_there == {f"pressure_{name}" for name in sampler.PRESSURES}


def test_a_clock_that_is_set_changes_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour forward between two samples: rates are over the time that went by."""
    one = Sampler(os.getsid(0), facts.usable_cpus())
    list(one.lines())
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * S)
    monkeypatch.setattr(time, "time", lambda: real() / S + 3600)
    lines = [json.loads(line) for line in (*one.lines(), *one.rest())]
    assert lines
    assert max(line["interval_ns"] for line in lines) < 60 * S


def started(out: Path, *words: str) -> "subprocess.Popen[str]":
    """The sampler at work on our own session."""
    cpu = str(facts.usable_cpus()[0])
    program = [sys.executable, "-m", "tasks.host.sampler", "--out", str(out), "--cpus", cpu]
    session = ["--engine-session", str(os.getsid(0))]
    return subprocess.Popen([*program, *session, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_for_lines(out: Path, count: int) -> None:
    """Wait until the file has so many."""
    end = time.monotonic() + 60
    while (not out.exists() or out.read_text().count("\n") < count) and time.monotonic() < end:
        time.sleep(0.05)


def test_a_second_of_sampling(tmp_path: Path) -> None:
    """A clock line first and last, samples that tile the time between, and a clean end on SIGTERM."""
    out = tmp_path / "counters.jsonl"
    with started(out, "--hz", "20") as child:
        wait_for_lines(out, 15)
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    clocks = [line for line in lines if line["type"] == "clock"]
    assert lines[-1] == clocks[-1]
    assert clocks[0]["realtime_ns"] < clocks[-1]["realtime_ns"]
    samples = [line for line in lines if line["type"] == "sample"]
    fast = [line for line in samples if any(value[0] == "host_cpu_usage" for value in line["values"])]
    assert len(fast) >= 8
    for before, after in itertools.pairwise(fast):
        assert after["mono_ns"] - after["interval_ns"] == before["mono_ns"]


@pytest.mark.parametrize("hz", [1, 10, 100])
def test_a_sample_is_written_within_a_second(
    hz: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is what a kill -9 costs; the lines before it are whole, and no sample is left out."""
    begin = time.monotonic_ns()
    now_ns = [begin]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns[0])
    monkeypatch.setattr(time, "monotonic", lambda: now_ns[0] / S)
    out = tmp_path / "out"
    lines, one = recording.Lines(str(out)), Sampler(1, [0])
    for beat in range(4 * hz):
        now_ns[0] = begin + beat * S // hz
        lines.add(one.lines())
        written = [json.loads(line) for line in out.read_text().splitlines()]
        assert now_ns[0] - max([begin, *(line.get("mono_ns", 0) for line in written)]) <= S
    lines.add(one.rest())
    lines.close()
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert (written[0]["type"], written[-1]["type"]) == ("clock", "clock")
    fast = [line for line in written if "host_cpu_usage" in str(line)]
    assert [line["mono_ns"] for line in fast] == [begin + beat * S // hz for beat in range(1, 4 * hz)]


def test_what_the_disk_takes_in_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write may take a part of what it is given."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:7]))
    lines = recording.Lines(str(tmp_path / "out"))
    lines.add(['{"type":"sample"}'])
    lines.close()
    kinds = [json.loads(line)["type"] for line in (tmp_path / "out").read_text().splitlines()]
    assert kinds == ["sample", "clock", "clock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a full disk is a tmpfs: needs root")
def test_a_full_disk_ends_it_with_one_line(tmp_path: Path) -> None:
    """The file is named, with what the system says, and an exit code that is not 0."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("a full disk is a tmpfs, and mounting is not allowed here")
    try:
        with started(tmp_path / "counters.jsonl", "--hz", "100") as child:
            _, said = child.communicate(timeout=30)
        assert child.returncode == recording.NOT_WRITTEN
        assert said == f"{tmp_path}/counters.jsonl: No space left on device: recording stops\n"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("hz", ["0.9", "101", "x"])
def test_a_rate_that_it_cannot_have_is_refused(hz: str, tmp_path: Path) -> None:
    """1 to 100 a second."""
    with started(tmp_path / "out", "--hz", hz) as child:
        _, said = child.communicate(timeout=60)
    assert child.returncode == 2
    assert "--hz" in said


def test_without_a_driver_it_says_so_and_goes_on(tmp_path: Path) -> None:
    """GPUs that cannot be read are named in its log; the host's counters are there."""
    out = tmp_path / "counters.jsonl"
    with started(out, "--gpus", "0", "--seconds", "0.3") as child:
        _, said = child.communicate(timeout=60)
    if "no GPU counters: " not in said:
        pytest.skip("this machine has an NVIDIA driver")
    assert said.count("\n") == 1
    assert child.returncode == 0
    assert '"host_cpu_usage"' in out.read_text()
