"""A stand-in for pynvml: put its folder on PYTHONPATH, and a small model of a driver answers instead of NVML.

Constants and error classes are those of the real pynvml.py. The driver's state is the JSON file that
FAKE_NVML names, so that separate processes see one driver (`driver_state` makes one). A GPU is busy while a
process lives whose pid is the name of a file in `<state>.busy`: its SM clock is then the highest, else the
idle one, and within the lock in both cases. Traffic grows by a fixed amount with every query. What the model
does not have: power and heat that change, the time that a clock takes to change, and the true reasons that a
driver gives for a clock.
"""
# ruff: noqa: N802  the names are NVML's

import fcntl
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).resolve()
GRAPHICS_MHZ = list(range(345, 1981, 15))


def _the_real_one() -> ModuleType:
    files = (Path(folder, "pynvml.py").resolve() for folder in sys.path)
    path = next(file for file in files if file.exists() and file != _HERE)
    spec = importlib.util.spec_from_file_location("real_pynvml", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_pynvml"] = module  # it makes its error classes by looking itself up
    spec.loader.exec_module(module)
    return module


real: Any = _the_real_one()
_SHARED = ("NVML_", "NVMLError", "nvmlClocks", "c_nvml")
globals().update({
    name: value for name, value in vars(real).items() if name.startswith(_SHARED)
})  # fmt: skip
_started = 0


def driver_state(gpus: int = 1, **other: object) -> dict[str, Any]:
    """Describe a driver with so many GPUs, the first two of them joined by NVLink."""
    one = {
        "name": "NVIDIA Model 100",
        "memory_bytes": 80 << 30,
        "idle_mhz": 360,
        "locked": None,
        "limited": True,
    }
    return {
        "init_error": None, "root": True, "driver_version": "570.00", "nvlink": [[0, 1], [1, 0]],
        "lock_works": True, "reset_works": True, "lost": [],
        "gpus": [{**one, "uuid": f"GPU-{index:04d}"} for index in range(gpus)], **other,
    }  # fmt: skip


def _file() -> Path:
    return Path(os.environ["FAKE_NVML"])


@contextmanager
def _state() -> Iterator[dict[str, Any]]:
    with _file().open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        state: dict[str, Any] = json.load(file)
        yield state
        file.seek(0)
        file.truncate()
        json.dump(state, file)


def _error(number: int) -> Exception:
    error: Exception = real.NVMLError(number)
    return error


@contextmanager
def _gpu(handle: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    if not _started:
        raise _error(real.NVML_ERROR_UNINITIALIZED)
    with _state() as state:
        if handle in state["lost"]:
            raise _error(real.NVML_ERROR_GPU_IS_LOST)
        yield state, state["gpus"][handle]


def _busy(handle: int) -> bool:
    folder = Path(f"{_file()}.busy")
    files = folder.iterdir() if folder.exists() else ()
    return any(str(handle) in file.read_text().split(",") and _lives(file.name) for file in files)


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def nvmlInit() -> None:
    """Begin, unless the driver is to be absent."""
    global _started  # noqa: PLW0603  so does the real one
    with _state() as state:
        if state["init_error"]:
            raise _error(getattr(real, state["init_error"]))
    _started += 1


def nvmlShutdown() -> None:
    """End."""
    global _started  # noqa: PLW0603  so does the real one
    _started -= 1


def nvmlSystemGetDriverVersion() -> str:
    """Give the version."""
    with _state() as state:
        return str(state["driver_version"])


def nvmlDeviceGetCount() -> int:
    """Give the number of GPUs."""
    with _state() as state:
        return len(state["gpus"])


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    """A handle is the index."""
    with _state() as state:
        if not 0 <= index < len(state["gpus"]):
            raise _error(real.NVML_ERROR_INVALID_ARGUMENT)
    return index


def nvmlDeviceGetHandleByUUID(uuid: str) -> int:
    """Find the GPU with that identity."""
    with _state() as state:
        for index, gpu in enumerate(state["gpus"]):
            if gpu["uuid"] == uuid:
                return index
    raise _error(real.NVML_ERROR_NOT_FOUND)


def nvmlDeviceGetUUID(handle: int) -> str:
    """Give the identity."""
    with _gpu(handle) as (_, gpu):
        return str(gpu["uuid"])


def nvmlDeviceGetName(handle: int) -> str:
    """Give the name."""
    with _gpu(handle) as (_, gpu):
        return str(gpu["name"])


def nvmlDeviceGetMemoryInfo(handle: int) -> object:
    """Give the memory."""
    with _gpu(handle) as (_, gpu):
        return real.nvmlFriendlyObject({"total": gpu["memory_bytes"], "used": gpu["memory_bytes"] // 4})


def nvmlDeviceGetUtilizationRates(handle: int) -> object:
    """All or nothing."""
    with _gpu(handle):
        return real.nvmlFriendlyObject({"gpu": 100 * _busy(handle), "memory": 50 * _busy(handle)})


def nvmlDeviceGetTemperature(handle: int, _sensor: int) -> int:
    """Give degrees Celsius."""
    with _gpu(handle):
        return 41


def nvmlDeviceGetFieldValues(handle: int, fields: list[tuple[int, int]]) -> object:
    """Power in mW; bytes of PCIe and, where there is NVLink, KiB of all links: more with every query."""
    with _gpu(handle) as (state, gpu):
        queries = gpu["queries"] = gpu.get("queries", 0) + 1
        links = any(handle in pair for pair in state["nvlink"])
    answers = (real.c_nvmlFieldValue_t * len(fields))()
    for answer, (field, scope) in zip(answers, fields, strict=True):
        answer.fieldId, answer.scopeId, answer.valueType = (
            field,
            scope,
            real.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
        )
        if field == real.NVML_FI_DEV_POWER_INSTANT:
            answer.valueType, answer.value.uiVal = real.NVML_VALUE_TYPE_UNSIGNED_INT, 250_000
        elif field in {real.NVML_FI_DEV_PCIE_COUNT_TX_BYTES, real.NVML_FI_DEV_PCIE_COUNT_RX_BYTES}:
            answer.value.ullVal = (queries % state.get("wraps_after", 10**9)) * 1_000_000 + (1 << 40)
        elif links and scope == (1 << 32) - 1:
            answer.value.ullVal = queries * 1000
        else:
            answer.nvmlReturn = real.NVML_ERROR_NOT_SUPPORTED
    return answers


def nvmlDeviceGetProcessUtilization(handle: int, since_us: int) -> list[object]:
    """Two samples of process 77, unless they were seen; an old driver has none at all, which is an error."""
    with _gpu(handle):
        rows = [{"pid": 77, "timeStamp": 10 + k, "smUtil": 20 + k, "memUtil": 5} for k in range(2)]
        found = [real.nvmlFriendlyObject(row) for row in rows if row["timeStamp"] > since_us]
    if not found:
        raise _error(real.NVML_ERROR_NOT_FOUND)
    return found


def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[object]:
    """Three processes, of one of which the driver does not tell the memory."""
    with _gpu(handle):
        return [
            real.nvmlFriendlyObject({"pid": pid, "usedGpuMemory": used})
            for pid, used in ((77, 1 << 30), (78, None), (79, 5))
        ]


def nvmlGpmQueryDeviceSupport(handle: int) -> object:
    """As the state says."""
    with _gpu(handle) as (state, _):
        return real.nvmlFriendlyObject({"isSupportedDevice": int(state.get("gpm", True))})


def nvmlGpmSampleAlloc() -> object:
    """Make room for a sample."""
    return real.c_nvmlGpmSample_t()


def nvmlGpmSampleGet(handle: int, sample: object) -> object:
    """Take one."""
    with _gpu(handle):
        return sample


def nvmlGpmMetricsGet(question: Any) -> Any:  # noqa: ANN401  a structure of NVML's
    """Give 30 % of the first metric; the second is not known."""
    question.metrics[0].value = 30.0
    question.metrics[1].nvmlReturn = real.NVML_ERROR_NOT_SUPPORTED
    return question


def nvmlDeviceGetEnforcedPowerLimit(handle: int) -> int:
    """Milliwatts."""
    with _gpu(handle):
        return 700_000


def nvmlDeviceGetMaxPcieLinkGeneration(handle: int) -> int:
    """PCIe 5."""
    with _gpu(handle):
        return 5


def nvmlDeviceGetMaxPcieLinkWidth(handle: int) -> int:
    """Refuse, as virtual GPUs do."""
    with _gpu(handle):
        raise _error(real.NVML_ERROR_NOT_SUPPORTED)


def nvmlDeviceGetP2PStatus(one: int, other: int, index: int) -> int:
    """Joined by NVLink or not."""
    with _gpu(one) as (state, _):
        joined = index == real.NVML_P2P_CAPS_INDEX_NVLINK and [one, other] in state["nvlink"]
    return int(real.NVML_P2P_STATUS_OK if joined else real.NVML_P2P_STATUS_NOT_SUPPORTED)


def nvmlDeviceGetSupportedMemoryClocks(handle: int) -> list[int]:
    """Give the highest first."""
    with _gpu(handle):
        return [2619, 405]


def nvmlDeviceGetSupportedGraphicsClocks(handle: int, memory_mhz: int) -> list[int]:
    """Give the highest first; with slow memory a few alone."""
    with _gpu(handle):
        return GRAPHICS_MHZ[::-1] if memory_mhz == 2619 else [420, 345]


def nvmlDeviceGetMaxClockInfo(handle: int, _clock: int) -> int:
    """Give the highest, which no lock changes."""
    with _gpu(handle):
        return max(GRAPHICS_MHZ)


def nvmlDeviceGetClockInfo(handle: int, clock: int) -> int:
    """Give the clock now: within the lock, if there is one that works."""
    with _gpu(handle) as (state, gpu):
        if clock == real.NVML_CLOCK_MEM:
            return 2619
        mhz = int(max(GRAPHICS_MHZ) if _busy(handle) else gpu["idle_mhz"])
        if gpu["locked"] and state["lock_works"]:
            lowest, highest = gpu["locked"]
            return int(min(max(mhz, lowest), highest))
        return mhz


def nvmlDeviceGetCurrentClocksEventReasons(handle: int) -> int:
    """Give the reasons for the clock."""
    with _gpu(handle) as (state, gpu):
        held = gpu["locked"] and state["lock_works"] and gpu["limited"]
        setting = real.nvmlClocksEventReasonApplicationsClocksSetting if held else 0
        return int(setting | (0 if _busy(handle) else real.nvmlClocksEventReasonGpuIdle))


def nvmlDeviceSetGpuLockedClocks(handle: int, lowest: int, highest: int) -> None:
    """Lock to the nearest clocks that there are; root alone may."""
    with _gpu(handle) as (state, gpu):
        if not state["root"]:
            raise _error(real.NVML_ERROR_NO_PERMISSION)
        if lowest > highest:
            raise _error(real.NVML_ERROR_INVALID_ARGUMENT)
        gpu["locked"] = [min(GRAPHICS_MHZ, key=lambda mhz: abs(mhz - wanted)) for wanted in (lowest, highest)]


def nvmlDeviceResetGpuLockedClocks(handle: int) -> None:
    """Let the clock go."""
    with _gpu(handle) as (state, gpu):
        if not state["root"]:
            raise _error(real.NVML_ERROR_NO_PERMISSION)
        if state["reset_works"]:
            gpu["locked"] = None
