"""The life of a torch program: devices, first words, duty, deadline. The only file here that imports torch.

    python -m injectors.programs.PROGRAM load    --devices 0,1 --seconds 20 ...
    python -m injectors.programs.PROGRAM measure --devices 0,1 ...

The serving engine's interpreter runs it. What it prints first is one JSON object: of `load` once it really
runs ({"device": ...}), of `measure` {"value": ...}, of either {"refused": why}. A load ends by SIGTERM, at
its deadline, and when the process that started it dies. `--devices cpu,cpu` runs the same logic on torch's
CPU device in small sizes; there are no streams, pinned memory or peers there, and the device printed is
`cpu`. Untested on hardware.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

PR_SET_PDEATHSIG = 1
START_S = 120.0  # nothing of ours lives longer than that without its first words
OVERDUE_S = 5.0
WARM_S = 0.2
MEASURE_S = 0.7

Wait = Callable[[], Any]
Work = Callable[[], Wait]  # queues one round of work; what it returns waits for that round
Load = Callable[[Any, "list[str]", Any], Work]
Measure = Callable[[Any, "list[str]", Any], float]


def run(numbers: dict[str, int], load: Load, measure: Measure) -> int:
    """Do what the command line says; `numbers` are the program's own options with their defaults."""
    given = options(numbers)
    _tie_to_life()
    try:
        with quiet():
            torch, devices = engine_torch(given.devices)
            names = ", ".join(dict.fromkeys(name_of(torch, device) for device in devices))
            if given.what == "measure":
                say({"value": measure(torch, devices, given), "device": names})
                return 0
            work = load(torch, devices, given)
            for device in devices:
                settled(torch, device)
            work()()
    except Exception as error:  # noqa: BLE001  whatever torch or CUDA says is for the user, in one line
        return refuse(error)
    say({"device": names})
    keep_on(work, given.share_pct, given.seconds, given.parent)
    return 0


def options(numbers: dict[str, int]) -> argparse.Namespace:
    """The command line, read."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("load", "measure"))
    parser.add_argument("--devices", required=True)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--share_pct", type=int, default=100)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def engine_torch(devices: str, *, only_these: bool = True) -> tuple[Any, list[str]]:
    """Torch, and its names of the devices; `only_these` hides other GPUs, whatever the session's own setting.

    Indexes are those of NVML (PCI bus order). Raises ImportError.
    """
    wanted = devices.split(",")
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if "cpu" in wanted or only_these:
        os.environ["CUDA_VISIBLE_DEVICES"] = "" if "cpu" in wanted else devices
    import torch

    if "cpu" in wanted:
        return torch, wanted
    if not torch.cuda.is_available():
        raise LookupError(f"torch {torch.__version__} of {sys.executable} sees no GPU")
    return torch, [f"cuda:{place if only_these else index}" for place, index in enumerate(wanted)]


def name_of(torch: Any, device: str) -> str:
    """The device's name as people know it."""
    return "cpu" if device == "cpu" else str(torch.cuda.get_device_name(device))


def settled(torch: Any, device: str) -> None:
    """Wait until the device has done all that was asked of it."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def say(words: dict[str, Any]) -> None:
    """Print one JSON line."""
    print(json.dumps(words), flush=True)


def refuse(error: Exception) -> int:
    """Print in one line what went wrong."""
    said = str(error).strip().splitlines()
    if isinstance(error, ImportError):
        said = [f"no torch in {sys.executable} ({error}): name the serving engine's interpreter"]
    say({"refused": said[0] if said else repr(error)})
    return 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing but our own first line may be the first line: stderr goes nowhere until it is said."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _tie_to_life() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, START_S)


def keep_on(work: Work, share_pct: int, seconds: float, parent: int) -> None:
    """Do rounds for so long, in so much of the time.

    At 100 % the next round is queued before the last is waited for: the device never idles.
    Ends early when `parent` is gone (0: nobody is looked after).
    """
    signal.setitimer(signal.ITIMER_REAL, seconds + OVERDUE_S)  # a round that hangs does not outlive it
    end = time.monotonic() + seconds
    ahead: Wait = int
    while (began := time.monotonic()) < end and (not parent or os.path.isdir(f"/proc/{parent}")):  # noqa: PTH112  the hot loop
        wait = work()
        if share_pct == 100:  # noqa: PLR2004  percent
            ahead()
            ahead = wait
        else:
            wait()
            idle = (time.monotonic() - began) * (100 / share_pct - 1)
            time.sleep(max(min(idle, end - time.monotonic()), 0))
    ahead()


def rate(step: Callable[[], Any], settle: Callable[[], Any]) -> float:
    """Steps per second of a victim that waits for each of its steps, as a server does."""
    for seconds in (WARM_S, MEASURE_S):
        begin, steps = time.monotonic(), 0
        while (now := time.monotonic()) < begin + seconds or not steps:
            step()
            settle()
            steps += 1
    return steps / (now - begin)


class Lane:
    """A queue of work on one device: a CUDA stream, and one on the device at the other end of a copy.

    On the CPU there is none: work is done when it is asked for.
    """

    def __init__(self, torch: Any, device: str, other: str | None = None) -> None:
        self.torch = torch
        ends = [device] if other in (None, device) else [device, other]
        self.streams = [torch.cuda.Stream(end) for end in ends if end != "cpu"]

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """What is asked of torch in this block is queued in this lane."""
        with contextlib.ExitStack() as entered:
            for stream in reversed(self.streams):  # torch's copies take the current stream of both their ends
                entered.enter_context(self.torch.cuda.stream(stream))
            yield

    def waiter(self) -> Wait:
        """Return what waits, without spinning, for all that is in the lane now."""
        if not self.streams:
            return int
        event = self.torch.cuda.Event(blocking=True)
        event.record(self.streams[0])
        wait: Wait = event.synchronize
        return wait


def in_lanes(lanes: list[tuple[Lane, Callable[[], Any]]]) -> Work:
    """One round is every lane's step."""

    def work() -> Wait:
        waits = []
        for lane, step in lanes:
            with lane.here():
                step()
                waits.append(lane.waiter())
        return lambda: [wait() for wait in waits]

    return work
