"""The screen of a terminal after text was written to it: a function of text, no I/O."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\r|\n|\x1b\][^\x07]*\x07")


def screen(written: str) -> list[str]:
    """The lines on a terminal that is long enough, with the colours they were written in.

    Knows what ferry's live display uses: returns, cursor up, erase line, hide, colours. A line
    is written from its beginning; what was to the right of it is not kept.
    """
    lines = [""]
    row, start = 0, 0
    for found in _SEQUENCE.finditer(written):
        _put(lines, row, written[start : found.start()])
        start = found.end()
        match found.group(2), found.group():
            case "A", _:
                row = max(0, row - int(found.group(1) or 1))
            case "K", _:
                lines[row] = ""
            case "m", colour:
                _put(lines, row, colour)
            case _, "\n":
                row += 1
                if row == len(lines):
                    lines.append("")
            case _, "\r" if written[start : start + 1] not in ("\n", "\x1b"):
                lines[row] = ""
    _put(lines, row, written[start:])
    return [line.rstrip() for line in lines]


def _put(lines: list[str], row: int, text: str) -> None:
    lines[row] += text
