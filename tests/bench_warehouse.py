"""What publishing and questions cost over 10,000 runs and 100 million events, medians and ranges, in one run.

    python -m tests.bench_warehouse [TRACE] [--events 100000000] [--campaigns 100] [--runs 100]

Closed, compacted campaigns of made-up runs (1,000 batches and 2,000 counter samples each), and beside them
runs with events: TRACE is ingested once, and its events are written again, shifted in time, under new
run_ids; without TRACE they are made up, a million a run. All in a temporary folder, removed at the end.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tasks.compaction import compact
from tasks.lake import (
    EVENTS,
    campaigns_of,
    compacted_of,
    described,
    held,
    manifest_path,
    put_run,
    write_draft,
    write_frame,
)
from tasks.staging import put, staging
from tasks.warehouse import create_table, insert_by_name, literal, memory_connection
from tests.tree import ROOT
from tests.warehouse_cases import row

ROUNDS = 5
FIRST, TRACES = "campaign-000", "traces"
HOUR_NS = 3_600_000_000_000
TABLES = {
    "runs": """
        SELECT $run AS run_id, $campaign AS campaign, 'complete' AS status, $start AS recording_start_ns
    """,
    "files": """
        SELECT $run AS run_id, $campaign AS campaign, 'file-' || $start || i AS name FROM range(3) AS t (i)
    """,
    "batches": """
        SELECT $run AS run_id, $campaign AS source, i AS batch_index, $start + i * 25000000 AS start_ns,
            20000000 + hash($run || i) % 3000000 AS duration_ns, 'decode' AS forward_mode,
            1 + hash($run || i || 'size') % 32 AS batch_size, 'baseline' AS run_window
        FROM range(1000) AS t (i)
    """,
    "counters": """
        SELECT $run AS run_id, 'counter_' || i % 20 AS counter_name, $campaign AS device,
            i // 20 AS sample_index, $start + (i // 20) * 100000000 AS start_ns,
            hash($run || i) % 1000 / 10 AS value
        FROM range(2000) AS t (i) ORDER BY counter_name, start_ns
    """,
}
NAMED = {"runs": "campaign", "files": "campaign", "batches": "source", "counters": "device"}
RENAMED = """
    SELECT * REPLACE ({prefix} || run_id[5:] AS run_id, {campaign} AS {column}) FROM read_parquet({source})
"""
MADE_UP = """
    SELECT $run AS run_id, $campaign AS file_name, i AS event_index, 'X' AS phase,
        IF(i % 5 = 0, 'kernel', 'cpu_op') AS category, 'function_' || hash(i) % 300 AS name, 7 AS pid,
        i % 4 AS tid, $start + i * 10000 AS start_ns, 1000 + hash(i + 1) % 9000 AS duration_ns,
        i AS correlation, '{"External id": ' || i || '}' AS args
    FROM range(1000000) AS t (i)
"""
COPY = """
    COPY (
        SELECT * REPLACE ({run} AS run_id, start_ns + {shift} AS start_ns) FROM read_parquet({source})
    ) TO {path} (FORMAT PARQUET, COMPRESSION ZSTD, PARQUET_VERSION V2, ROW_GROUP_SIZE 131072)
"""
QUESTIONS = {
    "top kernels by time in a run": """
        SELECT name, COUNT(*) AS calls, SUM(duration_ns) / 1e6 AS ms FROM events
        WHERE run_id = $run AND phase = 'X' AND category IN ('kernel', 'cpu_op')
        GROUP BY name ORDER BY ms DESC LIMIT 10
    """,
    "p99 step time by batch size, all runs": """
        SELECT batch_size, COUNT(*) AS steps, QUANTILE_CONT(duration_ns, 0.99) / 1e6 AS p99_ms FROM batches
        GROUP BY batch_size ORDER BY batch_size
    """,
    "p99 step time by batch size, a campaign": """
        SELECT batch_size, COUNT(*) AS steps, QUANTILE_CONT(duration_ns, 0.99) / 1e6 AS p99_ms FROM batches
        WHERE run_id IN (SELECT run_id FROM runs WHERE campaign = 'campaign-001')
        GROUP BY batch_size ORDER BY batch_size
    """,
    "a counter around an event": """
        SELECT c.counter_name, AVG(c.value) AS mean, COUNT(*) AS samples FROM counters AS c
        INNER JOIN (
            SELECT start_ns FROM events WHERE run_id = $run AND phase = 'X' ORDER BY duration_ns DESC LIMIT 1
        ) AS e ON c.start_ns BETWEEN e.start_ns - 1000000000 AND e.start_ns + 1000000000
        WHERE c.run_id = $run GROUP BY ALL ORDER BY ALL
    """,
    "one run of 10,000: its batches": """
        SELECT run_window, COUNT(*) AS steps, MEDIAN(duration_ns) / 1e6 AS ms FROM batches
        WHERE run_id = $run GROUP BY ALL
    """,
    "one run of 10,000: its catalogue rows": "SELECT * FROM v_runs WHERE run_id = $run",
}
ASK = """
import sys, time
began = time.perf_counter()
from pathlib import Path
from tasks.warehouse import open_published
imported = time.perf_counter()
with open_published(Path(sys.argv[1])) as con:
    for _ in range(6):
        start = time.perf_counter()
        rows = con.execute(sys.argv[2]).fetchall()
        print(time.perf_counter() - start)
        assert rows
        if _ == 0:
            print(time.perf_counter() - imported, time.time())
