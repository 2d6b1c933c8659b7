"""Reads one small YAML mapping that a person wrote; a key that is there twice is an error."""

from collections.abc import Hashable
from pathlib import Path

import yaml

from tasks.settings import SpecError

LARGEST_BYTES = 1_000_000


def read_mapping(path: Path) -> dict[object, object]:
    """Read the file as one YAML mapping.

    Raises:
        SpecError: missing, unreadable, too large, not UTF-8, not YAML, not a mapping, a key is there twice.
    """
    text = _text(path)
    try:
        content = yaml.load(text, Loader=_OnceLoader)  # noqa: S506 - is a SafeLoader
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not YAML: {_one_line(error)}") from error
    except (ValueError, RecursionError) as error:  # a date such as 2026-13-99, or brackets without end
        raise SpecError(f"{path} cannot be read as YAML: {error}") from error
    if content is None:
        raise SpecError(f"{path} is empty")
    if not isinstance(content, dict):
        raise SpecError(f"{path} holds a {type(content).__name__}, not a mapping of keys such as `name: ...`")
    return content


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError as error:
        raise SpecError(f"{path} is not there") from error
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > LARGEST_BYTES:
        raise SpecError(f"{path} is larger than {LARGEST_BYTES} bytes: that is no campaign spec")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 text (byte {error.start})") from error


class _OnceLoader(yaml.SafeLoader):
    def construct_mapping(  # the signature is PyYAML's
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - the same
    ) -> dict[Hashable, object]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return (getattr(error, "problem", None) or str(error).splitlines()[0]) + where
