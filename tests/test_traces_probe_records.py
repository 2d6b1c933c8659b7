"""Records of the trial probe: composition where it was recorded, NULL where not."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.traces import probe_records
from tests.foreign_cases import DATA, accounts, adds_up_or_is_told, loaded, rejected, rows, written

T = 1_795_340_349_101_046_853
MS = 10**6
REAL = {"sglang_sched_mixed": 182, "vllm_sched_chunked": 66, "vllm_worker_chunked": 66}
COLUMNS = (
    "start_ns", "duration_ns", "execute_ns", "interval_ns", "forward_mode", "batch_size", "new_input_tokens",
    "kv_tokens", "input_length_avg", "input_length_max", "admitted", "prefix_hit_tokens", "finished",
    "waiting", "running",
)  # fmt: skip
REQUESTS: dict[str, Any] = {"bs": 0, "prefill": [], "ndec": 0, "dec_ctx": [], "ntok": 0}


def worker(start_ns: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A record of vLLM's worker."""
    return {"i": 1, "t0": start_ns, "exec_us": 5, "sample_us": 1, "batch_us": 7, "self_us": 0.5,
            **REQUESTS, **fields}  # fmt: skip


def sglang(start_ns: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A record of SGLang's scheduler."""
    return {"mode": "EXTEND", "queue": 2, "t0": start_ns, "i": 1, "run_us": 5, "proc_us": 1, "batch_us": 7,
            "finished": 0, "self_us": 0.5, **REQUESTS, **fields}  # fmt: skip


def jsonl(path: Path, *records: object) -> Path:
    """A file of these records."""
    return written(path, [json.dumps(record) for record in records])


def test_records_of_a_worker(tmp_path: Path) -> None:
    """A prompt in two chunks after a cache hit, one that began unseen, a decode, nothing."""
    path = jsonl(
        tmp_path / "vllm_worker-7.jsonl",
        worker(T, bs=1, ntok=128, prefill=[["a", 366, 16, 128]]),
        worker(T + MS, bs=3, ntok=240, prefill=[["a", 366, 144, 222], ["b", 20, 0, 17]], dec_ctx=[50]),
        worker(T + 2 * MS, bs=2, ntok=10, prefill=[["c", None, 0, 5], ["b", 20, 17, 5]]),
        worker(T + 3 * MS, bs=2, ntok=2, dec_ctx=[367, 51]),
        worker(T + 4 * MS),
    )
    with loaded(probe_records, path) as con:
        assert rows(con, "batches", *COLUMNS, order="batch_index") == [
            (T, 7000, 5000, MS, "prefill", 1, 128, 144, 366, 366, 1, 16, None, None, None),
            (T + MS, 7000, 5000, MS, "mixed", 3, 240, 366 + 17 + 50, None, None, 1, 0, None, None, None),
            (T + 2 * MS, 7000, 5000, MS, "prefill", 2, 10, 5 + 22, None, None, 1, 0, None, None, None),
            (T + 3 * MS, 7000, 5000, MS, "decode", 2, 2, 418, None, None, 0, 0, None, None, None),
            (T + 4 * MS, 7000, 5000, None, "idle", 0, 0, 0, None, None, 0, 0, None, None, None),
        ]
        assert json.loads(rows(con, "batches", "extra")[0][0]) == {
            "i": 1, "exec_us": 5, "sample_us": 1, "batch_us": 7, "self_us": 0.5, "ndec": 0,
            "site": "vllm_worker",
        }  # fmt: skip
        assert set(rows(con, "batches", "source")) == {("probe_trial",)}


def test_records_of_schedulers(tmp_path: Path) -> None:
    """SGLang's ends count with the next batch; vLLM's scheduler knows the queue and no composition."""
    path = jsonl(
        tmp_path / "sglang_sched-7.jsonl",
        sglang(T, bs=2, ntok=40, prefill=[["a", 30, 0, 30], ["b", 10, 0, 10]], finished=1),
        sglang(T + MS, mode="DECODE", bs=1, ntok=1, dec_ctx=[31], queue=0),
    )
    with loaded(probe_records, path) as con:
        assert rows(con, "batches", *COLUMNS, order="batch_index") == [
            (T, 7000, 5000, MS, "prefill", 2, 40, 40, 20, 30, 2, 0, 0, 2, None),
            (T + MS, 7000, 5000, None, "decode", 1, 1, 31, None, None, 0, 0, 1, 0, None),
        ]
    assert [source.facts for source in probe_records.sources(path)] == [{"engine": "sglang"}]
    record = {
        "t_sched": T,
        "sched_us": 9,
        "wait_us": 7,
        "update_us": 1,
        "waiting": 3,
        "running": 1,
        "bs": 2,
        "ntok": 4,
    }
    path = jsonl(tmp_path / "vllm_sched-7.jsonl", record)
    with loaded(probe_records, path) as con:
        assert rows(con, "batches", *COLUMNS) == [
            (T, 7000, None, None, None, 2, 4, None, None, None, None, None, None, 3, 1)
        ]
    assert [source.facts for source in probe_records.sources(path)] == [{"engine": "vllm"}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not a JSON object"),
        (b"\xff", "not UTF-8"),
        (b'{"t0": 1}', "a record of no known kind"),
        (worker(T, bs=None), "a field is missing or no whole number"),
        (worker(T, batch_us=1.5), "a field is missing or no whole number"),
        (worker(9**30), "a field is missing or no whole number"),
        (worker(T, batch_us=-1), "negative duration"),
        (worker(T, exec_us=10**16), "a number is out of range"),
        (worker(T, bs=1, prefill=[["a", 1, 2]]), "a request is not as the probe writes it"),
        (worker(T, bs=1, prefill=[["a", -1, 2, 3]]), "a request is not as the probe writes it"),
        (worker(T, bs=1, dec_ctx=["x"]), "a request is not as the probe writes it"),
        (worker(T, bs=3, dec_ctx=[1]), "bs is not the number of requests"),
    ],
)
def test_what_is_rejected(tmp_path: Path, line: object, reason: str) -> None:
    """The line alone, with its reason."""
    text = line if isinstance(line, bytes) else json.dumps(line)
    path = written(tmp_path / "a.jsonl", [json.dumps(worker(T)), text, json.dumps(worker(T))])
    with loaded(probe_records, path) as con:
        assert rejected(con) == [(2, reason)]
        assert accounts(con) == [("a.jsonl", 3, 2, 1)]


