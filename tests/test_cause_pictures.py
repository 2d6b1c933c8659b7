"""The pictures beside named causes: made-up counters and comparisons in; what is drawn, and of what, out."""

from collections.abc import Iterator

import duckdb
import pytest

from tasks.deepdive.signatures import CAUSES, COUNTERS
from tasks.pages.causes import MOST_PICTURES, counter_pictures, telling_counters, time_pictures
from tasks.pages.charts import call_chart, counter_chart, time_chart
from tasks.pages.report import Section, asked, page_of
from tasks.warehouse import create_table, make_views, memory_connection, sql_names
from tests.test_report import HOSTILE, Elements

SECOND = 1_000_000_000


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """One run of 10 s; its larger incident from 4 to 6 s; the counter rises there, on cpu1 alone."""
    with memory_connection() as con:
        for table in sql_names("tables"):
            create_table(con, table)
        make_views(con)
        con.execute(
            "INSERT INTO runs BY NAME SELECT 'r1' AS run_id, 'c' AS campaign, 'cpu_quota' AS scenario, "
            "'complete' AS status, 1 AS run_order, 0 AS recording_start_ns, 3000000000 AS fault_apply_ns, "
            "7000000000 AS fault_end_ns"
        )
        con.execute("INSERT INTO campaigns BY NAME SELECT 'c' AS campaign, 1 AS runs_planned")
        con.executemany(
            "INSERT INTO incidents BY NAME SELECT 'r1' AS run_id, ? AS incident_index, ? AS start_ns, ? AS "
            "end_ns, ? AS excess_ms",
            [(0, SECOND, 2 * SECOND, 1.0), (1, 4 * SECOND, 6 * SECOND, 9.0)],
        )
        con.executemany(
            "INSERT INTO counters BY NAME SELECT 'r1' AS run_id, CAST(? AS BIGINT) * 1000000000 AS start_ns, "
            "1000000000 AS duration_ns, 'x' AS counter_name, ? AS device, ? AS value, '%' AS unit, 0 AS "
            "sample_index",
            [(s, "cpu0", 50.0 + s % 2) for s in range(10)]
            + [(s, "cpu1", 90.0 if s in (4, 5) else 10.0) for s in range(10)],
        )
        yield con


