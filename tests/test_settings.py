"""Where things live."""

import os
from pathlib import Path

import pytest

from tasks.settings import LprismError, SpecError, cache_path, home_path, pin_telemetry_off


def test_the_option_wins_over_the_variable_and_that_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One order of precedence, and always an absolute path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LPRISM_HOME", raising=False)
    assert home_path() == tmp_path / "lprism-home"
    monkeypatch.setenv("LPRISM_HOME", "from-variable")
    assert home_path() == tmp_path / "from-variable"
    assert home_path("given") == tmp_path / "given"
    assert home_path(tmp_path / "given") == tmp_path / "given"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home_path("~/x") == tmp_path / "x"
    assert not (tmp_path / "given").exists()


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The mistake is told before anything is written."""
    (tmp_path / "f").touch()
    with pytest.raises(LprismError, match="is a file, not a folder"):
        home_path(tmp_path / "f")


def test_the_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines lie in the user's cache; a relative XDG_CACHE_HOME counts as not set."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_path() == tmp_path / ".cache" / "latencyprism"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_path() == tmp_path / "xdg" / "latencyprism"


def test_telemetry_is_off_unless_somebody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library reports home by default, and a choice of the user's stays."""
    monkeypatch.delenv("PREFECT_SERVER_ANALYTICS_ENABLED", raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "")
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "true")
    pin_telemetry_off()
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["GX_ANALYTICS_ENABLED"] == "true"


def test_every_error_has_an_exit_code() -> None:
    """Scripts tell bad usage from failure."""
    assert (LprismError.exit_code, SpecError.exit_code) == (1, 2)
    assert issubclass(SpecError, LprismError)
