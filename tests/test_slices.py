"""Scheduler slices: events in, slices out; perf's bytes; and the real recorder beside busy threads."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.host import perf, processes, tracepoints
from tasks.host.slicing import Slicer
from tasks.host.tracepoints import FORK, LOST, MIGRATE, SWITCH, WAKEUP, Decoder, Unknown, layout_of
from tests.bench_slices import Totals, children, sliced, totals
from tests.tree import ROOT

BEGIN, END = 1000, 2000
ENGINE, THREAD, OTHER = 10, 11, 77  # the engine's process, its second thread, and somebody else's process
NAMES = {0: b"swapper", ENGINE: b"engine", THREAD: b"worker", OTHER: b"burn"}
OWNERS = {ENGINE: ENGINE, THREAD: ENGINE, OTHER: OTHER, 0: 0}
READY, SLEEPS = 0, 1
lacks_perf = pytest.mark.skipif(perf.missing() is not None, reason=f"{perf.missing()}")


def switch(now: int, old: int, new: int, state: int = SLEEPS, cpu: int = 0) -> tuple[Any, ...]:
    """`old` leaves a CPU to `new`."""
    name = {tid: text.ljust(16, b"\0") for tid, text in NAMES.items()}
    return now, SWITCH, cpu, OWNERS.get(old, old), name.get(old, b"x"), old, state, name.get(new, b"x"), new


def wakeup(now: int, tid: int, cpu: int = 0) -> tuple[Any, ...]:
    """A thread comes into a CPU's queue."""
    return now, WAKEUP, NAMES.get(tid, b"x"), tid, cpu


def made(*events: tuple[Any, ...], end: int = END) -> list[tuple[Any, ...]]:
    """(kind, tid, start, duration, ...) of the slices that events make."""
    slicer = Slicer({ENGINE}, {ENGINE: ENGINE, THREAD: ENGINE}, BEGIN)
    slicer.end_ns = end
    slicer.take(events)
    slicer.finish()
    lines = [json.loads(line) for line in slicer.told()]
    found = [
        (line["kind"], line["tid"], *value)
        for line in lines
        if line["type"] == "slices"
        for value in line["values"]
    ]
    assert slicer.slices == len(found)
    return sorted(found, key=lambda one: (one[2], one[0]))


def test_a_thread_waits_runs_and_sleeps() -> None:
    """Woken at 1100 it gets the CPU at 1130 and leaves it at 1200; before, somebody else ran there."""
    assert made(
        switch(1050, 0, OTHER), wakeup(1100, ENGINE), switch(1130, OTHER, ENGINE, READY),
        switch(1200, ENGINE, 0),
    ) == [
        ("runq", ENGINE, 1100, 30, 0, "W", OTHER, OTHER, "burn", 30),
        ("oncpu", ENGINE, 1130, 70, 0, "S"),
    ]  # fmt: skip


def test_a_thread_that_loses_its_cpu_waits_for_it() -> None:
    """It could go on, and does when the other lets it; who woke to an idle CPU waited for nobody."""
    assert made(
        switch(1050, OTHER, 0), wakeup(1060, THREAD), switch(1061, 0, THREAD),
        switch(1100, THREAD, OTHER, READY), switch(1300, OTHER, THREAD, 256), switch(1310, THREAD, 0, 2),
    ) == [
        ("runq", THREAD, 1060, 1, 0, "W"),
        ("oncpu", THREAD, 1061, 39, 0, "R"),
        ("runq", THREAD, 1100, 200, 0, "R", OTHER, OTHER, "burn", 200),
        ("oncpu", THREAD, 1300, 10, 0, "D"),
    ]  # fmt: skip


def test_who_ran_longest_meanwhile_is_named() -> None:
    """Of three, by their time within the wait, on the CPU that was waited for."""
    found = made(
        switch(1010, 0, THREAD), wakeup(1100, ENGINE), switch(1140, THREAD, OTHER),
        switch(1180, OTHER, 5), switch(1182, 5, OTHER), switch(1196, OTHER, 5), switch(1200, 5, ENGINE),
        switch(1400, ENGINE, 0, SLEEPS), switch(1180, 5, 6, cpu=1),
    )  # fmt: skip
    assert ("runq", ENGINE, 1100, 100, 0, "W", OTHER, OTHER, "burn", 54) in found


