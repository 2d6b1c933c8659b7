"""CPU frequency reduction: the server's CPUs may not run faster than a given clock.

The frequency range of every cpufreq policy with a CPU of the server is cut down to at most `mhz` (where the
CPU has a table of clocks: to the next lower one). CPUs of one policy share a clock, so others may slow down
too; the detail names them. A maximum at or below ours is taken for ours at the undo: a thermal limit may
hide it. Anything else found then is someone's later change, and stays. Since Linux 5.3 the kernel carries a
new limit out a little after it was written, so it is read back until it is there. Runs on the host, standard
library only. The victim's measure is the clock read back while every CPU is busy.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.host.site import Site, Trouble
from tasks.host.strengths import Number

if TYPE_CHECKING:
    from tasks.host.strengths import Parameters

CPUS = Path("/sys/devices/system/cpu")
STRENGTH: Parameters = {
    "mhz": Number(None, 100, 20_000, "the highest clock left; by default the lowest that the CPU supports"),
}
METRIC, UNIT = "cpu_mhz", "MHz"
LIMIT = {"max": "scaling_max_freq", "min": "scaling_min_freq"}
FASTEST = 10**9  # kHz: above any clock
SETTLES_S = 2.0  # until a limit that was written can be read back
BUSY_S, SETTLED_S, READ_EVERY_S = 0.6, 0.2, 0.05  # the clock is read while a loop runs on each CPU
OVER, REDUCED, BACK = 1.05, 0.99, 0.9  # clocks are averages: how near they must come


def requirements(site: Site) -> str | None:
    """What this host lacks, in one line, or None."""
    for cpu in site.cpus:
        folder = CPUS / f"cpu{cpu}" / "cpufreq"
        if not folder.is_dir():
            return f"no cpufreq on this host ({folder} is not there); a virtual machine's clock is its host's"
    for policy in _policies(site):
        highest, lowest = policy / LIMIT["max"], _khz(policy / "cpuinfo_min_freq")
        if not os.access(highest, os.W_OK):
            return f"no right to write {highest}: this needs root, and a /sys that is not read-only"
        if (site.strength["mhz"] or lowest) * 1000 < lowest:
            return f"mhz {site.strength['mhz']} is below the {lowest // 1000} MHz that {policy.name} supports"
        if _khz(highest) <= _clamp(site, policy):
            return f"{policy.name} runs at {_khz(highest) // 1000} MHz at most already: nothing to reduce"
    return None


def saved(site: Site) -> dict[str, Any]:
    """The range of each policy, and what it will be."""
    ranges = {}
    for policy in _policies(site):
        low, high = _khz(policy / LIMIT["min"]), _khz(policy / LIMIT["max"])
        clamp = min(_clamp(site, policy), high)
        ranges[str(policy)] = {"min": low, "max": high, "our_min": min(low, clamp), "our_max": clamp}
    return {"ranges": ranges}


def apply(site: Site) -> str:
    """Cut the ranges down: the minimum first, for old kernels take none above the maximum."""
    for policy, was in _ranges(site).items():
        if was["our_min"] != was["min"]:
            (policy / LIMIT["min"]).write_text(str(was["our_min"]))
        (policy / LIMIT["max"]).write_text(str(was["our_max"]))
    until = time.monotonic() + SETTLES_S
    for policy, was in _ranges(site).items():
        now = _once(policy / LIMIT["max"], range(was["our_max"] + 1), until)
        if now > was["our_max"]:
            raise Trouble(f"{policy} stays at {now} kHz when told {was['our_max']}: something overrules us")
    return "; ".join(_in_words(policy, was) for policy, was in _ranges(site).items())


def revert(site: Site) -> None:
    """Give each policy its range back where it is still ours: the maximum first."""
    for end, limit in (("max", LIMIT["max"]), ("min", LIMIT["min"])):
        ours = {at: was for at, was in _ranges(site).items() if _to_revert(site, was, end, _khz(at / limit))}
        for policy, was in ours.items():
            most = FASTEST if end == "max" else _khz(policy / LIMIT["max"])
            (policy / limit).write_text(str(min(was[end], most)))
        until = time.monotonic() + SETTLES_S
        for policy, was in ours.items():
            _once(policy / limit, range(was[f"our_{end}"] + 1, FASTEST), until)


def left(site: Site) -> str | None:
    """Which of our limits still stand."""
    for policy, was in _ranges(site).items():
        for end, limit in LIMIT.items():
            now = _khz(policy / limit)
            if _ours(site, was, end, now):
                return f"{policy / limit} is still our {now} kHz, not {was[end]}"
    return None


def probe(site: Site) -> float:
    """The victim's measure: the mean clock of the server's CPUs while a loop runs on each."""
    fork = multiprocessing.get_context("fork")
    loops = [fork.Process(target=_busy, args=(cpu,), daemon=True) for cpu in site.cpus]
    for loop in loops:
        loop.start()
    try:
        time.sleep(SETTLED_S)
        end, read = time.monotonic() + BUSY_S, list[int]()
        while not read or time.monotonic() < end:
            read += [_khz(CPUS / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq") for cpu in site.cpus]
            time.sleep(READ_EVERY_S)
    finally:
        for loop in loops:
            loop.kill()
            loop.join(1)
    return sum(read) / len(read) / 1000


def proved(site: Site, before: float, during: float) -> bool:
    """Whether the clock fell, and to what it was to fall to."""
    policies = [(CPUS / f"cpu{cpu}" / "cpufreq").resolve() for cpu in site.cpus]
    most = sum(_clamp(site, policy) for policy in policies) / len(policies) / 1000
    return during <= most * OVER and during < before * REDUCED


def undone(_site: Site, before: float, after: float) -> bool:
    """Whether the clock is back."""
    return after >= before * BACK


def _ranges(site: Site) -> dict[Path, dict[str, int]]:
    """What is to be undone, by policy: nothing after a reboot, for kernels start with their own."""
    return {Path(name): was for name, was in site.saved.get("ranges", {}).items() if not site.rebooted}


def _ours(site: Site, was: dict[str, int], end: str, now: int) -> bool:
    """Whether it is what we wrote. Had apply not ended well, a driver may have made something else of it."""
    half_way = "applied_monotonic_s" not in site.saved
    return now != was[end] and (half_way or now == was[f"our_{end}"])


def _to_revert(site: Site, was: dict[str, int], end: str, now: int) -> bool:
    return _ours(site, was, end, now) or (end == "max" and now < was["our_max"])


def _policies(site: Site) -> list[Path]:
    return sorted({(CPUS / f"cpu{cpu}" / "cpufreq").resolve() for cpu in site.cpus})


def _khz(path: Path) -> int:
    text = path.read_text().strip()
    if not text.isdigit():
        raise Trouble(f"{path} says {text!r} instead of a clock")
    return int(text)


def _clamp(site: Site, policy: Path) -> int:
    lowest = _khz(policy / "cpuinfo_min_freq")
    wanted = int(site.strength["mhz"] * 1000) if site.strength["mhz"] else lowest
    table = policy / "scaling_available_frequencies"  # intel_pstate and amd-pstate have none
    clocks = [int(word) for word in table.read_text().split()] if table.exists() else [wanted]
    return max((khz for khz in clocks if lowest <= khz <= wanted), default=lowest)


def _once(path: Path, wanted: range, until: float) -> int:
    while (now := _khz(path)) not in wanted and time.monotonic() < until:
        time.sleep(READ_EVERY_S / 5)
    return now


def _in_words(policy: Path, was: dict[str, int]) -> str:
    cpus = ", ".join((policy / "related_cpus").read_text().split())
    return f"CPUs {cpus}: at most {was['our_max'] / 1000:g} MHz instead of {was['max'] / 1000:g}"


def _busy(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    end = time.monotonic() + 10 * BUSY_S  # should nobody end it
    while time.monotonic() < end:
        pass
