"""The grid of a spec as the ordered, seeded list of cells that a campaign works through. Pure."""

import hashlib
import itertools
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from tasks.engine_spec import Engine, Scalar
from tasks.modes import DEEPDIVE, Mode
from tasks.settings import SpecError
from tasks.spec import NORMAL, SHAM, CampaignSpec, Host, masked

# What a cell takes beside its windows, as seen on two cores.
ENGINE_START_S = 45.0
CLIENT_START_S = 12.0
CELL_OVERHEAD_S = 3.0
CAPTURE_S = 5.0
ANALYSIS_S = 40.0  # of the whole: Prefect's start, ingest, validation, training, diagnosis, report

T = TypeVar("T")
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}")


@dataclass(frozen=True)
class Cell:
    """One run to be made; `engine` is its index in the spec, `run_order` counts from 1 over the campaign."""

    host: str
    engine: int
    engine_kind: str
    model: str
    scenario: str
    anomaly: str | None
    strength: dict[str, Scalar]
    input_length: int
    output_length: int
    concurrency: int
    mode: str
    repetition: int
    run_id: str = ""
    run_order: int = 0

    @property
    def has_fault(self) -> bool:
        """Whether a fault's life cycle is part of the run; that of `sham` changes nothing."""
        return self.scenario != NORMAL

    @property
    def workload(self) -> str:
        """The workload's name, as `runs.workload` has it."""
        return f"in{self.input_length}_out{self.output_length}_conc{self.concurrency}"


def plan(spec: CampaignSpec, instance: str) -> list[Cell]:
    """Order every cell of the spec; the same spec and instance give the same list.

    Cells of one engine configuration on one host stay together, since they share its server (in `deepdive`
    another one: it has a profiler). Inside, each repetition holds every combination once, shuffled by the
    seed: drift then meets all scenarios alike.
    `run_id` is `r` and the first 10 hex digits of a hash of (instance, cell, repetition, seed); it depends
    neither on the order nor on the other cells.

    Raises:
        SpecError: the instance is no name, or two cells have got the same run_id.
    """
    if not _INSTANCE.fullmatch(instance):
        raise SpecError(f"{instance!r} cannot name a campaign: letters, digits, and _ . - after the first")
    engines = _shuffled(list(enumerate(spec.engines)), f"{spec.seed}/engines")
    blocks = itertools.product(spec.hosts, engines, spec.modes)
    ordered = [cell for host, (at, engine), mode in blocks for cell in _block(spec, host, at, engine, mode)]
    cells = [
        replace(cell, run_id=_run_id(instance, cell, spec), run_order=order)
        for order, cell in enumerate(ordered, start=1)
    ]
    _refuse_collision(cells)
    return cells


def estimate_s(spec: CampaignSpec, cells: Sequence[Cell]) -> float:
    """Seconds that the cells will take: those of the host that takes longest, for hosts work side by side."""
    return max(queues_s(spec, cells).values(), default=0.0)


def queues_s(spec: CampaignSpec, cells: Sequence[Cell]) -> dict[str, float]:
    """{host: seconds that its cells will take one after another, engine starts included}."""
    a_cell = CLIENT_START_S + CELL_OVERHEAD_S + spec.windows.total_s
    queues = dict.fromkeys((cell.host for cell in cells), 0.0)
    for cell in cells:
        queues[cell.host] += a_cell + (2 * CAPTURE_S if cell.mode == DEEPDIVE else 0.0)
    for host, _, _ in {(cell.host, cell.engine, cell.mode) for cell in cells}:
        queues[host] += ENGINE_START_S
    return queues


def _block(spec: CampaignSpec, host: Host, index: int, engine: Engine, mode: Mode) -> Iterator[Cell]:
    for repetition in range(1, spec.repetitions + 1):
        once = [
            cell
            for cell in _combinations(spec, host, index, engine, mode, repetition)
            if mode.covers(cell.workload)
        ]
        yield from _shuffled(once, f"{spec.seed}/{host.name}/{index}/{repetition}")


def _combinations(
    spec: CampaignSpec, host: Host, index: int, engine: Engine, mode: Mode, repetition: int
) -> Iterator[Cell]:
    load = spec.workload
    axes = (load.input_lengths, load.output_lengths, load.concurrency, spec.scenarios)
    for input_length, output_length, concurrency, scenario in itertools.product(*axes):
        yield Cell(
            host=host.name,
            engine=index,
            engine_kind=engine.kind,
            model=engine.model,
            scenario=scenario.name,
            anomaly=None if scenario.name == SHAM else scenario.anomaly,
            strength=dict(scenario.strength),
            input_length=input_length,
            output_length=output_length,
            concurrency=concurrency,
            mode=mode.name,
            repetition=repetition,
        )


def _run_id(instance: str, cell: Cell, spec: CampaignSpec) -> str:
    axes = {key: value for key, value in asdict(cell).items() if key not in ("engine", "run_id", "run_order")}
    # The whole engine instead of its index: a line added to the spec's engines renames no other run.
    engine = spec.engines[cell.engine]
    whole = {**engine.model_dump(mode="json"), "args": masked(engine.args), "env": masked(engine.given_env)}
    identity = [instance, axes, whole, spec.seed]
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return "r" + hashlib.sha256(canonical.encode()).hexdigest()[:10]


def _shuffled(items: list[T], seed: str) -> list[T]:
    # Seeded by text: the same order on every platform and in every Python from 3.11 on.
    return random.Random(seed).sample(items, len(items))  # noqa: S311 - an order, not a secret


def _refuse_collision(cells: Sequence[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        if cell.run_id in seen:
            raise SpecError(
                f"two cells have the run_id {cell.run_id}: change the seed or the campaign's name"
            )
        seen[cell.run_id] = cell
