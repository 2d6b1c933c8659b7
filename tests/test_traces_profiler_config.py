"""model_config.txt: attributes find their calls, runs their results, and every line is accounted for."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.settings import LprismError
from tasks.traces.profiler_config import add_batches
from tasks.warehouse import told
from tests.foreign_cases import accounts, empty_tables, rejected, rows, written

T = 1_764_000_000_000_000_000
US = 1000
RUN, RESULT, ASK = "run_batch", "process_batch_result", "get_next_batch_to_run"
Call = tuple[str, int, int] | tuple[str, int, int, str]


def attribute(at_us: float, value: object, attr: str = "reqs", fn: str = RUN) -> str:
    """A line of the file: the start is counted from T."""
    about = {"class": "Scheduler", "fn": fn, "attr": attr}
    start = f"{T // US + int(at_us)}.{round(at_us % 1 * 1000):03d}"
    return f'"kunlunClassAttr": {json.dumps(about)}, "Value": {value}, "start_time": {start}'


def reqs(mode: int | str, *lengths: tuple[int, int]) -> str:
    """What stands for the requests: a mode, and of each its lengths."""
    each = (
        f"Req(rid={n:x}a, input_ids={[7] * prompt}, output_ids={[8] * output}, self.grammar=None)"
        for n, (prompt, output) in enumerate(lengths)
    )
    return f'"forward_mode={mode}, reqs=[{", ".join(each)}], duration=0.5"'


@contextmanager
def batches_of(
    folder: Path, calls: Sequence[Call], lines: Sequence[str | bytes]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables after the file was read beside a trace of these calls: name, start and duration in us."""
    path = written(folder / "model_config.txt", lines)
    with empty_tables() as con, told(path):
        for index, (name, start, duration, *process) in enumerate(calls):
            con.execute(
                "INSERT INTO events BY NAME SELECT 't.json' AS file_name, $index AS event_index, "
                "'X' AS phase, $name AS name, $process AS process, "
                "$start AS start_ns, $duration AS duration_ns",
                {"index": index, "name": f"Scheduler.{name}", "process": (process or ["h(1)"])[0],
                 "start": T + start * US, "duration": duration * US},
            )  # fmt: skip
        added = add_batches(con, path, "model_config.txt")
        assert added == len(con.table("batches"))
        yield con


def times(con: duckdb.DuckDBPyConnection, *more: str) -> list[tuple[Any, ...]]:
    """Start after T and duration in us of every batch, and more columns."""
    found = rows(con, "batches", "start_ns", "duration_ns", *more, order="batch_index")
    return [((start - T) / US, duration / US, *others) for start, duration, *others in found]


def test_a_prefill_and_a_decode(tmp_path: Path) -> None:
    """A batch lasts from its run to the end of its result; its lengths are those of the run."""
    calls: list[Call] = [
        (ASK, 5, 1),
        (RUN, 10, 50),
        (RESULT, 70, 10),
        (ASK, 85, 1),
        (RUN, 100, 20),
        (RESULT, 130, 5),
    ]
    lines = [
        attribute(12.5, reqs(1, (30, 0), (10, 0))),
        attribute(12.5, 2, "batch_size"),
        attribute(70, reqs(1, (30, 1), (10, 1)), "result", RESULT),
        attribute(98.25, reqs(2, (30, 1), (10, 1), (6, 4))),
    ]
    with batches_of(tmp_path, calls, lines) as con:
        assert times(con, "forward_mode", "batch_size", "execute_ns", "interval_ns") == [
            (10, 70, "prefill", 2, 50 * US, 90 * US), (100, 35, "decode", 3, 20 * US, None),
        ]  # fmt: skip
        columns = (
            "input_length_avg input_length_max output_length_avg output_length_max kv_tokens new_input_tokens"
        )
        assert rows(con, "batches", *columns.split(), order="batch_index") == [
            (20, 30, 0, 0, 40, None), (46 / 3, 30, 2, 4, 52, 3),
        ]  # fmt: skip
        assert json.loads(rows(con, "batches", "extra", order="batch_index")[0][0]) == {
            "process": "h(1)", "post_forward_mode": "1", "post_batch_size": 2, "post_input_length_avg": 20,
            "post_input_length_max": 30, "post_output_length_avg": 1, "post_output_length_max": 1,
        }  # fmt: skip
        assert accounts(con) == [("model_config.txt", 4, 4, 0)]
        assert rows(con, "files", "format", "rows_kept") == [("profiler_config", 4)]


def test_a_call_is_matched_within_5_us(tmp_path: Path) -> None:
    """Not farther; the nearest of two; an attribute of no call is kept and makes no batch."""
    calls: list[Call] = [(RUN, 10, 1), (RUN, 14, 1), (RUN, 100, 1)]
    lines = [
        attribute(13, 3, "batch_size"), attribute(94.999, 9, "batch_size"), attribute(500, 8, "batch_size"),
    ]  # fmt: skip
    with batches_of(tmp_path, calls, lines) as con:
        assert times(con, "batch_size") == [(10, 1, None), (14, 1, 3), (100, 1, None)]
        assert accounts(con) == [("model_config.txt", 3, 3, 0)]
    for at, matched in ((95, True), (105, True), (105.001, False)):
        with batches_of(tmp_path, calls, [attribute(at, 9, "batch_size")]) as con:
            assert times(con, "batch_size")[2] == (100, 1, 9 if matched else None)


