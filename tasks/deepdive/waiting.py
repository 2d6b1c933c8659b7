"""Functions that wait for others rather than work: their time tells of these, not of their own device.

A collective on the rank that comes first spins until the last one comes. It is told by what it does and by no
name: called equally often on every rank, it takes many times as long on one as on another, against the other
functions of these ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

COMMUNICATION = "gpu_comm"
SYNCHRONISATION = "cpu_sync"
FACTOR = 5.0
"""So many times longer than the other functions explain: a slow clock or memory bus reaches fewer."""
EQUALLY_OFTEN = 1.25
LEAST_FUNCTIONS = 3
LEAST_PROCESSES = 2
PROCESS = ["hostname", "pid"]


def waiting_on_a_rank(usage: pd.DataFrame) -> set[str]:
    """Names of GPU functions that wait on one of a side's processes; takes its rows of side_usage.sql."""
    import pandas as pd

    work = usage[usage["device"].str.startswith("GPU", na=False)]
    work = work.drop_duplicates([*PROCESS, "cycle_index", "function_name", "device"])
    call_ns, calls = (
        values.groupby(["function_name", *PROCESS], dropna=False).median().unstack(PROCESS).dropna()  # noqa: PD010 - two levels to columns at once
        for values in _by_call(work)
    )
    if call_ns.shape[1] < LEAST_PROCESSES or len(call_ns) < LEAST_FUNCTIONS:
        return set()
    logs = pd.DataFrame(np.log(call_ns))
    apart = logs.sub(logs.median(axis=1), axis=0)
    apart -= apart.median()
    is_long = apart.max(axis=1) - apart.min(axis=1) > np.log(FACTOR)
    return set(call_ns.index[is_long & (calls.max(axis=1) <= EQUALLY_OFTEN * calls.min(axis=1))])


def _by_call(work: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[float]]:
    keyed = work.set_index(["function_name", *PROCESS])
    return keyed["duration_ns"] / keyed["instances"], keyed["instances"].astype("float64")


def is_waiting(rows: pd.DataFrame, named: set[str]) -> pd.Series[bool]:
    """Of rows of a comparison: what synchronises, what waits on a rank, communication unlike all else.

    `named` are the functions of waiting_on_a_rank, of either side.
    """
    work = rows["device"].str.startswith("GPU", na=False) & (rows["function_class"] != COMMUNICATION)
    logs = np.log(rows["slowdown"])
    usual = rows["device"].map(logs[work].groupby(rows["device"]).median()).fillna(0.0)
    is_odd = (logs - usual).abs() > np.log(FACTOR)
    waits: pd.Series[bool] = (
        (rows["function_class"] == SYNCHRONISATION)
        | rows["function_name"].isin(named)
        | ((rows["function_class"] == COMMUNICATION) & is_odd)
    )
    return waits
