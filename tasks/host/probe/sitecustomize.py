"""Loads the function probe into engines that have no plugin entry point (SGLang <= 0.5.5, old vLLM).

Python imports this in every process of the server. It shadows another sitecustomize, which it therefore runs
first; then it waits until an engine is imported, and does nothing where nothing is to be recorded.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

# Where an engine keeps its plugins: with them it loads the probe itself, unless a variable leaves that out.
PLUGINS = {"vllm": ("plugins", "__init__.py"), "sglang": ("srt", "plugins", "__init__.py")}
CHOICES = {"vllm": "VLLM_PLUGINS", "sglang": "SGLANG_PLUGINS"}


def run_shadowed() -> None:
    """Run the sitecustomize that would have been imported without this one."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


class Waiting(importlib.abc.MetaPathFinder):
    """Finds nothing: it sees which engines are imported."""

    def __init__(self) -> None:
        self.engines = set(PLUGINS)

    def find_spec(self, name: str, path: Any = None, _target: Any = None) -> None:
        """Load the probe before the first module of an engine without plugins."""
        if name not in self.engines:
            return
        self.engines.discard(name)
        try:
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec is not None and not has_plugins(name, list(spec.submodule_search_locations or ())):
                importlib.import_module("latencyprism_probe").register()
        except Exception as error:  # noqa: BLE001  fails open
            sys.stderr.write(f"latencyprism probe: {error!r}\n")


def has_plugins(engine: str, folders: list[str]) -> bool:
    """Whether the engine in these folders will load the probe through its entry point."""
    allowed = os.environ.get(CHOICES[engine])
    if allowed is not None and "latencyprism" not in allowed.split(","):
        return False
    return any(os.path.isfile(os.path.join(folder, *PLUGINS[engine])) for folder in folders)


if os.environ.get("LPRISM_PROBE_TARGET"):
    sys.meta_path.insert(0, Waiting())
run_shadowed()
