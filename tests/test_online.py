"""The online scorer says of one batch after another what the offline steps say of the whole run."""

import itertools

import duckdb
import numpy as np
import pandas as pd
import pytest

from tasks.sentinel.alarms import Drift, Incidents
from tasks.sentinel.detect import score_run
from tasks.sentinel.evaluate import CHAMPION
from tasks.sentinel.features import FEATURES, INTERVAL, TARGET, batch_features, key_from, key_of, matrix
from tasks.sentinel.following import Batch, Step, features
from tasks.sentinel.incidents import find_incidents
from tasks.sentinel.model import RECIPES, fit
from tasks.sentinel.online import OneRow, Scored, Scorer
from tasks.sentinel.registry import Registered
from tasks.warehouse import create_table, insert_by_name, memory_connection

CAMPAIGN, RUN = "c-1", "r0123456789"
MS = 1_000_000
ROWS = 1500
NUMBERS = ("prefix_hit_tokens", "admitted", "finished", "preempted", "new_input_tokens", "kv_tokens")


def recorded(seed: int, slow: slice = slice(0, 0), jobs: int = 0) -> pd.DataFrame:
    """Rows of `batches`: prefills and decodes, empty steps and pauses; a table of `jobs` tells no tokens."""
    random = np.random.default_rng(seed)
    size = random.integers(0, 6, ROWS)
    mode = np.where(size == 0, "idle", random.choice(["decode"] * 6 + ["mixed", "prefill"], ROWS))
    output = np.arange(ROWS) % 64
    work = (5 + 2.0 * size + 20.0 * (mode == "prefill")) * random.lognormal(0, 0.04, ROWS)
    work[slow] *= 2.5
    duration = (work * MS).astype(np.int64)
    pause = np.where(random.random(ROWS) < 0.01, 1_500 * MS, MS)
    interval = duration + pause
    frame = pd.DataFrame({
        "run_id": RUN, "batch_index": np.arange(ROWS), "start_ns": np.cumsum(interval) - interval,
        "duration_ns": duration, "interval_ns": interval, "forward_mode": mode, "batch_size": size,
        "input_length_avg": np.where(size > 0, 32.0, np.nan), "input_length_max": 32,
        "output_length_avg": output * 1.0, "output_length_max": output, "kv_tokens": size * (32 + output),
        "new_input_tokens": np.where(mode == "prefill", 32 * size, size), "prefix_hit_tokens": size // 2,
        "admitted": np.where(mode == "prefill", size, 0), "finished": random.integers(0, 2, ROWS),
        "preempted": 0, "rank": 0, "run_window": "baseline", "source": "vllm_probe",
    })  # fmt: skip
    frame.loc[:20, "run_window"] = None
    if jobs:
        frame[list(NUMBERS)] = None
        frame["forward_mode"] = None
        frame["run_window"] = None
        frame["job_name"] = [f"in32_out64_conc{1 + row * jobs // ROWS}" for row in range(ROWS)]
        frame["batch_size"] = 1 + random.integers(0, 4, ROWS)
    return frame


def lake(frame: pd.DataFrame) -> duckdb.DuckDBPyConnection:
    """The tables that the features are read from, in memory."""
    con = memory_connection()
    for table in ("runs", "batches", "excluded_batches"):
        create_table(con, table)
    run = pd.DataFrame([{
        "run_id": RUN, "campaign": CAMPAIGN, "engine": "vllm", "engine_key": "e" * 16, "model": "tiny",
        "cpu_model": "a CPU", "scenario": "normal", "status": "complete", "workload": "in32_out64_conc4",
        "input_length": 32, "output_length": 64, "concurrency": 4,
    }])  # fmt: skip
    excluded = pd.DataFrame([{"run_id": RUN, "batch_index": 300, "expectation": "a sentence"}])
    for table, rows in (("runs", run), ("batches", frame), ("excluded_batches", excluded)):
        insert_by_name(con.from_df(rows), table)
    return con


def replayed(con: duckdb.DuckDBPyConnection) -> list[tuple[str, Batch]]:
    """The batches as a replay gives them, with their sessions."""
    from tasks.sentinel.replay import batches_of

    return list(batches_of(con, RUN))


@pytest.mark.parametrize("jobs", [0, 3])
def test_features_one_by_one_are_those_of_the_sql(jobs: int) -> None:
    """Without looking ahead both give the same numbers, of recorded batches and of a published table."""
    with lake(recorded(1, jobs=jobs)) as con:
        asked = batch_features(con, CAMPAIGN, look_ahead=False).set_index("batch_index")
        came = replayed(con)
    found = {}
    for _, rows in itertools.groupby(came, key=lambda pair: pair[0]):
        before = None
        for _, batch in rows:
            if before:
                before.is_followed_by(batch)
            step = Step(batch)
            if batch.is_work:
                found[batch.index] = features(step, before)
            before = step
    online = pd.DataFrame.from_dict(found, orient="index").astype("float64")
    assert list(online.index) == list(asked.index)
    expected = matrix(asked)
    for name in FEATURES:
        np.testing.assert_allclose(online[name], expected[name], rtol=1e-12, err_msg=name)


