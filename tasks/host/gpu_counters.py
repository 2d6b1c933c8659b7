"""Counters of NVIDIA GPUs by NVML, a call or a few for each GPU; traffic from what the GPU counts by itself.

NVML's own throughput call is never made: it holds its caller for 20 ms. Power, PCIe and NVLink come from one
field query. SM utilisation and occupancy are there where the GPU has GPM (Hopper and later), else absent.
Standard library only (Python >= 3.9). Untested on hardware: the tests have a stand-in for NVML.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from tasks.host import gpu
from tasks.host.site import Trouble

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.host.census import Value

ALL_LINKS = 0xFFFFFFFF  # the scope of an NVLink field that means the GPU's links together
KIB = 1024
# field of NVML, its scope, our counter, bytes in one unit of it
TRAFFIC = (
    ("NVML_FI_DEV_PCIE_COUNT_TX_BYTES", 0, "gpu_pcie_transmit", 1),
    ("NVML_FI_DEV_PCIE_COUNT_RX_BYTES", 0, "gpu_pcie_receive", 1),
    ("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX", ALL_LINKS, "gpu_link_transmit", KIB),
    ("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX", ALL_LINKS, "gpu_link_receive", KIB),
)
POWER = "NVML_FI_DEV_POWER_INSTANT"
GPM = (("NVML_GPM_METRIC_SM_UTIL", "gpu_sm_util"), ("NVML_GPM_METRIC_SM_OCCUPANCY", "gpu_sm_occupancy"))
VALUE_TYPES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by number, as NVML has them


class Gpus:
    """The GPUs of these indexes, or none with the reason in `missing`; `lacks` is what they do not tell."""

    def __init__(self, indexes: list[int]) -> None:
        self.open = contextlib.ExitStack()
        self.gpus: list[_Gpu] = []
        self.missing: str | None = None
        if not indexes:
            return
        try:
            with contextlib.ExitStack() as stack:
                nvml = stack.enter_context(gpu.driver())
                self.missing = gpu.unknown(indexes, nvml.nvmlDeviceGetCount())
                self.gpus = [] if self.missing else [_Gpu(nvml, index) for index in indexes]
                self.open = stack.pop_all()
        except Trouble as error:
            self.missing = str(error)

    @property
    def lacks(self) -> list[str]:
        """What cannot be had of which GPU, in a line each."""
        return [f"GPU {one.index}: no {', '.join(one.lacks)}" for one in self.gpus if one.lacks]

    def read(self) -> dict[int, dict[str, float]]:
        """{index: cumulative bytes by counter}, of those that answer."""
        return {one.index: one.traffic() for one in self.gpus}

    def rows(
        self, old: dict[int, dict[str, float]], new: dict[int, dict[str, float]], seconds: float
    ) -> Iterator[Value]:
        """Rates of the traffic, and what holds now."""
        for one in self.gpus:
            device, was = f"GPU {one.index}", old.get(one.index, {})
            for counter, value in new.get(one.index, {}).items():
                if value >= was.get(counter, value + 1):
                    yield counter, device, None, None, (value - was[counter]) / seconds
            for counter, value in one.state():
                yield counter, device, None, None, value

    def process_rows(self, ours: Iterable[int]) -> Iterator[Value]:
        """What each of these processes uses of each GPU, as far as the driver tells."""
        pids = set(ours)
        for one in self.gpus:
            for counter, pid, value in one.processes():
                if pid in pids:
                    yield counter, f"GPU {one.index}", pid, None, value


class _State(NamedTuple):
    """A question to NVML about what holds now, and the number in the answer."""

    counter: str
    ask: Any
    about: tuple[Any, ...]
    value: Callable[[Any], float]


class _Gpu:
    def __init__(self, nvml: Any, index: int) -> None:
        self.nvml, self.index = nvml, index
        self.handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.lacks: list[str] = []
        self.seen_us = 0
        self.power_w: float | None = None
        self.samples = self._gpm_samples()
        self.asked = list(self._states())
        self.fields = [one for one in TRAFFIC if hasattr(nvml, one[0])]
        known = {*self.traffic(), *(counter for counter, _ in self.state())}
        wanted = {one[2] for one in TRAFFIC} | {one.counter for one in self.asked} | {"gpu_power"}
        wanted |= {counter for _, counter in GPM}
        self.lacks = sorted(wanted - known)
        self.asked = [one for one in self.asked if one.counter in known]

    def traffic(self) -> dict[str, float]:
        """Bytes by counter since the driver was loaded, and the power beside: one query."""
        asked = [(getattr(self.nvml, name), scope) for name, scope, _, _ in self.fields]
        power = getattr(self.nvml, POWER, None)
        said = self._told(self.nvml.nvmlDeviceGetFieldValues, self.handle, asked + [(power, 0)] * bool(power))
        values = [_value(one) for one in said or ()]
        milliwatts = values[len(asked)] if len(values) > len(asked) else None
        self.power_w = None if milliwatts is None else milliwatts / 1000
        pairs = zip(self.fields, values)
        return {field[2]: value * field[3] for field, value in pairs if value is not None}

    def state(self) -> Iterator[tuple[str, float]]:
        """What holds now."""
        for one in self.asked:
            said = self._told(one.ask, self.handle, *one.about)
            if said is not None:
                yield one.counter, one.value(said)
        if self.power_w is not None:
            yield "gpu_power", self.power_w
        yield from self._gpm()

    def processes(self) -> Iterator[tuple[str, int, float]]:
        """(counter, pid, value) of every process: its share of the SMs as last sampled, and its memory."""
        use: dict[int, int] = {}
        for one in self._told(self.nvml.nvmlDeviceGetProcessUtilization, self.handle, self.seen_us) or ():
            self.seen_us = max(self.seen_us, one.timeStamp)
            use[one.pid] = one.smUtil  # samples come in the order of time: the last stands
        for pid, share in use.items():
            yield "process_gpu_usage", pid, share
        for one in self._told(self.nvml.nvmlDeviceGetComputeRunningProcesses, self.handle) or ():
            if one.usedGpuMemory is not None:
                yield "process_gpu_mem_used", one.pid, one.usedGpuMemory

    def _states(self) -> Iterator[_State]:
        nvml = self.nvml
        yield _State("gpu_usage", nvml.nvmlDeviceGetUtilizationRates, (), lambda said: float(said.gpu))
        yield _State("gpu_mem_used", nvml.nvmlDeviceGetMemoryInfo, (), lambda said: float(said.used))
        for counter, kind in (
            ("gpu_frequency", nvml.NVML_CLOCK_GRAPHICS),
            ("gpu_sm_frequency", nvml.NVML_CLOCK_SM),
            ("gpu_mem_frequency", nvml.NVML_CLOCK_MEM),
        ):
            yield _State(counter, nvml.nvmlDeviceGetClockInfo, (kind,), float)
        yield _State("gpu_temp", nvml.nvmlDeviceGetTemperature, (nvml.NVML_TEMPERATURE_GPU,), float)
        for era in ("Event", "Throttle"):  # the name until 12.2
            asked = getattr(nvml, f"nvmlDeviceGetCurrentClocks{era}Reasons", None)
            if asked:
                yield _State("gpu_throttle_reasons", asked, (), float)
                return

    def _gpm_samples(self) -> list[Any] | None:
        """Two samples to compare in turn, where the GPU has GPM."""
        nvml = self.nvml
        support = self._told(getattr(nvml, "nvmlGpmQueryDeviceSupport", None), self.handle)
        if support is None or not support.isSupportedDevice:
            return None
        samples = [self._told(nvml.nvmlGpmSampleAlloc) for _ in range(2)]
        return None if None in samples or not self._taken(samples[0]) else samples

    def _taken(self, sample: Any) -> bool:
        return self._told(self.nvml.nvmlGpmSampleGet, self.handle, sample) is not None

    def _gpm(self) -> Iterator[tuple[str, float]]:
        """The means between the last sample and this one."""
        if self.samples is None or not self._taken(self.samples[1]):
            return
        question = self.nvml.c_nvmlGpmMetricsGet_t()
        question.version, question.numMetrics = self.nvml.NVML_GPM_METRICS_GET_VERSION, len(GPM)
        question.sample1, question.sample2 = self.samples
        for k, (name, _) in enumerate(GPM):
            question.metrics[k].metricId = getattr(self.nvml, name)
        said = self._told(self.nvml.nvmlGpmMetricsGet, question)
        self.samples.reverse()
        for k, (_, counter) in enumerate(GPM):
            if said is not None and said.metrics[k].nvmlReturn == self.nvml.NVML_SUCCESS:
                yield counter, said.metrics[k].value

    def _told(self, question: Any, *about: Any) -> Any:
        """The answer; None where this GPU, its driver or this pynvml does not know."""
        if question is None:
            return None
        try:
            return question(*about)
        except (self.nvml.NVMLError, AttributeError):
            return None


def _value(field: Any) -> float | None:
    """The number of one field of a query; None where the GPU does not have it."""
    if field.nvmlReturn or field.valueType >= len(VALUE_TYPES):
        return None
    return float(getattr(field.value, VALUE_TYPES[field.valueType]))
