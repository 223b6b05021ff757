"""AWS's own agent and documents: ours is measured against this, number by number as in the decision
record 31. A newer agent that behaves otherwise fails here first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.conftest import until

pytestmark = pytest.mark.e2e

# Debian's and Ubuntu's sh: as with them, the words of an ending by a signal are dash's.
dash = pytest.mark.skipif(
    Path("/bin/sh").resolve().name != "dash", reason="the words are those of dash, /bin/sh is not"
)
LEFT = "Further document steps will be skipped."
PRIOR = "Plugin with name aws:runShellScript and id second skipped due to prior step with an exit"


def two(commands, *lines, then=None, **inputs):
    """A step and a second one: both as the agent told of them, and the invocation's status."""
    second = commands.step("echo second", name="second", **(then or {}))
    command_id = commands.send(commands.step(*lines, **inputs), second)
    invocation = commands.ended(command_id)
    details = [commands.details(command_id, name) for name in ("main", "second")]
    outputs = [plugin["Output"] for plugin in invocation["CommandPlugins"]]
    return invocation["StatusDetails"], details, outputs


def ending(details):
    return details["StatusDetails"], details["ResponseCode"]


def test_a_timeout_kills_at_once(commands, tmp_path):
    """1: KILL to the process group; nobody hears a TERM."""
    heard = tmp_path / "heard"
    seen = commands.one(f"trap 'touch {heard}' TERM; sleep 60 & wait", timeoutSeconds="5")
    assert ending(seen) == ("ExecutionTimedOut", 137)
    assert seen["StandardErrorContent"] == ""
    assert not heard.exists()


def test_a_cancel_ends_every_step(commands, tmp_path):
    """2: later steps never start, the last one neither; they are Cancelled with code 1."""
    begun = tmp_path / "begun"
    command_id = commands.send(
        commands.step(f"touch {begun}; sleep 60"),
        commands.step("echo second", name="second"),
        commands.step("echo last", name="last", finallyStep="true"),
    )
    until(begun.exists)
    commands.ssm.cancel_command(CommandId=command_id)
    assert commands.ended(command_id)["StatusDetails"] == "Cancelled"
    seen = [commands.details(command_id, name) for name in ("main", "second", "last")]
    assert [ending(step) for step in seen] == [("Cancelled", code) for code in (137, 1, 1)]
    assert [step["StandardOutputContent"] for step in seen] == ["", "", ""]


def test_failed_outweighs_a_timeout(commands):
    """3: Failed, then TimedOut, then Cancelled."""
    command_id = commands.send(
        commands.step("exit 1"), commands.step("sleep 60", name="second", timeoutSeconds="5")
    )
    assert commands.ended(command_id)["StatusDetails"] == "Failed"
    assert ending(commands.details(command_id, "second")) == ("ExecutionTimedOut", 137)


@dash
def test_a_script_is_the_child_of_a_shell(commands):
    """4: ``sh -c PATH``, which leads the process group; the session is the agent's."""
    seen = commands.one("ps -o pgid=,sid= -p $$; ps -o pid=,args= -p $PPID")
    own, shell = seen["StandardOutputContent"].splitlines()
    group, session = own.split()
    pid, *words = shell.split()
    assert words[:2] == ["sh", "-c"]
    assert words[2].endswith("/main/_script.sh")
    assert group == pid != session


@dash
def test_endings_by_a_signal(commands):
    """5: dash says it; 137 is taken for a timeout."""
    killed = commands.one("kill -9 $$")
    assert ending(killed) == ("ExecutionTimedOut", 137)
    assert killed["StandardErrorContent"] == "Killed\n"
    ended = commands.one("kill -TERM $$")
    assert ending(ended) == ("Failed", 143)
    told = "Terminated\nfailed to run commands: exit status 143"
    assert ended["StandardErrorContent"] == told


