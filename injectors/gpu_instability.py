"""GPU instability: the SM clock is locked to the lowest that the GPU supports, or to a given one.

As in the published anomaly of that name (arXiv 2601.09258). NVML sets such a lock and resets it, and has no
question that reads it. So a note on disk says which GPU's lock is ours: written before the lock is set,
removed when the driver has confirmed the reset. `left` reads the note, and beside it the reasons that the
driver gives for the clock: a GPU that says, as it did not before, that a setting keeps its clock down, and
runs no faster than the lock, is still locked. The proof of both ends is the victim's measure: the SM clock
under a load of matrix products, as a GPU without one idles low. A lock that an administrator had set before
cannot be seen, and is gone after. None outlives a reboot. Standard library only. Untested on hardware.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

from injectors import _gpu_programs
from tasks.host import gpu
from tasks.host.site import Trouble
from tasks.host.strengths import Number

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.host.site import Site
    from tasks.host.strengths import Parameters

STRENGTH: Parameters = {
    "mhz": Number(None, 1, 10_000, "the SM clock in MHz; left out: the lowest that the GPU supports"),
}
METRIC, UNIT = "gpu_sm_mhz", "MHz"
NEAR, LOSES, NOISE = 1.1, 0.1, 0.15
LOAD_S, RISE_S, SAMPLE_S = 30.0, 0.5, 1.5  # the load's own deadline; the clock rises; it is sampled
TARGET = "clock-target"


def requirements(site: Site) -> str | None:
    """What is missing: the driver, the GPU, root, the clock, and torch to load the GPU while it is read."""
    missing = gpu.missing(_gpu_programs.gpus(site))
    if missing:
        return missing
    if os.geteuid() != 0:
        return "no root: the NVIDIA driver lets root alone lock clocks"
    try:
        for known in gpu.clocks(_gpu_programs.gpus(site)):
            lowest, highest = known["lowest_mhz"], known["highest_mhz"]
            if not lowest <= (site.strength["mhz"] or lowest) <= highest:
                wanted = site.strength["mhz"]
                return f"GPU {known['index']} has SM clocks of {lowest}-{highest} MHz, not {wanted}"
    except Trouble as error:
        return str(error)
    return _gpu_programs.missing(site)


def saved(site: Site) -> dict[str, Any]:
    """Which GPUs, by what does not change, and to which clock each."""
    known = gpu.clocks(_gpu_programs.gpus(site))
    return {"gpus": [{**one, "mhz": site.strength["mhz"] or one["lowest_mhz"]} for one in known]}


def apply(site: Site) -> str:
    """Lock the clock of each GPU, a note of it first."""
    known = site.saved["gpus"]
    (site.work / TARGET).write_text(str(max(one["mhz"] for one in known)))
    for one in known:
        _note(site, one).write_text(str(one["mhz"]))
        try:
            gpu.lock(one["uuid"], one["mhz"])
        except gpu.Refused as error:
            _note(site, one).unlink()
            raise Trouble(f"the SM clock of GPU {one['index']} cannot be locked: {error}") from error
    told = ", ".join(
        f"GPU {one['index']} at {one['mhz']} MHz ({one['lowest_mhz']}-{one['highest_mhz']})" for one in known
    )
    return f"SM clock locked: {told}"


def revert(site: Site) -> None:
    """Reset each lock that is ours, whatever becomes of the others."""
    failures = []
    for one in site.saved.get("gpus", []):
        if _note(site, one).exists():
            try:
                if not site.rebooted:
                    gpu.unlock(one["uuid"])
                _note(site, one).unlink(missing_ok=True)
            except Trouble as error:
                failures.append(f"GPU {one['index']}: {error}")
    if failures:
        raise Trouble("; ".join(failures))


def left(site: Site) -> str | None:
    """Which lock is ours still, by our notes and by what the driver tells."""
    for one in site.saved.get("gpus", []):
        if _note(site, one).exists():
            return f"the SM clock of GPU {one['index']} is locked to {one['mhz']} MHz"
        if not site.rebooted and not one["limited"]:
            with contextlib.suppress(Trouble):  # a driver that cannot be asked: the note stands alone
                limited, mhz = gpu.limited(one["uuid"])
                if limited and mhz <= NEAR * one["mhz"]:
                    return f"GPU {one['index']} still says that a setting keeps its SM clock at {mhz} MHz"
    return None


def probe(site: Site) -> float:
    """The SM clock under load, the harmonic mean of the GPUs, so that one slow GPU is seen."""
    _gpu_programs.start(site, "gemms", LOAD_S)
    try:
        time.sleep(RISE_S)
        read = gpu.sm_mhz(_gpu_programs.gpus(site), SAMPLE_S)
        if not site.programs():
            raise Trouble("the load on the GPU ended while its clock was read")
        return statistics.harmonic_mean(read)
    finally:
        site.end_programs()


def proved(site: Site, before: float, during: float) -> bool:
    """Whether the clock was at the lock, and lower than before."""
    with contextlib.suppress(OSError, ValueError):
        mhz = float((site.work / TARGET).read_text())
        return during <= NEAR * mhz and during < before * (1 - LOSES)
    return False


def undone(_site: Site, before: float, after: float) -> bool:
    """Whether the clock rises again."""
    return after >= before * (1 - NOISE)


def _note(site: Site, one: dict[str, Any]) -> Path:
    return site.work / f"clock-lock-{one['uuid']}"
