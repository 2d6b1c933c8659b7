"""`lprism sql`, `schema` and `warehouse` as somebody at a shell, or a program behind a pipe, meets them."""

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet

from tasks import dictionary
from tasks.cli import output, sql
from tasks.lake_tables import publish
from tasks.settings import LprismError
from tests.tree import ROOT

LPRISM = (sys.executable, "-m", "tasks.cli.main")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published home without a row."""
    return publish(tmp_path_factory.mktemp("home")).parent


def asked(home: Path, query: str, *options: str) -> subprocess.CompletedProcess[str]:
    """`lprism sql` in a process of its own."""
    command = [*LPRISM, "sql", query, "--home", str(home), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


TYPES = """
    SELECT [1, 2] AS list, {'a': 1, 'b': NULL} AS struct, MAP {'k': 2} AS map, 1.25 AS decimal,
        1 / 3 AS number, 'nan'::DOUBLE AS nan, '\\xaa'::BLOB AS bytes, '' AS empty, NULL AS nothing,
        '{"a": [1]}'::JSON AS json, TRUE AS yes, 9007199254740993 AS large, DATE '2026-11-23' AS day,
        123456789012345678901.5 AS long
"""


def test_every_type_has_its_json(home: Path) -> None:
    """Numbers are numbers with all their digits, what is nested stays nested, and no NaN breaks a parser."""
    (row,) = json.loads(asked(home, TYPES, "--format", "json").stdout)
    assert row == {
        "list": [1, 2], "struct": {"a": 1, "b": None}, "map": {"k": 2}, "decimal": 1.25, "number": 1 / 3,
        "nan": None, "bytes": "aa", "empty": "", "nothing": None, "json": {"a": [1]}, "yes": True,
        "large": 9007199254740993, "day": "2026-11-23", "long": "123456789012345678901.5",
    }  # fmt: skip


def test_every_type_has_its_csv(home: Path) -> None:
    """An empty text is told from a NULL, and what is nested is JSON in its field."""
    said = asked(home, TYPES, "--format", "csv").stdout
    names, values = csv.reader(io.StringIO(said))
    row = dict(zip(names, values, strict=True))
    assert (row["list"], row["struct"], row["yes"]) == ("[1, 2]", '{"a": 1, "b": null}', "true")
    assert (row["large"], row["decimal"], row["day"]) == ("9007199254740993", "1.25", "2026-11-23")
    assert ',"",,"{""a"": [1]}",true,' in said


@pytest.mark.parametrize(
    ("form", "said"),
    [("csv", "n\n"), ("json", "[]\n"), ("table", "   \n n \n ─ \n   \n0 rows\n")],
)
def test_an_answer_of_no_rows_is_an_answer(form: str, said: str, home: Path) -> None:
    """Column names and nothing else, exit code 0."""
    done = asked(home, "SELECT 1 AS n WHERE FALSE", "--format", form)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_two_columns_of_one_name_are_both_there(home: Path, tmp_path: Path) -> None:
    """Numbered in JSON, refused in Parquet, which nobody could read."""
    assert json.loads(asked(home, "SELECT 1 AS a, 2 AS a, 3 AS a_1", "--format", "json").stdout) == [
        {"a": 1, "a_1": 2, "a_1_1": 3}
    ]
    done = asked(home, "SELECT 1 AS a, 2 AS a", "--format", "parquet", "--output", str(tmp_path / "x"))
    assert (done.returncode, done.stderr) == (
        1,
        "lprism: two columns are called a: name one of them with AS\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_long_answer_is_cut_as_a_table_and_whole_else(home: Path, tmp_path: Path) -> None:
    """A table ends after a thousand rows and says so; a thousand itself is not cut."""
    query = "SELECT * FROM range({})"
    last = asked(home, query.format(5000)).stdout.splitlines()[-1]
    assert last == "the first 1000 rows; --format csv, json or parquet gives all"
    assert asked(home, query.format(1000)).stdout.splitlines()[-1] == "1000 rows"
    assert len(asked(home, query.format(5000), "--format", "csv").stdout.splitlines()) == 5001
    path = tmp_path / "all.parquet"
    assert asked(home, query.format(300_000), "--format", "parquet", "--output", str(path)).returncode == 0
    assert parquet.read_metadata(path).num_rows == 300_000


@pytest.mark.parametrize("form", ["csv", "json"])
def test_memory_does_not_grow_with_the_answer(form: str, home: Path) -> None:
    """A million rows leave as they come: within 50 MB of what one row takes."""
    peaks = []
    for rows in (1, 1_000_000):
        command = [*LPRISM, "sql", f"FROM range({rows})", "--format", form, "--home", str(home)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss / 1024)
    assert peaks[1] - peaks[0] < 50


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_a_reader_that_has_seen_enough_is_no_error(form: str, home: Path) -> None:
    """`| head -1` ends the command without a traceback."""
    command = [*LPRISM, "sql", "FROM range(300000)", "--format", form, "--home", str(home)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


FOREVER = "SELECT COUNT(*) FROM range(100000000) AS a, range(100000000) AS b"


@pytest.mark.parametrize("options", [[], ["--format", "csv"], ["--format", "parquet", "--output", "x"]])
def test_a_question_that_runs_long_can_be_broken_off(options: list[str], home: Path, tmp_path: Path) -> None:
    """Ctrl-C ends it within seconds, with exit code 130 and one line, and leaves no half file."""
    command = [*LPRISM, "sql", FOREVER, "--home", str(home), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, said) == (130, "lprism: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def on_a_terminal(columns: int, *command: str) -> str:
    """What a command prints on a terminal so wide, without its colours."""
    main, side = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=side, stdout=side, stderr=subprocess.DEVNULL
    ) as process:
        os.close(side)
        said = b""
        try:
            while block := os.read(main, 4096):
                said += block
        except OSError:  # the other side is closed
            pass
        process.wait(60)
    os.close(main)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode()).replace("\r", "")


def test_rows_wider_than_the_terminal_are_told_a_value_a_line(home: Path) -> None:
    """Forty columns on eighty characters could not be read; a few that fit are a table."""
    query = "SELECT " + ", ".join(f"{number} AS column_{number}" for number in range(40))
    lines = on_a_terminal(80, *LPRISM, "sql", query, "--home", str(home)).splitlines()
    assert lines[0] == "column_0   0"
    assert lines[39:] == ["column_39  39", "", "1 row"]
    fits = on_a_terminal(80, *LPRISM, "sql", "SELECT 1 AS a, 2 AS b", "--home", str(home)).splitlines()
    assert fits[1].split() == ["a", "b"]


def test_large_numbers_are_read_without_an_exponent(capsys: pytest.CaptureFixture[str]) -> None:
    """A sum of nanoseconds is a number of digits, a share has six of them."""
    output.print_table(["x"], [[12345678.9], [0.123456789], [1e300], [float("nan")]])
    assert capsys.readouterr().out.split()[2:6] == ["12345679", "0.123457", "1e+300", "nan"]


# ---- the lake is looked after


def test_the_lake_is_checked(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is found is printed, a line each or as JSON, and the exit code is 1."""
    sql.check(home=home)
    assert capsys.readouterr().out == "0 files, 0 rows: all as they were put\n"
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "x\x1b").write_text("")
    with pytest.raises(LprismError, match="1 findings in 0 files of the lake"):
        sql.check(home=tmp_path)
    assert capsys.readouterr().out == "extra: x\\x1b: belongs to no load\n"
    with pytest.raises(LprismError):
        sql.check(as_json=True, home=tmp_path)
    found = json.loads(capsys.readouterr().out)["findings"]
    assert found == [{"path": "x\x1b", "what": "extra", "detail": "belongs to no load"}]


