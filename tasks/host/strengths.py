"""How strong a fault is: what each anomaly takes, checked before anything is done.

Standard library only (Python >= 3.9).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Union


class Unusable(ValueError):
    """A strength that the anomaly does not know or cannot have; the text goes to the user as it is."""


class Number(NamedTuple):
    """A number in [lowest, highest]; a default of None means that it may be left out."""

    default: float | None
    lowest: float
    highest: float
    meaning: str
    whole: bool = True


class Word(NamedTuple):
    """A text that matches the pattern as a whole; a default of None means that it may be left out."""

    default: str | None
    pattern: str
    meaning: str


Parameters = Mapping[str, Union[Number, Word]]


def complete(anomaly: str, known: Parameters, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given strength with the defaults filled in. Raises Unusable."""
    for name in given:
        if name not in known:
            raise Unusable(
                f"unknown strength {name!r}; {anomaly} knows {', '.join(known) or 'none'}{_near(name, known)}"
            )
    return {name: _checked(name, part, given.get(name, part.default)) for name, part in known.items()}


def _near(name: str, known: Parameters) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def _checked(name: str, part: Number | Word, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(part, Word):
        if not isinstance(value, str) or not re.fullmatch(part.pattern, value):
            raise Unusable(f"strength {name} is {value!r}, not {part.meaning}")
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (part.whole and value != int(value)) or not part.lowest <= value <= part.highest:
        kind = "a whole number" if part.whole else "a number"
        raise Unusable(f"strength {name} is {value!r}, not {kind} from {part.lowest:g} to {part.highest:g}")
    return int(value) if part.whole else float(value)
