"""The rules of sql/, held over every file: who reads one of them knows how to read all."""

import re
from collections.abc import Iterator

import pytest

from tasks.warehouse import SQL_FOLDER, create_table, execute, make_views, memory_connection, sql_names

FOLDERS = {
    "checks", "convert", "deepdive", "export", "features", "publish", "quality", "report", "root_cause",
    "tables", "views",
}  # fmt: skip
# These have an effect and give no rows; their first line says which.
EFFECTS = {
    "publish/allow_folder", "publish/lake_part", "publish/lock", "publish/memory", "publish/quiet",
    "publish/threads",
}  # fmt: skip
KEYWORDS = (
    "select|from|where|group|order|by|having|join|left|inner|cross|anti|on|using|with|as|case|when|then|else|end|"
    "create|table|view|insert|into|values|union|all|comment|is|and|or|not|null|distinct|over|partition|filter|"
    "cast|copy|set|between|in|temp|replace|limit"
)
FILES = sorted(f"{path.parent.name}/{path.stem}" for path in SQL_FOLDER.rglob("*.sql"))


def text_of(name: str) -> str:
    """A file of sql/."""
    return (SQL_FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def header_of(name: str) -> str:
    """Its leading comment lines, in one line."""
    lines = text_of(name).splitlines()
    last = next(index for index, line in enumerate(lines) if not line.startswith("--"))
    return " ".join(line.removeprefix("--").strip() for line in lines[:last])


def code_of(name: str) -> str:
    """The file without comments and without quoted text."""
    without = re.sub(r"--[^\n]*", "", text_of(name))
    return re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"", "''", without)


def test_there_are_no_other_folders() -> None:
    """A folder is a subject; files lie nowhere else."""
    assert {name.split("/")[0] for name in FILES} == FOLDERS
    assert len(FILES) > 30


@pytest.mark.parametrize("name", FILES)
def test_a_file_begins_with_what_one_row_is(name: str) -> None:
    """The first sentence is the row, the next the grain; what has an effect says that instead."""
    header = header_of(name)
    if name in EFFECTS:
        assert re.match(r"[A-Z][a-z]+s .+\. Params: .+\.$", header), header
        return
    assert re.match(r"One row per .+\. Grain: \([a-z_, ]+\)\.", header), header
    if not name.startswith("tables/"):
        assert re.search(r"\. Reads: [^.]+\. Params: [^.]+\.", header), header


@pytest.mark.parametrize("name", FILES)
def test_parameters_are_named_in_the_header_and_nowhere_else(name: str) -> None:
    """Every $parameter is declared, every declared one is used, and none goes by position."""
    with memory_connection() as con:
        statements = con.extract_statements(text_of(name))
    used = {parameter for statement in statements for parameter in statement.named_parameters}
    declared = re.search(r"Params: ([^.]+)\.", header_of(name))
    assert set(re.findall(r"\$(\w+)", declared[1] if declared else "")) == used
    assert declared is None or used or declared[1] == "none"
    assert not any(parameter.isdigit() for parameter in used)


@pytest.mark.parametrize("name", FILES)
def test_keywords_are_upper_case(name: str) -> None:
    """What is SQL and what is a name can be told apart at a glance."""
    lower = re.findall(rf"(?<![\w.$])({KEYWORDS})(?![\w(])", code_of(name))
    assert lower == []
    assert "{{" not in code_of(name)
    assert "%" not in code_of(name)


@pytest.mark.parametrize("name", FILES)
def test_a_line_can_be_read(name: str) -> None:
    """No line of code is longer than a screen, and the file ends as text files do."""
    text = text_of(name)
    assert [line for line in text.splitlines() if len(line) > 120 and "COMMENT ON" not in line] == []
    assert text.endswith(";\n")
    assert "\t" not in text


def commented() -> Iterator[tuple[str, str, str | None]]:
    """Table or view, column ('' for itself), and its comment."""
    with memory_connection() as con:
        for table in sql_names("tables"):
            create_table(con, table)
        make_views(con)
        for name, _, meaning, column, _, column_meaning in con.table("v_columns").fetchall():
            yield name, "", meaning
            yield name, column, column_meaning


def test_everything_has_a_comment() -> None:
    """Every table, view and column says what it is, and ends without a full stop unless it is a sentence."""
    rows = list(commented())
    assert {name for name, _, _ in rows} == {*sql_names("tables"), *sql_names("views")}
    assert [(name, column) for name, column, meaning in rows if not meaning] == []
    assert [
        (name, column) for name, column, meaning in rows if column and (meaning or "").endswith(".")
    ] == []
    assert [name for name, column, meaning in rows if not column and not (meaning or "").endswith(".")] == []


def test_units_are_in_the_names() -> None:
    """A time in ns is a whole number called _ns; a duration in ms or a share is not."""
    with memory_connection() as con:
        for table in sql_names("tables"):
            create_table(con, table)
            made = con.table(table)
            for column, kind in zip(made.columns, map(str, made.types), strict=True):
                assert kind in ("VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "JSON"), (table, column)
                assert not column.endswith("_ns") or kind == "BIGINT", (table, column)
                assert not column.endswith(("_ms", "_ratio", "_residual")) or kind == "DOUBLE", (
                    table,
                    column,
                )


@pytest.mark.parametrize("name", sql_names("checks"))
def test_a_check_is_a_sentence_and_names_the_run(name: str) -> None:
    """What must be true is the file's name; what breaks it is told by run."""
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+){2,}", name)
    assert set(name.split("_")) & {"have", "are", "is", "was", "were", "do", "add", "agree"}
    with memory_connection() as con:
        for table in sql_names("tables"):
            create_table(con, table)
        offending = execute(con, f"checks/{name}")
        assert next(column for column, *_ in offending.description or ()) == "run_id"
        assert offending.fetchall() == []


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.startswith(("tables/", "views/"))))
def test_a_file_makes_the_object_of_its_name(name: str) -> None:
    """Who knows a table's name knows its file."""
    folder, stem = name.split("/")
    kind = "TABLE" if folder == "tables" else "VIEW"
    assert re.search(rf"^CREATE {kind} {stem}\b", text_of(name), re.MULTILINE)
    assert re.search(rf"^COMMENT ON {kind} {stem} IS '", text_of(name), re.MULTILINE)


def test_the_rules_see_what_they_forbid() -> None:
    """The scans above are not empty: they would find a lower-case keyword."""
    found = re.findall(rf"(?<![\w.$])({KEYWORDS})(?![\w(])", "SELECT a from b")
    assert found == ["from"]
