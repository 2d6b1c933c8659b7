"""The lake: loads and their seals, compaction, what is cleared away and when, and the check of every file.

Runs here are made by hand: a row of `runs`, whose `run_order` says which load it came from, as many batches
and files as that says, and events in two files.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks import compaction, lake
from tasks.compaction import KEPT_NS, compact, digest_of, sweep
from tasks.lake import (
    SEALED,
    campaigns_of,
    compacted_of,
    held,
    load_of,
    loaded_source,
    put_run,
    sealed_in,
    write_draft,
    write_frame,
)
from tasks.lake_check import check
from tasks.lake_tables import lake_connection, publish
from tasks.settings import LprismError
from tasks.staging import staging
from tasks.warehouse import create_table, memory_connection, open_published, query
from tests.tree import ROOT
from tests.warehouse_cases import CAMPAIGN, row

RUNS = [f"r000000000{number}" for number in range(4)]
FOREIGN = "ingested"


def load(home: Path, run_id: str, number: int = 1, campaign: str = CAMPAIGN) -> None:
    """Load a run for the `number`th time: so many batches and files, and two files of events."""
    with staging(home / "lake", f"{campaign}.{run_id}") as folder:
        drafts: dict[str, list[Path]] = {}
        for table, count in {"runs": 1, "batches": number, "files": number, "counters": 0}.items():
            drafts[table] = [draft(folder, table, run_id, count, number, campaign)]
        for part in ("a", "b"):
            (folder / part).mkdir()
            drafts.setdefault("events", []).append(draft(folder / part, "events", run_id, number, number))
        put_run(home, campaign, run_id, drafts)


TOLD = {"runs": "run_order", "batches": "batch_index", "files": "rows_in", "events": "event_index"}


def draft(folder: Path, table: str, run_id: str, count: int, number: int, campaign: str = CAMPAIGN) -> Path:
    """Rows of a table, with the number of the load in one of its columns."""
    with memory_connection() as con:
        create_table(con, table)
        known: dict[str, object] = {"run_id": run_id, TOLD.get(table, ""): number, "campaign": campaign}
        for _ in range(count):
            con.table(table).insert([known.get(column) for column in con.table(table).columns])
        return write_draft(con, table, folder, campaign, run_id, source=f"load {number}")


def close(home: Path, campaign: str = CAMPAIGN, closed_ns: int | None = 1) -> None:
    """Record the campaign as the orchestrator does."""
    write_frame(home, "campaigns", campaign, "all", row(campaign=campaign, closed_ns=closed_ns))


COUNTED = """
    SELECT run_id, run_order, (SELECT COUNT(*) FROM batches AS b WHERE b.run_id = r.run_id),
        (SELECT COUNT(*) FROM files AS f WHERE f.run_id = r.run_id),
        (SELECT COUNT(*) FROM events AS e WHERE e.run_id = r.run_id)
    FROM runs AS r ORDER BY ALL
"""


def seen(home: Path) -> list[tuple[Any, ...]]:
    """Every run with the number of its load, and its batches, files and events, as the lake shows them."""
    with lake_connection(home) as con:
        return con.execute(COUNTED).fetchall()


def numbered(runs: Sequence[str], *numbers: int) -> list[tuple[Any, ...]]:
    """What `seen` gives when these runs were loaded for the so-manieth time."""
    return [
        (run, number, number, number, 2 * number)
        for run, number in zip(runs, numbers or [1] * len(runs), strict=True)
    ]


def stored(home: Path) -> list[str]:
    """The Parquet files of the lake but those of events."""
    paths = (path.relative_to(home / "lake") for path in (home / "lake").rglob("*.parquet"))
    return sorted(str(path) for path in paths if path.parts[0] != "events")


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A home with a closed campaign of four runs."""
    for run in RUNS:
        load(tmp_path, run)
    close(tmp_path)
    return tmp_path


# ---- loads


