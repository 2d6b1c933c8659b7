"""Pictures beside the named causes: the counter that tells each, and where the time of a cycle went."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.deepdive.signatures import load_signatures
from tasks.pages.charts import call_chart, counter_chart, time_chart

if TYPE_CHECKING:
    from tasks.pages.report import Section

    Ask = Callable[..., Section]

Row = Mapping[str, Any]
MOST_PICTURES = 12  # of each sort
LEAST_CYCLES = 2  # on each side, of a distribution


class Picture(NamedTuple):
    """What it shows, in words, the SVG, and the query whose rows it draws."""

    caption: str
    svg: str
    query: str


def telling_counters() -> dict[str, str]:
    """The counter that tells each cause: the required one that weighs most of its signature."""
    found: dict[str, str] = {}
    for signature in load_signatures().causes:
        required = [clause for clause in signature.clauses if clause.required and not clause.contra]
        if required and signature.cause not in found:
            found[signature.cause] = max(required, key=lambda clause: clause.weight).counter
    return found


def counter_pictures(ask: "Ask", verdicts: Sequence[Row]) -> list[Picture]:
    """Of each run with a named cause, the counter that tells it, around its largest incident."""
    telling, found = telling_counters(), list[Picture]()
    for row in verdicts:
        counter = telling.get(row["named_cause"])
        if len(found) == MOST_PICTURES:
            break
        if counter is None:
            continue
        section = ask("cause_counters", run_id=row["run_id"], counter_name=counter)
        if section.rows:
            caption = _counter_caption(row, counter, section.rows[0])
            found.append(Picture(caption, counter_chart(section.rows), section.query))
    return found


def time_pictures(ask: "Ask", moved: "Section") -> list[Picture]:
    """Of each pair of `moved` (rows of time_moved.sql), the time a cycle by function; calls of the first."""
    pairs = [list(rows) for _, rows in groupby(moved.rows, key=lambda row: row["pair_id"])]
    return [picture for rows in pairs[:MOST_PICTURES] for picture in _pair_pictures(ask, rows, moved.query)]


def _pair_pictures(ask: "Ask", rows: Sequence[Row], query: str) -> Iterator[Picture]:
    """The picture of a pair, and of the function that works, not waits, and moved most, its calls."""
    first = rows[0]
    like = f"cycles alike in {first['matched_on']}" if first["matched_on"] else "all cycles"
    yield Picture(f"{first['scenario']} · {first['run_id']} · time a cycle, {like}", time_chart(rows), query)
    working = next((row for row in rows if not row["is_waiting"]), None)
    if working is None:
        return
    names = {name: working[name] for name in ("run_id", "function_name", "device")}
    section = ask("call_times", **names)
    sides = [[r["call_us"] for r in section.rows if r["run_window"] == w] for w in ("baseline", "fault")]
    if min(map(len, sides)) >= LEAST_CYCLES:
        caption = (
            f"{first['scenario']} · {first['run_id']} · calls of {working['simple_name']} in decode cycles "
            f"({len(sides[0])} baseline, {len(sides[1])} fault)"
        )
        yield Picture(caption, call_chart(*sides), section.query)


def _counter_caption(row: Row, counter: str, sample: Row) -> str:
    where = sample["device"] or "-"
    process = f" (pid {sample['pid']})" if sample["pid"] is not None else ""
    return (
        f"{row['scenario']} · {row['run_id']} · named {row['named_cause']} by {counter} on {where}{process}"
    )
