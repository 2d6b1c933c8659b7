"""CPU compute squeeze-out: another process saturates the vector units of the server's cores.

Threads in tight AVX-512 FMA / SQRT / RCP14 loops (AVX2 or scalar where the CPU has no AVX-512; the
detail says which), as in the published anomaly of that name (arXiv 2601.09258). Runs on the host,
standard library only. The victim's measure is the FLOP/s that a further thread on each of those
cores still gets, their mean: it must fall under the fault and come back after it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.host.site import Site, Trouble
from tasks.host.strengths import Number

if TYPE_CHECKING:
    from tasks.host.strengths import Parameters

SOURCE = Path(__file__).with_suffix(".c")
STRENGTH: Parameters = {
    "threads_per_cpu": Number(2, 1, 64, "threads on each of the server's CPUs"),
    "share_pct": Number(100, 1, 100, "share of the time that each thread burns"),
}
METRIC, UNIT = "victim_gflops", "GFLOP/s"
# With the kernel's autogroups server, fault and victim get a third of the core each, however many threads the
# fault has, where server and victim had a half each: the victim loses a third. A weak fault takes less, and
# what is within 4 % may be noise.
LOSES, LOSES_AT_LEAST, NOISE = 0.15, 0.04, 0.15
MEASURE_MS = 700
COMPILE_S = 20.0


def requirements(site: Site) -> str | None:
    """What this host lacks, in one line, or None. Compiles the program."""
    compiler = next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)
    if compiler is None:
        return "no C compiler (cc, gcc or clang) on the host; on Debian: apt-get install gcc libc6-dev"
    flags = ["-O2", "-pthread", "-fno-math-errno"]
    try:
        site.run([compiler, *flags, str(SOURCE), "-o", str(_program(site)), "-lm"], COMPILE_S)
    except Trouble as error:
        return f"the C compiler failed: {error}"
    return None


def saved(_site: Site) -> dict[str, Any]:
    """Nothing of the host's is changed."""
    return {}


def apply(site: Site) -> str:
    """Start the threads on the server's CPUs."""
    threads = site.strength["threads_per_cpu"] * len(site.cpus)
    share = site.strength["share_pct"]
    said = site.spawn([str(_program(site)), "burn", str(threads), str(int(site.seconds) + 1), str(share)])
    return f"{threads} threads of {said['isa']} FMA/SQRT/RCP14, {share} % of the time"


def revert(site: Site) -> None:
    """End the threads."""
    site.end_programs()


def left(site: Site) -> str | None:
    """What of it is still there."""
    pids = site.programs()
    return f"the program still runs (pids {sorted(pids)})" if pids else None


def probe(site: Site) -> float:
    """The victim's measure: FLOP/s of a thread of FMA on each of the affected CPUs, their mean."""
    return float(json.loads(site.run([str(_program(site)), "measure", str(MEASURE_MS)]))["gflops"])


def proved(site: Site, before: float, during: float) -> bool:
    """Whether the measure fell as this fault makes it fall."""
    loss: float = max(LOSES * site.strength["share_pct"] / 100, LOSES_AT_LEAST)
    return during < before * (1 - loss)


def undone(_site: Site, before: float, after: float) -> bool:
    """Whether the measure is back."""
    return after >= before * (1 - NOISE)


def _program(site: Site) -> Path:
    return site.work / "squeeze"