"""
# In a small process between: a child's peak counts what its parent had when it forked.
SPEND = """
import os, sys, time
began = time.perf_counter()
silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silent)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - began, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def make_run(home: Path, campaign: str, run: str, start: int, events: Sequence[Path] = ()) -> None:
    """A run as a loader puts it; its events are given."""
    with staging(home / "lake", f"{campaign}.{run}") as folder:
        known = {"run": run, "campaign": campaign, "start": start}
        drafts = {table: [made(folder, table, query, known)] for table, query in TABLES.items()}
        put_run(home, campaign, run, {**drafts, **({EVENTS: events} if events else {})})


def made(folder: Path, table: str, query: str, known: Mapping[str, object]) -> Path:
    """A draft of a table, filled by a query over the parameters that it names."""
    with memory_connection() as con:
        create_table(con, table)
        named = {key: value for key, value in known.items() if f"${key}" in query}
        con.execute(f"CREATE TABLE made AS {query}", named)
        insert_by_name(con.table("made"), table)
        return write_draft(con, table, folder, "campaign", "part")


def close(home: Path, campaign: str) -> None:
    """Record that the campaign is over, and compact it."""
    write_frame(home, "campaigns", campaign, "all", row(campaign=campaign, closed_ns=1))
    if campaign in {FIRST, TRACES}:
        compact(home, campaign)


def copy_campaign(home: Path, number: int) -> None:
    """The first campaign again, under another name and with other run_ids, as a compaction leaves it."""
    name, first, files = f"campaign-{number:03}", compacted_of(home, FIRST), {}
    assert first
    with staging(home / "lake", f"compact.{name}") as folder:
        for table, file in first.files.items():
            text = {"prefix": literal(renamed("", number)), "campaign": literal(name), "column": NAMED[table]}
            with memory_connection() as con:
                query = RENAMED.format(**text, source=literal(str(home / "lake" / file.path)))
                con.execute(f"CREATE VIEW {table} AS {query}")
                draft = write_draft(con, table, folder, name, "compacted")
                files[table] = described(con, table, draft, f"compacted/{name}/{table}.1.parquet")
            put(draft, home / "lake" / files[table].path)
        runs = {
            renamed(run, number): load.model_copy(update={"part": renamed(run, number)})
            for run, load in first.runs.items()
        }
        rows = {renamed(run, number): counts for run, counts in first.rows.items()}
        manifest = first.model_copy(update={"files": files, "runs": runs, "rows": rows})
        (folder / "manifest.json").write_text(manifest.model_dump_json())
        put(folder / "manifest.json", manifest_path(home, name))
    close(home, name)


def renamed(run: str, number: int) -> str:
    """The run_id in a copy of the first campaign."""
    return f"r{number:03}{run[4:]}"


def event_files(home: Path, trace: str | None) -> list[Path]:
    """Events to be copied: those of a trace that is ingested into a home of its own, or made up."""
    if trace:
        command = [sys.executable, "-m", "tasks.cli.main", "ingest", trace, "--home", str(home)]
        subprocess.run(command, cwd=ROOT, check=True)
        (load,) = held(home, campaigns_of(home)[0]).loads
        return [home / "lake" / file.path for file in load.files[EVENTS]]
    known = {"run": "r", "campaign": TRACES, "start": 1_795_400_000_000_000_001}
    home.mkdir()
    return [made(home, EVENTS, MADE_UP, known)]


