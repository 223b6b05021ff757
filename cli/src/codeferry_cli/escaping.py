"""Text from elsewhere made harmless to a terminal.

Instances, file names and error causes are written by others: an escape sequence in
them must be seen, never obeyed.
"""

from __future__ import annotations

import re

# C0 without newline and tab, DEL, C1, bidirectional overrides and isolates, line and
# paragraph separators, zero-width marks, and surrogates (bytes of a name not in UTF-8).
_DANGEROUS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def harmless(text: str) -> str:
    """``text`` with everything a terminal would act on spelled out, such as ``\\x1b``."""
    return _DANGEROUS.sub(_spelled, text)


def one_line(text: str) -> str:
    """``harmless`` and on one line: for table cells and names."""
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")


def is_text(word: str) -> bool:
    """Whether a word of the command line is text that JSON and programs can hold.

    Bytes that are not UTF-8 arrive as surrogates, and NUL ends what a program is given.
    """
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in word)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: the byte the name really has
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