# ---- the dictionary


def test_the_dictionary_has_every_column_with_its_meaning(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of sql/ as Markdown, or one table of it, from the COMMENTs alone."""
    sql.schema(form=sql.SchemaFormat.markdown, home=home)
    said = capsys.readouterr().out
    for one in dictionary.relations():
        assert f"## {one.name}\n\n{one.meaning} Grain: `({one.grain})`." in said
        assert one.grain or one.name == "v_columns"
        assert all(f"| `{name}` | {kind} | " in said for name, kind, _ in one.columns)
    sql.schema("runs", form=sql.SchemaFormat.markdown, home=home)
    assert capsys.readouterr().out.count("## ") == 1
    with pytest.raises(LprismError, match="there is no table nope; there are anchor_candidates, batch"):
        dictionary.as_markdown("nope")


def test_the_readme_lists_the_tables_as_they_are() -> None:
    """Between its markers stands what `python -m tasks.dictionary` writes there."""
    before, rest = (ROOT / "README.md").read_text().split(dictionary.README_MARKERS[0])
    assert rest.split(dictionary.README_MARKERS[1])[0] == dictionary.readme_table()
    assert before


def test_a_schema_is_there_for_programs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON rows of the tables, or of one's columns."""
    sql.schema("files", form=sql.SchemaFormat.json, home=home)
    assert json.loads(capsys.readouterr().out)[0] == {
        "column": "sha256", "type": "VARCHAR", "meaning": "digest of the file as it was ingested",
    }  # fmt: skip
