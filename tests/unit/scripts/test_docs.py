"""The generated pages say what the code says."""

import pytest

from codeferry_cli.options.config import KEYS
from scripts.docs import DOCS, _parameters, pages


@pytest.fixture(scope="module")
def written():
    return pages()


def test_the_pages_are_what_their_sources_make_of_them(written):
    """Else run `make docs`."""
    assert [n for n, text in written.items() if (DOCS / n).read_text() != text] == []


def test_every_key_has_an_option_and_every_variable_is_named(written):
    """Nothing that can be set is missing from the page of what can be set."""
    page = written["configuration.md"]
    assert [key for key in KEYS if f"| `{key}` |" not in page and key != "expect"] == []
    assert "| `expect.files` |" in page
    variables = [str(p.envvar) for _, p in _parameters() if isinstance(p.envvar, str)]
    assert len(variables) > 20
    assert [name for name in variables if f"`{name}`" not in page] == []
