"""The GPU faults: refusals for real, and the lock of clocks through a stand-in for NVML.

What no test can show without a GPU: that a driver's lock acts.
"""

import ctypes.util
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from injectors import (
    gpu_instability,
    gpu_memory_squeeze_out_NVLink,
    gpu_memory_squeeze_out_PCIe,
    gpu_preemption,
    gpu_swap,
)
from tasks.host import fault, gpu, processes, site, state, strengths
from tasks.shipping import shipped
from tests.fake_nvml.pynvml import driver_state
from tests.gpu_cases import FAULTS, PROGRAM_FAULTS, SEEN, Host, a_site, engine_python, interpreter
from tests.tree import ROOT

no_driver_here = pytest.mark.skipif(
    ctypes.util.find_library("nvidia-ml") is not None, reason="this machine has an NVIDIA driver"
)


@pytest.fixture(autouse=True)
def _shipped_code_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs find `injectors` as they do on a host."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@no_driver_here
def test_a_host_without_a_driver_says_so(tmp_path: Path) -> None:
    """No GPU is told of, and the refusal names the driver's library."""
    refusal = "no NVIDIA driver on this host (libnvidia-ml.so.1: NVML Shared Library Not Found)"
    assert gpu.facts() == []
    assert gpu.missing([0]) == refusal
    assert gpu.over_nvlink(0, 1) is None
    assert gpu_instability.requirements(a_site(tmp_path, "gpu_instability")) == refusal


def test_without_the_engines_interpreter_a_program_is_refused(tmp_path: Path) -> None:
    """It is named that none is known, that it is not there, or that it has no torch."""
    plan = a_site(tmp_path, "gpu_preemption")
    assert "no interpreter with torch" in str(gpu_preemption.requirements(plan))
    gone = gpu_preemption.requirements(replace(plan, python="/nowhere/python"))
    assert gone == "/nowhere/python: [Errno 2] No such file or directory: '/nowhere/python'"
    without = gpu_preemption.requirements(replace(plan, python=sys.executable))
    assert without == (
        f"no torch in {sys.executable} (No module named 'torch'): name the serving engine's interpreter"
    )


@no_driver_here
def test_torch_without_a_gpu_is_refused(tmp_path: Path) -> None:
    """The refusal says which torch it was that saw none."""
    python = engine_python()
    refusal = gpu_swap.requirements(a_site(tmp_path, "gpu_swap", python=python))
    assert re.fullmatch(rf"torch [\w.+]+ of {python} sees no GPU", str(refusal))


@pytest.mark.parametrize("anomaly", PROGRAM_FAULTS)
def test_a_gpu_that_is_not_there_is_named(anomaly: str, tmp_path: Path) -> None:
    """With the ones that are."""
    plan = a_site(tmp_path, anomaly, python=interpreter(tmp_path), gpus=[1, 9])
    assert FAULTS[anomaly].requirements(plan) == "no GPU 9: this host has 0-7"
    assert FAULTS[anomaly].requirements(replace(plan, gpus=[0, 1])) is None


def test_one_gpu_is_no_pair(tmp_path: Path) -> None:
    """Also where it is named twice, or not named at all."""
    for gpus in ([], [3], [3, 3]):
        plan = a_site(tmp_path, "gpu_memory_squeeze_out_NVLink", python=interpreter(tmp_path), gpus=gpus)
        refusal = gpu_memory_squeeze_out_NVLink.requirements(plan)
        assert refusal == f"a pair of GPUs is needed: this host's gpus are {gpus or [0]}"


def test_gpus_without_a_way_to_each_other_are_refused(tmp_path: Path) -> None:
    """No peer access between two of them is no peer-to-peer copy."""
    python = interpreter(tmp_path, look={**SEEN, "strangers": [[0, 1]]})
    plan = a_site(tmp_path, "gpu_memory_squeeze_out_NVLink", python=python, gpus=[0, 1])
    refusal = gpu_memory_squeeze_out_NVLink.requirements(plan)
    assert refusal == "GPU 0 cannot reach the memory of GPU 1 (torch.cuda.can_device_access_peer)"


def test_a_gpu_too_full_for_the_fault_is_refused(tmp_path: Path) -> None:
    """The server must not die of it: buffers, contexts and the probe have to fit beside it."""
    python = interpreter(tmp_path, look={**SEEN, "free_bytes": [1_400_000_000]})
    refusals = {
        anomaly: FAULTS[anomaly].requirements(a_site(tmp_path, anomaly, python=python))
        for anomaly in ("gpu_preemption", "gpu_memory_squeeze_out_PCIe", "gpu_swap")
    }
    assert refusals == {
        "gpu_preemption": "GPU 0 has 1.4 GB free, and this fault takes 1.6 GB of it",
        "gpu_memory_squeeze_out_PCIe": "GPU 0 has 1.4 GB free, and this fault takes 2.1 GB of it",
        "gpu_swap": None,
    }


