"""Allocations and frees of random size, straight from the driver: they leave GPU memory full and in pieces.

    python -m injectors.programs.allocations load --devices 0 --seconds 20 --share_of_free_pct 80 --seed 7
    python -m injectors.programs.allocations measure --devices 0

A load holds about that share of what was free when it began, and gives way when others take more: a reserve
stays free, so that the server does not die of it. A measure is the largest block (GB, 1e9 bytes) that can be
had with the reserve untouched, of the GPU that has least. torch's caching allocator is off. The CPU device
pretends to have CPU_FREE_BYTES. Untested on hardware.
"""

from __future__ import annotations

import math
import os
import random
from typing import Any

from injectors.programs import life

MEGABYTE = 1_000_000
RESERVE_BYTES = 256 * MEGABYTE
CPU_FREE_BYTES = RESERVE_BYTES + 256 * MEGABYTE
SMALLEST_BYTES = 2 * MEGABYTE
FULL = 0.7  # of what it is to hold: then it has begun
PARTS = 4  # a block is at most that part of what is to be held
TRIES = 10_000
STEPS = 32  # of one round
EXACT_BYTES = 8 * MEGABYTE


class Memory:
    """One device's memory, and the blocks of it that we hold."""

    def __init__(self, torch: Any, device: str, given: Any, dice: random.Random) -> None:
        self.torch, self.device, self.dice = torch, device, dice
        self.blocks: list[Any] = []
        self.held = 0
        spare = max(self.free_bytes() - RESERVE_BYTES, 0)
        self.target = spare * given.share_of_free_pct // 100
        self.largest = min(given.largest_mb * MEGABYTE, self.target // PARTS)
        if self.largest < SMALLEST_BYTES:
            raise MemoryError(f"{device} has too little free memory ({spare / 1e9:.2f} GB above the reserve)")

    def free_bytes(self) -> int:
        """What nobody has."""
        if self.device == "cpu":
            return CPU_FREE_BYTES - self.held
        return int(self.torch.cuda.mem_get_info(self.device)[0])

    def take(self, size: int) -> None:
        """Allocate a block. Raises RuntimeError when it cannot be had."""
        block = self.torch.empty(size, dtype=self.torch.uint8, device=self.device)
        self.blocks.append(block)
        self.held += size

    def give(self) -> None:
        """Free a block by chance."""
        place = self.dice.randrange(len(self.blocks))
        self.blocks[place], self.blocks[-1] = self.blocks[-1], self.blocks[place]
        self.held -= self.blocks.pop().numel()

    def churn(self) -> None:
        """Allocate a block of random size, after freeing others to make room."""
        size = int(math.exp(self.dice.uniform(math.log(SMALLEST_BYTES), math.log(self.largest))))
        while self.blocks and not self._fits(size):
            self.give()
        if self._fits(size):
            try:
                self.take(size)
            except RuntimeError:  # somebody was faster
                if self.blocks:
                    self.give()

    def _fits(self, size: int) -> bool:
        return self.held + size <= self.target and self.free_bytes() - size >= RESERVE_BYTES


def load(torch: Any, devices: list[str], given: Any) -> life.Work:
    """Fill every device's memory, then go on."""
    dice = random.Random(given.seed)  # noqa: S311  the same sizes every time, no secret
    memories = [Memory(torch, device, given, dice) for device in devices]
    for memory in memories:
        for _ in range(TRIES):
            if memory.held >= FULL * memory.target:
                break
            memory.churn()

    def work() -> life.Wait:
        for memory in memories:
            for _ in range(STEPS):
                memory.churn()
        return int

    return work


def measure(torch: Any, devices: list[str], _given: Any) -> float:
    """The largest block to be had, of the device that has least."""
    return min(_largest(torch, device) for device in devices) / 1e9


def _largest(torch: Any, device: str) -> int:
    if device == "cpu":
        return CPU_FREE_BYTES - RESERVE_BYTES
    low, high = 0, max(int(torch.cuda.mem_get_info(device)[0]) - RESERVE_BYTES, 0)
    size = high  # mostly all of it can be had at once
    while high - low > EXACT_BYTES:
        try:
            torch.empty(size, dtype=torch.uint8, device=device)
            low = size
        except RuntimeError:
            high = size
        size = (low + high) // 2
    return low


if __name__ == "__main__":
    os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
    raise SystemExit(life.run({"share_of_free_pct": 80, "largest_mb": 512, "seed": 7}, load, measure))
