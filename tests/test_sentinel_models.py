"""The latency models on made-up and on published tables: features, errors, commands, backtests."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tasks.cli.main import app
from tasks.lake import write_frame
from tasks.sentinel.backtest import backtest
from tasks.sentinel.batch_tables import read_batches
from tasks.sentinel.features import FEATURES, batch_features, check_normal
from tasks.sentinel.incidents import severity
from tasks.sentinel.limits import Scores, calibrate, published_limits
from tasks.sentinel.model import fit
from tasks.sentinel.registry import train_campaign
from tasks.sentinel.score import COLUMNS, score_file
from tasks.settings import LprismError
from tasks.warehouse import create_table, insert_by_name, memory_connection
from tasks.watch import Watch, models_of, replay
from tests import bench_sentinel
from tests.test_sentinel import ROWS, lake_table, session, sessions, write_lake

HEADER = (
    "job_name,start_ts,duration_us,batch_size,"
    "avg_input_length,max_input_length,avg_output_length,max_output_length"
)
# A job of three requests, 100 tokens in and 10 out. After row 0 one ends, one is admitted while row 1 runs;
# after row 2 one stops early, and another is admitted; row 4 is the empty last step.
JOB = """\
in100_out10_conc3,1000000.25,20000.00,3,100,100,6.33,10
in100_out10_conc3,1030000.25,45000.00,2,100,100,5.50,6
in100_out10_conc3,1080000.25,20000.00,3,100,100,4.67,7
in100_out10_conc3,1110000.25,19000.00,3,100,100,5.33,9
in100_out10_conc3,1140000.25,200.00,1,100,100,10.00,10
"""


def table(folder: Path, rows: str) -> Path:
    """A file in the published layout."""
    path = folder / "normal_vllm.csv"
    path.write_text(f"{HEADER}\n{rows}", encoding="utf-8")
    return path


def test_hidden_prefill_follows_from_the_next_row(tmp_path: Path) -> None:
    """What the next row's counts tell is there offline; online nothing is but this row and those before."""
    shown = [
        "batch_index",
        "admitted",
        "finished",
        "new_input_tokens",
        "waiting_requests",
        "previous_admitted",
    ]
    offline = read_batches(table(tmp_path, JOB)).features
    assert offline[shown].fillna(-1).to_numpy().tolist() == [
        [0, 0, -1, 3, 0, -1],
        [1, 1, 1, 102, 0, 0],
        [2, 1, 0, 103, 0, 1],
        [3, 0, 1, 3, 0, 1],
    ]
    assert offline["prefill_inferred"].tolist() == [False, True, True, False]
    assert offline["kv_demand_tokens"].tolist() == [3 * 110] * 4
    online = read_batches(table(tmp_path, JOB), look_ahead=False).features
    assert online[shown].fillna(-1).to_numpy().tolist() == [
        [0, -1, -1, -1, 0, -1],
        [1, -1, 1, -1, 1, 0],
        [2, -1, 0, -1, 0, 1],
        [3, -1, 1, -1, 0, 1],
    ]
    assert online[["next_admitted", "attention_work", "forward_mode_code"]].isna().all(axis=None)


def test_no_time_is_a_feature(tmp_path: Path) -> None:
    """Rows that take ten times as long have the same features: no time, not even a neighbour's, is one."""
    slow = JOB.replace("20000.00", "200000.00").replace("45000.00", "450000.00")
    usual, slower = (read_batches(table(tmp_path, rows)).features[list(FEATURES)] for rows in (JOB, slow))
    pd.testing.assert_frame_equal(usual, slower)


def test_an_interval_in_which_the_engine_may_have_idled_is_none() -> None:
    """The time to the next start counts only where a request goes on to the next step."""
    batches = pd.DataFrame(
        {
            "run_id": "r", "batch_index": range(4), "start_ns": [0, 10, 1000, 1010], "duration_ns": 9,
            "interval_ns": [10, 990, 10, None], "forward_mode": None,
            "batch_size": 2, "new_input_tokens": [64, 2, 64, 2], "kv_tokens": 64, "admitted": [2, 0, 2, 0],
        }
    )  # fmt: skip
    with memory_connection() as con:
        for name, rows in (("batches", batches), ("runs", pd.DataFrame({"run_id": ["r"], "campaign": "c"}))):
            create_table(con, name)
            insert_by_name(con.from_df(rows), name)
        create_table(con, "excluded_batches")
        assert batch_features(con, "c")["interval_ns"].fillna(-1).tolist() == [10, -1, 10, -1]


