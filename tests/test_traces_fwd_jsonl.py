"""Forward passes, one a line: what is written is kept exactly, the rest is rebuilt from the tokens."""

import gzip
import json
import shutil
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.traces import fwd_jsonl
from tests.foreign_cases import DATA, accounts, adds_up_or_is_told, loaded, rejected, rows, written

REAL = {"vllm073_l40s_llama2_7b_fwd.jsonl.gz": 3119, "vllm073_l40s_qwen25_7b_fwd.jsonl.gz": 2857}


def forward(start: str, ms: str, total: int | None = None, **tokens: int) -> str:
    """A line; the times are written as they are given."""
    return (
        f'{{"fwd_id": 7, "start_ts": {start}, "end_ts": 2e9, "duration_ms": {ms}, '
        f'"req_ids": {json.dumps(list(tokens))}, "num_tokens": {json.dumps(tokens)}, '
        f'"total_tokens": {sum(tokens.values()) if total is None else total}}}'
    )


NO_COUNTS, TWICE = "num_tokens is no object of counts", "a request has two counts in num_tokens"
GOOD = forward("1.5", "1", a=1, b=9).encode()


def test_ten_lines(tmp_path: Path) -> None:
    """A request in two chunks, decodes, one preempted and computed anew, an idle pass."""
    path = written(tmp_path / "a_fwd.jsonl", [
        forward("1772466339.966888123", "12.3456789", a=62),
        forward("1772466340", "5", a=1, b=26),
        forward("1772466341.5", "1e1", a=1, b=4, c=1),
        forward("1772466342.5", "4.0000004", a=1, b=1),
        forward("1772466343.5", "4.0000005", a=65, c=1),
        forward("1772466344.5", "4", a=1),
        forward("1772466345.5", "4"),
        forward("1772466346.5", "-4", a=1),
    ])  # fmt: skip
    with loaded(fwd_jsonl, path) as con:
        columns = (
            "start_ns duration_ns interval_ns forward_mode batch_size new_input_tokens admitted finished"
        )
        assert rows(con, "batches", *columns.split(), order="batch_index") == [
            (1772466339966888123, 12_345_679, 33_111_877, "prefill", 1, 62, 1, 0),
            (1772466340000000000, 5_000_000, 1_500_000_000, "mixed", 2, 27, 1, 0),
            (1772466341500000000, 10_000_000, 1_000_000_000, "mixed", 3, 6, 1, 0),
            (1772466342500000000, 4_000_000, 1_000_000_000, "decode", 2, 2, 0, 0),
            (1772466343500000000, 4_000_001, 1_000_000_000, "mixed", 2, 66, 0, 1),
            (1772466344500000000, 4_000_000, 1_000_000_000, "decode", 1, 1, 0, 1),
            (1772466345500000000, 4_000_000, None, "idle", 0, 0, 0, 1),
        ]  # fmt: skip
        columns = "input_length_avg input_length_max output_length_avg output_length_max kv_tokens"
        assert rows(con, "batches", *columns.split(), order="batch_index") == [
            (62, 62, 0, 0, 62),
            ((62 + 30) / 2, 62, 1 / 2, 1, 63 + 26),
            ((62 + 30 + 1) / 3, 62, 2 / 3, 2, 64 + 30 + 1),
            ((62 + 30) / 2, 62, (3 + 1) / 2, 3, 65 + 31),
            ((62 + 1) / 2, 62, (3 + 1) / 2, 3, 65 + 2),
            (62, 62, 4, 4, 66),
            (None, None, None, None, 0),
        ]  # fmt: skip
        assert rejected(con) == [(8, "negative duration")]
        assert rows(con, "batches", "extra", order="batch_index")[0] == (
            '{"forward_id":"7","end_ns":2000000000000000000}',
        )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "not a JSON object"),
        ("[1]", "not a JSON object"),
        (forward("1.5", "1", a=1)[:-10], "not a JSON object"),
        (b'{"fwd_id": "\xff"}', "not UTF-8"),
        (forward('"1.5"', "1", a=1), "start_ts is no time"),
        (forward("NaN", "1", a=1), "start_ts is no time"),
        (forward("99999999999", "1", a=1), "start_ts is no time"),
        (forward("9999999999", "1", a=1), "start_ts is no time"),
        (forward("1.5", "Infinity", a=1), "duration_ms is no number"),
        (forward("1.5", "null", a=1), "duration_ms is no number"),
        (forward("1.5", "-0.001", a=1), "negative duration"),
        (forward("1.5", "1", a=1).replace("2e9", "1"), "negative duration"),
        (forward("1.5", "1", a=1).replace("2e9", '"x"'), "end_ts is no time"),
        (forward("1.5", "1", total=-1, a=-1), NO_COUNTS),
        (forward("1.5", "1", total=1, a=1).replace('"a": 1', '"a": 1.5'), NO_COUNTS),
        (forward("1.5", "1").replace("{}", "[]"), NO_COUNTS),
        (forward("1.5", "1", total=2, a=1), "total_tokens is not the sum of num_tokens"),
        (forward("1.5", "1", a=1).replace('["a"]', '["b"]'), "req_ids are not those of num_tokens"),
        (forward("1.5", "1", a=1).replace('"a": 1', '"a": 1, "a": 1'), TWICE),
    ],
)  # fmt: skip
def test_what_is_rejected(tmp_path: Path, line: str | bytes, reason: str) -> None:
    """Each with its reason, the lines around it kept."""
    good = forward("1.5", "1", a=1)
    path = written(tmp_path / "a_fwd.jsonl", [good, line, good])
    with loaded(fwd_jsonl, path) as con:
        assert rejected(con) == [(2, reason)]
        assert len(con.table("batches")) == 2


