"""Campaign against campaign: what is called slower, what is not, and what cannot be said."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tasks.campaign_comparison import compared, got_slower
from tasks.lake import write_frame
from tasks.lake_tables import publish
from tasks.settings import LprismError
from tasks.warehouse import create_table, memory_connection, sql_names
from tests.test_cli import lprism

STEPS = 100


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse without a row."""
    with memory_connection() as con:
        for table in sql_names("tables"):
            create_table(con, table)
        yield con


def add(
    con: duckdb.DuckDBPyConnection, campaign: str, steps_ms: Sequence[float], **changes: str | None
) -> None:
    """A run a value: 100 decode steps of about so many ms in its baseline, 900 ms under its fault."""
    run = {"scenario": "normal", "status": "complete", "workload": "in32", "engine_version": "1", **changes}
    for number, ms in enumerate(steps_ms):
        run_id = f"{campaign}-{run['workload']}-{run['status']}-{number}"
        con.execute(
            "INSERT INTO runs BY NAME SELECT $1 AS run_id, $2 AS campaign, 'lab' AS host, 'vllm' AS engine, "
            "'tiny' AS model, 'sentinel' AS mode, $3 AS workload, $4 AS status, $5 AS engine_version, "
            "$6 AS scenario, 0 AS baseline_start_ns, 1000 AS baseline_end_ns",
            [run_id, campaign, run["workload"], run["status"], run["engine_version"], run["scenario"]],
        )
        con.execute(
            "INSERT INTO batches BY NAME SELECT $1 AS run_id, i AS batch_index, 'decode' AS forward_mode, "
            "IF(i < $2, 'baseline', 'fault') AS run_window, "
            "CAST(IF(i < $2, $3 * (1 + i / 1000), 900) * 1e6 AS BIGINT) AS interval_ns "
            "FROM RANGE(2 * $2) AS t (i)",
            [run_id, STEPS, ms],
        )


def verdicts(comparison: dict[str, Any]) -> dict[str, str]:
    """The verdict of each metric."""
    return {row["metric"]: row["verdict"] for row in comparison["rows"]}


OLD = [20.0, 20.4, 19.8, 20.2]


def test_a_slower_engine_is_found_with_its_ratio(con: duckdb.DuckDBPyConnection) -> None:
    """20 % slower in every run: slower, by that much, both versions named; runs are counted, not steps."""
    add(con, "a", OLD)
    add(con, "b", [1.2 * ms for ms in OLD], engine_version="2", scenario="cpu_quota")
    comparison = compared(con, "a", "b")
    row = next(row for row in comparison["rows"] if row["metric"] == "decode step p50")
    assert (row["verdict"], row["before_runs"], row["after_runs"]) == ("slower", 4, 4)
    assert (row["before_version"], row["after_version"]) == ("1", "2")
    assert row["ratio"] == pytest.approx(1.2)
    assert row["ratio_low"] < 1.2 < row["ratio_high"]
    assert row["before_ms"] == pytest.approx(
        20.1 * 1.0495, rel=0.001
    )  # the windows of the fault are left out
    assert set(verdicts(comparison).values()) == {"slower"}
    assert set(verdicts(compared(con, "b", "a")).values()) == {"faster"}


@pytest.mark.parametrize(
    "after", [OLD[::-1], [1.03 * ms for ms in OLD], [15.0, 30.0, 21.0, 28.0]], ids=["same", "little", "noise"]
)
def test_what_chance_or_a_small_change_explains_is_no_difference(
    con: duckdb.DuckDBPyConnection, after: list[float]
) -> None:
    """The same runs, 3 % where 5 are asked for, and a mean that is 15 % higher but scattered."""
    add(con, "a", OLD)
    add(con, "b", after)
    assert set(verdicts(compared(con, "a", "b")).values()) == {"no difference"}


def test_the_least_difference_is_the_users(con: duckdb.DuckDBPyConnection) -> None:
    """3 % that every run shows are slower for who asks for 1 %."""
    add(con, "a", [20.0, 20.01, 19.99])
    add(con, "b", [20.6, 20.61, 20.59])
    assert got_slower(compared(con, "a", "b")) == []
    assert len(got_slower(compared(con, "a", "b", 1.0))) == 3