def test_a_model_knows_slopes_beyond_what_it_was_shown() -> None:
    """Prompts four times as long as any that it saw: within a tenth, where trees alone would stay level."""
    random = np.random.default_rng(1)
    tokens = np.where(np.arange(1200) % 20 == 0, random.integers(64, 512, 1200), 4)
    frame = session("r", 1).sample(1200, replace=True, random_state=1).reset_index(drop=True)
    frame = frame.assign(
        new_input_tokens=tokens,
        kv_tokens=400,
        attention_work=400,
        forward_mode_code=np.where(tokens > 4, 2, 1),
    )
    frame["duration_ns"] = (1e7 + 5e4 * (tokens - 4)) * random.lognormal(0, 0.01, 1200)
    longer = frame.iloc[:1].assign(new_input_tokens=2048, forward_mode_code=2)
    expected = 1e7 + 5e4 * 2044
    assert fit(frame, 7).expected_ns(longer)[0] == pytest.approx(expected, rel=0.1)


def scores(value: float, batches: int, seconds: float = 0.1) -> Scores:
    """A session whose residual is the same throughout."""
    return Scores(np.full(batches, seconds * 1e9), np.full(batches, value), np.full(batches, value))


def test_an_hour_of_quiet_sessions_allows_a_lower_limit_and_one_false_incident() -> None:
    """The floor comes down to 0.12 with an hour; a bad minute in two hours is allowed, in ten minutes not."""
    assert (
        calibrate([scores(0.02, 6000)]).limit > calibrate([scores(0.02, 36_000)]).limit == pytest.approx(0.12)
    )
    bad = scores(0.3, 100)
    assert calibrate([scores(0.02, 72_000), bad]).limit == pytest.approx(0.12)
    assert calibrate([scores(0.02, 6000), bad]).limit > 0.3


def test_the_published_limits() -> None:
    """Mean and three sigma of e, capped at a half, and 0.15; for a batch and for the mean of ten."""
    noisy = Scores(np.ones(4), np.array([0.0, 0.1, 0.0, 0.1]), np.zeros(4))
    limits = {one.strategy: (one.limit, one.smoothing_batches) for one in published_limits([noisy])}
    assert limits == {
        "published_point_3sigma": (pytest.approx(0.2), 1),
        "published_point_fixed": (0.15, 1),
        "published_mean10_3sigma": (pytest.approx(0.2), 10),
        "published_mean10_fixed": (0.15, 10),
    }
    assert published_limits([scores(0.9, 20)])[0].limit == 0.5


def test_severity_asks_the_objective_first() -> None:
    """A broken objective is critical however small the slowdown; else the slowdown decides."""
    assert severity(slo_violated=True, slowdown=1.1) == "critical"
    assert severity(slo_violated=None, slowdown=1.6) == severity(slo_violated=False, slowdown=2.0) == "major"
    assert severity(slo_violated=False, slowdown=1.2) == "minor"


