"""Real parts for the tests: an OpenSSH server on loopback, and one in a network of its own."""

import signal
from collections.abc import Iterator

import pytest

from tasks.host import ports
from tasks.remote import Address
from tasks.settings import pin_telemetry_off
from tests import namespaces, openssh

pin_telemetry_off()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it


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
