"""Counters of GPUs, against a stand-in for NVML: what is rated, what is told, and what is absent."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fake_nvml.pynvml import driver_state
from tests.gpu_cases import Host

Counters = dict[str, dict[str, float]]
PROGRAM = """
import json
from tasks.host.gpu_counters import Gpus
gpus = Gpus({indexes})
with gpus.open:
    first, second = gpus.read(), gpus.read()
    rows = [*gpus.rows(first, second, 2.0), *gpus.process_rows([77, 78]), *gpus.process_rows([77])]
print(json.dumps([rows, gpus.missing, gpus.lacks]))
"""


def counted(folder: Path, indexes: list[int], **state: Any) -> tuple[Counters, Any, Any]:  # noqa: ANN401  any field
    """Two seconds of these GPUs: counters by device, what is missing, and what is lacking."""
    (folder / "driver.json").write_text(json.dumps(driver_state(**state)))
    with Host(folder).start("-c", PROGRAM.format(indexes=indexes)) as child:
        said, _ = child.communicate(timeout=60)
    assert child.returncode == 0, said
    rows, missing, lacks = json.loads(said)
    found: Counters = {}
    for counter, device, pid, _, value in rows:
        found.setdefault(device, {})[f"{counter}{'' if pid is None else f' of {pid}'}"] = value
    return found, missing, lacks


WHOLE = {
    "gpu_pcie_transmit": 500_000.0, "gpu_pcie_receive": 500_000.0, "gpu_link_transmit": 512_000.0,
    "gpu_link_receive": 512_000.0, "gpu_usage": 0.0, "gpu_mem_used": float(20 << 30), "gpu_frequency": 360.0,
    "gpu_sm_frequency": 360.0, "gpu_mem_frequency": 2619.0, "gpu_temp": 41.0, "gpu_throttle_reasons": 1.0,
    "gpu_power": 250.0, "gpu_sm_util": 30.0, "process_gpu_usage of 77": 21,
    "process_gpu_mem_used of 77": 1 << 30,
}  # fmt: skip


def test_a_gpu_has_its_rates_its_state_and_the_use_by_the_engine(tmp_path: Path) -> None:
    """Traffic as a rate of what the GPU counts; a process's last sample stands; strangers are left out."""
    found, missing, lacks = counted(tmp_path, [0, 1], gpus=2)
    assert found == {"GPU 0": WHOLE, "GPU 1": WHOLE}
    assert (missing, lacks) == (None, ["GPU 0: no gpu_sm_occupancy", "GPU 1: no gpu_sm_occupancy"])


def test_what_a_gpu_does_not_have_is_absent_and_said(tmp_path: Path) -> None:
    """A GPU before Hopper, without NVLink: no value is made up."""
    found, _, lacks = counted(tmp_path, [0], nvlink=[], gpm=False)
    assert WHOLE.keys() - found["GPU 0"].keys() == {"gpu_link_receive", "gpu_link_transmit", "gpu_sm_util"}
    assert lacks == ["GPU 0: no gpu_link_receive, gpu_link_transmit, gpu_sm_occupancy, gpu_sm_util"]


def test_a_counter_that_wraps_has_no_value_then(tmp_path: Path) -> None:
    """Not a negative rate, and no guess."""
    found, _, _ = counted(tmp_path, [0], wraps_after=3)
    assert "gpu_pcie_transmit" not in found["GPU 0"]
    assert "gpu_usage" in found["GPU 0"]


@pytest.mark.parametrize(
    ("indexes", "state", "missing"),
    [
        ([0], {"init_error": "NVML_ERROR_LIBRARY_NOT_FOUND"}, "no NVIDIA driver on this host"),
        ([0, 1], {}, "no GPU 1: this host has 0 alone"),
        ([0], {"lost": [0]}, None),
        ([], {}, None),
    ],
)
def test_without_a_gpu_there_are_no_values(
    indexes: list[int], state: dict[str, Any], missing: str | None, tmp_path: Path
) -> None:
    """The reason in one line; nothing is raised."""
    found, said, _ = counted(tmp_path, indexes, **state)
    assert found == {}
    assert (said or "").startswith(missing or "")
