"""The grid of a spec as ordered cells."""

import re
from collections import Counter
from dataclasses import FrozenInstanceError, replace
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import plan as planning
from tasks.plan import estimate_s, plan, queues_s
from tasks.settings import SpecError
from tasks.spec import CampaignSpec, parse_spec

INSTANCE = "first-20261123T014500"
FAULT = "cpu_compute_squeeze_out"
EXPECTED = [
    (1, "normal", 1, "r11d1e90218"),
    (2, FAULT, 1, "r61a92bdd68"),
    (3, FAULT, 2, "r865fac0098"),
    (4, "normal", 2, "rcc598b1785"),
    (5, FAULT, 3, "r7756b6fb16"),
    (6, "normal", 3, "ra8eb8b4f86"),
]


def spec_of(**changes: object) -> CampaignSpec:
    """Return a small spec with some keys set."""
    base: dict[str, Any] = {
        "name": "first",
        "hosts": [{"name": "lab", "allow_faults": True}],
        "engines": [{"kind": "vllm", "model": "tiny"}],
        "workload": {"input_lengths": [32], "output_lengths": [64], "concurrency": [4]},
        "scenarios": ["normal", FAULT],
        "repetitions": 3,
    }
    return parse_spec({**base, **changes})


def test_one_cell_for_each_combination() -> None:
    """Every host, engine, scenario, workload and repetition meet exactly once."""
    hosts = [{"name": name, "address": name, "allow_faults": True} for name in ("a", "b")]
    engines = [
        {"kind": "vllm", "model": "tiny"},
        {"kind": "vllm", "model": "tiny", "args": {"enforce-eager": True}},
    ]
    workload = {"input_lengths": [32, 64], "output_lengths": [8], "concurrency": [1, 4]}
    cells = plan(spec_of(hosts=hosts, engines=engines, workload=workload), INSTANCE)
    axes = Counter((c.host, c.engine, c.scenario, c.workload, c.mode, c.repetition) for c in cells)
    assert set(axes.values()) == {1}
    assert len(cells) == 2 * 2 * 2 * 4 * 3
    assert cells[0].workload in {"in32_out8_conc1", "in32_out8_conc4", "in64_out8_conc1", "in64_out8_conc4"}


def test_the_order_of_a_seed_is_fixed() -> None:
    """The same spec gives the same order and the same run ids on every machine and in every version."""
    cells = plan(spec_of(), INSTANCE)
    assert [(cell.run_order, cell.scenario, cell.repetition, cell.run_id) for cell in cells] == EXPECTED
    assert cells == plan(spec_of(), INSTANCE)


def test_another_seed_is_another_order() -> None:
    """The order is the seed's, so that drift can be averaged out over seeds."""
    orders = {tuple(cell.scenario for cell in plan(spec_of(seed=seed), INSTANCE)) for seed in range(64)}
    assert len(orders) == 2**3  # each of the three repetitions in either order


def test_deep_captures_are_made_on_chosen_workloads_and_after_the_others() -> None:
    """They need a server of their own, which is started once; run ids of light cells stay what they were."""
    workload = {"input_lengths": [32], "output_lengths": [64], "concurrency": [4, 8]}
    deep = {"deepdive": {"workloads": ["in32_out64_conc8"]}}
    light = spec_of(workload=workload)
    both = spec_of(workload=workload, modes=["sentinel", deep])
    cells = plan(both, INSTANCE)
    assert [cell.mode for cell in cells] == ["sentinel"] * 12 + ["deepdive"] * 6
    assert {cell.workload for cell in cells if cell.mode == "deepdive"} == {"in32_out64_conc8"}
    assert cells[:12] == plan(light, INSTANCE)
    assert estimate_s(both, cells) == estimate_s(light, cells[:12]) + 45 + 6 * (12 + 3 + 45 + 2 * 5)


def test_drift_meets_all_scenarios_alike() -> None:
    """A repetition is over before the next begins: a slow drift is no scenario's own."""
    repetitions = [cell.repetition for cell in plan(spec_of(), INSTANCE)]
    assert repetitions == sorted(repetitions)


def test_a_server_is_started_once_for_a_configuration() -> None:
    """The cells of one engine on one host stand together."""
    engines = [{"kind": "vllm", "model": model} for model in ("m1", "m2", "m3")]
    hosts = [{"name": name, "address": name, "allow_faults": True} for name in ("a", "b")]
    cells = plan(spec_of(engines=engines, hosts=hosts), INSTANCE)
    blocks = [block for block, _ in groupby((cell.host, cell.engine) for cell in cells)]
    assert len(blocks) == len(set(blocks)) == 6
    assert {cell.model for cell in cells if cell.engine == 1} == {"m2"}


