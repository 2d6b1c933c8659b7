"""GPU memory squeeze-out over PCIe: copies by way of pinned host memory keep the GPUs' slots full.

What GPUs do to each other where peer-to-peer is off: device to pinned host memory and on to the next device
(to itself, where there is one), both directions at once, as in the published anomaly of that name (arXiv
2601.09258). The victim's measure is the bandwidth of copies out and back. Standard library only; torch runs
in the serving engine's interpreter. Untested on hardware.
"""  # noqa: N999  the published name

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from injectors import _gpu_programs
from tasks.host import readings
from tasks.host.strengths import Number

if TYPE_CHECKING:
    from tasks.host.site import Site
    from tasks.host.strengths import Parameters

STRENGTH: Parameters = {
    "mb": Number(256, 1, 8192, "size of each buffer in MB"),
    "streams": Number(2, 1, 16, "streams of copies out of each GPU, and as many into it"),
    "share_pct": Number(100, 1, 100, "share of the time in which copies are queued"),
}
METRIC, UNIT = "pcie_gb_per_s", "GB/s"
MEGABYTE = 1_000_000
PINNED_PART = 0.5  # of the memory that the host has to give: what is pinned cannot be swapped


def requirements(site: Site) -> str | None:
    """What is missing: the interpreter, torch, the GPU, its memory, the host's."""
    buffers = site.strength["streams"] * site.strength["mb"] * MEGABYTE
    pinned = buffers * len(_gpu_programs.gpus(site))
    available = readings.memory().get("MemAvailable", 0) * 1024
    if pinned > available * PINNED_PART:
        return f"it pins {pinned / 1e9:.1f} GB, and the host has {available / 1e9:.1f} GB of memory to give"
    return _gpu_programs.missing(site, 2 * buffers)


def saved(_site: Site) -> dict[str, Any]:
    """Nothing of the host's is changed."""
    return {}


def apply(site: Site) -> str:
    """Start the copies."""
    strength, gpus = site.strength, _gpu_programs.gpus(site)
    said = _gpu_programs.start(site, "copies", site.seconds + 1, peers=0, **strength)
    return (
        f"{strength['streams']} streams of {strength['mb']} MB copies out of and into each of GPUs {gpus} "
        f"({said['device']}) by way of pinned host memory, {strength['share_pct']} % of the time"
    )


def revert(site: Site) -> None:
    """End them."""
    site.end_programs()


def left(site: Site) -> str | None:
    """What of it is still there."""
    return _gpu_programs.left(site)


def probe(site: Site) -> float:
    """GB/s of copies to pinned host memory and back, the harmonic mean of the GPUs."""
    return _gpu_programs.measure(site, "copies", peers=0)


def proved(site: Site, before: float, during: float) -> bool:
    """Whether the copies lost of their bandwidth."""
    return _gpu_programs.lost(site, before, during)


def undone(_site: Site, before: float, after: float) -> bool:
    """Whether the measure is back."""
    return _gpu_programs.back(before, after)
