"""Campaign against campaign: what got slower where nothing was injected, and whether runs bear that out.

A run is one value of each metric, so that runs are the sample and never batches: steps of one run share its
server, its client and its minute. Values are compared on a log scale by Welch's t test, since a change of the
engine scales times and neither side need spread like the other; with Benjamini and Hochberg's correction over
everything that was tested. What the runs of one campaign share (the hour, neighbours, a driver) is part of
the difference that is found: nobody can tell it from the cause that was meant.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.settings import LprismError
from tasks.warehouse import execute, open_published, told

if TYPE_CHECKING:
    import duckdb

KEY = ("host", "engine", "model", "workload", "mode", "metric")
LEAST_RUNS = 2  # a side: one run has no spread
ALPHA = 0.05
SLOWER, FASTER, SAME, UNTESTED = "slower", "faster", "no difference", "one run a side"

Row = dict[str, Any]
Group = dict[tuple[str, ...], list[Row]]


def compared_at(home: Path, before: str, after: str, least_pct: float) -> dict[str, Any]:
    """Compare two campaigns of the published warehouse; as `compared`. Raises LprismError."""
    with open_published(home) as con, told("an older version may have published this warehouse"):
        return compared(con, before, after, least_pct)


def compared(
    con: "duckdb.DuckDBPyConnection", before: str, after: str, least_pct: float = 5.0
) -> dict[str, Any]:
    """{"rows": one a host, engine, model, workload, mode and metric, "only_before", "only_after": [...]}.

    A row has runs and geometric mean (ms) of each side, their ratio with its 95 % interval, p, p corrected,
    and a verdict: slower or faster when p_corrected < 0.05 and the times differ by at least `least_pct` %.

    Raises:
        LprismError: a campaign has no complete run, or they have no workload in common.
    """
    first, second = _measured(con, before), _measured(con, after)
    common = [key for key in first if key in second]
    if not common:
        raise LprismError(_nothing_common(before, first, after, second))
    rows = [_row(key, first[key], second[key]) for key in common]
    _judge(rows, least_pct)
    return {
        "before": before, "after": after, "least_pct": least_pct, "rows": rows,
        "only_before": _places(first.keys() - second.keys()),
        "only_after": _places(second.keys() - first.keys()),
    }  # fmt: skip


def got_slower(comparison: Mapping[str, Any]) -> list[Row]:
    """The rows that say so."""
    return [row for row in comparison["rows"] if row["verdict"] == SLOWER]


def _measured(con: "duckdb.DuckDBPyConnection", campaign: str) -> Group:
    rows = execute(con, "report/run_latencies", campaign=campaign).fetchall()
    columns = [name for name, *_ in con.description or ()]
    groups: Group = {}
    for values in rows:
        row = dict(zip(columns, values, strict=True))
        groups.setdefault(tuple(row[name] for name in KEY), []).append(row)
    if not groups:
        known = [name for (name,) in execute(con, "report/campaigns_here").fetchall()]
        there = f"; the warehouse has {', '.join(known[:10])}" if campaign not in known else ""
        raise LprismError(f"campaign {campaign} has no complete run with batches or requests{there}")
    return groups


def _places(keys: Iterable[tuple[str, ...]]) -> list[str]:
    """Where something was measured, without the metric, each once."""
    return sorted({" ".join(word for word in key[:-1] if word) for key in keys})


def _nothing_common(before: str, first: Group, after: str, second: Group) -> str:
    def shown(group: Group) -> str:
        return "; ".join(_places(group.keys())[:5])

    return (
        f"{before} and {after} have no host, engine, model and workload in common: "
        f"{before} has {shown(first)}, {after} has {shown(second)}"
    )


def _row(key: tuple[str, ...], before: Sequence[Row], after: Sequence[Row]) -> Row:
    first, second = ([math.log(row["value_ms"]) for row in side] for side in (before, after))
    mean_first, mean_second = (sum(side) / len(side) for side in (first, second))
    low, high, p_value = _tested(first, second)
    return {
        **dict(zip(KEY, key, strict=True)),
        "before_version": _versions(before), "after_version": _versions(after),
        "before_runs": len(first), "after_runs": len(second),
        "before_ms": math.exp(mean_first), "after_ms": math.exp(mean_second),
        "ratio": math.exp(mean_second - mean_first), "ratio_low": low, "ratio_high": high,
        "p_value": p_value, "p_corrected": None, "verdict": UNTESTED,
    }  # fmt: skip


def _versions(side: Sequence[Row]) -> str:
    return ", ".join(sorted({row["engine_version"] for row in side}))


def _tested(
    first: Sequence[float], second: Sequence[float]
) -> tuple[float | None, float | None, float | None]:
    """The ratio's 95 % interval and p, of logs; None where there are too few runs."""
    from scipy import stats

    if min(len(first), len(second)) < LEAST_RUNS:
        return None, None, None
    if len({*first}) == len({*second}) == 1:  # without any spread every difference is one
        ratio = math.exp(second[0] - first[0])
        return ratio, ratio, float(first[0] == second[0])
    test = stats.ttest_ind(second, first, equal_var=False)
    interval = test.confidence_interval(1 - ALPHA)
    return math.exp(interval.low), math.exp(interval.high), float(test.pvalue)


def _judge(rows: Sequence[Row], least_pct: float) -> None:
    """Correct the p values for their number, and give each tested row its verdict."""
    from scipy import stats

    tested = [row for row in rows if row["p_value"] is not None]
    if not tested:
        return
    corrected = stats.false_discovery_control([row["p_value"] for row in tested])
    for row, p_corrected in zip(tested, corrected, strict=True):
        row["p_corrected"] = float(p_corrected)
        row["verdict"] = _verdict(row["ratio"], float(p_corrected), 1 + least_pct / 100)


def _verdict(ratio: float, p_corrected: float, least: float) -> str:
    if p_corrected >= ALPHA or 1 / least < ratio < least:
        return SAME
    return SLOWER if ratio > 1 else FASTER
