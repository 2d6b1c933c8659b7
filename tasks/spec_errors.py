"""What pydantic found wrong with a campaign spec, in one or two lines for the person who wrote it."""

import difflib
from collections.abc import Container, Mapping, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MOST_PLACES = 5

_MESSAGES = {
    "dict_type": "should be a mapping (key: value)",
    "model_type": "should be a mapping (key: value)",
    "list_type": "should be a list, such as [1, 2]",
    "string_type": "should be text; put it in quotes",
}


def in_words(error: ValidationError, valid_keys: Mapping[str, Sequence[str]], not_yet: Container[str]) -> str:
    """Tell the first problem in full and name the places of the rest; a misspelt key comes first.

    Args:
        error: what pydantic raised.
        valid_keys: the keys of each section of the spec; those of the top level under "".
        not_yet: keys that are planned and not built.
    """
    by_place: dict[str, list[ErrorDetails]] = {}
    for detail in sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden"):
        by_place.setdefault(_place(detail), []).append(detail)
    places = list(by_place)
    first = _wording(by_place[places[0]], valid_keys, not_yet)
    more = f"\nalso wrong: {', '.join(places[1 : MOST_PLACES + 1])}" if places[1:] else ""
    return first + more


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Say that there is no such name, which one is nearest, and which there are."""
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}{hint} (there are: {', '.join(known)})"


def _wording(
    details: Sequence[ErrorDetails], valid_keys: Mapping[str, Sequence[str]], not_yet: Container[str]
) -> str:
    detail, place = details[0], _place(details[0])
    if detail["type"] == "extra_forbidden":
        message = _unknown_key(_path(detail), valid_keys, not_yet)
    elif detail["type"] == "missing":
        return f"{place} is missing"
    elif len(details) > 1:  # one from each branch of a union of types
        message = (
            f"{detail['input']!r:.60} cannot stand here: text, a number, true or false, a list or a mapping"
        )
    else:
        message = _plain(detail)
    return f"{place}: {message}" if place else message


def _place(detail: ErrorDetails) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{repr(part)[1:-1]:.60}" for part in _path(detail))
    return "".join(parts).removeprefix(".")


def _path(detail: ErrorDetails) -> list[int | str]:
    """Pydantic's location without the names of the branches of a union, which are no keys."""
    if detail["type"] == "extra_forbidden":
        return list(detail["loc"])  # it ends in what the user wrote, whatever that is
    branches = {"str", "bool", "int", "float", "[key]"}
    parts = (part for part in detail["loc"] if part not in branches)
    return [part for part in parts if isinstance(part, int) or not part.startswith(("list[", "dict["))]


def _unknown_key(
    path: list[int | str], valid_keys: Mapping[str, Sequence[str]], not_yet: Container[str]
) -> str:
    key, section = str(path[-1]), str(path[0]) if len(path) > 1 else ""
    if key in not_yet:
        return f"the key {key!r} is not there yet in this version"
    return unknown("key", key, valid_keys[section])


def _plain(detail: ErrorDetails) -> str:
    value = f"{detail['input']!r:.60}"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    if detail["type"] == "string_pattern_mismatch":
        return f"{value} has characters that cannot stand here (allowed: {detail['ctx']['pattern']})"
    message = detail["msg"].removeprefix("Input ")
    return f"{value} is wrong: {_MESSAGES.get(detail['type'], message[0].lower() + message[1:])}"
