"""The rules of the house, checked over the real tree. Exceptions are listed by name, with their reason."""

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.tree import ROOT, files, imports, modules, parsed

HOMES = {
    "fabric": "tasks/remote.py",
    "invoke": "tasks/remote.py",
    "great_expectations": "tasks/quality/suites.py",
    "xgboost": "tasks/sentinel/model.py",
    "pynvml": "tasks/host/gpu.py",
}
VERBS = {f"tasks/{verb}.py" for verb in ("campaign", "ingest", "validate", "train", "diagnose", "report")}
PREFECT_ALLOWED = {
    "tasks/tell.py",  # artifacts and events, for the verbs and flows that have something to tell
}
TOP_LEVEL = {
    ".ci", ".gitignore", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "constraints.txt",
    "deployments", "flows", "injectors", "pyproject.toml", "sql", "tasks", "tests",
}  # fmt: skip
SQL_TEXT = re.compile(r"\s*(SELECT|WITH|CREATE|INSERT|UPDATE|DELETE|DROP|COPY|ATTACH|ALTER)\s+[A-Za-z(\"*]")
SQL_TEXT_ALLOWED = {
    "tasks/cli/pipeline.py",  # asks what it tells its user to ask
}
ON_A_HOST_ALLOWED = {
    "injectors/programs/life.py": {"torch"},  # the serving engine's interpreter runs it, and that has torch
    "tasks/host/gpu.py": {"pynvml"},  # one file that is shipped too
}
FLOW_LINES, TASK_LINES = 40, 12

Function = ast.FunctionDef | ast.AsyncFunctionDef


def offenders(paths: Iterable[Path], libraries: set[str]) -> dict[str, set[str]]:
    """Which of the paths import which of the libraries."""
    found = {str(path): {name.split(".")[0] for name in imports(parsed(path))} & libraries for path in paths}
    return {path: names for path, names in found.items() if names}


