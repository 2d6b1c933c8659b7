"""The short way of a trace's plain rows: what it writes is what SQL would have made of them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.traces import chrome, plain_rows, steps
from tests.foreign_cases import accounts, loaded, rejected, rows

NUMBERS = st.sampled_from([0, 7, 999_999_999_999_999_999, -1, 10**18, 1.5, "7", "07", "a(7)", "", " 7", None])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "ph": st.sampled_from(["X", "X", "X", "B", "E", "i", "s", "f", "M", "C", "b", "?", None]),
    "cat": st.sampled_from(["cpu_op", "kernel", "Kernel", "gpu_memcpy", "cuda_runtime", "python", "", None]),
    "name": st.sampled_from(["a", "", "x/y.py(12): f", "y.py(9999999999): f", "\u00e9\n(1): g", None]),
    "pid": NUMBERS,
    "tid": NUMBERS,
    "id": st.sampled_from([1, "x"]),
    "bp": st.just("e"),
    "ts": st.sampled_from([0, 1.001, "12.5", -0.001, 3_999_999_999_999, None]),
    "dur": st.sampled_from([0, 1.001, -1, None]),
    "args": st.sampled_from(
        [
            {}, {"correlation": 9}, {"correlation": 10, "External id": 3}, {"external id": 4, "device": 0},
            {"stream": 7, "Python id": 1, "Python parent id": 2}, {"filePath": "s.py", "lineno": 88},
            {"args": '{"correlation": 4}'}, {"args": "{no"}, {"args": "{}"}, {"value": 1}, [1], "text", None,
        ]
    ),
}  # fmt: skip
EVENTS = st.fixed_dictionaries({}, optional=FIELDS)


def tables(path: Path) -> dict[str, Any]:
    """What is in the tables after a trace was read, its files gone."""
    with loaded(chrome, path) as con:
        written = [str(file) for file in sorted(path.parent.glob("events-*.parquet"))]
        events = con.read_parquet(written) if written else con.table("events")
        found = {
            "types": list(zip(events.columns, map(str, events.types), strict=True)),
            "events": events.order("event_index").fetchall(),
            "counters": rows(con, "counters", "*"),
            "quarantine": rejected(con),
            "accounts": accounts(con),
        }
        steps.discard(con, path.parent)
    return found


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, min_size=1, max_size=12), base=st.sampled_from([0, 10**18]))
def test_both_ways_end_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]], base: int
) -> None:
    """Every table is the same when no row is held for plain."""
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"baseTimeNanoseconds": base, "traceEvents": events}), encoding="utf-8")
    found = tables(path)
    with monkeypatch.context() as patched:
        patched.setattr(plain_rows, "_are_plain", lambda rows: pa.array([False] * len(rows)))
        assert tables(path) == found


def test_usual_rows_are_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators, calls, Python functions and flows are; metadata, counters, kernels and damage are not."""
    seen: list[tuple[Any, Any]] = []

    def watched(piece: Any) -> Any:  # noqa: ANN401 - an Arrow table
        seen.append(plain_rows.split(piece))
        return seen[-1]

    monkeypatch.setattr(steps, "split", watched)
    usual = {"ph": "X", "cat": "cpu_op", "name": "mm", "pid": 7, "tid": 8, "ts": 1, "dur": 1}
    plain = [
        usual,
        {**usual, "args": {"correlation": 9}},
        {**usual, "ph": "f", "dur": None},
        {**usual, "pid": "7"},
    ]
    odd = [
        {**usual, "cat": "kernel", "args": {"correlation": 9}}, {**usual, "ph": "M"}, {**usual, "ts": None},
        {**usual, "ph": "C", "args": {"value": 1}}, {**usual, "dur": None}, {**usual, "pid": "host(7)"},
        {**usual, "args": {"args": "{}"}}, {**usual, "cat": "python"},
    ]  # fmt: skip
    path = tmp_path / "t.json"
    path.write_text(json.dumps([*plain, *odd]), encoding="utf-8")
    tables(path)
    ((short, long),) = seen
    assert short["event_index"].to_pylist() == list(range(len(plain)))
    assert long["event_index"].to_pylist() == list(range(len(plain), len(plain) + len(odd)))
