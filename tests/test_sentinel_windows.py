"""Windows of ten batches, and detection_metrics of cases that can be counted by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks.sentinel.metrics import Judged, run_rows
from tasks.sentinel.windows import any_of_ten, violations

MS = 1_000_000


def flags(text: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """`!` is an alarm."""
    return np.array([one == "!" for one in text], dtype=bool)


def judged(under: str, outside: str, **changes: Any) -> Judged:  # noqa: ANN401 - any of its fields
    """A session of a fault with these alarms."""
    one = Judged(
        "calibrated", "r1", "cpu_quota", '{"quota_pct": 30}', injected=True, hours=0.5, incidents=0,
        lag=(3, 80.0), slowdown=1.0, mean_slowdown=1.5, level=0.0, under_fault=flags(under),
        outside=flags(outside), tens_under_fault=any_of_ten(flags(under)),
        tens_outside=any_of_ten(flags(outside)), slo_leads=None,
    )  # fmt: skip
    return replace(one, **changes)


def test_a_window_of_ten_alarms_where_any_of_it_does() -> None:
    """Batches 0-9 have one alarm, 10-19 none, and five are no window."""
    assert any_of_ten(flags("....!....." + ".........." + "!!!!!")).tolist() == [True, False]
    assert any_of_ten(flags("!!!!")).tolist() == []


def test_f1_by_ten_is_beside_f1_by_batch() -> None:
    """Half of the batches under a quota alarm, in each ten: 2*10/(2*10+10+1) by batch, 2*2/(2*2+1) by ten."""
    (row,) = run_rows([judged("!." * 10, "!" + "." * 19)])
    assert row["f1_ratio"] == pytest.approx(20 / 31)
    assert row["f1_of_ten_ratio"] == pytest.approx(4 / 5)
    assert (row["f1_of_ten_low_ratio"], row["f1_of_ten_high_ratio"]) == (row["f1_of_ten_ratio"],) * 2
    assert (row["slowdown"], row["mean_slowdown"]) == (1.0, 1.5)


def test_an_objective_that_is_broken_was_foreseen_or_not() -> None:
    """Tens of 10, 30, 30, 10 and 30 ms against 20 ms break it twice; a step that gives no token counts not.

    The first is told at the end of batch 19 (400 ms) and alarmed at the end of batch 12 (190 ms).
    """
    step_ms = np.repeat([10.0, 30.0, 30.0, 10.0, 30.0], 10)
    ends_ns = (np.cumsum(step_ms) * MS).astype(np.int64)
    step_ms[0] = np.nan
    alarm = np.zeros(50, dtype=bool)
    alarm[[12, 15, 49]] = True  # the last is the one at whose end it is known: too late
    assert violations(step_ms, ends_ns, alarm, 20.0) == [400.0 - 190.0, None]
    alarm[[29, 30]] = [True, False]  # before the ten before
    assert violations(step_ms, ends_ns, alarm, 20.0) == [210.0, None]
    alarm[30] = True
    assert violations(step_ms, ends_ns, alarm, 20.0) == [210.0, 1100.0 - 710.0]
    assert violations(step_ms, ends_ns, alarm, 40.0) == []


def test_what_was_foreseen_is_counted_over_runs() -> None:
    """Three violations of two runs, two foreseen 210 and 390 ms before; no objective, no count."""
    alarms = "." * 20
    rows = [judged(alarms, alarms, slo_leads=leads) for leads in ((210.0, None), (390.0,), None)]
    (row,) = run_rows(rows)
    assert (row["slo_violations"], row["slo_foreseen_ratio"], row["slo_lead_ms"]) == (3, 2 / 3, 300.0)
    (none,) = run_rows([judged(alarms, alarms)])
    assert (none["slo_violations"], none["slo_foreseen_ratio"]) == (None, None)


def test_false_incidents_have_the_exact_interval_of_a_count() -> None:
    """Two in two hours: 0.242 to 7.225 in tables of the count's interval; none: 0 to 3.689."""
    quiet = judged("", "." * 20, scenario="normal", injected=False, hours=1.0, incidents=1)
    (row,) = run_rows([quiet, quiet])
    ends = [row[f"false_incidents_an_hour{end}"] for end in ("_low", "", "_high")]
    assert ends == pytest.approx([0.2422 / 2, 1.0, 7.2247 / 2], abs=1e-3)
    (none,) = run_rows([replace(quiet, incidents=0), replace(quiet, incidents=0)])
    assert none["false_incidents_an_hour_low"] == 0.0
    assert none["false_incidents_an_hour_high"] == pytest.approx(3.6889 / 2, abs=1e-3)
