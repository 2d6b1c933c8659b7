"""scan.c: text to columns, whatever the text, and however it is cut into pieces."""

import json
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.traces.scan import Place, scan

TEN = b"""[
  {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 7, "tid": 8, "ts": 4480482052161.664, "dur": 1.5,
   "args": {"External id": 3, "shape": [1, 2]}},
  {"ph": "X", "cat": "python_function", "name": "a/b.py(12): f", "pid": 7, "tid": "main", "ts": "10",
   "dur": "0.001", "args": {"Python id": 5, "Python parent id": null}},
  {"ph": "X", "cat": "kernel", "name": "k<\\u00e9>", "pid": 0, "tid": 7, "ts": 1e3, "dur": 12e-1,
   "args": {"device": 0, "stream": 7, "correlation": 99}},
  {"ph": "f", "id": 99, "bp": "e", "s": "g", "pid": 0, "tid": 7, "ts": 1790857026123456.7894},
  {"ph": "M", "name": "process_name", "pid": "host(12)", "args": {"name": "worker \\"7\\""}},
  {"ph": "i", "name": null, "ts": -0.0005},
  [1, {"no": "event"}],
  {"ph": "X", "name": "late", "ts": "soon"},
  {"ph": "X", "name": {"a": 1}, "ts": 1},
  {"ph": "C", "name": "free", "ts": 1, "args": {"value": NaN, "b": -inf}}
]"""


def scanned(text: bytes, cuts: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Every row of an array's text, given to the scanner in pieces."""
    ends = [*sorted(cut for cut in cuts if 1 < cut < len(text)), len(text)]
    pieces = [text[a:b] for a, b in zip([1, *ends], ends, strict=False)]
    window, place, begin, rows, is_last = bytearray(), Place(), 1, [], False
    while not place.ended:
        chunk = scan(window, place, final=is_last, offset=begin)
        rows += chunk.rows.to_pylist()
        del window[: chunk.consumed]
        begin += chunk.consumed
        if chunk.is_full or place.ended:
            continue
        if is_last:
            break
        is_last = not pieces
        window += pieces.pop(0) if pieces else b""
    return rows


def columns(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    """These columns of the rows."""
    return [tuple(row[name] for name in names) for row in rows]


def test_ten_events_become_ten_rows() -> None:
    """Times are exact to the nanosecond, numbers of args have columns, and what is no event says why."""
    rows = scanned(TEN)
    assert columns(rows, "phase", "name", "process", "thread", "start_ns", "duration_ns", "problem") == [
        ("X", "aten::mm", "7", "8", 4480482052161664, 1500, None),
        ("X", "a/b.py(12): f", "7", "main", 10000, 1, None),
        ("X", "k<\u00e9>", "0", "7", 1000000, 1200, None),
        ("f", None, "0", "7", 1790857026123456789, None, None),
        ("M", "process_name", "host(12)", None, None, None, None),
        ("i", None, None, None, -1, None, None),
        (None, None, None, None, None, None, f"not an object, at byte {TEN.index(b'[1, {')}"),
        ("X", "late", None, None, None, None, f"ts or dur is no time, at byte {TEN.index(LATE)}"),
        ("X", None, None, None, 1000, None, f"a text field holds another type, at byte {TEN.index(ODD)}"),
        ("C", "free", None, None, 1000, None, None),
    ]
    assert [row["raw_text"] for row in rows if row["problem"]] == [
        '[1, {"no": "event"}]', LATE.decode(), ODD.decode(),
    ]  # fmt: skip
    assert columns(rows[:4], "external_id", "python_id", "correlation", "device", "stream", "extra") == [
        (3, None, None, None, None, None),
        (None, 5, None, None, None, None),
        (None, None, 99, 0, 7, None),
        (None, None, None, None, None, '{"bp":"e","s":"g"}'),
    ]
    assert columns(rows[1:2], "source_file", "source_line", "args") == [
        ("a/b.py", 12, '{"Python id":5,"Python parent id":null}')
    ]
    assert (rows[4]["args"], rows[9]["args"]) == ('{"name":"worker \\"7\\""}', '{"value":"NaN","b":"-inf"}')


LATE = b'{"ph": "X", "name": "late", "ts": "soon"}'
ODD = b'{"ph": "X", "name": {"a": 1}, "ts": 1}'

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["cpu_op", "a.py(1): f", 'q"\\', "\u20ac\U0001f600", "", "\x7f\x00\n"]
)
DECIMALS = st.decimals(min_value=-(10**12), max_value=10**15, places=3) | st.decimals(-1000, 1000, places=6)
ARGS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {"ph": st.sampled_from("XBEisfM")},
    optional={
        "name": TEXTS, "cat": TEXTS, "pid": st.integers(-(2**40), 2**40) | TEXTS, "tid": TEXTS, "id": TEXTS,
        "ts": DECIMALS, "dur": DECIMALS, "args": st.dictionaries(TEXTS, ARGS, max_size=4), "bp": ARGS,
    },
)  # fmt: skip


