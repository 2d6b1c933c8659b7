"""What scan.c does, in Python and one character at a time: slow, short, and written apart from it."""

import json
import re
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any, TypeVar

from tasks.traces.scan import NUMBERS, TEXTS

LATEST_NS = 4 * 10**18
DEEPEST = 128
FIELDS = dict(zip(("ph", "name", "cat", "pid", "tid", "id"), TEXTS, strict=False))
TIMES = {"ts": "start_ns", "dur": "duration_ns"}
KEYS = ("correlation", "External id", "device", "stream", "Python id", "Python parent id", "lineno")
WHOLE = dict(zip((*KEYS, "external id"), NUMBERS, strict=True))
# Strings of valid UTF-8, escapes that are one, and half of no surrogate pair.
_STRING = re.compile(
    rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]'
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}"
    rb"|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
    rb'|\\["\\/bfnrt]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"
)
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++|(?!\.))(?:[eE][+-]?[0-9]++|(?![eE]))")
_WORD = re.compile(rb"true|false|null|NaN|nan|-nan|-NaN|Infinity|-Infinity|inf|-inf")
_TIME = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_QUOTE = re.compile(rb'"')
Item = TypeVar("Item")


class Damage(Exception):
    """Here the text is no JSON."""


class Reader:
    """A place in a text. What it cannot read raises Damage, and leaves it there."""

    def __init__(self, text: bytes, at: int) -> None:
        self.text, self.at = text, at

    def next(self) -> bytes:
        """The next character that is not blank, which stays; none at the end."""
        self.at = len(self.text) - len(self.text[self.at :].lstrip(b" \t\r\n"))
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[bytes]) -> bytes:
        """What the pattern matches here."""
        if not (found := pattern.match(self.text, self.at)):
            raise Damage
        self.at = found.end()
        return found.group()

    def string(self) -> bytes:
        """A string with its quotes, as it is written."""
        if self.next() != b'"':
            raise Damage
        begun = self.take(_STRING)
        return begun + self.take(_QUOTE)

    def value(self, depth: int) -> bytes:
        """Any value without white space; numbers that JSON has not as strings."""
        if (start := self.next()) == b"{":
            return b"{" + b",".join(key + b":" + kept for key, kept, _ in self.members(depth)) + b"}"
        if start == b"[":
            return b"[" + b",".join(self.items(b"]", depth, lambda: self.value(depth + 1))) + b"]"
        if start == b'"':
            return self.string()
        if _NUMBER.match(self.text, self.at):
            return self.take(_NUMBER)
        word = self.take(_WORD)
        return word if word in {b"true", b"false", b"null"} else b'"' + word + b'"'

    def members(self, depth: int) -> list[tuple[bytes, bytes, bytes]]:
        """Of the object that begins here: keys, values without white space, and values as written."""
        return self.items(b"}", depth, lambda: (self.key(), *self.both(depth + 1)))

    def both(self, depth: int) -> tuple[bytes, bytes]:
        """A value without white space, and as it is written."""
        self.next()
        begin = self.at
        return self.value(depth), self.text[begin : self.at]

    def key(self) -> bytes:
        """A key, and the colon after it."""
        key = self.string()
        if self.next() != b":":
            raise Damage
        self.at += 1
        return key

    def items(self, end: bytes, depth: int, read: Callable[[], Item]) -> list[Item]:
        """What stands between the bracket here and its other one."""
        if depth >= DEEPEST:
            raise Damage
        found: list[Item] = []
        self.at += 1
        while self.next() != end:
            if found and self.next() != b",":
                raise Damage
            self.at += bool(found)
            found.append(read())
        self.at += 1
        return found


def plain_scan(text: bytes, at: int) -> Iterator[dict[str, Any]]:
    """The rows of an array's text, whose bracket stands before `at`; `problem` tells whether one has any."""
    reader, is_first = Reader(text, at), True
    while reader.next() not in {b"", b"]"}:
        if has_comma := not is_first and reader.next() == b",":
            reader.at += 1
            if reader.next() in {b"", b"]"}:
                return
        begin = reader.at
        try:
            row, is_first = event(reader) if has_comma or is_first else damaged(), False
        except Damage:
            row, is_first = {"problem": True}, True
            reader.at = found_again(text, begin + 1)
        yield row | {"begin": begin, "end": reader.at}


def damaged() -> dict[str, Any]:
    """No row."""
    raise Damage


def found_again(text: bytes, at: int) -> int:
    """Where the next sound event with a phase begins, after a comma; else the end."""
    while (at := text.find(b"{", at)) >= 0:
        reader = Reader(text, at)
        if text[:at].rstrip(b" \t\r\n").endswith(b","):
            try:
                row = event(reader)
                if row["phase"] is not None and not row["problem"]:
                    return at
            except Damage:
                pass
        at = max(at + 1, reader.at)
    return len(text)


def event(reader: Reader) -> dict[str, Any]:
    """The row of an event."""
    row: dict[str, Any] = {"problem": False}
    if reader.next() != b"{":
        reader.value(0)
        return {"problem": True}
    extra, row = [], dict.fromkeys((*FIELDS.values(), *TIMES.values(), *NUMBERS, "args")) | row
    for key, kept, written in reader.members(0):
        name = key[1:-1].decode()
        try:
            if name in FIELDS:
                row[FIELDS[name]] = field(written)
            elif name in TIMES:
                row[TIMES[name]] = None
                row[TIMES[name]] = nanoseconds(written)
            elif name == "args":
                row |= arguments(kept, written)
            else:
                extra.append(key + b":" + kept)
        except ValueError:
            row["problem"] = True
    return row | {"extra": (b"{" + b",".join(extra) + b"}").decode() if extra else None}


def field(written: bytes) -> str | None:
    """A string, or a number as text."""
    if written == b"null":
        return None
    if written.startswith(b'"'):
        return str(json.loads(written))
    if _NUMBER.fullmatch(written):
        return written.decode()
    raise ValueError


def nanoseconds(written: bytes) -> int | None:
    """A number or its text, of us, as whole ns; halves away from zero."""
    if written == b"null":
        return None
    if not _TIME.fullmatch(text := written.strip(b'"').decode()):
        raise ValueError
    mantissa, _, power = text.lower().partition("e")
    with localcontext(prec=3000):
        exponent = max(-9999, min(int(power or 0), 9999))
        value = Decimal(mantissa).scaleb(3 + exponent).to_integral_value(ROUND_HALF_UP)
        if abs(value) > LATEST_NS:
            raise ValueError
    return int(value)


def arguments(kept: bytes, written: bytes) -> dict[str, Any]:
    """args, and the numbers in it that have columns."""
    found: dict[str, Any] = dict.fromkeys(NUMBERS)
    for key, _, value in Reader(written, 0).members(0) if written.startswith(b"{") else ():
        if (name := WHOLE.get(key[1:-1].decode())) and value[:1] in b"-0123456789":
            found[name] = int(value) if re.fullmatch(rb"-?[0-9]{1,18}", value) else None
    return found | {"args": kept.decode()}
