"""GPU swap: GPU memory is nearly full, and what is free of it comes and goes.

Allocations and frees of random size, with torch's caching allocator off, as in the published anomaly of that
name (arXiv 2601.09258). A server feels it when it asks for more than it has: so the victim's measure is the
largest block that can still be had. (GPU memory is paged: a block need not lie together, and pieces alone
would take nothing from a victim; their cost in time is the driver's, and differs from one to the next.) A
reserve is left free, and the program gives way when others take more: the server must not die of it.
Standard library only; torch runs in the serving engine's interpreter. Untested on hardware.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from injectors import _gpu_programs
from tasks.host.strengths import Number

if TYPE_CHECKING:
    from tasks.host.site import Site
    from tasks.host.strengths import Parameters

STRENGTH: Parameters = {
    "share_of_free_pct": Number(80, 1, 95, "share of the free memory of each GPU that is held at most"),
    "largest_mb": Number(512, 3, 65536, "the largest allocation in MB; the smallest is 2"),
    "seed": Number(7, 0, 2**32 - 1, "of the sizes"),
}
METRIC, UNIT = "largest_free_gb", "GB"
TAKES = 0.5  # of its share: it fills 70 % of that before it is said to run
NOISE = 0.1
SMALLEST_BYTES = 64_000_000  # below that nothing can be proved


def requirements(site: Site) -> str | None:
    """What is missing: the interpreter, torch, the GPU, free memory on it."""
    return _gpu_programs.missing(site, SMALLEST_BYTES)


def saved(_site: Site) -> dict[str, Any]:
    """Nothing of the host's is changed."""
    return {}


def apply(site: Site) -> str:
    """Fill the memory and begin to allocate and free."""
    strength = site.strength
    said = _gpu_programs.start(site, "allocations", site.seconds + 1, **strength)
    return (
        f"allocations and frees of 2-{strength['largest_mb']} MB hold up to {strength['share_of_free_pct']}"
        f" % of the free memory of GPUs {_gpu_programs.gpus(site)} ({said['device']})"
    )


def revert(site: Site) -> None:
    """End them: the driver takes the memory back."""
    site.end_programs()


def left(site: Site) -> str | None:
    """What of it is still there."""
    return _gpu_programs.left(site)


def probe(site: Site) -> float:
    """GB of the largest block that can be had, on the GPU that has least."""
    return _gpu_programs.measure(site, "allocations")


def proved(site: Site, before: float, during: float) -> bool:
    """Whether the largest block has shrunk by what is held."""
    return during < before * (1 - TAKES * float(site.strength["share_of_free_pct"]) / 100)


def undone(_site: Site, before: float, after: float) -> bool:
    """Whether the memory can be had again."""
    return after >= before * (1 - NOISE)
