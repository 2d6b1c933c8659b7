"""vLLM's log: every iteration is a batch, other lines are text, and a stamp says no more than it can."""

import json
import tempfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.traces import vllm_log
from tests.foreign_cases import DATA, accounts, adds_up_or_is_told, loaded, rejected, rows, written

LOG = DATA / "logs" / "vllm_iteration_details.log"
S, MS = 10**9, 10**6
# 22 November, 9:01:17, in the year that stands for the one that the log does not tell.
STAMP = round(datetime(1972, 11, 22, 9, 1, 17, tzinfo=UTC).timestamp()) * S

UNDATED = "local time without a year, 1972 for the first"


def line(
    iteration: int, context: str, generation: str, ms: str, stamp: str = "INFO 11-22 09:01:17", rest: str = ""
) -> str:
    """A line as vLLM 0.32 prints it; `context` and `generation` are requests/tokens."""
    (requests, tokens), (decodes, new) = context.split("/"), generation.split("/")
    return (
        f"{stamp} [loggers.py:199] Engine 000: Iteration({iteration}): {requests} context requests, "
        f"{tokens} context tokens, {decodes} generation requests, {new} generation tokens, "
        f"iteration elapsed time: {ms} ms{rest}, CPU KV cache usage: 0.2%"
    )


def test_ten_lines(tmp_path: Path) -> None:
    """Modes by the counts, durations exact, steps laid one after the other within the second."""
    path = written(tmp_path / "a.log", [
        "INFO 11-22 09:00:00 [api_server.py:1] Starting vLLM server",
        line(0, "1/6", "0/0", "94.18"),
        line(1, "0/0", "1/1", "360.23"),
        line(2, "2/20", "1/1", "4.4"),
        "Traceback (most recent call last): StopIteration(7)",
        line(3, "0/0", "3/3", "1", "INFO 11-22 09:01:19"),
        line(4, "0/0", "0/0", "0.07", "INFO 11-22 09:01:19", " (dummy)"),
        line(5, "0/0", "3/3", "-1.00"),
        line(6, "0/0", "3/3", "nan"),
        line(7, "0/0", "3/3", "1.00")[:100],
    ])  # fmt: skip
    with loaded(vllm_log, path) as con:
        columns = "start_ns duration_ns forward_mode batch_size new_input_tokens rank interval_ns source"
        assert rows(con, "batches", *columns.split(), order="batch_index") == [
            (STAMP - 94_180_000, 94_180_000, "prefill", 1, 6, 0, None, "vllm_log"),
            (STAMP, 360_230_000, "decode", 1, 1, 0, None, "vllm_log"),
            (STAMP + 360_230_000, 4_400_000, "mixed", 3, 21, 0, None, "vllm_log"),
            (STAMP + 2 * S - 1 * MS, 1_000_000, "decode", 3, 3, 0, None, "vllm_log"),
            (STAMP + 2 * S, 70_000, "idle", 0, 0, 0, None, "vllm_log"),
        ]  # fmt: skip
        assert rejected(con) == [
            (8, "negative duration"), (9, "damaged iteration line"), (10, "damaged iteration line"),
        ]  # fmt: skip
        assert accounts(con) == [("a.log", 10, 7, 3)]
        extra = [json.loads(text) for (text,) in rows(con, "batches", "extra", order="batch_index")]
        assert extra[4] == {
            "iteration": 4, "context_requests": 0, "context_tokens": 0, "dummy": True, "kv_device": "CPU",
            "kv_usage_pct": 0.2, "time_base": f"{UNDATED}, whole seconds",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("stamp", "end_ns", "base"),
    [
        ("1795340449.123456 INFO", 1795340449123456000, "epoch"),
        ("2026-11-22 09:01:17,123 INFO", 1795338077123000000, "date and time as logged, taken for UTC"),
        ("2026-11-22T09:01:17.123456 INFO", 1795338077123456000, "date and time as logged, taken for UTC"),
        ("(APIServer pid=7) INFO 11-22 09:01:17.5", STAMP + S // 2, UNDATED),
        ("\x1b[0;36m(APIServer pid=7)\x1b[0;0m INFO 02-29 00:00:00.25", 68_169_600 * S + S // 4, UNDATED),
    ],
)  # fmt: skip
def test_a_fraction_gives_the_end_of_the_step(tmp_path: Path, stamp: str, end_ns: int, base: str) -> None:
    """Then start and interval are known; the interval not where an iteration is missing."""
    path = written(tmp_path / "a.log", [line(n, "0/0", "1/1", "2.50", stamp) for n in (1, 2, 4)])
    with loaded(vllm_log, path) as con:
        assert rows(con, "batches", "start_ns", "interval_ns", order="batch_index") == [
            (end_ns - 2_500_000, 0), (end_ns - 2_500_000, None), (end_ns - 2_500_000, None),
        ]  # fmt: skip
        assert {json.loads(text)["time_base"] for (text,) in rows(con, "batches", "extra")} == {base}


def test_a_year_turns(tmp_path: Path) -> None:
    """January follows December, not the other way round."""
    stamps = ["12-31 23:59:59", "01-01 00:00:00"]
    steps = [line(n, "0/0", "1/1", "1", f"INFO {at}") for n, at in enumerate(stamps)]
    path = written(tmp_path / "a.log", steps)
    with loaded(vllm_log, path) as con:
        assert rows(con, "batches", "start_ns", order="batch_index") == [
            (94_694_399 * S - MS,), (94_694_400 * S - MS,),
        ]  # fmt: skip


def test_engines_run_beside_each_other(tmp_path: Path) -> None:
    """Each rank has its own time line; a line without an engine has none."""
    first, other = line(0, "0/0", "1/1", "100"), line(0, "0/0", "1/1", "70").replace("000:", "001:")
    alone = first.replace("Engine 000: ", "")
    path = written(tmp_path / "a.log", [first, other, alone, first, other], end=b"\r\n")
    with loaded(vllm_log, path) as con:
        assert rows(con, "batches", "rank", "start_ns", order="rank NULLS LAST, start_ns") == [
            (0, STAMP - 100 * MS), (0, STAMP), (1, STAMP - 70 * MS), (1, STAMP), (None, STAMP - 100 * MS),
        ]  # fmt: skip


def test_a_log_without_stamps_is_quarantined(tmp_path: Path) -> None:
    """Without any time, and with one that does not exist."""
    stamps = ["INFO", "INFO 13-45 09:01:17", "9999999999.5", "9999-01-01 00:00:00"]
    path = written(tmp_path / "a.log", [line(0, "0/0", "1/1", "1", stamp) for stamp in stamps])
    with loaded(vllm_log, path) as con:
        assert rejected(con) == [(n, "no time in front of the iteration") for n in (1, 2, 3, 4)]


def test_what_is_a_vllm_log() -> None:
    """An iteration, or any line in vLLM's own form; no other format's."""
    of_vllm = [line(0, "0/0", "1/1", "1"), "(EngineCore pid=1) INFO 11-22 09:01:17 [core.py:77] Initializing"]
    others = [
        "",
        '{"name": "Iteration(x)"}',
        "INFO started",
        "name,cat,ph",
        '{"traceEvents": [{"name": ""}]}',
    ]
    assert [vllm_log.sniff(Path("x"), f"\n{text}\n".encode()) for text in of_vllm] == [True, True]
    assert [vllm_log.sniff(Path("x"), text.encode()) for text in others] == [False] * 5


@pytest.mark.skipif(not LOG.is_file(), reason=f"{LOG} is absent")
def test_the_real_log() -> None:
    """400 lines, 400 batches, in the order of their iterations, none before the one before it has ended."""
    assert vllm_log.sniff(LOG, LOG.read_bytes()[:65536])
    with loaded(vllm_log, LOG) as con:
        assert accounts(con) == [("vllm_iteration_details.log", 400, 400, 0)]
        assert rows(con, "batches", "CAST(extra -> '$.iteration' AS BIGINT)", order="batch_index") == [
            (n,) for n in range(400)
        ]
        found = rows(con, "batches", "start_ns", "duration_ns", order="batch_index")
        assert all(start + ns <= after for (start, ns), (after, _) in pairwise(found))
        assert sum(ns for _, ns in found) == 1_507_950_000
        # 41 steps hold a prompt, 12 of them nothing else.
        modes = con.table("batches").aggregate("forward_mode, COUNT(*)").order("ALL").fetchall()
        assert modes == [("decode", 360), ("mixed", 28), ("prefill", 12)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.builds(
                lambda text, at, more: text[:at].encode() + more + text[at:].encode(),
                st.sampled_from(
                    [line(0, "1/6", "2/2", "1.0"), line(9**9, "0/0", "0/0", "999999999.123456789")]
                ),
                st.integers(0, 230),
                st.binary(max_size=3),
            ),
        ),
        max_size=4,
    )
)
def test_any_bytes(content: list[bytes]) -> None:
    """Either the account adds up or one error names the file."""
    with tempfile.TemporaryDirectory() as folder:
        adds_up_or_is_told(vllm_log, written(Path(folder) / "a.log", content))