def test_a_load_is_seen_whole_and_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """Every table of it, events from several files; its source is told, and the campaign it is in."""
    load(tmp_path, RUNS[0])
    assert (seen(tmp_path), loaded_source(tmp_path, CAMPAIGN, RUNS[0])) == (numbered(RUNS[:1]), "load 1")
    load(tmp_path, RUNS[0], 3)
    assert (seen(tmp_path), loaded_source(tmp_path, CAMPAIGN, RUNS[0])) == (
        numbered(RUNS[:1], 3),
        "load 3",
    )
    assert sealed_in(tmp_path, RUNS[0]) == CAMPAIGN
    assert (sealed_in(tmp_path, RUNS[1]), loaded_source(tmp_path, CAMPAIGN, RUNS[1])) == (None, None)


def test_a_load_that_lost_a_file_is_no_load(tmp_path: Path) -> None:
    """Its source is None, so that it is loaded again."""
    load(tmp_path, RUNS[0])
    next((tmp_path / "lake" / "events").rglob("1-1.parquet")).unlink()
    assert loaded_source(tmp_path, CAMPAIGN, RUNS[0]) is None


def test_a_draft_must_have_its_tables_columns(tmp_path: Path) -> None:
    """A foreign draft is refused before anything is put."""
    load(tmp_path, RUNS[0])
    with staging(tmp_path / "lake", "x") as folder:
        runs = draft(folder, "runs", RUNS[0], 1, 2)
        with pytest.raises(LprismError, match=r"rows for batches differ from sql/tables/batches\.sql"):
            put_run(tmp_path, CAMPAIGN, RUNS[0], {"runs": [runs], "batches": [runs]})
        with pytest.raises(LprismError, match="one file of batches, not several"):
            put_run(tmp_path, CAMPAIGN, RUNS[0], {"runs": [runs], "batches": [runs, runs]})
    assert seen(tmp_path) == numbered(RUNS[:1])


def test_an_event_question_about_one_run_opens_no_other(tmp_path: Path) -> None:
    """The folder's name decides, in the published file too."""
    for run in RUNS:
        load(tmp_path, run)
    publish(tmp_path)
    with open_published(tmp_path) as con:
        plan = con.execute("EXPLAIN ANALYZE FROM events WHERE run_id = $run", {"run": RUNS[1]}).fetchall()
    assert "Scanning Files: 2/8" in plan[0][1]


def test_a_run_id_of_digits_stays_text(tmp_path: Path) -> None:
    """DuckDB would make a number of the folder's name."""
    load(tmp_path, "0123")
    with lake_connection(tmp_path) as con:
        assert con.execute("SELECT DISTINCT run_id FROM events").fetchall() == [("0123",)]


