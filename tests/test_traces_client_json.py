"""Results of load clients: a row a request, failed ones told apart, the summary kept."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.settings import LprismError
from tasks.traces import client_json
from tests.foreign_cases import accounts, adds_up_or_is_told, loaded, rejected, rows, written

# As vLLM 0.32 writes it: totals, lists with one value a request, statistics.
VLLM: dict[str, Any] = {
    "date": "20261123-021500", "endpoint_type": "vllm", "backend": "vllm", "label": None, "model_id": "tiny",
    "tokenizer_id": "tiny", "num_prompts": 4, "request_rate": "inf", "burstiness": 1.0, "max_concurrency": 2,
    "duration": 1.5, "completed": 2, "failed": 2, "total_input_tokens": 60, "total_output_tokens": 5,
    "request_throughput": 1.3, "request_goodput": None, "output_throughput": 3.3,
    "input_lens": [32, 28, 30, 30], "output_lens": [3, 2, 0, 0], "ttfts": [0.0123456789, 0.25, 0.0, 0.5],
    "itls": [[0.0034, 0.0066], [1e-05], [], [0.1]], "latencies": [0.0223456789, 0.25002, 0.0, 0.0],
    "start_times": [12345.123456789, 12345.5, 12346, 12347.0], "queue_times": [0.0, 0.001, 0.0, 0.0],
    "generated_texts": ["a b c", "a b", "", "a"], "errors": ["", "", "", "Traceback: ClientPayloadError"],
    "mean_ttft_ms": 131.17, "p99_itl_ms": 6.6,
}  # fmt: skip
# As sglang.bench_serving writes it with --output-details, on one line after those of the runs before.
SGLANG: dict[str, Any] = {
    "tag": None, "backend": "sglang", "dataset_name": "random", "request_rate": 4.0, "max_concurrency": 8,
    "random_input_len": 32, "random_output_len": 3, "random_range_ratio": 1.0,
    "server_info": {"tp_size": 1, "mem_fraction": 0.5}, "duration": 2.5, "completed": 1,
    "total_input_tokens": 32, "total_output_tokens": 3, "request_throughput": 0.4, "mean_ttft_ms": 5.0,
    "input_lens": [32, 32], "output_lens": [3, 0], "ttfts": [0.01, 0.0], "itls": [[0.01, 0.01], []],
    "generated_texts": ["a b c", ""], "errors": ["", "Bad Request"],
}  # fmt: skip


def test_requests_of_vllm(tmp_path: Path) -> None:
    """Completed ones with their times, failed ones without an end: with an error, and without any token."""
    path = written(tmp_path / "load.json", [json.dumps(VLLM)])
    assert client_json.sniff(path, path.read_bytes())
    with loaded(client_json, path) as con:
        columns = "request_index status error input_tokens output_tokens start_monotonic_ns"
        assert rows(con, "requests", *columns.split(), order="request_index") == [
            (0, "completed", None, 32, 3, 12_345_123_456_789),
            (1, "completed", None, 28, 2, 12_345_500_000_000),
            (2, "failed", None, 30, 0, 12_346_000_000_000),
            (3, "failed", "Traceback: ClientPayloadError", 30, 0, 12_347_000_000_000),
        ]
        columns = "queue_ms ttft_ms itl_count itl_avg_ms itl_max_ms itl_ms_values e2e_ms"
        assert rows(con, "requests", *columns.split(), order="request_index") == [
            (0, 12.345679, 2, 5, 6.6, "[3.4,6.6]", 22.345679),
            (1, 250, 1, 0.01, 0.01, "[0.01]", 250.02),
            (0, None, 0, None, None, "[]", None),
            (0, 500, 1, 100, 100, "[100.0]", None),
        ]
        assert accounts(con) == [("load.json", 5, 5, 0)]
        assert rows(con, "requests", "run_id", "client_run_index", "source", "start_ns")[0] == (
            "r0000000000", 0, "vllm_bench", None,
        )  # fmt: skip
        assert rows(con, "runs", "model", "concurrency", "input_length") == [("tiny", 2, None)]
        ((head,),) = rows(con, "files", "head")
        lists = {*client_json.LISTS, "generated_texts"}
        assert json.loads(head) == {key: value for key, value in VLLM.items() if key not in lists}


def test_requests_of_sglang(tmp_path: Path) -> None:
    """A line a run of the client; one without details is a summary alone; the end is the last token."""
    brief = {key: value for key, value in SGLANG.items() if not isinstance(value, list)}
    path = written(tmp_path / "out.jsonl", [json.dumps(brief), json.dumps(SGLANG)], end=b"\r\n")
    assert client_json.sniff(path, path.read_bytes())
    with loaded(client_json, path) as con:
        columns = "client_run_index request_index status error ttft_ms itl_max_ms e2e_ms source"
        assert rows(con, "requests", *columns.split(), order="request_index") == [
            (1, 0, "completed", None, 10, 10, 30, "sglang_bench"),
            (1, 1, "failed", "Bad Request", None, None, None, "sglang_bench"),
        ]
        assert accounts(con) == [("out.jsonl", 4, 4, 0)]
        assert rows(con, "runs", "input_length", "output_length", "concurrency") == [(32, 3, 8)]
        ((head,),) = rows(con, "files", "head")
        assert json.loads(head) == [brief, brief]


def test_a_result_without_details(tmp_path: Path) -> None:
    """Then vLLM leaves the latencies, and does not tell which request failed unless it took no time."""
    kept = {key: value for key, value in VLLM.items() if not isinstance(value, list)}
    path = written(tmp_path / "load.json", [json.dumps({**kept, "latencies": [0.5, 0.0]})])
    with loaded(client_json, path) as con:
        columns = ("request_index", "status", "e2e_ms", "itl_count")
        assert rows(con, "requests", *columns, order="request_index") == [
            (0, None, 500, None), (1, "failed", None, None),
        ]  # fmt: skip


def test_a_failure_without_words(tmp_path: Path) -> None:
    """No token came, though the client measured a time and says no error."""
    silent = {**SGLANG, "latencies": [0.03, 0.03], "errors": ["", ""]}
    with loaded(client_json, written(tmp_path / "out.jsonl", [json.dumps(silent)])) as con:
        assert rows(con, "requests", "request_index", "status", "e2e_ms", order="request_index") == [
            (0, "completed", 30), (1, "failed", None),
        ]  # fmt: skip


def test_a_result_over_several_lines(tmp_path: Path) -> None:
    """Printed prettily it is the same result."""
    path = tmp_path / "load.json"
    path.write_text("\ufeff" + json.dumps(VLLM, indent=2))
    assert client_json.sniff(path, path.read_bytes())
    with loaded(client_json, path) as con:
        assert accounts(con) == [("load.json", 5, 5, 0)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ttfts": [float("nan"), 1]}, "a time is no number"),
        ({"ttfts": ["soon", 1]}, "a time is no number"),
        ({"latencies": [float("inf"), 1]}, "a time is no number"),
        ({"ttfts": [-0.5, 1]}, "negative duration"),
        ({"itls": [[0.1, -0.1], []]}, "negative duration"),
        ({"itls": [[0.1, None], []]}, "itls is no list of numbers"),
        ({"itls": [0.5, []]}, "itls is no list of numbers"),
        ({"output_lens": [1.5, 1]}, "output_lens is no count"),
        ({"input_lens": [-1, 1]}, "input_lens is no count"),
        ({"errors": ["\ud800", ""]}, "text that is no Unicode"),
    ],
)  # fmt: skip
def test_what_is_rejected(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    """The request alone; the other one of the run is kept."""
    path = written(tmp_path / "out.jsonl", [json.dumps({**SGLANG, **changes})])
    with loaded(client_json, path) as con:
        assert rejected(con) == [(2, reason)]
        assert rows(con, "requests", "request_index") == [(1,)]


def test_lists_of_different_lengths(tmp_path: Path) -> None:
    """What is beyond the shortest list belongs to nobody."""
    path = written(tmp_path / "out.jsonl", [json.dumps({**SGLANG, "ttfts": [0.5]})])
    with loaded(client_json, path) as con:
        assert rejected(con) == [(3, "a list of this run is shorter than the others")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "empty line"), (b"[]", "not a JSON object"), (b'{"a": ', "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"), (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not a JSON object"),
    ],
)  # fmt: skip
def test_a_damaged_line(tmp_path: Path, line: bytes, reason: str) -> None:
    """The line alone; those before and after are kept."""
    good = json.dumps(SGLANG).encode()
    with loaded(client_json, written(tmp_path / "out.jsonl", [good, line, good])) as con:
        assert rejected(con) == [(4, reason)]
        assert accounts(con) == [("out.jsonl", 7, 6, 1)]


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    """Nothing is no result."""
    with (
        pytest.raises(LprismError, match=r"load\.json is empty"),
        loaded(client_json, written(tmp_path / "load.json", [])),
    ):
        pass


def test_a_cut_file_is_quarantined(tmp_path: Path) -> None:
    """An object that ends in the middle is one row set aside."""
    path = tmp_path / "load.json"
    path.write_text(json.dumps(VLLM)[:700])
    with loaded(client_json, path) as con:
        assert rejected(con) == [(1, "not a JSON object")]


def test_other_json_is_no_result() -> None:
    """A trace, a manifest, a list."""
    for text in (
        b"",
        b"{}",
        b'{"traceEvents": []}',
        b'["backend", "duration", "completed", "request_throughput"]',
    ):
        assert not client_json.sniff(Path("load.json"), text)


GOOD = json.dumps(SGLANG).encode()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(
                lambda at, more, end: GOOD[:at] + more + GOOD[at + end :],
                st.integers(0, len(GOOD)),
                st.binary(max_size=3) | st.sampled_from([b"9" * 40, b"-", b"e99", b"NaN"]),
                st.integers(0, 3),
            ),
        ),
        max_size=4,
    )
)
def test_any_bytes(content: list[bytes]) -> None:
    """Either the account adds up or one error names the file."""
    with tempfile.TemporaryDirectory() as folder:
        adds_up_or_is_told(client_json, written(Path(folder) / "load.json", content))
