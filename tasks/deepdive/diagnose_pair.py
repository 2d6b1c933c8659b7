"""Names the cause that sets an abnormal run apart from a normal one, with a trivial baseline beside it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.deepdive.compare import INCIDENT, REFERENCE, examine_each, spans_of
from tasks.deepdive.diagnose import (
    HALF_BATCHES,
    LEAST_SCORE,
    MOST_RANKS,
    TOLD_GRADE,
    Diagnosis,
    diagnosis_of,
    incident_samples,
    nothing_fits,
    rank_causes,
    score,
    steps_in_words,
)
from tasks.deepdive.pair_samples import UNNAMED, pair_samples
from tasks.deepdive.recorded_pair import recorded_pair
from tasks.deepdive.side import Side
from tasks.deepdive.signatures import CALL_TIME_MEASURES, NONE, Signatures, load_signatures
from tasks.lake_runs import find_run
from tasks.lake_tables import lake_connection
from tasks.settings import LprismError
from tasks.warehouse import execute

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from tasks.deepdive.diagnose import Scored
    from tasks.deepdive.pair_samples import PairSamples
    from tasks.deepdive.recorded_pair import Recorded
    from tasks.deepdive.signatures import Rule, Signature

LEAST_BEFORE = 4
"""Cycles or distinct samples of the normal side; below, even wholly apart they may be so by chance."""
COUNTERS_ALONE = 0.5
"""What is left of a confidence where no call was timed: a counter that moved may have harmed nobody."""


@dataclass(frozen=True)
class PairDiagnosis:
    """What `lprism diagnose A B --json` prints: causes, the rules' beside them, cycles compared, doubts."""

    causes: list[dict[str, Any]]
    baseline: list[dict[str, Any]]
    matched_cycles: int
    warnings: list[str]


def diagnose_runs(
    home: Path, normal: str, abnormal: str, masked: frozenset[str] = frozenset()
) -> PairDiagnosis:
    """Diagnose two runs of the lake, each a run_id or a name that one run has; #fault after it: a window.

    Where calls tell no cause, two recordings of ours are held against each other as the parts of one run are.

    Raises:
        LprismError: there is no such run.
    """
    parts = [text.partition("#") for text in (normal, abnormal)]
    runs = [find_run(home, run) for run, _, _ in parts]
    sides = [Side(run.run_id, window or None) for run, (_, _, window) in zip(runs, parts, strict=True)]
    with lake_connection(home, *{run.campaign for run in runs}) as con:
        found = diagnose_samples(pair_samples(con, sides[0], sides[1], masked), load_signatures())
        if found.causes[0]["cause"] != NONE and found.matched_cycles:
            return found
        recorded = recorded_pair(con, sides[0], sides[1], masked)
    return found if recorded is None else diagnose_recorded(recorded, found, load_signatures())


def diagnose_recorded(given: Recorded, before: PairDiagnosis, signatures: Signatures) -> PairDiagnosis:
    """Rank the causes by what is known of one run's incidents; `before` is what calls told.

    Steps that are no slower need no cause: `none` is first, whatever else differs between the runs.
    """
    named = rank_causes(given.samples, signatures, steps_in_words(*given.decode_ms))
    if given.is_no_slower and named[0].cause != NONE:
        steps = f"a decode step and what follows took {given.slower:.2f} times as long: no slower"
        named = [Diagnosis(NONE, 1.0, named[0].confidence, "", steps), *named][:MOST_RANKS]
    causes = [_line(rank, one, one.device or None, 1.0) for rank, one in enumerate(named, start=1)]
    told = ["diagnosed from counters and steps, as an incident of one run is", *given.told]
    told += before.warnings if before.matched_cycles else []
    return PairDiagnosis(causes, by_rules(given.samples, signatures.baseline), before.matched_cycles, told)


def diagnose_run(home: Path, run: str, masked: frozenset[str] = frozenset()) -> PairDiagnosis:
    """Diagnose one run's longest incident from the counters around it, against the rest of the run.

    Raises:
        LprismError: there is no such run, or it was never scored (`lprism diagnose --campaign`).
    """
    found = find_run(home, run)
    signatures = load_signatures()
    with lake_connection(home, found.campaign) as con:
        incidents, counters = (
            execute(con, name, run_id=found.run_id).df() for name in ("run_incidents", "run_counters")
        )
        batches = execute(con, "run_batches", run_id=found.run_id, scored=True).df()
    if batches.empty:
        raise LprismError(
            f"run {run} was never scored: `lprism diagnose --campaign {found.campaign}` does it"
        )
    if incidents.empty:
        quiet = {
            "rank": 1,
            "cause": NONE,
            "score": 1.0,
            "confidence": len(batches) / (len(batches) + HALF_BATCHES),
        }
        return PairDiagnosis(
            [{**quiet, "device": None, "evidence": [f"no incident in {len(batches)} batches"]}], [], 0, []
        )
    spans = spans_of(incidents)
    index = max(range(len(spans)), key=lambda at: spans[at][1] - spans[at][0])
    samples, steps = incident_samples(counters, batches, spans, index, masked)
    named = rank_causes(samples, signatures, steps)
    told = [f"the longest of {len(spans)} incidents is diagnosed"] if len(spans) > 1 else []
    told.append("diagnosed from counters alone: an incident has no call times")
    causes = [_line(rank, one, one.device or None, 1.0) for rank, one in enumerate(named, start=1)]
    return PairDiagnosis(causes, by_rules(samples, signatures.baseline), 0, told)


