"""Real parts for the tests: an OpenSSH server on loopback, and one in a network of its own."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.host import ports
from tasks.remote import Address
from tasks.settings import pin_telemetry_off
from tests import namespaces, openssh

# They measure this machine or press on it: nothing else may run beside them.
ALONE = {
    "test_agreement", "test_capture", "test_capture_e2e", "test_cli_faults", "test_deployment", "test_fault",
    "test_fault_cpu_quota", "test_fault_cpu_swap", "test_fault_gpu", "test_fault_network",
    "test_gpu_programs", "test_link_cut", "test_pipeline_e2e", "test_recorders", "test_run",
    "test_sampler", "test_serve", "test_slices",
}  # fmt: skip

pin_telemetry_off()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what must not share the machine, for `make test`."""
    for item in items:
        if item.path.stem in ALONE:
            item.add_marker(pytest.mark.alone)


@pytest.fixture
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A host behind a real OpenSSH server; its home is a folder of the test."""
    if openssh.MISSING:
        pytest.skip(openssh.MISSING)
    with openssh.serving(tmp_path_factory.mktemp("sshd"), ports.free(None)) as address:
        yield address


@pytest.fixture
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[namespaces.Network]:
    """The same behind a cable that can be cut, with a third host next to it."""
    missing = openssh.MISSING or namespaces.missing()
    if missing:
        pytest.skip(missing)
    with namespaces.network(tmp_path_factory.mktemp("network")) as made:
        yield made


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Address]]:
    """Two hosts, each behind an sshd of its own."""
    if openssh.MISSING:
        pytest.skip(openssh.MISSING)
    with ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            serving = openssh.serving(tmp_path / name, ports.free(None), name)
            made.append(stack.enter_context(serving))
        yield made
