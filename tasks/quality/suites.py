"""Judges a campaign before anything is learned from it: the checks of sql/checks, by Great Expectations.

Each check gives the rows that break its sentence. They are counted into one frame, a row per run and check,
and Great Expectations judges that frame: whole tables never leave DuckDB, and it cannot read DuckDB itself.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.settings import LprismError, pin_telemetry_off
from tasks.warehouse import execute, sql_names, told

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

SUITE = "campaign"
MOST_SUBJECTS = 10
ROW_COUNT = "every_run_was_judged_by_every_check"

Policy = Literal["fail", "warn"]


@dataclass(frozen=True)
class Check:
    """When it is broken, `fail` stops the pipeline and `warn` only tells; it `judges` these rows."""

    policy: Policy
    judges: Literal["runs", "files", "batches", "counters"]


CHECKS = {
    "batches_have_positive_duration": Check("fail", "batches"),
    "batches_of_one_process_do_not_overlap": Check("fail", "batches"),
    "clocks_agree_to_a_millisecond": Check("warn", "runs"),  # effects are held against what they differ by
    "complete_runs_have_batches_in_every_window": Check("fail", "runs"),
    "complete_runs_have_counters_at_their_rate": Check("warn", "runs"),  # a busy host samples late
    "counters_are_finite": Check("fail", "counters"),
    "faults_were_proved_and_undone": Check("fail", "runs"),
    "file_rows_add_up": Check("fail", "files"),
    "no_line_is_in_quarantine": Check("warn", "files"),  # a killed recorder leaves a torn last line
    "run_ids_are_unique": Check("fail", "runs"),
    "tokens_are_not_negative": Check("fail", "batches"),
    "window_marks_are_in_order": Check("fail", "runs"),
}


@dataclass(frozen=True)
class Result:
    """One row of `validation_results`."""

    campaign: str
    suite: str
    expectation: str
    subject: str
    success: bool
    policy: Policy
    observed: str
    expected: str
    checked_ns: int


@dataclass(frozen=True)
class ValidationOutcome:
    """What came of a suite; `success` is that every check of every policy holds."""

    campaign: str
    success: bool
    results: tuple[Result, ...]


def validate(home: Path, campaign: str) -> ValidationOutcome:
    """Run every check on a campaign's runs in the lake and write `validation_results`.

    Raises:
        LprismError: the campaign has no run in the lake.
    """
    import pandas as pd

    with lake_connection(home, campaign) as con, told("a check could not run"):
        frame = summary(con)
    if frame.empty:
        raise LprismError(f"campaign {campaign} has no run in the lake; run: lprism ingest BUNDLES")
    results = judge(frame, campaign)
    write_frame(home, "validation_results", campaign, "all", pd.DataFrame([asdict(one) for one in results]))
    return ValidationOutcome(campaign, all(one.success for one in results), results)


def raise_on_failure(outcome: ValidationOutcome) -> None:
    """Raise LprismError naming every broken check of policy `fail`, with its runs."""
    broken = [one for one in outcome.results if not one.success and one.policy == "fail"]
    if broken:
        told = "; ".join(f"{one.expectation}: {one.observed} ({one.subject})" for one in broken)
        raise LprismError(f"campaign {outcome.campaign} must not be learned from: {told}")


def summary(con: "duckdb.DuckDBPyConnection") -> "pd.DataFrame":
    """One row per run and check: run_id, check, offending (rows that break it), total (rows it looked at)."""
    import pandas as pd

    execute(con, "views/v_run_rows")
    rows = con.table("v_run_rows").df()
    totals = rows.pivot_table(index="run_id", columns="table_name", values="row_count", aggfunc="sum")
    parts = []
    for name in sql_names("checks"):
        offending = execute(con, f"checks/{name}").df()["run_id"].value_counts()
        total = totals[CHECKS[name].judges] if len(totals) else totals.sum(axis=1)
        part = pd.DataFrame({"total": total.astype("int64"), "check": name})
        parts.append(part.assign(offending=offending.reindex(part.index, fill_value=0)).reset_index())
    return pd.concat(parts, ignore_index=True)[["run_id", "check", "offending", "total"]]


def judge(frame: "pd.DataFrame", campaign: str) -> tuple[Result, ...]:
    """Hand a frame of `summary` to Great Expectations, one expectation a check and one for its rows."""
    runs, now = frame["run_id"].nunique(), time.time_ns()
    results = []
    for outcome in _outcomes(frame, runs * len(CHECKS)):
        name, found = outcome.expectation_config.meta["sentence"], outcome.result
        policy: Policy = "fail" if name == ROW_COUNT else CHECKS[name].policy
        if name == ROW_COUNT:
            subject, expected = "all", f"{runs * len(CHECKS)} rows"
            observed = f"{found['observed_value']} rows"
        else:
            rows = frame[frame["check"] == name]
            broken = [str(entry["run_id"]) for entry in found["unexpected_index_list"]]
            subject, expected = _subject(broken), "0 rows break it"
            observed = (
                f"{rows['offending'].sum()} of {rows['total'].sum()} {CHECKS[name].judges} in {runs} runs"
            )
        success = bool(outcome.success)
        results.append(Result(campaign, SUITE, name, subject, success, policy, observed, expected, now))
    return tuple(results)


def _subject(runs: list[str]) -> str:
    more = [f"and {len(runs) - MOST_SUBJECTS} more"] if len(runs) > MOST_SUBJECTS else []
    return ", ".join(runs[:MOST_SUBJECTS] + more) or "all"


def _outcomes(frame: "pd.DataFrame", rows: int) -> list[Any]:
    """What Great Expectations says of each expectation, in the order of the suite."""
    with _great_expectations() as gx:
        from great_expectations.expectations.row_conditions import Column

        context = gx.get_context(mode="ephemeral")  # a fresh one each time: it keeps every suite it has seen
        context.variables.progress_bars = {"globally": False}
        expect = gx.expectations
        # An empty or short frame would pass every other expectation.
        suite = gx.ExpectationSuite(SUITE)
        suite.add_expectation(expect.ExpectTableRowCountToEqual(value=rows, meta={"sentence": ROW_COUNT}))
        for name in CHECKS:
            suite.add_expectation(
                expect.ExpectColumnValuesToBeBetween(
                    column="offending", min_value=0, max_value=0, row_condition=Column("check") == name,
                    meta={"sentence": name},
                )
            )  # fmt: skip
        asset = context.data_sources.add_pandas(SUITE).add_dataframe_asset("summary")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch(
            {"dataframe": frame.reset_index(drop=True)}
        )
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