def test_a_timeout_with_a_child_elsewhere(commands):
    """6: the group is gone, a child of its own session holds the output: Failed."""
    seen = commands.one("setsid sleep 20 & exit 0", timeoutSeconds="5")
    assert ending(seen) == ("Failed", 1)
    assert seen["StandardErrorContent"] == "failed to run commands: no such process"


def test_the_environment(commands):
    """7: the agent's own, and five variables."""
    seen = commands.one("env")
    names = dict(line.split("=", 1) for line in seen["StandardOutputContent"].splitlines())
    assert {"HOME", "TMPDIR"}.isdisjoint(names)
    assert names["SSM_COMMAND_ID"] == seen["CommandId"]
    assert names["AWS_SSM_INSTANCE_ID"] == commands.instance.instance_id
    assert names["AWS_SSM_REGION_NAME"] == commands.aws.state.region
    assert names["AWS_SSM_PLATFORM_NAME"]
    assert names["AWS_SSM_PLATFORM_VERSION"]


def test_the_working_directory(commands):
    """8: the agent's own; one that is missing fails the step."""
    assert commands.one("pwd")["StandardOutputContent"] == "/usr/bin\n"
    seen = commands.one("pwd", workingDirectory="/no/such/directory")
    assert ending(seen) == ("Failed", 1)
    assert "no such file or directory" in seen["StandardErrorContent"]
    assert commands.one("pwd", workingDirectory="/tmp")["StandardOutputContent"] == "/tmp\n"


@pytest.mark.parametrize(("size", "cut"), [(2_499, False), (2_500, True)])
def test_the_output_of_a_list(commands, size, cut):
    """9: less than 2,500 bytes are whole."""
    invocation = commands.ran(commands.step(f"head -c {size} /dev/zero | tr '\\0' x"))
    output = invocation["CommandPlugins"][0]["Output"]
    mark = "\n---Output truncated---"
    assert output == ("x" * (2_500 - len(mark)) + mark if cut else "x" * size)


