"""Variables and account of a command, and the users who see its variables."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from codeferry_agent.run.command.variables import parse_variables
from codeferry_agent.run.errors import RunFailed
from codeferry_agent.run.release.project import locked
from tests.unit.agent.commands import (
    MARK,
    Machine,
    Outcome,
    machine,
    open_to_all,
    processes_with,
    wait_until,
)
from tests.unit.agent.conftest import Instance, Store

PASSWORD = f"correct-horse-{MARK}-battery-staple"
SHOW = "tr '\\0' '\\n' </proc/self/environ"


@pytest.fixture
def here(instance: Instance) -> Machine:
    return machine(instance)


def _run_with(here: Machine, variables: Any, script: str, **changes: Any) -> Outcome:
    here.store.variables = json.dumps(variables).encode()
    return here.sh(script, environment=True, **changes)


def _seen(outcome: Outcome) -> dict[str, str]:
    return dict(line.split("=", 1) for line in outcome.output.decode().splitlines() if "=" in line)


def test_the_environment_is_clean(here: Machine) -> None:
    """Nothing of the agent's but PATH, language, temporary directory and region."""
    here.environ |= {"TMPDIR": "/var/tmp", "AWS_SSM_REGION_NAME": "eu-west-1", "AWS_TOKEN": "x"}
    seen = _seen(here.sh(SHOW))
    assert set(seen) - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "PYTHONUNBUFFERED"),
        *("AWS_REGION", "AWS_DEFAULT_REGION"),
        *("CODEFERRY_ROOT", "CODEFERRY_RUN_ID", "CODEFERRY_PROJECT"),
    }
    assert seen["AWS_REGION"] == "eu-west-1"
    assert seen["TMPDIR"] == "/var/tmp"
    assert (seen["CODEFERRY_RUN_ID"], seen["CODEFERRY_PROJECT"]) == ("run-1", "demo")
    assert "/usr/bin" in seen["PATH"].split(":")


def test_a_command_has_no_input_and_files_of_its_own_only(here: Machine) -> None:
    """Standard input is empty, both outputs are one pipe, nothing else is open."""
    script = here.root / "rest-of-the-script"  # what Run Command's shell reads from
    script.write_text("reboot\n")
    with script.open() as rest:
        here.stdin = rest.fileno()
        outcome = here.sh("cat; ls -l /proc/self/fd")
    lines = [line.split()[-3:] for line in outcome.output.decode().splitlines()[1:]]
    targets = {line[0]: line[2] for line in lines}
    assert targets.pop("0") == "/dev/null"
    assert targets.pop("1") == targets.pop("2")
    assert len(targets) == 1  # the directory that ls reads


def test_a_command_leads_a_session_of_its_own(here: Machine) -> None:
    """It has no terminal, and its files are readable for others, as one is used to."""
    outcome = here.sh("umask; cut -d' ' -f1,5,6 /proc/$$/stat; echo $$")
    mask, ids, pid = outcome.output.decode().split("\n")[:3]
    assert mask == "0022"
    assert ids.split() == [pid, pid, pid]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_command_runs_as_the_owner_of_the_tree(store: Store) -> None:
    """User, groups and home directory are the owner's, nothing of root's remains."""
    script = "id -un; id -Gn; echo $HOME $USER; touch new && touch /etc/codeferry-test"
    with open_to_all(store) as there:
        outcome = there.sh(script, user="nobody")
        assert (there.current / "new").exists()
    expected = subprocess.run(["id", "-Gn", "nobody"], capture_output=True, text=True, check=True)
    name, groups, home = outcome.output.decode().splitlines()[:3]
    assert name == "nobody"
    assert groups == expected.stdout.strip()
    assert home.endswith(" nobody")
    assert not Path("/etc/codeferry-test").exists()
    assert outcome.exit == 1


def test_the_runs_own_variables_are_over_all_others(any_python: Instance) -> None:
    """Names and values arrive as they are, and win."""
    there = machine(any_python)
    own = {"PATH": "/usr/bin:/bin", "_x9": " $HOME `id` 'é\U0001f4a5\n", "EMPTY": "", "USER": "me"}
    outcome = _run_with(there, own, "env -0")
    seen = dict(each.split("=", 1) for each in outcome.output.decode().split("\0") if each)
    assert own.items() <= seen.items()


@pytest.mark.parametrize(
    "variables",
    [[], "text", {"a b": ""}, {"1A": ""}, {"A=": "x"}, {"": "x"}, {"A": 1}, {"A": None},
     {"A": "nul\0"}, {"A": "\ud800"}, {"A\n": "x"}, {"A": "x" * 262_144}],
)  # fmt: skip
def test_variables_that_cannot_be_are_refused_without_quoting_them(variables: Any) -> None:
    """Names are those of a shell, values any text without NUL, all of it 256 KB."""
    with pytest.raises(RunFailed, match="not as agreed") as raised:
        parse_variables(json.dumps(variables).encode())
    assert raised.value.code == "environment_invalid"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_variables_that_are_no_json_are_refused(content: bytes) -> None:
    """Whatever lies there, it is an answer with a code."""
    with pytest.raises(RunFailed, match="not as agreed"):
        parse_variables(content)


