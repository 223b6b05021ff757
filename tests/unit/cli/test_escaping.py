"""Nothing from elsewhere moves the terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_cli.escaping import harmless, one_line


@given(st.text())
def test_no_control_character_is_left_but_newline_and_tab(text: str) -> None:
    """Whatever an instance prints, only characters without effect remain."""
    left = [
        c for c in harmless(text) if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"
    ]
    assert left == []


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"])))
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
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
    ],
)
def test_what_a_terminal_acts_on_is_spelled_out(text: str, shown: str) -> None:
    """Escape sequences, returns, direction overrides and odd bytes become visible."""
    assert harmless(text) == shown


def test_a_cell_stays_on_its_line() -> None:
    """A newline in a name cannot forge a row."""
    assert one_line("a\nb\tc") == "a\\nb\\tc"