def copy_events(home: Path, files: Sequence[Path], wanted: int) -> list[str]:
    """Runs with the events of `files`, an hour later each, until there are enough; returns their run_ids."""
    with memory_connection() as con:
        source = con.read_parquet([str(path) for path in files])
        begin, count = source.aggregate("min(start_ns), count(*)").fetchall()[0]
    runs = [f"rfff{number:07x}" for number in range(-(-wanted // count))]
    for number, run in enumerate(runs):
        with tempfile.TemporaryDirectory(dir=home) as place, memory_connection() as con:
            drafts = [Path(place) / path.name for path in files]
            for path, draft in zip(files, drafts, strict=True):
                text = {"run": literal(run), "shift": number * HOUR_NS, "source": literal(str(path))}
                con.execute(COPY.format(**text, path=literal(str(draft))))
            make_run(home, TRACES, run, begin + number * HOUR_NS, drafts)
    close(home, TRACES)
    return runs


def build(home: Path, trace: str | None, events: int, campaigns: int, runs: int) -> dict[str, str]:
    """Make all of it; returns the run that each question is asked about."""
    for number in range(runs):
        make_run(home, FIRST, f"r000{number:07x}", 1_795_400_000_000_000_001)
    close(home, FIRST)
    for number in range(1, campaigns):
        copy_campaign(home, number)
    with tempfile.TemporaryDirectory(dir=home) as place:
        traced = copy_events(home, event_files(Path(place) / "home", trace), events)
    plain = renamed(f"r000{runs // 2:07x}", campaigns // 2)
    return {name: plain if "10,000" in name else traced[len(traced) // 2] for name in QUESTIONS}


def ask(home: Path, question: str, run: str) -> tuple[list[float], list[float], list[float]]:
    """Seconds from a process's start to its first answer, from connecting to that, and of later questions."""
    whole: list[float] = []
    cold: list[float] = []
    warm: list[float] = []
    for _ in range(ROUNDS):
        began = time.time()
        command = [sys.executable, "-c", ASK, str(home), question.replace("$run", literal(run))]
        said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
        cold.append(float(said[1]))
        whole.append(float(said[2]) - began)
        warm += map(float, said[3:])
    return whole, cold, warm


def figures(seconds: Sequence[float]) -> str:
    """Median and range, ms."""
    low, high = min(seconds) * 1000, max(seconds) * 1000
    return f"{statistics.median(seconds) * 1000:7.0f} ({low:.0f} to {high:.0f})"


def spent(*command: str) -> tuple[float, float]:
    """Seconds and peak memory (MiB) of an `lprism` command, which must succeed."""
    whole = [sys.executable, "-S", "-c", SPEND, sys.executable, "-m", "tasks.cli.main", *command]
    done = subprocess.run(whole, cwd=ROOT, check=True, capture_output=True, text=True)
    seconds, peak_kib = map(float, done.stdout.split())
    return seconds, peak_kib / 1024


def measure(home: Path, asked_about: dict[str, str]) -> None:
    """Publish, check and ask, and print what it took."""
    for command in ("rebuild", "check"):
        seconds, peaks = zip(
            *(spent("warehouse", command, "--home", str(home)) for _ in range(ROUNDS)), strict=True
        )
        say(f"{'lprism warehouse ' + command:40} {figures(seconds)} ms, {max(peaks):.0f} MiB at most")
    say(f"{'question':40} {'later on it':>22} {'new connection':>24} {'new process':>24}  ms: median (range)")
    for name, run in asked_about.items():
        whole, cold, warm = ask(home, QUESTIONS[name], run)
        say(f"{name:40} {figures(warm):>22} {figures(cold):>24} {figures(whole):>24}")


def main() -> None:
    """Build, measure, clean up."""
    options = argparse.ArgumentParser()
    options.add_argument("trace", nargs="?")
    options.add_argument("--events", type=int, default=100_000_000)
    options.add_argument("--campaigns", type=int, default=100)
    options.add_argument("--runs", type=int, default=100)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, began = Path(folder) / "home", time.perf_counter()
        home.mkdir()
        # In a process of its own: what this one had in memory would count for the commands that it starts.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as maker:
            making = maker.submit(build, home, given.trace, given.events, given.campaigns, given.runs)
            asked_about = making.result()
        size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
        say(
            f"{given.campaigns * given.runs} runs, {given.events} events or a run more, {size >> 20} MiB, "
            f"made in {time.perf_counter() - began:.0f} s; {ROUNDS} rounds"
        )
        measure(home, asked_about)


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
