"""Judges the diagnosis on runs of which it is known what was injected, in ways that cannot flatter it.

Each run is asked for its cause again: from its incident, or from the fault's time as if that had been found;
by all counters, or without those that read what the injector sets (MASKS); by the signatures and by the
trivial rules. What was right, and at which place, becomes `rca_evaluation`; AC@k and the confusion are views
of that.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from tasks.deepdive.compare import spans_of
from tasks.deepdive.diagnose import incident_samples, rank_causes
from tasks.deepdive.diagnose_pair import by_rules
from tasks.deepdive.signatures import NONE, load_signatures
from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.warehouse import columns_of, execute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import duckdb
    import pandas as pd

    from tasks.deepdive.compare import Span
    from tasks.deepdive.signatures import Signatures

    Row = dict[str, Any]

TABLE = "rca_evaluation"
SIGNATURES, RULES = "signatures", "rules"
ALL, MASKED = "all", "masked"
INCIDENT, WINDOW = "incident", "window"
WORKLOAD_CHANGE, WORKLOAD_SHIFT = "workload_change", "workload_shift"
# The counters that read what an injector sets, or that its proof measures: without them a cause must be told
# by what it does to the server.
MASKS: Mapping[str, frozenset[str]] = {
    "cpu_compute_squeeze_out": frozenset(
        {"other_cpu_usage", "other_process_avx512_age", "other_process_cpu_usage"}
    ),
    "cpu_frequency_reduction": frozenset({"cpu_frequency"}),
    "cpu_quota": frozenset(
        {"process_cgroup_quota", "process_cgroup_throttled", "process_cgroup_throttled_periods"}
    ),
    "cpu_swap": frozenset({"host_mem_usage", "host_swap_usage"}),
    "gpu_instability": frozenset({"gpu_frequency", "gpu_sm_frequency"}),
    "gpu_memory_squeeze_out_NVLink": frozenset({"gpu_link_receive", "gpu_link_transmit"}),
    "gpu_memory_squeeze_out_PCIe": frozenset({"gpu_pcie_receive", "gpu_pcie_transmit"}),
    "gpu_preemption": frozenset({"gpu_usage", "gpu_sm_util", "gpu_sm_occupancy"}),
    "gpu_swap": frozenset({"gpu_mem_used"}),
    "network_contention": frozenset({"net_rx", "net_tx"}),
}


def evaluate_causes(
    home: Path, evaluation: str, campaigns: Sequence[str], shifted: Sequence[str] = ()
) -> pd.DataFrame:
    """Ask for the cause of every scored run of these campaigns; writes and returns `rca_evaluation`.

    In the campaigns `shifted` more work came in the middle, and nothing was injected. A run without any
    fault has one mask after the other laid over it: it is asked with all of MASKS at once.
    """
    import pandas as pd

    signatures = load_signatures()
    rows: list[Row] = []
    for campaign in campaigns:
        with lake_connection(home, campaign) as con:
            for run in _runs(con, campaign):
                injected = WORKLOAD_SHIFT if campaign in shifted else str(run["anomaly"] or run["scenario"])
                known = {key: run[key] for key in ("run_id", "engine", "strength", "effect_proved")}
                known |= {"evaluation": evaluation, "injected": injected}
                rows += [{**known, **one} for one in _asked(con, run, injected, signatures)]
    frame = pd.DataFrame(rows, columns=list(columns_of(TABLE)))
    frame = frame.astype({"right_rank": "Int64", "is_missed": "boolean", "effect_proved": "boolean"})
    write_frame(home, TABLE, evaluation, "all", frame)
    return frame


def right_answers(injected: str, anomaly: str | None) -> frozenset[str]:
    """What may be named of a run: its anomaly; none where nothing is injected, or the work that changed."""
    if anomaly:
        return frozenset({anomaly})
    return frozenset({NONE, WORKLOAD_CHANGE} if injected == WORKLOAD_SHIFT else {NONE})


def right_rank(named: Sequence[str], right: frozenset[str]) -> int | None:
    """The place, from 1, at which a right answer is first named; None where it is not."""
    return next((place for place, cause in enumerate(named, start=1) if cause in right), None)


def _runs(con: duckdb.DuckDBPyConnection, campaign: str) -> Iterator[Row]:
    """The scored runs of a campaign, by the columns of evaluated_runs.sql."""
    found = execute(con, "evaluated_runs", campaign=campaign)
    names = [column[0] for column in found.description]
    for row in found.fetchall():
        yield dict(zip(names, row, strict=True))


def _asked(
    con: duckdb.DuckDBPyConnection, run: Mapping[str, Any], injected: str, signatures: Signatures
) -> Iterator[Row]:
    """The answers to every way of asking about one run."""
    incidents, counters = (
        execute(con, name, run_id=run["run_id"]).df() for name in ("run_incidents", "run_counters")
    )
    batches = execute(con, "run_batches", run_id=run["run_id"], scored=True).df()
    right = right_answers(injected, run["anomaly"])
    masks = MASKS.get(str(run["anomaly"]), frozenset().union(*MASKS.values()))
    for counted, asked in itertools.product((ALL, MASKED), (INCIDENT, WINDOW)):
        spans, index = _spans(incidents) if asked == INCIDENT else _window(run)
        if asked == WINDOW and index is None:
            continue
        masked = masks if counted == MASKED else frozenset()
        for judge, named in _answers(counters, batches, spans, index, signatures, masked):
            is_missed = run["anomaly"] is not None and not _hits(run, spans, index)
            is_wrong = is_missed or run["effect_proved"] is False
            names = [cause for cause, _ in named]
            yield {
                "judge": judge, "counters": counted, "asked": asked, "is_missed": is_missed,
                "named_cause": names[0], "score": named[0][1],
                "right_rank": None if is_wrong else right_rank(names, right),
            }  # fmt: skip


def _answers(
    counters: pd.DataFrame,
    batches: pd.DataFrame,
    spans: list[Span],
    index: int | None,
    signatures: Signatures,
    masked: frozenset[str],
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """What each judge names, first to last, with scores; a run without incident is `none` to both."""
    if index is None:
        yield from ((judge, [(NONE, 1.0)]) for judge in (SIGNATURES, RULES))
        return
    samples, steps = incident_samples(counters, batches, spans, index, masked)
    yield SIGNATURES, [(one.cause, one.score) for one in rank_causes(samples, signatures, steps)]
    rules = by_rules(samples, signatures.baseline)
    yield RULES, [(one["cause"], one["score"]) for one in rules]


def _spans(incidents: pd.DataFrame) -> tuple[list[Span], int | None]:
    """The incidents of a run, and which one is the largest."""
    spans = spans_of(incidents)
    return spans, int(incidents["excess_ms"].to_numpy().argmax()) if spans else None


def _window(run: Mapping[str, Any]) -> tuple[list[Span], int | None]:
    """The time of the fault as the only incident; None where none was injected."""
    if run["anomaly"] is None or run["start_ns"] is None or run["end_ns"] is None:
        return [], None
    return [(int(run["start_ns"]), int(run["end_ns"]))], 0


def _hits(run: Mapping[str, Any], spans: list[Span], index: int | None) -> bool:
    """Whether what is asked about overlaps the fault."""
    if index is None or run["apply_ns"] is None or run["end_ns"] is None:
        return False
    start, end = spans[index]
    return bool(start < run["end_ns"] and end > run["apply_ns"])
