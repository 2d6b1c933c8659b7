"""The runner of sql/, the lake, and the published file, with a second process as its reader."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks import warehouse
from tasks.lake import write_frame, write_part
from tasks.lake_tables import lake_connection, publish
from tasks.settings import LprismError
from tasks.traces.bundle import ingest_bundle
from tasks.warehouse import (
    create_table,
    execute,
    export,
    literal,
    memory_connection,
    open_published,
    query,
    schema,
    sql_names,
    sql_text,
)
from tests.tree import ROOT
from tests.warehouse_cases import CAMPAIGN, OFFSET, RUN, data_file, good_bundle, parts, row, seal_file

MS = 1_000_000
OTHER = "r1111111111"
PRIVATE = "0pen-5esame"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with one run in the lake."""
    ingest_bundle(tmp_path, good_bundle(tmp_path / "bundles" / CAMPAIGN / RUN))
    return tmp_path


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published home that nobody may change, with something private beside the lake."""
    folder = tmp_path_factory.mktemp("asked")
    ingest_bundle(folder, good_bundle(folder / "bundles" / CAMPAIGN / RUN))
    publish(folder)
    (folder / "lab").mkdir()
    (folder / "lab" / "client_key").write_text(PRIVATE)
    return folder


def answer(home: Path, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a question to the published warehouse."""
    return query(home, sql)[1]


# ---- the runner


def test_parameters_must_be_those_of_the_file() -> None:
    """A missing or extra parameter is named, and nothing runs."""
    with memory_connection() as con:
        with pytest.raises(
            LprismError, match=r"campaign_models: missing parameters \['campaign'\], extra .*\['camp'\]"
        ):
            execute(con, "campaign_models", camp="x")
        with pytest.raises(
            LprismError, match=r"tables/runs: missing parameters \[\], extra parameters \['name'\]"
        ):
            execute(con, "tables/runs", name=1)
        assert con.execute("SHOW TABLES").fetchall() == []


def test_a_parameter_is_a_value_and_never_text(home: Path) -> None:
    """Quotes and semicolons in a value stay in the value."""
    with lake_connection(home) as con:
        assert execute(con, "run_objectives", campaign="x' OR '1'='1'; DROP TABLE runs --").fetchall() == []
        assert execute(con, "run_objectives", campaign=CAMPAIGN).fetchall() == [(RUN, 30.0)]


def test_parameters_go_with_one_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of several statements would get them is not left to chance."""
    with memory_connection() as con:
        monkeypatch.setattr(warehouse, "sql_text", lambda _: "SELECT $a; SELECT 1")
        with pytest.raises(LprismError, match="one statement, and it has 2"):
            execute(con, "two", a=1)


def test_a_file_is_named_without_doubt() -> None:
    """A stem is enough where one folder has it; else the folder decides, and no path gets through."""
    assert sql_text("campaign_models") == sql_text("features/campaign_models")
    assert sql_text("tables/files") != sql_text("convert/files")
    for name in ("files", "nothing", "../pyproject", "tables/../tables/runs"):
        with pytest.raises(LprismError, match="has no one file"):
            sql_text(name)


def test_a_python_variable_is_no_table() -> None:
    """SQL cannot reach into the program that runs it."""
    secret = pd.DataFrame([{"a": len("secret")}])
    with memory_connection() as con, pytest.raises(duckdb.CatalogException, match="secret does not exist"):
        con.execute("SELECT * FROM secret")
    assert len(secret) == 1


# ---- the lake


def test_rows_are_held_against_their_table(tmp_path: Path) -> None:
    """Another column, type or order is refused before anything is written."""
    for columns in ("VARCHAR AS run_id", "1 AS x", "1::BIGINT AS start_ns, 'r' AS run_id"):
        with memory_connection() as con:
            con.execute("CREATE TABLE incidents AS SELECT " + columns.replace("VARCHAR", "'r'"))
            with pytest.raises(LprismError, match=r"rows for incidents differ from sql/tables/incidents.sql"):
                write_part(con, "incidents", tmp_path, CAMPAIGN, "all")
    assert parts(tmp_path, "incidents") == []
    with memory_connection() as con, pytest.raises(LprismError, match="there is no table incident;"):
        create_table(con, "incident")


def test_a_part_says_what_it_is(tmp_path: Path) -> None:
    """Zstandard, and the part's identity in the metadata of the file."""
    with memory_connection() as con:
        create_table(con, "incidents")
        con.execute("INSERT INTO incidents (run_id) VALUES ('r')")
        path = write_part(con, "incidents", tmp_path, CAMPAIGN, "all")
    file = pq.ParquetFile(path)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert {
        b"table_name": b"incidents",
        b"campaign": CAMPAIGN.encode(),
        b"part": b"all",
    }.items() <= file.metadata.metadata.items()