def test_a_key_in_a_name_is_no_key(tmp_path: Path) -> None:
    """The times come from the text; a request whose name looks like one does not mislead it."""
    line = forward("1.5", "1", **{'x"start_ts": 9, "duration_ms": 9,': 1})
    with loaded(fwd_jsonl, written(tmp_path / "a_fwd.jsonl", ["{" + line[10:]], end=b"\r\n")) as con:
        assert rejected(con) == [(1, "not a JSON object")]
    moved = '{"num_tokens": {"a\\"start_ts\\": 9, ": 1}, "start_ts": 1.5, "duration_ms": 1}'
    with loaded(fwd_jsonl, written(tmp_path / "b_fwd.jsonl", [moved])) as con:
        assert rows(con, "batches", "start_ns", "duration_ns", "batch_size") == [
            (1_500_000_000, 1_000_000, 1)
        ]


def test_what_is_a_file_of_forward_passes() -> None:
    """By its keys, not by its name."""
    path = Path("a_fwd.jsonl")
    assert fwd_jsonl.sniff(path, forward("1.5", "1", a=1).encode())
    assert not fwd_jsonl.sniff(path, b"")
    assert not fwd_jsonl.sniff(path, b'{"type": "batch", "requests": []}')
    assert not fwd_jsonl.sniff(path, b"start_ts,duration_ms,num_tokens")


@pytest.mark.parametrize("name", REAL)
@pytest.mark.skipif(not (DATA / "sentinel").is_dir(), reason="the real files are absent")
def test_the_real_files(name: str) -> None:
    """Every line is a batch, 200 requests are admitted and 200 leave or are there to the end."""
    path = DATA / "sentinel" / name
    with gzip.open(path) as file:
        content = file.read()
    assert fwd_jsonl.sniff(path, content[:65536])
    documents = [json.loads(line, parse_float=Decimal) for line in content.splitlines()]
    with loaded(fwd_jsonl, path) as con:
        assert accounts(con) == [(name, REAL[name], REAL[name], 0)]
        columns = ("start_ns", "duration_ns", "batch_size", "new_input_tokens")
        assert rows(con, "batches", *columns, order="batch_index") == [
            (
                line["start_ts"] * 10**9,
                round(line["duration_ms"] * 10**6),
                len(line["req_ids"]),
                line["total_tokens"],
            )
            for line in documents
        ]
        assert sum(admitted for (admitted,) in rows(con, "batches", "admitted")) == 200
        last = len(documents[-1]["req_ids"])
        assert sum(finished for (finished,) in rows(con, "batches", "finished")) == 200 - last


@pytest.mark.skipif(not (DATA / "sentinel").is_dir(), reason="the real files are absent")
def test_a_cut_file_is_told(tmp_path: Path) -> None:
    """Gzip that ends in the middle is one error that names the file."""
    path = tmp_path / "cut_fwd.jsonl.gz"
    shutil.copyfile(DATA / "sentinel" / next(iter(REAL)), path)
    path.write_bytes(path.read_bytes()[:50_000])
    adds_up_or_is_told(fwd_jsonl, path)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(
                lambda at, more, end: GOOD[:at] + more + GOOD[at + end :],
                st.integers(0, 160),
                st.binary(max_size=3) | st.sampled_from([b"9" * 40, b"-", b"e99"]),
                st.integers(0, 3),
            ),
        ),
        max_size=4,
    )
)
def test_any_bytes(content: list[bytes]) -> None:
    """Either the account adds up or one error names the file."""
    with tempfile.TemporaryDirectory() as folder:
        adds_up_or_is_told(fwd_jsonl, written(Path(folder) / "a_fwd.jsonl", content))