def test_what_began_before_and_ends_after_is_cut() -> None:
    """Who leaves a CPU first has run since the beginning; who comes unwoken has waited since then."""
    assert made(
        switch(1100, ENGINE, THREAD, SLEEPS), wakeup(1500, ENGINE),
        wakeup(999, OTHER), switch(2001, THREAD, ENGINE),
    ) == [
        ("oncpu", ENGINE, 1000, 100, 0, "S"),
        ("runq", THREAD, 1000, 100, 0, None, ENGINE, ENGINE, "engine", 100),
        ("oncpu", THREAD, 1100, 900, 0, None),
        ("runq", ENGINE, 1500, 500, 0, "W", ENGINE, THREAD, "worker", 500),
    ]  # fmt: skip


def test_a_thread_that_is_moved_waits_in_two_queues() -> None:
    """Each stay is a slice; being moved while it sleeps is none."""
    assert made(
        switch(1010, 0, OTHER), switch(1010, 0, OTHER + 1, cpu=1), (1020, MIGRATE, ENGINE, 1, 0),
        wakeup(1100, ENGINE), (1150, MIGRATE, ENGINE, 0, 1), switch(1160, OTHER + 1, ENGINE, cpu=1),
        switch(1165, OTHER, 0), switch(1170, ENGINE, 0, cpu=1),
    ) == [
        ("runq", ENGINE, 1100, 50, 0, "W", OTHER, OTHER, "burn", 50),
        ("runq", ENGINE, 1150, 10, 1, "M", OTHER + 1, OTHER + 1, "x", 10),
        ("oncpu", ENGINE, 1160, 10, 1, "S"),
    ]  # fmt: skip


def test_nothing_is_made_up_of_what_was_lost() -> None:
    """The slices that a loss touches begin anew after it; other CPUs go on."""
    found = made(
        switch(1010, 0, ENGINE), switch(1020, 0, THREAD, cpu=1), wakeup(1030, OTHER),
        (1500, LOST, 0, 42), switch(1510, ENGINE, 0), switch(1600, THREAD, 0, cpu=1),
    )  # fmt: skip
    assert [one for one in found if one[0] == "oncpu"] == [
        ("oncpu", THREAD, 1020, 580, 1, "S"),
        ("oncpu", ENGINE, 1500, 10, 0, "S"),
    ]


def test_a_switch_that_was_not_told_costs_its_slices_alone() -> None:
    """Between 1100 and 1200 somebody else came and the engine left: since when who runs is not known."""
    slicer = Slicer({ENGINE}, {}, BEGIN)
    slicer.take(
        [switch(1050, 0, ENGINE), switch(1200, OTHER, THREAD), switch(1250, THREAD, 0), wakeup(1300, ENGINE)]
    )
    slicer.take([switch(1301, 0, ENGINE), switch(1310, ENGINE, 0)])
    slicer.finish()
    lines = [json.loads(line) for line in slicer.told()]
    values = {one["tid"]: one["values"] for one in lines if one["kind"] == "oncpu"}
    assert values == {THREAD: [[1200, 50, 0, "S"]], ENGINE: [[1301, 9, 0, "S"]]}
    assert [1300, 1, 0, "W"] in [value for one in lines if one["kind"] == "runq" for value in one["values"]]
    assert slicer.odd == 1


def test_a_wait_is_told_by_its_beginning_alone() -> None:
    """Who slept and comes unwoken has not waited that we know of, and who is woken as it runs does not."""
    found = made(
        switch(1010, 0, ENGINE), switch(1020, ENGINE, 0), switch(1200, 0, ENGINE), wakeup(1500, ENGINE)
    )
    assert found == [
        ("runq", ENGINE, 1000, 10, 0, None),
        ("oncpu", ENGINE, 1010, 10, 0, "S"),
        ("oncpu", ENGINE, 1200, 800, 0, None),
    ]


