"""The published statistics of a normal and an abnormal usage table (formats.md 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

KEYS = ["function_name", "metric_name", "device"]
STATISTICS = (
    "suspicion_score",
    "beta_normal_pct",
    "beta_abnormal_pct",
    "beta_difference_pct",
    "beta_z_score",
    "beta_welch_p",
    "beta_u_test_p",
    "mu_normal_pct",
    "mu_abnormal_pct",
    "mu_difference_pct",
    "mu_z_score",
    "log_mu_z_score",
    "mu_welch_p",
    "mu_u_test_p",
)
LEAST_STD = 1e-9
LEAST_CYCLES = 2
# Up to here scipy takes the exact distribution of the Mann-Whitney test, where no two values are equal.
LARGEST_EXACT = 8


def compare(normal: pd.DataFrame, abnormal: pd.DataFrame) -> pd.DataFrame:
    """Compare the rows of one process a side, by function, counter and device; columns: STATISTICS.

    Takes cycle_index, beta_pct and mu_pct beside the keys. A side that a key is absent from counts as 0.
    """
    sides = [_moments(rows) for rows in (normal, abnormal)]
    keys = sides[0].index.union(sides[1].index)
    before, now = (side.reindex(keys, fill_value=0.0) for side in sides)
    tested = ((before["cycles"] >= LEAST_CYCLES) & (now["cycles"] >= LEAST_CYCLES)).to_numpy()
    found: dict[str, Any] = {"log_mu_z_score": _z_score(before, now, "log_mu")}
    for name in ("beta", "mu"):
        first, second = before[f"{name}_mean"].to_numpy(), now[f"{name}_mean"].to_numpy()
        found |= {f"{name}_normal_pct": first, f"{name}_abnormal_pct": second}
        found |= {f"{name}_difference_pct": second - first, f"{name}_z_score": _z_score(before, now, name)}
        found[f"{name}_welch_p"] = np.where(tested, _welch(before, now, name), 1.0)
        found[f"{name}_u_test_p"] = _u_tests(normal, abnormal, f"{name}_pct", keys[tested], keys)
    return _by_score(found, keys)


def _z_score(before: pd.DataFrame, now: pd.DataFrame, name: str) -> Floats:
    spread = before[f"{name}_std"].where(before[f"{name}_std"] > LEAST_STD, np.inf)
    moved = (now[f"{name}_mean"] - before[f"{name}_mean"]) / spread
    return moved.to_numpy(dtype=np.float64)


def _welch(before: pd.DataFrame, now: pd.DataFrame, name: str) -> Floats:
    """Welch's p of each row, NaN where both sides are constant and equal; it means nothing of one cycle."""
    from scipy.stats import ttest_ind_from_stats

    sides = [
        [side[f"{name}_{part}"].to_numpy() for part in ("mean", "std")]
        + [side["cycles"].clip(lower=LEAST_CYCLES).to_numpy()]
        for side in (before, now)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        test = ttest_ind_from_stats(*sides[0], *sides[1], equal_var=False)
    return np.asarray(test.pvalue, dtype=np.float64)


def _by_score(found: dict[str, Any], keys: pd.Index[Any]) -> pd.DataFrame:
    import pandas as pd

    rows = pd.DataFrame(found, index=keys)
    moved = rows["beta_z_score"].abs() + rows["log_mu_z_score"].abs()
    rows["suspicion_score"] = rows["beta_difference_pct"].abs() * moved
    rows = rows.reset_index().sort_values(["suspicion_score", *KEYS], ascending=[False, True, True, True])
    return rows[[*KEYS, *STATISTICS]].reset_index(drop=True)


def _moments(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation of beta, mu, log(1 + mu), and the number of cycles, of each key."""
    values = rows.assign(beta=rows["beta_pct"], mu=rows["mu_pct"], log_mu=np.log1p(rows["mu_pct"]))
    groups = values.groupby(KEYS)
    found = groups[["beta", "mu", "log_mu"]].agg(["mean", "std", "min", "max"])
    found.columns = found.columns.map("_".join)
    for name in ("beta", "mu", "log_mu"):
        # Equal values have no spread; their sum of squares may leave a little.
        is_constant = found[f"{name}_max"] == found[f"{name}_min"]
        found[f"{name}_std"] = found[f"{name}_std"].mask(is_constant, 0.0)
    return found.assign(cycles=groups["cycle_index"].nunique())


def _u_tests(
    normal: pd.DataFrame, abnormal: pd.DataFrame, column: str, tested: pd.Index[Any], keys: pd.Index[Any]
) -> Floats:
    """Two-sided Mann-Whitney p of each of `keys`, 1 for those not in `tested`; one call for equal sizes."""
    import pandas as pd

    sides = [rows.groupby(KEYS)[column].agg(np.array).reindex(tested) for rows in (normal, abnormal)]
    p_values = pd.Series(1.0, index=keys)
    alike: dict[tuple[int, int, bool], list[int]] = {}
    for place, (before, now) in enumerate(zip(*sides, strict=True)):
        alike.setdefault((len(before), len(now), _is_exact(before, now)), []).append(place)
    for (_, _, exact), places in alike.items():
        before, now = (np.stack(side.iloc[places].to_list()) for side in sides)
        p_values[tested[places]] = _u_test(before, now, is_exact=exact)
    return np.asarray(p_values, dtype=np.float64)


def _is_exact(before: Floats, now: Floats) -> bool:
    both = np.concatenate((before, now))
    return min(len(before), len(now)) <= LARGEST_EXACT and len(np.unique(both)) == len(both)


def _u_test(before: Floats, now: Floats, *, is_exact: bool) -> Floats:
    from scipy.stats import mannwhitneyu

    with np.errstate(divide="ignore", invalid="ignore"):
        test = mannwhitneyu(before, now, axis=1, method="exact" if is_exact else "asymptotic")
    return np.asarray(test.pvalue, dtype=np.float64)
