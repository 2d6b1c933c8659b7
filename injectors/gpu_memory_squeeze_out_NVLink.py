"""GPU memory squeeze-out over NVLink: peer-to-peer copies keep the links between the GPUs full.

Several streams of copies between all pairs of the server's GPUs, in both directions, as in the published
anomaly of that name (arXiv 2601.09258). The victim's measure is the bandwidth that one further copy from the
first GPU to the second still gets. Standard library only; torch runs in the serving engine's interpreter.
Untested on hardware.
"""  # noqa: N999  the published name

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from injectors import _gpu_programs
from tasks.host import gpu
from tasks.host.strengths import Number

if TYPE_CHECKING:
    from tasks.host.site import Site
    from tasks.host.strengths import Parameters

STRENGTH: Parameters = {
    "mb": Number(256, 1, 8192, "size of each buffer in MB"),
    "streams": Number(2, 1, 16, "streams of copies from each GPU to each other one"),
    "share_pct": Number(100, 1, 100, "share of the time in which copies are queued"),
}
METRIC, UNIT = "p2p_gb_per_s", "GB/s"
MEGABYTE = 1_000_000


def requirements(site: Site) -> str | None:
    """What is missing: a second GPU, the interpreter, torch, peer access, NVLink, memory."""
    buffers = 2 * site.strength["streams"]  # on each GPU a source and a sink for each of the streams
    missing = _gpu_programs.missing(site, buffers * site.strength["mb"] * MEGABYTE, pairs=True)
    if missing:
        return missing
    gpus = _gpu_programs.gpus(site)
    pairs = [(one, other) for one in gpus for other in gpus if one < other]
    for one, other in pairs:
        if gpu.over_nvlink(one, other) is False:
            return f"GPU {one} and GPU {other} reach each other, but not over NVLink: choose others in `gpus`"
    return None


def saved(_site: Site) -> dict[str, Any]:
    """Nothing of the host's is changed."""
    return {}


def apply(site: Site) -> str:
    """Start the copies."""
    strength, gpus = site.strength, _gpu_programs.gpus(site)
    said = _gpu_programs.start(site, "copies", site.seconds + 1, peers=1, **strength)
    return (
        f"{strength['streams']} streams of {strength['mb']} MB copies between all pairs of GPUs {gpus} "
        f"({said['device']}) in both directions, {strength['share_pct']} % of the time"
    )


def revert(site: Site) -> None:
    """End them."""
    site.end_programs()


def left(site: Site) -> str | None:
    """What of it is still there."""
    return _gpu_programs.left(site)


def probe(site: Site) -> float:
    """GB/s of a copy from the first GPU to the second."""
    return _gpu_programs.measure(site, "copies", peers=1)


def proved(site: Site, before: float, during: float) -> bool:
    """Whether the copy lost of its bandwidth."""
    return _gpu_programs.lost(site, before, during)


def undone(_site: Site, before: float, after: float) -> bool:
    """Whether the measure is back."""
    return _gpu_programs.back(before, after)