def test_more_pinned_memory_than_the_host_has_is_refused(tmp_path: Path) -> None:
    """Pinned memory cannot be swapped: half of what is available is the most."""
    strength = {"mb": 8192, "streams": 16}
    plan = a_site(tmp_path, "gpu_memory_squeeze_out_PCIe", strength, gpus=[0, 1, 2, 3])
    refusal = str(gpu_memory_squeeze_out_PCIe.requirements(plan))
    assert refusal.startswith("it pins 524.3 GB, and the host has ")


@pytest.mark.parametrize(
    ("anomaly", "given"),
    [
        ("gpu_instability", {"mhz": 0}),
        ("gpu_memory_squeeze_out_NVLink", {"streams": 0}),
        ("gpu_memory_squeeze_out_PCIe", {"mb": 1e9}),
        ("gpu_preemption", {"share_pct": 101}),
        ("gpu_swap", {"share_of_free_pct": 100}),
        ("gpu_swap", {"sed": 1}),
    ],
)
def test_a_strength_that_cannot_be_is_refused(anomaly: str, given: dict[str, Any]) -> None:
    """Out of range or unknown, before anything runs; the defaults are within."""
    with pytest.raises(strengths.Unusable):
        strengths.complete(anomaly, FAULTS[anomaly].STRENGTH, given)
    whole = strengths.complete(anomaly, FAULTS[anomaly].STRENGTH, {})
    assert strengths.complete(anomaly, FAULTS[anomaly].STRENGTH, whole) == whole


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host with three GPUs; nothing of ours runs on after the test."""
    (tmp_path / "driver.json").write_text(json.dumps(driver_state(3)))
    (tmp_path / "driver.json.busy").mkdir()
    yield Host(tmp_path)
    for session, ticks in state.read_sessions(tmp_path).values():
        if not processes.reused(session, ticks):
            processes.end_session(session)


def test_what_is_known_of_gpus(host: Host) -> None:
    """Every field of every GPU; what one does not know is None."""
    first, _, third = host.ask("gpu.facts()")
    assert first == {
        "index": 0,
        "name": "NVIDIA Model 100",
        "uuid": "GPU-0000",
        "memory_bytes": 85_899_345_920,
        "driver": "570.00",
        "max_sm_mhz": 1980,
        "sm_mhz": 360,
        "memory_mhz": 2619,
        "power_limit_w": 700.0,
        "pcie_generation": 5,
        "pcie_width": None,
        "nvlink_peers": [1],
    }
    assert (third["index"], third["uuid"], third["nvlink_peers"]) == (2, "GPU-0002", [])


def test_a_lost_gpu_hides_no_other(host: Host) -> None:
    """What it does not answer is None."""
    host.set(lost=[0])
    lost, found, _ = host.ask("gpu.facts()")
    assert (lost["name"], lost["nvlink_peers"]) == (None, [])
    assert (found["name"], found["nvlink_peers"]) == ("NVIDIA Model 100", [0])


@pytest.mark.parametrize(
    ("changes", "given", "refusal"),
    [
        (
            {"init_error": "NVML_ERROR_DRIVER_NOT_LOADED"},
            {},
            "no NVIDIA driver on this host (libnvidia-ml.so.1: Driver Not Loaded)",
        ),
        ({"gpus": driver_state(1)["gpus"]}, {}, "no GPU 1: this host has 0 alone"),
        ({"gpus": []}, {}, "no GPU 0: this host has no GPU"),
        ({}, {"mhz": 200}, "GPU 0 has SM clocks of 345-1980 MHz, not 200"),
        ({"lost": [1]}, {}, "the NVIDIA driver says: GPU is lost"),
        ({}, {"mhz": 1000}, None),
    ],
)
def test_what_a_lock_needs_is_named(
    host: Host, changes: dict[str, Any], given: dict[str, Any], refusal: str | None
) -> None:
    """Driver, GPU, clock: in one line; and nothing is changed by asking."""
    host.set(**changes)
    host.plan(given)
    expected = {"value": {"metric": "gpu_sm_mhz", "unit": "MHz"}} if refusal is None else {"refused": refusal}
    before = host.driver
    assert host.part("check") == expected
    assert host.driver == before


def test_a_lock_needs_root_and_a_load(host: Host) -> None:
    """No root, and an idle clock alone proves nothing: both are refused."""
    host.plan(python=None)
    assert host.part("check")["refused"].startswith("no interpreter with torch")
    assert host.part("measure")["refused"].startswith("no interpreter with torch")
    asked = "[setattr(gpu_instability.os, 'geteuid', lambda: 1000), gpu_instability.requirements(plan)][1]"
    assert host.ask(asked) == "no root: the NVIDIA driver lets root alone lock clocks"


def test_a_driver_that_says_no_leaves_nothing_to_undo(host: Host) -> None:
    """A container's root may lack the right: the fault is refused, and the host is clean."""
    host.set(root=False)
    host.plan()
    assert host.part("hold") == {
        "refused": "the SM clock of GPU 0 cannot be locked: the NVIDIA driver says: Insufficient Permissions"
    }
    assert not (host.folder / fault.STATE).exists()