def test_processes_come_and_go() -> None:
    """A child is the engine's, and a pid that another process gets later is not."""
    found = made(
        (1001, FORK, 12, ENGINE), switch(1010, 0, 12), switch(1020, 12, 0), (1030, FORK, 12, OTHER),
        switch(1040, 0, 12), switch(1050, 12, 0), (1060, FORK, ENGINE, ENGINE),
        switch(1070, 0, ENGINE), switch(1080, ENGINE, 0),
    )  # fmt: skip
    assert [one[1:4] for one in found if one[0] == "oncpu"] == [(12, 1010, 10), (ENGINE, 1070, 10)]


FORMAT = """name: sched_switch
ID: 372
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:int prev_prio;\toffset:28;\tsize:4;\tsigned:1;
\tfield:long prev_state;\toffset:32;\tsize:8;\tsigned:1;
\tfield:char next_comm[16];\toffset:40;\tsize:16;\tsigned:0;
\tfield:pid_t next_pid;\toffset:56;\tsize:4;\tsigned:1;
\tfield:int next_prio;\toffset:60;\tsize:4;\tsigned:1;
"""
KNOWN = dict([layout_of("sched_switch", FORMAT)])


@pytest.mark.parametrize(
    "change", [("prev_pid", "old_pid"), ("size:8", "size:3"), ("ID: 372", ""), (":56", ":9")]
)
def test_a_kernel_with_other_fields_is_refused(change: tuple[str, str]) -> None:
    """Rather than read wrongly."""
    with pytest.raises(Unknown, match="the fields of this kernel's sched_switch are not the ones we know"):
        layout_of("sched_switch", FORMAT.replace(*change))


def record(kind: int, body: bytes) -> bytes:
    """One of perf's records."""
    return struct.pack("=IHH", kind, 0, 8 + len(body)) + body


def a_switch(now: int, cpu: int) -> bytes:
    """A record of thread 11 that leaves to 77."""
    raw = struct.pack("=HHi16siiq16sii", 372, 0, 11, b"worker", 11, 120, 1, b"burn", 77, 120) + bytes(4)
    return record(9, struct.pack("=QQIIQIIQI", 5, 6, 10, 11, now, cpu, 0, 1, len(raw)) + raw)


def trailer(now: int, cpu: int) -> bytes:
    """What ends all records that are no samples."""
    return struct.pack("=IIQIIQ", 1, 1, now, cpu, 0, 5)


ROUND = record(68, b"")
STREAM = b"".join(
    [
        b"PERFILE2" + struct.pack("=Q", 16),
        record(64, struct.pack("=IIQQQ", 2, 128, 372, 1, 0x10587) + bytes(96)),
        record(66, struct.pack("=I", 24)) + b"\x09\0\0\0" * 6,
        a_switch(300, 0), a_switch(500, 0), a_switch(200, 1), ROUND,
        a_switch(700, 0), record(7, struct.pack("=IIIIQ", 12, 10, 12, 10, 600) + trailer(600, 1)),
        a_switch(450, 1), ROUND, record(2, struct.pack("=QQ", 5, 42) + trailer(800, 1)), record(99, b"new"),
    ]
)  # fmt: skip


