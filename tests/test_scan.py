"""scan.c: text to columns, whatever the text, and however it is cut into pieces."""

import json
import subprocess
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.traces.scan import NUMBERS, SOURCE, TEXTS, WORDS, Place, scan
from tasks.traces.text import RAW_TEXT
from tests.plain_scan import plain_scan

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
    assert rows[1]["args"] == '{"Python id":5,"Python parent id":null}'
    assert (rows[4]["args"], rows[9]["args"]) == ('{"name":"worker \\"7\\""}', '{"value":"NaN","b":"-inf"}')


LATE = b'{"ph": "X", "name": "late", "ts": "soon"}'
ODD = b'{"ph": "X", "name": {"a": 1}, "ts": 1}'

WORDINGS = st.text(max_size=12) | st.sampled_from(
    ["cpu_op", "a.py(1): f", 'q"\\', "\u20ac\U0001f600", "", "\x7f\x00\n"]
)
DECIMALS = st.decimals(min_value=-(10**12), max_value=10**15, places=3) | st.decimals(-1000, 1000, places=6)
ARGS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDINGS, inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {"ph": st.sampled_from("XBEisfM")},
    optional={
        "name": WORDINGS, "cat": WORDINGS, "tid": WORDINGS, "id": WORDINGS,
        "pid": st.integers(-(2**40), 2**40) | WORDINGS,
        "ts": DECIMALS, "dur": DECIMALS, "args": st.dictionaries(WORDINGS, ARGS, max_size=4), "bp": ARGS,
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


TOKENS = [
    *b'{}[],:"\\-.e0\n', b"null", b"tru", b"NaN", b"-inf", b"01", b"1e5", b"1e-999", b"9e99999999", b"\xff",
    b"\\u00e9", b"\\ud83d\\ude00", b"\\ud800", b"\\udc00", b"   ", b"{},", b"[" * 130, "\u20ac".encode(),
    b'"ts":null,', b'"ts":"1",', b'"ts":-0.0005,', b'"ts":0.00049999999999999999999999999999999999999999,',
    b'"dur":".5",', b'"id":5.0,', b'"name":nan,', b'"name":NaN,', b'"name":-inf,', b'"pid":{},',
    b'"External id":1,"External id":"x",', b'"correlation":1234567890123456789,', b'{"ph":"X","ts":1},',
    b',{"ph":"i"}', b'"args":{"device":-inf,"stream":-7},', b'"args":[1,{"device":1}],', b'"ph":"B",',
]  # fmt: skip
EDITS = st.tuples(
    st.integers(0, 1500),
    st.integers(0, 12) | st.just(0),
    st.sampled_from([bytes([one]) if isinstance(one, int) else one for one in TOKENS])
    | st.binary(max_size=2),
)


@settings(max_examples=400, deadline=None)
@given(
    st.just(TEN)
    | st.lists(EVENTS, min_size=1, max_size=4).map(lambda events: written(events, None, ascii_only=False)),
    st.lists(EDITS, max_size=6),
    st.integers(1, 1500),
    st.lists(st.integers(0, 1500), max_size=6),
)
def test_damage_costs_what_it_must_however_it_is_cut(
    whole: bytes, edits: list[tuple[int, int, bytes]], end: int, cuts: list[int]
) -> None:
    """Bytes put in, taken out, changed or missing: in pieces as in one, and as plain Python reads them."""
    text = bytearray(whole[:end])
    for at, size, put in edits:
        text[1 + at % len(text) : 1 + at % len(text) + size] = put
    found = scanned(bytes(text))
    assert scanned(bytes(text), cuts) == found
    assert [comparable(row) for row in found] == [
        expected(bytes(text), row) for row in plain_scan(bytes(text), 1)
    ]


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    """A row without why it is none, which plain_scan.py does not tell."""
    if row["problem"]:
        return {"begin": int(row["problem"].rpartition(" ")[2]), "raw_text": row["raw_text"]}
    return {key: row[key] for key in (*TEXTS, *NUMBERS, "start_ns", "duration_ns")} | {
        "args": row["args"] or None
    }


def expected(text: bytes, row: dict[str, Any]) -> dict[str, Any]:
    """The same of a row of plain_scan.py."""
    begin, end = row.pop("begin"), row.pop("end")
    if row.pop("problem"):
        return {"begin": begin, "raw_text": text[begin:end].decode(errors="backslashreplace")[:RAW_TEXT]}
    return row


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


@pytest.mark.parametrize(
    ("size", "told"),
    [(WORDS // 2 + 9, [None] * 4), (WORDS + 9, ["too many strings, at byte 1", None, None])],
)
def test_strings_without_end_cost_their_event(size: int, told: list[str | None]) -> None:
    """In two events there may be more than there is room for; in one it is damage, to the next whole one."""
    many = b",".join(b'"id":%d' % n for n in range(size))
    text = b'[{"ph":"X",' + many + b'},{"ph":"X",' + many.replace(b":", b":1") + b'},{"ph":"i"},{"ph":"i"}]'
    assert [row["problem"] for row in scanned(text)] == told


def test_damage_does_not_fill_the_dictionary() -> None:
    """What was looked at in vain leaves room for the events that follow, whatever stood before."""
    good = b",".join(b'{"ph":"i","name":"%d"}' % n for n in range(WORDS - 9))
    bad = b",".join(b'{"ph":"i","name":"b%d"x}' % n for n in range(WORDS + 9))
    text = b"[" + good + b"," + bad + b',{"ph":"i","name":"a"},{"ph":"i","name":"b"}]'
    found = columns(scanned(text), "name")
    assert (len(found), found[-3:]) == (WORDS - 9 + 3, [(None,), ("a",), ("b",)])


def test_what_grows_by_quotes_has_room() -> None:
    """NaN is kept as text, which is longer."""
    (row,) = scanned(b'[{"ph":"i","args":[' + b"nan," * 9000 + b'nan],"x":[' + b"nan," * 9000 + b"nan]}]")
    assert json.loads(row["args"]) == ["nan"] * 9001
    assert json.loads(row["extra"]) == {"x": ["nan"] * 9001}


def test_no_byte_is_touched_that_is_not_there(tmp_path: Path) -> None:
    """Damaged text in buffers of random sizes, under the sanitizers: nothing read or written beside them."""
    seed, program = tmp_path / "seed", tmp_path / "scan_fuzz"
    seed.write_bytes(TEN)
    command = ["cc", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    driver = Path(__file__).with_name("scan_fuzz.c")
    command += [f'-DSCAN="{SOURCE}"', "-o", str(program), str(driver)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("the compiler has no sanitizers")
    ran = subprocess.run([program, "100000", seed], check=False, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-3000:]


@pytest.mark.parametrize("hostile", [b"},{", b"[", b'{"a":', b'"', b"}, {", b',{"ph":"X"', b"\\"])
def test_hostile_text_takes_linear_time(hostile: bytes) -> None:
    """A megabyte of brackets comes to an end, with rows or reasons (a quadratic scan would take minutes)."""
    rows = scanned(b"[" + hostile * (1_000_000 // len(hostile)), range(1, 1_000_000, 100_000))
    assert rows
