"""The files around the code: pins with reasons, no addresses of one machine, a build that can be called."""

import re
import subprocess
import tomllib
from importlib import metadata
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tasks.spec import parse_spec
from tests.tree import ROOT, files, modules

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = {
    canonicalize_name(line.partition("==")[0]): line.partition("==")[2]
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
}
# Put together here, so that this file does not hold what it looks for.
FORBIDDEN = re.compile(
    "|".join(
        [
            "pypi" + r"\.org", "python" + r"hosted\.org", "hugging" + r"face\.co/", "py" + r"torch\.org",
            "--(extra-)?index" + "-url", "artifact" + "ory", "localhost:[0-9]{4,5}/" + "simple",
            r"(?<!\w)/ro" + "ot/", r"/wo" + "rk/", "/tm" + "p/w/", r"/ho" + r"me/[a-z]",
        ]
    )
)  # fmt: skip


def wanted() -> list[Requirement]:
    """The project's own requirements, those for development included."""
    project = PROJECT["project"]
    return [
        Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    ]


def closure(requirements: list[Requirement]) -> set[str]:
    """Names of these and of everything they need here, as it is installed."""
    open_ones, seen = list(requirements), set[tuple[str, str]]()
    while open_ones:
        requirement = open_ones.pop()
        for extra in ("", *requirement.extras):
            key = (canonicalize_name(requirement.name), extra)
            if key in seen:
                continue
            seen.add(key)
            needs = (Requirement(line) for line in metadata.requires(requirement.name) or [])
            open_ones += [n for n in needs if n.marker is None or n.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def test_a_pin_is_a_name_and_a_version() -> None:
    """No address is recorded anywhere: where packages come from is the reader's own setting."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [
        line for line in lines if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+!]*", line)
    ] == []
    assert len(PINS) == len(lines)


def test_everything_that_is_installed_is_pinned() -> None:
    """Two installations of one commit are the same, down to what a dependency's dependency needs."""
    assert closure(wanted()) - set(PINS) == set()


def test_the_pins_are_what_the_project_asks_for() -> None:
    """No pin contradicts a bound that pyproject.toml gives."""
    outside = [str(r) for r in wanted() if not r.specifier.contains(PINS[canonicalize_name(r.name)])]
    assert outside == []


def test_every_dependency_and_every_ignore_has_its_reason() -> None:
    """Nobody has to guess why a library is here or a rule is off."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    entries = [line for line in text.splitlines() if re.match(r'    "[^"]+",', line)]
    assert len(entries) > 30
    unexplained = [line for line in entries if not re.search(r'",\s+# \S.*\S', line)]
    assert [line for line in unexplained if line.strip() != '"error",'] == []


def test_every_exception_in_the_code_has_its_reason() -> None:
    """A silenced rule says why on the same line."""
    silenced = re.compile(
        r"#\s*(noqa|type: ignore)\b(?P<codes>[:\[][A-Za-z0-9,\- \]]*?)?(?P<reason>(\s+[-#]\s|\s\s+)\S.*)?$"
    )
    unexplained = [
        f"{path}:{number}"
        for path in modules("flows", "tasks", "injectors", "tests")
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), start=1)
        if (found := silenced.search(line)) and not found["reason"]
    ]
    assert unexplained == []


def test_no_address_of_one_machine_is_in_the_tree() -> None:
    """A clone works elsewhere: no registry hosts, no paths of whoever wrote it."""
    found = []
    for path in files():
        text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
        found += [f"{path}: {match.group()}" for match in FORBIDDEN.finditer(text)]
    assert found == []


def test_the_build_can_be_called() -> None:
    """Make knows its targets, and the CI script is a program that stops at the first failure."""
    for target in ("install", "demo", "test", "lint"):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True, timeout=60)
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", script], check=True, timeout=60)


def test_make_says_what_is_missing_where_there_is_no_python() -> None:
    """A machine without a new enough Python gets one clear line, and nothing half made."""
    done = subprocess.run(
        ["make", "PYTHON=", "-W", "pyproject.toml", "install"],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no python3 >= 3.11" in done.stderr


@pytest.mark.parametrize("script", PROJECT["project"]["scripts"].values())
def test_the_command_exists(script: str) -> None:
    """What pip puts into PATH can be called."""
    module, _, name = script.partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))


def test_sources_beside_the_code_are_packaged() -> None:
    """A wheel holds the SQL, the C sources and the data files too."""
    data = PROJECT["tool"]["setuptools"]["package-data"]
    kinds = {path.suffix for path in files() if path.parts[0] == "injectors"} - {".py"}
    assert {f"*{kind}" for kind in kinds} <= set(data["injectors"])
    for package, patterns in data.items():
        folder = ROOT.joinpath(*package.split("."))
        assert [pattern for pattern in patterns if not list(folder.glob(pattern))] == []


def test_deployments_are_flows_with_specs_that_parse() -> None:
    """`prefect deploy --all` finds what it is told to deploy."""
    content = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text(encoding="utf-8"))
    assert {entry["name"] for entry in content["deployments"]} == {
        "pipeline", "pipeline-nightly", "drop", "retrain-weekly", "report",
    }  # fmt: skip
    for entry in content["deployments"]:
        path, _, name = entry["entrypoint"].partition(":")
        assert (ROOT / path).stem == name
        assert (ROOT / path).is_file()
        assert entry["name"].startswith(name)
        assert name != "pipeline" or parse_spec(entry["parameters"]["spec"])
    nightly = next(entry for entry in content["deployments"] if entry["name"] == "pipeline-nightly")
    assert [schedule["active"] for schedule in nightly["schedules"]] == [False]
