"""Facts about a host: on this machine's real /proc and /sys, and on texts of other machines."""

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.host import facts, readings


def test_this_machine_is_told_as_the_kernel_has_it(tmp_path: Path) -> None:
    """What other programs say of this machine is what the facts say, and all of it goes into JSON."""
    found = facts.gather(tmp_path)
    assert json.loads(json.dumps(found)) == found
    assert found["cores"] == os.cpu_count()
    assert found["memory_bytes"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found["kernel"] == platform.release()
    assert found["disk_free_bytes"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert found["root"] == found["rights"]["root"] == (os.geteuid() == 0)
    assert found["tools"]["cc"] == next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    assert found["avx512"] == ("avx512f" in found["cpu_flags"])
    nodes = [cpu for cpus in (found["numa_nodes"] or {}).values() for cpu in cpus]
    assert set(found["usable_cpus"]) <= set(nodes or found["usable_cpus"])


def test_what_is_read_elsewhere_keeps_its_name(tmp_path: Path) -> None:
    """Bundles, preflight and the choice of CPUs read these keys."""
    assert {
        "hostname", "cpu_model", "cores", "usable_cpus", "avx512", "memory_bytes", "swap_bytes", "kernel",
        "python", "cgroup_version", "boot_id", "root", "disk_free_bytes", "realtime_ns", "monotonic_ns",
        "sockets", "physical_cores", "smt", "numa_nodes", "cpu_flags", "frequency", "transparent_hugepages",
        "os", "cgroup_controllers", "virtualisation", "clocksource", "gpus", "nvidia_driver", "rights",
        "tools",
    } == set(facts.gather(tmp_path))  # fmt: skip


def test_a_host_that_shows_nothing_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a readable /proc and /sys every fact from there is None, and the rest is told."""

    def nothing(*_: object) -> Any:  # noqa: ANN401 - stands in for any reader
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(readings, "text", lambda _path: "")
    monkeypatch.setattr("glob.glob", nothing)
    monkeypatch.setattr("shutil.disk_usage", nothing)
    found = facts.gather(tmp_path)
    of_files = (
        "memory_bytes",
        "cpu_flags",
        "numa_nodes",
        "frequency",
        "os",
        "disk_free_bytes",
        "clocksource",
    )
    assert [found[name] for name in of_files] == [None] * len(of_files)
    assert [found[name] for name in ("sockets", "physical_cores", "smt")] == [None] * 3
    assert found["rights"]["net_admin"] is None
    assert found["cores"] == os.cpu_count()


def test_a_gpu_module_that_fails_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trouble in the driver is not trouble in the facts."""

    def broken() -> None:
        raise RuntimeError("driver/library version mismatch")

    monkeypatch.setattr("tasks.host.gpu.facts", broken)
    assert facts.gather(tmp_path)["gpus"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0-2,8", [0, 1, 2, 8]), ("5", [5]), ("0-1,4-5\n", [0, 1, 4, 5]), ("", []), ("\n", [])],
)
def test_a_set_of_cpus_is_read_as_the_kernel_writes_it(text: str, expected: list[int]) -> None:
    """Ranges with both ends, single numbers, and nothing at all (a node with memory alone)."""
    assert facts.numbers(text) == expected


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("flags\t\t: fpu avx avx2 avx512f avx512dq amx_bf16 amx_tile\n", ["avx2", "avx512f", "amx_tile"]),
        ("flags\t\t: fpu avx avx2x\n", []),
        ("Features\t: fp asimd sve\n", None),
    ],
)
def test_flags_are_whole_words(cpuinfo: str, expected: list[str] | None) -> None:
    """`avx2x` is not `avx2`, and a CPU without such a line is not one without the units."""
    assert facts.cpu_flags(cpuinfo) == expected


def test_the_clock_range_is_that_of_all_policies(tmp_path: Path) -> None:
    """The lowest minimum and the highest maximum, every governor once; a file that is missing is left out."""
    for policy, governor, low, high in (
        (0, "powersave", 800_000, 2_000_000),
        (1, "performance", 1_000_000, None),
        (2, "powersave", 900_000, 3_000_000),
    ):
        folder = tmp_path / "cpufreq" / f"policy{policy}"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{governor}\n")
        (folder / "scaling_driver").write_text("acpi-cpufreq\n")
        (folder / "scaling_min_freq").write_text(f"{low}\n")
        if high:
            (folder / "scaling_max_freq").write_text(f"{high}\n")
    assert facts.frequency(str(tmp_path)) == {
        "governors": ["performance", "powersave"], "driver": "acpi-cpufreq", "min_khz": 800_000,
        "max_khz": 3_000_000,
    }  # fmt: skip
    assert facts.frequency(str(tmp_path / "none")) is None


V1 = "12:cpuset:/\n4:cpu,cpuacct:/user.slice\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize(
    ("controllers", "ours", "expected"),
    [
        ("cpuset cpu io memory\n", "0::/user.slice\n", (2, ["cpuset", "cpu", "io", "memory"])),
        (None, V1, (1, ["cpu", "cpuacct", "cpuset"])),
        (None, "", (None, [])),
    ],
    ids=["v2", "v1 or both", "none"],
)
def test_the_cgroup_version_is_that_of_the_controllers(
    tmp_path: Path, controllers: str | None, ours: str, expected: tuple[int | None, list[str]]
) -> None:
    """A host with both versions mounted has its controllers in version 1, and that is what a quota needs."""
    if controllers is not None:
        (tmp_path / "cgroup.controllers").write_text(controllers)
    (tmp_path / "ours").write_text(ours)
    assert facts.cgroups(str(tmp_path), str(tmp_path / "ours")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', "Debian GNU/Linux 12 (bookworm)"),
        ("PRETTY_NAME=Arch\n", "Arch"),
        ("PRETTY_NAME=\n", None),
        ("", None),
    ],
)
def test_the_name_of_the_system_is_unquoted(text: str, expected: str | None) -> None:
    """As a shell would read the file."""
    assert facts.os_name(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023",
            "535.129.03",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build", "560.35.03"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.65  Release Build", "580.65"),
        ("", None),
    ],
)
def test_the_driver_is_named_by_its_version(text: str, expected: str | None) -> None:
    """Both kinds of the kernel module."""
    assert facts.driver(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("always [madvise] never\n", "madvise"), ("[always] never", "always"), ("", None)]
)
def test_the_choice_that_is_on_is_the_one_in_brackets(text: str, expected: str | None) -> None:
    """As the kernel marks it in /sys."""
    assert facts.chosen(text) == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [("000001ffffffffff", True), ("00000000a80425fb", False), ("0000000000001000", True)],
    ids=["root", "root in a container", "this right alone"],
)
def test_root_in_a_container_may_not_change_the_network(capabilities: str, expected: bool) -> None:  # noqa: FBT001 - a case
    """The right is CAP_NET_ADMIN, not the name of the user."""
    assert facts.net_admin(f"Name:\tx\nCapInh:\t0000000000000000\nCapEff:\t{capabilities}\n") is expected
    assert facts.net_admin("") is None
