"""The judge of the diagnosis: made-up runs of known faults in; what counts as right, and how often, out."""

from typing import Any

import pandas as pd
import pytest

from tasks.deepdive.evaluate import MASKS, evaluate_causes, right_answers, right_rank
from tasks.deepdive.signatures import CAUSES, COUNTERS
from tasks.lake import write_frame
from tasks.spec import known_scenarios
from tasks.warehouse import create_table, make_views, memory_connection, sql_names
from tests.bench_causes import interval, is_headline, tables
from tests.test_diagnose import CASES, INCIDENT, batches, counters

SQUEEZE, NETWORK = "cpu_compute_squeeze_out", "network_contention"
ELSEWHERE = (2_000_000_000, 4_000_000_000)
# run: (scenario, anomaly, what its counters say, its incident)
RUNS: dict[str, tuple[str, str | None, dict[str, float], tuple[int, int] | None]] = {
    "squeezed": (SQUEEZE, SQUEEZE, CASES[SQUEEZE], INCIDENT),
    "contended": (NETWORK, NETWORK, CASES[NETWORK], INCIDENT),
    "missed": (NETWORK, NETWORK, CASES[NETWORK], None),
    "elsewhere": (NETWORK, NETWORK, CASES[NETWORK], INCIDENT),
    "unproved": (NETWORK, NETWORK, CASES[NETWORK], INCIDENT),
    "quiet": ("normal", None, {}, None),
    "squeezed_by_chance": ("sham", None, CASES[SQUEEZE], INCIDENT),
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Any]:
    """The rows of rca_evaluation, by run, judge, counters and what was asked."""
    home = tmp_path_factory.mktemp("home")
    for run, (scenario, anomaly, said, _) in RUNS.items():
        known = {"run_id": run, "campaign": "c", "scenario": scenario, "anomaly": anomaly, "engine": "vllm"}
        fault = ELSEWHERE if run == "elsewhere" else INCIDENT
        times = dict(zip(("fault_apply_ns", "fault_end_ns"), fault, strict=True))
        write_frame(
            home,
            "runs",
            "c",
            run,
            pd.DataFrame([{**known, **times, "strength": "{}", "effect_proved": run != "unproved"}]),
        )
        steps = batches({})
        write_frame(home, "batches", "c", run, steps.drop(columns="in_domain").assign(run_id=run))
        write_frame(home, "counters", "c", run, counters(said).assign(run_id=run))
        scores = steps.assign(run_id=run, actual_ns=steps["duration_ns"], alarm=False)
        write_frame(
            home, "batch_scores", "c", run,
            scores[["run_id", "batch_index", "start_ns", "actual_ns", "alarm", "in_domain"]],
        )  # fmt: skip
    incidents = [
        {"run_id": run, "incident_index": 0, "start_ns": span[0], "end_ns": span[1], "excess_ms": 9.0}
        for run, (*_, span) in RUNS.items()
        if span
    ]
    write_frame(home, "incidents", "c", "all", pd.DataFrame(incidents))
    rows = evaluate_causes(home, "e", ["c"])
    keys = ("run_id", "judge", "counters", "asked")
    return {tuple(row[key] for key in keys): row for row in rows.to_dict("records")}


def answer(judged: dict[tuple[str, ...], Any], *way: str) -> tuple[str, int | None]:
    """What was named first, and the place of the right answer."""
    row = judged[way]
    return row["named_cause"], None if pd.isna(row["right_rank"]) else row["right_rank"]


def test_a_masked_counter_is_not_there(judged: dict[tuple[str, ...], Any]) -> None:
    """What was told by the injected counter alone is none without it; what it does besides still tells."""
    assert answer(judged, "contended", "signatures", "all", "incident") == (NETWORK, 1)
    assert answer(judged, "contended", "signatures", "masked", "incident")[0] != NETWORK
    assert answer(judged, "contended", "rules", "masked", "incident")[0] != NETWORK
    assert answer(judged, "squeezed", "signatures", "masked", "incident") == (SQUEEZE, 1)
    assert judged["squeezed", "signatures", "masked", "incident"]["score"] <= 0.8


def test_a_fault_that_was_not_found_is_not_right_and_can_be_asked_about(
    judged: dict[tuple[str, ...], Any],
) -> None:
    """Without an incident, or with one elsewhere, nothing is right; of the fault's time it may be."""
    for run in ("missed", "elsewhere"):
        assert answer(judged, run, "signatures", "all", "incident")[1] is None
        assert judged[run, "signatures", "all", "incident"]["is_missed"]
    assert judged["elsewhere", "signatures", "all", "incident"]["named_cause"] == NETWORK
    assert answer(judged, "missed", "signatures", "all", "window") == (NETWORK, 1)
    assert not judged["contended", "signatures", "all", "incident"]["is_missed"]


