"""The command line as a whole: help, exit codes, --json, extensions, completion."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from codeferry_cli.commands import command as ferry_command_module
from codeferry_cli.commands import group
from codeferry_cli.commands.group import COMMANDS
from codeferry_cli.commands.group import ferry as ferry_group
from codeferry_cli.main import run
from codeferry_cli.terminal import output

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


@pytest.mark.parametrize(
    "arguments",
    [
        ("push", "fleet", "--no-such-option"),
        ("push",),
        ("push", "fleet", ".", "extra"),
        ("nothing",),
        ("push", "fleet", "./nowhere"),
        ("push", "fleet", "--stage", "Not A Stage"),
        ("push", "fleet", "--timeout", "soon"),
        ("runs", "--limit", "0"),
        ("status", "not/a/run"),
        ("completion", "tcsh"),
        ("run", "fleet"),
        ("script", "fleet"),
        ("logs", "not/a/run"),
    ],
)
def test_usage_errors_are_exit_2_also_as_json(ferry: Any, arguments: tuple[str, ...]) -> None:
    """People get the usage line, programs one document with a code."""
    answer = ferry(*arguments)
    assert (answer.exit, answer.out) == (2, "")
    assert answer.err
    asked = ferry(*arguments, "--json")
    assert asked.exit == 2
    assert asked.json()["success"] is False
    assert asked.json()["error"]["code"] == "usage"
    assert asked.json()["error"]["message"]


def test_json_asked_of_another_program_is_not_asked_of_us(ferry: Any) -> None:
    """What stands behind -- belongs to someone else."""
    answer = ferry("push", "--no-such-option", "--", "--json")
    assert (answer.exit, answer.out) == (2, "")


def test_a_typo_in_a_command_suggests_the_command(ferry: Any) -> None:
    """The nearest name is offered."""
    assert "Did you mean 'push'?" in ferry("psuh").err


def test_a_defect_is_named_without_a_traceback_and_with_one_on_request(
    ferry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1 and how to report it; -vv shows where."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the unforeseen")

    monkeypatch.setattr("codeferry_cli.commands.init._write", broken)
    answer = ferry("init")
    assert answer.exit == 1
    assert "Unexpected RuntimeError: the unforeseen" in answer.err
    assert "Traceback" not in answer.err
    assert "Traceback" in ferry("init", "-vv").err


def test_a_file_that_cannot_be_written_is_said_in_words(
    ferry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operating system's reason, exit 1."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "codeferry.toml")

    monkeypatch.setattr("codeferry_cli.commands.init._write", full)
    answer = ferry("init")
    assert answer.exit == 1
    assert "No space left on device: 'codeferry.toml'" in answer.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_the_shell(ferry: Any, shell: str) -> None:
    """The script asks ferry itself."""
    answer = ferry("completion", shell)
    assert answer.exit == 0
    assert f"_FERRY_COMPLETE={shell}_complete" in answer.out


@pytest.mark.parametrize(
    ("words", "offered"), [("ferry pu", "push"), ("ferry push --max", "--max-errors")]
)
def test_completion_offers_commands_and_options(
    ferry_command: str, words: str, offered: str
) -> None:
    """What the shell would get for a word half typed."""
    environment = os.environ | {
        "_FERRY_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run([ferry_command], env=environment, capture_output=True, text=True)
    assert offered in done.stdout


def test_version_is_the_package_version(ferry: Any) -> None:
    """--version names the program and what is installed."""
    version = importlib.metadata.version("codeferry-cli")
    assert ferry("--version").out == f"ferry {version}\n"


def test_a_name_the_locale_cannot_spell_is_printed_escaped(
    ferry_command: str, project: Path
) -> None:
    """A terminal of another century is no reason to fail."""
    (project / "λ.txt").write_text("")
    done = subprocess.run(
        [ferry_command, "pack", str(project), "--list"],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert r"\u03bb.txt" in done.stdout


@pytest.fixture
def following(ferry_command: str, world: Any, project: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that follows a run which does not end."""
    process = subprocess.Popen(
        [ferry_command, "push", "slow", str(project), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_ctrl_c_stops_the_watching_and_not_the_run(
    ferry: Any, following: subprocess.Popen[str]
) -> None:
    """Exit 130, and the answer says that the run goes on and how to stop it."""
    assert following.stderr is not None
    for line in following.stderr:
        if line.startswith("Applying"):
            break
    following.send_signal(signal.SIGINT)
    out, _ = following.communicate(timeout=60)
    document = json.loads(out)
    assert following.returncode == 130
    assert "goes on" in document["error"]["message"]
    assert f"ferry cancel {document['run_id']}" in document["error"]["hint"]
    assert ferry("status", document["run_id"], "--json").json()["status"] == "running"
    ferry("cancel", document["run_id"], "--no-wait")


def test_an_interrupt_anywhere_else_is_exit_130(
    ferry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also as the one document of --json."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("codeferry_cli.commands.init._write", interrupted)
    answer = ferry("init", "--json")
    assert answer.exit == 130
    assert answer.json()["error"]["code"] == "interrupted"


def test_a_terminal_gets_a_live_display(ferry_command: str, world: Any, project: Path) -> None:
    """On a terminal the step at hand is drawn over itself; finished lines stay."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [ferry_command, "push", "partial", str(project)],
        stdout=subprocess.DEVNULL,
        stderr=follower,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"},
    )
    os.close(follower)
    seen = b""
    while chunk := read_terminal(leader):
        seen += chunk
    os.close(leader)
    assert process.wait(60) == 1
    text = seen.decode()
    assert "\x1b[?25l" in text  # the cursor is hidden while something is drawn
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # and shown again
    assert "✓ i-00000000000000001" in text
    assert r"\x1b[31mleft\x1b[0m on the [bold]device[/bold]" in text


def read_terminal(leader: int) -> bytes:
    """What is on the terminal next; empty when its other end is closed."""
    try:
        return os.read(leader, 4096)
    except OSError:
        return b""


def test_who_reads_stdout_may_have_enough(ferry_command: str, world: Any, project: Path) -> None:
    """`| head` ends it quietly, with what a shell says of SIGPIPE."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [ferry_command, "run", "fleet", str(project), "--output", "raw", "--", "prog"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 141
    assert not [line for line in done.stderr.splitlines() if "rror" in line or "Trace" in line]


@pytest.mark.parametrize("words", ["--help", "init --dry-run --json"])
def test_a_full_stdout_is_said_without_a_traceback(ferry_command: str, words: str) -> None:
    """What cannot be written, and why; exit 1."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [ferry_command, *words.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_what_is_still_buffered_at_the_end_has_to_arrive_as_well() -> None:
    """Python would try to write it once more, complain, and end with 120."""
    program = (
        "import sys; from codeferry_cli import main;"
        "main.run = lambda _: sys.stdout.write('x') * 0; main.main()"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True
        )
    said = "Error: stdout cannot be written: No space left on device.\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_closed_streams_are_nothing_to_fail_for(ferry_command: str) -> None:
    """`>&-` is a way to say: not interested."""
    shell = " && ".join(f'"$1" init --dry-run {c}' for c in (">&-", "2>&-", ">&- 2>&-", "<&-"))
    done = subprocess.run(
        ["sh", "-c", shell, "sh", ferry_command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_broken_connection_is_not_taken_for_a_reader_that_has_enough(
    ferry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same error of the operating system means two things."""

    def broken(*_: Any, **__: Any) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("codeferry_cli.commands.init._write", broken)
    answer = ferry("init")
    assert answer.exit == 1
    assert "A connection broke" in answer.err


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


def test_a_place_that_cannot_be_written_to_is_said_with_a_way_out(
    ferry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which file, why, and what to do instead."""

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    answer = ferry("init")
    assert answer.exit == 2
    assert "codeferry.toml cannot be written: Permission denied." in answer.err
    assert "ferry init --dry-run" in answer.err


def test_silence_ends_with_a_word(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long says what it is waiting for; what does not says nothing."""
    monkeypatch.setattr(output, "SILENCE_SECONDS", 0.001)
    said = ""
    with output.notice_when_slow("Contacting AWS…"):
        while not said:
            said = capfd.readouterr().err
    assert said == "Contacting AWS…\n"
    monkeypatch.setattr(output, "SILENCE_SECONDS", 3600)
    with output.notice_when_slow("Contacting AWS…"):
        pass
    assert capfd.readouterr().err == ""


def test_run_gives_the_exit_code_instead_of_ending_the_process() -> None:
    """Programs can call it."""
    assert run(["--version"]) == 0
