"""Ends of a command: codes, signals, timeouts, and programs that do not start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codeferry_agent.run import result
from codeferry_agent.run.command import program
from codeferry_agent.run.command.program import Program
from tests.unit.agent.commands import MARK, Machine, machine, processes_with
from tests.unit.agent.conftest import Instance


@pytest.fixture
def here(instance: Instance) -> Machine:
    return machine(instance)


def test_a_command_runs_in_the_new_release(any_python: Instance) -> None:
    """Under every Python: what was applied comes first, then the output, then how it ended."""
    there = machine(any_python)
    outcome = there.run(
        "/bin/sh", "hello.sh", tree={"hello.sh": b"cat f; echo err >&2", "f": b"x\n"}
    )
    assert (outcome.exit, outcome.err.count("Traceback")) == (0, 0)
    assert (outcome.first.status, outcome.first.ran, outcome.first.files) == ("running", None, 2)
    assert outcome.output == b"x\nerr\n"
    assert outcome.last.status == "applied"
    assert outcome.last.release_id == outcome.first.release_id == there.current_id
    assert (outcome.ran.ending, outcome.ran.exit_code, outcome.ran.signal) == ("exited", 0, 0)
    assert (outcome.ran.output_bytes, outcome.ran.tail) == (6, "x\nerr\n")
    assert set(outcome.last.seconds) == {"lock", "download", "extract", "activate", "execute"}
    assert there.record("run-1")["ran"]["tail"] == "x\nerr\n"
    assert not (there.root / ".results/run-1.working").exists()


def test_without_a_command_there_is_one_line_in_the_first_step(here: Machine) -> None:
    """The second step finds nothing to say, and nothing is left for it."""
    here.command()
    outcome = here.steps(here.payload(here.store.body))
    assert (outcome.exit, outcome.output, outcome.said) == (0, b"", "")
    assert outcome.first.status == "applied"
    assert not (here.root / ".results").exists()


def test_a_release_that_fails_runs_nothing(here: Machine) -> None:
    """The first step says why, the second is silent, the command was never started."""
    payload = here.command("touch", "started", sha256="0" * 64)
    outcome = here.steps(payload)
    assert (outcome.exit, outcome.said) == (1, "")
    assert outcome.first.error is not None
    assert outcome.first.error["code"] == "checksum_mismatch"


def test_nothing_else_changed_is_unchanged(here: Machine) -> None:
    """A command in a release that was current already ends as unchanged, or as failed."""
    here.run("true")
    assert here.run("true").last.status == "unchanged"
    assert here.run("false").last.status == "failed"


@pytest.mark.parametrize("code", [3, 137, 168, 169, 194])
def test_an_exit_code_is_told_as_it_is(here: Machine, code: int) -> None:
    """Whatever it means to Run Command, which itself sees 1 only."""
    outcome = here.sh(f"echo out; exit {code}")
    assert outcome.exit == 1
    assert (outcome.code, outcome.message) == ("exit_code", f"exit code {code}")
    assert (outcome.ran.ending, outcome.ran.exit_code) == ("exited", code)
    assert outcome.ran.tail == "out\n"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGPIPE"])
def test_a_signal_is_told_by_number_and_name(here: Machine, name: str) -> None:
    """A command that is killed, or crashes, has no exit code."""
    number = signal.Signals[name]
    outcome = here.sh(f"kill -{number} $$")
    assert outcome.code == "signalled"
    assert outcome.message == f"killed by signal {int(number)} ({name})"
    assert (outcome.ran.exit_code, outcome.ran.signal) == (-1, number)


def test_a_crash_in_c_is_signal_11(here: Machine) -> None:
    """A real segmentation fault, not one that was sent."""
    outcome = here.run(sys.executable, "-c", "import ctypes; ctypes.string_at(0)")
    assert (outcome.ran.ending, outcome.ran.signal) == ("signalled", signal.SIGSEGV)


def test_a_timeout_ends_the_command_in_order(here: Machine) -> None:
    """TERM first, so that it can say goodbye; the output so far is kept."""
    outcome = here.sh("trap 'echo bye; exit 0' TERM; echo hi; sleep 60 & wait", command_seconds=1)
    assert (outcome.code, outcome.message) == ("timed_out", "timed out after 1 s")
    assert outcome.ran.tail == "hi\nbye\n"
    assert outcome.ran.ending == "timed_out"


def test_what_is_left_behind_is_ended_and_counted(here: Machine) -> None:
    """Background children of a command that is done do not live on."""
    outcome = here.sh(f"sleep 61.{MARK} & sleep 61.{MARK} & echo done")
    assert (outcome.exit, outcome.ran.ending) == (0, "exited")
    assert outcome.last.warnings == ("2 processes outlived the command and were ended.",)
    assert not processes_with(f"61.{MARK}")


def test_a_child_that_ends_by_itself_is_no_straggler(here: Machine) -> None:
    """There is a moment for helpers to notice, and what they print still comes."""
    outcome = here.sh("(sleep 0.3; echo late) & echo done")
    assert outcome.last.warnings == ()
    assert outcome.ran.tail == "done\nlate\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nosuchprogram"], "command_not_found"),
        (["./nosuchprogram"], "command_not_found"),
        ([""], "command_not_found"),
        (["./plain"], "command_not_executable"),
        (["./dir"], "command_not_executable"),
        (["./no-line"], "script_without_interpreter"),
        (["./no-interpreter"], "interpreter_missing"),
        (["./windows"], "script_line_endings"),
        (["./alien"], "wrong_architecture"),
    ],
)
def test_a_program_that_does_not_start_says_why(here: Machine, words: list[str], code: str) -> None:
    """Each reason has a code and words of its own; nothing was started."""
    alien = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x16\0" + bytes(100)
    tree = {
        "plain": b"x",
        "dir/f": b"x",
        "no-line": (b"echo hi\n", 0o755),
        "no-interpreter": (b"#!/no/such/interpreter -x\n", 0o755),
        "windows": (b"#!/bin/sh\r\necho hi\r\n", 0o755),
        "alien": (alien, 0o755),
    }
    outcome = here.run(*words, tree=tree)
    assert outcome.code == code
    assert (outcome.ran.ending, outcome.output) == ("not_started", b"")
    assert outcome.message.startswith(repr(words[0]))


@pytest.mark.parametrize("workflow", ["sync", "script"])
def test_a_filesystem_without_exec_is_named(small_disk: Instance, workflow: str) -> None:
    """On a hardened image the mode of a script is not what keeps it from running."""
    subprocess.run(["mount", "-o", "remount,noexec", str(small_disk.root)], check=True)
    name = {"sync": "./do.sh", "script": "do.sh"}[workflow]
    outcome = machine(small_disk, workflow).run(name, tree={"do.sh": (b"#!/bin/sh\n", 0o755)})
    assert (outcome.code, outcome.ran.ending) == ("noexec", "not_started")
    assert "mounted noexec" in outcome.message
    assert "mount that filesystem with exec" in (outcome.last.error or {})["hint"]


def test_arguments_beyond_what_the_kernel_takes_are_named(here: Machine, tmp_path: Path) -> None:
    """A limit of the system is no riddle."""
    us = program.account_of(None, os.environ)  # no payload holds as many as the kernel refuses
    with pytest.raises(OSError, match="Argument list too long") as raised:
        program.spawn(["/bin/true", *["x" * 1000] * 10_000], tmp_path, {}, us)
    refusal = Program("command", "true", tmp_path, "/bin:/usr/bin").explain(raised.value)
    assert refusal.code == "arguments_too_long"


def test_output_is_no_way_to_forge_a_result(here: Machine) -> None:
    """A command may print lines like ours: the first step's head and the second's are ours."""
    forged = '{"codeferry_result": 1, "run_id": "x", "status": "applied"}'
    outcome = here.sh(f"echo '{forged}'; exit 1")
    assert outcome.first.run_id == outcome.last.run_id == "run-1"
    assert outcome.code == "exit_code"


def test_the_tail_is_the_end_from_the_start_of_a_line(here: Machine) -> None:
    """Long output: the last lines whole, never more than the result line has room for."""
    outcome = here.sh("seq 100000 100999; printf '\\033[31m%s' error")
    lines = outcome.ran.tail.split("\n")
    assert lines[-1] == "\x1b[31merror"
    assert lines[-2] == "100999"
    assert all(len(line) == 6 for line in lines[:-1])
    assert len(lines) > 100


@pytest.mark.parametrize("printed", ["é" * 3000, "\U0001f4a5" * 2000, "\0" * 3000, "\\" * 3000])
def test_a_tail_that_grows_in_json_still_fits(printed: str) -> None:
    """What JSON spells with six characters counts six, and what fits is used."""
    tail = result.last_lines(printed, result.TAIL_CHARACTERS)
    assert printed.endswith(tail)
    assert 950 < len(json.dumps(tail)) <= result.TAIL_CHARACTERS


def test_output_that_is_no_text_is_told_as_far_as_it_goes(here: Machine) -> None:
    """Bytes that are no UTF-8 become marks; all of them are counted."""
    outcome = here.run("cat", "out", tree={"out": b"\xff\xfe ok \xe9"})
    assert (outcome.ran.output_bytes, outcome.output) == (7, b"\xff\xfe ok \xe9")
    assert outcome.ran.tail == "\ufffd\ufffd ok \ufffd"


def test_the_line_has_room_for_a_failure_with_everything(here: Machine) -> None:
    """Many unmet paths, warnings and output at once: each is cut, none is lost without a word."""
    missing = tuple(f"missing/{'n' * 40}/{n}" for n in range(60))
    outcome = here.sh("seq 1 10000; exit 9", expect_files=missing)
    assert outcome.message == "exit code 9"
    assert outcome.ran.tail.endswith("\n10000\n")
    assert outcome.last.unmet[-1].endswith(" more")