def test_a_file_of_an_earlier_version_is_read_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column that a table got since is NULL in the rows of before, and compaction writes it out."""
    load(tmp_path, RUNS[0])
    for run in RUNS[1:3]:
        with staging(tmp_path / "lake", "x") as folder, memory_connection() as con:
            con.execute("CREATE TABLE runs AS SELECT ? AS run_id, 7::BIGINT AS run_order", [run])
            with monkeypatch.context() as earlier:
                for module in (lake, compaction):
                    earlier.setattr(module, "columns_of", lambda _: dict(OLD), raising=False)
                paths = [write_draft(con, "runs", folder, CAMPAIGN, run)]
                put_run(tmp_path, CAMPAIGN, run, {"runs": paths})
    expected = numbered(RUNS[:1]) + [(run, 7, 0, 0, 0) for run in RUNS[1:3]]
    assert seen(tmp_path) == expected
    compact(tmp_path, CAMPAIGN)
    assert seen(tmp_path) == expected


OLD = {"run_id": "VARCHAR", "run_order": "BIGINT"}


@pytest.mark.parametrize("name", ["a*", "a?", "[ab]b", "a'b", 'a"b', "a**", "{a,b}b"])
def test_a_home_whose_name_is_a_pattern_is_this_home_alone(name: str, tmp_path: Path) -> None:
    """Its neighbours match the pattern; their rows are not seen: in a step, published, compacted, checked."""
    for folder, run in {"ab": RUNS[0], "bb": RUNS[1], name: RUNS[2]}.items():
        load(tmp_path / folder, run)
        load(tmp_path / folder, RUNS[3])
        close(tmp_path / folder)
    home = tmp_path / name
    assert seen(home) == numbered(RUNS[2:])
    for _ in range(2):
        publish(home)
        assert query(home, COUNTED)[1] == numbered(RUNS[2:])
    assert check(home).findings == []


# ---- compaction


def test_a_closed_campaign_goes_into_one_file_a_table(closed: Path) -> None:
    """Events stay as they are; nothing else changes for a reader, and what is loaded again is known."""
    publish(closed)
    assert query(closed, COUNTED)[1] == seen(closed) == numbered(RUNS)
    manifest = compacted_of(closed, CAMPAIGN)
    assert manifest
    assert {table: file.rows for table, file in manifest.files.items()} == {
        "runs": 4, "batches": 4, "files": 4, "counters": 0,
    }  # fmt: skip
    assert held(closed, CAMPAIGN).loads[0].table == "campaigns"
    assert len(held(closed, CAMPAIGN).loads) == 1
    assert [loaded_source(closed, CAMPAIGN, run) for run in RUNS] == ["load 1"] * 4
    assert sealed_in(closed, RUNS[3]) == CAMPAIGN
    loaded = load_of(closed, CAMPAIGN, RUNS[3])
    assert loaded
    assert {table: sum(file.rows for file in files) for table, files in loaded.files.items()} == {
        "runs": 1, "batches": 1, "files": 1, "counters": 0, "events": 2,
    }  # fmt: skip


def test_a_run_loaded_after_its_compaction_stands_above_it(closed: Path) -> None:
    """At once, in every table, for the run alone; the next compaction takes it in."""
    publish(closed)
    load(closed, RUNS[1], 3)
    load(closed, "r9999999999")
    runs, numbers = [*RUNS, "r9999999999"], (1, 3, 1, 1, 1)
    assert seen(closed) == numbered(runs, *numbers)
    publish(closed)
    assert query(closed, COUNTED)[1] == seen(closed) == numbered(runs, *numbers)
    manifest = compacted_of(closed, CAMPAIGN)
    assert manifest
    assert (manifest.generation, manifest.runs[RUNS[1]].version) == (2, 2)
    load(closed, RUNS[1], 2)
    assert seen(closed) == numbered(runs, 1, 2, 1, 1, 1)


@pytest.mark.parametrize(
    ("campaign", "closed_ns", "runs", "waited_s", "compacted"),
    [
        (CAMPAIGN, None, 12, 9000, False),  # open
        (CAMPAIGN, 1, 1, 9000, False),  # one run is one file a table already
        (CAMPAIGN, 1, 2, 0, True),
        (FOREIGN, 0, 10, 3601, True),
        (FOREIGN, 0, 10, 3500, False),  # something was loaded within the hour
        (FOREIGN, 0, 9, 9000, False),  # too few to be worth it
    ],
)
def test_what_is_compacted_is_what_nobody_adds_to(
    campaign: str, closed_ns: int | None, runs: int, waited_s: int, *, compacted: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A campaign once it is closed; foreign files, which no campaign closes, when they have come to rest."""
    for number in range(runs):
        load(tmp_path, f"r{number:010}", campaign=campaign)
    if closed_ns != 0:
        close(tmp_path, campaign, closed_ns)
    now = time.time_ns() + waited_s * 1_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: now)
    publish(tmp_path)
    assert (compacted_of(tmp_path, campaign) is not None) == compacted


def test_damage_is_not_compacted_away(closed: Path) -> None:
    """A file that is not what was put there stops the compaction, by name, and is not lent a new digest."""
    path = next((closed / "lake" / "batches").rglob(f"{RUNS[1]}.1.parquet"))
    path.write_bytes(next((closed / "lake" / "batches").rglob(f"{RUNS[2]}.1.parquet")).read_bytes())
    with pytest.raises(LprismError, match=rf"{RUNS[1]}.1.parquet has changed .* ingest {RUNS[1]} again"):
        publish(closed)
    assert compacted_of(closed, CAMPAIGN) is None