@given(st.lists(st.integers(1, len(STREAM)), max_size=9))
def test_bytes_become_events_in_order_however_they_come(cuts: list[int]) -> None:
    """CPUs are read one after another, in rounds; what is not known is passed over."""
    decoder = Decoder(KNOWN)
    ends = [*sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    found = [event for piece in pieces for event in decoder.feed(piece)]
    assert [event[0] for event in found] == [200, 300, 450, 500]
    assert [event[:3] for event in decoder.close()] == [(600, FORK, 12), (700, SWITCH, 0), (800, LOST, 1)]
    names = (b"worker".ljust(16, b"\0"), 11, 1, b"burn".ljust(16, b"\0"), 77)
    assert found[0] == (200, SWITCH, 1, 10, *names)


@pytest.mark.parametrize("bad", [record(64, struct.pack("=IIQQQ", 2, 128, 372, 1, 7)), b"\0" * 8])
def test_records_that_we_do_not_know_are_refused(bad: bytes) -> None:
    """Samples of another type, and what is no record."""
    with pytest.raises(Unknown, match="perf writes"):
        list(Decoder(KNOWN).feed(STREAM[:16] + bad))


def test_the_kernel_filters_by_cpu() -> None:
    """In ranges: a condition may not be long."""
    words = perf.argv([0, 1, 2, 3, 8], 5, 6)
    filters = dict(
        zip(words[words.index("-e") + 1 :: 4], words[words.index("--filter") + 1 :: 4], strict=True)
    )
    assert filters["sched:sched_switch"] == "(CPU >= 0 && CPU <= 3) || CPU == 8"
    assert filters["sched:sched_migrate_task"].endswith("(dest_cpu >= 0 && dest_cpu <= 3) || dest_cpu == 8")
    assert "--filter" not in perf.argv([], 5, 6)


def test_a_host_without_perf_is_told(tmp_path: Path) -> None:
    """One line that says what is missing, and an exit code; no file."""
    code = "import sys; from tasks.host import slices; sys.exit(slices.main(sys.argv[1:]))"
    words = ["--out", str(tmp_path / "s.jsonl"), "--engine-session", "1"]
    ended = subprocess.run(
        [sys.executable, "-c", code, *words], env={"PATH": str(tmp_path)}, cwd=ROOT, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == os.EX_UNAVAILABLE
    assert ended.stderr.startswith("no scheduler slices: ")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "s.jsonl").exists()


BUSY = """
import os, threading, time
def work(sleep):
    while True:
        time.sleep(sleep)
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end: pass
for _ in range(2): threading.Thread(target=work, args=(0.003,), daemon=True).start()
if os.fork() == 0:
    while True: sum(range(1000))
def short():
    while True:
        threading.Thread(target=time.sleep, args=(0.01,)).start()
        time.sleep(0.02)
short()
"""


@contextmanager
def busy(cpus: Sequence[int]) -> Iterator[int]:
    """A session of two processes that compete for a CPU, with threads that come and go."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),  # noqa: PLW1509  the test has no threads yet
    ) as child:  # fmt: skip
        try:
            time.sleep(0.5)
            yield child.pid
        finally:
            os.killpg(child.pid, signal.SIGKILL)


@contextmanager
def recorder(out: Path, session: int, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A recorder beside it, in a session of its own, as the supervisor starts it."""
    argv = [sys.executable, "-m", "tasks.host.slices", "--out", str(out), "--engine-session", str(session)]
    with subprocess.Popen(
        [*argv, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            yield child
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def wait_for(path: Path) -> None:
    """Until there is something in the file."""
    end = time.monotonic() + 60
    while time.monotonic() < end and not (path.exists() and path.stat().st_size):
        time.sleep(0.05)


def stolen_ns(cpu: int) -> int:
    """What the hypervisor took of a CPU since boot, with a tick's precision."""
    (line,) = (line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{cpu} "))
    return (int(line.split()[8]) + 1) * 10**9 // os.sysconf("SC_CLK_TCK")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Its lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def cpu() -> int:
    """The one that is pressed on."""
    return min(os.sched_getaffinity(0))


@lacks_perf
def test_slices_are_what_the_kernel_counted(tmp_path: Path, cpu: int) -> None:
    """Time on a CPU and in its queue, of all threads together, as /proc/TID/schedstat has it."""
    out = tmp_path / "slices.jsonl"
    with busy([cpu]) as session, recorder(out, session, "--cpus", str(cpu)) as child:
        wait_for(out)
        old, stolen = totals(session), stolen_ns(cpu)
        time.sleep(4)
        new, stolen = totals(session), stolen_ns(cpu) - stolen
        os.killpg(child.pid, signal.SIGTERM)  # perf, too: as the supervisor ends a session
        assert child.wait(60) == 0
    lines = lines_of(out)
    assert {line["type"] for line in lines} == {"clock", "slices", "recorded"}
    assert [line["lost_events"] for line in lines if line["type"] == "recorded"] == [0]
    found = sliced(lines, old, new)
    for kind, at in (("oncpu", 1), ("runq", 2)):
        kernel = sum(new[tid][at] - old[tid][at] for tid in old.keys() & new.keys())
        ours = sum(found[tid][kind] for tid in old.keys() & new.keys())
        # Time that the hypervisor took is in a slice, and not in the kernel's count.
        assert ours == pytest.approx(kernel, rel=0.02, abs=stolen), kind
    brief = {line["tid"] for line in lines if line["type"] == "slices"} - old.keys()
    assert len(brief) > 20  # threads that came while it was recorded
    waits = [value for line in lines if line.get("kind") == "runq" for value in line["values"]]
    assert session in {value[4] for value in waits if value[4:]}


@lacks_perf
def test_slices_of_a_cpu_do_not_overlap(tmp_path: Path, cpu: int) -> None:
    """One thread at a time is on it."""
    out = tmp_path / "slices.jsonl"
    words = ("--cpus", str(cpu), "--seconds", "1")
    with busy([cpu]) as session, recorder(out, session, *words) as child:
        assert child.wait(60) == 0
    found = [(line, value) for line in lines_of(out) if line["type"] == "slices" for value in line["values"]]
    ran = sorted(value[:2] for line, value in found if line["kind"] == "oncpu")
    assert len(ran) > 50
    assert all(start + duration <= later for (start, duration), (later, _) in pairwise(ran))


@lacks_perf
def test_perf_that_dies_costs_what_comes_after(tmp_path: Path, cpu: int) -> None:
    """What it had told is there, with the reason; the exit code says that it is not whole."""
    out = tmp_path / "slices.jsonl"
    with busy([cpu]) as session, recorder(out, session, "--cpus", str(cpu)) as child:
        wait_for(out)
        os.kill(children(child.pid)[0], signal.SIGKILL)
        _, said = child.communicate(timeout=60)
    assert child.returncode == os.EX_SOFTWARE
    assert said == "the recording of slices ended early: perf ended: exit code -9\n"
    (told,) = [line for line in lines_of(out) if line["type"] == "recorded"]
    assert told["reason"] == "perf ended: exit code -9"


@lacks_perf
def test_a_recorder_that_is_killed_leaves_no_perf(tmp_path: Path, cpu: int) -> None:
    """Nobody reads its pipe any more."""
    out = tmp_path / "slices.jsonl"
    with busy([cpu]) as session, recorder(out, session, "--cpus", str(cpu)) as child:
        wait_for(out)
        (left,) = children(child.pid)
        child.kill()
        child.wait(60)
        end = time.monotonic() + 60
        while time.monotonic() < end and left in processes.session_members(child.pid):
            time.sleep(0.1)
        assert left not in processes.session_members(child.pid)


@lacks_perf
def test_a_recording_is_bounded(tmp_path: Path, cpu: int) -> None:
    """After so many slices it ends by itself, and says so."""
    out = tmp_path / "slices.jsonl"
    words = ("--cpus", str(cpu), "--most", "50")
    with busy([cpu]) as session, recorder(out, session, *words) as child:
        assert child.wait(30) == os.EX_SOFTWARE
    (told,) = [line for line in lines_of(out) if line["type"] == "recorded"]
    assert told["reason"] == "50 slices are recorded, which is the most"


@lacks_perf
def test_a_full_disk_ends_the_recording(cpu: int) -> None:
    """With one line, and nothing left running."""
    with recorder(Path("/dev/full"), os.getsid(0), "--cpus", str(cpu)) as child:
        _, said = child.communicate(timeout=30)
        assert processes.session_members(child.pid) == set()
    assert (child.returncode, said) == (os.EX_IOERR, "/dev/full: No space left on device: recording stops\n")


def test_threads_are_compared_within_their_own_window() -> None:
    """A slice counts as far as it lies between the two readings of its thread."""
    old: Totals = {5: (100, 0, 0)}
    line = {"type": "slices", "tid": 5, "kind": "oncpu", "values": [[50, 100, 0, "S"], [190, 20, 0, "S"]]}
    assert sliced([line], old, {5: (200, 0, 0)})[5] == {"oncpu": 60, "runq": 0}


def test_this_kernel_is_known() -> None:
    """Where tracefs can be read, its tracepoints are the ones that we know."""
    if not Path(tracepoints.TRACEFS[0], "events/sched").is_dir():
        pytest.skip("no tracefs is mounted, or it is not for us")
    assert {layout.kind for layout in tracepoints.layouts().values()} == {SWITCH, WAKEUP, MIGRATE}
