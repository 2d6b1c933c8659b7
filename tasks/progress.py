"""What is going on now, said by whoever does it and shown by whoever listens.

The command line listens and draws; nobody listening is fine.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One thing that began: `cell` of `cells` (0 outside of cells), the seconds it should take, and where."""

    phase: str
    cell: int = 0
    cells: int = 0
    expected_s: float = 0.0
    detail: str = ""
    host: str = ""


_listeners: list[Callable[[Progress], None]] = []


def say(progress: Progress) -> None:
    """Tell every listener."""
    for listener in _listeners:
        listener(progress)


@contextmanager
def listening(listener: Callable[[Progress], None]) -> Iterator[None]:
    """Have `listener` told of everything said in this process inside the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
