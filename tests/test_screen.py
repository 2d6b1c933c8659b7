"""The screen of a running campaign: how much is done and left when hosts work side by side."""

import pytest

from tasks.cli import screen
from tasks.progress import Progress


def test_the_time_left_is_that_of_the_host_with_most_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts of 100 s and 60 s and 10 s beside: 110 s; each phase counts to its own host, once."""
    now = [0.0]
    monkeypatch.setattr("tasks.cli.screen.time.monotonic", lambda: now[0])
    clock = screen.Clock(10, {"a": 100, "b": 60})
    assert (clock.total_s, clock.left_s, clock.done_s) == (110, 110, 0)
    clock.begin(10)  # of the 10 s
    now[0] = 10
    clock.begin(50, "a")
    clock.begin(60, "b")
    assert clock.left_s == 100
    now[0] = 30
    assert clock.left_s == 80
    now[0] = 200  # b is done, a is late
    assert clock.left_s == 50
    clock.begin(70, "a")
    clock.begin(30, "elsewhere")
    now[0] = 400
    assert (clock.left_s, clock.done_s) == (0, 110)


def test_what_is_said_names_the_host() -> None:
    """Two hosts speak at once."""
    said = Progress("baseline window", 3, 24, 10.0, "normal", "gpu-01")
    assert screen._words(said) == "gpu-01: cell 3 of 24: baseline window (normal)"
    assert screen._words(Progress("connect", detail="gpu-01", host="gpu-01")) == "connect (gpu-01)"