def test_the_counter_is_shown_where_it_moved_and_in_the_larger_incident(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """Of two CPUs the one whose median moved; of two incidents the one with more excess."""
    rows = asked(con, "cause_counters", run_id="r1", counter_name="x").rows
    assert [row["value"] for row in rows] == [10, 10, 10, 10, 90, 90, 10, 10, 10, 10]
    assert {row["device"] for row in rows} == {"cpu1"}
    assert {(row["incident_start_s"], row["incident_end_s"]) for row in rows} == {(4.0, 6.0)}
    assert {(row["fault_apply_s"], row["fault_end_s"]) for row in rows} == {(3.0, 7.0)}
    assert "var(--shade)" in counter_chart(rows)


def moved(name: str, before: float, now: float, *, waits: bool = False) -> dict[str, object]:
    """A row of time_moved.sql."""
    return {
        "scenario": "s", "run_id": "r1", "pair_id": "p", "simple_name": name, "function_name": name,
        "device": "GPU 1", "matched_on": "forward_mode", "beta_normal_ms": before, "beta_abnormal_ms": now,
        "is_waiting": waits,
    }  # fmt: skip


def test_of_a_pair_the_ten_that_moved_most_stand_once(con: duckdb.DuckDBPyConnection) -> None:
    """A function has a row a counter in the comparison, and one here; what moved less is left out."""
    con.execute(
        "INSERT INTO rca_comparison BY NAME SELECT 'r1' AS run_id, 'p' AS pair_id, 'f' || i AS "
        "function_name, metric_name, 1.0 AS beta_normal_ms, 1.0 - i AS beta_abnormal_ms FROM "
        "RANGE(12) AS t (i), (VALUES ('a'), ('b')) AS m (metric_name)"
    )
    rows = asked(con, "time_moved", campaign="c").rows
    assert [row["function_name"] for row in rows] == [f"f{i}" for i in range(11, 1, -1)]


def test_calls_are_of_the_first_function_that_works() -> None:
    """What waits for others is drawn as such, and its calls say nothing."""
    rows = [moved("all_reduce", 1, 9, waits=True), moved("gemm", 2, 4)]
    asked_for: list[str] = []

    def ask(_name: str, **parameters: str) -> Section:
        asked_for.append(parameters["function_name"])
        times = [("baseline", 1.0), ("baseline", 2.0), ("fault", 3.0), ("fault", 4.0)]
        return Section([], [{"run_window": w, "call_us": us} for w, us in times], "q")

    found = time_pictures(ask, Section([], rows, "all"))
    assert asked_for == ["gemm"]
    assert [picture.query for picture in found] == ["all", "q"]
    assert "all_reduce · GPU 1 (waits)" in found[0].svg
    assert "2 baseline, 2 fault" in found[1].caption
    assert len(time_pictures(ask, Section([], rows[:1], "all"))) == 1


def test_calls_in_the_windows_are_decode_cycles_of_one_function(con: duckdb.DuckDBPyConnection) -> None:
    """Its time by its calls, once a cycle whatever counters go with it; no prefill, no other window."""
    cycles = [("baseline", "decode"), ("fault", "decode"), ("fault", "prefill"), (None, "decode")]
    for index, (window, mode) in enumerate(cycles):
        con.execute(
            "INSERT INTO cycles BY NAME SELECT 'r1' AS run_id, 1 AS pid, $1 AS cycle_index, $2 AS "
            "run_window, $3 AS forward_mode",
            [index, window, mode],
        )
        con.execute(
            "INSERT INTO function_usage BY NAME SELECT 'r1' AS run_id, 1 AS pid, $1 AS cycle_index, f AS "
            "function_name, 'Host' AS device, m AS metric_name, 6000 * ($1 + 1) + n AS duration_ns, 3 AS "
            "instances FROM (VALUES ('f', 0), ('g', 1)) AS t (f, n), (VALUES ('a'), ('b')) AS u (m)",
            [index],
        )
    rows = asked(con, "call_times", run_id="r1", function_name="f", device="Host").rows
    assert [(row["run_window"], row["call_us"]) for row in rows] == [("baseline", 2.0), ("fault", 4.0)]


def test_names_stay_text() -> None:
    """A function's, device's or unit's name is no element and no formula."""
    sample = dict.fromkeys(("incident_start_s", "incident_end_s"), 1.0) | {"start_s": 0.0, "value": 1.0}
    marks = dict.fromkeys(("fault_apply_s", "fault_end_s"))
    drawn = [time_chart([moved(HOSTILE, 1, 2)]), counter_chart([{**sample, **marks, "unit": HOSTILE}])]
    found = Elements()
    found.feed("".join(drawn))
    assert "script" not in found.names
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert all("&lt;script&gt;" in svg for svg in drawn)


def test_a_distribution_is_bounded_and_can_be_told_without_colour() -> None:
    """However many cycles; one line is dashed, and both have their names beside them."""
    svg = call_chart([float(n) for n in range(20_000)], [5.0, 6.0])
    assert len(svg) < 100_000
    assert "stroke-dasharray" in svg
    assert all(f">{name}<" in svg for name in ("baseline", "fault"))


def test_each_cause_has_its_telling_counter() -> None:
    """One that its signature requires; what no signature names is not drawn, and pictures are bounded."""
    telling = telling_counters()
    assert set(telling) <= CAUSES
    assert set(telling.values()) <= COUNTERS
    assert telling["cpu_quota"] == "process_cgroup_throttled"
    row = {"run_id": "r", "scenario": "s", "named_cause": "cpu_quota"}
    sample = dict.fromkeys(("incident_start_s", "incident_end_s", "start_s", "value"), 1.0) | {
        "fault_apply_s": None, "fault_end_s": None, "unit": "%", "device": "Host", "pid": None,
    }  # fmt: skip
    ask = lambda *_, **__: Section([], [sample], "q")  # noqa: E731 - one line says it
    assert len(counter_pictures(ask, [{**row, "named_cause": "none"}, *[row] * 20])) == MOST_PICTURES


def test_the_report_shows_them(con: duckdb.DuckDBPyConnection) -> None:
    """The page has the picture, and the query whose rows it draws."""
    con.execute(
        "INSERT INTO rca_diagnosis BY NAME SELECT 'r1' AS run_id, 1 AS incident_index, 1 AS rank, "
        "'cpu_quota' AS cause"
    )
    con.execute("INSERT INTO batch_scores BY NAME SELECT 'r1' AS run_id, 0 AS batch_index, 0 AS start_ns")
    con.execute("UPDATE counters SET counter_name = 'process_cgroup_throttled'")
    page = page_of(con, "c")
    assert "named cpu_quota by process_cgroup_throttled on cpu1" in page
    assert "median in the incident" not in page
    assert "ABS(MEDIAN(value)" in page