def test_what_cannot_be_learned_from_is_said() -> None:
    """Too few rows and an unknown forward mode are errors; constants and one workload stand on the card."""
    frame = session("r", 1)
    with pytest.raises(LprismError, match="20 normal batches are too few"):
        check_normal(frame.iloc[:20])
    with pytest.raises(LprismError, match="forward mode 'sideways' of 900 batches"):
        check_normal(frame.assign(forward_mode="sideways", forward_mode_code=np.nan))
    notes = " ".join(check_normal(frame.assign(prefix_hit_tokens=np.nan)))
    assert "not recorded: prefix_hit_tokens" in notes
    assert "constant: batch_size" in notes
    assert "one workload only" in notes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three normal runs, a sham and a slow one, and the models of the normal ones."""
    home = tmp_path_factory.mktemp("home")
    bad = session("bad", 9, slow=slice(400, 650)).assign(scenario="cpu_quota")
    bad.loc[100, "duration_ns"] = 300_000_000  # a stall before the onset
    bad["run_window"] = np.repeat(["baseline", "fault", "recovery"], [400, 250, 250])
    bad_of_nothing = session("sham", 8).assign(scenario="sham", run_window=bad["run_window"])
    write_lake(home, pd.concat([sessions(), bad, bad_of_nothing]))
    marks = {"fault_apply_ns": int(bad["start_ns"][400]), "fault_end_ns": int(bad["start_ns"][650])}
    runs = lake_table(home, "runs").assign(**marks, strength='{"quota_pct": 40}')
    for run in ("bad", "sham"):
        write_frame(home, "runs", "c", run, runs[runs["run_id"] == run])
    train_campaign(home, "c", seed=7)
    return home


def lprism(*words: str) -> Any:  # noqa: ANN401 - whatever its JSON is
    """What a command prints as JSON."""
    done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_models_are_listed_shown_and_compared(trained: Path) -> None:
    """Both champions are listed, the leave-outs with --all; a card has its candidates and limits."""
    home = ("--home", str(trained))
    listed = lprism("models", "list", *home)
    assert {row["target"] for row in listed} == {"duration_ns", "interval_ns"}
    assert len(lprism("models", "list", "--all", *home)) == 8
    card = lprism("models", "show", listed[0]["model_id"], *home)
    assert len(card["candidates"]) == 4
    assert len(card["limits"]) == 5
    sides = lprism("models", "compare", listed[0]["model_id"], listed[1]["model_id"], *home)
    assert {row["what"] for row in sides} >= {"kind", "target", "limit in use"}


def champion_of(home: Path) -> str:
    """The champion of batch times."""
    listed = lprism("models", "list", "--home", str(home))
    (champion,) = [row["model_id"] for row in listed if row["target"] == "duration_ns"]
    return str(champion)


def test_a_backtest_counts_false_incidents_and_faults_found(trained: Path) -> None:
    """The fault is found at once by every strategy; what sham and normal runs raise is false; no drift."""
    champion = champion_of(trained)
    found = backtest(trained, champion)
    rows = {(r["strategy"], r["scenario"]): r for r in found.rows if r["evaluation"] == "runs"}
    assert len(rows) == 5 * 3
    ours = rows["calibrated", "cpu_quota"]
    assert (ours["detection_ratio"], ours["runs"], ours["strength"]) == (1.0, 1, '{"quota_pct": 40}')
    assert ours["lag_batches"] < 10
    # a stall before the onset is no sign of the fault
    assert all(rows[strategy, "cpu_quota"]["lag_batches"] >= 1 for strategy, _ in rows)
    assert ours["f1_ratio"] > 0.95
    assert ours["slowdown"] == pytest.approx(2.5, rel=0.1)
    for scenario, runs in (("normal", 3), ("sham", 1)):
        assert (rows["calibrated", scenario]["runs"], rows["calibrated", scenario]["false_incidents"]) == (
            runs,
            0,
        )
    assert rows["calibrated", "normal"]["false_incidents_an_hour_high"] > 1  # a minute proves little
    assert found.drift is None
    assert len(lake_table(trained, "detection_metrics")) == len(found.rows)


def test_a_stored_run_is_watched_as_it_came(trained: Path, tmp_path: Path) -> None:
    """A replay says what detection finds in the whole run: one incident, from the first slow batches on."""
    said: list[dict[str, Any]] = []
    watch = Watch(tmp_path, "bad", said.append)
    replay(trained, "c", "bad", models_of(trained, "c"), watch)
    watch.close()
    (opened,) = [event for event in said if event["type"] == "incident_opened"]
    (closed,) = [event for event in said if event["type"] == "incident_closed"]
    assert 400 <= opened["first_batch_index"] < 410
    assert 640 <= closed["last_batch_index"] < 660
    assert said[-1]["batches"] == 900


def test_drift_is_said(trained: Path, tmp_path: Path) -> None:
    """Normal runs of another night that all take twice as long: the model says that it no longer fits."""
    shutil.copytree(trained, tmp_path / "home")
    champion = champion_of(trained)
    night = pd.concat([session(f"later{index}", 20 + index, level=2.0) for index in range(4)])
    write_lake(tmp_path / "home", night)
    assert "4 of 8 normal sessions take about 1.9" in str(backtest(tmp_path / "home", champion).drift)


def test_a_file_is_scored_in_its_order(trained: Path, tmp_path: Path) -> None:
    """A row a row of the file; what cannot be judged is empty and told; a missing column is an error."""
    frame = session("other", 5).iloc[[1, 0, 2, 3, 4]]
    columns = [
        "duration_ns",
        "batch_size",
        "kv_tokens",
        "new_input_tokens",
        "forward_mode",
        "admitted",
        "finished",
    ]
    frame = frame[columns].assign(preempted=0, prefix_hit_tokens=0).astype(object)
    frame.iloc[2, 0], frame.iloc[3, 0], frame.iloc[4, 4] = "nan", -5, "sideways"
    frame.to_csv(tmp_path / "b.csv", index=False)
    told = score_file(trained, tmp_path / "b.csv", "vllm")
    assert [row[0] for row in told.rows] == [0, 1, 2, 3, 4]
    assert [row[1] is None for row in told.rows] == [False, False, True, True, False]
    assert told.rows[1][1] > 2 * told.rows[0][1]  # the prefill
    assert told.rows[4][COLUMNS.index("in_domain")] is False
    assert any("2 rows are set aside" in note for note in told.notes)
    frame.drop(columns="batch_size").to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(LprismError, match="lacks the column batch_size"):
        score_file(trained, tmp_path / "c.csv", "vllm")


def test_a_published_table_is_scored_by_line(trained: Path, tmp_path: Path) -> None:
    """Rows that are not in order of time keep their places; a rejected one is empty, with its reason."""
    lines = JOB.splitlines()
    lines = [lines[1], lines[0], lines[2].replace("20000.00", "-1.00"), *lines[3:]]
    told = score_file(trained, table(tmp_path, "\n".join(lines) + "\n"), "vllm")
    assert [row[1] is None for row in told.rows] == [False, False, True, False, True]
    assert any("negative duration; the first is row 2" in note for note in told.notes)


def test_a_card_of_another_schema_is_refused(trained: Path, tmp_path: Path) -> None:
    """A model that another version made judges nothing, and what to do is said."""
    shutil.copytree(trained, tmp_path / "home")
    for path in (tmp_path / "home" / "models").glob("*/card.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 1}), encoding="utf-8")
    with pytest.raises(LprismError, match=r"schema 1 .*lprism train --campaign c"):
        score_file(tmp_path / "home", table(tmp_path, JOB), "vllm")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """The published tables and the two sets of forward passes."""
    if not (bench_sentinel.DATA / bench_sentinel.PUBLISHED).is_dir():
        pytest.skip(f"{bench_sentinel.DATA} is not there")
    return bench_sentinel.lake(bench_sentinel.DATA, tmp_path_factory.mktemp("published"))


def test_the_published_table_is_predicted(published: dict[str, pd.DataFrame]) -> None:
    """With whole jobs left out, offline: MAPE <= 0.025, median <= 1.2 %, nine in ten within 10 % and more."""
    expected = bench_sentinel.left_out(published["offline"], "session", 1, bench_sentinel.ours)
    found = bench_sentinel.errors(published["offline"], expected)
    assert found.mape <= 0.025
    assert found.median_ape <= 0.012
    assert found.within_10pct >= 0.97


@pytest.mark.parametrize(
    ("name", "rows"),
    [("llama2_7b", [0, 1, 2, 419]), ("qwen25_7b", [0, 1, 2, 2640, 2853])],
)
def test_only_the_odd_forward_passes_stand_out(
    published: dict[str, pd.DataFrame], name: str, rows: list[int]
) -> None:
    """The cold start and the spikes, and nothing else, are above 15 %."""
    (frame,) = [frame for key, frame in published.items() if name in key]
    assert bench_sentinel.standing_out(frame) == rows
    assert len(frame) > ROWS
