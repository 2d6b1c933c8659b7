"""Two recordings of ours side by side, without call times: samples and units as in one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.deepdive.compare import INCIDENT, REFERENCE, sided_run, spans_of, with_gaps
from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from tasks.deepdive.compare import Span
    from tasks.deepdive.side import Side

NO_SLOWER = 1.05
"""Steps of two sound runs differ by as much: below, whatever differs between them harmed nobody."""


@dataclass(frozen=True)
class Recorded:
    """Samples of both sides as of run_samples, the decode step's median on each (ms), and what was compared.

    `slower` is how many times as long a decode step and its gap take on the abnormal side on average, NaN
    where one side has none.
    """

    samples: pd.DataFrame
    decode_ms: tuple[float, float]
    slower: float
    told: tuple[str, ...]

    @property
    def is_no_slower(self) -> bool:
        """Whether steps are known, and no slower."""
        return self.slower < NO_SLOWER


def recorded_pair(
    con: duckdb.DuckDBPyConnection, normal: Side, abnormal: Side, masked: frozenset[str] = frozenset()
) -> Recorded | None:
    """Bring two sides to samples; None unless both are recordings of ours with counters and batches.

    Of a whole run that has incidents, its longest one is the abnormal side, and what is outside of all is the
    normal side.
    """
    import pandas as pd

    found, told = [], []
    for name, side in ((REFERENCE, normal), (INCIDENT, abnormal)):
        span = _span(con, side)
        counters = execute(con, "run_counters", run_id=side.run_id).df()
        batches = execute(con, "run_batches", run_id=side.run_id, scored=False).df()
        if span is None or counters.empty or batches.empty:
            return None
        chosen, without, what = _chosen(con, side, span, is_normal=name == REFERENCE)
        told.append(f"the {'normal' if name == REFERENCE else 'abnormal'} side is {side.run_id}: {what}")
        counters = counters[~counters["counter_name"].isin(masked)]
        rows = (counters.assign(pid=_alike(counters)), with_gaps(batches))
        found.append([_within(one, chosen, without).assign(side=name) for one in rows])
    sampled, steps = (pd.concat(rows, ignore_index=True) for rows in zip(*found, strict=True))
    samples = sided_run(sampled, steps)
    samples = samples[~samples["counter_name"].isin(masked)]
    return Recorded(samples, *_steps(steps), tuple(told))


def _span(con: duckdb.DuckDBPyConnection, side: Side) -> Span | None:
    row = execute(con, "recorded_span", run_id=side.run_id, run_window=side.window).fetchone()
    return None if row is None or None in row else (int(row[0]), int(row[1]))


def _chosen(
    con: duckdb.DuckDBPyConnection, side: Side, span: Span, *, is_normal: bool
) -> tuple[Span, list[Span], str]:
    """The time that counts, what of it does not, and both in words."""
    if side.window:
        return span, [], f"its {side.window} window"
    spans = spans_of(execute(con, "run_incidents", run_id=side.run_id).df())
    if not spans:
        return span, [], "all of it"
    if is_normal:
        return span, spans, "all of it outside its incidents"
    return max(spans, key=lambda one: one[1] - one[0]), [], f"the longest of its {len(spans)} incidents"


def _within(rows: pd.DataFrame, span: Span, without: list[Span]) -> pd.DataFrame:
    """The rows whose middle lies in `span` and in none of `without`."""
    rows = rows.assign(end_ns=rows["start_ns"] + rows["duration_ns"].fillna(0))
    middle = (rows["start_ns"] + rows["end_ns"]) // 2
    inside = middle.between(*span)
    for start, end in without:
        inside &= ~middle.between(start, end)
    return rows[inside]


def _alike(counters: pd.DataFrame) -> pd.Series[Any]:
    """The n-th of a run's own processes has the number n: an engine has another pid in every run."""
    is_own = counters["counter_name"].str.startswith("process_")
    order = counters["pid"].where(is_own).groupby(counters["counter_name"]).rank(method="dense")
    return counters["pid"].where(~is_own, order).astype("Int64")


def _steps(steps: pd.DataFrame) -> tuple[tuple[float, float], float]:
    decode = steps[steps["forward_mode"] == "decode"]
    took = decode["duration_ns"] + decode["gap_ns"].fillna(0)
    before, now = (decode["side"] == name for name in (REFERENCE, INCIDENT))
    medians = tuple(float(decode["duration_ns"][side].median()) / 1e6 for side in (before, now))
    return (medians[0], medians[1]), float(took[now].mean() / took[before].mean())