def test_the_output_of_one_invocation(commands):
    """10: 24,000 bytes of each, a mark at their end included."""
    seen = commands.one(
        'python3 -c "import sys; print(chr(233) * 20000); print(chr(120) * 30000, file=sys.stderr)"'
    )
    mark = "--output truncated--"
    assert seen["StandardOutputContent"] == "é" * ((24_000 - len(mark)) // 2) + mark
    assert seen["StandardErrorContent"] == "x" * (24_000 - len(mark)) + mark


def test_exit_codes_that_end_a_document(commands):
    """11: 168 keeps its code, loses what it complained, and gets a sentence; so does 169."""
    status, (first, second), (_, listed) = two(commands, "echo out; echo err >&2; exit 168")
    assert (status, ending(first)) == ("Success", ("Success", 168))
    words = "Step exited with code 168. Therefore, marking step as succeeded."
    assert first["StandardOutputContent"] == f"out\n\n{words} {LEFT}"
    assert first["StandardErrorContent"] == ""
    assert (second["ResponseCode"], second["StandardOutputContent"]) == (0, "")
    assert listed.startswith(PRIOR)
    status, (first, _), _ = two(commands, "echo out; echo err >&2; exit 169")
    assert (status, ending(first)) == ("Failed", ("Failed", 169))
    assert first["StandardErrorContent"].startswith(
        "err\nfailed to run commands: exit status 169\nStep exited with code 169."
    )


def test_success_and_exit(commands):
    """12: a failed step that is Success, with the code 168."""
    status, (first, _), (_, listed) = two(commands, "exit 3", onFailure="successAndExit")
    assert (status, ending(first)) == ("Success", ("Success", 168))
    words = f"Step was found to have onFailure property. {LEFT}"
    told = f"failed to run commands: exit status 3\n{words}"
    assert (first["StandardOutputContent"], first["StandardErrorContent"]) == (f"\n{words}", told)
    assert listed.startswith(PRIOR)


def test_what_follows_a_failure_is_said_in_inputs(commands):
    """13: the same words beside them are not read."""
    status, (_, second), _ = two(commands, "exit 3", step={"onFailure": "exit"})
    assert (status, second["StandardOutputContent"]) == ("Failed", "second\n")
    ends = {"onFailure": "exit"}
    beside = {"step": {"finallyStep": True}}
    _, (_, second), _ = two(commands, "exit 3", then=beside, **ends)
    assert second["StandardOutputContent"] == ""
    _, (_, second), _ = two(commands, "exit 3", then={"finallyStep": "true"}, **ends)
    assert second["StandardOutputContent"] == "second\n"


def test_commands_are_a_list_of_texts(commands):
    """14: neither a text nor a list within it; a list as the whole is fine."""
    lines = {"parameters": {"lines": {"type": "StringList"}}, "given": {"lines": ["echo 1"]}}
    for wrong in ("echo hi", ["echo a", "{{ lines }}"]):
        command_id = commands.send(commands.step(runCommand=wrong), **lines)
        commands.ended(command_id)
        seen = commands.details(command_id)
        assert ending(seen) == ("Failed", 1)
        assert seen["StandardErrorContent"].startswith("Invalid format in plugin properties")
    invocation = commands.ran(commands.step(runCommand="{{ lines }}"), **lines)
    assert invocation["CommandPlugins"][0]["Output"] == "1\n"


def test_what_parameters_become(commands):
    """15, 16: two dollars are one; a list in a text has no spaces."""
    invocation = commands.ran(
        commands.step("echo '{{ text }} {{ list }}'"),
        parameters={"text": {"type": "String"}, "list": {"type": "StringList"}},
        given={"text": ["a$$b$1c${x}"], "list": ["a", "b c"]},
    )
    assert invocation["CommandPlugins"][0]["Output"] == 'a$b$1c${x} ["a","b c"]\n'


def test_a_default_must_match_its_pattern(commands):
    """17: else the document fails before any step."""
    number = {"type": "String", "default": "bad", "allowedPattern": "[0-9]+"}
    invocation = commands.ran(commands.step("echo {{ n }}"), parameters={"n": number})
    assert invocation["StatusDetails"] == "Failed"
    assert "parameter value /bad/ does not match" in invocation["TraceOutput"]
    assert invocation["CommandPlugins"][0]["ResponseCode"] == -1


def test_output_in_the_log(commands):
    """19: new lines of about a second are one event; empty ones stay, carriage returns go, what
    has no end yet waits for it."""
    client = commands.aws.client("logs")
    group = f"/genuine/{os.getpid()}"
    command_id = commands.send(
        commands.step(r"printf 'one\n\ntwo\r\nhalf'; sleep 3; echo ' whole'"),
        CloudWatchOutputConfig={"CloudWatchOutputEnabled": True, "CloudWatchLogGroupName": group},
    )
    commands.ended(command_id)
    stream = f"{command_id}/{commands.instance.instance_id}/main"

    def events():
        found = client.get_log_events(
            logGroupName=group, logStreamName=f"{stream}/stdout", startFromHead=True
        )
        return [event["message"] for event in found["events"]]

    until(lambda: len(events()) > 1)
    assert events() == ["one\n\ntwo\n", "half whole"]
    streams = client.describe_log_streams(logGroupName=group)["logStreams"]
    assert [found["logStreamName"] for found in streams] == [f"{stream}/stdout"]


def test_a_step_for_another_platform(commands):
    """22: its output is empty, the list says why."""
    elsewhere = {"precondition": {"StringEquals": ["platformType", "Windows"]}}
    status, (first, second), outputs = two(commands, "echo never", step=elsewhere)
    assert (status, second["StandardOutputContent"]) == ("Success", "second\n")
    assert (first["ResponseCode"], first["StandardOutputContent"]) == (0, "")
    assert outputs[0].startswith("Step execution skipped due to unsatisfied preconditions")
