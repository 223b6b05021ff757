"""The table of commands: help, synonyms, extensions of other packages."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from typing import Any

import click
import pytest

from codeferry_cli.commands import command as ferry_command_module
from codeferry_cli.commands import group
from codeferry_cli.commands.group import COMMANDS
from codeferry_cli.commands.group import ferry as ferry_group

OURS = [name for name, listed in COMMANDS.items() if listed.module]


@pytest.fixture
def no_extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without codeferry-local."""
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: ())


def loaded(name: str) -> click.Command:
    command = ferry_group.get_command(click.Context(ferry_group), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", OURS)
def test_every_command_has_examples(ferry: Any, name: str) -> None:
    """Help shows how the command is typed, each example a line of its own."""
    answer = ferry(name, "--help")
    assert answer.exit == 0
    examples = answer.out.partition("Examples:")[2].partition("Options:")[0]
    lines = [line for line in examples.splitlines() if line.strip()]
    assert lines
    assert all("ferry" in line for line in lines)


@pytest.mark.parametrize("name", OURS)
def test_the_list_says_of_a_command_what_it_says_of_itself(name: str) -> None:
    """The summaries that --help shows without loading anything are the commands' own."""
    assert loaded(name).short_help == COMMANDS[name].summary


@pytest.mark.parametrize("name", OURS)
def test_every_option_is_explained(name: str) -> None:
    """No option without help, but a limit or a version that says it all."""
    options = [p for p in loaded(name).params if isinstance(p, click.Option)]
    assert [o.name for o in options if not o.help and o.name != "limit"] == []


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in ("push", "run", "logs", "runs"))]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """No AWS library, no rich: that is what makes it answer at once."""
    code = (
        "import sys; from codeferry_cli.main import run; run(sys.argv[1:]);"
        "print(sorted({'boto3', 'botocore', 'rich', 'platformdirs'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_of_the_group_loads_no_command() -> None:
    """Not even our own: the list is a table."""
    code = (
        "import sys; from codeferry_cli.main import run; run(['--help']);"
        "print([m for m in sys.modules if m in ('codeferry_cli.packing', 'tomllib')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["demo", "local"])
def test_commands_of_a_missing_package_say_how_to_get_it(
    ferry: Any, no_extensions: None, name: str
) -> None:
    """Listed all the same; called with anything, exit 3 and the remedy."""
    assert f"  {name} " in ferry("--help").out
    answer = ferry(name, "up", "--instances", "3")
    assert answer.exit == 3
    assert "codeferry-local" in answer.err
    assert "Examples:" in ferry(name, "--help").out


def test_a_package_that_cannot_be_loaded_is_named_with_the_reason(
    ferry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dependency missing from it is a remedy, not a traceback."""

    class Broken:
        def load(self) -> click.Command:
            raise ImportError("No module named 'ministack'")

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: (Broken(),))
    answer = ferry("local", "up")
    assert answer.exit == 3
    assert "No module named 'ministack'" in answer.err


def test_an_extension_is_loaded_by_its_entry_point(
    ferry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the package brings is the command."""

    class Brings:
        def load(self) -> click.Command:
            return click.Command("demo", callback=lambda: click.echo("demonstrated"))

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: (Brings(),))
    assert ferry("demo").out == "demonstrated\n"


def test_a_typo_in_a_command_suggests_the_command(ferry: Any) -> None:
    """The nearest name is offered."""
    assert "Did you mean 'push'?" in ferry("psuh").err


def test_version_is_the_package_version(ferry: Any) -> None:
    """--version names the program and what is installed."""
    version = importlib.metadata.version("codeferry-cli")
    assert ferry("--version").out == f"ferry {version}\n"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ls", "'runs'"),
        ("ps", "'runs'"),
        ("deploy", "'push'"),
        ("kill", "'cancel'"),
        ("statsu", "'status'"),
        ("push t -n", "--dry-run"),
        ("runs -n 3", "--limit"),
        ("run t -q -- x", "--no-output"),
        ("logs latest --tail", "--follow"),
        ("runs --since 1h", "--limit"),
        ("push t --dry-rum", "--dry-run"),
    ],
)
def test_what_other_tools_call_it_is_answered_with_ours(ferry: Any, typed: str, meant: str) -> None:
    """A usage error that says what was meant."""
    answer = ferry(*typed.split())
    assert answer.exit == 2
    assert meant in answer.err.rpartition("No such")[2]


def test_every_synonym_leads_to_something() -> None:
    """Each command and each option there is."""
    assert set(group.SYNONYMS.values()) <= set(COMMANDS)
    assert not set(group.SYNONYMS) & set(COMMANDS)
    options = {name for n in OURS for p in loaded(n).params for name in p.opts + p.secondary_opts}
    unknown = {
        o for meant in ferry_command_module.OPTION_SYNONYMS.values() for o in meant
    } - options
    assert unknown <= {"--yes"}  # of a command that another session adds it to


def test_help_is_also_a_word(ferry: Any) -> None:
    """`ferry help push` is `ferry push --help`, `ferry help` is `ferry --help`."""
    assert ferry("help", "push") == ferry("push", "--help")
    assert ferry("help") == ferry("--help")
    assert ferry("help", "nonsense").exit == 2
