"""cpu_frequency_reduction against a stand-in for the kernel's cpufreq, and the refusals for real.

Few machines that run tests have cpufreq. `tests/stand_in_cpufreq.py` says what the stand-in does like the
kernel, and what not: the injector runs unchanged in processes of its own, in a mount namespace whose
/sys/devices/system/cpu the stand-in serves. Untested is how real drivers round, and a real clock.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from injectors import cpu_frequency_reduction as reduction
from tasks.host import fault, processes, state, strengths
from tasks.host.site import Site, write

ROOT = Path(__file__).resolve().parent.parent
CPU = Path("/sys/devices/system/cpu")
STEP = """
import json, sys, time
from pathlib import Path
from injectors import cpu_frequency_reduction as reduction
from tasks.host import fault, site
folder, what = Path(sys.argv[1]), sys.argv[2]
found = site.read(folder / fault.STATE) or site.read(folder / fault.PLAN)
if what == "saved":
    found.saved = reduction.saved(found)
    site.write(found, folder / fault.STATE)
    print(json.dumps(found.saved))
elif what == "apply":
    print(json.dumps(reduction.apply(found)))
    found.saved["applied_monotonic_s"] = time.monotonic()  # as the fault's own process does it
    site.write(found, folder / fault.STATE)
elif what == "undo":
    print(json.dumps(fault.undo(folder)))
else:
    print(json.dumps(getattr(reduction, what)(found, *map(float, sys.argv[3:]))))
