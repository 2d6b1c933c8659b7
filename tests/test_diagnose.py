"""The diagnosis: made-up counters around an incident in, ranked causes with evidence out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.deepdive.compare import examine, plain, run_samples
from tasks.deepdive.diagnose import Diagnosis, diagnose_campaign, diagnose_incident
from tasks.deepdive.signatures import CAUSES, SIGNATURES_FILE, Clause, load_signatures
from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.settings import LprismError
from tasks.warehouse import sql_text

S = 1_000_000_000
Row = tuple[int, int, str, str, int | None, str | None, float]
INCIDENT = (10 * S, 20 * S)
ENGINE = 100

# counter: (device, samples a second, usual value, noise)
USUAL = {
    "process_cpu_usage": ("Host", 10, 97.0, 2.0),
    "process_runq_wait": ("Host", 10, 1100.0, 90.0),
    "other_cpu_usage": ("Host", 10, 2.0, 1.5),
    "process_cgroup_throttled": ("Host", 10, 0.0, 0.0),
    "cpu_usage": ("CPU 0", 10, 99.0, 1.0),
    "cpu_steal": ("CPU 0", 10, 1.0, 1.0),
    "cpu_frequency": ("CPU 0", 1, 3000.0, 50.0),
    "host_mem_usage": ("Host", 10, 40.0, 0.2),
    "host_swap_in": ("Host", 10, 0.0, 0.0),
    "host_swap_out": ("Host", 10, 0.0, 0.0),
    "pressure_memory": ("Host", 10, 0.0, 0.0),
    "net_rx": ("eth0", 1, 2e5, 5e4),
    "net_tx": ("eth0", 1, 2e5, 5e4),
}
SQUEEZE = {"other_cpu_usage": 66.0, "process_cpu_usage": 33.0, "process_runq_wait": 3200.0}
CASES: dict[str, dict[str, float]] = {
    "cpu_compute_squeeze_out": SQUEEZE,
    "cpu_quota": {
        "process_cgroup_throttled": 500.0,
        "process_cpu_usage": 50.0,
        "process_runq_wait": 1600.0,
        "cpu_usage": 52.0,
    },
    "cpu_frequency_reduction": {"cpu_frequency": 1500.0},
    "cpu_swap": {"host_swap_in": 5000.0, "host_swap_out": 4000.0, "pressure_memory": 40.0},
    "network_contention": {"net_rx": 1.1e9, "process_cpu_usage": 55.0, "cpu_usage": 60.0},
    "workload_change": {"batch_size": 12.0, "kv_tokens": 900.0, "in_domain": 0.0},
    "queueing": {"waiting": 9.0},
    "frontend_starved": {"decode_time": 14.0, "step_gap": 12.0},
}


def counters(
    during: dict[str, float], span: tuple[int, int] = INCIDENT, *, squeezer: bool = False
) -> pd.DataFrame:
    """Thirty seconds of every counter, those in `during` at that mean in `span`; a squeezer if asked."""
    random = np.random.default_rng(3)
    rows: list[Row] = []
    for name, (device, rate, usual, noise) in USUAL.items():
        for tick in range(30 * rate):
            start = tick * S // rate
            value = during.get(name, usual) if span[0] <= start < span[1] else usual
            rows.append(
                (start, S // rate, name, device, None, None, value + noise * random.standard_normal())
            )
    rows += _others(span, squeezer=squeezer)
    names = ["start_ns", "duration_ns", "counter_name", "device", "pid", "process_name", "value"]
    return pd.DataFrame(rows, columns=names)


def _others(span: tuple[int, int], *, squeezer: bool) -> Iterator[Row]:
    """A daemon that is always there, and the squeezer while the incident lasts."""
    for start in range(0, 30 * S, S):
        seen = [(55, "crond", 3.0, -1.0)]
        if squeezer and span[0] <= start < span[1]:
            seen.append((123, "squeeze", 66.0, 3.0))
        for pid, name, use, age in seen:
            yield start, S, "other_process_cpu_usage", "Host", pid, name, use
            yield start, S, "other_process_avx512_age", "Host", pid, name, age


def batches(during: dict[str, float], span: tuple[int, int] = INCIDENT) -> pd.DataFrame:
    """Decode steps of four requests: 14 ms, and 40 ms in `span`."""
    usual = {"batch_size": 4.0, "kv_tokens": 256.0, "new_input_tokens": 4.0, "waiting": 0.0, "in_domain": 1.0}
    rows, now = [], 0
    while now < 30 * S:
        inside = span[0] <= now < span[1]
        took = int(during.get("decode_time", 40.0) * 1e6) if inside else 14_000_000
        interval = took + int(during.get("step_gap", 1.0) * 1e6 if inside else 1_000_000)
        values = {name: during.get(name, value) if inside else value for name, value in usual.items()}
        wave = 40.0 * np.sin(now / S * 6)  # the requests of a closed loop grow and end together
        at = {"start_ns": now, "duration_ns": took, "interval_ns": interval}
        rows.append({**at, **values, "kv_tokens": values["kv_tokens"] + wave})
        now += interval
    frame = pd.DataFrame(rows).assign(forward_mode="decode", batch_index=range(len(rows)))
    return frame.astype({"in_domain": bool})


QUOTA_MASK = frozenset(
    {"process_cgroup_quota", "process_cgroup_throttled", "process_cgroup_throttled_periods"}
)
SLOW_CLOCK = {"cpu_frequency": 1500.0, "decode_time": 28.0, "step_gap": 2.0}


def diagnose(
    during: dict[str, float],
    span: tuple[int, int] = INCIDENT,
    *,
    squeezer: bool = False,
    masked: frozenset[str] = frozenset(),
) -> list[Diagnosis]:
    """Diagnose the made-up run with one incident in `span`."""
    given = counters(during, span, squeezer=squeezer), batches(during, span)
    return diagnose_incident(*given, [span], 0, load_signatures(), masked)


@pytest.mark.parametrize("cause", CASES)
def test_each_cause_is_recognised_by_its_own_counters(cause: str) -> None:
    """The right cause comes first and clearly; no other reaches half of it."""
    ranked = diagnose(CASES[cause], squeezer=cause == "cpu_compute_squeeze_out")
    assert ranked[0].cause == cause
    assert ranked[0].score > 0.8
    assert max((one.score for one in ranked[1:]), default=0.0) < 0.4
    assert 0 < ranked[0].confidence <= 1


def test_every_cause_of_the_file_has_a_case() -> None:
    """No signature goes untested."""
    assert {signature.cause for signature in load_signatures().causes} == set(CASES)


def test_the_evidence_of_a_squeeze_names_the_process_and_the_numbers() -> None:
    """Who took the core, with which units, what the engine lost, and what a step then took."""
    first = diagnose(SQUEEZE, squeezer=True)[0]
    assert first.cause == "cpu_compute_squeeze_out"
    for part in (
        "rose from 2 to 66 % of a core",
        "squeeze (pid 123) with 66 % of a core",
        "squeeze (pid 123) used the AVX-512 units",
        "run-queue wait rose from 11",
        "the engine got 33 % of a core where it had 97 %",
        "decode step 14.0 to 40.0 ms",
    ):
        assert part in first.evidence
    assert "crond" not in first.evidence
    assert first.score > 0.95


def test_a_squeeze_of_scalar_code_is_not_said_to_use_avx512() -> None:
    """Evidence that is not there is not told, and the cause is still named."""
    given = counters(SQUEEZE, squeezer=True)
    given.loc[given["counter_name"] == "other_process_avx512_age", "value"] = -1.0
    first = diagnose_incident(given, batches({}), [INCIDENT], 0, load_signatures())[0]
    assert first.cause == "cpu_compute_squeeze_out"
    assert "AVX" not in first.evidence


def test_a_quota_that_throttles_now_and_then_is_named() -> None:
    """One tenth of a second in four is throttled: no median moves, and the cause is named."""
    given = counters({})
    is_burst = (given["start_ns"] // (S // 10)) % 4 == 0
    is_now = given["start_ns"].between(INCIDENT[0], INCIDENT[1] - 1)
    throttled = given["counter_name"] == "process_cgroup_throttled"
    given.loc[throttled & is_burst & is_now, "value"] = 300.0
    ranked = diagnose_incident(given, batches({}), [INCIDENT], 0, load_signatures())
    assert ranked[0].cause == "cpu_quota"
    assert "throttled for 75 ms/s (before: 0)" in ranked[0].evidence


def test_a_single_burst_of_throttling_is_no_quota() -> None:
    """One throttled sample in a hundred may be chance: nothing is named."""
    given = counters({})
    one = (given["counter_name"] == "process_cgroup_throttled") & (given["start_ns"] == 15 * S)
    given.loc[one, "value"] = 9000.0
    ranked = diagnose_incident(given, batches({}), [INCIDENT], 0, load_signatures())
    assert ranked[0].cause == "none"


def test_a_quota_is_named_without_its_throttling_and_trusted_less() -> None:
    """Threads wait while their CPUs have room: time is withheld; weaker than the throttling's."""
    case = {**CASES["cpu_quota"], "decode_time": 28.0}
    seen, told = diagnose(case)[0], diagnose(case, masked=QUOTA_MASK)[0]
    assert (seen.cause, told.cause) == ("cpu_quota", "cpu_quota")
    assert told.score <= 0.8 < seen.score
    assert told.confidence < seen.confidence
    assert "nobody took what it lost: 52 % of a core" in told.evidence


