"""Engines: arguments in, command lines out; recorded logs in, last words out."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tasks.engines import adapter, engine_key, is_tested, sglang, vllm, xdit
from tasks.lab.recipes import RECIPES
from tasks.settings import SpecError
from tests import engine_cells

CASES = Path(__file__).parent / "cases" / "engines"


ENGINES = ("vllm", "sglang")


def cases(what: str) -> list[Any]:
    """One parameter a case of both engines' files, named after what it promises."""
    return [
        pytest.param(kind, case, id=f"{kind}: {case['promise']}")
        for kind in ENGINES
        for case in json.loads((CASES / f"{kind}_{what}.json").read_text())
    ]


@pytest.mark.parametrize(("kind", "case"), cases("commands"))
def test_an_engine_is_called_as_written_in_the_case(kind: str, case: dict[str, Any]) -> None:
    """Every command line, environment and request is exactly the one in the case file."""
    built = getattr(adapter(kind), case["build"])(**case["arguments"])
    assert (list(built) if isinstance(built, tuple) else built) == case["expected"]


@pytest.mark.parametrize(("kind", "case"), cases("failures"))
def test_a_dead_server_is_quoted_with_its_cause_first(kind: str, case: dict[str, Any]) -> None:
    """The first line says why, the rest is the end of the log, and it stays short."""
    said = adapter(kind).server_failure("\n".join(case["log"])).splitlines()
    assert (said[0], len(said)) == (case["first"], case["lines"])
    assert said[-1].rstrip() == next((line.rstrip() for line in reversed(case["log"]) if line), said[-1])


@pytest.mark.parametrize(("kind", "version"), engine_cells.CASES)
def test_one_cell_of_every_version_is_as_in_its_file(kind: str, version: str) -> None:
    """What is run, sent and set for a cell; a difference is to be read, not regenerated."""
    assert engine_cells.cell(kind, version) == json.loads(engine_cells.path(kind, version).read_text())


def test_every_case_is_of_a_version_that_is_listed() -> None:
    """No case file is left over, and exactly the versions that were run are marked tested."""
    assert set(engine_cells.CELLS.iterdir()) == {engine_cells.path(*case) for case in engine_cells.CASES}
    read = {case: json.loads(engine_cells.path(*case).read_text()) for case in engine_cells.CASES}
    tested = {case for case, built in read.items() if built["tested"]}
    assert tested == {(kind, version) for kind in ENGINES for version in adapter(kind).TESTED}


@pytest.mark.parametrize(
    ("kind", "args", "ranks"),
    [
        ("vllm", {}, 1),
        ("vllm", {"tensor-parallel-size": 4, "pipeline-parallel-size": 2, "data-parallel-size": 2}, 16),
        ("sglang", {"tp-size": 4, "dp-size": 2}, 8),
        ("sglang", {"tensor-parallel-size": 4, "dp-size": 2, "enable-dp-attention": True}, 4),
        ("xdit", {"ulysses-degree": 2, "ring-degree": 2, "use-cfg-parallel": True}, 8),
    ],
)
def test_a_server_has_as_many_ranks_as_its_arguments_say(kind: str, args: dict[str, Any], ranks: int) -> None:
    """Every rank writes a trace: so many are waited for."""
    assert adapter(kind).ranks(args) == ranks


def test_xdits_port_and_flags_are_its_own() -> None:
    """Its server has one port, its flags have underscores, and its traces tell their rank."""
    with pytest.raises(SpecError, match="listens on port 6000 alone, not on 8000"):
        xdit.serve_command("python3", "m", "127.0.0.1", 8000, {})
    args = {"use-cfg-parallel": True, "save-disk-path": None, "ring-degree": 2}
    words = ["--world_size=4", "--use_cfg_parallel", "--ring_degree=2"]
    assert xdit.serve_command("python3", "m", "127.0.0.1", 6000, args)[-3:] == words
    names = ["profile_trace_rank_12.json.gz", "rank0.json.gz"]
    assert [xdit.trace_rank(name) for name in names] == [12, None]


@pytest.mark.parametrize("kind", ENGINES)
def test_versions_that_were_run_are_told_from_others(kind: str) -> None:
    """A build's own suffix makes no difference; any other version is untested."""
    (version,) = adapter(kind).TESTED
    assert [is_tested(kind, one) for one in (version, f"{version}+cpu", "0.1.0", "")] == [
        True,
        True,
        False,
        False,
    ]


def test_what_is_installed_is_what_was_run() -> None:
    """No recipe brings a version that its adapter calls untested."""
    assert {
        recipe.kind: is_tested(recipe.kind, recipe.version) for recipe in RECIPES.values()
    } == dict.fromkeys(ENGINES, True)


@pytest.mark.parametrize("name", ["--max-model-len", "max model len", "a=b", "", "$(id)", "-v", "Max"])
def test_an_argument_that_is_no_flag_name_is_refused(name: str) -> None:
    """A misspelt name in a spec is told as it is, before anything starts."""
    for engine in (vllm, sglang):
        with pytest.raises(SpecError, match="is not a flag name"):
            engine.flags({name: 1})


@pytest.mark.parametrize("name", ["host", "port", "model"])
def test_an_argument_that_the_campaign_sets_is_refused(name: str) -> None:
    """A spec cannot move the server away from where the campaign looks for it."""
    for engine in (vllm, sglang):
        with pytest.raises(SpecError, match="set by the campaign itself"):
            engine.flags({name: "x"})


def test_a_list_cannot_smuggle_a_flag() -> None:
    """Words of a list stand alone on SGLang's command line; its own flags are named in the spec."""
    with pytest.raises(SpecError, match="would be taken for a flag"):
        sglang.flags({"cuda-graph-bs": [1, "--trust-remote-code"]})


def test_a_double_denial_is_refused_with_the_plain_word() -> None:
    """`no-x: false` would become a flag that no engine knows."""
    with pytest.raises(SpecError, match="write 'enable-lora: true'"):
        vllm.flags({"no-enable-lora": False})


def test_the_same_launch_has_the_same_key_in_any_order() -> None:
    """16 hex digits that depend on engine, version and arguments, and on nothing else."""
    key = engine_key("vllm", "0.32.0+cpu", {"a": 1, "b": True})
    assert key == engine_key("vllm", "0.32.0+cpu", {"b": True, "a": 1}) == "aa495242329a6c1a"
    others = [("sglang", "0.32.0+cpu", 1), ("vllm", "0.33.0", 1), ("vllm", "0.32.0+cpu", 2)]
    assert key not in {engine_key(kind, version, {"a": a, "b": True}) for kind, version, a in others}


def test_a_command_survives_a_shell_that_it_should_never_meet() -> None:
    """Joined for a remote host and split again, the words are the same."""
    command = vllm.serve_command("python3", "/m o'd", "127.0.0.1", 1, {"chat-template": '$(id) `id` "x"\n;'})
    assert shlex.split(shlex.join(command)) == command
