"""One gitignore pattern as a regular expression over bytes, exactly as git matches it.

A port of what git's ``wildmatch.c`` and ``dir.c`` decide, quirks included. pathspec was
measured against git first and departs from it in character classes, escapes and tabs at
the end of a line, ``**/``, and fails on a lone ``!`` or ``[z-a]``.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from dataclasses import dataclass

_SPECIAL = re.compile(rb"[*?\[\\]")
_SLASH = ord("/")
_CLASSES = {
    b"alnum": string.ascii_letters + string.digits,
    b"alpha": string.ascii_letters,
    b"blank": " \t",
    b"cntrl": "".join(map(chr, range(32))) + "\x7f",
    b"digit": string.digits,
    b"graph": "".join(map(chr, range(33, 127))),
    b"lower": string.ascii_lowercase,
    b"print": "".join(map(chr, range(32, 127))),
    b"punct": string.punctuation,
    b"space": " \t\n\v\f\r",
    b"upper": string.ascii_uppercase,
    b"xdigit": string.hexdigits,
}


class _NeverMatches(ValueError):
    """The pattern is malformed; git lets it match nothing."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of an ignore file. ``matches`` takes the base name if ``by_name``, else the path."""

    negative: bool
    directories_only: bool
    by_name: bool
    matches: Callable[[bytes], object]


def parse(line: bytes) -> Pattern | None:
    """The pattern of one line without its newline; None for blanks, comments and nonsense."""
    text = _trimmed(line.partition(b"\0")[0].removesuffix(b"\r"))
    if not text or text.startswith(b"#"):
        return None
    negative = text.startswith(b"!")
    text = text[negative:]
    directories_only = text.endswith(b"/")
    text = text[:-1] if directories_only else text
    by_name = b"/" not in text
    try:
        regex = _regex(text.removeprefix(b"/"), by_name)
    except _NeverMatches:
        return None
    return Pattern(negative, directories_only, by_name, re.compile(regex, re.DOTALL).fullmatch)


def literal_prefix(text: bytes) -> bytes:
    """What comes before the first wildcard."""
    special = _SPECIAL.search(text)
    return text[: special.start()] if special else text


def _trimmed(text: bytes) -> bytes:
    """Without trailing spaces, except escaped ones."""
    spaces, index = None, 0
    while index < len(text):
        if text[index] == ord(" "):
            spaces = index if spaces is None else spaces
        else:
            spaces = None
            if text[index] == ord("\\"):
                index += 1
                if index == len(text):
                    return text
        index += 1
    return text if spaces is None else text[:spaces]


def _regex(text: bytes, by_name: bool) -> bytes:
    # git compares a path's literal beginning first and matches only the rest, so that
    # a ** right after it counts as one at the beginning: foo**/bar matches foobar.
    prefix = b"" if by_name else literal_prefix(text)
    return re.escape(prefix) + b"".join(_Parts(text[len(prefix) :]))


class _Parts:
    """Iterates over the regular expression's parts for one glob."""

    def __init__(self, glob: bytes) -> None:
        self._glob = glob
        self._at = 0

    def __iter__(self) -> _Parts:
        return self

    def __next__(self) -> bytes:
        char = self._take()
        match char:
            case b"":
                raise StopIteration
            case b"*":
                return self._star()
            case b"?":
                return b"[^/]"
            case b"[":
                return self._bracket()
            case b"\\":
                return re.escape(self._required())
        return re.escape(char)

    def _peek(self, ahead: int = 0) -> bytes:
        return self._glob[self._at + ahead : self._at + ahead + 1]

    def _take(self) -> bytes:
        char = self._peek()
        self._at += 1
        return char

    def _required(self) -> bytes:
        char = self._take()
        if not char:
            raise _NeverMatches
        return char

    def _star(self) -> bytes:
        begin = self._at - 1
        while self._peek() == b"*":
            self._at += 1
        rest = self._glob[self._at :]
        own_segment = (begin == 0 or self._glob[begin - 1 : begin] == b"/") and (
            not rest or rest.startswith((b"/", b"\\/"))
        )
        if self._at - begin < 2 or not own_segment:
            return b"[^/]*"
        if not rest.startswith(b"/"):
            return b".*"
        self._at += 1
        return b"(?:.*/)?"

    def _bracket(self) -> bytes:
        negated = self._peek() in (b"!", b"^")
        self._at += negated
        members = self._members()
        if negated:
            members = set(range(256)) - members
        inside = b"".join(b"\\x%02x" % byte for byte in sorted(members - {_SLASH}))
        return b"[" + inside + b"]" if inside else b"(?!)"

    def _members(self) -> set[int]:
        """The bytes a bracket expression names; leaves the position after its ``]``."""
        members: set[int] = set()
        previous: int | None = None
        char = self._required()
        while True:
            if char == b"\\":
                previous = ord(self._required())
                members.add(previous)
            elif char == b"-" and previous and self._peek() not in (b"", b"]"):
                members.update(range(previous, self._range_end() + 1))
                previous = None
            elif char == b"[" and self._peek() == b":" and (named := self._named()) is not None:
                members.update(named)
                previous = None
            else:
                previous = ord(char)
                members.add(previous)
            char = self._required()
            if char == b"]":
                return members

    def _range_end(self) -> int:
        end = self._required()
        return ord(self._required() if end == b"\\" else end)

    def _named(self) -> bytes | None:
        """The members of ``[:name:]``; None when what follows is an ordinary set."""
        begin = self._at + 1
        end = self._glob.find(b"]", begin)
        if end < 0:
            raise _NeverMatches
        if end == begin or self._glob[end - 1 : end] != b":":
            return None
        name = self._glob[begin : end - 1]
        if name not in _CLASSES:
            raise _NeverMatches
        self._at = end + 1
        return _CLASSES[name].encode()
