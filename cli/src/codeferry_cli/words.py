"""What a word of the command line is."""

from __future__ import annotations


def is_text(word: str) -> bool:
    """Whether it is text that JSON and programs can hold.

    Bytes that are not UTF-8 arrive as surrogates, and NUL ends what a program is given.
    """
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in word)