def written(events: list[dict[str, Any]], indent: int | None, ascii_only: bool) -> bytes:  # noqa: FBT001 - a choice of json.dumps
    """The events as an array, decimals digit by digit."""
    marked = [
        {key: f"@{value:f}@" if isinstance(value, Decimal) else value for key, value in event.items()}
        for event in events
    ]
    text = json.dumps(marked, indent=indent, ensure_ascii=ascii_only)
    for event in events:
        for value in event.values():
            if isinstance(value, Decimal):
                text = text.replace(f'"@{value:f}@"', f"{value:f}", 1)
    return text.encode("utf-8", "surrogatepass")


def nanoseconds(value: Decimal | None) -> int | None:
    """A time in us as whole ns, halves away from zero."""
    return None if value is None else int((value * 1000).quantize(Decimal(1), ROUND_HALF_UP))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(EVENTS, max_size=6),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_it_reads_what_json_reads(
    events: list[dict[str, Any]],
    indent: int | None,
    ascii_only: bool,  # noqa: FBT001 - see above
    cuts: list[int],
) -> None:
    """Any events, written in any way, read in any pieces: the values that Python's json finds."""
    rows = scanned(written(events, indent, ascii_only), cuts)
    assert [row["problem"] for row in rows] == [None] * len(events)
    for event, row in zip(events, rows, strict=True):
        told = {
            key: None if event.get(key) is None else str(event[key]) for key in ("ph", "name", "cat", "pid")
        }
        assert told == {
            "ph": row["phase"],
            "name": row["name"],
            "cat": row["category"],
            "pid": row["process"],
        }
        assert (nanoseconds(event.get("ts")), nanoseconds(event.get("dur"))) == (
            row["start_ns"],
            row["duration_ns"],
        )
        assert json.loads(row["args"] or "null") == event.get("args")
        assert json.loads(row["extra"] or "{}").get("bp") == event.get("bp")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(EVENTS, min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 500), st.integers(0, 3), st.binary(max_size=3)), max_size=4),
    st.lists(st.integers(0, 600), max_size=6),
)
def test_damage_costs_the_same_however_it_is_cut(
    events: list[dict[str, Any]], damage: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    """Bytes put in, taken out or changed: the same rows in pieces as in one."""
    text = bytearray(written(events, None, ascii_only=False))
    for at, size, put in damage:
        text[1 + at % len(text) : 1 + at % len(text) + size] = put
    whole = scanned(bytes(text))
    assert scanned(bytes(text), cuts) == whole
    assert all(row["problem"] or row["phase"] is None or row["phase"] for row in whole)


def test_an_event_after_damage_is_found_again() -> None:
    """One bad event costs itself and, at most, what stands before the next whole one."""
    good = b'{"ph":"X","name":"good","ts":1,"dur":1}'
    for bad in (
        b'{"ph":"X","name":"b"ad"}',
        b"{]",
        b'{"ph":',
        b"nonsense",
        b'{"name":"\xff","ph":"X"}',
        b'{"a":1e}',
    ):
        rows = scanned(b"[" + good + b"," + bad + b"," + good + b"," + good + b"]")
        assert columns(rows, "name")[-2:] == [("good",), ("good",)], bad
        assert len(rows) == 4
        assert rows[1]["problem"], bad


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'[{"ph":"X","ts":1', "cut off"),
        (b'[{"ph":"X","name":"\\ud800"}]', "not UTF-8"),
        (b'[{"ph":"X","args":' + b"[" * 500 + b"]" * 500 + b"}]", "nested too deep"),
        (b'[{"ph":"X","ts":1e400}]', "ts or dur is no time"),
        (b'[{"ph":"X","ts":NaN}]', "ts or dur is no time"),
        (b'[{"ph":"X","ts":01}]', "not JSON"),
        (b'[{"ph":"X","name":"a\nb"}]', "not JSON"),
    ],
)
def test_what_cannot_be_read_says_why(text: bytes, reason: str) -> None:
    """One row, with the reason and the place."""
    (row,) = scanned(text)
    assert row["problem"] == f"{reason}, at byte 1"


@pytest.mark.parametrize("hostile", [b"},{", b"[", b'{"a":', b'"', b"}, {", b',{"ph":"X"', b"\\"])
def test_hostile_text_takes_linear_time(hostile: bytes) -> None:
    """A megabyte of brackets comes to an end, with rows or reasons (a quadratic scan would take minutes)."""
    rows = scanned(b"[" + hostile * (1_000_000 // len(hostile)), range(1, 1_000_000, 100_000))
    assert rows
