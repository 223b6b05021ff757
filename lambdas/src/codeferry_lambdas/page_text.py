"""What others wrote, as text for the page; numbers as people read them. Values only.

Instances, tags and file names say what they like. The template escapes markup; here goes
what a browser would not show: control characters, reordering marks, unpaired surrogates.
"""

from __future__ import annotations

import re
from datetime import datetime

# C0 without newline and tab, DEL, C1, marks that reorder or hide text, and surrogates.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
NAME_CHARACTERS = 48
MOST = 1e18  # of whatever an instance counts
_LINE_MARKS = str.maketrans({"\n": "\\n", "\t": "\\t"})


def visible(text: object) -> str:
    """``text`` with every character that would not be seen spelled out: ``\\x1b``,
    ``\\u202e``."""
    return _UNSEEN.sub(_spelled, str(text))


def one_line(text: object, limit: int) -> str:
    """``visible``, on one line: the first ``limit`` characters."""
    whole = str(text)
    shown = visible(whole[:limit]).translate(_LINE_MARKS)
    return f"{shown}…" if len(whole) > limit else shown


def lines(text: object, limit: int) -> str:
    """``visible``, lines kept: the first ``limit`` characters."""
    whole = str(text)
    return visible(whole[:limit]) + ("…" if len(whole) > limit else "")


def number(stated: object) -> float:
    """What was stated as a number, 0 when it is none that can be shown."""
    if isinstance(stated, int | float) and 0 <= stated < MOST:
        return float(stated)
    return 0.0


def when(moment: datetime) -> str:
    """``2026-11-12 09:30:00 UTC``, of a moment in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: the byte that was really there
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
