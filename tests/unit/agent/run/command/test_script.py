"""Scripts: their directory, their files, their own failures, and that nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.archives import Tree
from tests.unit.agent.commands import (
    Machine,
    Outcome,
    kill_with_supervisor,
    machine,
    open_to_all,
    wait_until,
)
from tests.unit.agent.conftest import Instance, Store


@pytest.fixture
def here(instance: Instance) -> Machine:
    return machine(instance, "script")


def script(text: str, mode: int = 0o755) -> Tree:
    return {"do.sh": (text.encode(), mode)}


def _run(here: Machine, text: str, *arguments: str, **changes: Any) -> Outcome:
    return here.run("do.sh", *arguments, tree=script(f"#!/bin/sh\n{text}\n"), **changes)


def _left(here: Machine) -> list[Path]:
    return list((here.root / ".scripts/work").iterdir())


def test_a_script_runs_with_its_files_and_leaves_nothing(any_python: Instance) -> None:
    """Under every Python: its own private directory, modes kept, all of it removed."""
    there = machine(any_python, "script")
    text = (
        '#!/bin/sh\npwd; stat -c %a:%n . $DEPLOY_FILES_DIR/tool; $DEPLOY_FILES_DIR/tool "$@"\n'
        "touch new; echo $0"
    )
    tree = {**script(text), "files/tool": (b'#!/bin/sh\nprintf "<%s>\\n" "$@"\n', 0o750)}
    outcome = there.run("do.sh", "a b", "", "$x", tree=tree)
    place = there.root / ".scripts/work/run-1/tree"
    assert outcome.output.decode().splitlines() == [
        *(str(place), "700:.", f"750:{place}/files/tool"),
        *("<a b>", "<>", "<$x>", str(place / "do.sh")),
    ]
    assert (outcome.exit, outcome.last.status, outcome.first.status) == (0, "ran", "running")
    assert (outcome.last.files, outcome.last.release_id) == (2, "")
    assert set(outcome.last.seconds) == {"lock", "download", "extract", "execute"}
    assert _left(there) == []
    assert not there.project.exists()


def test_without_files_there_is_no_directory_of_them(here: Machine) -> None:
    """DEPLOY_FILES_DIR is unset, not empty."""
    assert _run(here, 'echo "${DEPLOY_FILES_DIR-unset}"').output == b"unset\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_script_runs_as_the_user_asked_for(store: Store) -> None:
    """Directory and process are that user's."""
    with open_to_all(store, "script") as there:
        outcome = _run(there, "id -un; stat -c %U .; touch new; ls", user="nobody")
    assert outcome.output == b"nobody\nnobody\ndo.sh\nnew\n"


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [
        ("#!/bin/sh\n", 0o644, "script_not_executable"),
        ("echo hi\n", 0o755, "script_without_interpreter"),
        ("", 0o755, "script_without_interpreter"),
        ("#!/no/such/python3 -u\n", 0o755, "interpreter_missing"),
        ("#!/usr/bin/env nosuchpython\n", 0o755, "interpreter_missing"),
        ("#! /usr/bin/env -S nosuchpython -u\n", 0o755, "interpreter_missing"),
        ("#!\n", 0o755, "interpreter_missing"),
        ("#!/bin/sh\r\necho hi\r\n", 0o755, "script_line_endings"),
        ("#!/usr/bin/env python3\r\n", 0o755, "script_line_endings"),
    ],
)
def test_a_script_that_cannot_run_says_why(
    here: Machine, content: str, mode: int, code: str
) -> None:
    """Each fault has a code and words of its own, and nothing stays of it either."""
    outcome = here.run("do.sh", tree=script(content, mode))
    assert (outcome.code, outcome.ran.ending) == (code, "not_started")
    assert outcome.message.startswith("'do.sh' ")
    assert _left(here) == []


def test_a_script_that_is_not_there_is_named(here: Machine) -> None:
    """The archive holds another one."""
    outcome = here.run("other.sh", tree=script("#!/bin/sh\n"))
    assert outcome.code == "script_missing"
    assert "'other.sh' is not in the archive" in outcome.message


@pytest.mark.parametrize("words", [(), ("/bin/sh",), ("../x",), ("",)])
def test_a_script_outside_the_archive_is_refused(here: Machine, words: tuple[str, ...]) -> None:
    """Before anything is downloaded."""
    outcome = here.run(*words)
    assert outcome.first.error is not None
    assert outcome.first.error["code"] == "payload_invalid"
    assert here.store.ranges == []


def test_a_damaged_archive_of_a_script_is_refused(here: Machine) -> None:
    """As a release's would be, and its run may come again."""
    payload = here.command("do.sh", tree=script("#!/bin/sh\n"), digest="0" * 64)
    outcome = here.steps(payload)
    assert outcome.first.error is not None
    assert outcome.first.error["code"] == "digest_mismatch"
    assert _left(here) == []