@pytest.mark.parametrize(
    "during",
    [
        {"process_cpu_usage": 50.0, "cpu_usage": 52.0},  # it waits for a disk, a network or a GPU
        {"process_cpu_usage": 40.0, "process_runq_wait": 1700.0, "cpu_steal": 60.0},
        {"process_cpu_usage": 60.0, "process_runq_wait": 700.0, "batch_size": 2.0},  # less to do
        SQUEEZE,
        CASES["network_contention"],
    ],
)
def test_less_cpu_time_alone_is_no_quota(during: dict[str, float]) -> None:
    """Where others have the CPUs, or no thread waits for one, nothing is withheld."""
    assert diagnose(during, masked=QUOTA_MASK)[0].cause != "cpu_quota"


def test_what_throttling_would_have_shown_refutes_a_quota() -> None:
    """With throttling recorded, and none seen, what looks like a quota is none."""
    case = {**CASES["cpu_quota"], "decode_time": 28.0, "process_cgroup_throttled": 0.0}
    assert diagnose(case)[0].cause == "none"


def test_a_slow_clock_is_named_without_it_where_all_code_is_slower() -> None:
    """Steps and what lies between them; a GPU that is slow leaves the latter, a neighbour costs CPU time."""
    masked = frozenset({"cpu_frequency"})
    first = diagnose(SLOW_CLOCK, masked=masked)[0]
    assert first.cause == "cpu_frequency_reduction"
    assert first.confidence < 0.6
    others = [
        {"step_gap": 1.0},
        SQUEEZE,
        {"batch_size": 8.0},
        {"process_cpu_usage": 50.0},
        {"cpu_steal": 40.0},
    ]
    for other in others:
        assert diagnose(SLOW_CLOCK | other, masked=masked)[0].cause != "cpu_frequency_reduction", other