def test_two_runs_in_a_row(tmp_path: Path) -> None:
    """In another mode the first ends as the second starts; in the same mode each has its own result."""
    calls: list[Call] = [(RUN, 10, 5), (RUN, 20, 5), (RESULT, 30, 5), (RUN, 40, 5), (RUN, 50, 5),
                         (RESULT, 60, 5), (RESULT, 70, 5)]  # fmt: skip
    modes = [(10, 1), (20, 2), (40, 2), (50, 2)]
    with batches_of(tmp_path, calls, [attribute(at, reqs(mode, (1, 1))) for at, mode in modes]) as con:
        assert times(con, "forward_mode") == [
            (10, 10, "prefill"), (20, 15, "decode"), (40, 25, "decode"), (50, 25, "decode"),
        ]  # fmt: skip


def test_results_without_a_run_and_runs_without_a_result(tmp_path: Path) -> None:
    """The recording began after a run, and ended before a result; another process is another story."""
    calls: list[Call] = [(RESULT, 1, 2), (RUN, 10, 5), (RESULT, 20, 5), (RUN, 30, 5), (RUN, 12, 1, "h(2)"),
                         (RESULT, 14, 1, "h(2)")]  # fmt: skip
    with batches_of(tmp_path, calls, []) as con:
        assert times(con, "interval_ns") == [(10, 15, 20 * US), (12, 3, None), (30, 5, None)]
        assert accounts(con) == [("model_config.txt", 0, 0, 0)]


def test_idle_gaps(tmp_path: Path) -> None:
    """Where the scheduler asked twice and more between batches; once is how every batch begins."""
    calls: list[Call] = [(ASK, 1, 1), (ASK, 3, 1), (RUN, 10, 5), (RESULT, 15, 5), (ASK, 25, 1), (RUN, 30, 5),
                         (RESULT, 35, 5), (ASK, 45, 1), (ASK, 50, 1), (ASK, 55, 1), (RUN, 60, 5)]  # fmt: skip
    with batches_of(tmp_path, calls, []) as con:
        assert times(con, "forward_mode", "batch_size", "interval_ns") == [
            (10, 10, None, None, 20 * US), (30, 10, None, None, 10 * US), (40, 20, "idle", 0, 20 * US),
            (60, 5, None, None, None),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "not an attribute of a call"),
        ('"kunlunClassAttr": {"class": "Scheduler", "fn": "run_batch"}', "not an attribute of a call"),
        (b"\xff", "not UTF-8"),
        (attribute(1, 2, "batch_size").replace("start_time", "begin"), "start_time is no time in us"),
        (attribute(1, 2, "batch_size").replace("17640", "-17640"), "start_time is no time in us"),
        (attribute(1, 2, "batch_size").replace("1764", "9999"), "start_time is no time in us"),
        (attribute(1, 2, "batch_size").replace("Value", "Worth"), "no value"),
        (attribute(1, -2, "batch_size"), "batch_size is no count"),
        (attribute(1, '"rid=1f, input_ids=[1, 2], output_ids=[1,"'), "a request is cut off"),
        (attribute(1, '"rid=1f, rid=2f, input_ids=[1, 2], output_ids=[]"'), "a request is cut off"),
    ],
)
def test_a_line_that_is_rejected(tmp_path: Path, line: str | bytes, reason: str) -> None:
    """Alone, with its reason; lines in braces are read as those without."""
    good = "{" + attribute(10, reqs("DECODE", (3, 1))) + "}"
    with batches_of(tmp_path, [(RUN, 10, 5)], [good, line]) as con:
        assert rejected(con) == [(2, reason)]
        assert times(con, "forward_mode", "kv_tokens") == [(10, 5, "decode", 4)]


def test_a_long_line(tmp_path: Path) -> None:
    """All token ids of a large batch stand in one line: more than the lines of logs may be long."""
    lengths = [(4096, 500)] * 100
    with batches_of(tmp_path, [(RUN, 10, 5)], [attribute(10, reqs(2, *lengths))]) as con:
        assert times(con, "batch_size", "kv_tokens") == [(10, 5, 100, 459_600)]


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """It is named."""
    with empty_tables() as con, pytest.raises(LprismError, match=r"model_config\.txt: No such file"):
        add_batches(con, tmp_path / "model_config.txt", "model_config.txt")


GOOD = attribute(10, reqs(2, (3, 1))).encode()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(
                lambda at, more, end: GOOD[:at] + more + GOOD[at + end :],
                st.integers(0, len(GOOD)),
                st.binary(max_size=3) | st.sampled_from([b"9" * 40, b"-", b"[", b"]"]),
                st.integers(0, 3),
            ),
        ),
        max_size=4,
    )
)
def test_any_bytes(content: list[bytes]) -> None:
    """The account adds up, and no line takes a batch away."""
    with (
        tempfile.TemporaryDirectory() as folder,
        batches_of(Path(folder), [(RUN, 10, 5), (RESULT, 20, 5)], content) as con,
    ):
        ((_, rows_in, kept, quarantined),) = accounts(con)
        assert rows_in == kept + quarantined
        assert times(con) == [(10, 15)]
