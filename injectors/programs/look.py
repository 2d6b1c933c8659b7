"""What torch sees of the GPUs that a fault is about; nothing stays allocated.

    python -m injectors.programs.look measure --devices 0,1

It prints {"count", "names", "free_bytes", "strangers"}: how many GPUs there are, the name and free memory of
each that was asked for, and the pairs of them that cannot reach each other's memory; or {"refused": why}.
Untested on hardware.
"""

from __future__ import annotations

from typing import Any

from injectors.programs import life

CPU_FREE_BYTES = 4 << 30  # said of torch's CPU device, which has no memory of its own


def main() -> int:
    """Look, and say it."""
    try:
        with life.quiet():
            given = life.options({})
            torch, devices = life.engine_torch(given.devices, only_these=False)
            life.say(_seen(torch, devices))
    except Exception as error:  # noqa: BLE001  whatever torch or CUDA says is for the user, in one line
        return life.refuse(error)
    return 0


def _seen(torch: Any, devices: list[str]) -> dict[str, Any]:
    if "cpu" in devices:
        free = [CPU_FREE_BYTES] * len(devices)
        return {"count": 1024, "names": devices, "free_bytes": free, "strangers": []}
    count = torch.cuda.device_count()
    indexes = [index for index in (int(device.partition(":")[2]) for device in devices) if index < count]
    for index in indexes:
        torch.zeros(1, device=f"cuda:{index}")  # a context can be had: the GPU is not another's alone
    pairs = [(one, other) for one in indexes for other in indexes if one != other]
    return {
        "count": count,
        "names": [torch.cuda.get_device_name(index) for index in indexes],
        "free_bytes": [torch.cuda.mem_get_info(index)[0] for index in indexes],
        "strangers": [pair for pair in pairs if not torch.cuda.can_device_access_peer(*pair)],
    }


if __name__ == "__main__":
    raise SystemExit(main())