def test_variables_that_cannot_be_had_end_the_run_before_its_command(here: Machine) -> None:
    """A refusal of S3 is told by its status; nothing was downloaded, and no release changed."""
    here.store.refusals = [403]
    outcome = _run_with(here, {"A": "1"}, "echo started")
    error = outcome.first.error
    assert error is not None
    assert error["code"] == "environment_unavailable"
    assert "HTTP 403" in error["message"]
    assert (outcome.exit, outcome.output, here.store.ranges) == (1, b"", [])
    assert not here.current.exists()


def test_variables_come_before_the_lock_and_the_archive(here: Machine) -> None:
    """Their URL lives for little longer than the delivery: nothing is waited for before."""
    here.settle()
    here.store.variables = b'{"A": "1"}'
    here.store.give = threading.Event()
    payload = here.command("/bin/sh", "-c", "echo $A", environment=True)
    front = here.start(payload)
    assert here.store.asked.wait(60)
    with locked(here.project / ".lock", "run-0", 5):  # nobody holds it yet
        here.store.give.set()
        wait_until(lambda: here.store.sent)
        assert here.store.ranges == []
    assert here.wait(front, payload).output == b"1\n"


def test_who_answers_from_its_record_needs_no_variables(here: Machine) -> None:
    """SSM may deliver twice; by then the variables may be gone."""
    here.store.variables = b'{"A": "1"}'
    payload = here.command("/bin/sh", "-c", "echo $A", environment=True)
    assert here.steps(payload).exit == 0
    here.store.refusals = [404]
    again = here.steps(payload)
    assert (again.exit, again.last.replayed) == (0, True)


@pytest.mark.parametrize("workflow", ["sync", "script"])
def test_an_ssm_agent_that_does_not_know_env_var_is_named(
    instance: Instance, workflow: str
) -> None:
    """It leaves the parameter unset: its only other way would be the script, which it logs."""
    there = machine(instance, workflow)
    payload = there.command("f", environment=True)
    answer = there.wait(there.start(payload, SSM_environmentUrl=""), payload)
    error = answer.first.error
    assert error is not None
    assert (error["code"], answer.output) == ("agent_outdated", b"")
    assert "3.3.2746.0" in error["message"]
    assert "AWS-UpdateSSMAgent" in error["hint"]


def test_variables_are_asked_for_again_when_s3_is_busy(here: Machine) -> None:
    """A 503 or two is no reason to fail."""
    here.store.refusals = [503, 500]
    assert _run_with(here, {"A": "1"}, "echo $A").output == b"1\n"


def test_a_cancel_does_not_wait_for_s3(here: Machine) -> None:
    """While the variables are on their way the run can be cancelled at once."""
    payload = here.command("echo", "started", environment=True)
    here.store.give = threading.Event()
    front = here.start(payload)
    assert here.store.asked.wait(60)
    front.send_signal(signal.SIGTERM)
    outcome = here.wait(front, payload)
    assert outcome.first.error is not None
    assert (outcome.first.error["code"], outcome.output) == ("cancelled", b"")


def test_a_secret_is_seen_by_nobody_but_the_command(here: Machine) -> None:
    """Not in a file below the root, not in any output of ours, not in any argument or
    environment but the command's own: not even while it runs."""
    gate = here.root / "gate"
    os.mkfifo(gate)
    gate.chmod(0o666)
    here.store.variables = json.dumps({"PASSWORD": PASSWORD}).encode()
    script = f"read go <{gate}; exit 1"
    payload = here.command("/bin/sh", "-c", script, environment=True)
    here.fresh = True
    front = here.start(payload)
    (command,) = wait_until(lambda: processes_with(PASSWORD))
    assert b"PASSWORD=" in Path(f"/proc/{command}/environ").read_bytes()
    assert not _files_with(here.root, PASSWORD)
    ps = subprocess.run(["ps", "-eo", "args", "ww"], capture_output=True, text=True, check=True)
    assert str(gate) in ps.stdout
    assert "variables.json" not in ps.stdout
    gate.write_text("\n")
    outcome = here.wait(front, payload)
    assert outcome.exit == 1
    assert PASSWORD not in outcome.out.decode() + outcome.err + outcome.said
    assert not _files_with(here.root, PASSWORD)
    assert not _files_with(here.root, "variables.json")  # nor whom to ask for them


def _files_with(root: Path, text: str) -> list[Path]:
    found = subprocess.run(
        ["grep", "-rlaF", "--devices=skip", text, str(root)], capture_output=True, text=True
    )
    assert found.returncode in (0, 1)
    return [Path(line) for line in found.stdout.splitlines()]
