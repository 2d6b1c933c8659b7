"""`lprism hosts check` behind a real OpenSSH: what a host refuses, each with its remedy."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks import host_check, remote
from tasks.host import ports
from tasks.remote import Address
from tasks.settings import home_path
from tasks.spec import parse_spec
from tests import openssh
from tests.test_attached import serving
from tests.test_cli_faults import STAND_IN, host_of, spec_of

Checked = dict[str, dict[str, Any]]
AN_HOUR_AHEAD = """
import time
_ns, _s = time.time_ns, time.time
time.time_ns, time.time = lambda: _ns() + 3600 * 10**9, lambda: _s() + 3600
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A host behind a real OpenSSH server, for all questions of this file."""
    if openssh.MISSING:
        pytest.skip(openssh.MISSING)
    with openssh.serving(tmp_path_factory.mktemp("sshd"), ports.free(None), name="gpu-01") as address:
        yield address


def home_of(host: Address) -> Path:
    """The home folder behind the server."""
    assert host.known_hosts
    return host.known_hosts.parent / "home"


@pytest.fixture
def check(tmp_path: Path, host: Address) -> Callable[..., Checked]:
    """Check the host, reached in some other way and asked for something else; the findings by name."""

    def checked(address: Address | None = None, **changes: Any) -> Checked:  # noqa: ANN401  of the spec
        of_host = {key: changes.pop(key) for key in ("gpus", "allow_faults") if key in changes}
        spec = parse_spec(spec_of(host_of(address or host, **of_host), **changes))
        return {row["check"]: row for row in host_check.check(spec, home_path(tmp_path))}

    return checked


def refused(found: Checked) -> dict[str, Any]:
    """The one finding of a host that lets nobody in."""
    ((name, row),) = found.items()
    assert not row["passed"]
    return {"check": name, **row}


def other_key(folder: Path, *words: str) -> Path:
    """A key that the host does not know."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", *(words or ("-N", "")), "-f", folder / "key"], check=True
    )
    return folder / "key"


def test_a_host_key_that_has_changed_is_refused(
    check: Callable[..., Checked], host: Address, tmp_path: Path
) -> None:
    """It is not taken, not even looked at twice; the remedy is the command, with its port and its file."""
    known = tmp_path / "known hosts"
    public = other_key(tmp_path).with_suffix(".pub").read_text().split()[:2]
    known.write_text(f"[127.0.0.1]:{host.port} {' '.join(public)}\n")
    row = refused(check(replace(host, known_hosts=known)))
    assert (row["check"], "has CHANGED" in row["found"]) == ("host key", True)
    forget = f"ssh-keygen -R '[127.0.0.1]:{host.port}' -f '{known}'"
    assert row["remedy"] == f"if it is a new machine, forget the old key: {forget}"
    subprocess.run(forget, shell=True, check=True, capture_output=True)  # noqa: S602  as a user would
    assert "known_hosts" in refused(check(replace(host, known_hosts=known)))["found"]


def test_a_wrong_key_is_told_from_one_with_a_passphrase(
    check: Callable[..., Checked], host: Address, tmp_path: Path
) -> None:
    """Each with what to do about it; nobody is asked for anything."""
    row = refused(check(replace(host, identity_file=other_key(tmp_path))))
    assert (row["check"], "login refused" in row["found"]) == ("login", True)
    assert f"ssh-copy-id -p {host.port}" in row["remedy"]
    (tmp_path / "locked").mkdir()
    row = refused(check(replace(host, identity_file=other_key(tmp_path / "locked", "-N", "s3cret!"))))
    assert row["check"] == "login"
    assert row["remedy"] == "leave out identity_file, and load the key with ssh-add"


def test_a_host_that_wants_a_password_is_told_as_such(
    check: Callable[..., Checked], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A campaign has nobody who types one."""
    asking = openssh.SSHD_CONFIG.replace(
        "PasswordAuthentication no", "PasswordAuthentication yes\nPubkeyAuthentication no"
    )
    monkeypatch.setattr(openssh, "SSHD_CONFIG", asking)
    with openssh.serving(tmp_path_factory.mktemp("asking"), ports.free(None)) as address:
        row = refused(check(address))
    assert (row["check"], "it asks for a password" in row["found"]) == ("login", True)
    assert row["remedy"].startswith("let your key in: ssh-copy-id -p ")


def test_a_login_that_waits_for_an_answer_is_given_up(
    check: Callable[..., Checked], host: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt of sudo or of a login script: bounded, and quoted."""
    monkeypatch.setattr(remote, "COMMAND_S", 3)
    bashrc = home_of(host) / ".bashrc"
    bashrc.write_text("printf '[sudo] password for bench: '; read -r answer\n")
    try:
        row = refused(check())
    finally:
        bashrc.unlink()
    assert row["check"] == "login"
    assert "something there waits for an answer to '[sudo] password for bench:'" in row["found"]


def test_a_clock_that_is_an_hour_off_fails_alone(check: Callable[..., Checked], host: Address) -> None:
    """The offset is measured on the host's own word, and the rest of the host is fine."""
    folder = home_of(host)
    (folder / "sitecustomize.py").write_text(AN_HOUR_AHEAD)
    (folder / ".bashrc").write_text(f"export PYTHONPATH={folder}\n")
    try:
        found = check()
    finally:
        (folder / ".bashrc").unlink()
    assert [name for name, row in found.items() if not row["passed"]] == ["clock"]
    assert found["clock"]["found"].startswith("+36000")
    assert found["clock"]["remedy"] == "run chrony or ntpd on both machines"


def test_a_campaign_that_does_not_fit_is_told_before(check: Callable[..., Checked]) -> None:
    """Disk for ten thousand runs, two GPUs where the arguments want eight and there is none."""
    engines = [{"kind": "vllm", "model": "m", "python": STAND_IN, "args": {"tensor-parallel-size": 8}}]
    found = check(repetitions=10_000, engines=engines, gpus=[98, 99])
    failed = {name: row["found"] for name, row in found.items() if not row["passed"]}
    assert set(failed) == {"disk", "gpus", "gpus of vllm m"}
    assert "476837 MiB needed for 10000 cells" in failed["disk"]
    assert failed["gpus"] == "there are none, and not 98, 99"
    assert failed["gpus of vllm m"] == "8 are asked for by its arguments, and gpus names 2"


def test_somebodys_server_is_looked_at_and_no_more(check: Callable[..., Checked], tmp_path: Path) -> None:
    """Its version, its process, its log and the client that is to load it."""
    with serving(tmp_path) as (url, log, process):
        engine = {"kind": "vllm", "model": "m", "attach": url, "python": STAND_IN}
        found = check(engines=[{**engine, "log": str(log)}])
        assert [name for name, row in found.items() if not row["passed"]] == []
        assert found[f"engine vllm {url}"]["found"].startswith("vllm 0.32.0+stand-in answers")
        assert found[f"process of vllm {url}"]["found"] == f"pid {process.pid}, process session {process.pid}"
        found = check(engines=[{**engine, "log": str(tmp_path / "none"), "client_python": "/none/python"}])
        failed = {name: row["found"] for name, row in found.items() if not row["passed"]}
        assert set(failed) == {"log", f"client of vllm {url}"}
        assert failed["log"] == f"{tmp_path / 'none'} cannot be read"
        assert process.poll() is None
    row = check(engines=[engine])[f"engine vllm {url}"]
    assert (row["passed"], f"nobody answers at {url}" in row["found"]) == (False, True)
