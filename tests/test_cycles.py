"""Cycles: what delimits them, what belongs to them, and what is said where a trace is odd."""

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tasks.cli import main
from tasks.deepdive.breakdown import HEAD, breakdown
from tasks.deepdive.cycles import divide_campaign, divide_run
from tasks.deepdive.usage import own
from tasks.lake_check import check
from tasks.settings import LprismError
from tasks.traces.registry import find, ingest
from tasks.warehouse import query
from tests.cycle_cases import US, decode, divided, divided_file, event, launched, python
from tests.foreign_cases import DATA, rows

TRACES = DATA / "traces"
KINDS = ("runtime", "operator", "python", "annotation")


def starts(con: duckdb.DuckDBPyConnection, *columns: str) -> list[tuple[Any, ...]]:
    """Start and length of every cycle in us, and further columns."""
    return [
        (a // US, b // US, *more) for a, b, *more in rows(con, "cycles", "start_ns", "duration_ns", *columns)
    ]


def owners(con: duckdb.DuckDBPyConnection, folder: Path, *, number: int = 0) -> dict[str, tuple[Any, ...]]:
    """(cycle, part) of every event of the trace, by its name."""
    own(con, number, sorted(map(str, folder.glob("events-*.parquet"))), KINDS)
    joined = con.table("owned").join(con.table("functions"), "function_id")
    return {name: (cycle, part) for name, cycle, part in joined.select("name", "number", "part").fetchall()}


def test_every_event_has_its_owner(tmp_path: Path) -> None:
    """GPU work goes with its launch, graph replays too; Python by containment, operators by time."""
    with divided(
        tmp_path,
        python("loop.py(1): loop", 90, 500),
        python("loop.py(9): wrapper", 195, 20),  # calls the second step
        decode(100, 10),
        event("cpu_op", "aten::mm", 101, 2),
        *launched(102, 1, ("in its step", 103, 5), ("long after its label", 250, 5), call="cudaGraphLaunch"),
        *launched(150, 2, ("of what follows the label", 151, 5)),
        decode(200, 10),
        python("model.py(3): forward", 201, 3),
        *launched(205, 3, ("second", 300, 40)),
        *launched(60, 4, ("before all", 61, 5)),
        event("kernel", "without a launch", 207, 1, 0, correlation=99, device=0),
        decode(1000, 0.5, pid=8),
    ) as (con, warnings):
        assert starts(con, "pid", "cycle_index", "gpu_events") == [
            (100, 100, 7, 1, 3), (200, 140, 7, 2, 1), (1000, 0, 8, 1, 0),
        ]  # fmt: skip
        assert owners(con, tmp_path).items() >= {
            "loop.py(1): loop": (None, None), "loop.py(9): wrapper": (1, "around"), "aten::mm": (1, "cycle"),
            "cudaGraphLaunch": (1, "cycle"), "in its step": (1, "cycle"),
            "long after its label": (1, "cycle"),
            "of what follows the label": (1, "cycle"), "model.py(3): forward": (2, "cycle"),
            "second": (2, "cycle"), "before all": (None, None), "without a launch": (None, None),
        }.items()  # fmt: skip
        assert "t.json: 1 pieces of GPU work belong to no cycle: its launch was not recorded" in warnings
        assert "t.json: 1 pieces of GPU work belong to no cycle: it began before the first cycle" in warnings


def test_what_lies_between_cycles_is_a_transition(tmp_path: Path) -> None:
    """After the last work of a step before the engine idles, no cycle owns what begins."""
    with divided(
        tmp_path,
        event("user_annotation", "execute_context_1(6)_generation_0(0)", 100, 10),
        event("cpu_op", "its last work", 115, 5),
        python("idle.py(1): spin", 190, 5),
        event("user_annotation", "execute_context_1(6)_generation_0(0)", 200, 10),
    ) as (con, _):
        assert starts(con) == [(100, 20), (200, 10)]
        assert owners(con, tmp_path)["idle.py(1): spin"] == (1, "transition")


def step(ts: float, works: int, wait: float = 0) -> list[dict[str, Any]]:
    """A turn of an engine without labels: it waits, then a worker's step calls a model of three layers."""
    at = ts + wait
    layers = [at + 2 + 5 * layer for layer in range(works)]
    waits = [
        python("future.py(3): result", ts, wait + 40),  # does all the work, and waits
        python("queue.py(7): get", ts, wait),
        python("engine.py(5): half", ts + 1, wait - 2),  # takes longest, and does not do all
        python("engine.py(5): half", at + 1, 21),
    ]
    return [
        *(waits if wait else []),
        python("engine.py(1): worker_step", at, 30),
        python("engine.py(1): worker_step", at + 0.5, 29),  # calls what it extends
        python("torch/nn/modules/module.py(1): _call_impl", at + 1, 20),
        *(python(f"nn.Module: Layer_{number}", moment, 4) for number, moment in enumerate(layers)),
        *(
            one
            for n, moment in enumerate(layers)
            for one in launched(moment + 1, int(at) * 10 + n, ("k", moment + 2, 1))
        ),
        *launched(at + 25, int(at) * 10 + 9, ("sample", at + 26, 1)),
    ]  # fmt: skip


def test_without_labels_the_step_is_found(tmp_path: Path) -> None:
    """The outermost function that does all the work again and again: no loop, wait, library or layer."""
    turns = [one for ts in (100, 200, 300, 400) for one in step(ts, 3, wait=50)]
    idle = python("engine.py(1): worker_step", 550, 1)
    with divided(tmp_path, python("engine.py(99): run", 0, 900), *turns, idle) as (con, _):
        assert rows(con, "cycles", "anchor_name", "anchor_source", "forward_mode")[3:] == [
            ("engine.py: worker_step", "call_statistics", None),
            ("engine.py: worker_step", "call_statistics", "idle"),
        ]  # fmt: skip
        assert starts(con)[:2] == [(150, 30), (250, 30)]  # and then it waits
        candidates = rows(
            con, "anchor_candidates", "place", "function_name", "calls", "busy_calls", "work_pct", "chosen"
        )
        assert candidates[0] == (1, "engine.py: worker_step", 5, 4, 100.0, True)
        assert {name for _, name, *_ in candidates} == {
            "engine.py: worker_step", "engine.py: half", "torch/nn/modules/module.py: _call_impl",
            "nn.Module: Layer",
        }  # fmt: skip


def test_turns_of_an_idle_loop_are_no_steps(tmp_path: Path) -> None:
    """Where most calls of the anchor do nothing, those that work delimit cycles."""
    turns = [one for ts in (100, 200) for one in step(ts, 3)]
    idle = [python("engine.py(1): worker_step", 300 + 10 * n, 1) for n in range(9)]
    with divided(tmp_path, *turns, *idle) as (con, _):
        assert [start for start, _ in starts(con)] == [100, 200]


def test_an_anchor_can_be_named(tmp_path: Path) -> None:
    """By its last words, also what only waits; a name that nothing has is an error with the nearest."""
    turns = [one for ts in (100, 200) for one in step(ts, 3, wait=50)]
    with divided(tmp_path, *turns, anchor="get") as (con, _):
        assert rows(con, "cycles", "anchor_name", "anchor_source") == [("queue.py: get", "named")] * 2
    for path in tmp_path.iterdir():
        path.unlink()
    with (
        pytest.raises(LprismError, match=r"unknown anchor 'engine\.py: worker_stap', did you mean"),
        divided(tmp_path, *turns, anchor="engine.py: worker_stap"),
    ):
        pass


def test_layers_divide_a_step(tmp_path: Path) -> None:
    """Each call of what is called several times in a step; sampling belongs to none of them."""
    turns = [one for ts in (100, 200) for one in step(ts, 3)]
    with divided(tmp_path, *turns, by="layer") as (con, _):
        assert starts(con, "anchor_source", "anchor_name", "gpu_events", "transition_gpu_events") == [
            (102, 4, "layer", "nn.Module: Layer", 1, 0), (107, 4, "layer", "nn.Module: Layer", 1, 0),
            (112, 4, "layer", "nn.Module: Layer", 1, 1), (202, 4, "layer", "nn.Module: Layer", 1, 0),
            (207, 4, "layer", "nn.Module: Layer", 1, 0), (212, 4, "layer", "nn.Module: Layer", 1, 1),
        ]  # fmt: skip


def test_ranks_are_aligned(tmp_path: Path) -> None:
    """Each rank's cycle names the one of the first rank that it overlaps most, and how late it began."""
    first, second = (
        [decode(ts, 9, pid) for ts in at] for pid, at in ((7, (100, 200, 300)), (8, (205, 302, 600)))
    )
    with divided(tmp_path, *first, *second) as (con, _):
        assert rows(con, "cycles", "pid", "cycle_index", "aligned_index", "skew_ns") == [
            (7, 1, 1, 0), (7, 2, 2, 0), (7, 3, 3, 0),
            (8, 1, 2, 5 * US), (8, 2, 3, 2 * US), (8, 3, None, None),
        ]  # fmt: skip


def test_processes_of_several_hosts_may_share_a_number(tmp_path: Path) -> None:
    """Hosts tell them apart; a number printed as a float is that number; a text without one has none."""
    steps = [
        decode(ts, 9, pid) for pid in ("a(7)", "b(7)", "c(4.013652e+06)", "no number") for ts in (100, 200)
    ]
    with divided(tmp_path, *steps) as (con, warnings):
        assert sorted(rows(con, "cycles", "hostname", "pid", "cycle_index"), key=str) == [
            ("a", 7, 1), ("a", 7, 2), ("b", 7, 1), ("b", 7, 2), ("c", 4013652, 1), ("c", 4013652, 2),
            (None, None, 1), (None, None, 2),
        ]  # fmt: skip
        assert (
            "process 7 runs on several hosts: a, b" in warnings
            or "process 7 runs on several hosts: b, a" in warnings
        )
        assert "process no number has no number: its rows have no pid" in warnings


def test_peers_of_a_communicator_are_resolved(tmp_path: Path) -> None:
    """By communicator and rank: each call's neighbours in ring and tree, and who these are."""
    top = {"commHash": "0xabc", "rank": "0", "cudaDev": "2", "rn": "1", "rp": "1", "td0": "1", "tu": "-1"}
    leaf = {"commHash": "0xabc", "rank": "1", "cudaDev": "3", "rn": "0", "rp": "0", "td0": "-1", "tu": "0"}
    calls = [
        event("CAT_APP", "ncclAllReduce", 101, 2, pid, **args)
        for pid, args in (("a(7)", top), ("b(8)", leaf))
    ]
    with divided(tmp_path, decode(100, 9, "a(7)"), decode(200, 9, "a(7)"), *calls) as (con, _):
        found = rows(
            con, "communicator_peers", "rank", "relation", "peer_rank", "device", "peer_pid", "peer_device"
        )
        assert sorted(found) == [
            (0, "ring next", 1, "GPU 2", 8, "GPU 3"), (0, "ring previous", 1, "GPU 2", 8, "GPU 3"),
            (0, "tree down", 1, "GPU 2", 8, "GPU 3"), (1, "ring next", 0, "GPU 3", 7, "GPU 2"),
            (1, "ring previous", 0, "GPU 3", 7, "GPU 2"), (1, "tree up", 0, "GPU 3", 7, "GPU 2"),
        ]  # fmt: skip


def test_odd_traces_are_told_and_never_break(tmp_path: Path) -> None:
    """Nothing to divide, one cycle, no Python, no GPU, clocks that disagree or jump, lost flows."""
    early = launched(101, 1, ("before its launch", 50, 5))
    flow = {"ph": "f", "id": 3, "cat": "ac2g", "name": "ac2g", "pid": 0, "tid": 7, "ts": 103}
    far = decode(1e12, 9)
    cases = {
        "no function that does the work": [python("front.py(1): serve", 1, 2)],
        "has one cycle only": [decode(100, 9)],
        "neither GPU work nor operators": [decode(100, 9), decode(200, 9)],
        "no GPU work was recorded": [decode(100, 9), event("cpu_op", "mm", 101, 1), decode(200, 9)],
        "no Python function": [decode(100, 9), decode(200, 9)],
        "its clocks disagree": [decode(100, 9), *early, decode(200, 9)],
        "1 of 1 flow events lack their start": [decode(100, 9), flow, decode(200, 9)],
        "it stood still, or its clock was set": [*(decode(ts, 9) for ts in range(100, 900, 100)), far],
        "the run has no trace": [],
    }  # fmt: skip
    for number, (told, events) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with divided(folder, *events) as (_, warnings):
            assert [one for one in warnings if told in one], (told, warnings)


def recorded(name: str, folder: Path) -> Path:
    """A copy of a recorded trace, where there is one."""
    source = TRACES / name
    if not source.exists():
        pytest.skip(f"{source} is not there")
    return Path(shutil.copy(source, folder))


def test_the_h100_trace_is_divided_without_help(tmp_path: Path) -> None:
    """1 prefill, 9 decode, 1 empty; decode steps take what was measured; kernels are where they began."""
    path = recorded("gpu/vllm_tp4_h100_1prefill_9decode.pt.trace.json.gz", tmp_path)
    with divided_file(path) as (con, warnings):
        modes = [mode for (mode,) in rows(con, "cycles", "forward_mode")]
        assert modes == ["prefill", *["decode"] * 9, "idle"]
        times = [
            ns / 1e6 for ns, mode in rows(con, "cycles", "anchor_ns", "forward_mode") if mode == "decode"
        ]
        assert 18.6 < min(times) < max(times) < 20.1
        assert {name for (name,) in rows(con, "cycles", "anchor_name")} == {
            "vllm/v1/worker/gpu_model_runner.py: execute_model"
        }
        assert all_with_their_launch(con) == (13818, 13818)
        assert not [one for one in warnings if "belong to no cycle" in one]
        shares = (
            con.table("function_usage").filter("device = 'GPU 0'").aggregate("SUM(beta_pct)", "cycle_index")
        )
        assert all(80 < share < 100 for (share,) in shares.fetchall())


def all_with_their_launch(con: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """How many pieces of GPU work there are, and how many are in the cycle in which their launch began."""
    found = con.execute("""
        SELECT
            COUNT(*),
            COUNT(*) FILTER (WHERE o.part = 'cycle' AND l.start_ns >= s.start_ns AND l.start_ns < s.end_ns)
        FROM trace AS t
        LEFT JOIN owned AS o USING (event_index)
        LEFT JOIN trace AS l ON l.event_index = t.launch_index
        LEFT JOIN spans AS s ON s.number = o.number AND s.process = o.process
        WHERE t.kind = 'gpu'
    """).fetchall()
    return found[0][0], found[0][1]


@pytest.mark.parametrize(
    ("name", "mode", "work", "before"),
    [
        ("vllm_decode_bs32_mi300", "decode", 434, 0), ("vllm_mixed_9ctx_37gen_mi300", "mixed", 423, 0),
        ("sglang_extend_bs15_mi300", "prefill", 529, 5), ("sglang_decode_bs32_mi300", "decode", 555, 3),
    ],
)  # fmt: skip
def test_kernels_that_run_outside_of_their_label_are_its_own(
    name: str, mode: str, work: int, before: int, tmp_path: Path
) -> None:
    """One labelled step each: it has all that it launched, and nothing that was launched before it."""
    with divided_file(recorded(f"gpu/{name}.json.gz", tmp_path)) as (con, warnings):
        assert rows(con, "cycles", "forward_mode", "gpu_events") == [(mode, work)]
        assert all_with_their_launch(con) == (work + before, work)
        told = [
            one
            for one in warnings
            if f"{before} pieces of GPU work belong to no cycle: it began before" in one
        ]
        assert len(told) == bool(before)


def test_call_statistics_find_what_labels_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorded SGLang without its labels has the same steps, in the same modes, a moment earlier."""
    path = recorded("cpu/sglang_0523_overlap_withstack.trace.json.gz", tmp_path)
    with divided_file(path) as (con, _):
        labelled = rows(con, "cycles", "forward_mode", "start_ns", "anchor_ns")
    for old in tmp_path.glob("events-*"):
        old.unlink()
    monkeypatch.setattr("tasks.deepdive.anchors._told", lambda *_: False)
    with divided_file(path) as (con, _):
        found = rows(con, "cycles", "forward_mode", "start_ns", "anchor_ns")
    assert [mode for mode, *_ in found] == [mode for mode, *_ in labelled]
    for (_, call, lasts), (_, label, shorter) in zip(found, labelled, strict=True):
        assert call <= label <= label + shorter <= call + lasts


TWO_STEPS = [
    decode(100, 40),
    python("model.py(3): forward", 101, 30),
    *(event("cpu_op", "aten::linear", 105 + 10 * n, 8) for n in range(2)),
    *(one for n in range(2) for one in launched(107 + 10 * n, n, ("void gemm<128>(int)", 150 + 20 * n, 20))),
    decode(200, 40),
]


def ingested(home: Path, *events: dict[str, Any]) -> str:
    """A home with a run of these events; its name."""
    (home / "theirs.json").write_text(json.dumps({"traceEvents": events}))
    (found,) = find(home / "theirs.json")
    return ingest(home, found).run_name


def test_one_cycle_as_text(tmp_path: Path) -> None:
    """Callers before what they call, calls in one place in one line, with the GPU work of each."""
    name = ingested(tmp_path, *TWO_STEPS)
    divide_run(tmp_path, name)
    head, anchor, work, _, *lines = breakdown(tmp_path, name, 1).splitlines()
    assert head.endswith("process 7, cycle 1: decode, 4 requests, 0.100 ms")
    assert anchor == "anchor step label: 0.040 ms"
    assert work == "2 pieces of GPU work, 0.040 ms, from 0.050 to 0.090 ms after its start"
    assert [line.split() for line in lines] == [
        ["0.040", "2", "0.050", "0.090", "thread", "1"],
        ["0.030", "1", "0.040", "2", "0.050", "0.090", "model.py:", "forward"],
        ["0.016", "2", "0.040", "2", "0.050", "0.090", "aten::linear"],
        ["0.002", "2", "0.040", "2", "0.050", "0.090", "cudaLaunchKernel"],
        ["0.040", "2", "0.050", "0.090", "[GPU]", "gemm"],
    ]
    indents = [len(line[len(HEAD) :]) - len(line[len(HEAD) :].lstrip()) for line in lines]
    assert indents == [0, 2, 4, 6, 8]
    with pytest.raises(LprismError, match="has no cycle 9 of process 7: it has 2"):
        breakdown(tmp_path, name, 9, 7)


def test_the_command_divides_a_run_and_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Candidates, cycles, shares and warnings for people; the same for programs; the tables can be asked."""
    name = ingested(tmp_path, *TWO_STEPS)
    said = []
    for words in ([], ["--json"], ["--cycle", "1"], ["--anchor", "nothing"]):
        monkeypatch.setattr("sys.argv", ["lprism", "cycles", name, "--home", str(tmp_path), *words])
        with pytest.raises(SystemExit) as end:
            main.run()
        said.append((end.value.code, capsys.readouterr()))
    assert [code for code, _ in said] == [0, 0, 0, 1]
    assert "step label" in said[0][1].out
    assert "warning: no counter was sampled" in said[0][1].out
    told = json.loads(said[1][1].out)
    assert (told["cycles"], told["anchors"], told["modes"][0]["forward_mode"]) == (
        2,
        ["step label"],
        "decode",
    )
    assert "cycle 1: decode" in said[2][1].out
    assert "unknown anchor 'nothing'" in said[3][1].err
    assert query(tmp_path, "SELECT COUNT(*) FROM function_usage JOIN cycles USING (run_id, cycle_index)")[
        1
    ] == [(1,)]


def test_a_campaign_is_divided_once(tmp_path: Path) -> None:
    """A run that was divided since it was loaded is left alone; the lake is whole after a second time."""
    name = ingested(tmp_path, *TWO_STEPS)
    campaign = name.partition("/")[0]
    done, failed = divide_campaign(tmp_path, campaign)
    assert ([one.cycles for one in done.values()], failed) == ([2], {})
    assert divide_campaign(tmp_path, campaign) == ({}, {})
    divide_run(tmp_path, name)  # asked for again, what is found takes the place of what was
    assert check(tmp_path).findings == []