def diagnose_samples(given: PairSamples, signatures: Signatures) -> PairDiagnosis:
    """Rank the causes of what sets the two sides apart; `none` is first where no signature fits."""
    samples = given.samples
    is_timed = bool(samples["counter_name"].isin(CALL_TIME_MEASURES).any())
    known = signatures.pairs if is_timed else _untimed(signatures.pairs)
    scored = [score(samples, signature, LEAST_BEFORE) for signature in known]
    ranked = sorted((one for one in scored if one.score >= LEAST_SCORE), key=lambda one: -one.score)
    named = [(diagnosis_of(one, ranked, ""), _devices(samples, one)) for one in ranked]
    if not ranked or ranked[0].score < signatures.threshold:
        named.insert(0, (nothing_fits(ranked, samples, [], signatures.threshold, ""), None))
    trust = 1.0 if is_timed else COUNTERS_ALONE
    causes = [_line(rank, *one, trust) for rank, one in enumerate(named[:MOST_RANKS], start=1)]
    return PairDiagnosis(
        causes, by_rules(samples, signatures.baseline), given.matched_cycles, list(given.warnings)
    )


def by_rules(samples: pd.DataFrame, rules: tuple[Rule, ...]) -> list[dict[str, Any]]:
    """Rank causes by how far a median lies beyond its rule's factor, on the device that shows it most."""
    found = [_beyond(samples, rule) for rule in rules]
    ranked = sorted((one for one in found if one["score"] > 0), key=lambda one: -one["score"])
    ranked = ranked or [{"cause": NONE, "score": 0.0, "device": None}]
    return [{"rank": rank, **one} for rank, one in enumerate(ranked, start=1)]


def _beyond(samples: pd.DataFrame, rule: Rule) -> dict[str, Any]:
    """Doublings beyond the factor, 0 where within or unknown."""
    import pandas as pd

    rows = samples[samples["counter_name"] == rule.counter]
    medians = rows.groupby(["device", "side"])["value"].median().unstack("side")  # noqa: PD010 - two sides to columns
    if not {REFERENCE, INCIDENT} <= set(medians):
        return {"cause": rule.cause, "score": 0.0, "device": None}
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.log2((medians[INCIDENT] / medians[REFERENCE] / rule.factor).astype("float64"))
    far = pd.Series(moved if rule.factor > 1 else -moved).replace(np.inf, np.nan).dropna()
    if far.empty:
        return {"cause": rule.cause, "score": 0.0, "device": None}
    return {"cause": rule.cause, "score": max(float(far.max()), 0.0), "device": str(far.idxmax()) or None}


def _untimed(known: tuple[Signature, ...]) -> list[Signature]:
    """The signatures without what they say of call times; those that rest on nothing else are gone."""
    kept = [
        dataclasses.replace(one, clauses=tuple(c for c in one.clauses if c.counter not in CALL_TIME_MEASURES))
        for one in known
    ]
    return [one for one in kept if any(clause.required for clause in one.clauses)]


def _devices(samples: pd.DataFrame, scored: Scored) -> str | None:
    """Every device that shows a required counter's move, in order; call times only corroborate."""
    required = [one.clause for one in scored.findings if one.clause.required and one.grade >= TOLD_GRADE]
    counted = [one for one in required if one.counter not in CALL_TIME_MEASURES] or required
    found = {
        one.device
        for clause in counted
        for one in examine_each(samples, clause, LEAST_BEFORE)
        if one.grade >= TOLD_GRADE and one.device not in {"", UNNAMED}
    }
    return ", ".join(sorted(found)) or None


def _line(rank: int, one: Diagnosis, device: str | None, trust: float) -> dict[str, Any]:
    return {
        "rank": rank, "cause": one.cause, "score": one.score, "confidence": one.confidence * trust,
        "device": device, "evidence": [part for part in one.evidence.split("; ") if part],
    }  # fmt: skip