"""
can_stand_in = os.geteuid() == 0 and Path("/dev/fuse").exists()
needs_stand_in = pytest.mark.skipif(not can_stand_in, reason="the stand-in needs root and /dev/fuse")
cpus = sorted(os.sched_getaffinity(0))
GHZ = 1_000_000  # in kHz
SLOW, FAST = 800_000, 3 * GHZ


class Host:
    """A host with a cpufreq: what is done there is done by other processes."""

    def __init__(self, folder: Path, policies: list[dict[str, Any]]) -> None:
        self.folder, self.config, self.log = folder, folder / "config.json", folder / "writes"
        self.policies = policies
        self.tell()
        self.log.touch()
        argv = ["unshare", "--mount", sys.executable, "-m", "tests.stand_in_cpufreq", str(self.config)]
        argv += [str(self.log)]
        self.kernel = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.kernel.stdout is not None
        assert self.kernel.stdout.readline() == "ready\n"

    def tell(self) -> None:
        """Let the stand-in know the policies as they are now."""
        draft = self.config.with_suffix(".draft")
        draft.write_text(json.dumps(self.policies))
        draft.replace(self.config)

    def run(self, argv: list[str]) -> str:
        """Run a command there; what it printed."""
        inside = ["nsenter", f"--mount=/proc/{self.kernel.pid}/ns/mnt", "env", f"PYTHONPATH={ROOT}", *argv]
        ended = subprocess.run(inside, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def step(self, what: str, *measures: float) -> Any:  # noqa: ANN401  JSON
        """One part of the fault's life, in a process that knows only what is on disk."""
        words = [str(self.folder), what, *map(str, measures)]
        return json.loads(self.run([sys.executable, "-c", STEP, *words]))

    def range_of(self, policy: int = 0) -> tuple[int, int]:
        """(minimum, maximum) in kHz, once the kernel has done what it was told."""
        time.sleep(0.1)
        folder = CPU / "cpufreq" / f"policy{policy}"
        low, high = self.run(["cat", f"{folder}/scaling_min_freq", f"{folder}/scaling_max_freq"]).split()
        return int(low), int(high)

    def ask(self, end: str, khz: int, policy: int = 0) -> None:
        """Be somebody else who sets a limit."""
        file = CPU / "cpufreq" / f"policy{policy}" / f"scaling_{end}_freq"
        self.run(["sh", "-c", f"echo {khz} > {file}"])
        self.range_of(policy)

    def end(self) -> None:
        """End the namespace."""
        self.kernel.kill()
        with self.kernel:
            pass


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Make a host of these policies, with a fault of this strength planned on the first CPUs."""
    made = []

    def make(*policies: dict[str, Any], mhz: int | None = None) -> Host:
        whole = [{"lowest": SLOW, "highest": FAST, **policy} for policy in policies]
        made.append(Host(tmp_path, whole))
        site = site_of(tmp_path, mhz)
        write(replace(site, cpus=[cpu for policy in whole for cpu in policy["cpus"]]), tmp_path / fault.PLAN)
        return made[0]

    yield make
    for one in made:
        one.end()


def site_of(folder: Path, mhz: int | None = None) -> Site:
    """A fault of this strength on all CPUs."""
    strength = strengths.complete("cpu_frequency_reduction", reduction.STRENGTH, {"mhz": mhz})
    return Site("cpu_frequency_reduction", strength, str(folder), str(folder / "log"), cpus, 60)


@needs_stand_in
@pytest.mark.parametrize("old", [False, True])
def test_the_range_is_cut_down_and_comes_back(host: Callable[..., Host], *, old: bool) -> None:
    """Old kernels, which refuse a minimum above the maximum, and new ones, which act later: both ways."""
    there = host({"cpus": [0, 1], "old": old}, mhz=1000)
    there.ask("min", 2 * GHZ)
    before = there.range_of()
    assert (before, there.step("requirements")) == ((2 * GHZ, FAST), None)
    there.step("saved")
    there.log.write_text("")
    assert there.step("apply") == "CPUs 0, 1: at most 1000 MHz instead of 3000"
    assert there.range_of() == (GHZ, GHZ)
    assert "is still our 1000000 kHz, not 3000000" in there.step("left")
    there.step("revert")
    assert (there.range_of(), there.step("left")) == (before, None)
    there.step("revert")  # a second time
    assert (there.range_of(), there.step("left")) == (before, None)
    assert there.log.read_text().splitlines() == [
        "policy0/scaling_min_freq 1000000", "policy0/scaling_max_freq 1000000",
        "policy0/scaling_max_freq 3000000", "policy0/scaling_min_freq 2000000",
    ]  # fmt: skip


@needs_stand_in
def test_the_lowest_clock_is_the_default_and_policies_keep_their_own_ranges(
    host: Callable[..., Host],
) -> None:
    """Little and big cores are each cut down to what they support, and given back what they had."""
    there = host({"cpus": [0]}, {"cpus": [1], "lowest": GHZ, "highest": 4 * GHZ})
    there.ask("max", 2 * GHZ, 1)
    there.step("saved")
    said = there.step("apply")
    assert said == "CPUs 0: at most 800 MHz instead of 3000; CPUs 1: at most 1000 MHz instead of 2000"
    assert (there.range_of(0), there.range_of(1)) == ((SLOW, SLOW), (GHZ, GHZ))
    there.step("revert")
    assert (there.range_of(0), there.range_of(1)) == ((SLOW, FAST), (GHZ, 2 * GHZ))


@needs_stand_in
def test_a_table_of_clocks_is_kept_to(host: Callable[..., Host]) -> None:
    """Between two clocks that there are it is the lower one: never more than what was asked for."""
    there = host({"cpus": [0], "table": [SLOW, 1_200_000, 2_000_000, FAST]}, mhz=1900)
    assert there.step("saved")["ranges"][f"{CPU}/cpufreq/policy0"]["our_max"] == 1_200_000
    there.step("apply")
    assert there.range_of() == (SLOW, 1_200_000)
    there.step("revert")
    assert there.range_of() == (SLOW, FAST)


@needs_stand_in
@pytest.mark.parametrize("old", [False, True])
def test_what_others_set_meanwhile_stays(host: Callable[..., Host], *, old: bool) -> None:
    """A later change of either end is left alone, and the other end comes back as far as it may."""
    there = host({"cpus": [0], "old": old}, mhz=1000)
    there.ask("min", 2 * GHZ)
    there.step("saved")
    there.step("apply")
    there.ask("max", 1_500_000)
    there.step("revert")
    assert (there.range_of(), there.step("left")) == ((1_500_000, 1_500_000), None)


@needs_stand_in
def test_a_thermal_limit_does_not_hide_ours(host: Callable[..., Host]) -> None:
    """While a lower limit of the kernel's own holds ours cannot be seen: it is taken away all the same."""
    there = host({"cpus": [0]}, mhz=2000)
    there.step("saved")
    there.step("apply")
    there.policies[0]["cap"] = GHZ
    there.tell()
    assert (there.range_of(), there.step("left")) == ((SLOW, GHZ), None)
    there.step("revert")
    there.policies[0]["cap"] = None
    there.tell()
    assert (there.range_of(), there.step("left")) == ((SLOW, FAST), None)


@needs_stand_in
@pytest.mark.parametrize("written", [(), ("min",), ("min", "max")])
def test_an_undo_needs_only_the_disk(host: Callable[..., Host], written: tuple[str, ...]) -> None:
    """However far apply came, another process undoes it; before anything was written nothing changes."""
    there = host({"cpus": [0]}, {"cpus": [1]}, mhz=1000)
    there.ask("min", 2 * GHZ)
    there.step("saved")
    for end in written:
        there.ask(end, GHZ)
    assert there.step("undo") is None
    assert (there.range_of(0), there.range_of(1)) == ((2 * GHZ, FAST), (SLOW, FAST))
    assert not (there.folder / fault.STATE).exists()


@needs_stand_in
def test_after_a_reboot_nothing_is_touched(host: Callable[..., Host]) -> None:
    """The kernel has forgotten our limit: one that looks the same is somebody else's."""
    there = host({"cpus": [0]}, mhz=1000)
    saved = there.step("saved")
    there.ask("max", GHZ)
    write(replace(site_of(there.folder), saved=saved, boot_id="another"), there.folder / fault.STATE)
    assert (there.step("left"), there.step("undo")) == (None, None)
    assert there.range_of() == (SLOW, GHZ)


