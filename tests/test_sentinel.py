"""Sentinel: made-up sessions in, limits, alarms and incidents out."""

import itertools
import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from tasks.lake import write_frame
from tasks.lake_tables import lake_connection
from tasks.sentinel import evaluate
from tasks.sentinel.detect import detect_campaign, drift_of, score_run, score_runs
from tasks.sentinel.evaluate import CHAMPION, LEAVE_OUT, Trained, Trainer, train_runs
from tasks.sentinel.features import (
    FEATURES,
    KEY,
    PUBLISHED_FEATURES,
    batch_features,
    in_domain,
    training_rows,
)
from tasks.sentinel.incidents import find_incidents, incident_spans
from tasks.sentinel.limits import (
    INCIDENT_ALARMS,
    LIMIT_CEILING,
    LIMIT_FLOOR,
    SESSION_BATCHES,
    Scores,
    calibrate,
    resumptions,
    score_session,
    session_level,
    smooth,
)
from tasks.sentinel.model import LatencyModel, fit
from tasks.sentinel.registry import Registered, train_campaign
from tasks.settings import LprismError
from tasks.warehouse import create_table, insert_by_name

CONFIGURATION = ("e" * 16, "tiny", "a CPU")
ROWS = 900
MS = 1_000_000


def session(
    run: str, seed: int, level: float = 1.0, slow: slice | None = None, times: float = 2.5
) -> pd.DataFrame:
    """One run of ROWS steps of four requests, 32 in and 64 out: a prefill, 64 decodes of 15 ms, and again.

    Steps vary by 5 %, one in a hundred stalls for 10-60 ms; steps in `slow` take `times` as long.
    """
    random = np.random.default_rng(seed)
    turn = np.arange(ROWS) % 65
    prefill = turn == 0
    work_ms = np.where(prefill, 40.0, 13.0 + 0.03 * turn) * random.lognormal(0.0, 0.05, ROWS) * level
    if slow is not None:
        work_ms[slow] *= times
    work_ms += np.where(random.random(ROWS) < 0.01, random.uniform(10.0, 60.0, ROWS), 0.0)
    columns = dict.fromkeys([*FEATURES, *PUBLISHED_FEATURES], 0.0)
    frame = pd.DataFrame(columns, index=np.arange(ROWS))
    frame = frame.assign(
        batch_size=4,
        input_length_avg=32.0,
        output_length_avg=turn,
        kv_tokens=4 * (32 + turn),
        new_input_tokens=np.where(prefill, 128, 4),
        forward_mode_code=np.where(prefill, 3, 1),
        forward_mode=np.where(prefill, "prefill", "decode"),
        duration_ns=(work_ms * MS).astype(np.int64),
        batch_index=np.arange(ROWS),
        run_id=run,
        session=run,
        lengths="in32_out64",
        workload="in32_out64_conc4",
        engine="vllm",
        prefill_inferred=False,
        run_window="baseline",
        scenario="normal",
        status="complete",
        **dict(zip(KEY, CONFIGURATION, strict=True)),
    )
    interval = frame["duration_ns"] + MS
    return frame.assign(interval_ns=interval, start_ns=interval.cumsum() - interval)


def sessions(count: int = 3) -> pd.DataFrame:
    """Normal runs whose sessions differ as those of a shared machine do: 1.0, 1.3, 0.85 of the usual time."""
    levels = itertools.cycle([1.0, 1.3, 0.85])
    runs = [
        session(f"normal{index}", index, level) for index, level in zip(range(count), levels, strict=False)
    ]
    return pd.concat(runs, ignore_index=True)


def registered(trained: list[Trained]) -> list[Registered]:
    """What load_models gives for these, without the files."""
    return [
        Registered(
            one.purpose,
            one.purpose,
            "vllm",
            CONFIGURATION,
            one.model,
            one.limit.limit,
            frozenset(one.left_out),
        )
        for one in trained
    ]


@pytest.fixture(scope="module")
def normal() -> pd.DataFrame:
    """Three normal runs."""
    return sessions()


@pytest.fixture(scope="module")
def trained(normal: pd.DataFrame) -> list[Trained]:
    """All models of the three normal runs, the champion first."""
    return train_runs(normal, seed=7)


