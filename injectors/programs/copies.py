"""Copies between the memories of GPUs: straight to a peer, or by way of pinned host memory.

    python -m injectors.programs.copies load --devices 0,1 --seconds 20 --peers 1 --mb 256 --streams 2
    python -m injectors.programs.copies measure --devices 0,1 --peers 1

With `--peers 1` a load copies between all pairs in both directions, a measure from the first GPU to the
second. Without, every GPU's memory goes to pinned host memory while what lies there goes on to the next GPU
(itself, where there is one), neither waiting for the other; a measure goes out and back. GB/s are of 1e9
bytes. Untested on hardware.
"""

from __future__ import annotations

import statistics
from typing import Any, Callable

from injectors.programs import life

MEGABYTE = 1_000_000
LARGEST_ON_CPU_MB = 8
PROBE_MB = 64
COPIES = 4  # in one step


def load(torch: Any, devices: list[str], given: Any) -> life.Work:
    """Lanes of copies that keep the links full; what is copied over what does not matter to them."""
    lanes: list[tuple[life.Lane, Callable[[], Any]]] = []
    for _ in range(given.streams):
        sources = [_buffer(torch, device, given.mb) for device in devices]
        sinks = [_buffer(torch, device, given.mb) for device in devices]
        lanes += (_between_peers if given.peers else _through_the_host)(torch, devices, sources, sinks)
    return life.in_lanes(lanes)


def _between_peers(torch: Any, devices: list[str], sources: list[Any], sinks: list[Any]) -> list[Any]:
    places = range(len(devices))
    return [
        (life.Lane(torch, devices[one], devices[other]), _Copies(sources[one], sinks[other]))
        for one in places
        for other in places
        if one != other
    ]


def _through_the_host(torch: Any, devices: list[str], sources: list[Any], sinks: list[Any]) -> list[Any]:
    lanes = []
    for place, device in enumerate(devices):
        onward = (place + 1) % len(devices)
        host = _pinned(torch, device, sources[place])
        lanes.append((life.Lane(torch, device), _Copies(sources[place], host)))
        lanes.append((life.Lane(torch, devices[onward]), _Copies(host, sinks[onward])))
    return lanes


def measure(torch: Any, devices: list[str], given: Any) -> float:
    """GB/s of one victim: of the first pair, or the harmonic mean of the GPUs (one slow GPU is seen)."""
    if given.peers:
        source, sink = (_buffer(torch, device, PROBE_MB) for device in devices[:2])
        return _gb_per_s(torch, devices[0], [_Copies(source, sink)])
    rates = []
    for device in devices:
        there = _buffer(torch, device, PROBE_MB)
        host = _pinned(torch, device, there)
        rates.append(_gb_per_s(torch, device, [_Copies(there, host), _Copies(host, there)]))
    return statistics.harmonic_mean(rates)


def _gb_per_s(torch: Any, device: str, ways: list[_Copies]) -> float:
    def step() -> None:
        for way in ways:
            way()

    steps = life.rate(step, lambda: life.settled(torch, device))
    return float(steps * COPIES * sum(way.source.numel() for way in ways) / 1e9)


def _buffer(torch: Any, device: str, mb: int) -> Any:
    size = min(mb, LARGEST_ON_CPU_MB) if device == "cpu" else mb
    return torch.zeros(size * MEGABYTE, dtype=torch.uint8, device=device)


def _pinned(torch: Any, device: str, like: Any) -> Any:
    if device == "cpu":
        return torch.empty_like(like)
    with torch.cuda.device(device):  # pinning takes a context of the current device
        return torch.empty(like.numel(), dtype=torch.uint8, pin_memory=True)


class _Copies:
    def __init__(self, source: Any, sink: Any) -> None:
        self.source, self.sink = source, sink

    def __call__(self) -> None:
        for _ in range(COPIES):
            self.sink.copy_(self.source, non_blocking=True)


if __name__ == "__main__":
    raise SystemExit(life.run({"peers": 0, "mb": 256, "streams": 1}, load, measure))