@needs_stand_in
def test_what_the_kernel_does_not_do_is_no_success(host: Callable[..., Host]) -> None:
    """A driver that answers a write with another clock than asked for is named, and all is put back."""
    there = host({"cpus": [0], "table": [SLOW, FAST]}, mhz=1000)
    there.step("saved")
    there.policies[0] = {**there.policies[0], "lowest": 2 * GHZ, "table": None}  # e.g. set by the firmware
    there.tell()
    with pytest.raises(AssertionError, match="policy0 stays at 2000000 kHz when told 800000"):
        there.step("apply")
    there.step("revert")
    assert there.range_of() == (2 * GHZ, FAST)


@needs_stand_in
def test_the_clock_is_read_back(host: Callable[..., Host]) -> None:
    """The measure is the mean clock of the CPUs while they are busy, and it says what the fault did."""
    there = host({"cpus": cpus[:1]}, *({"cpus": [cpu], "highest": 2 * GHZ} for cpu in cpus[1:2]), mhz=1000)
    before = there.step("probe")
    assert before == (2500 if len(cpus) > 1 else 3000)
    there.step("saved")
    there.step("apply")
    during = there.step("probe")
    assert (during, there.step("proved", before, during)) == (1000, True)
    there.step("revert")
    after = there.step("probe")
    assert (after, there.step("undone", before, after)) == (before, True)
    assert [there.step("proved", before, mhz) for mhz in (1049, 1051)] == [True, False]
    assert there.step("proved", 1000, 999) is False
    assert [there.step("undone", 1000, mhz) for mhz in (899, 901)] == [False, True]


@needs_stand_in
def test_kill_the_holder_and_undo_leaves_nothing(host: Callable[..., Host]) -> None:
    """The fault's own process holds the limit; after a kill -9 of it the disk is enough."""
    there = host({"cpus": [0]}, mhz=1000)
    me = (os.getpid(), processes.start_ticks(os.getpid()) or 0)
    write(replace(site_of(there.folder, 1000), cpus=[0], guards=[me]), there.folder / fault.PLAN)
    state.beat(there.folder)
    inside = ["nsenter", f"--mount=/proc/{there.kernel.pid}/ns/mnt", "env", f"PYTHONPATH={ROOT}"]
    argv = [*inside, sys.executable, "-m", "tasks.host.fault", str(there.folder), "hold"]
    record = state.record_of(there.folder, fault.HOLDER)
    with processes.start(argv, there.folder / "log", record) as holder:
        end = time.monotonic() + 30
        while not (there.folder / "fault-hold.json").exists() and time.monotonic() < end:
            state.beat(there.folder)
            time.sleep(0.05)
        assert there.range_of() == (SLOW, GHZ)
        os.kill(holder.pid, signal.SIGKILL)
    assert there.range_of() == (SLOW, GHZ)
    assert there.step("undo") is None
    assert there.range_of() == (SLOW, FAST)


@needs_stand_in
def test_a_dose_that_the_cpu_has_not_is_refused(host: Callable[..., Host]) -> None:
    """Below what it supports, or no reduction at all: the figures are in the refusal."""
    there = host({"cpus": [0], "cap": 2 * GHZ}, mhz=700)
    assert there.step("requirements") == "mhz 700 is below the 800 MHz that policy0 supports"
    write(replace(site_of(there.folder, 2500), cpus=[0]), there.folder / fault.PLAN)
    assert there.step("requirements") == "policy0 runs at 2000 MHz at most already: nothing to reduce"


@pytest.mark.parametrize("mhz", [99, 20_001, 1000.5, True, "1000"])
def test_a_dose_that_is_none_is_refused(mhz: object) -> None:
    """Megahertz are whole numbers that a CPU could have."""
    with pytest.raises(strengths.Unusable, match="mhz"):
        strengths.complete("cpu_frequency_reduction", reduction.STRENGTH, {"mhz": mhz})


@pytest.mark.skipif((CPU / "cpu0/cpufreq").exists(), reason="this host has cpufreq")
def test_a_host_without_cpufreq_is_refused(tmp_path: Path) -> None:
    """The refusal names the folder that is not there."""
    refusal = reduction.requirements(site_of(tmp_path))
    assert refusal is not None
    assert refusal.startswith(f"no cpufreq on this host ({CPU}/cpu{cpus[0]}/cpufreq is not there)")


def test_without_the_right_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may not write the limit is told what it takes."""
    policy = tmp_path / "cpufreq/policy0"
    policy.mkdir(parents=True)
    for name, khz in {"cpuinfo_min_freq": SLOW, "scaling_max_freq": FAST}.items():
        (policy / name).write_text(f"{khz}\n")
    for cpu in cpus:
        (tmp_path / f"cpu{cpu}").mkdir()
        (tmp_path / f"cpu{cpu}/cpufreq").symlink_to("../cpufreq/policy0")
    monkeypatch.setattr(reduction, "CPUS", tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anything
    refusal = reduction.requirements(site_of(tmp_path))
    assert refusal == (
        f"no right to write {policy}/scaling_max_freq: this needs root, and a /sys that is not read-only"
    )
