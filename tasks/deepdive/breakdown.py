"""One cycle as text: its Python stack, operators and calls of the GPU's library, with the GPU work of each.

What is called again in the same place is one line with its number of calls. The GPU's columns hold all work
that was launched from there, whenever it ran: a layer or an operator has its kernels' time and their span.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.deepdive.cycles import found, show, traces_of
from tasks.settings import LprismError
from tasks.warehouse import execute

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import duckdb

    from tasks.deepdive.anchors import Trace

LEAST_PCT = 1.0
MS = 1e6
HEAD = "  CPU ms   calls   GPU ms    work   GPU from to, ms      "


@dataclass
class Node:
    """A function in its place, all its calls there together: CPU time, GPU work launched from there; ns."""

    name: str
    calls: int = 0
    cpu_ns: int = 0
    gpu_events: int = 0
    gpu_ns: int = 0
    gpu_start_ns: int | None = None
    gpu_end_ns: int = 0
    children: dict[str, Node] = field(default_factory=dict)

    def child(self, name: str) -> Node:
        """The function of this name that is called from here."""
        return self.children.setdefault(name, Node(name))

    def launched(self, start_ns: int, end_ns: int) -> None:
        """Add a piece of GPU work."""
        self.gpu_events += 1
        self.gpu_ns += end_ns - start_ns
        self.gpu_start_ns = min(start_ns, start_ns if self.gpu_start_ns is None else self.gpu_start_ns)
        self.gpu_end_ns = max(end_ns, self.gpu_end_ns)

    def weight_ns(self) -> int:
        """The larger of its times."""
        return max(self.cpu_ns, self.gpu_ns)


def breakdown(home: Path, run: str, cycle: int, pid: int | None = None, least_pct: float = LEAST_PCT) -> str:
    """The text of one cycle, of the first rank unless `pid` says of which process.

    What takes less than `least_pct` % of the cycle, on the CPU and on the GPU, is left out and counted.

    Raises:
        LprismError: there is no such run, or it has no such cycle.
    """
    with found(home, run) as (con, name, paths):
        show(con, home, name, "cycles")
        columns, row = _chosen(con, name.run_id, cycle, pid)
        about = dict(zip(columns, row, strict=True))
        (trace,) = [one for one in traces_of(con, paths) if one.name == about["file_name"]]
        threads = tree(_events(con, trace, about))
    return "\n".join([*_title(name.run_id, about), HEAD, *_lines(threads.values(), about, least_pct)])


def _chosen(
    con: duckdb.DuckDBPyConnection, run_id: str, cycle: int, pid: int | None
) -> tuple[list[str], tuple[Any, ...]]:
    rows = execute(con, "deepdive/chosen_cycle", cycle_index=cycle, pid=pid)
    columns = [column for column, *_ in rows.description or ()]
    row = rows.fetchone()
    if row is None:
        last = max((number for (number,) in con.table("cycles").select("cycle_index").fetchall()), default=0)
        whose = "" if pid is None else f" of process {pid}"
        raise LprismError(f"run {run_id} has no cycle {cycle}{whose}: it has {last}")
    return columns, row


def _events(con: duckdb.DuckDBPyConnection, trace: Trace, about: dict[str, Any]) -> list[tuple[Any, ...]]:
    execute(con, "deepdive/state")
    execute(con, "deepdive/functions", paths=trace.paths, file_number=0)
    return execute(
        con, "deepdive/cycle_events", paths=trace.paths, process=about["process"],
        from_ns=about["start_ns"], until_ns=about["until_ns"] or about["start_ns"] + about["duration_ns"],
    ).fetchall()  # fmt: skip


def tree(events: Iterable[tuple[Any, ...]]) -> dict[str, Node]:
    """A root a thread, from rows of cycle_events.sql: a call lies in the last one that has not ended."""
    roots: dict[str, Node] = {}
    paths: dict[int, list[Node]] = {}
    work, stack = [], list[tuple[int, Node]]()
    for index, kind, name, thread, start, end, launch in events:
        if kind == "gpu":
            work.append((launch, name, start, end))
            continue
        if thread not in roots:
            stack = []
        root = roots.setdefault(thread, Node(f"thread {thread}"))
        while stack and stack[-1][0] <= start:
            stack.pop()
        node = (stack[-1][1] if stack else root).child(name)
        node.calls, node.cpu_ns = node.calls + 1, node.cpu_ns + end - start
        stack.append((end, node))
        if kind == "runtime":
            paths[index] = [root, *(one for _, one in stack)]
    for launch, name, start, end in work:
        for node in (*paths[launch], paths[launch][-1].child(f"[GPU] {name}")):
            node.launched(start, end)
    return roots


def _title(run_id: str, about: dict[str, Any]) -> Iterator[str]:
    mode = about["forward_mode"] or "mode not told"
    size = "" if about["batch_size"] is None else f", {about['batch_size']} requests"
    whose = f"run {run_id}, process {about['pid'] or about['process']}, cycle {about['cycle_index']}"
    yield f"{whose}: {mode}{size}, {about['duration_ns'] / MS:.3f} ms"
    if about["anchor_ns"] is not None:
        yield f"anchor {about['anchor_name']}: {about['anchor_ns'] / MS:.3f} ms"
    if about["gpu_events"]:
        begin, end = ((about[name] - about["start_ns"]) / MS for name in ("gpu_start_ns", "gpu_end_ns"))
        yield (
            f"{about['gpu_events']} pieces of GPU work, {about['gpu_ns'] / MS:.3f} ms, from {begin:.3f} to "
            f"{end:.3f} ms after its start"
        )


def _lines(nodes: Iterable[Node], about: dict[str, Any], least_pct: float, depth: int = 0) -> Iterator[str]:
    """A line a function, callers before what they call, the longest first."""
    least = about["duration_ns"] * least_pct / 100
    shown = [node for node in nodes if node.weight_ns() >= least or (depth == 0 and node.children)]
    for node in sorted(shown, key=lambda one: -one.weight_ns()):
        yield _line(node, about["start_ns"], depth)
        yield from _lines(node.children.values(), about, least_pct, depth + 1)
    hidden = [node for node in nodes if node not in shown]
    if hidden and shown:
        calls = sum(node.calls or node.gpu_events for node in hidden)
        yield f"{'':{len(HEAD)}}{'  ' * depth}... {len(hidden)} smaller, {calls} calls"


def _line(node: Node, origin_ns: int, depth: int) -> str:
    cpu = f"{node.cpu_ns / MS:8.3f} {node.calls:7}" if node.calls else " " * 16
    gpu = " " * (len(HEAD) - 16)
    if node.gpu_start_ns is not None:
        span = f"{(node.gpu_start_ns - origin_ns) / MS:.3f} {(node.gpu_end_ns - origin_ns) / MS:.3f}"
        gpu = f" {node.gpu_ns / MS:8.3f} {node.gpu_events:7}   {span:<19}"
    return f"{cpu}{gpu:{len(HEAD) - 16}}{'  ' * depth}{node.name}"