def test_what_was_not_recorded_is_one_configuration() -> None:
    """Pandas has NULL as None in a column of nothing else, as NaN beside texts; the database as None."""
    columns = [pd.Series([None], dtype=object), pd.Series([None, "a CPU"], dtype="str")]
    keys = {
        key_of(pd.DataFrame({"engine_key": "e", "model": "m", "cpu_model": column}).iloc[:1])
        for column in columns
    }
    assert keys == {key_from(("e", "m", None))}


def model_of(frame: pd.DataFrame, kind: str, target: str, limit: float) -> Registered:
    """A model of these rows, as the registry gives it."""
    fitted = fit(frame[frame[target] > 0].assign(session="another"), 7, kind, target)
    return Registered(f"m-{target}", CHAMPION, "vllm", key_of(frame), fitted, limit)


@pytest.mark.parametrize("kind", list(RECIPES))
def test_one_row_is_expected_as_the_whole_table_is(kind: str) -> None:
    """Trees walked by hand, a line and costs give what the model gives, missing features included."""
    with lake(recorded(2)) as con:
        frame = batch_features(con, CAMPAIGN, look_ahead=False)
    model = model_of(frame, kind, TARGET, 0.3).model
    one = OneRow(model)
    frame.loc[frame.index % 7 == 0, "kv_tokens"] = None
    frame = frame.astype(dict.fromkeys(one.features, "float64"))
    expected = model.expected_ns(frame)
    rows = frame[list(one.features)].astype("object").where(frame[list(one.features)].notna(), None)
    told = [one.expected_ns({str(k): v for k, v in row.items()}) for row in rows.to_dict("records")]
    np.testing.assert_allclose(told, expected, rtol=2e-6)


def test_alarms_and_incidents_are_those_of_the_whole_run() -> None:
    """A slow stretch and pauses: every score, alarm and incident is as detect.py has it."""
    with lake(recorded(3)) as con:
        trained = batch_features(con, CAMPAIGN)
    with lake(recorded(4, slice(700, 900))) as con:
        frame = batch_features(con, CAMPAIGN)
        came = replayed(con)
    judge, of_interval = (
        model_of(trained, "xgboost", target, limit) for target, limit in ((TARGET, 0.25), (INTERVAL, 0.3))
    )
    scored = score_run(frame, judge, of_interval)
    incidents = find_incidents(scored, frame, {RUN: 12.0})
    scorer, merged = Scorer(judge, of_interval), Incidents(12.0)
    settled: list[Scored] = []
    said = []
    for _, batch in came:
        _, done = scorer.take(batch)
        settled += done
    settled += scorer.end()
    for row in settled:
        said += merged.take(row)
    said += merged.end()
    assert [row.index for row in settled] == scored["batch_index"].tolist()
    assert [row.alarm for row in settled] == scored["alarm"].tolist()
    assert [row.in_domain for row in settled] == scored["in_domain"].tolist()
    np.testing.assert_allclose(
        [row.smoothed for row in settled], scored["smoothed_residual"], rtol=1e-4, atol=1e-6
    )
    closed = pd.DataFrame([one for one in said if one["type"] == "incident_closed"])
    assert len(closed) == len(incidents) > 0
    for name in incidents.columns.drop("run_id"):
        if pd.api.types.is_float_dtype(incidents[name]):
            np.testing.assert_allclose(closed[name], incidents[name], rtol=1e-5, err_msg=name)
        else:
            assert closed[name].tolist() == incidents[name].tolist(), name


def row(index: int, ratio: float, *, alarm: bool = False, inside: bool = True) -> Scored:
    """A settled batch of 1 s that was expected to take 1 s / ratio."""
    second = 1000 * MS
    return Scored(
        index, index * second, second, second / ratio, 0.5, 0.5, 0.3, "m", inside, alarm, "decode", None,
        rebased=False,
    )  # fmt: skip


def test_an_incident_without_end_is_drift_and_said_once() -> None:
    """After ten minutes and a thousand batches the model no longer fits: said, and taken as normal."""
    merged, drift = Incidents(), Drift()
    said = []
    for index in range(1500):
        batch = row(index, 2.0, alarm=True)
        merged.take(batch)
        events, level = drift.take(batch, merged.open)
        said += events
        if level:
            said += merged.end("drift")
            assert level == pytest.approx(np.log(2.0))
            break
    assert [one["type"] for one in said] == ["drift", "incident_closed"]
    assert said[1]["how"] == "drift"


def test_batches_unlike_the_trained_ones_are_said_once() -> None:
    """Half of the batches out of the domain is said, and said again when it is over."""
    drift = Drift()
    said = []
    for index in range(4000):
        said += drift.take(row(index, 1.0, inside=index >= 1000), None)[0]
    assert [one["type"] for one in said] == ["out_of_domain", "in_domain"]


def test_memory_does_not_grow_with_the_watch() -> None:
    """A day of alarms: what is kept is bounded."""
    merged = Incidents()
    for index in range(30_000):
        merged.take(row(index, 2.0, alarm=index % 12 != 0))
    assert merged.open is not None
    assert len(merged._tail) + len(merged._streak) < 100