def test_slow_steps_are_no_starved_frontend() -> None:
    """Gaps that grow with the steps, gaps too small to matter, and those that others make are not named."""
    starved = CASES["frontend_starved"]
    for case in ({"decode_time": 40.0, "step_gap": 40.0}, {**starved, "step_gap": 2.0}, starved | SQUEEZE):
        assert diagnose(case)[0].cause != "frontend_starved", case


def test_time_without_requests_is_no_gap() -> None:
    """A step that begins with a prefill follows idling: nothing is said of the time in front of it."""
    steps = batches(CASES["frontend_starved"])
    now = steps["start_ns"].between(*INCIDENT)
    idled = steps.assign(forward_mode=steps["forward_mode"].where(~now, "prefill"))
    ranked = diagnose_incident(counters({}), idled, [INCIDENT], 0, load_signatures())
    assert [one.cause for one in ranked] == ["none"]


@pytest.mark.parametrize("cause", sorted(set(CASES) - {"queueing", "workload_change"}))
def test_a_queue_that_a_fault_makes_is_not_the_cause(cause: str) -> None:
    """What slows the engine down comes before the requests that wait for it."""
    ranked = diagnose(CASES[cause] | {"waiting": 9.0}, squeezer=cause == "cpu_compute_squeeze_out")
    assert ranked[0].cause == cause


def test_tasks_that_stall_on_memory_are_enough() -> None:
    """A host without swap, its memory counter masked: it drops file pages and waits for them."""
    masked = frozenset({"host_mem_usage", "host_swap_usage"})
    assert diagnose({"pressure_memory": 40.0}, masked=masked)[0].cause == "cpu_swap"


def test_noise_is_nothing_without_the_direct_counters() -> None:
    """What stands in for a masked counter is not fooled by scatter."""
    masked = QUOTA_MASK | {"cpu_frequency", "host_mem_usage", "net_rx", "net_tx"}
    for start in range(3, 27, 8):
        assert diagnose({}, (start * S, (start + 2) * S), masked=masked)[0].cause == "none"


