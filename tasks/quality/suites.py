"""Judges a campaign before anything is learned from it: the checks of sql/checks, by Great Expectations.

It cannot read DuckDB, and whole tables must not leave that: the frame of tasks/quality/summary.py is judged.
"""

import json
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.quality.checks import CHECKS, Policy, Suite, of_suite
from tasks.quality.summary import SAMPLE_ROWS, Summary, summarize
from tasks.settings import LprismError, pin_telemetry_off
from tasks.warehouse import told

if TYPE_CHECKING:
    import pandas as pd

MOST_SUBJECTS = 10
LONGEST_TEXT = 200  # of a sample: what others recorded may be of any length
ROW_COUNT = "every_run_was_judged_by_every_check"


@dataclass(frozen=True)
class Result:
    """One row of `validation_results`."""

    campaign: str
    suite: Suite | Literal["summary"]
    expectation: str
    subject: str
    success: bool
    policy: Policy
    observed: str
    expected: str
    offending: int
    total: int
    min_value: float | None
    max_value: float | None
    sample: str | None
    checked_ns: int


@dataclass(frozen=True)
class ValidationOutcome:
    """What came of the suites; `success` is that every check of every policy holds."""

    campaign: str
    success: bool
    results: tuple[Result, ...]


def validate(home: Path, campaign: str) -> ValidationOutcome:
    """Run every check on a campaign's runs in the lake; write `excluded_batches` and `validation_results`.

    Raises:
        LprismError: the campaign has no run in the lake.
    """
    import pandas as pd

    with lake_connection(home, campaign) as con, told("a check could not run"):
        found = summarize(con)
    if not found.runs:
        raise LprismError(f"campaign {campaign} has no run in the lake; run: lprism ingest PATH")
    results = judge(found, campaign)
    write_frame(home, "excluded_batches", campaign, "all", found.excluded)
    write_frame(home, "validation_results", campaign, "all", pd.DataFrame([asdict(one) for one in results]))
    return ValidationOutcome(campaign, all(one.success for one in results), results)


def raise_on_failure(outcome: ValidationOutcome) -> None:
    """Raise LprismError naming every broken check of policy `fail`, with its runs."""
    broken = [one for one in outcome.results if not one.success and one.policy == "fail"]
    if broken:
        told = "; ".join(f"{one.expectation}: {one.observed} ({one.subject})" for one in broken)
        raise LprismError(f"campaign {outcome.campaign} must not be learned from: {told}")


def judge(found: Summary, campaign: str) -> tuple[Result, ...]:
    """Hand the frame to Great Expectations: one expectation for its rows, and one a check of each suite."""
    now = time.time_ns()
    first, *others = _outcomes(found)
    results = [_of_rows(first, found, campaign, now)]
    for outcome in others:
        meta = outcome.expectation_config.meta
        frame = found.frame
        rows = frame[(frame["suite"] == meta["suite"]) & (frame["expectation"] == meta["check"])]
        results.append(_of_check(outcome, rows, campaign, now))
    return tuple(results)


def _of_rows(outcome: Any, found: Summary, campaign: str, now: int) -> Result:  # noqa: ANN401 - a type of Great Expectations
    there = int(outcome.result["observed_value"])
    return Result(
        campaign, "summary", ROW_COUNT, "all", bool(outcome.success), "fail", f"{there} rows",
        f"{found.rows} rows", abs(there - found.rows), there, None, None, None, now,
    )  # fmt: skip


def _of_check(outcome: Any, rows: "pd.DataFrame", campaign: str, now: int) -> Result:  # noqa: ANN401 - the same
    """The row of a check; `rows` are its own in the frame."""
    suite, name = outcome.expectation_config.meta["suite"], outcome.expectation_config.meta["check"]
    broken = [str(entry["run_id"]) for entry in outcome.result["unexpected_index_list"]]
    low, high = (
        None if math.isnan(one) else float(one) for one in (rows["min_value"].min(), rows["max_value"].max())
    )
    return Result(
        campaign, suite, name, _subject(broken), bool(outcome.success), of_suite(suite)[name],
        _observed(name, rows, low, high), "0 rows break it", int(rows["offending"].sum()),
        int(rows["total"].sum()), low, high, _sample(rows), now,
    )  # fmt: skip


def _observed(name: str, rows: "pd.DataFrame", low: float | None, high: float | None) -> str:
    total, offending, table = int(rows["total"].sum()), int(rows["offending"].sum()), CHECKS[name].judges
    where = f"{table} in {len(rows)} run{'s' if len(rows) > 1 else ''}"
    spread = f", {CHECKS[name].value} {low:g} to {high:g}" if low is not None and high is not None else ""
    return f"{offending} of {total} {where}{spread}" if total or offending else f"no {where}"


def _subject(runs: list[str]) -> str:
    more = [f"and {len(runs) - MOST_SUBJECTS} more"] if len(runs) > MOST_SUBJECTS else []
    return ", ".join(runs[:MOST_SUBJECTS] + more) or "all"


def _sample(rows: "pd.DataFrame") -> str | None:
    """The first few offending rows of the runs together, each with its run."""
    found = rows.dropna(subset=["sample"])
    samples = (
        [{"run_id": run, **row} for row in json.loads(text)]
        for run, text in zip(found["run_id"], found["sample"], strict=True)
    )
    few = [
        {name: _short(value) for name, value in row.items()}
        for row in islice(chain.from_iterable(samples), SAMPLE_ROWS)
    ]
    return json.dumps(few) if few else None


def _short(value: object) -> object:
    """A value that is valid JSON and not long."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value[:LONGEST_TEXT] if isinstance(value, str) else value


def _outcomes(found: Summary) -> list[Any]:
    """What Great Expectations says of each expectation, in the order of the suites."""
    with _great_expectations() as gx:
        from great_expectations.expectations.row_conditions import Column

        context = gx.get_context(mode="ephemeral")  # a fresh one each time: it keeps every suite it has seen
        context.variables.progress_bars = {"globally": False}
        expect = gx.expectations
        # An empty or short frame would pass every other expectation.
        suite = gx.ExpectationSuite("validation")
        suite.add_expectation(expect.ExpectTableRowCountToEqual(value=found.rows))
        for name, check in ((one, check) for one in found.runs for check in of_suite(one)):
            suite.add_expectation(
                expect.ExpectColumnValuesToBeBetween(
                    column="offending", min_value=0, max_value=0,
                    row_condition=(Column("suite") == name) & (Column("expectation") == check),
                    meta={"suite": name, "check": check},
                )
            )  # fmt: skip
        asset = context.data_sources.add_pandas("summary").add_dataframe_asset("summary")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": found.frame})
        told = {"result_format": "COMPLETE", "unexpected_index_column_names": ["run_id"]}
        return list(batch.validate(suite, result_format=told).results)


@contextmanager
def _great_expectations() -> Iterator[Any]:
    """The library, imported here alone: it takes seconds and 270 MB."""
    pin_telemetry_off()
    with warnings.catch_warnings():
        # It imports modules that Python and its own dependencies have deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations as gx

        yield gx
