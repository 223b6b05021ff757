"""Text from elsewhere made harmless: for a terminal, a page, a mail and a log.

Instances, file names, tags, S3 and error causes are written by others: what would act on the
reader's screen, or be there without being seen, must be seen and never obeyed.
"""

from __future__ import annotations

import re

# Characters that act (C0 but for newline and tab, DEL, C1), that reorder or join text, that take
# no room (Unicode's Default_Ignorable_Code_Point, without the two selectors that tell an emoji
# from a sign), that look like nothing though they are letters, and that are none (surrogates are
# the bytes of a name that is not UTF-8).
HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"
    "\ufffe\uffff\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# What a program prints to set colours: ECMA-48's SGR (``ESC [ … m``).
_COLOURS = re.compile(r"\x1b\[([0-9;]*)m")
_COLOUR = re.compile(r"[345]8;5;\d+|[345]8;2;\d+;\d+;\d+|\d+")
# Reset, weight, slant, underline, crossed out, and colours of what is written. Neither what
# hides text nor what could: conceal, reverse and backgrounds.
_HARMLESS_STYLES = frozenset(
    map(str, (0, 1, 2, 3, 4, 9, 21, 22, 23, 24, 29, *range(30, 38), 39, *range(90, 98)))
)
_LINE_MARKS = str.maketrans({"\n": "\\n", "\t": "\\t"})


def harmless(text: str) -> str:
    """``text`` with every harmful character escaped, such as ``\\x1b`` and ``\\u202e``."""
    return HARMFUL.sub(_escape, text)


def one_line(text: str) -> str:
    """``harmless`` and on one line: for table cells, names and log lines."""
    return harmless(text).translate(_LINE_MARKS)


def coloured(text: str) -> str:
    """``harmless`` but for the colours that ``text`` sets, which end with it: for a terminal."""
    parts = _COLOURS.split(text)  # text, parameters, text, …
    escaped = [harmless(part) if n % 2 == 0 else _colour(part) for n, part in enumerate(parts)]
    return "".join(escaped) + ("\x1b[0m" if len(parts) > 1 else "")


def as_drawn(text: str) -> str:
    """What stays of lines that a progress bar has drawn over themselves, without colours.

    Of each line what follows its last carriage return. Not harmless yet.
    """
    return _COLOURS.sub("", "\n".join(map(last_drawn, text.split("\n"))))


def last_drawn(line: str) -> str:
    """What stays of one line when each carriage return draws over what is before it."""
    return line.rstrip("\r").rpartition("\r")[2]


def _colour(parameters: str) -> str:
    found = [
        part
        for part in _COLOUR.findall(parameters or "0")
        if part in _HARMLESS_STYLES or part.startswith("38;")
    ]
    return f"\x1b[{';'.join(found)}m" if found else ""


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: the byte the name really has
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