def test_stolen_time_is_no_cause_of_ours() -> None:
    """A neighbour on the hypervisor makes the engine wait, too: `none`, with the theft in the evidence."""
    ranked = diagnose({"cpu_steal": 60.0, "process_runq_wait": 1700.0, "process_cpu_usage": 40.0})
    assert ranked[0].cause == "none"
    assert "the hypervisor took 60 % of CPU 0" in ranked[0].evidence
    assert "before: 1 %" in ranked[0].evidence


def test_no_change_is_none() -> None:
    """Slow steps and nothing in the counters: `none`, saying what came closest."""
    ranked = diagnose({})
    assert [one.cause for one in ranked] == ["none"]
    assert ranked[0].evidence == (
        "no cause reaches a score of 0.5: none comes near; decode step 14.0 to 40.0 ms"
    )


@pytest.mark.parametrize("length_s", [0.2, 0.5, 1.5, 4.0])
def test_noise_names_nothing(length_s: float) -> None:
    """However short the incident, the usual scatter of counters and batches is no cause."""
    for start in range(3, 27, 4):
        span = (start * S, start * S + int(length_s * S))
        ranked = diagnose_incident(counters({}), batches({}, span), [span], 0, load_signatures())
        assert ranked[0].cause == "none", ranked


def test_half_a_squeeze_scores_less_than_a_whole_one() -> None:
    """Scores are graded: a weaker fault gives a lower score, and a hint of one none at all."""
    weak = {"other_cpu_usage": 22.0, "process_runq_wait": 1360.0, "process_cpu_usage": 80.0}
    hint = {"other_cpu_usage": 8.0, "process_runq_wait": 1150.0, "process_cpu_usage": 94.0}
    scores = [diagnose(case)[0].score for case in (SQUEEZE, weak)]
    assert scores[0] > scores[1] > 0.4
    assert diagnose(hint)[0].cause == "none"


def test_avx512_alone_is_no_frequency_reduction() -> None:
    """A clock that falls by an eighth under a squeeze is the squeeze's doing."""
    ranked = diagnose({**SQUEEZE, "cpu_frequency": 2640.0})
    assert [one.cause for one in ranked] == ["cpu_compute_squeeze_out"]


def test_held_memory_is_not_a_squeeze() -> None:
    """A process that fills the memory also uses a core: the memory decides."""
    for used in (85.0, 52.0):
        ranked = diagnose({**SQUEEZE, "host_mem_usage": used})
        assert ranked[0].cause == "cpu_swap"


def test_a_missing_required_counter_names_nothing() -> None:
    """Without the counters that a cause rests on, the cause is not guessed from the others."""
    given = counters(CASES["network_contention"])
    given = given[~given["counter_name"].isin(["net_rx", "net_tx"])]
    ranked = diagnose_incident(given, batches({}), [INCIDENT], 0, load_signatures())
    assert "network_contention" not in {one.cause for one in ranked}


@pytest.mark.parametrize(("busy", "named"), [(50.0, "cpu_compute_squeeze_out"), (20.0, "none")])
def test_a_squeeze_is_told_without_the_squeezer(busy: float, named: str) -> None:
    """It waits for CPUs that it lost, and the host is as busy as before; CPUs that are free nobody took."""
    given = counters(SQUEEZE)
    host = given[given["counter_name"] == "process_cpu_usage"].assign(
        counter_name="host_cpu_usage", value=50.0
    )
    inside = host["start_ns"].between(INCIDENT[0], INCIDENT[1] - 1)
    host.loc[inside, "value"] = busy
    others = given["counter_name"].str.startswith("other_")
    given = pd.concat([given[~others], host], ignore_index=True)
    ranked = diagnose_incident(given, batches({}), [INCIDENT], 0, load_signatures())
    assert ranked[0].cause == named
    assert all(one.score <= 0.8 for one in ranked if one.cause == "cpu_compute_squeeze_out")


def test_no_counters_at_all() -> None:
    """A run without counters is told to be one; no cause is named."""
    ranked = diagnose_incident(counters({}).iloc[:0], batches({}), [INCIDENT], 0, load_signatures())
    assert ranked[0].cause == "none"
    assert "no counter was sampled" in ranked[0].evidence