@pytest.mark.parametrize("outcome", ["exit 3", "kill -9 $$", "sleep 60"])
def test_nothing_stays_of_a_script_that_fails(here: Machine, outcome: str) -> None:
    """Code, signal or timeout; nor of directories that it made hard to remove."""
    text = f"mkdir -p a/b; touch a/b/c; chmod 0 a/b a; {outcome}"
    ended = _run(here, text, command_seconds=1)
    assert ended.exit == 1
    assert ended.ran.ending == {"e": "exited", "k": "signalled", "s": "timed_out"}[outcome[0]]
    assert _left(here) == []


def test_scripts_of_different_runs_run_side_by_side(here: Machine) -> None:
    """One does not wait for the other, nor tidy it away."""
    gate = here.root / "gate"
    os.mkfifo(gate)
    gate.chmod(0o666)
    slow = here.command("do.sh", tree=script(f"#!/bin/sh\nread go <{gate}; ls\n"))
    front = _started(here, slow)
    assert _run(here, "echo quick").output == b"quick\n"
    gate.write_text("\n")
    assert here.wait(front, slow).output == b"do.sh\n"


def _started(here: Machine, payload: Any) -> subprocess.Popen[bytes]:
    """A front whose supervisor is at work, and the store free for another archive."""
    front = here.start(payload)
    wait_until((here.root / f".results/{payload.run_id}.working").read_text)
    return front


def test_a_script_runs_once(here: Machine) -> None:
    """A redelivery gets the recorded answer, also while the script is at work."""
    gate, count = here.root / "gate", here.root / "count"
    os.mkfifo(gate)
    count.touch()
    for path in (gate, count):
        path.chmod(0o666)
    text = f"#!/bin/sh\necho x >>{count}; read go <{gate}; exit 2\n"
    payload = here.command("do.sh", tree=script(text))
    first, second = _started(here, payload), here.start(payload)
    wait_until(lambda: "place" in _waiting(second))
    gate.write_text("\n")
    outcomes = [here.wait(each, payload) for each in (first, second)]
    outcomes.append(here.steps(payload))
    assert [outcome.code for outcome in outcomes] == ["exit_code"] * 3
    assert [outcome.first.replayed for outcome in outcomes] == [False, True, True]
    assert count.read_text() == "x\n"
    assert _left(here) == []


def _waiting(process: subprocess.Popen[bytes]) -> str:
    """Whether a process waits for the run's directory, which it then has open."""
    links = [path.readlink() for path in Path(f"/proc/{process.pid}/fd").iterdir()]
    return "place" if any(link.parent.name == "work" for link in links) else ""


def test_the_leftovers_of_a_killed_script_go_with_the_next(here: Machine) -> None:
    """Front and supervisor killed: its files and processes are ended by any later script."""
    text = "#!/bin/sh\ntrap '' TERM\n(sleep 62; true) & touch there; wait\n"
    payload = here.command("do.sh", tree=script(text))
    front = _started(here, payload)
    wait_until((here.root / ".scripts/work/run-1/tree/there").exists)
    kill_with_supervisor(front)
    assert [path.name for path in _left(here)] == ["run-1"]
    assert _run(here, "true").exit == 0
    assert _left(here) == []
    again = here.steps(payload)
    assert (again.code, again.ran.ending) == ("interrupted", "interrupted")
    assert _left(here) == []


def test_a_script_killed_with_its_front_is_cleaned_up_by_its_supervisor(here: Machine) -> None:
    """The process group is gone, as by Run Command's own timeout; the directory too."""
    payload = here.command("do.sh", tree=script("#!/bin/sh\necho hi; sleep 60\n"))
    front = _started(here, payload)
    os.killpg(front.pid, signal.SIGKILL)
    assert here.wait(front, payload).ran.ending == "interrupted"
    wait_until(lambda: not _left(here))


def test_a_program_can_be_a_script(here: Machine) -> None:
    """A binary in the archive needs no #! line."""
    tree = {"do": (Path("/bin/echo").resolve().read_bytes(), 0o755)}
    assert here.run("do", "hi", tree=tree).output == b"hi\n"


def test_python_tracebacks_are_in_the_tail(here: Machine) -> None:
    """What one needs to know of a failed script is at its end."""
    tree = {"do.py": (f"#!{sys.executable}\nprint('x' * 5000)\n1 / 0\n".encode(), 0o755)}
    outcome = here.run("do.py", tree=tree)
    assert outcome.ran.tail.endswith("ZeroDivisionError: division by zero\n")
