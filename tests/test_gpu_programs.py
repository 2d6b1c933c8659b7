"""The torch programs of the GPU faults, on torch's CPU device.

What no test can show without a GPU: that streams, peers and pinned memory do there what they are asked.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from injectors import gpu_preemption, gpu_swap
from injectors.programs import allocations, copies, life
from tasks.host import fault, processes, site
from tests.gpu_cases import PROGRAM_FAULTS, a_site, engine_python, interpreter, wait_for
from tests.tree import ROOT

# A program is ended by its process session; the Popen that began it is not asked.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture
def torch_python() -> str:
    """The installed engine's interpreter."""
    return engine_python()


@pytest.fixture(autouse=True)
def _shipped_code_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs find `injectors` as they do on a host."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


LOADS = {
    "gemms": ["--devices", "cpu,cpu", "--streams", "2"],
    "copies": ["--devices", "cpu", "--streams", "2"],
    "copies between peers": ["--devices", "cpu,cpu", "--peers", "1", "--share_pct", "50"],
    "allocations": ["--devices", "cpu"],
}


def program(python: str, name: str, what: str, *flags: str) -> subprocess.Popen[str]:
    """Start one of the torch programs."""
    module = f"injectors.programs.{name.split(maxsplit=1)[0]}"
    argv = [python, "-W", "ignore", "-m", module, what, *LOADS[name], *flags]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("name", LOADS)
def test_a_load_says_that_it_runs_and_ends_when_told(name: str, torch_python: str) -> None:
    """One line of JSON, then it works; SIGTERM ends it at once."""
    with program(torch_python, name, "load", "--seconds", "60") as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline()) == {"device": "cpu"}
        ticks = processes.stat_fields(child.pid)
        time.sleep(0.3)
        assert child.poll() is None
        assert processes.stat_fields(child.pid) != ticks  # it burns
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == -signal.SIGTERM


def test_a_load_ends_at_its_deadline(torch_python: str) -> None:
    """By itself, with nothing more to say."""
    with program(torch_python, "gemms", "load", "--seconds", "0.5") as child:
        said, _ = child.communicate(timeout=60)
    assert (said, child.returncode) == ('{"device": "cpu"}\n', 0)


def test_a_load_dies_with_who_started_it(torch_python: str, tmp_path: Path) -> None:
    """Kill -9 of the fault's process: no GPU is loaded for nobody."""
    plan = a_site(tmp_path, "gpu_preemption", python=interpreter(tmp_path, torch_python))
    site.write(plan, tmp_path / fault.PLAN)
    script = (
        "import time\nfrom pathlib import Path\n"
        "from injectors import gpu_preemption\nfrom tasks.host import site\n"
        f"plan = site.read(Path({str(tmp_path / fault.PLAN)!r}))\n"
        "print(gpu_preemption.apply(plan), flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == (
            "2 streams of 8192-square fp16 products on GPUs [0] (cpu), 100 % of the time\n"
        )
        (pid,) = plan.programs()
        child.kill()
    wait_for(lambda: pid not in plan.programs(), 5)


def test_a_load_whose_starter_is_gone_before_it_began_ends(torch_python: str) -> None:
    """A wrapper between us and the interpreter does not keep it alive."""
    with subprocess.Popen(["true"]) as gone:
        pass
    with program(torch_python, "gemms", "load", "--seconds", "60", "--parent", str(gone.pid)) as child:
        said, _ = child.communicate(timeout=30)
    assert (said, child.returncode) == ('{"device": "cpu"}\n', 0)