def test_a_campaign_is_diagnosed(tmp_path: Path) -> None:
    """A quiet run gets one row without an incident; an incident gets its ranked causes, in its span."""
    usual, slow = batches({}, (0, 0)), batches({})
    for run, steps in {"quiet": usual, "squeezed": slow}.items():
        runs = pd.DataFrame([{"run_id": run, "campaign": "c", "scenario": "normal", "status": "complete"}])
        write_frame(tmp_path, "runs", "c", run, runs)
        write_frame(tmp_path, "batches", "c", run, steps.drop(columns="in_domain").assign(run_id=run))
        sampled = counters(SQUEEZE if run == "squeezed" else {}, squeezer=run == "squeezed")
        write_frame(tmp_path, "counters", "c", run, sampled.assign(run_id=run))
    scores = pd.concat([usual.assign(run_id="quiet"), slow.assign(run_id="squeezed")])
    scores = scores.assign(actual_ns=scores["duration_ns"], alarm=False)
    columns = ["run_id", "batch_index", "start_ns", "actual_ns", "alarm", "in_domain"]
    write_frame(tmp_path, "batch_scores", "c", "all", scores[columns])
    incident = {"run_id": "squeezed", "incident_index": 0, "start_ns": INCIDENT[0], "end_ns": INCIDENT[1]}
    write_frame(tmp_path, "incidents", "c", "all", pd.DataFrame([incident]))
    summary = diagnose_campaign(tmp_path, "c")
    assert (summary.runs, summary.quiet_runs, summary.incidents) == (2, 1, 1)
    assert summary.causes == {"cpu_compute_squeeze_out": 1}
    with lake_connection(tmp_path, "c") as con:
        rows = con.table("rca_diagnosis").df().set_index("run_id")
    quiet, named = rows.loc["quiet"], rows.loc["squeezed"]
    assert quiet["evidence"] == f"no incident in {len(usual)} batches watched over 30 s (0 single alarms)"
    assert (quiet["cause"], quiet["rank"]) == ("none", 1)
    assert rows["incident_index"].isna().to_dict() == {"quiet": True, "squeezed": False}
    assert (named["cause"], named["rank"], named["incident_index"]) == ("cpu_compute_squeeze_out", 1, 0)
    assert (named["start_ns"], named["end_ns"]) == INCIDENT


def clause_on(change: str, threshold: float) -> Clause:
    """A clause on one counter, its mean against the reference."""
    by = "difference" if change in {"up", "down"} else None
    return Clause("cpu_usage", "any", "mean", change, "", by=by, threshold=threshold)


def sided(now: list[float], before: list[float]) -> pd.DataFrame:
    """Samples of one counter on both sides."""
    sides = ["incident"] * len(now) + ["reference"] * len(before)
    frame = pd.DataFrame({"side": sides, "value": [*now, *before], "counter_name": "cpu_usage"})
    return frame.assign(device="CPU 0", pid=None, process_name=None)


@pytest.mark.parametrize(
    ("change", "now", "before", "grade"),
    [
        ("up", [30.0] * 5, [0.0] * 20, 1.0),
        ("up", [15.0] * 5, [0.0] * 20, 0.5),
        ("up", [10.0] * 5, [0.0] * 20, 0.0),
        ("down", [30.0] * 5, [0.0] * 20, 0.0),
        ("down", [0.0] * 5, [30.0] * 20, 1.0),
        ("above", [30.0, 30.0, 10.0, 10.0], [], 0.5),
        ("below", [30.0, 30.0, 30.0, 10.0], [], 0.25),
        (
            "up",
            [90.0, 0.0, 0.0, 0.0, 0.0] * 6,
            [0.0] * 200,
            0.0,
        ),  # the mean moved, four samples of five did not
        ("up", [25.0] * 3, [0.0] * 7 + [30.0], 0.0),  # too few
        ("up", [30.0] * 2, [0.0] * 300, None),  # two samples are none
        ("up", [30.0] * 20, [0.0] * 7, None),
    ],
)
def test_a_clause_is_graded(change: str, now: list[float], before: list[float], grade: float | None) -> None:
    """Half the threshold is nothing, the threshold all; samples few or mostly unmoved say nothing."""
    found = examine(sided(now, before), clause_on(change, 20.0))
    assert (found and found.grade) == (None if grade is None else pytest.approx(grade))


def test_batches_count_as_one_sample_a_second() -> None:
    """Seventy steps in a second are one sample of the workload, not seventy."""
    samples = run_samples(counters({}), batches({"batch_size": 8.0}), INCIDENT, [])
    rows = samples[(samples["counter_name"] == "batch_size") & (samples["side"] == "incident")]
    assert list(rows["value"]) == [8.0] * 10