def test_what_is_superseded_stays_a_day(closed: Path) -> None:
    """Who opened an earlier published file reads on, though its files have been compacted; then they go."""
    close(closed, closed_ns=None)
    publish(closed)
    with open_published(closed) as before:
        close(closed)
        publish(closed)
        load(closed, RUNS[0], 5)
        sweep(closed, time.time_ns() + KEPT_NS - 1_000_000_000)
        assert before.execute(COUNTED).fetchall() == numbered(RUNS)
    sweep(closed, time.time_ns() + KEPT_NS + 1_000_000_000)
    assert [path for path in stored(closed) if not path.startswith("compacted/")] == [
        f"batches/{CAMPAIGN}/{RUNS[0]}.2.parquet", f"campaigns/{CAMPAIGN}/all.3.parquet",
        f"counters/{CAMPAIGN}/{RUNS[0]}.2.parquet", f"files/{CAMPAIGN}/{RUNS[0]}.2.parquet",
        f"runs/{CAMPAIGN}/{RUNS[0]}.2.parquet",
    ]  # fmt: skip
    assert {path.name for path in (closed / "lake" / "seals" / CAMPAIGN).iterdir()} == {
        "campaigns.all.3.json", f"runs.{RUNS[0]}.2.json",
    }  # fmt: skip
    assert seen(closed) == numbered(RUNS, 5, 1, 1, 1)


# ---- processes that are killed, and processes side by side

KILLED = """
import os, signal, sys
from pathlib import Path
from tasks import compaction, lake_tables
real, left = compaction.put, int(sys.argv[2])
def put(draft, place):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return real(draft, place)
compaction.put = put
lake_tables.publish(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("puts", range(5))
def test_a_killed_compaction_leaves_what_was_there(puts: int, closed: Path) -> None:
    """Kill -9 before any of its four tables or its manifest is put: the same rows before and after."""
    publish(closed)
    load(closed, RUNS[2], 2)
    command = [sys.executable, "-c", KILLED, str(closed), str(puts)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert seen(closed) == numbered(RUNS, 1, 1, 2, 1)
    publish(closed)
    assert seen(closed) == numbered(RUNS, 1, 1, 2, 1)
    sweep(closed, time.time_ns() + 2 * KEPT_NS)
    assert len([path for path in stored(closed) if path.startswith("compacted/")]) == 4
    assert check(closed).findings == []


LOOPS = """
import sys, time
from pathlib import Path
from tests import test_lake
home, kind, until = Path(sys.argv[1]), sys.argv[2], time.time() + float(sys.argv[3])
turn = 1
while time.time() < until:
    turn += 1
    getattr(test_lake, "loop_" + kind)(home, turn)
    print(turn, flush=True)
