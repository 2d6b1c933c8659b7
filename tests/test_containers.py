"""Servers in containers: docker's command lines as in the cases, and what is ended when."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tasks import containers
from tasks.engine_spec import Container
from tasks.host.container import environment
from tasks.spec import parse_spec
from tests.test_run import STAND_IN, left_running, run_all, spec_of
from tests.tree import ROOT

CASES = json.loads((Path(__file__).parent / "cases" / "engines" / "containers.json").read_text())
DOCKER = Path(__file__).with_name("stand_in_docker.py")


@pytest.mark.parametrize("case", [pytest.param(case, id=case["promise"]) for case in CASES])
def test_docker_is_called_as_written_in_the_case(case: dict[str, Any]) -> None:
    """Every command line is exactly the one in the case file."""
    container = Container.model_validate(case["container"])
    built = getattr(containers, case["build"])(container, **case["arguments"])
    found = (
        {"before": built.before, "start": built.start, "end": built.end} if case["build"] != "once" else built
    )
    assert found == case["expected"]


def test_the_value_of_a_variable_stands_in_no_command() -> None:
    """Docker takes it from its environment, where it comes without our mark."""
    commands = containers.inside(Container(name="c"), ["vllm"], ["HF_TOKEN"], "/f/pid", [0])
    argv, env = containers.wrapped(
        commands, {"HF_TOKEN": "s3cret", "PYTHONPATH": "/probe"}, "python3", "/code"
    )
    assert "s3cret" not in " ".join(argv)
    assert environment(env) == {"PYTHONPATH": "/probe", "HF_TOKEN": "s3cret"}


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for docker first on PATH; the folder in which it notes its containers."""
    folder, tools = tmp_path / "containers", tmp_path / "bin"
    folder.mkdir()
    tools.mkdir()
    (tools / "docker").write_text(
        f'#!/bin/sh\nSTAND_IN_DOCKER={folder} exec {sys.executable} {DOCKER} "$@"\n'
    )
    (tools / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return folder


@pytest.mark.parametrize("container", [{"image": "vllm:v0.10.0", "options": ["--shm-size=1g"]}, "serving"])
def test_a_server_in_a_container_is_measured_and_ended(container: Any, docker: Path, tmp_path: Path) -> None:  # noqa: ANN401  both ways to write it
    """One that is made from an image goes with the session; one that was there stays, without our server."""
    owner = None
    if container == "serving":
        owner = subprocess.Popen(["sleep", "600"], start_new_session=True)
        (docker / "serving").write_text(str(owner.pid))
    spec = spec_of(scenarios=["normal"])
    spec["engines"][0] |= {"container": container, "python": STAND_IN, "env": {"HF_TOKEN": "s3cret"}}
    (manifest,) = run_all(parse_spec(spec, "test"), tmp_path / "home")
    assert (manifest["status"], manifest["reason"]) == ("complete", None)
    counters = tmp_path / "home/bundles/life-1" / manifest["run_id"] / "counters.jsonl"
    assert '"process_cpu_usage"' in counters.read_text()
    wait_for(lambda: left_running(tmp_path / "home") == [])
    wait_for(lambda: [path.name for path in docker.glob("[!u]*")] == (["serving"] if owner else []))
    if owner:
        assert owner.poll() is None
        owner.kill()
        owner.wait(60)


def test_the_end_of_the_wrapper_is_the_end_of_the_program(docker: Path, tmp_path: Path) -> None:
    """SIGTERM to what runs on the host ends what runs in the container, which has a while to do so itself."""
    (docker / "c").write_text("0")
    pid_file, said = tmp_path / "pid", tmp_path / "said"
    program = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(open(sys.argv[1], 'w')"
        ".write('bye') and 0)); open(sys.argv[1], 'w').write('up'); time.sleep(600)"
    )
    commands = containers.inside(
        Container(name="c"), [sys.executable, "-c", program, str(said)], [], str(pid_file), [0]
    )
    argv, env = containers.wrapped(commands, {}, sys.executable, str(ROOT))
    with subprocess.Popen(argv, env={**os.environ, **env}) as wrapper:
        wait_for(lambda: said.exists() and said.read_text() == "up")
        wrapper.send_signal(signal.SIGTERM)
        assert wrapper.wait(60) == 0
    assert said.read_text() == "bye"
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


def wait_for(until: Any) -> None:  # noqa: ANN401  a function without arguments
    """Wait for something, at most a minute."""
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)
