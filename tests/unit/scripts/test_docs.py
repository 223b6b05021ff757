"""The generated pages say what the code says."""

import re

import click
import pytest

from codeferry_cli.options.config import KEYS
from scripts.commands_page import commands, rows
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


def test_every_option_of_every_command_is_in_the_reference(written):
    """With its variable and its default, in the command's section or among those of most."""
    title, *sections = written["commands.md"].split("\n## ")
    page = {section.partition("\n")[0]: section for section in sections}
    shared = page.pop("Options of most commands")
    found = dict(commands())
    assert list(page) == list(found)
    assert all(f"- [{name}](#{name.replace(' ', '-')}): " in title for name in found)
    for name, context in found.items():
        for option in context.command.get_params(context):
            if isinstance(option, click.Option) and not option.hidden:
                found_rows = rows_of(option, page[name])
                if not found_rows:
                    found_rows = rows_of(option, shared)
                    said = page[name].partition("(#options-of-most-commands): ")[2]
                    assert option.opts[-1] in said
                (row,) = found_rows
                assert not option.envvar or f"`{option.envvar}`" in row
                shown = option.get_help_extra(context).get("default", "")
                assert shown.strip('()"') in row.split(" | ")[1]
    assert "| output, checkpoints, data | `FERRY_PERSIST` |" in page["ferry push"]


def test_the_reference_does_not_depend_on_what_was_called_before():
    """click keeps the option `--help` of a command that was once called alone."""
    command = click.Command("alone")
    assert command.get_help_option(click.Context(command)).opts == ["--help"]
    called = click.Context(command, help_option_names=["-h", "--help"])
    assert [row.names for row in rows(called)] == ["`-h, --help`"]


def rows_of(option, text):
    """The rows of a section's table that are of this option."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [r for r in lines if set(option.opts) <= set(re.split("[ ,/]+", r.split("`")[1]))]
