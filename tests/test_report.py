"""The report of a campaign: what it says, what it cannot be made to do, and what it says is missing."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pytest

from tasks.pages.charts import control_chart
from tasks.pages.report import asked, dose_charts, page_of
from tasks.settings import LprismError
from tasks.warehouse import create_table, make_views, memory_connection, sql_names
from tests.look_at_report import LOOKS, pictures
from tests.look_at_ui import MISSING

HOSTILE = "<script>alert(1)</script>\u202e$x_{$" + "é" * 300 + "\" onload='x' </svg>{{ 7*7 }}"


class Elements(HTMLParser):
    """Names of all elements, and all attributes, of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one."""
        self.names.add(tag)
        self.attributes.update(attrs)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse without a row."""
    with memory_connection() as con:
        for table in sql_names("tables"):
            create_table(con, table)
        make_views(con)
        yield con


def add_run(con: duckdb.DuckDBPyConnection, campaign: str, scenario: str, status: str = "complete") -> None:
    """A campaign with one run, with two decode batches that were scored."""
    con.execute("INSERT INTO campaigns BY NAME SELECT $1 AS campaign, 1 AS runs_planned", [campaign])
    con.execute(
        "INSERT INTO runs BY NAME SELECT 'r1' AS run_id, $1 AS campaign, $2 AS scenario, $3 AS status, $2 AS "
        "reason, 'e' AS engine, $2 AS workload, 1 AS run_order, 0 AS recording_start_ns, 5 AS fault_apply_ns",
        [campaign, scenario, status],
    )
    con.execute(
        "INSERT INTO batches BY NAME SELECT 'r1' AS run_id, i AS batch_index, 'decode' AS forward_mode, "
        "'baseline' AS run_window, 1000000 AS interval_ns FROM RANGE(2) AS t (i)"
    )
    con.execute(
        "INSERT INTO batch_scores BY NAME SELECT 'r1' AS run_id, i AS batch_index, i AS start_ns, "
        "0.1 AS smoothed_residual, 0.2 AS limit_residual, FALSE AS alarm FROM RANGE(2) AS t (i)"
    )