def detect(frame: pd.DataFrame, trained: list[Trained], slo_tpot_ms: float | None = None) -> pd.DataFrame:
    """Score the runs and give their incidents."""
    scored, _ = score_runs(frame, registered(trained))
    return find_incidents(scored, frame, dict.fromkeys(frame["run_id"], slo_tpot_ms))


def test_quiet_normal_runs_have_no_incident(normal: pd.DataFrame, trained: list[Trained]) -> None:
    """Sessions that differ by half and stall now and then are normal: no incident in any of them."""
    assert detect(normal, trained).empty
    assert detect(session("another", 99, level=1.25), trained).empty


@pytest.mark.parametrize("times", [1.6, 2.0, 2.5, 4.0])
def test_a_lasting_slowdown_is_found_within_ten_batches(times: float, trained: list[Trained]) -> None:
    """A step change of 1.6x or more alarms within ten batches and is one incident, measured about right."""
    frame = session("injected", 5, level=1.1, slow=slice(400, 650), times=times)
    scored, _ = score_runs(frame, registered(trained))
    incidents = find_incidents(scored, frame, {})
    first = scored["batch_index"][scored["alarm"] & (scored["batch_index"] >= 400)].min()
    assert first - 400 < 10
    assert len(incidents) == 1
    assert incidents["last_batch_index"].iloc[0] - 649 <= 10
    assert incidents["slowdown"].iloc[0] == pytest.approx(times, rel=0.08)


@pytest.mark.parametrize(("slow", "said"), [(0, 0), (1, 0), (2, 1)])
def test_a_model_that_no_longer_fits_is_said(slow: int, said: int, trained: list[Trained]) -> None:
    """Half of the normal sessions far off throughout is drift; fewer, or faults, are incidents alone."""
    levels = [2.5] * slow + [1.0] * (3 - slow)
    runs = [session(f"later{index}", 40 + index, level) for index, level in enumerate(levels)]
    frame = pd.concat([*runs, session("bad", 9, 2.5).assign(scenario="cpu_quota")])
    scored, _ = score_runs(frame, registered(trained))
    drift = drift_of(scored, frame)
    assert len(drift) == said
    assert all("2 of 3 normal sessions take about 1." in text for text in drift)


def test_one_stalled_batch_raises_nothing(trained: list[Trained]) -> None:
    """One step of 300 ms amid steps of 15 ms is the machine's, not the server's: not even an alarm."""
    frame = session("stalled", 6)
    frame.loc[500, "duration_ns"] = 300 * MS
    scored, _ = score_runs(frame, registered(trained))
    assert not scored["alarm"].any()
    assert scored["residual"].iloc[500] > 0.9


def test_a_short_burst_of_stalls_alarms_but_is_no_incident(trained: list[Trained]) -> None:
    """Four stalled steps in a row may alarm; an incident outlasts what they leave in the trailing mean."""
    frame = session("burst", 6)
    frame.loc[500:503, "duration_ns"] = 300 * MS
    scored, _ = score_runs(frame, registered(trained))
    assert 0 < scored["alarm"].sum() < INCIDENT_ALARMS
    assert find_incidents(scored, frame, {}).empty


def test_a_server_slow_from_its_first_batch_is_found(trained: list[Trained]) -> None:
    """The session's level excuses at most 1.5x: 2.5x from the first batch on is an incident at once."""
    frame = session("always_slow", 8, slow=slice(0, ROWS))
    first = detect(frame, trained).iloc[0]
    assert first["first_batch_index"] < 10
    assert first["last_batch_index"] == ROWS - 1


def test_incident_figures(trained: list[Trained]) -> None:
    """An incident tells medians in ms, slowdown, excess, time per token and whether that breaks the SLO."""
    frame = session("injected", 5, slow=slice(400, 650))
    incident = detect(frame, trained, slo_tpot_ms=30.0).iloc[0]
    assert incident["expected_ms"] == pytest.approx(14.0, rel=0.1)
    assert incident["actual_ms"] == pytest.approx(35.0, rel=0.1)
    assert incident["excess_ms"] == pytest.approx(250 * 1.5 * 14.4, rel=0.1)
    assert incident["tpot_ms"] == pytest.approx(36.0, rel=0.1)
    assert incident["end_ns"] > incident["start_ns"]
    assert incident["slo_violated"] is True or bool(incident["slo_violated"])
    assert not detect(frame, trained, slo_tpot_ms=50.0)["slo_violated"].iloc[0]
    assert detect(frame, trained)["slo_violated"].iloc[0] is None