def test_a_fault_that_was_not_proved_is_not_right_whatever_is_named(
    judged: dict[tuple[str, ...], Any],
) -> None:
    """It counts among the runs, and as wrong: nobody saw it act."""
    assert answer(judged, "unproved", "signatures", "all", "incident") == (NETWORK, None)
    assert not judged["unproved", "signatures", "all", "incident"]["is_missed"]


def test_what_nothing_was_injected_into_is_right_if_nothing_is_named(
    judged: dict[tuple[str, ...], Any],
) -> None:
    """A run without incident is none; a cause named of a sham run is wrong; no window is asked about."""
    assert answer(judged, "quiet", "signatures", "masked", "incident") == ("none", 1)
    assert answer(judged, "squeezed_by_chance", "signatures", "all", "incident")[1] != 1
    assert ("quiet", "signatures", "all", "window") not in judged


def test_right_answers() -> None:
    """The anomaly; none; of a changed workload none or its name."""
    assert right_answers("cpu_quota", "cpu_quota") == {"cpu_quota"}
    assert right_answers("sham", None) == {"none"}
    assert right_answers("workload_shift", None) == {"none", "workload_change"}
    assert right_rank(["a", "b", "c"], frozenset("bc")) == 2
    assert right_rank(["a"], frozenset("b")) is None


def test_every_anomaly_has_its_mask_of_known_counters() -> None:
    """One for each that can be injected; a counter that no signature can name would mask nothing."""
    assert set(MASKS) == set(known_scenarios()) - {"normal", "sham"}
    assert set(MASKS) <= CAUSES
    assert frozenset().union(*MASKS.values()) <= COUNTERS


def case(injected: str, rank: int | None, named: str, *, strength: str | None = None) -> dict[str, Any]:
    """A row of rca_evaluation in the way that counts."""
    return {
        "evaluation": "e", "run_id": f"r{rank}", "judge": "signatures", "counters": "masked",
        "asked": "incident", "engine": "vllm", "injected": injected, "strength": strength,
        "is_missed": rank is None, "named_cause": named, "right_rank": rank,
        "effect_proved": injected != "b" or None,
    }  # fmt: skip


def test_accuracy_at_k_by_hand() -> None:
    """AC@k counts ranks up to k, Avg@5 is the mean of AC@1 to AC@5; totals leave out what was harmless."""
    rows = [
        case("a", 1, "a", strength='{"x":1}'), case("a", 3, "b", strength='{"x":1}'),
        case("b", None, "none", strength='{"y":2}'), case("b", 5, "a", strength='{"y":2}'),
        case("normal", 1, "none"),
    ]  # fmt: skip
    with memory_connection() as con:
        for table in sql_names("tables"):
            create_table(con, table)
        con.register("made", pd.DataFrame(rows))
        con.execute("INSERT INTO rca_evaluation BY NAME SELECT * FROM made")
        make_views(con)
        names = ("injected", "runs", "runs_missed", "ac_1_ratio", "ac_3_ratio", "ac_5_ratio", "avg_5_ratio")
        scores = con.table("v_cause_scores").to_arrow_table().to_pylist()
        confusion = con.table("v_cause_confusion").to_arrow_table().to_pylist()
        cases = con.table("rca_evaluation").to_arrow_table().to_pylist()
    told = [
        tuple(round(row[name], 9) if isinstance(row[name], float) else row[name] for name in names)
        for row in scores
    ]
    assert told == [
        ("any anomaly", 4, 1, 0.25, 0.5, 0.75, 0.45),
        ("a", 2, 0, 0.5, 1.0, 1.0, 0.8),
        ("b", 2, 1, 0.0, 0.0, 0.5, 0.1),
        ("nothing", 1, 0, 1.0, 1.0, 1.0, 1.0),
        ("normal", 1, 0, 1.0, 1.0, 1.0, 1.0),
    ]
    assert {(row["injected"], row["named_cause"]): row["runs"] for row in confusion}["b", "a"] == 1
    lines = list(tables(scores, confusion, cases))
    assert '| vllm | a | {"x":1} | 2 | 0 | 0.50 (0.00 to 1.00) | 1.00 | 1.00 | 0.80 |' in lines
    assert all(is_headline(row) for row in scores)
    assert interval([1, 1, 1]) == (1.0, 1.0)