def test_the_whole_life_of_a_lock(host: Host) -> None:
    """The clock under load falls to the lowest on both GPUs and comes back; the idle one is another."""
    host.plan()
    before = host.part("measure")["value"]
    child = host.hold()
    during = host.part("measure")["value"]
    assert host.locked == [[345, 345], [345, 345], None]
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 0
    after = host.part("measure")["value"]
    assert (before, during, after) == (1980.0, 345.0, 1980.0)
    assert host.said("hold")["value"]["detail"] == (
        "SM clock locked: GPU 0 at 345 MHz (345-1980), GPU 1 at 345 MHz (345-1980)"
    )
    assert (host.locked, (host.folder / fault.STATE).exists()) == ([None, None, None], False)
    assert host.ask(f"gpu_instability.proved(plan, {before}, {during})")
    assert host.ask(f"gpu_instability.undone(plan, {before}, {after})")


def test_a_dose_is_the_clock_that_was_asked_for(host: Host) -> None:
    """It is proved by the clock read back, and not by a lower or a higher one."""
    host.plan({"mhz": 1200}, seconds=4.0)
    child = host.hold()
    during = host.part("measure")["value"]
    assert (during, host.locked[:2]) == (1200.0, [[1200, 1200]] * 2)
    assert child.wait(60) == 0  # its deadline
    assert host.locked == [None, None, None]
    judged = [host.ask(f"gpu_instability.proved(plan, 1980.0, {mhz})") for mhz in (1200.0, 1319.0, 1321.0)]
    assert judged == [True, True, False]
    assert not host.ask("gpu_instability.proved(plan, 1300.0, 1200.0)")  # it was that slow before


def test_one_gpu_that_keeps_its_clock_is_no_proof(host: Host) -> None:
    """The mean of eight tells of one that was not locked, and of one that is locked still."""
    host.plan()
    (host.folder / "fault").mkdir(exist_ok=True)
    (host.folder / "fault" / gpu_instability.TARGET).write_text("345")
    unlocked, locked = (
        statistics.harmonic_mean([*[most] * 7, one]) for most, one in ((345, 1980), (1980, 345))
    )
    assert not host.ask(f"gpu_instability.proved(plan, 1980.0, {unlocked})")
    assert not host.ask(f"gpu_instability.undone(plan, 1980.0, {locked})")


def test_kill_9_of_the_holder_is_undone_from_disk(host: Host) -> None:
    """Another process, that knows the folder alone, lets the clocks go; then there is nothing left to do."""
    host.plan()
    child = host.hold()
    child.kill()
    child.wait(60)
    assert host.locked[:2] == [[345, 345]] * 2
    assert host.ask("gpu_instability.left(held)") == "the SM clock of GPU 0 is locked to 345 MHz"
    assert host.ask("fault.forsaken(Path(held.folder))") == "the fault's process died"
    assert host.ask("fault.undo(Path(held.folder))") is None
    assert (host.locked, (host.folder / fault.STATE).exists()) == ([None] * 3, False)
    assert host.ask("fault.undo(Path(plan.folder))") is None


def test_a_lock_that_is_not_ours_is_let_be(host: Host) -> None:
    """Before apply began there is nothing to undo; a lock of an administrator's on another GPU stands."""
    host.lock(0, 900)
    host.lock(2, 900)
    host.held()
    assert host.ask("[gpu_instability.revert(held), gpu_instability.left(held)]") == [None, None]
    assert host.locked == [[900, 900], None, [900, 900]]


def test_half_a_lock_is_undone(host: Host) -> None:
    """The process died between the GPUs: with a note and no lock, or with both, revert works, and twice."""
    host.held()
    notes = [host.folder / "fault" / f"clock-lock-GPU-000{index}" for index in range(2)]
    for locked in ([], [0], [0, 1]):
        for index in locked:
            host.lock(index, 345)
        for note in notes[: len(locked) + 1]:
            note.parent.mkdir(exist_ok=True)
            note.write_text("345")
        twice = "[gpu_instability.revert(held), gpu_instability.revert(held), gpu_instability.left(held)]"
        assert host.ask(twice) == [None, None, None]
        assert (host.locked, [note.exists() for note in notes]) == ([None] * 3, [False, False])


