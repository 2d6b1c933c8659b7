"""Compares the samples during an incident with the rest of the same run: few, skewed, stepped samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import pandas as pd

    from tasks.deepdive.signatures import Clause

    Floats = npt.NDArray[np.float64]

GUARD_NS = 1_000_000_000
LEAST_NOW = 3
LEAST_BEFORE = 8
LARGEST_P = 0.01
# The chance that a sample of the incident lies beyond one of the reference: no grade below, full grade above.
SUPERIORITY = (0.6, 0.8)
BUSIEST_BY = "other_process_cpu_usage"
INCIDENT = "incident"
REFERENCE = "reference"
BIN_NS = 1_000_000_000
LONGEST_NAME = 40
# Modes of a step that holds requests from before it: what lies in front of one is no idling.
GOING_ON = ("decode", "mixed")

Span = tuple[int, int]


@dataclass(frozen=True)
class Finding:
    """How far one clause is fulfilled, on the device that shows it most; NaN where there were no samples."""

    clause: Clause
    grade: float
    before: float
    now: float
    samples: int
    device: str
    process: str
    pid: int | None

    def sentence(self) -> str:
        """Render the clause's evidence with its numbers."""
        fields = {"before": self.before, "now": self.now, "device": self.device, "process": self.process}
        return self.clause.evidence.format(**fields, pid=self.pid)


def run_samples(
    counters: pd.DataFrame, batches: pd.DataFrame, incident: Span, others: Sequence[Span]
) -> pd.DataFrame:
    """Bring counters and batch measures to one frame, only those of the incident and of the reference.

    The reference is the recording outside every incident, at least a second away from it.
    """
    sides = [incident, *others]
    sampled = counters.assign(end_ns=counters["start_ns"] + counters["duration_ns"])
    steps = with_gaps(batches).assign(end_ns=batches["start_ns"] + batches["duration_ns"])
    return sided_run(*(rows.assign(side=_side(rows, sides)) for rows in (sampled, steps)))


