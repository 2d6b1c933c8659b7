"""Names the cause of each incident from the counters around it, blind to what was injected and when."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.deepdive.compare import (
    INCIDENT,
    LEAST_BEFORE,
    Finding,
    Span,
    decode_times_ms,
    examine,
    run_samples,
    spans_of,
)
from tasks.deepdive.signatures import NONE, Clause, Signature, Signatures, load_signatures
from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.warehouse import execute

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

    import duckdb
    import pandas as pd

MOST_RANKS = 5
# A cause that scores less is not worth a line.
LEAST_SCORE = 0.05
TOLD_GRADE = 0.5
# Half of the confidence that the score allows with this many samples.
HALF_SAMPLES = 3
HALF_BATCHES = 100
DIAGNOSIS_COLUMNS = (
    "run_id",
    "incident_index",
    "rank",
    "cause",
    "score",
    "confidence",
    "device",
    "start_ns",
    "end_ns",
    "evidence",
)


@dataclass(frozen=True)
class Diagnosis:
    """One ranked cause of one incident; score and confidence in [0, 1]."""

    cause: str
    score: float
    confidence: float
    device: str
    evidence: str


@dataclass(frozen=True)
class DiagnoseSummary:
    """What `diagnose_campaign` named: how often each cause, `none` included, came first over incidents."""

    campaign: str
    runs: int
    quiet_runs: int
    incidents: int
    causes: dict[str, int]


@dataclass(frozen=True)
class Scored:
    """A cause, how well its signature fits in [0, 1], and what each of its clauses found."""

    cause: str
    score: float
    findings: tuple[Finding, ...]

    @property
    def samples(self) -> int:
        """The fewest samples of the abnormal side that a required clause rests on."""
        counts = [one.samples for one in self.findings if one.clause.required and one.grade > 0]
        return min(counts, default=0)


def diagnose_campaign(home: Path, campaign: str) -> DiagnoseSummary:
    """Write `rca_diagnosis` for every watched run: its incidents, or one row saying that it was quiet."""
    import pandas as pd

    signatures = load_signatures()
    rows: list[dict[str, Any]] = []
    with lake_connection(home, campaign) as con:
        watched = execute(con, "watched_runs", campaign=campaign).df()
        for run in watched.to_dict("records"):
            rows += _run_rows(con, run, signatures)
    frame = pd.DataFrame(rows, columns=list(DIAGNOSIS_COLUMNS))
    write_frame(home, "rca_diagnosis", campaign, "all", frame.astype({"incident_index": "Int64"}))
    first = frame[(frame["rank"] == 1) & frame["incident_index"].notna()]
    quiet = int(frame["incident_index"].isna().sum())
    return DiagnoseSummary(campaign, len(watched), quiet, len(first), dict(Counter(first["cause"])))


def diagnose_incident(
    counters: pd.DataFrame,
    batches: pd.DataFrame,
    spans: list[Span],
    index: int,
    signatures: Signatures,
    masked: frozenset[str] = frozenset(),
) -> list[Diagnosis]:
    """Rank the causes of incident `index` of a run; `spans` are all its incidents (start_ns, end_ns).

    `counters` and `batches` are the rows of run_counters.sql and run_batches.sql. Gives one to MOST_RANKS
    causes, best first; `none` comes first where no signature reaches the file's threshold. A counter or
    measure in `masked` is simply not there.
    """
    samples, steps = incident_samples(counters, batches, spans, index, masked)
    return rank_causes(samples, signatures, steps)


def incident_samples(
    counters: pd.DataFrame, batches: pd.DataFrame, spans: list[Span], index: int, masked: frozenset[str]
) -> tuple[pd.DataFrame, str]:
    """Give what rank_causes and the rules judge incident `index` by, as run_samples has it, and its steps."""
    others = spans[:index] + spans[index + 1 :]
    kept = counters[~counters["counter_name"].isin(masked)]
    samples = run_samples(kept, batches, spans[index], others)
    steps = steps_in_words(*decode_times_ms(batches, spans[index], others))
    return samples[~samples["counter_name"].isin(masked)], steps


def rank_causes(samples: pd.DataFrame, signatures: Signatures, steps: str) -> list[Diagnosis]:
    """Rank the causes of what sets the incident's samples of a run apart; `steps` ends all evidence."""
    scored = [score(samples, signature) for signature in signatures.causes]
    ranked = sorted((one for one in scored if one.score >= LEAST_SCORE), key=lambda one: -one.score)
    named = [diagnosis_of(one, ranked, steps) for one in ranked]
    if not ranked or ranked[0].score < signatures.threshold:
        outside = [finding for clause in signatures.outside if (finding := examine(samples, clause))]
        named.insert(0, nothing_fits(ranked, samples, outside, signatures.threshold, steps))
    return named[:MOST_RANKS]


