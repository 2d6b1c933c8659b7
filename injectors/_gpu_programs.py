"""The torch programs of injectors/programs, run by the serving engine's interpreter on the fault's GPUs.

They run beside the server's CPUs where there are others, so that what they take is the GPU alone. Standard
library only (Python >= 3.9).
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from tasks.host import gpu
from tasks.host.site import Trouble

if TYPE_CHECKING:
    from tasks.host.site import Site

ASK_S = 50.0  # torch from a cold disk, and a context on each GPU; a check or a measure may take 60 s
HEADROOM_BYTES = 1 << 30  # contexts and workspaces of the program and of the probe beside it
# With time slices between processes server, fault and victim get a third of the GPU each where server and
# victim had a half: the victim loses a third. A weak fault takes less; within 4 % it may be noise.
LOSES, LOSES_AT_LEAST, NOISE = 0.15, 0.04, 0.15


def gpus(site: Site) -> list[int]:
    """The GPUs that the fault is about: GPU 0 where none is named."""
    return site.gpus or [0]


def missing(site: Site, needed_bytes: int = 0, *, pairs: bool = False) -> str | None:
    """What these GPUs or the interpreter lack, in one line, else None.

    `needed_bytes` is what the program takes of each GPU's memory, `pairs` asks for peers.
    """
    if pairs and len(set(gpus(site))) < 2:  # noqa: PLR2004  a pair
        return f"a pair of GPUs is needed: this host's gpus are {gpus(site)}"
    try:
        seen = _ask(site, "look", {})
    except Trouble as error:
        return str(error)
    unknown = gpu.unknown(gpus(site), seen["count"])
    if unknown:
        return unknown
    for index, free in zip(gpus(site), seen["free_bytes"]):
        if needed_bytes and free < needed_bytes + HEADROOM_BYTES:
            wanted = (needed_bytes + HEADROOM_BYTES) / 1e9
            return f"GPU {index} has {free / 1e9:.1f} GB free, and this fault takes {wanted:.1f} GB of it"
    if pairs and seen["strangers"]:
        one, other = seen["strangers"][0]
        return f"GPU {one} cannot reach the memory of GPU {other} (torch.cuda.can_device_access_peer)"
    return None


def start(site: Site, program: str, seconds: float, **numbers: int) -> dict[str, Any]:
    """Start the load of a program; it really runs on return. {"device": name, ...} Raises Trouble."""
    given = {"seconds": round(seconds, 1), "parent": os.getpid(), **numbers}
    return _taken(program, site.spawn(_argv(site, program, "load", given), site.cpus_beside))


def measure(site: Site, program: str, **numbers: int) -> float:
    """What a program measures on these GPUs now. Raises Trouble."""
    return float(_ask(site, program, numbers)["value"])


def lost(site: Site, before: float, during: float) -> bool:
    """Whether a victim lost of its speed what such a fault takes."""
    loss: float = max(LOSES * site.strength["share_pct"] / 100, LOSES_AT_LEAST)
    return during < before * (1 - loss)


def back(before: float, after: float) -> bool:
    """Whether a victim has its speed again."""
    return after >= before * (1 - NOISE)


def left(site: Site) -> str | None:
    """Whether the program is still there."""
    pids = site.programs()
    return f"the program still runs (pids {sorted(pids)})" if pids else None


def _ask(site: Site, program: str, numbers: dict[str, Any]) -> dict[str, Any]:
    said = site.run(_argv(site, program, "measure", numbers), ASK_S, site.cpus_beside)
    return _taken(program, json.loads(said.splitlines()[-1]))


def _taken(program: str, said: dict[str, Any]) -> dict[str, Any]:
    if "refused" in said:
        raise Trouble(f"{program}: {said['refused']}" if program != "look" else said["refused"])
    return said


def _argv(site: Site, program: str, what: str, numbers: dict[str, Any]) -> list[str]:
    if site.python is None:
        raise Trouble("no interpreter with torch: this fault runs on the serving engine's, and none is known")
    devices = ",".join(map(str, gpus(site)))
    flags = [f"--{name}={value}" for name, value in numbers.items()]
    module = f"injectors.programs.{program}"
    return [site.python, "-W", "ignore", "-m", module, what, "--devices", devices, *flags]