def test_run_ids_are_stable_names() -> None:
    """A run keeps its id when the spec gets more cells, and gets another in another campaign or seed."""
    ids = {cell.run_id for cell in plan(spec_of(), INSTANCE)}
    assert all(re.fullmatch(r"r[0-9a-f]{10}", run_id) for run_id in ids)
    engines = [{"kind": "vllm", "model": "other"}, {"kind": "vllm", "model": "tiny"}]
    assert ids < {cell.run_id for cell in plan(spec_of(engines=engines, repetitions=5), INSTANCE)}
    assert not ids & {cell.run_id for cell in plan(spec_of(), "first-20261124T014500")}
    assert not ids & {cell.run_id for cell in plan(spec_of(seed=8), INSTANCE)}
    other_arguments = [{"kind": "vllm", "model": "tiny", "args": {"max-num-seqs": 2}}]
    assert not ids & {cell.run_id for cell in plan(spec_of(engines=other_arguments), INSTANCE)}


def test_strengths_are_told_apart() -> None:
    """The same anomaly at two strengths is two scenarios."""
    strong = [{"anomaly": FAULT, "strength": {"threads_per_cpu": n}} for n in (1, 2)]
    cells = plan(spec_of(scenarios=strong, repetitions=1), INSTANCE)
    assert {cell.strength["threads_per_cpu"] for cell in cells} == {1, 2}
    assert {(cell.scenario, cell.anomaly) for cell in cells} == {(FAULT, FAULT)}
    assert {cell.anomaly for cell in plan(spec_of(scenarios=["normal"]), INSTANCE)} == {None}


def test_the_estimate_is_the_sum_of_its_parts() -> None:
    """Each server start, client start and window is counted once."""
    spec = spec_of(windows={"warmup_s": 5, "baseline_s": 10, "fault_s": 10, "recovery_s": 5})
    assert estimate_s(spec, plan(spec, INSTANCE)) == 45 + 6 * (12 + 3 + 30)
    assert estimate_s(spec, []) == 0


def test_hosts_that_work_side_by_side_take_as_long_as_the_slowest() -> None:
    """Two hosts take no longer than one; when one has fewer cells left, the other decides."""
    hosts = [{"name": name, "address": name, "allow_faults": True} for name in ("a", "b")]
    spec = spec_of(hosts=hosts, windows={"warmup_s": 5, "baseline_s": 10, "fault_s": 10, "recovery_s": 5})
    cells = plan(spec, INSTANCE)
    assert estimate_s(spec, cells) == 45 + 6 * (12 + 3 + 30)
    left = [cell for cell in cells if cell.host == "a"][:2] + [cell for cell in cells if cell.host == "b"]
    assert queues_s(spec, left) == {"a": 45 + 2 * 45, "b": 45 + 6 * 45}
    assert estimate_s(spec, left) == 45 + 6 * 45


@pytest.mark.parametrize("instance", ["", "../up", "a b", "-a", ".hidden", "a\n", "ä"])
def test_an_instance_is_a_name(instance: str) -> None:
    """The instance becomes a folder, so nothing that leaves its folder is one."""
    with pytest.raises(SpecError, match="cannot name a campaign"):
        plan(spec_of(), instance)


def test_two_runs_never_share_a_bundle() -> None:
    """Should two cells ever hash to the same id, the plan is refused."""
    cell = plan(spec_of(), INSTANCE)[0]
    with pytest.raises(SpecError, match=f"two cells have the run_id {cell.run_id}"):
        planning._refuse_collision([cell, replace(cell, run_order=2)])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True),
)
def test_no_seed_loses_or_doubles_a_cell(seed: int, repetitions: int, lengths: list[int]) -> None:
    """Whatever the seed, the plan is a permutation of the grid with unique ids, counted from 1."""
    workload = {"input_lengths": lengths, "output_lengths": [8], "concurrency": [1]}
    cells = plan(spec_of(seed=seed, repetitions=repetitions, workload=workload), INSTANCE)
    grid = Counter((cell.input_length, cell.scenario, cell.repetition) for cell in cells)
    assert grid == {
        (n, s, r): 1 for n in lengths for s in ("normal", FAULT) for r in range(1, repetitions + 1)
    }
    assert [cell.run_order for cell in cells] == list(range(1, len(cells) + 1))
    assert len({cell.run_id for cell in cells}) == len(cells)


def test_a_cell_cannot_be_changed() -> None:
    """What was planned is what runs."""
    cell: Any = plan(spec_of(), INSTANCE)[0]
    with pytest.raises(FrozenInstanceError):
        cell.run_order = 3