def test_hostile_names_stay_text(con: duckdb.DuckDBPyConnection) -> None:
    """No name becomes an element, a handler, a formula or a template, and nothing is asked of a network."""
    add_run(con, HOSTILE, HOSTILE, "failed")
    page, found = page_of(con, HOSTILE), Elements()
    found.feed(page)
    assert "&lt;script&gt;" in page
    assert "svg" in found.names
    assert not found.names & {"script", "iframe", "object", "img", "form", "base"}
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    links = {value for name, value in found.attributes if name in {"href", "src", "xlink:href"} and value}
    assert {value for value in links if not value.startswith(("#", "data:"))} == set()


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_a_browser_shows_it_without_an_error_on_every_screen(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """Nothing on the console, and no name so long that a phone has to scroll sideways."""
    add_run(con, HOSTILE, HOSTILE, "failed")
    page = tmp_path / "report.html"
    page.write_text(page_of(con, HOSTILE), encoding="utf-8")
    assert pictures(page, tmp_path).keys() == LOOKS.keys()
    assert all((tmp_path / f"{look}.png").stat().st_size > 1000 for look in LOOKS)


def test_one_normal_run_says_what_cannot_be_said(con: duckdb.DuckDBPyConnection) -> None:
    """No fault, one run, no model, no diagnosis: each is told and the page stays whole."""
    add_run(con, "c", "normal")
    page = page_of(con, "c")
    assert "No complete run had a fault" in page
    assert "One run: nothing here can be said to repeat" in page
    assert "Nobody has diagnosed this campaign" in page
    assert page.rstrip().endswith("</html>")


def test_a_failed_cell_is_told_with_its_reason(con: duckdb.DuckDBPyConnection) -> None:
    """A campaign with failed cells does not pass for a whole one."""
    add_run(con, "c", "out of memory", "failed")
    assert "failed: <bdi>out of memory</bdi>" in page_of(con, "c")


def test_a_table_that_is_not_there_is_told(con: duckdb.DuckDBPyConnection) -> None:
    """A warehouse of an older version gives a report all the same."""
    add_run(con, "c", "normal")
    con.execute("DROP TABLE control_limits")
    assert "control_limits does not exist" in page_of(con, "c")


def test_a_campaign_without_any_run_says_so(con: duckdb.DuckDBPyConnection) -> None:
    """It was planned, and nothing came of it."""
    con.execute("INSERT INTO campaigns BY NAME SELECT 'c' AS campaign, 4 AS runs_planned")
    page = page_of(con, "c")
    assert "This campaign has no run in the warehouse." in page
    assert "4 runs planned" in page


def add_dose(con: duckdb.DuckDBPyConnection, number: int, strength: str, fault_ms: int) -> None:
    """A run under a fault of this strength, 10 ms a step before it; the first alarm comes at once."""
    run_id = f"d{number}"
    con.execute(
        "INSERT INTO runs BY NAME SELECT $1 AS run_id, 'c' AS campaign, 'cpu_quota' AS scenario, 'cpu_quota' "
        "AS anomaly, CAST($2 AS JSON) AS strength, 'complete' AS status, 'e' AS engine, 'w' AS workload, $3 "
        "AS run_order, 0 AS recording_start_ns, 5 AS fault_apply_ns, 9 AS fault_end_ns",
        [run_id, strength, number],
    )
    con.execute(
        "INSERT INTO batches BY NAME SELECT $1 AS run_id, i AS batch_index, i * 4 AS start_ns, 'decode' AS "
        "forward_mode, IF(i < 2, 'baseline', 'fault') AS run_window, IF(i < 2, 10, $2) * 1000000 AS "
        "interval_ns FROM RANGE(4) AS t (i)",
        [run_id, fault_ms],
    )
    con.execute(
        "INSERT INTO batch_scores BY NAME SELECT $1 AS run_id, 2 AS batch_index, 8 AS start_ns, 1 AS "
        "actual_ns, 0.1 AS smoothed_residual, 0.2 AS limit_residual, $2 > 15 AS alarm",
        [run_id, fault_ms],
    )


def test_response_is_shown_by_dose(con: duckdb.DuckDBPyConnection) -> None:
    """Each strength with its runs' slowdowns, and a picture where strengths differ in one number."""
    con.execute("INSERT INTO campaigns BY NAME SELECT 'c' AS campaign")
    for number, (pct, ms) in enumerate([(30, 40), (30, 42), (60, 12)]):
        add_dose(con, number, f'{{"quota_pct": {pct}, "cores": 2}}', ms)
    rows = asked(con, "doses", campaign="c").rows
    assert [(row["runs"], row["found"], row["slowdown_low"], row["slowdown_high"]) for row in rows] == [
        (1, 0, 1.2, 1.2), (2, 2, 4.0, 4.2),
    ]  # fmt: skip
    ((_, workload, scenario, picture),) = dose_charts(rows)
    assert (workload, scenario) == ("w", "cpu_quota")
    assert "quota_pct" in picture
    assert picture in page_of(con, "c")


@pytest.mark.parametrize(
    "strengths",
    [
        ['{"gb": 2}'],
        ["{}", '{"gb": 2}'],
        ['{"gb": 2}', '{"gb": "lots"}'],
        ['{"a": 1, "b": 1}', '{"a": 2, "b": 2}'],
    ],
    ids=["one", "unsaid", "no number", "two"],
)
def test_strengths_without_an_axis_are_a_table_alone(
    con: duckdb.DuckDBPyConnection, strengths: list[str]
) -> None:
    """Nothing is drawn over what is no number, or over two at once; the table is there."""
    con.execute("INSERT INTO campaigns BY NAME SELECT 'c' AS campaign")
    for number, strength in enumerate(strengths):
        add_dose(con, number, strength, 20)
    assert dose_charts(asked(con, "doses", campaign="c").rows) == []
    assert "nothing to draw" in page_of(con, "c")


def test_a_hostile_strength_stays_text(con: duckdb.DuckDBPyConnection) -> None:
    """The parameter's name is the axis of a picture: it is no element and no formula there either."""
    con.execute("INSERT INTO campaigns BY NAME SELECT 'c' AS campaign")
    for number in (1, 2):
        add_dose(con, number, json.dumps({HOSTILE[:31]: number}), 20)
    page, found = page_of(con, "c"), Elements()
    found.feed(page)
    assert "script" not in found.names
    assert len(dose_charts(asked(con, "doses", campaign="c").rows)) == 1


def test_the_evaluation_is_shown_with_its_intervals(con: duckdb.DuckDBPyConnection) -> None:
    """Where the limits were evaluated the page has the figures; else it says that nobody did."""
    add_run(con, "c", "normal")
    assert "Nobody has evaluated the limits" in page_of(con, "c")
    con.execute(
        "INSERT INTO detection_metrics BY NAME SELECT 'c' AS campaign, 'held out' AS evaluation, "
        "0.917 AS detection_ratio, 0.777 AS detection_low_ratio, 0.98765 AS detection_high_ratio"
    )
    assert all(f"<bdi>{shown}</bdi>" in page_of(con, "c") for shown in ("0.917", "0.777", "0.988"))


def test_a_chart_is_bounded_however_long_the_alarm() -> None:
    """An hour of alarms is drawn with as many points as a chart has pixels."""
    marks = dict.fromkeys(
        (
            "fault_apply_s",
            "fault_end_s",
            "baseline_start_s",
            "baseline_end_s",
            "recovery_start_s",
            "recovery_end_s",
        )
    )
    rows = [
        {"start_s": s, "smoothed_residual": 0.3, "limit_residual": 0.2, "alarm": s > 9} for s in range(20_000)
    ]
    assert len(control_chart(rows, marks)) < 100_000
    assert "scatter" in control_chart(rows[:11], marks) or "<use" in control_chart(rows[:11], marks)


def test_500_runs_are_a_file_that_can_be_sent(con: duckdb.DuckDBPyConnection) -> None:
    """At most 10 MB: charts are bounded in number and in points, tables in rows, and what is cut is told."""
    con.execute("INSERT INTO campaigns BY NAME SELECT 'c' AS campaign, 500 AS runs_planned")
    con.execute(
        "INSERT INTO runs BY NAME SELECT 'r' || i AS run_id, 'c' AS campaign, 'cpu_quota' AS scenario, "
        "'cpu_quota' AS anomaly, 'complete' AS status, 'e' AS engine, 'w' AS workload, i AS run_order, "
        "0 AS recording_start_ns, 5000000000 AS fault_apply_ns, 9000000000 AS fault_end_ns "
        "FROM RANGE(500) AS t (i)"
    )
    con.execute(
        "INSERT INTO batches BY NAME SELECT run_id, i AS batch_index, i * 10000000 AS start_ns, 'decode' AS "
        "forward_mode, 'fault' AS run_window, 10000000 AS interval_ns FROM runs, RANGE(200) AS t (i)"
    )
    con.execute(
        "INSERT INTO batch_scores BY NAME SELECT run_id, batch_index, start_ns, 0.1 * RANDOM() AS "
        "smoothed_residual, 0.2 AS limit_residual, batch_index % 10 = 0 AS alarm FROM batches"
    )
    con.execute(
        "INSERT INTO rca_diagnosis BY NAME SELECT run_id, 1 AS incident_index, rank, 'cpu_quota' AS cause, "
        "REPEAT('evidence ', 100) AS evidence FROM runs, RANGE(1, 4) AS t (rank)"
    )
    con.execute(
        "INSERT INTO files BY NAME SELECT run_id, 'c' AS campaign, 'file' || i AS name, "
        "REPEAT('0', 64) AS sha256 FROM runs, RANGE(8) AS t (i)"
    )
    page = page_of(con, "c")
    assert len(page.encode()) <= 10_000_000
    assert "460 more watched runs are not drawn" in page
    assert "The first 600 of 4000 rows" in page


def test_an_unknown_campaign_is_an_error_that_names_the_known(con: duckdb.DuckDBPyConnection) -> None:
    """A misspelt name is no empty report."""
    add_run(con, "nightly", "normal")
    with pytest.raises(LprismError, match="no campaign night in the warehouse; it has nightly"):
        page_of(con, "night")


def test_the_query_beside_a_figure_gives_its_rows(con: duckdb.DuckDBPyConnection) -> None:
    """What is shown is what was asked, a quote in the campaign's name and all."""
    add_run(con, "it's", "normal")
    shown = asked(con, "verdicts", campaign="it's")
    assert [
        dict(zip(shown.columns, row, strict=True)) for row in con.execute(shown.query).fetchall()
    ] == shown.rows
    assert len(shown.rows) == 1