@pytest.mark.parametrize(
    ("campaign", "part"), [("../c", "all"), ("c", "a/b"), ("", "all"), ("c", ".x"), ("c\n", "all")]
)
def test_names_of_parts_cannot_leave_the_lake(campaign: str, part: str, tmp_path: Path) -> None:
    """A campaign or part is a plain name."""
    with pytest.raises(LprismError, match="is no name"):
        write_frame(tmp_path, "incidents", campaign, part, row(run_id="r"))
    with pytest.raises(LprismError, match="is no name"):
        lake_connection(tmp_path, "../" + campaign)


def test_a_frame_goes_in_by_name(tmp_path: Path) -> None:
    """Order does not matter, absent columns are NULL, large integers stay exact."""
    frame = pd.DataFrame({"alarm": [True, None], "start_ns": [OFFSET, 1], "run_id": ["a", None]})
    write_frame(tmp_path, "batch_scores", CAMPAIGN, "all", frame)
    with lake_connection(tmp_path) as con:
        rows = con.table("batch_scores").select("run_id", "start_ns", "alarm", "model_id").fetchall()
    assert rows == [("a", OFFSET, True, None), (None, 1, None, None)]


def test_a_frame_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """A column that is not there, or a value that is no number, is named."""
    with pytest.raises(LprismError, match="incidents has no column colour"):
        write_frame(tmp_path, "incidents", CAMPAIGN, "all", row(run_id="r", colour=1))
    with pytest.raises(LprismError, match=r"does not fit incidents: Conversion Error.*abc"):
        write_frame(tmp_path, "incidents", CAMPAIGN, "all", row(start_ns="abc"))
    with pytest.raises(LprismError, match=r"does not fit latency_models.*JSON"):
        write_frame(tmp_path, "latency_models", CAMPAIGN, "all", row(features="{"))
    assert not (tmp_path / "lake").exists()


def test_an_empty_frame_is_a_part_of_no_rows(tmp_path: Path) -> None:
    """A campaign without an incident has been looked at."""
    write_frame(tmp_path, "incidents", CAMPAIGN, "all", pd.DataFrame(columns=["run_id", "alarms"]))
    with lake_connection(tmp_path) as con:
        assert len(con.table("incidents")) == 0
    assert parts(tmp_path, "incidents") == ["all"]


def test_every_table_can_be_read_from_an_empty_lake(tmp_path: Path) -> None:
    """Tables without a part are empty, and have their columns."""
    with lake_connection(tmp_path) as con:
        for table in sql_names("tables"):
            assert len(con.table(table)) == 0
            assert con.table(table).columns[0] in ("run_id", "campaign", "model_id", "sha256")


def test_a_campaign_sees_its_own_rows(home: Path) -> None:
    """Others are in the lake, and out of sight; a name of digits stays text."""
    ingest_bundle(home, good_bundle(home / "b2", OTHER, campaign="20261123"))
    both = [OTHER, RUN]
    seen = {(CAMPAIGN,): [RUN], ("20261123",): [OTHER], (): both, (CAMPAIGN, "20261123"): both, ("none",): []}
    for campaigns, runs in seen.items():
        with lake_connection(home, *campaigns) as con:
            assert sorted(con.table("runs").select("run_id").fetchall()) == sorted((run,) for run in runs)
            assert {run for (run,) in con.table("batches").select("run_id").fetchall()} == set(runs)
    with lake_connection(home, "20261123") as con:
        assert con.table("runs").select("campaign").fetchall() == [("20261123",)]


def test_rows_without_their_seal_are_not_seen(home: Path) -> None:
    """A run counts once its seal is there."""
    seal_file(home).unlink()
    with lake_connection(home) as con:
        for table in ("runs", "batches", "counters", "files", "quarantine"):
            assert len(con.table(table)) == 0
    assert parts(home, "batches") == [RUN]


def test_a_damaged_part_is_named(home: Path) -> None:
    """A file that is no Parquet any more is one clear error."""
    data_file(home, "batches").write_bytes(b"PAR1 was here")
    with pytest.raises(LprismError, match=rf"batches.*{RUN}.1.parquet"):
        lake_connection(home)
    with pytest.raises(LprismError, match=rf"batches.*{RUN}.1.parquet"):
        publish(home)


# ---- the published file