def test_preemption_slows_a_victim_and_lets_it_go(
    torch_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault as it is, on one CPU: the victim's products get fewer, and more again when it is undone.

    Others use this machine too: one of three tries has to show it.
    """
    monkeypatch.setattr(site.Site, "cpus_beside", sorted(os.sched_getaffinity(0))[:1])
    python = interpreter(tmp_path, torch_python, first=True)
    plan = a_site(tmp_path, "gpu_preemption", {"streams": 4}, python=python)
    assert gpu_preemption.requirements(plan) is None
    shown = False
    for _ in range(3):
        before = gpu_preemption.probe(plan)
        gpu_preemption.apply(plan)
        during = gpu_preemption.probe(plan)
        assert "still runs" in str(gpu_preemption.left(plan))
        gpu_preemption.revert(plan)
        gpu_preemption.revert(plan)
        assert gpu_preemption.left(plan) is None
        after = gpu_preemption.probe(plan)
        shown = shown or during < 0.8 * min(before, after)
        if shown:
            break
    assert shown


@pytest.mark.parametrize(
    "anomaly", ["gpu_memory_squeeze_out_NVLink", "gpu_memory_squeeze_out_PCIe", "gpu_swap"]
)
def test_the_other_programs_are_started_and_ended(anomaly: str, torch_python: str, tmp_path: Path) -> None:
    """Every strength is an option that its program knows; revert works before apply, and leaves nothing."""
    module = PROGRAM_FAULTS[anomaly]
    plan = a_site(tmp_path, anomaly, gpus=[0, 1], python=interpreter(tmp_path, torch_python))
    assert module.requirements(plan) is None
    assert module.saved(plan) == {}
    module.revert(plan)
    assert module.left(plan) is None
    assert "GPUs [0, 1] (cpu)" in module.apply(plan)
    assert len(plan.programs()) == 1
    assert module.probe(plan) > 0
    module.revert(plan)
    assert (module.left(plan), plan.programs()) == (None, set())


def test_a_weak_fault_takes_less(tmp_path: Path) -> None:
    """What is proved scales with the dose; noise proves nothing."""
    strong = a_site(tmp_path, "gpu_preemption")
    weak = a_site(tmp_path, "gpu_preemption", {"share_pct": 30})
    judged = [[gpu_preemption.proved(plan, 100.0, at) for at in (84, 95, 97)] for plan in (strong, weak)]
    assert judged == [[True, False, False], [True, True, False]]
    assert [gpu_preemption.undone(strong, 100.0, at) for at in (84, 86)] == [False, True]
    swap = a_site(tmp_path, "gpu_swap")
    assert [gpu_swap.proved(swap, 10.0, at) for at in (5.9, 6.1)] == [True, False]
    assert [gpu_swap.undone(swap, 10.0, at) for at in (8.9, 9.1)] == [False, True]


def test_programs_keep_off_the_servers_cpus(tmp_path: Path) -> None:
    """What takes the GPU must not take the CPU too, where there are others."""
    every = sorted(os.sched_getaffinity(0))
    plan = a_site(tmp_path, "gpu_preemption")
    assert plan.cpus_beside == every
    if len(every) > 1:
        assert replace(plan, cpus=every[:1]).cpus_beside == every[1:]


def test_indexes_are_those_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever CUDA_VISIBLE_DEVICES the login had: GPUs are counted as NVML counts them."""
    cuda = SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, __version__="0"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert life.engine_torch("2,5")[1] == ["cuda:0", "cuda:1"]
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"]) == ("2,5", "PCI_BUS_ID")
    assert life.engine_torch("2,5", only_these=False)[1] == ["cuda:2", "cuda:5"]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_the_next_round_is_queued_before_the_last_is_waited_for() -> None:
    """At 100 % the device never idles, and never more than two rounds are queued; below, it rests."""
    said: list[str] = []
    rounds = iter(range(1000))

    def work() -> life.Wait:
        number = next(rounds)
        said.append(f"queue {number}")
        time.sleep(0.01)
        return lambda: said.append(f"wait {number}")

    try:
        life.keep_on(work, 100, 0.035, 0)
        assert said[:5] == ["queue 0", "queue 1", "wait 0", "queue 2", "wait 1"]
        assert said.count(said[-1]) == 1
        assert len([word for word in said if word.startswith("queue")]) == len(said) / 2
        said.clear()
        life.keep_on(work, 50, 0.05, 0)
        assert [word.split()[0] for word in said[:4]] == ["queue", "wait", "queue", "wait"]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_copies_go_all_ways() -> None:
    """Between peers in both directions of every pair; through the host around the ring."""
    stand_in: Any = SimpleNamespace(empty_like=lambda like: f"host of {like}")
    devices, sources, sinks = ["cpu"] * 3, ["a", "b", "c"], ["A", "B", "C"]

    def ways(lanes: list[Any]) -> list[tuple[str, str]]:
        return [(step.source, step.sink) for _, step in lanes]

    assert ways(copies._between_peers(stand_in, devices, sources, sinks)) == [
        ("a", "B"), ("a", "C"), ("b", "A"), ("b", "C"), ("c", "A"), ("c", "B"),
    ]  # fmt: skip
    assert ways(copies._through_the_host(stand_in, devices[:2], sources[:2], sinks[:2])) == [
        ("a", "host of a"), ("host of a", "B"), ("b", "host of b"), ("host of b", "A"),
    ]  # fmt: skip


class Card:
    """A GPU's memory as torch shows it: blocks that go when nobody holds them, and what a server took."""

    uint8 = "uint8"

    def __init__(self, total: int, server: int) -> None:
        self.total, self.server = total, server
        self.cuda = SimpleNamespace(mem_get_info=lambda _device: (self.free, total))
        self.blocks: list[int] = []

    @property
    def free(self) -> int:
        """What nobody has."""
        return self.total - self.server - sum(self.blocks)

    def empty(self, size: int, **_: object) -> "Block":
        """Allocate, or fail as torch does."""
        if size > self.free:
            raise RuntimeError("CUDA out of memory")
        return Block(self, size)


class Block:
    """An allocation: freed when it is forgotten."""

    def __init__(self, card: Card, size: int) -> None:
        self.card, self.size = card, size
        card.blocks.append(size)

    def numel(self) -> int:
        """Bytes."""
        return self.size

    def __del__(self) -> None:
        self.card.blocks.remove(self.size)


def memory_of(card: Card, share_of_free_pct: int, seed: int = 7) -> allocations.Memory:
    """The program's view of a card."""
    given = SimpleNamespace(share_of_free_pct=share_of_free_pct, largest_mb=512)
    return allocations.Memory(card, "cuda:0", given, random.Random(seed))  # noqa: S311  as the program


def test_allocations_leave_a_reserve_and_give_way() -> None:
    """Most of the share is held, never more; when the server grows, we shrink, and the reserve stays free."""
    card = Card(80_000_000_000, 70_000_000_000)
    memory = memory_of(card, 80)
    for _ in range(500):
        memory.churn()
    assert memory.held == sum(card.blocks)
    assert 0.85 * memory.target < memory.held <= memory.target
    assert memory.target == (10_000_000_000 - allocations.RESERVE_BYTES) * 80 // 100
    card.server += card.free - 50_000_000  # it takes all that is left but 50 MB
    for _ in range(50):
        memory.churn()
    assert card.free >= allocations.RESERVE_BYTES
    card.server += card.free + sum(card.blocks) - 1_000_000  # and then nearly all there is
    memory.churn()
    assert len(card.blocks) <= 1 or card.free >= 0


def test_the_same_seed_makes_the_same_sizes() -> None:
    """Random, and to be had again."""
    held = []
    for seed in (7, 7, 8):
        card = Card(10_000_000_000, 0)
        memory = memory_of(card, 50, seed)
        for _ in range(40):
            memory.churn()
        held.append(list(card.blocks))
    assert held[0] == held[1] != held[2]


@pytest.mark.parametrize(
    ("free", "in_pieces_of"), [(10_000_000_000, None), (10_000_000_000, 3_000_000_000), (200_000_000, None)]
)
def test_the_largest_block_is_found(free: int, in_pieces_of: int | None) -> None:
    """All but the reserve where it can be had at once, the largest piece else, nothing below the reserve."""
    card = Card(free, 0)
    plain = card.empty
    card.empty = lambda size, **other: plain(size if size <= (in_pieces_of or size) else free + 1, **other)  # type: ignore[method-assign]  # a card in pieces
    found = allocations._largest(card, "cuda:0")
    most = min(max(free - allocations.RESERVE_BYTES, 0), in_pieces_of or free)
    assert most - allocations.EXACT_BYTES <= found <= most


def test_a_full_card_is_refused() -> None:
    """Nothing could be shown on it."""
    card = Card(80_000_000_000, 79_740_000_000)
    with pytest.raises(MemoryError, match=r"too little free memory \(0\.00 GB above the reserve\)"):
        memory_of(card, 80)