def test_the_reference_is_the_recording_outside_every_incident() -> None:
    """Another incident and the second around each are no reference; the incident keeps its own samples."""
    other = (22 * S, 24 * S)
    samples = run_samples(counters({}), batches({}), INCIDENT, [other])
    for side, ranges in {"reference": [(0, 9), (25, 30)], "incident": [(10, 20)]}.items():
        rows = samples[(samples["side"] == side) & samples["counter_name"].isin(USUAL)]
        seconds = sorted(set(rows["start_ns"] // S))
        assert seconds == [second for low, high in ranges for second in range(low, high)]
    assert set(samples["side"]) == {"reference", "incident"}


def test_the_diagnosis_is_blind_to_the_injection() -> None:
    """No input of the diagnosis holds the scenario, the marks, the windows or the proof of the effect."""
    told = ("scenario", "anomaly", "strength", "window", "fault", "effect", "baseline", "recovery", "mark")
    for name in ("watched_runs", "run_incidents", "run_counters", "run_batches"):
        lines = [line for line in sql_text(name).lower().splitlines() if not line.lstrip().startswith("--")]
        text = "\n".join(lines)
        assert "*" not in text.replace("count(*)", "")
        assert not [word for word in told if word in text]


def test_names_from_outside_are_made_plain() -> None:
    """A process may call itself anything; evidence holds printable text of bounded length."""
    assert plain("sq\x1b[31mueeze\n\u202e") == "sq[31mueeze"
    assert len(plain("x" * 500)) == 40
    given = counters(SQUEEZE, squeezer=True)
    given.loc[given["pid"] == 123, "process_name"] = "{before}\x07" + "y" * 99
    first = diagnose_incident(given, batches({}), [INCIDENT], 0, load_signatures())[0]
    assert "process there was {before}yyy" in first.evidence
    assert "\x07" not in first.evidence


def test_causes_are_of_the_taxonomy() -> None:
    """Every name in the file is one that the evaluation knows; stolen time speaks for none of them."""
    signatures = load_signatures()
    assert {signature.cause for signature in signatures.causes} <= CAUSES
    clauses = [clause for signature in signatures.causes for clause in signature.clauses]
    assert not [clause for clause in clauses if clause.counter == "cpu_steal" and not clause.contra]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('counter = "other_cpu_usage"', 'counter = "other_cpu_use"', "did you mean other_cpu_usage"),
        ('device = "any"', 'devices = "any"', "did you mean device"),
        ('statistic = "median"', 'statistic = "maximum"', "unknown 'maximum'"),
        ('change = "up"', 'change = "upp"', "did you mean up"),
        ('cause = "cpu_quota"', 'cause = "cpu_quotas"', "did you mean cpu_quota"),
        ('cause = "cpu_quota"', 'cause = "cpu_swap"', "twice: cpu_swap"),
        ("{before:.0f}", "{beforehand:.0f}", "did you mean before"),
        ("{before:.0f}", "{before.__class__}", "evidence field"),
        ("{before:.0f}", "{before:.0q}", "does not render"),
        ("threshold = 25.0", "threshold = -25.0", "above 0"),
        ("threshold = 25.0", 'threshold = "25"', "must be a number"),
        ("threshold = 25.0\n", "", "threshold must be a number, not None"),
        ('by = "difference"\n', "", "`by` belongs to"),
        ("most = 0.8\n", "", "belong together"),
        ('without = ["cpu_frequency"]', 'without = ["cpu_freq"]', "did you mean cpu_frequency"),
        ("weight = 3.0", "weight = 0.0", "weight must be"),
        ("required = true", "required = false", "no required clause"),
        ("required = true", "required = 1", "true or false"),
        ("low = 0.0\n", "", "low must be a number"),
        ('required = true\nany_of = "memory is short"', 'any_of = "memory is short"', "all required or none"),
        ("threshold = 0.5 ", "threshhold = 0.5 ", "did you mean threshold"),
        ("[[outside]]", "[outside", "cannot be read as TOML"),
    ],
)
def test_mistakes_in_the_signatures_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    """A wrong word, value or key in the file is an error that says where and what."""
    text = SIGNATURES_FILE.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "signatures.toml").write_text(
        text.replace(old, new, 1 if "any_of" in old else -1), encoding="utf-8"
    )
    with pytest.raises(LprismError, match=message) as raised:
        load_signatures(tmp_path / "signatures.toml")
    assert str(raised.value).startswith("signatures.toml")
