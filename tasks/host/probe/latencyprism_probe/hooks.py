"""Functions wrapped on their class or module, right after the module's body has run.

Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from . import calls, sglang_points, sink, vllm_points, vllm_v0_points

if TYPE_CHECKING:
    from collections.abc import Iterable

Around = Callable[[Callable[..., Any]], Callable[..., Any]]


class Point(NamedTuple):
    """A function, `path` below its module, and its wrapper; missing ones of the user's are named."""

    module: str
    path: str
    around: Around
    is_users: bool = False


class Hooks(importlib.abc.MetaPathFinder):
    """Waits for modules to be imported, and wraps functions in them."""

    installed: Hooks | None = None  # in this process; a forked child inherits what is wrapped

    def __init__(self, points: Iterable[Point], to: sink.Sink) -> None:
        self.sink = to
        self.waiting: dict[str, list[Point]] = {}
        self._finding: set[str] = set()
        for point in points:
            self.waiting.setdefault(point.module, []).append(point)

    def install(self) -> None:
        """Wrap what is imported already, and wait for the rest."""
        for name in [name for name in self.waiting if name in sys.modules]:
            self.patch(sys.modules[name])
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        """Answer for modules that are waited for alone, with what the other finders say."""
        if name not in self.waiting or name in self._finding:
            return None
        self._finding.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._finding.discard(name)
        if spec is not None and spec.loader is not None:
            spec.loader = Patching(spec.loader, self)
        return spec

    def patch(self, module: Any) -> None:
        """Wrap what is waited for in a module; fails open."""
        for point in self.waiting.pop(module.__name__, ()):
            try:
                wrap(module, point)
            except AttributeError as error:  # this version has none
                if point.is_users:
                    self.sink.notes.append(calls.missing(f"{point.module}:{point.path}", str(error)))
            except Exception as error:  # noqa: BLE001  fails open
                self.sink.failed(error)

    def name_missing(self) -> None:
        """Note which of the user's points are in no module that could be imported here."""
        for name, points in list(self.waiting.items()):
            if any(point.is_users for point in points) and not module_exists(name):
                for point in self.waiting.pop(name):
                    self.sink.notes.append(calls.missing(f"{name}:{point.path}", f"no module {name}"))


class Patching(importlib.abc.Loader):
    """A module's own loader, and the wrapping after it."""

    def __init__(self, loader: Any, hooks: Hooks) -> None:
        self._loader = loader
        self._hooks = hooks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        """As the module's own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """Run the module's body, then wrap what it defined."""
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._hooks.patch(module)


def wrap(module: Any, point: Point) -> None:
    """Put a point's wrapper in the place of its function. Raises AttributeError when that is not there."""
    *outer, name = point.path.split(".")
    holder = module
    for part in outer:
        holder = getattr(holder, part)
    found = vars(holder).get(name, getattr(holder, name))
    if not callable(getattr(holder, name)):
        raise AttributeError(f"{point.path} is no function")  # noqa: TRY004  as if it were not there
    if isinstance(found, (staticmethod, classmethod)):
        setattr(holder, name, type(found)(point.around(found.__func__)))
    else:
        setattr(holder, name, point.around(found))


def module_exists(name: str) -> bool:
    """Whether a module could be imported, without importing it or any package around it."""
    path, whole = None, ""
    for part in name.split("."):
        whole = f"{whole}.{part}" if whole else part
        spec = importlib.machinery.PathFinder.find_spec(whole, path)
        if spec is None:
            return whole in sys.modules and whole == name
        path = spec.submodule_search_locations
        if path is None and whole != name:
            return False
    return True


def register() -> None:
    """The entry point: engines call it in every process, in some more than once."""
    if not sink.TARGET or Hooks.installed:
        return
    to = sink.Sink()
    engines = (vllm_points, vllm_v0_points, sglang_points)
    points = [Point(*point) for engine in engines for point in engine.points(to)]
    points += [Point(*point, is_users=True) for point in calls.points(to)]
    Hooks.installed = Hooks(points, to)
    to.look = Hooks.installed.name_missing
    Hooks.installed.install()