def decorated(tree: ast.AST, name: str) -> list[Function]:
    """Functions under `@name` or `@name(...)`."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, Function)
        and any(re.match(rf"(prefect\.)?{name}\b", ast.unparse(line)) for line in node.decorator_list)
    ]


def lines(function: Function) -> int:
    """Lines from `def` to the end, the docstring left out."""
    docstring = function.body[0] if ast.get_docstring(function) is not None else None
    spent = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - spent


def test_the_top_level_is_fixed() -> None:
    """Nothing is put beside the rooms of the house."""
    assert {path.parts[0] for path in files()} <= TOP_LEVEL


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    """A function has a subject, and so has its file."""
    odd = {"src", "utils", "util", "common", "helpers", "misc"}
    assert [str(path) for path in files() if {*path.parts[:-1], path.stem} & odd] == []


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_heavy_library_has_one_home(library: str) -> None:
    """An outside integration can be read, and replaced, in one file."""
    others = (path for path in modules("flows", "tasks", "injectors") if str(path) != HOMES[library])
    assert offenders(others, {library}) == {}


def test_only_flows_and_verbs_import_prefect() -> None:
    """A noun is a library that any program can use without an orchestrator."""
    nouns = (path for path in modules("tasks", "injectors") if str(path) not in VERBS | PREFECT_ALLOWED)
    assert offenders(nouns, {"prefect"}) == {}


def test_what_runs_on_a_host_needs_the_standard_library_alone() -> None:
    """A host needs nothing but a python3: no package is installed there."""
    shipped = [path for path in modules("injectors", "tasks") if path.parts[:2] == ("tasks", "host")]
    shipped += modules("injectors")
    allowed = sys.stdlib_module_names | {"tasks.host", "injectors"}
    foreign = {
        str(path): {
            name
            for name in imports(parsed(path))
            if not from_one_of(name, allowed | ON_A_HOST_ALLOWED.get(str(path), set()))
        }
        for path in shipped
    }
    assert len(shipped) > 5
    assert {path: names for path, names in foreign.items() if names} == {}


def from_one_of(name: str, allowed: Iterable[str]) -> bool:
    """Whether a dotted name is one of these packages or lies in it."""
    return any(name == package or name.startswith(f"{package}.") for package in allowed)


@pytest.mark.parametrize("package", ["tasks", "injectors"])
def test_what_is_shipped_to_hosts_has_empty_packages(package: str) -> None:
    """Importing a shipped module runs nothing else."""
    assert (ROOT / package / "__init__.py").read_bytes() == b""


def test_imports_go_down_the_house() -> None:
    """No task knows a flow (the command line starts them), and no noun knows a verb."""
    verbs = {verb.removesuffix(".py").replace("/", ".") for verb in VERBS}
    for path in modules("tasks", "injectors"):
        names = imports(parsed(path))
        assert path.parts[:2] == ("tasks", "cli") or not any(from_one_of(n, {"flows"}) for n in names), path
        assert not any(from_one_of(name, verbs) for name in names), path


def test_a_flow_says_what_happens_and_no_more() -> None:
    """Nothing in flows/ needs SQL, a shell or a data library."""
    known = {"flows", "tasks", "prefect", "pathlib", "typing", "datetime"}
    for path in modules("flows"):
        assert {name.split(".")[0] for name in imports(parsed(path))} <= known, path


def test_a_flow_has_the_name_of_its_file() -> None:
    """Who knows the file's name knows the flow's."""
    for path in modules("flows"):
        if path.stem != "__init__":
            (flow,) = decorated(parsed(path), "flow")
            (call,) = flow.decorator_list
            assert (flow.name, ast.unparse(call)) == (path.stem, f"flow(name='{path.stem}')")


def test_flows_and_tasks_are_short() -> None:
    """A flow can be read aloud, and a task is a call."""
    flows = [(path, flow) for path in modules("flows") for flow in decorated(parsed(path), "flow")]
    steps = [(path, task) for path in modules("tasks") for task in decorated(parsed(path), "task")]
    assert flows
    assert steps
    assert [f"{path}:{flow.name}" for path, flow in flows if lines(flow) > FLOW_LINES] == []
    assert [f"{path}:{step.name}" for path, step in steps if lines(step) > TASK_LINES] == []


def test_every_task_is_in_a_verb_file() -> None:
    """A verb is a task: nothing else is decorated."""
    places = {str(path) for path in modules("tasks") if decorated(parsed(path), "task")}
    assert places <= VERBS


def strings(tree: ast.Module) -> Iterable[str]:
    """The string constants of a file, docstrings left out."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_sql_stands_in_sql_files_and_one_module_reads_them() -> None:
    """A question to the data is a file in sql/, and the warehouse alone opens those."""
    for path in modules("flows", "tasks", "injectors"):
        if str(path) == "tasks/warehouse.py":
            continue
        texts = list(strings(parsed(path)))
        assert [text for text in texts if text.endswith(".sql") or text == "sql/"] == [], path
        if str(path) not in SQL_TEXT_ALLOWED:
            assert [text for text in texts if SQL_TEXT.match(text)] == [], path


def test_the_scan_sees_what_it_forbids() -> None:
    """The rules above are not empty: each of these would be found."""
    tree = ast.parse(
        '"""Doc."""\ndef f():\n    import fabric.x\n    from prefect import task\n    g("SELECT 1", "a.sql")'
    )
    assert {"fabric.x", "prefect", "prefect.task"} <= imports(tree)
    assert [text for text in strings(tree) if SQL_TEXT.match(text)] == []  # a bare number is no table
    assert SQL_TEXT.match("SELECT * FROM runs")
    assert not SQL_TEXT.match("select a host")
    assert list(strings(tree)) == ["SELECT 1", "a.sql"]
    assert [
        f.name for f in decorated(ast.parse("@task(name='x')\ndef f():\n    '''D.'''\n    return 1"), "task")
    ] == ["f"]
