"""The `lprism` command: its help, its exit codes, and what it prints."""

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyarrow import parquet
from typer.main import get_command

from tasks.cli import main, options, output
from tasks.lake_tables import publish
from tasks.settings import LprismError, SpecError
from tests.tree import ROOT

HEAVY = (  # pydantic is not: Typer itself brings it
    "prefect", "duckdb", "pandas", "numpy", "pyarrow", "xgboost", "sklearn", "scipy", "fabric", "paramiko",
    "asyncssh", "great_expectations", "rich",
)  # fmt: skip
SPEC = {
    "name": "first",
    "hosts": [{"name": "lab", "allow_faults": True}],
    "engines": [{"kind": "vllm", "model": "tiny"}],
    "workload": {"input_lengths": [32], "output_lengths": [64], "concurrency": [4]},
    "scenarios": ["normal", {"anomaly": "cpu_compute_squeeze_out", "strength": {"threads_per_cpu": 1}}],
    "repetitions": 2,
}


def leaves(command: Any = None, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:  # noqa: ANN401 - Typer's own
    """Every command without subcommands, by its words."""
    command = command or get_command(main.app)
    if not hasattr(command, "commands"):
        return {path: command}
    found: dict[tuple[str, ...], Any] = {}
    for name, inner in command.commands.items():
        found |= leaves(inner, (*path, name))
    return found


def lprism(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["lprism", *words])
    with pytest.raises(SystemExit) as end:
        main.run()
    return int(end.value.code or 0)


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """A campaign spec of four cells."""
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    return path


def test_the_commands_are_these() -> None:
    """A command that comes or goes is a decision, not an accident."""
    assert {" ".join(path) for path in leaves()} == {
        "demo", "doctor", "campaign plan", "campaign run", "campaign resume", "campaign status",
        "campaign compare", "serve", "hosts check", "inject", "anomalies", "restore", "engines install",
        "ingest", "validate", "train", "watch", "models list", "models show", "models compare",
        "models score", "models backtest", "compare", "diagnose", "cycles", "report",
        "export-trace", "sql", "schema", "warehouse rebuild", "warehouse check",
    }  # fmt: skip


@pytest.mark.parametrize(
    "path", [(), ("campaign",), ("engines",), ("warehouse",), ("hosts",), *leaves()], ids=" ".join
)
def test_help_has_an_example_that_works(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command's help exits with 0 and shows a call of it that the command line takes."""
    assert lprism(monkeypatch, *path, "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    words = shlex.split(said.partition("Example: lprism ")[2])
    assert tuple(words[: len(path)]) == path
    name = next(leaf for leaf in leaves() if tuple(words[: len(leaf)]) == leaf)
    assert leaves()[name].make_context("lprism", words[len(name) :]).command.name == name[-1]


@pytest.mark.parametrize("path", leaves(), ids=" ".join)
def test_every_command_takes_a_home(path: tuple[str, ...]) -> None:
    """A script can always say --home."""
    assert "--home" in {name for parameter in leaves()[path].params for name in parameter.opts}


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["demo", "--nonsense"],
        ["demo", "--repetitions", "none"],
        ["campaign"],
        ["campaign", "plan"],
        ["campaign", "plan", "not-there.yaml"],
        ["campaign", "run", "not-there.yaml"],
        ["engines", "install", "vlm"],
        ["ingest"],
        ["validate"],
        ["train", "--campaign", "none"],
        ["sql", "SELECT 1", "--format", "xml"],
        ["sql", "SELECT 1", "--format", "parquet"],
        ["sql", "SELECT 1", "--output", "x.parquet"],
    ],
    ids=" ".join,
)
def test_bad_usage_exits_with_2_and_says_why(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What cannot be meant is refused before anything is done."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LPRISM_HOME", str(tmp_path / "home"))
    assert lprism(monkeypatch, *words) == 2
    said = capfd.readouterr()
    assert said.out + said.err
    assert "Traceback" not in said.err
    assert not list(tmp_path.iterdir())


def test_the_shell_completes_commands() -> None:
    """What `lprism --install-completion` puts into the shell's start asks the command itself."""
    asked = {"_LPRISM_COMPLETE": "complete_bash", "COMP_WORDS": "lprism campaign re", "COMP_CWORD": "2"}
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'lprism'; from tasks.cli import main; main.run()",
    ]
    said = subprocess.run(
        command,
        env={**os.environ, **asked},
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert said.stdout.split() == ["resume"]


def test_an_error_is_one_line_on_stderr(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output stays clean for whoever reads it, and what the error quotes cannot move the cursor."""

    def fail(_: Path) -> None:
        raise LprismError("host \x1b[2Jgpu-01 does not answer\nits log: /x")

    monkeypatch.setattr("tasks.spec.load_spec", fail)
    assert lprism(monkeypatch, "campaign", "plan", str(spec_file)) == 1
    assert capsys.readouterr() == ("", "lprism: host \\x1b[2Jgpu-01 does not answer\nits log: /x\n")


def test_ctrl_c_is_one_line_and_130(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody who presses Ctrl-C sees one line and no traceback."""

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.spec.load_spec", interrupt)
    assert lprism(monkeypatch, "campaign", "plan", str(spec_file)) == 130
    assert capsys.readouterr() == ("", "lprism: interrupted\n")


def test_a_plan_is_printed_for_people_and_for_programs(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both name every cell and the estimate; run ids depend on the instance, so they need it."""
    assert lprism(monkeypatch, "campaign", "plan", str(spec_file)) == 0
    said = capsys.readouterr().out
    assert said.count("in32_out64_conc4") == 4
    assert "threads_per_cpu=1" in said
    assert "4 cells, about 5 min" in said
    assert lprism(monkeypatch, "campaign", "plan", str(spec_file), "--json", "--instance", "first-1") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["estimate_s"] == 45 + 4 * (12 + 3 + 45)
    assert [cell["run_order"] for cell in plan["cells"]] == [1, 2, 3, 4]
    assert len({cell["run_id"] for cell in plan["cells"]}) == 4
    assert lprism(monkeypatch, "campaign", "plan", str(spec_file), "--json") == 0
    assert {cell["run_id"] for cell in json.loads(capsys.readouterr().out)["cells"]} == {None}


@pytest.mark.parametrize(
    "words", [["--help"], ["sql", "--help"], ["campaign", "plan", "none.yaml"]], ids=" ".join
)
def test_the_command_starts_without_heavy_libraries(words: list[str]) -> None:
    """Help comes at once: nothing of a second's import is loaded to print it."""
    program = (
        "import sys\nfrom tasks.cli.main import run\ntry:\n    run()\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_installed_command_is_this_one() -> None:
    """`python -m tasks.cli.main` is `lprism`, exit codes included."""
    command = [sys.executable, "-m", "tasks.cli.main", "campaign", "plan", "none.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "lprism: none.yaml is not there\n")


def test_data_is_never_markup_nor_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """A cell shows what is in it, whatever that is, on one line."""
    output.print_table(["[b]n[/b]", "x"], [["[red]a[/red]", 1.0], ["\x1b]0;t\x07\n\u202e", None]])
    said = capsys.readouterr().out
    assert "[b]n[/b]" in said
    assert "[red]a[/red]" in said
    assert "\\x1b]0;t\\x07\\n\\u202e" in said
    assert "NULL" in said
    assert said.rstrip().endswith("2 rows")
    assert all(character.isprintable() or character == "\n" for character in said)


def test_wide_rows_are_not_cut_for_another_program(capsys: pytest.CaptureFixture[str]) -> None:
    """Piped into a file, a long evidence sentence is there to its end."""
    output.print_table(["evidence"], [["x" * 5000 + "end"]])
    assert "x" * 5000 + "end" in capsys.readouterr().out


def test_csv_is_csv() -> None:
    """NULL is an empty field, and commas, quotes and line ends inside a field stay inside."""
    file = io.StringIO()
    output.print_csv(["a", "b"], [[None, 'x,"y"\nz']], file)
    assert file.getvalue() == 'a,b\n,"x,""y""\nz"\n'


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """NaN and infinities are null at any depth, since JSON has no word for them."""
    output.print_json([{"a": float("nan"), "b": [float("inf"), 1.5], "c": Path("x")}])
    assert json.loads(capsys.readouterr().out) == [{"a": None, "b": [None, 1.5], "c": "x"}]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a published warehouse in which no table has a row."""
    folder = tmp_path / "home"
    folder.mkdir()
    publish(folder)
    monkeypatch.setenv("LPRISM_HOME", str(folder))
    return folder


QUESTION = "SELECT 9007199254740993 AS n, NULL AS nothing, 'a,b' AS text"


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("csv", 'n,nothing,text\n9007199254740993,,"a,b"\n'),
        ("json", '[\n{"n": 9007199254740993, "nothing": null, "text": "a,b"}\n]\n'),
    ],
)
def test_a_question_is_answered_for_another_program(
    form: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output holds the answer and nothing else, with every digit of a nanosecond time."""
    assert lprism(monkeypatch, "sql", QUESTION, "--format", form) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.usefixtures("home")
def test_a_question_is_answered_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table, from an argument or from standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(QUESTION))
    assert lprism(monkeypatch, "sql", "-") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["9007199254740993", "NULL", "a,b"] in rows
    assert ["1", "row"] in rows


@pytest.mark.usefixtures("home")
def test_an_answer_can_be_a_parquet_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is outside the home, keeps the types, and is there whole or not at all."""
    path = tmp_path / "answer.parquet"
    assert lprism(monkeypatch, "sql", QUESTION, "--format", "parquet", "--output", str(path)) == 0
    assert parquet.read_table(path).to_pylist() == [{"n": 9007199254740993, "nothing": None, "text": "a,b"}]
    late = "SELECT CASE WHEN i = 900000 THEN error('late') ELSE i END FROM range(1000000) t(i)"
    assert lprism(monkeypatch, "sql", late, "--format", "parquet", "--output", str(tmp_path / "late")) == 1
    nowhere = str(tmp_path / "none" / "answer.parquet")
    assert lprism(monkeypatch, "sql", QUESTION, "--format", "parquet", "--output", nowhere) == 1
    assert "cannot be written" in capsys.readouterr().err
    copy = f"COPY (SELECT 1) TO '{tmp_path}/x.csv'"
    assert lprism(monkeypatch, "sql", copy, "--format", "parquet", "--output", str(path)) == 1
    assert sorted(found.name for found in tmp_path.iterdir()) == ["answer.parquet", "home"]


@pytest.mark.parametrize(
    "query", ["SELEC 1", "SELECT * FROM not_there", "SELECT 1; SELECT 2", "DROP TABLE runs"]
)
@pytest.mark.usefixtures("home")
def test_a_question_that_cannot_be_asked_fails_with_the_reason(
    query: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DuckDB's own words, no traceback, exit code 1."""
    assert lprism(monkeypatch, "sql", query) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("lprism: ")
    assert "Traceback" not in said.err


def test_a_home_without_a_warehouse_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first question of somebody who has run nothing yet is answered kindly."""
    assert lprism(monkeypatch, "sql", "SELECT 1", "--home", str(tmp_path)) == 1
    assert "`lprism demo` or `lprism ingest PATH`" in capsys.readouterr().err


def test_the_schema_is_listed_and_the_warehouse_made_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables with what a row is, columns with what they mean; the file can go, the lake is the truth."""
    assert lprism(monkeypatch, "schema") == 0
    assert "batches" in capsys.readouterr().out
    assert lprism(monkeypatch, "schema", "runs") == 0
    assert "run_id" in capsys.readouterr().out
    assert lprism(monkeypatch, "schema", "not_there") == 1
    (home / "warehouse.duckdb").unlink()
    assert lprism(monkeypatch, "warehouse", "rebuild") == 0
    assert (home / "warehouse.duckdb").is_file()


def test_what_cannot_be_ingested_is_named_and_the_rest_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bad path among several costs itself alone, and the exit code says that there was one."""
    (tmp_path / "no-bundle").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{", encoding="utf-8")
    paths = [str(tmp_path / name) for name in ("absent", "no-bundle", "bad")]
    (home / "warehouse.duckdb").unlink()
    assert lprism(monkeypatch, "ingest", *paths) == 1
    told = capsys.readouterr().err.splitlines()
    assert [path in line for path, line in zip(paths, told, strict=False)] == [True] * 3
    assert told[-1] == "lprism: 3 of 3 could not be read; the others are in the warehouse"
    assert (home / "warehouse.duckdb").is_file()


def test_a_campaign_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    """A misspelt campaign is answered like a misspelt key, and cannot leave the lake."""
    with pytest.raises(SpecError, match="holds no campaign yet"):
        options.home_of(tmp_path, "demo-1")
    (tmp_path / "lake" / "seals" / "demo-20261123T014500").mkdir(parents=True)
    assert options.home_of(tmp_path, "demo-20261123T014500") == tmp_path
    for wrong in ("demo-20261123T01450", "../runs/demo-20261123T014500"):
        with pytest.raises(SpecError, match="did you mean 'demo-20261123T014500'"):
            options.home_of(tmp_path, wrong)
