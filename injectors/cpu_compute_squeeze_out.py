"""CPU compute squeeze-out: another process saturates the vector units of the server's cores.

Threads in tight AVX-512 FMA / SQRT / RCP14 loops (AVX2 or scalar where the CPU has no AVX-512; the
state says which), as in the published anomaly of that name (arXiv 2601.09258). Runs on the host,
standard library only. The victim's measure is the FLOP/s that one further thread still gets on
those cores: it must fall under the fault and come back after it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_suffix(".c")
THREADS_PER_CPU = 2  # the default: no core of the server's is left alone
# Of the victim's FLOP/s before. With the kernel's autogroups server, fault and victim get a third of the core
# each, however many threads the fault has, where server and victim had a half each: two thirds are expected.
FELL_BELOW = 0.85
MEASURE_MS = 700
MOST_THREADS_PER_CPU = 64
COMPILE_S = 8  # the supervisor answers nobody meanwhile


def requirements(strength: dict[str, Any], work: Path) -> str | None:
    """What is missing on this host for this fault, in one line, or None. Compiles the program."""
    unknown = sorted(set(strength) - {"threads_per_cpu"})
    if unknown:
        return f"unknown strength {unknown[0]!r}; cpu_compute_squeeze_out knows threads_per_cpu"
    threads = strength.get("threads_per_cpu", THREADS_PER_CPU)
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= MOST_THREADS_PER_CPU:
        return f"strength threads_per_cpu is {threads!r}, not a whole number from 1 to {MOST_THREADS_PER_CPU}"
    compiler = next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)
    if compiler is None:
        return "no C compiler (cc, gcc or clang) on the host; on Debian: apt-get install gcc libc6-dev"
    command = [
        compiler,
        "-O2",
        "-pthread",
        "-fno-math-errno",
        str(SOURCE),
        "-o",
        str(work / "squeeze"),
        "-lm",
    ]
    try:
        built = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_S, check=False)
    except subprocess.TimeoutExpired:
        return f"the C compiler did not end within {COMPILE_S} s"
    return None if built.returncode == 0 else f"the C compiler failed: {built.stderr.strip()[-300:]}"


def apply(strength: dict[str, Any], work: Path, cpus: list[int], seconds: int, spawn: Any) -> dict[str, Any]:
    """Start the threads; spawn(name, argv, cpus) starts a supervised process and returns its log."""
    threads = strength.get("threads_per_cpu", THREADS_PER_CPU) * len(cpus)
    log = spawn("fault", [str(work / "squeeze"), "burn", str(threads), str(seconds)], cpus)
    said = _first_line(log, 5.0)
    return {
        "threads": threads,
        "isa": said["isa"],
        "detail": f"{threads} threads of {said['isa']} FMA/SQRT/RCP14",
    }


def revert(stop: Any) -> None:
    """Stop the threads; stop(name) ends a supervised process and fails if any of it is left."""
    stop("fault")


def probe(work: Path, cpus: list[int], run: Any) -> dict[str, Any]:
    """The victim's measure: {"metric", "unit", "value"}, one thread of FMA on the affected CPUs."""
    said = json.loads(run([str(work / "squeeze"), "measure", str(MEASURE_MS)], cpus))
    return {"metric": "victim_gflops", "unit": "GFLOP/s", "value": float(said["gflops"])}


def proved(before: float, during: float) -> bool:
    """Whether the measure fell as this fault makes it fall."""
    return during < FELL_BELOW * before


def undone(before: float, after: float) -> bool:
    """Whether the measure is back."""
    return after >= FELL_BELOW * before


def _first_line(log: Path, seconds: float) -> dict[str, str]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = log.read_text(errors="replace") if log.exists() else ""
        if "\n" in text:
            said = json.loads(text.splitlines()[0])
            return {key: str(value) for key, value in said.items()}
        time.sleep(0.02)
    raise RuntimeError(f"the squeeze program did not start within {seconds:.0f} s; it said: {text[-200:]!r}")