def test_the_published_file_has_every_table_with_its_meaning(home: Path) -> None:
    """Catalogue and gold are tables, rows by the million stay in the lake; all is documented."""
    publish(home)
    columns, rows = schema(home)
    kinds = {name: kind for name, kind, _ in rows}
    assert columns == ["table", "kind", "one row"]
    # What the lake has no row of is an empty table.
    assert {name for name, kind in kinds.items() if kind == "view"} == {
        "batches", "counters", *sql_names("views"),
    }  # fmt: skip
    assert set(kinds) == {*sql_names("tables"), *sql_names("views")}
    for table in kinds:
        assert all(meaning for _, _, meaning in schema(home, table)[1]), table
    assert all(meaning for *_, meaning in rows)
    assert schema(home, "batches")[1][2] == (
        "start_ns", "BIGINT", "start of the step, ns since 1970 on the host's clock",
    )  # fmt: skip
    with pytest.raises(LprismError, match="there is no table nope; there are"):
        schema(home, "nope")


def test_an_empty_home_can_be_published(tmp_path: Path) -> None:
    """Every table and view answers, with no row."""
    publish(tmp_path)
    for name, _, _ in schema(tmp_path)[1]:
        if name != "v_columns":
            with open_published(tmp_path) as con:
                assert con.table(name).fetchall() == []


def test_publishing_again_shows_what_came(home: Path) -> None:
    """The lake is the truth, the file can be made again, and nothing of the making stays."""
    publish(home)
    assert answer(home, "SELECT COUNT(*) FROM batches") == [(3,)]
    ingest_bundle(home, good_bundle(home / "b2", OTHER))
    assert answer(home, "SELECT COUNT(*) FROM batches") == [(3,)]
    (home / "warehouse.duckdb").unlink()
    publish(home)
    assert answer(home, "SELECT COUNT(*) FROM batches") == [(6,)]
    assert answer(home, "SELECT run_id FROM runs ORDER BY ALL") == [(RUN,), (OTHER,)]
    assert sorted(path.name for path in home.iterdir()) == [
        ".staging",
        "b2",
        "bundles",
        "lake",
        "warehouse.duckdb",
    ]
    assert list((home / ".staging").iterdir()) == []


@pytest.mark.parametrize("name", ["it's; a home", "a [b] *", "ü%s {0}", "run_id=5"])
def test_a_home_may_have_any_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes, globs and blanks in it are part of its name; a relative one is found from elsewhere."""
    monkeypatch.chdir(tmp_path)
    home = Path(name)
    ingest_bundle(home, good_bundle(home / "b"))
    publish(home)
    monkeypatch.chdir("/")
    assert answer(tmp_path / name, "SELECT run_id, COUNT(*) FROM batches GROUP BY ALL") == [(RUN, 3)]


def test_text_is_quoted_as_sql_reads_it() -> None:
    """What `literal` quotes is the same text again in DuckDB, whatever it holds."""
    for text in ("plain", "it's", "''", "\\'; DROP TABLE runs; --", '"', "ü\n$a"):
        with memory_connection() as con:
            assert con.execute("SELECT " + literal(text)).fetchall() == [(text,)]


READER = """
import sys
from pathlib import Path
from tasks.warehouse import open_published
with open_published(Path(sys.argv[1])) as con:
    for line in sys.stdin:
        print(con.execute("SELECT COUNT(*) FROM runs").fetchall()[0][0], flush=True)