"""


def loop_load(home: Path, turn: int) -> None:
    """Load some run again."""
    load(home, random.choice(RUNS), turn)  # noqa: S311  which run is of no consequence


def loop_publish(home: Path, _: int) -> None:
    """Compact and publish."""
    publish(home)


def loop_read(home: Path, _: int) -> None:
    """Every run once, and of one load alone, in the lake and in the published file."""
    for rows in (seen(home), query(home, COUNTED)[1]):
        assert [run for run, *_ in rows] == RUNS, rows
        assert all(numbered([run], number) == [(run, number, *counts)] for run, number, *counts in rows), rows


def started(home: Path, kind: str, seconds: float) -> "subprocess.Popen[str]":
    """A process that repeats one of the loops above."""
    command = [sys.executable, "-c", LOOPS, str(home), kind, str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_readers_see_every_run_once_whatever_goes_on(closed: Path) -> None:
    """Two loaders, a compactor and two readers side by side; loader and compactor are killed -9 on and on."""
    publish(closed)
    seconds, kinds = 12.0, ["load", "publish"]
    readers = [started(closed, "read", seconds) for _ in range(2)]
    steady = started(closed, "load", seconds)
    end, killed = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        victims = [started(closed, kind, seconds) for kind in kinds]
        time.sleep(random.uniform(1.5, 3))  # noqa: S311  any moment will do
        for victim in victims:
            victim.send_signal(signal.SIGKILL)
            said = victim.communicate(timeout=30)
            assert victim.returncode == -signal.SIGKILL, said
            killed += 1
    for process in (*readers, steady):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert len(out.splitlines()) > 2
    assert killed >= 6
    publish(closed)
    loop_read(closed, 0)
    assert check(closed).findings == [] or {one.what for one in check(closed).findings} == {"extra"}
    sweep(closed, time.time_ns() + 2 * KEPT_NS)
    assert check(closed).findings == []


# ---- the check


def test_a_whole_lake_has_no_findings(closed: Path) -> None:
    """Loose, compacted, reloaded, with superseded files beside: all as it was put."""
    assert (check(closed).files, check(closed).rows) == (4 * 6 + 1, 4 * 5 + 1)
    publish(closed)
    assert check(closed).findings == []
    load(closed, RUNS[0], 2)
    found = check(closed)
    assert (found.findings, found.files, found.rows) == ([], 4 + 3 * 2 + 6 + 1, 12 + 6 + 1 + 10 - 1)


def truncate(path: Path) -> None:
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def copy(path: Path) -> None:
    """Put a copy where no load has one."""
    path.with_name("copy.parquet").write_bytes(path.read_bytes())


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(("harm", "what"), [(Path.unlink, "missing"), (truncate, "changed"), (copy, "extra")])
def test_what_is_not_as_it_was_put_is_named(
    *, compacted: bool, harm: Callable[[Path], None], what: str, closed: Path
) -> None:
    """A file that is missing, changed or too many: its name, and what it is."""
    if compacted:
        publish(closed)
    for table in ("batches", "events"):
        found = held(closed, CAMPAIGN)
        path = next(
            file.path
            for file in compaction.files_of(found)
            if file.path.split("/")[0] == table or (table == "batches" and "/batches." in file.path)
        )
        harm(closed / "lake" / path)
        named = str(Path(path).with_name("copy.parquet")) if what == "extra" else path
        assert (named, what) in {(one.path, one.what) for one in check(closed).findings}
    assert len(check(closed).findings) == 2


@pytest.mark.parametrize("compacted", [False, True])
def test_rows_are_counted_by_run(*, compacted: bool, closed: Path) -> None:
    """A file that is as it was put, but whose rows are not those that the load noted, is told by run."""
    record = closed / "lake" / "seals" / CAMPAIGN / f"runs.{RUNS[1]}.1.json"
    if compacted:
        publish(closed)
        record = closed / "lake" / "compacted" / f"{CAMPAIGN}.json"
    noted = json.loads(record.read_text())
    if compacted:
        noted["rows"][RUNS[1]]["batches"] = 2
    else:
        noted["files"]["batches"][0]["rows"] = 2
    record.write_text(json.dumps(noted))
    (finding,) = check(closed).findings
    assert (finding.what, finding.detail) == ("miscounted", f"{RUNS[1]} has 1 rows, not 2")
    record.write_text("{")
    assert [(one.path, one.what) for one in check(closed).findings] == [(CAMPAIGN, "damaged")]


def test_a_seal_cannot_name_a_file_elsewhere(closed: Path) -> None:
    """A lake that came from somebody else reads nothing outside of itself."""
    record = closed / "lake" / "seals" / CAMPAIGN / f"runs.{RUNS[1]}.1.json"
    noted = record.read_text()
    for place in ("batches/../../../x.parquet", "/etc/passwd", "batches/c/.x", "batches"):
        changed = json.loads(noted)
        changed["files"]["batches"][0]["path"] = place
        record.write_text(json.dumps(changed))
        with pytest.raises(LprismError, match=r"runs.r0000000001.1.json is damaged"):
            lake_connection(closed)


def test_digests_are_those_of_the_files(closed: Path) -> None:
    """What a seal says of a file can be held against any other tool."""
    files = [
        file for campaign in campaigns_of(closed) for file in compaction.files_of(held(closed, campaign))
    ]
    assert {digest_of(closed / "lake" / file.path) == file.sha256 for file in files} == {True}
    assert {file.path.split("/")[0] for file in files} <= {"runs", "campaigns", *SEALED}
