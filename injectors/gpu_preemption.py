"""GPU preemption: another process wants the same GPUs, all of the time.

Streams of endless fp16 products on the tensor cores, as in the published anomaly of that name (arXiv
2601.09258): kernels of two processes share a GPU in time slices. The victim's measure is the TFLOP/s that
one further stream of products still gets. Standard library only; torch runs in the serving engine's
interpreter. Untested on hardware.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from injectors import _gpu_programs
from tasks.host.strengths import Number

if TYPE_CHECKING:
    from tasks.host.site import Site
    from tasks.host.strengths import Parameters

STRENGTH: Parameters = {
    "size": Number(8192, 128, 32768, "side of the square matrices"),
    "streams": Number(2, 1, 32, "streams of products on each GPU"),
    "share_pct": Number(100, 1, 100, "share of the time in which products are queued"),
}
METRIC, UNIT = "victim_tflops", "TFLOP/s"
FP16_BYTES = 2


def requirements(site: Site) -> str | None:
    """What is missing: the interpreter, torch, the GPU, its memory."""
    matrices = 2 + site.strength["streams"]  # two factors, and each stream's own result
    return _gpu_programs.missing(site, matrices * site.strength["size"] ** 2 * FP16_BYTES)


def saved(_site: Site) -> dict[str, Any]:
    """Nothing of the host's is changed."""
    return {}


def apply(site: Site) -> str:
    """Start the products."""
    strength = site.strength
    said = _gpu_programs.start(site, "gemms", site.seconds + 1, **strength)
    return (
        f"{strength['streams']} streams of {strength['size']}-square fp16 products on GPUs "
        f"{_gpu_programs.gpus(site)} ({said['device']}), {strength['share_pct']} % of the time"
    )


def revert(site: Site) -> None:
    """End them."""
    site.end_programs()


def left(site: Site) -> str | None:
    """What of it is still there."""
    return _gpu_programs.left(site)


def probe(site: Site) -> float:
    """TFLOP/s of one stream of products, the harmonic mean of the GPUs."""
    return _gpu_programs.measure(site, "gemms")


def proved(site: Site, before: float, during: float) -> bool:
    """Whether the victim lost what a third process takes."""
    return _gpu_programs.lost(site, before, during)


def undone(_site: Site, before: float, after: float) -> bool:
    """Whether the measure is back."""
    return _gpu_programs.back(before, after)
