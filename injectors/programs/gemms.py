"""Matrix products: fp16 on a GPU's tensor cores, endless as a load; TFLOP/s as a measure.

    python -m injectors.programs.gemms load --devices 0 --seconds 20 --size 8192 --streams 2 --share_pct 100
    python -m injectors.programs.gemms measure --devices 0 --size 4096

`size` is the side of the square matrices. Untested on hardware.
"""

from __future__ import annotations

import statistics
from typing import Any, Callable

from injectors.programs import life

DEEP = 4  # products in one step: some milliseconds
LARGEST_ON_CPU = 256


def load(torch: Any, devices: list[str], given: Any) -> life.Work:
    """Streams of products on each device; the matrices are shared, the results are not."""
    lanes: list[tuple[life.Lane, Callable[[], Any]]] = []
    for device in devices:
        left, right = (_matrix(torch, device, given.size) for _ in range(2))
        steps = (_Products(torch, left, right) for _ in range(given.streams))
        lanes += [(life.Lane(torch, device), step) for step in steps]
    return life.in_lanes(lanes)


def measure(torch: Any, devices: list[str], given: Any) -> float:
    """TFLOP/s of one stream; the harmonic mean of several devices, so that one slow device is seen."""
    return statistics.harmonic_mean([_tflops(torch, device, given.size) for device in devices])


def _tflops(torch: Any, device: str, size: int) -> float:
    left = _matrix(torch, device, size)
    steps = life.rate(_Products(torch, left, left), lambda: life.settled(torch, device))
    return float(steps * DEEP * 2 * left.shape[0] ** 3 / 1e12)


def _matrix(torch: Any, device: str, size: int) -> Any:
    if device == "cpu":
        return torch.rand(min(size, LARGEST_ON_CPU), min(size, LARGEST_ON_CPU))
    return torch.rand(size, size, device=device, dtype=torch.float16)


class _Products:
    def __init__(self, torch: Any, left: Any, right: Any) -> None:
        self.torch, self.left, self.right, self.out = torch, left, right, torch.empty_like(left)

    def __call__(self) -> None:
        for _ in range(DEEP):
            self.torch.mm(self.left, self.right, out=self.out)


if __name__ == "__main__":
    raise SystemExit(life.run({"size": 4096, "streams": 1}, load, measure))