"""


def test_an_open_reader_keeps_its_snapshot_and_blocks_nobody(home: Path) -> None:
    """Another process reads on while the file is replaced under it; a new reader sees the new rows."""
    publish(home)
    command = [sys.executable, "-c", READER, str(home)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin
        assert reader.stdout
        for expected, now in (("1\n", 1), ("1\n", 2)):
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == expected
            assert answer(home, "SELECT COUNT(*) FROM runs") == [(now,)]
            ingest_bundle(home, good_bundle(home / "b2", OTHER))
            publish(home)
        reader.stdin.close()
        assert reader.wait(30) == 0


def test_a_reader_in_this_process_keeps_its_snapshot_too(home: Path) -> None:
    """Two connections to the same path are two snapshots, not one shared by accident."""
    publish(home)
    with open_published(home) as before:
        ingest_bundle(home, good_bundle(home / "b2", OTHER))
        publish(home)
        with open_published(home) as after:
            assert [len(con.table("runs")) for con in (before, after)] == [1, 2]


def test_nobody_writes_the_published_file(home: Path) -> None:
    """A connection to it is for reading."""
    publish(home)
    with open_published(home) as con, pytest.raises(duckdb.InvalidInputException, match="read-only"):
        con.execute("CREATE TABLE x (i INTEGER)")


def test_without_a_warehouse_the_way_to_one_is_told(tmp_path: Path) -> None:
    """The first question in a new home is answered with the command that makes a warehouse."""
    for ask in (
        lambda: query(tmp_path, "SELECT 1"),
        lambda: schema(tmp_path),
        lambda: open_published(tmp_path),
    ):
        with pytest.raises(LprismError, match=r"there is no warehouse in .*`lprism ingest PATH`"):
            ask()
    (tmp_path / "warehouse.duckdb").write_bytes(b"x" * 9000)
    with pytest.raises(LprismError, match=r"warehouse.duckdb: .*not a valid DuckDB database"):
        query(tmp_path, "SELECT 1")


def test_a_failed_publish_leaves_the_old_file(home: Path) -> None:
    """Readers go on with what there was."""
    publish(home)
    data_file(home, "runs").write_bytes(b"no parquet")
    with pytest.raises(LprismError, match=rf"the lake's runs: .*{RUN}"):
        publish(home)
    assert answer(home, "SELECT run_id FROM runs") == [(RUN,)]
    assert list((home / ".staging").iterdir()) == []


def test_an_export_is_whole_or_not_there(home: Path) -> None:
    """No half file stays behind."""
    publish(home)
    with pytest.raises(LprismError, match="cannot be written"):
        export(home, "SELECT 1", home / "none" / "x.parquet")
    assert export(home, "SELECT run_id, start_ns FROM batches ORDER BY ALL", home / "x.parquet") == 3
    assert pq.read_table(home / "x.parquet").to_pydict()["run_id"] == [RUN] * 3
    assert sorted(home.glob("*.parquet*")) == [home / "x.parquet"]
    assert sorted(home.glob(".*.part")) == []


# ---- what a stranger may ask


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT run_id FROM runs",
        "FROM runs SELECT run_id;",
        "WITH r AS (FROM runs) SELECT run_id FROM r",
        "SELECT run_id FROM (PIVOT (SELECT run_id, status FROM runs) ON status)",
        "PIVOT (SELECT run_id FROM runs) ON run_id || '' GROUP BY run_id -- a comment",
    ],
)
def test_a_question_is_answered(sql: str, asked: Path) -> None:
    """Any form of SELECT, with column names."""
    columns, rows = query(asked, sql)
    assert (columns[0], rows[0][0]) == ("run_id", RUN)


FORBIDDEN = [
    "SELECT * FROM read_text('{home}/lab/client_key')",
    "SELECT * FROM read_text('{home}/lake/../lab/client_key')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_parquet('https://127.0.0.1:1/x.parquet')",
    "COPY (SELECT 1) TO '{home}/lake/x.csv'",
    "COPY (SELECT 1) TO '{home}/x.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{home}/lake/x.csv'",
    "ATTACH '{home}/lake/x.duckdb'",
    "EXPORT DATABASE '{home}/lake/x'",
    "SET enable_external_access = true",
    "SET lock_configuration = false; SELECT 1",
    "RESET enable_external_access",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TABLE x AS SELECT 1; SELECT 1",
    "CREATE PERSISTENT SECRET s (TYPE s3, KEY_ID 'x'); SELECT 1",
    "DELETE FROM runs",
    "DROP TABLE runs",
    "UPDATE runs SET status = 'complete' RETURNING run_id",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE runs",
    "PREPARE q AS SELECT 1",
    "CALL pragma_version()",
    "",
    "-- nothing",
    ";",
    "SELEC 1",
    "SELECT * FROM nope",
    "SELECT 'a'::INTEGER",
    "SELECT $a",
    "SELECT ?",
    "\0",
]


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_what_is_no_question_is_refused(sql: str, asked: Path) -> None:
    """Nothing but the lake is read, nothing is written, and the refusal is a line or two."""
    before = sorted(asked.rglob("*"))
    with pytest.raises(LprismError) as raised:
        query(asked, sql.replace("{home}", str(asked)))
    assert str(raised.value).count("\n") <= 1
    assert PRIVATE not in str(raised.value)
    with pytest.raises(LprismError):
        export(asked, sql.replace("{home}", str(asked)), asked / "x.parquet")
    assert sorted(asked.rglob("*")) == before


def test_the_spill_folder_is_the_lakes_own(home: Path) -> None:
    """Nothing is left in the working directory."""
    with lake_connection(home) as con:
        folder = con.execute("SELECT current_setting('temp_directory')").fetchall()[0][0]
    assert Path(folder).parent == home / "lake" / ".staging"
    assert not (Path.cwd() / ".tmp").exists()
    assert os.path.commonpath([folder, home]) == str(home)
