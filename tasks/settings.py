"""Where things live, and how trouble is told to whoever runs the command."""

import os
from pathlib import Path

HOME_VARIABLE = "LPRISM_HOME"
DEFAULT_HOME = "lprism-home"

TELEMETRY_OFF = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


class LprismError(Exception):
    """Something went wrong that the user can act on; one or two lines, no traceback (exit code 1)."""

    exit_code = 1


class SpecError(LprismError):
    """A campaign spec or an argument that cannot be used as it is written (exit code 2)."""

    exit_code = 2


def home_path(text: str | Path | None = None) -> Path:
    """The folder of bundles, lake, models and warehouse, absolute; it need not exist yet.

    The argument wins over the LPRISM_HOME variable, and that over ./lprism-home.

    Raises:
        LprismError: the path is there and is not a folder.
    """
    chosen = text or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME
    home = Path(chosen).expanduser().absolute()
    if home.exists() and not home.is_dir():
        raise LprismError(f"{home} is a file, not a folder: name another one with --home")
    return home


def cache_path() -> Path:
    """The folder that all homes share (engines, tiny models); it need not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification: a relative value is to be ignored.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "latencyprism"


def pin_telemetry_off() -> None:
    """Tell every library that reports home not to; call it before importing them.

    A value that the user has set stays, save that an empty one counts as not set.
    """
    for name, value in TELEMETRY_OFF.items():
        if not os.environ.get(name):
            os.environ[name] = value
