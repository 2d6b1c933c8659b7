"""The report of a campaign: what it says, what it cannot be made to do, and what it says is missing."""

from collections.abc import Iterator
from html.parser import HTMLParser

import duckdb
import pytest

from tasks.pages.report import asked, page_of
from tasks.settings import LprismError
from tasks.warehouse import create_table, make_views, memory_connection, sql_names

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
