"""The command line as a whole: exit codes, --json, streams, signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codeferry_cli.main import run


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


def test_run_gives_the_exit_code_instead_of_ending_the_process() -> None:
    """Programs can call it."""
    assert run(["--version"]) == 0