def test_a_lost_gpu_is_reported_and_the_others_are_let_go(host: Host) -> None:
    """What cannot be undone stays on record, and is undone when the GPU is back."""
    host.plan()
    child = host.hold()
    child.kill()
    child.wait(60)
    host.set(lost=[0])
    left = host.ask("fault.undo(Path(held.folder))")
    assert left == "gpu_instability is not undone: Trouble: GPU 0: the NVIDIA driver says: GPU is lost"
    assert host.locked == [[345, 345], None, None]
    host.set(lost=[])
    assert host.ask("fault.undo(Path(held.folder))") is None
    assert host.locked == [None] * 3


def test_a_reset_without_effect_is_seen(host: Host) -> None:
    """Where the driver tells the reason for a clock, by that; else by the clock under load."""
    host.plan(gpus=[0])
    child = host.hold()
    host.set(reset_works=False)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 1
    left = "GPU 0 still says that a setting keeps its SM clock at 345 MHz"
    assert host.ask("gpu_instability.left(held)") == left
    assert (host.folder / fault.STATE).exists()
    gpus = host.driver["gpus"]
    gpus[0]["limited"] = False  # a driver that gives no reason
    host.set(gpus=gpus)
    assert host.ask("gpu_instability.left(held)") is None
    after = host.part("measure")["value"]
    assert (after, host.ask(f"gpu_instability.undone(plan, 1980.0, {after})")) == (345.0, False)


def test_a_lock_without_effect_is_no_proof(host: Host) -> None:
    """The driver's word is not taken for it."""
    host.set(lock_works=False)
    host.plan(gpus=[0])
    child = host.hold()
    during = host.part("measure")["value"]
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 0
    assert (during, host.ask(f"gpu_instability.proved(plan, 1980.0, {during})")) == (1980.0, False)


def test_no_lock_outlives_a_reboot(host: Host) -> None:
    """The driver is not even asked: it may not be loaded yet."""
    host.plan()
    child = host.hold()
    child.kill()
    child.wait(60)
    held = site.read(host.folder / fault.STATE)
    assert held is not None
    site.write(replace(held, boot_id="of another start"), host.folder / fault.STATE)
    host.set(init_error="NVML_ERROR_DRIVER_NOT_LOADED", gpus=driver_state(3)["gpus"])
    assert host.ask("fault.undo(Path(held.folder))") is None
    assert not (host.folder / fault.STATE).exists()


def test_a_load_that_dies_makes_no_reading(host: Host) -> None:
    """A clock that was read while nothing ran would be the idle one."""
    host.plan(python=interpreter(host.folder, gemms={"refused": "CUDA error: out of memory"}))
    assert host.part("measure") == {"refused": "gemms: CUDA error: out of memory"}
    short = Path(interpreter(host.folder))
    short.write_text(short.read_text().replace("time.sleep(60", "time.sleep(0.2"))
    assert host.part("measure") == {"refused": "the load on the GPU ended while its clock was read"}


def test_peers_that_are_not_joined_by_nvlink_are_named(host: Host) -> None:
    """The fault of that name squeezes NVLink: over PCIe it would be another."""
    host.plan(anomaly="gpu_memory_squeeze_out_NVLink")
    assert host.ask("gpu_memory_squeeze_out_NVLink.requirements(plan)") is None
    host.plan(anomaly="gpu_memory_squeeze_out_NVLink", gpus=[0, 1, 2])
    refusal = "GPU 0 and GPU 2 reach each other, but not over NVLink: choose others in `gpus`"
    assert host.ask("gpu_memory_squeeze_out_NVLink.requirements(plan)") == refusal


def test_pynvml_is_shipped_and_the_hosts_own_goes_first(tmp_path: Path) -> None:
    """A Python without packages finds the shipped one; the tar is the same every time, programs included."""
    assert shipped() == shipped()
    with tarfile.open(fileobj=io.BytesIO(shipped())) as tar:
        programs = {f"injectors/programs/{path.name}" for path in ROOT.glob("injectors/programs/*.py")}
        assert programs | {"vendor/pynvml.py"} <= set(tar.getnames())
        assert len(programs) > 4
        tar.extractall(tmp_path / "code", filter="data")
    where = "from tasks.host import gpu; gpu.missing([0]); import pynvml; print(pynvml.__file__)"
    (tmp_path / "own").mkdir()
    (tmp_path / "own/pynvml.py").write_text((tmp_path / "code/vendor/pynvml.py").read_text())
    found = []
    for path in ("", str(tmp_path / "own")):
        argv = [sys.executable, "-S", "-c", where]
        env = {**os.environ, "PYTHONPATH": path}
        said = subprocess.run(
            argv, cwd=tmp_path / "code", env=env, capture_output=True, text=True, check=True
        )
        found.append(said.stdout.strip())
    assert found == [str(tmp_path / "code/vendor/pynvml.py"), str(tmp_path / "own/pynvml.py")]