def test_one_run_a_side_is_never_significant(con: duckdb.DuckDBPyConnection) -> None:
    """Ten times as slow, and still nobody knows how far runs differ by themselves."""
    add(con, "a", OLD)
    add(con, "b", [200.0])
    comparison = compared(con, "a", "b")
    assert set(verdicts(comparison).values()) == {"one run a side"}
    assert {(row["p_value"], row["p_corrected"], row["ratio_low"]) for row in comparison["rows"]} == {
        (None,) * 3
    }
    assert got_slower(comparison) == []


def test_many_comparisons_are_corrected_for(con: duckdb.DuckDBPyConnection) -> None:
    """One in many that is just significant by itself is not among so many that are not."""
    add(con, "a", [20.0, 21.0, 22.0])
    add(con, "b", [22.5, 23.5, 24.5])
    assert "slower" in verdicts(compared(con, "a", "b")).values()
    for number in range(30):
        for campaign in ("a", "b"):
            add(con, campaign, [20.0, 21.0, 22.0], workload=f"w{number}")
    comparison = compared(con, "a", "b")
    assert got_slower(comparison) == []
    assert min(row["p_value"] for row in comparison["rows"]) < 0.05


def test_no_common_workload_is_an_error_that_names_both(con: duckdb.DuckDBPyConnection) -> None:
    """Other loads are not held against each other; what only one has is told where something is common."""
    add(con, "a", OLD)
    add(con, "b", OLD, workload="in64")
    with pytest.raises(LprismError, match=r"in common: a has lab vllm tiny in32.*b has lab vllm tiny in64"):
        compared(con, "a", "b")
    add(con, "b", OLD)
    comparison = compared(con, "a", "b")
    assert (comparison["only_before"], comparison["only_after"]) == ([], ["lab vllm tiny in64 sentinel"])


def test_failed_runs_do_not_count_and_unknown_campaigns_are_named(con: duckdb.DuckDBPyConnection) -> None:
    """Only whole runs are held against each other."""
    con.execute("INSERT INTO campaigns BY NAME SELECT 'a' AS campaign")
    add(con, "a", OLD)
    add(con, "b", OLD)
    add(con, "b", [200.0, 200.0], status="failed")
    comparison = compared(con, "a", "b")
    assert set(verdicts(comparison).values()) == {"no difference"}
    assert {row["after_runs"] for row in comparison["rows"]} == {4}
    with pytest.raises(LprismError, match=r"campaign nightly has no complete run .* the warehouse has a"):
        compared(con, "a", "nightly")


def test_requests_are_compared_in_the_same_window(con: duckdb.DuckDBPyConnection) -> None:
    """Time to first token and per output token, of requests that began in the baseline."""
    for campaign, ttft in (("a", 100), ("b", 150)):
        add(con, campaign, [20.0, 20.0])
        con.execute(
            "INSERT INTO requests BY NAME SELECT run_id, i AS request_index, i * 600 AS start_ns, "
            "IF(i < 2, $1, 9999) AS ttft_ms, 20 AS itl_avg_ms "
            "FROM runs, RANGE(3) AS t (i) WHERE campaign = $2",
            [ttft, campaign],
        )
    found = {row["metric"]: row["ratio"] for row in compared(con, "a", "b")["rows"]}
    assert found["time to first token p50"] == pytest.approx(1.5)
    assert found["time per output token p50"] == pytest.approx(1)


def test_the_command_ends_with_1_when_something_got_slower(
    con: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the published warehouse: a build stops, and reads as JSON why; the other way round it goes on."""
    add(con, "a", OLD)
    add(con, "b", [1.2 * ms for ms in OLD])
    for campaign in ("a", "b"):
        for table in ("runs", "batches"):
            rows = con.table(table).filter(f"run_id LIKE '{campaign}-%'").df()
            write_frame(tmp_path, table, campaign, "all", rows)
    publish(tmp_path)
    words = ("campaign", "compare", "--home", str(tmp_path), "--json")
    assert lprism(monkeypatch, *words, "a", "b") == 1
    said = capsys.readouterr()
    assert {row["verdict"] for row in json.loads(said.out)["rows"]} == {"slower"}
    assert "b is slower than a in 3 of 3 comparisons; most: decode step" in said.err
    assert lprism(monkeypatch, *words, "b", "a") == 0
    assert lprism(monkeypatch, *words[:-1], "b", "a") == 0
