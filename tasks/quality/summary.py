"""Runs the checks of sql/checks and counts what they find: one frame, a row per run and check of its suite.

Nothing else leaves DuckDB: a check gives the rows that break it, and of these a few per run are kept as JSON.
The batches to be left out are found here too, in SQL.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.quality.checks import CHECKS, SUITES, Suite, of_suite
from tasks.warehouse import execute, relation

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

SAMPLE_ROWS = 3
QUARANTINE = "quarantine"


@dataclass(frozen=True)
class Summary:
    """What the checks found.

    `frame` has suite, run_id, expectation, offending and total (rows), min_value and max_value (of what the
    check is about, over the offending rows) and sample (JSON). `runs` is the number of runs of each suite
    that has any, counted apart. `excluded` holds the rows of `excluded_batches`.
    """

    frame: "pd.DataFrame"
    runs: dict[Suite, int]
    excluded: "pd.DataFrame"

    @property
    def rows(self) -> int:
        """How many rows the frame must have; never none, for an empty frame would pass everything."""
        return max(1, sum(runs * len(of_suite(suite)) for suite, runs in self.runs.items()))


def summarize(con: "duckdb.DuckDBPyConnection") -> Summary:
    """Run every check on what the connection shows, once."""
    import pandas as pd

    execute(con, "views/v_run_rows")
    execute(con, "quality/broken_runs")
    con.from_df(_expectations()).create_view("expectations")
    excluded = [_run_check(con, name) for name in CHECKS]
    frame = execute(con, "quality/summary").df()
    runs = dict(execute(con, "quality/suite_runs").fetchall())
    return Summary(frame, runs, pd.concat(excluded, ignore_index=True))


def _run_check(con: "duckdb.DuckDBPyConnection", name: str) -> "pd.DataFrame":
    """Count the rows that break a check into broken_runs; returns the batches that it leaves out."""
    import duckdb

    value = CHECKS[name].value
    column = duckdb.ColumnExpression(value) if value else duckdb.ConstantExpression(None)
    rows = relation(con, f"checks/{name}")
    rows.select(duckdb.StarExpression(), column.cast("DOUBLE").alias("checked_value")).create_view(
        "offending"
    )
    execute(con, "quality/offending_by_run", expectation=name, few=SAMPLE_ROWS)
    if QUARANTINE not in {CHECKS[name].campaign, CHECKS[name].recording}:
        return _no_batches()
    return execute(con, "quality/excluded_batches", expectation=name).df()


def _no_batches() -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({"run_id": [], "batch_index": [], "expectation": []}).astype(
        {"run_id": "str", "batch_index": "int64", "expectation": "str"}
    )


def _expectations() -> "pd.DataFrame":
    """The checks by suite: suite, expectation, policy, table_name."""
    import pandas as pd

    rows = [
        (suite, name, policy, CHECKS[name].judges)
        for suite in SUITES
        for name, policy in of_suite(suite).items()
    ]
    return pd.DataFrame(rows, columns=["suite", "expectation", "policy", "table_name"])
