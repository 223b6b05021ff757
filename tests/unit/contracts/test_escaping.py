"""Nothing from elsewhere moves the terminal, or is there without being seen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_contracts.escaping import as_drawn, coloured, harmless, one_line

# Signs that precede numbers and words in Arabic, Syriac and Kaithi, and the layout of hieroglyphs:
# format characters that are seen (Unicode's Prepended_Concatenation_Mark, and a block).
SEEN = {
    *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD,
    *range(0x13430, 0x13440),
}  # fmt: skip
# Letters, signs and marks that look like nothing.
BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180d\u180f\u2800\u3164\uffa0\U000e0100"


def test_no_character_that_acts_or_hides_is_left() -> None:
    """Of all there are, those of Unicode's controls, formats, separators and surrogates are
    spelled out, and what else looks like nothing."""
    hidden = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp") and code not in SEEN
    ]
    left = [ascii(c) for c in (*hidden, *BLANK, "\ufffe", "\uffff") if c in harmless(c)]
    assert left == [ascii("\t"), ascii("\n")]


@given(
    st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters=BLANK))
)
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    """Letters, digits, marks and markup-like brackets of any script are not touched."""
    assert harmless(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("over\rwritten", "over\\x0dwritten"),
        ("\x9b2J", "\\x9b2J"),
        ("abc\u202egpj.exe", "abc\\u202egpj.exe"),
        ("\u061c\xad\u2060", "\\u061c\\xad\\u2060"),
        ("tag\U000e0041\U000e0042", "tag\\U000e0041\\U000e0042"),
        ("\u2764\ufe0f", "\u2764\ufe0f"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
    ],
)
def test_what_a_terminal_acts_on_is_escaped(text: str, shown: str) -> None:
    """Escape sequences, returns, direction overrides and odd bytes become visible."""
    assert harmless(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[m plain", "\x1b[31mred\x1b[0m plain\x1b[0m"),
        ("\x1b[1;38;5;208mnew", "\x1b[1;38;5;208mnew\x1b[0m"),
        ("\x1b[38;2;1;2;3mx", "\x1b[38;2;1;2;3mx\x1b[0m"),
        ("\x1b[8mhidden", "hidden\x1b[0m"),
        ("\x1b[30;40mhidden", "\x1b[30mhidden\x1b[0m"),
        ("\x1b[7;48;5;1mx", "x\x1b[0m"),
        ("\x1b[2J\x1b]0;title\x07\x1b[1A", "\\x1b[2J\\x1b]0;title\\x07\\x1b[1A"),
        ("no colour", "no colour"),
    ],
)
def test_colours_pass_and_nothing_else_does(text: str, shown: str) -> None:
    """Not what hides text, moves the cursor, or colours what comes after."""
    assert coloured(text) == shown


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("10 %\r20 %\r30 %", "30 %"),
        ("\r10 %\r20 %\r", "20 %"),
        ("windows\r\nlines\r\n", "windows\nlines\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2K", "\x1b[2K"),
    ],
)
def test_of_what_is_drawn_over_only_the_last_stays(text: str, left: str) -> None:
    """As a terminal would have left it."""
    assert as_drawn(text) == left


def test_a_cell_stays_on_its_line() -> None:
    """A newline in a name cannot forge a row."""
    assert one_line("a\nb\tc") == "a\\nb\\tc"