def test_what_is_a_file_of_the_probe() -> None:
    """By the keys of its first line."""
    for record in (worker(T), sglang(T)):
        assert probe_records.sniff(Path("a"), json.dumps(record).encode() + b"\n")
    for text in (b"", b"{}", b'{"type": "batch", "source": "vllm_probe"}', b'[{"run_us": 1}]'):
        assert not probe_records.sniff(Path("a"), text)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.skipif(not (DATA / "logs").is_dir(), reason="the real records are absent")
def test_the_real_records(name: str) -> None:
    """A line a batch; all prompts are computed, in chunks, and no batch ends after the next one starts."""
    path = DATA / "logs" / f"{name}.jsonl"
    documents = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert probe_records.sniff(path, path.read_bytes()[:65536])
    with loaded(probe_records, path) as con:
        assert accounts(con) == [(path.name, REAL[name], REAL[name], 0)]
        assert rows(con, "batches", "new_input_tokens", "batch_size", order="batch_index") == [
            (record["ntok"], record["bs"]) for record in documents
        ]
        if name != "vllm_sched_chunked":
            prompts = {
                request: length for record in documents for request, length, *_ in record.get("prefill", [])
            }
            (admitted,) = con.table("batches").aggregate("SUM(admitted)").fetchall()
            assert admitted == (len(prompts),)
            late = con.table("batches").filter("duration_ns > interval_ns")
            assert len(late) == 0


GOOD = json.dumps(worker(T, bs=2, ntok=5, prefill=[["a", 9, 0, 4]], dec_ctx=[3])).encode()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(
                lambda at, more, end: GOOD[:at] + more + GOOD[at + end :],
                st.integers(0, len(GOOD)),
                st.binary(max_size=3) | st.sampled_from([b"9" * 18, b"-", b"e99"]),
                st.integers(0, 3),
            ),
        ),
        max_size=4,
    )
)
def test_any_bytes(content: list[bytes]) -> None:
    """Either the account adds up or one error names the file."""
    with tempfile.TemporaryDirectory() as folder:
        adds_up_or_is_told(probe_records, written(Path(folder) / "a.jsonl", content))