def test_same_seed_same_model(normal: pd.DataFrame, tmp_path: Path) -> None:
    """The same rows and seed give the same file and the same predictions, bit for bit."""
    models = [fit(training_rows(normal), seed=7) for _ in range(2)]
    for index, model in enumerate(models):
        model.save(tmp_path / f"{index}.ubj")
    assert (tmp_path / "0.ubj").read_bytes() == (tmp_path / "1.ubj").read_bytes()
    assert models[0].expected_ns(normal).tobytes() == models[1].expected_ns(normal).tobytes()


def test_left_out_runs_are_left_out(trained: list[Trained]) -> None:
    """The champion knows all normal runs, a leave-out model all but its own; limits come from the known."""
    runs = {one.purpose: (one.model.sessions, one.limit.runs) for one in trained}
    assert runs == {
        CHAMPION: (("normal0", "normal1", "normal2"), 3),
        LEAVE_OUT + "normal0": (("normal1", "normal2"), 2),
        LEAVE_OUT + "normal1": (("normal0", "normal2"), 2),
        LEAVE_OUT + "normal2": (("normal0", "normal1"), 2),
    }


@pytest.mark.parametrize("count", [2, 3])
def test_nothing_of_a_left_out_run_reaches_its_judge(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a run holds, the model and the limit that judge it stay the same, for two runs and three."""
    frame = sessions(count)
    fitted: list[set[str]] = []

    def spy(rows: pd.DataFrame, seed: int, kind: str, target: str) -> LatencyModel:
        fitted.append(set(rows["run_id"]))
        return fit(rows, seed, kind, target)

    monkeypatch.setattr(evaluate, "fit", spy)
    calm = Trainer(frame, seed=1).leave_out("normal0").limit
    assert fitted
    assert not any("normal0" in runs for runs in fitted)
    disturbed = frame.copy()
    disturbed.loc[disturbed["run_id"] == "normal0", "duration_ns"] *= np.tile([1, 5, 9], ROWS // 3)
    assert Trainer(disturbed, seed=1).leave_out("normal0").limit == calm


def test_limits_come_from_models_that_never_saw_the_session(
    normal: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every session that a limit is made of was scored by a model fitted without it."""
    scored: list[tuple[tuple[str, ...], str]] = []

    def spy(model: LatencyModel, rows: pd.DataFrame) -> Scores:
        scored.append((model.sessions, rows["run_id"].iloc[0]))
        return score_session(rows["duration_ns"].to_numpy(dtype=float), model.expected_ns(rows))

    monkeypatch.setattr(evaluate, "_score", spy)
    train_runs(normal, seed=1)
    assert len(scored) == 3 + 3 * 2
    assert not [pair for pair in scored if pair[1] in pair[0]]


def test_two_normal_runs_use_blocks_of_time_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two normal runs the one that remains is cut into blocks of time; the strategy's name tells it."""
    trainer = Trainer(sessions(2), seed=1)
    fitted: list[int] = []

    def spy(rows: pd.DataFrame, seed: int, kind: str, target: str) -> LatencyModel:
        fitted.append(len(rows))
        return fit(rows, seed, kind, target)

    monkeypatch.setattr(evaluate, "fit", spy)
    limits = {LEAVE_OUT + "normal0": trainer.leave_out("normal0").limit, CHAMPION: trainer.champion().limit}
    assert fitted.count(ROWS * 3 // 4) == 4
    assert limits[LEAVE_OUT + "normal0"].strategy.endswith("time_blocks_of_one_run")
    assert limits[LEAVE_OUT + "normal0"].runs == 1
    assert limits[LEAVE_OUT + "normal0"].rows == ROWS
    assert "blocks" not in limits[CHAMPION].strategy


def test_a_model_never_judges_what_it_was_trained_on(normal: pd.DataFrame, trained: list[Trained]) -> None:
    """Scoring a training run by its own model is an error, not a flattering number."""
    champion = registered(trained)[0]
    with pytest.raises(LprismError, match="normal0 was trained on"):
        score_run(normal[normal["run_id"] == "normal0"], champion)


def test_each_run_has_its_judge(normal: pd.DataFrame, trained: list[Trained]) -> None:
    """A normal run goes to its leave-out model, any other to the champion; one of another server to none."""
    stranger = session("stranger", 2).assign(engine_key="other")
    scored, unscored = score_runs(pd.concat([normal, session("new", 3), stranger]), registered(trained))
    judges = scored.groupby("run_id")["model_id"].unique().map(list).to_dict()
    assert judges == {
        "new": [CHAMPION],
        "normal0": [LEAVE_OUT + "normal0"],
        "normal1": [LEAVE_OUT + "normal1"],
        "normal2": [LEAVE_OUT + "normal2"],
    }
    assert unscored == ("stranger",)
    with pytest.raises(LprismError, match="no recorded batch fits"):
        score_runs(stranger, registered(trained))


def test_rows_outside_the_training_range_are_marked(trained: list[Trained]) -> None:
    """Eight requests where the model knew four: scored, and marked as out of its domain."""
    frame = session("large", 4).assign(batch_size=8)
    assert not in_domain(frame, trained[0].model.domain).any()
    assert in_domain(session("usual", 4), trained[0].model.domain).all()


def test_the_level_of_a_session_is_bounded_and_frozen() -> None:
    """The level follows the opening batches, at most 1.5x either way; a later slowdown does not move it."""
    expected = np.full(3 * SESSION_BATCHES, 10.0)
    actual = expected * 1.2
    actual[SESSION_BATCHES:] *= 3
    assert session_level(actual, expected) == pytest.approx(np.log(1.2))
    assert session_level(expected * 5, expected) == pytest.approx(np.log(1.5))
    assert session_level(expected / 5, expected) == pytest.approx(-np.log(1.5))


def test_a_session_is_scored() -> None:
    """Residuals are shares of the actual time at the session's level; a fast batch counts as zero."""
    model_ns = np.full(12, 10.0)
    actual = np.full(12, 12.0)  # the whole session is 1.2x its model
    actual[10:] = [48.0, 6.0]
    scores = score_session(actual, model_ns)
    assert scores.expected_ns == pytest.approx(12.0)
    assert scores.residual == pytest.approx([0.0] * 10 + [0.75, 0.0])
    assert scores.smoothed[-1] == pytest.approx(0.06)


def test_smoothing_is_a_trailing_mean_of_ten_in_which_one_batch_counts_at_most_0_6() -> None:
    """Ten batches back and no batch ahead."""
    residual = np.zeros(30)
    residual[12] = 0.95
    expected = np.zeros(30)
    expected[12:22] = 0.06
    assert smooth(residual) == pytest.approx(expected)
    assert smooth(np.full(12, 0.3))[[0, 9, 11]] == pytest.approx([0.03, 0.3, 0.3])


def test_what_lasts_counts_twice_and_only_as_long_as_it_lasts() -> None:
    """Every fifth batch stalled, as under a quota: from sixty batches on twice the mean; ten after, none."""
    residual = np.zeros(200)
    residual[20:120:5] = 0.7  # counts as 0.6
    smoothed = smooth(residual)
    assert smoothed[29] == pytest.approx(0.12)
    assert smoothed[89] == pytest.approx(0.24)
    assert smoothed[119:].max() == pytest.approx(0.24)
    assert smoothed[126:].max() == 0.0
    once = np.zeros(200)
    once[150] = 0.7
    assert smooth(once).max() == pytest.approx(0.06)


@pytest.mark.parametrize(("gap_ms", "left_out", "after"), [(1000, 1, 0.03), (999, 1, 0.3), (1000, 0, 0.3)])
def test_the_mean_begins_anew_after_a_second_that_is_not_scored(
    gap_ms: int, left_out: int, after: float
) -> None:
    """What was slow before a gap says nothing of what comes after it; to idle leaves nothing out."""
    index = np.arange(30)
    rows = pd.DataFrame({"batch_index": index + left_out * (index > 14), "start_ns": index * 100 * MS})
    rows.loc[15:, "start_ns"] += gap_ms * MS
    scores = score_session(
        np.full(30, 100.0 * MS), np.full(30, 100.0 * MS), resumptions(rows, np.full(30, 100.0 * MS))
    )
    smoothed = smooth(np.full(30, 0.3), scores.resumes)
    assert smoothed[[14, 15, 24, 29]] == pytest.approx([0.3, after, 0.3, 0.3])
    assert smooth(np.full(30, 0.3), None)[15] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("smoothed", "limit"),
    [([0.0, 0.05], LIMIT_FLOOR), ([0.1, 0.24], 0.3), ([0.9, 0.0], LIMIT_CEILING)],
)
def test_the_worst_heldout_session_makes_the_limit(smoothed: list[float], limit: float) -> None:
    """A quarter above the worst session's 0.99 quantile, between 0.2 and 0.4."""
    heldout = [Scores(np.ones(50), np.full(50, value), np.full(50, value)) for value in smoothed]
    assert calibrate(heldout).limit == pytest.approx(limit)


def spans(pattern: str) -> list[tuple[int, int]]:
    """The incidents of a run with a batch each 100 ms: x is an alarm, a blank was not scored."""
    rows = [
        {"alarm": letter == "x", "batch_index": index, "start_ns": index * 100 * MS, "actual_ns": 100 * MS}
        for index, letter in enumerate(pattern)
        if letter != " "
    ]
    return incident_spans(pd.DataFrame(rows))


def test_incidents_less_than_a_second_apart_are_one() -> None:
    """Ten alarms in a row are an incident, nine are not, and a gap below a second does not divide one."""
    assert spans("." + 9 * "x" + ".") == []
    assert spans("." + 10 * "x" + ".") == [(1, 10)]
    assert spans(10 * "x" + 9 * "." + 10 * "x") == [(0, 28)]
    assert spans(10 * "x" + 11 * "." + 12 * "x") == [(0, 9), (21, 32)]


def test_an_incident_does_not_reach_over_a_second_that_is_not_scored() -> None:
    """What the trailing mean carries over the measuring of an effect makes no incident longer."""
    assert spans(12 * "x" + 20 * " " + 9 * "x" + ".") == [(0, 11)]
    assert spans(5 * "x" + 20 * " " + 9 * "x") == []
    assert spans(12 * "x" + 20 * " " + 10 * "x") == [(0, 11), (12, 21)]
    assert spans(5 * "x" + 3 * " " + 9 * "x") == [(0, 13)]


def lake_rows(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `runs` and `batches` (only the columns that Sentinel reads) of made-up sessions."""
    runs = frame.groupby("run_id", as_index=False)[["scenario", "status", "engine", *KEY]].first()
    runs = runs.assign(campaign="c", slo_tpot_ms=30.0, workload="in32_out64_conc4")
    runs = runs.assign(input_length=32, output_length=64, concurrency=4)
    columns = [
        *PUBLISHED_FEATURES,
        *("kv_tokens", "new_input_tokens", "admitted", "finished", "preempted", "prefix_hit_tokens"),
        "run_id",
        "batch_index",
        "start_ns",
        "duration_ns",
        "interval_ns",
        "forward_mode",
        "run_window",
    ]
    return runs, frame[columns].assign(rank=0)


def test_batch_features() -> None:
    """An empty step is set aside yet is a neighbour; unrecorded rows go; no neighbour's time is a feature."""
    frame = session("r", 1).iloc[:5].copy()
    frame["batch_size"] = [4, 0, 4, 4, 4]
    frame["new_input_tokens"] = [128, 0, 4, 4, 4]
    frame["kv_tokens"] = [128, 0, 132, 136, 140]
    frame["forward_mode"] = ["prefill", "idle", "decode", "decode", "decode"]
    frame["run_window"] = ["baseline", "baseline", "transition", "fault", None]
    runs, batches = lake_rows(frame)
    with duckdb.connect() as con:
        for table, made in (("runs", runs), ("batches", batches), ("excluded_batches", None)):
            create_table(con, table)
            if made is not None:
                insert_by_name(con.from_df(made), table)
        rows = batch_features(con, "c")
        assert batch_features(con, "another").empty
    shown = rows[["batch_index", "attention_work", "forward_mode_code", "previous_new_input_tokens"]]
    assert shown.fillna(-1).to_numpy().tolist() == [[0, 4096, 3, -1], [2, 132, 1, 0], [3, 136, 1, 4]]
    assert rows[["waiting_requests", "kv_demand_tokens", "next_admitted"]].isna().all(axis=None)
    assert list(training_rows(rows)["batch_index"]) == [0, 3]
    assert not [name for name in FEATURES if name.endswith("_ns")]


def lake_table(home: Path, table: str) -> pd.DataFrame:
    """Read one table of the lake."""
    with lake_connection(home, "c") as con:
        rows: pd.DataFrame = con.table(table).df()
    return rows


def write_lake(home: Path, frame: pd.DataFrame) -> None:
    """Put made-up sessions into the lake, as ingest would."""
    runs, batches = lake_rows(frame)
    for run in runs["run_id"]:
        write_frame(home, "runs", "c", run, runs[runs["run_id"] == run])
        write_frame(home, "batches", "c", run, batches[batches["run_id"] == run])


def test_a_campaign_is_trained_and_detected(tmp_path: Path) -> None:
    """Models, cards, limits, scores and incidents land in the home; training again changes no prediction."""
    injected = session("bad", 9, slow=slice(400, 650)).assign(scenario="cpu_compute_squeeze_out")
    write_lake(tmp_path, pd.concat([sessions(), injected]))
    summary = train_campaign(tmp_path, "c", seed=7)
    # of the time of a batch and of the time to the next one, each
    assert (summary.models, summary.normal_sessions, len(summary.champions)) == (2 * 4, 3, 2)
    assert summary.untrained == ()
    card = json.loads((tmp_path / "models" / summary.champions[0] / "card.json").read_text(encoding="utf-8"))
    assert card["training_sessions"] == ["normal0", "normal1", "normal2"]
    assert (card["training_rows"], card["seed"], card["schema"]) == (3 * ROWS, 7, 2)
    assert card["cpu_model"] == "a CPU"
    first = detect_campaign(tmp_path, "c")
    assert (first.runs, first.batches, first.incidents, first.unscored_runs) == (4, 4 * ROWS, 1, ())
    before = lake_table(tmp_path, "batch_scores")
    assert train_campaign(tmp_path, "c", seed=7).champions == summary.champions
    assert detect_campaign(tmp_path, "c") == first
    pd.testing.assert_frame_equal(lake_table(tmp_path, "batch_scores"), before)
    incident = lake_table(tmp_path, "incidents").iloc[0]
    assert (incident["run_id"], incident["incident_index"], incident["slo_violated"]) == ("bad", 0, True)
    limits = lake_table(tmp_path, "control_limits").set_index("model_id")
    of_champion = limits.loc[summary.champions[0]]
    assert set(of_champion["heldout_runs"]) == {3}
    assert list(of_champion["strategy"][of_champion["in_use"]]) == ["calibrated"]
    assert len(of_champion) == 5


def test_a_changed_model_file_is_refused(tmp_path: Path) -> None:
    """A model that is not the one that was trained judges nothing; nor is there a verdict without any."""
    write_lake(tmp_path, sessions(2).assign(interval_ns=None))
    with pytest.raises(LprismError, match="no latency model; run: lprism train"):
        detect_campaign(tmp_path, "c")
    champion = train_campaign(tmp_path, "c", seed=7).champions[0]
    next((tmp_path / "models" / champion).glob("model.*")).write_bytes(b"{")
    with pytest.raises(LprismError, match="not the model that was trained"):
        detect_campaign(tmp_path, "c")


def test_one_normal_run_is_not_enough(tmp_path: Path) -> None:
    """One normal run gives no limit from a run left out: refused, saying what is needed."""
    injected = session("bad", 9).assign(scenario="cpu_compute_squeeze_out")
    failed = session("died", 9).assign(status="failed")
    write_lake(tmp_path, pd.concat([sessions(1), injected, failed]))
    with pytest.raises(LprismError, match=r"1 complete normal run.*at least 2"):
        train_campaign(tmp_path, "c", seed=1)