def sided_run(sampled: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """Bring sampled counters and steps, each with end_ns and side, to one frame, less those of no side.

    Columns: counter_name, device, pid, process_name, start_ns, end_ns, value, side (incident or reference).
    Batch measures are means over each second, so that neither a burst of batches nor one odd batch counts as
    many samples.
    """
    import pandas as pd

    sampled, steps = (rows.dropna(subset=["side"]) for rows in (sampled, steps))
    parts = (sampled, _engine_cpus(sampled), _batch_measures(steps))
    return pd.concat([part for part in parts if len(part)] or [sampled], ignore_index=True)


def with_gaps(batches: pd.DataFrame) -> pd.DataFrame:
    """Add gap_ns, the time from a step's end to the next step that goes on with its requests, else NaN."""
    goes_on = batches["start_ns"][batches["forward_mode"].isin(GOING_ON)]
    interval = batches["interval_ns"].astype("float64")
    is_followed = (batches["start_ns"] + interval).isin(goes_on.astype("float64"))
    return batches.assign(gap_ns=(interval - batches["duration_ns"]).clip(lower=0).where(is_followed))


def spans_of(incidents: pd.DataFrame) -> list[Span]:
    """The (start_ns, end_ns) of each row, in order."""
    return [(int(start), int(end)) for start, end in incidents[["start_ns", "end_ns"]].to_numpy()]


def decode_times_ms(batches: pd.DataFrame, incident: Span, others: Sequence[Span]) -> tuple[float, float]:
    """Median time of the decode steps outside and during the incident (ms), NaN where there are none."""
    steps = batches[batches["forward_mode"] == "decode"]
    side = _side(steps.assign(end_ns=steps["start_ns"] + steps["duration_ns"]), [incident, *others])
    before, now = (steps["duration_ns"][side == name] for name in (REFERENCE, INCIDENT))
    return float(before.median()) / 1e6, float(now.median()) / 1e6


def examine(samples: pd.DataFrame, clause: Clause, least_before: int = LEAST_BEFORE) -> Finding | None:
    """Grade one clause on every device it may mean and give the best; None where samples are too few."""
    known = examine_each(samples, clause, least_before)
    return max(known, key=lambda one: (one.grade, abs(one.now - one.before)), default=None)


def examine_each(samples: pd.DataFrame, clause: Clause, least_before: int = LEAST_BEFORE) -> list[Finding]:
    """Grade one clause on every device that it may mean and that has `least_before` usual samples."""
    found = [_finding(clause, rows, least_before) for rows in _candidates(samples, clause)]
    return [finding for finding in found if finding is not None]


def plain(name: object) -> str:
    """Make a name that came from outside printable and short."""
    text = "".join(letter for letter in str(name) if letter.isprintable())
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def _side(rows: pd.DataFrame, spans: Sequence[Span]) -> pd.Series[str]:
    """Tell the side of each row: spans[0] is the incident, the others are incidents too; None is neither."""
    import pandas as pd

    away = pd.Series(data=True, index=rows.index)
    for start, end in spans:
        away &= (rows["end_ns"] <= start - GUARD_NS) | (rows["start_ns"] >= end + GUARD_NS)
    start, end = spans[0]
    overlap = rows["end_ns"].clip(upper=end) - rows["start_ns"].clip(lower=start)
    # Half of the sample, or half of an incident shorter than a sample.
    inside = overlap >= (rows["end_ns"] - rows["start_ns"]).clip(upper=end - start) / 2
    side = pd.Series(None, index=rows.index, dtype=object)
    side[away] = REFERENCE
    side[inside & (overlap > 0)] = INCIDENT
    return side


def _batch_measures(steps: pd.DataFrame) -> pd.DataFrame:
    """Average each batch measure over the seconds of each side; one that was never recorded is absent."""
    values = steps[["batch_size", "kv_tokens", "new_input_tokens", "waiting"]].astype("float64")
    values["batches_out_of_domain"] = 100.0 * (1.0 - steps["in_domain"].astype("float64"))
    values["decode_time"] = steps["duration_ns"].where(steps["forward_mode"] == "decode") / 1e6
    values["step_gap"] = steps["gap_ns"] / 1e6
    values["step_gap_share"] = 100.0 * steps["gap_ns"] / (steps["gap_ns"] + steps["duration_ns"])
    keys = [steps["side"], (steps["start_ns"] // BIN_NS * BIN_NS).rename("start_ns")]
    means = values.groupby(keys).mean().reset_index()
    rows = means.melt(["side", "start_ns"], var_name="counter_name").dropna(subset=["value"])
    return rows.assign(device="engine", pid=None, process_name=None, end_ns=rows["start_ns"] + BIN_NS)


def _engine_cpus(sampled: pd.DataFrame) -> pd.DataFrame:
    """What the engine and all others used of the engine's CPUs at each time: what is not used was free."""
    names = ("process_cpu_usage", "other_cpu_usage")
    keys = ["start_ns", "end_ns", "side"]
    own, other = (sampled[sampled["counter_name"] == name].groupby(keys)["value"].sum() for name in names)
    rows = (own + other).dropna().reset_index()
    return rows.assign(counter_name="engine_cpus_usage", device="Host", pid=None, process_name=None)


def _candidates(samples: pd.DataFrame, clause: Clause) -> Iterator[pd.DataFrame]:
    rows = samples[samples["counter_name"] == clause.counter]
    if clause.device == "busiest":
        pid = _busiest_pid(samples)
        yield rows[rows["pid"] == pid]
    else:
        for _, one in rows.groupby(["device", "pid"], dropna=False):
            yield one


def _busiest_pid(samples: pd.DataFrame) -> float | None:
    """Give the process whose mean use grew most; where it was not among the busiest it counts as zero."""
    rows = samples[samples["counter_name"] == BUSIEST_BY]
    ticks = rows.groupby("side")["start_ns"].nunique()
    use = rows.pivot_table(index="pid", columns="side", values="value", aggfunc="sum", fill_value=0.0)
    if INCIDENT not in use:
        return None
    growth = use[INCIDENT] / ticks[INCIDENT]
    if REFERENCE in use:
        growth = growth - use[REFERENCE] / ticks[REFERENCE]
    return float(growth.index[int(growth.to_numpy().argmax())])


def _finding(clause: Clause, rows: pd.DataFrame, least_before: int) -> Finding | None:
    now = rows["value"][rows["side"] == INCIDENT].to_numpy(dtype=np.float64)
    before = rows["value"][rows["side"] == REFERENCE].to_numpy(dtype=np.float64)
    if not len(now) or (clause.compares and (len(now) < LEAST_NOW or len(before) < least_before)):
        return None
    grade = _shift(clause, before, now) if clause.compares else _share(clause, now)
    pid = rows["pid"].dropna()
    return Finding(
        clause=clause,
        grade=grade,
        before=_statistic(clause, before),
        now=_statistic(clause, now),
        samples=len(now),
        device=_name(rows, "device"),
        process=_name(rows, "process_name"),
        pid=int(pid.iloc[0]) if len(pid) else None,
    )


def _shift(clause: Clause, before: Floats, now: Floats) -> float:
    """Grade a move: its size against the threshold, and whether the samples, not only their mean, moved.

    A rate is of what comes in bursts: most samples may stay, if the test tells the sides apart.
    """
    from scipy.stats import mannwhitneyu

    sign = 1.0 if clause.change == "up" else -1.0
    test = mannwhitneyu(sign * now, sign * before, alternative="greater")
    if not test.pvalue <= LARGEST_P:
        return 0.0
    size = sign * (_statistic(clause, now) - _statistic(clause, before))
    if clause.by == "fraction":
        size /= max(abs(_statistic(clause, before)), 1e-9)
    threshold = float(clause.threshold or 0.0)
    if clause.statistic == "rate":
        return _ramp(size, threshold / 2, threshold)
    superiority = float(test.statistic) / (len(now) * len(before))
    return min(_ramp(size, threshold / 2, threshold), _ramp(superiority, *SUPERIORITY))


def _share(clause: Clause, now: Floats) -> float:
    """Give the share of the incident's samples that lie where the clause says."""
    bound = float(clause.threshold or 0.0)
    if clause.change == "within":
        fulfilled = (now >= float(clause.low or 0.0)) & (now <= float(clause.high or 0.0))
    else:
        fulfilled = now >= bound if clause.change == "above" else now <= bound
    return float(fulfilled.mean())


def _statistic(clause: Clause, values: Floats) -> float:
    if not len(values):
        return float("nan")
    return float(np.median(values) if clause.statistic == "median" else np.mean(values))


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def _name(rows: pd.DataFrame, column: str) -> str:
    names = rows[column].dropna()
    return plain(names.iloc[0]) if len(names) else ""
