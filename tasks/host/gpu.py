"""NVIDIA GPUs by NVML: what they are, their clocks, and the lock of those. The only importer of pynvml.

The host's own pynvml is taken where it has one, else the single file that is shipped beside us. Otherwise
standard library only (Python >= 3.9). Untested on hardware: the tests have a stand-in for NVML.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.host.site import Trouble

if TYPE_CHECKING:
    from collections.abc import Iterator

VENDOR = Path(__file__).resolve().parents[2] / "vendor"
LIBRARY = "libnvidia-ml.so.1"
SAMPLE_EVERY_S = 0.05


class Refused(Trouble):
    """The driver refused before it changed anything."""


@contextlib.contextmanager
def driver() -> Iterator[Any]:
    """NVML, ready for use. Raises Trouble naming what is missing, or Refused with the driver's no."""
    if str(VENDOR) not in sys.path:
        sys.path.append(str(VENDOR))  # last: the host's own goes first
    try:
        import pynvml as nvml
    except ImportError as error:
        raise Trouble(f"no pynvml on this host ({error})") from error
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise Trouble(f"no NVIDIA driver on this host ({LIBRARY}: {error})") from error
    noes = (nvml.NVML_ERROR_NO_PERMISSION, nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_INVALID_ARGUMENT)
    try:
        yield nvml
    except nvml.NVMLError as error:
        raise (Refused if error.value in noes else Trouble)(f"the NVIDIA driver says: {error}") from error
    except AttributeError as error:
        raise Trouble(f"{nvml.__file__} is too old: {error}") from error
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def missing(indexes: list[int]) -> str | None:
    """What stands in the way of these GPUs, in one line: no driver, no such index; else None."""
    try:
        with driver() as nvml:
            return unknown(indexes, nvml.nvmlDeviceGetCount())
    except Trouble as error:
        return str(error)


def unknown(indexes: list[int], count: int) -> str | None:
    """Which of the indexes a host with so many GPUs does not have, in one line; else None."""
    there = {0: "no GPU", 1: "0 alone"}.get(count, f"0-{count - 1}")
    return next((f"no GPU {index}: this host has {there}" for index in indexes if index >= count), None)


def facts() -> list[dict[str, Any]]:
    """What NVML tells of every GPU; none where there is no driver (`missing([])` says why).

    A field that a GPU or its driver does not know is None.
    """
    try:
        with driver() as nvml:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            return [_facts(nvml, index, handles) for index in range(len(handles))]
    except Trouble:
        return []


def _facts(nvml: Any, index: int, handles: list[Any]) -> dict[str, Any]:
    handle = handles[index]
    milliwatts = _told(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    memory = _told(nvml, "nvmlDeviceGetMemoryInfo", handle)
    return {
        "index": index,
        "name": _text(_told(nvml, "nvmlDeviceGetName", handle)),
        "uuid": _text(_told(nvml, "nvmlDeviceGetUUID", handle)),
        "memory_bytes": None if memory is None else int(memory.total),
        "driver": _text(_told(nvml, "nvmlSystemGetDriverVersion")),
        "max_sm_mhz": _told(nvml, "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
        "sm_mhz": _told(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
        "memory_mhz": _told(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM),
        "power_limit_w": None if milliwatts is None else milliwatts / 1000,
        "pcie_generation": _told(nvml, "nvmlDeviceGetMaxPcieLinkGeneration", handle),
        "pcie_width": _told(nvml, "nvmlDeviceGetMaxPcieLinkWidth", handle),
        "nvlink_peers": [
            other for other, peer in enumerate(handles) if other != index and _linked(nvml, handle, peer)
        ],
    }


def _told(nvml: Any, question: str, *about: Any) -> Any:
    try:
        return getattr(nvml, question)(*about)
    except (nvml.NVMLError, AttributeError):  # an old pynvml does not know to ask
        return None


def _text(said: Any) -> Any:
    return said.decode() if isinstance(said, bytes) else said  # pynvml before 11.5


def _linked(nvml: Any, handle: Any, peer: Any) -> bool:
    status = _told(nvml, "nvmlDeviceGetP2PStatus", handle, peer, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
    return bool(status == nvml.NVML_P2P_STATUS_OK)


def clocks(indexes: list[int]) -> list[dict[str, Any]]:
    """{"index", "uuid", "lowest_mhz", "highest_mhz", "limited"} of each; see `limited`. Raises Trouble."""
    with driver() as nvml:
        return [_clocks(nvml, index, nvml.nvmlDeviceGetHandleByIndex(index)) for index in indexes]


def _clocks(nvml: Any, index: int, handle: Any) -> dict[str, Any]:
    memory = max(nvml.nvmlDeviceGetSupportedMemoryClocks(handle), default=0)  # the one it has under load
    graphics = nvml.nvmlDeviceGetSupportedGraphicsClocks(handle, memory)
    if not graphics:
        raise Trouble(f"GPU {index} names no clock that it supports: its clock cannot be locked")
    return {
        "index": index,
        "uuid": _text(nvml.nvmlDeviceGetUUID(handle)),
        "lowest_mhz": min(graphics),
        "highest_mhz": max(graphics),
        "limited": _limited(nvml, handle),
    }


def _limited(nvml: Any, handle: Any) -> bool:
    for era in ("Event", "Throttle"):  # the name until 12.2
        reasons = _told(nvml, f"nvmlDeviceGetCurrentClocks{era}Reasons", handle)
        if reasons is not None:
            setting = getattr(nvml, f"nvmlClocks{era}ReasonApplicationsClocksSetting")
            return bool(reasons & setting)
    return False


def limited(uuid: str) -> tuple[bool, int]:
    """Whether the driver says that a setting keeps this GPU's clock down, and its SM clock (MHz)."""
    with driver() as nvml:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return _limited(nvml, handle), int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))


def lock(uuid: str, mhz: int) -> None:
    """Keep this GPU's graphics (SM) clock at `mhz`. Raises Refused when nothing was changed, or Trouble."""
    with driver() as nvml:
        nvml.nvmlDeviceSetGpuLockedClocks(nvml.nvmlDeviceGetHandleByUUID(uuid), mhz, mhz)


def unlock(uuid: str) -> None:
    """Let this GPU's clock go; nothing happens where it is not locked. Raises Trouble."""
    with driver() as nvml:
        nvml.nvmlDeviceResetGpuLockedClocks(nvml.nvmlDeviceGetHandleByUUID(uuid))


def sm_mhz(indexes: list[int], seconds: float) -> list[float]:
    """Sample the SM clocks for so long; the median of each. Raises Trouble."""
    with driver() as nvml:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in indexes]
        rows: list[list[int]] = []
        end = time.monotonic() + seconds
        while not rows or time.monotonic() < end:
            rows.append([nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) for handle in handles])
            time.sleep(SAMPLE_EVERY_S)
    return [float(statistics.median(samples)) for samples in zip(*rows)]


def over_nvlink(one: int, other: int) -> bool | None:
    """Whether two GPUs reach each other over NVLink; None where NVML cannot tell."""
    try:
        with driver() as nvml:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in (one, other)]
            status = _told(nvml, "nvmlDeviceGetP2PStatus", *handles, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
            return None if status is None else bool(status == nvml.NVML_P2P_STATUS_OK)
    except Trouble:
        return None