def score(samples: pd.DataFrame, signature: Signature, least_before: int = LEAST_BEFORE) -> Scored:
    """Score one signature in [0, 1]: mean grade by weight, times the least required, less what contradicts.

    A clause whose counter was not recorded counts neither for nor against; if required, the score is 0.
    So it is of a signature for recordings without a counter that is there.
    """
    if samples["counter_name"].isin(signature.without).any():
        return Scored(signature.cause, 0.0, ())
    findings = [(clause, examine(samples, clause, least_before)) for clause in signature.clauses]
    known = tuple(finding for _, finding in findings if finding is not None)
    contradiction = 1.0
    for finding in known:
        if finding.clause.contra:
            contradiction *= 1.0 - finding.clause.weight * finding.grade
    groups = _groups(findings)
    graded = [(clause, grade) for clause, grade in groups if grade is not None]
    total = sum(clause.weight for clause, _ in graded)
    mean = sum(clause.weight * grade for clause, grade in graded) / total if total else 0.0
    required = min(grade or 0.0 for clause, grade in groups if clause.required)
    return Scored(signature.cause, signature.most * mean * required * contradiction, known)


def _groups(findings: list[tuple[Clause, Finding | None]]) -> list[tuple[Clause, float | None]]:
    """Give clause and grade of each clause in favour, alternatives reduced to the best of them."""
    best: dict[str, tuple[Clause, float | None]] = {}
    for index, (clause, finding) in enumerate(findings):
        if clause.contra:
            continue
        name = clause.any_of or str(index)
        grade = finding.grade if finding else None
        if name not in best or (grade or 0.0) > (best[name][1] or 0.0) or best[name][1] is None:
            best[name] = (clause, grade)
    return list(best.values())


def _run_rows(
    con: duckdb.DuckDBPyConnection, run: dict[Hashable, Any], signatures: Signatures
) -> list[dict[str, Any]]:
    run_id = str(run["run_id"])
    incidents = execute(con, "run_incidents", run_id=run_id).df()
    if incidents.empty:
        return [_quiet_row(run)]
    counters = execute(con, "run_counters", run_id=run_id).df()
    batches = execute(con, "run_batches", run_id=run_id, scored=True).df()
    spans = spans_of(incidents)
    rows = []
    for index, (number, (start, end)) in enumerate(zip(incidents["incident_index"], spans, strict=True)):
        at = {"run_id": run_id, "incident_index": int(number), "start_ns": start, "end_ns": end}
        ranked = diagnose_incident(counters, batches, spans, index, signatures)
        rows += [{**at, "rank": rank, **vars(one)} for rank, one in enumerate(ranked, start=1)]
    return rows


def _quiet_row(run: dict[Hashable, Any]) -> dict[str, Any]:
    batches, alarms = int(run["batches"]), int(run["alarms"])
    seconds = (int(run["end_ns"]) - int(run["start_ns"])) / 1e9
    evidence = f"no incident in {batches} batches watched over {seconds:.0f} s ({alarms} single alarms)"
    quiet = Diagnosis(NONE, 1.0, batches / (batches + HALF_BATCHES), "", evidence)
    span = {"start_ns": int(run["start_ns"]), "end_ns": int(run["end_ns"])}
    return {"run_id": run["run_id"], "incident_index": None, "rank": 1, **span, **vars(quiet)}


def diagnosis_of(scored: Scored, ranked: list[Scored], steps: str) -> Diagnosis:
    """Put a scored cause in words; near rivals and few samples lower the confidence."""
    rivals = [one.score for one in ranked if one is not scored]
    margin = max(scored.score - max(rivals, default=0.0), 0.0)
    confidence = scored.score * (0.5 + 0.5 * margin) * scored.samples / (scored.samples + HALF_SAMPLES)
    told = [one for one in scored.findings if one.grade >= TOLD_GRADE]
    evidence = "; ".join([*(one.sentence() for one in told), *([steps] if steps else [])])
    return Diagnosis(scored.cause, scored.score, confidence, _device(scored), evidence)


def nothing_fits(
    ranked: list[Scored], samples: pd.DataFrame, outside: list[Finding], threshold: float, steps: str
) -> Diagnosis:
    """Say that no cause fits, which came closest, and what was seen that is no cause of ours."""
    best = ranked[0].score if ranked else 0.0
    closest = f"the closest is {ranked[0].cause} with {best:.2f}" if ranked else "none comes near"
    told = [finding.sentence() for finding in outside if finding.grade >= TOLD_GRADE]
    during = samples[samples["side"] == INCIDENT]
    if during.empty or not during["counter_name"].str.startswith(("process_", "host_")).any():
        told.append("no counter was sampled around it")
    parts = [f"no cause reaches a score of {threshold:g}: {closest}", *told, *([steps] if steps else [])]
    count = int(during["start_ns"].nunique())
    confidence = (1.0 - best / threshold) * count / (count + HALF_SAMPLES)
    return Diagnosis(NONE, 1.0 - best, confidence, "", "; ".join(parts))


def _device(scored: Scored) -> str:
    required = [one for one in scored.findings if one.clause.required and one.device]
    return max(required, key=lambda one: one.grade).device if required else ""


def steps_in_words(before_ms: float, now_ms: float) -> str:
    """Say how long a decode step took, empty where it is not known."""
    known = before_ms > 0 and now_ms > 0
    return f"decode step {before_ms:.1f} to {now_ms:.1f} ms" if known else ""
