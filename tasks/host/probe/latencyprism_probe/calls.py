"""Points that the user names: each call becomes a record, with attributes of its arguments and its result.

LPRISM_PROBE_POINTS is a JSON list, or names a file of one, of

    {"point": "package.module:Class.function", "attributes": ["args.1.mode", "kwargs.n", "result.x"]}

`args.0` of a method is its object. Arguments are read before the call, the result after it. A number, a text
(its beginning), true, false and null are recorded as they are, an enumeration by its name, a container by its
length, anything else by its type. A coroutine lasts until it has ended; a generator until it is made.
Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import enum
import functools
import inspect
import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from .sink import Record, Sink

CONFIG = os.environ.get("LPRISM_PROBE_POINTS", "")
LONGEST_TEXT = 200
MOST_ATTRIBUTES = 16
_NAME = r"[^\W\d]\w*"
_POINT = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME}(?:\.{_NAME})*)")
_ATTRIBUTE = re.compile(rf"(?:args\.\d+|kwargs\.{_NAME}|result)(?:\.\w+)*")
_LARGEST = 1 << 63  # of a number that is recorded; NaN is not below it either
_CONTAINERS = (list, tuple, dict, set, frozenset, deque, bytes, bytearray, range)

Function = Callable[..., Any]
Path = tuple[str, ...]


def points(sink: Sink) -> Iterator[tuple[str, str, Callable[[Function], Function]]]:
    """The user's points, as hooks.Point has them; what cannot be read is noted, and the rest goes on."""
    if not CONFIG:
        return
    try:
        entries = json.loads(_written(CONFIG))
    except (OSError, ValueError) as error:
        sink.notes.append(missing(CONFIG, f"cannot be read: {error}"))
        return
    if not isinstance(entries, list):
        sink.notes.append(missing(CONFIG, "cannot be read: it is no list"))
        return
    for entry in entries:
        try:
            point = Call(sink, **entry)
        except (TypeError, ValueError) as error:
            named = entry.get("point") if isinstance(entry, dict) else None
            sink.notes.append(missing(str(named or json.dumps(entry)), str(error)))
        else:
            yield point.module, point.path, point.around


def _written(config: str) -> str:
    if config.lstrip().startswith("["):
        return config
    with open(config, encoding="utf-8") as file:
        return file.read()


def missing(point: str, reason: str) -> Record:
    """The line that names a point that cannot be had."""
    return {"type": "missing_point", "point": point[:LONGEST_TEXT], "reason": reason[:LONGEST_TEXT]}


class Call:
    """A point, and the wrapper that records its calls. Raises TypeError or ValueError: it is not one."""

    def __init__(self, sink: Sink, point: str, attributes: list[str] | None = None) -> None:
        attributes = attributes or []
        found = _POINT.fullmatch(point)
        if not found:
            raise ValueError("not a point: write package.module:Class.function")
        odd = [name for name in attributes if not _ATTRIBUTE.fullmatch(name)]
        if odd or len(attributes) > MOST_ATTRIBUTES:
            raise ValueError(
                f"at most {MOST_ATTRIBUTES} attributes, as args.0.x, kwargs.y or result.z: {odd}"
            )
        self.sink, self.point = sink, point
        self.module, self.path = found[1], found[2]
        parts = {name: tuple(name.split(".")) for name in attributes}
        self.before = {name: path for name, path in parts.items() if path[0] != "result"}
        self.after = {name: path for name, path in parts.items() if path[0] == "result"}

    def around(self, function: Function) -> Function:
        """The wrapper, of a coroutine a coroutine."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                seen, start = self._begin(args, kwargs), time.monotonic_ns()
                try:
                    result = await function(*args, **kwargs)
                except BaseException as error:
                    self._end(seen, start, None, error)
                    raise
                self._end(seen, start, result)
                return result

            return awaited

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            seen, start = self._begin(args, kwargs), time.monotonic_ns()
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                self._end(seen, start, None, error)
                raise
            self._end(seen, start, result)
            return result

        return called

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        try:
            if not self.sink.is_started:
                self.sink.start()
            if self.sink.on:
                given = {"args": args, "kwargs": kwargs}
                return {name: bounded(given, path) for name, path in self.before.items()}
        except Exception as error:  # noqa: BLE001  fails open
            self.sink.failed(error)
        return None

    def _end(
        self, seen: dict[str, Any] | None, start: int, result: Any, raised: BaseException | None = None
    ) -> None:
        end = time.monotonic_ns()
        if seen is None:
            return
        try:
            if raised is None:
                seen.update((name, bounded({"result": result}, path)) for name, path in self.after.items())
            thread = threading.get_native_id()
            self.sink.put(self._record, start, end, thread, seen, type(raised).__name__ if raised else None)
        except Exception as error:  # noqa: BLE001  fails open
            self.sink.failed(error)

    def _record(self, start: int, end: int, thread: int, seen: dict[str, Any], raised: str | None) -> Record:
        return {
            "type": "call", "point": self.point, "pid": os.getpid(), "tid": thread, "start_mono_ns": start,
            "duration_ns": end - start, "raised": raised, "attributes": seen,
        }  # fmt: skip


def bounded(value: Any, path: Path) -> Any:
    """What a path leads to, as something small that JSON has; {"missing": true} where it leads nowhere."""
    try:
        for name in path:
            value = _below(value, name)
    except Exception:  # noqa: BLE001  a property may raise anything
        return {"missing": True}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, _CONTAINERS):
        return {"length": len(value)}
    is_plain = value is None or (isinstance(value, (int, float)) and abs(value) < _LARGEST)
    return value if is_plain else {"type": type(value).__name__}


def _below(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value[name]
    return value[int(name)] if name.isdigit() else getattr(value, name)
