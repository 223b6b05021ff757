from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from codeferry_local.ssm import SsmServer
from codeferry_local.ssm.views import truncated
from tests.unit.local.ssm.conftest import (
    INSTANCE,
    SCALE,
    Bench,
    RecordedEvents,
    alive,
    document,
    pid_in,
    until,
)


@pytest.mark.parametrize(("code", "status"), [(0, "Success"), (3, "Failed"), (255, "Failed")])
def test_exit_code_decides(bench: Bench, code: int, status: str) -> None:
    """The exit code is the ResponseCode and makes Success or Failed, up to the command."""
    bench.document(f"exit {code}")
    invocation = bench.ran()
    assert (invocation["Status"], invocation["ResponseCode"]) == (status, code)
    assert bench.command(invocation["CommandId"])["Status"] == status


def test_failure_says_so_in_the_agents_words(bench: Bench) -> None:
    """A failed step's stderr ends with the agent's line, as on AWS."""
    bench.document("printf oops >&2; exit 3")
    assert bench.ran()["StandardErrorContent"] == "oopsfailed to run commands: exit status 3"


def test_environment_is_minimal_and_inside_the_instance(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step sees only the agent's variables; home, tmp and root are the instance's."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the server")
    bench.document("env -u PWD -u SHLVL -u _ OLDPWD=")
    output = bench.ran()["StandardOutputContent"]
    seen = dict(line.split("=", 1) for line in output.splitlines() if line)
    root = bench.root / INSTANCE
    seen.pop("OLDPWD")
    assert "usr/bin" in seen.pop("PATH")
    assert seen == {
        "HOME": f"{root}/root",
        "TMPDIR": f"{root}/tmp",
        "LANG": "C.UTF-8",
        "CODEFERRY_ROOT": f"{root}/opt/codeferry",
        "CODEFERRY_LOGIN_UID": str(os.getuid()),
        "AWS_SSM_INSTANCE_ID": INSTANCE,
        "AWS_SSM_REGION_NAME": "us-east-1",
    }


def test_files_are_where_the_agent_has_them(bench: Bench) -> None:
    """Script and outputs lie in the orchestration directory, which is the working directory."""
    bench.document("pwd; echo err >&2")
    invocation = bench.ran()
    directory = (
        bench.root / INSTANCE / "var/lib/amazon/ssm" / INSTANCE / "document/orchestration"
    ) / f"{invocation['CommandId']}/apply"
    assert invocation["StandardOutputContent"].strip() == str(directory)
    assert (directory / "_script.sh").read_text() == "pwd; echo err >&2\n"
    assert (directory / "stdout").read_text().strip() == str(directory)
    assert (directory / "stderr").read_text() == "err\n"


def test_parameters_are_put_in_as_ssm_does(bench: Bench) -> None:
    """Strings, lists, integers and booleans are substituted; unknown references stay."""
    bench.document(
        "echo '{{ text }} {{number}} {{ flag }} {{ list }} {{ unknown }}'",
        "{{ lines }}",
        parameters={
            "text": {"type": "String"},
            "number": {"type": "Integer", "default": 4},
            "flag": {"type": "Boolean", "default": True},
            "list": {"type": "StringList", "default": ["a", "b"]},
            "lines": {"type": "StringList"},
        },
    )
    given = {"text": ["{{ number }} $x"], "flag": ["false"], "lines": ["echo one", "echo two"]}
    output = bench.ran(Parameters=given)["StandardOutputContent"]
    assert output == '{{ number }} $x 4 false ["a", "b"] {{ unknown }}\none\ntwo\n'


def test_parameter_as_environment_variable(bench: Bench) -> None:
    """A parameter of interpolationType ENV_VAR is a variable and never part of the script."""
    spec = {"type": "String", "interpolationType": "ENV_VAR"}
    bench.document('echo "$SSM_text"', parameters={"text": spec})
    hostile = "$(id) `id` ' \" ;"
    assert bench.ran(Parameters={"text": [hostile]})["StandardOutputContent"] == f"{hostile}\n"


def test_interpreter_line_is_honoured(bench: Bench) -> None:
    """A script that starts with #! runs under that interpreter."""
    bench.document("#!/usr/bin/env -S cat", "as it is")
    assert bench.ran()["StandardOutputContent"].endswith("as it is\n")


def test_working_directory_is_taken_inside_the_root(bench: Bench) -> None:
    """workingDirectory is looked up below the instance's root."""
    (bench.root / INSTANCE / "opt/app").mkdir(parents=True)
    made = document("pwd")
    made["mainSteps"][0]["inputs"]["workingDirectory"] = "/opt/app"
    bench.create(made)
    assert bench.ran()["StandardOutputContent"].strip() == str(bench.root / INSTANCE / "opt/app")


def two_steps(first: str, second: str, **changes: Any) -> dict[str, Any]:
    """A document with two steps; changes go to the first."""
    made = document(first)
    other = document(second)["mainSteps"][0]
    made["mainSteps"] = [made["mainSteps"][0] | changes, other | {"name": "second"}]
    return made


def test_steps_run_in_order_and_are_read_by_name(bench: Bench) -> None:
    """Later steps run after a failed one, each is read by its name, and the whole has failed."""
    bench.create(two_steps("exit 1", "echo second"))
    command_id = bench.send()
    assert bench.ended(command_id)["Status"] == "Failed"
    assert bench.invocation(command_id, PluginName="apply")["Status"] == "Failed"
    second = bench.invocation(command_id, PluginName="second")
    assert (second["Status"], second["StandardOutputContent"]) == ("Success", "second\n")
    with pytest.raises(bench.ssm.exceptions.InvalidPluginName):
        bench.invocation(command_id)


@pytest.mark.parametrize(
    ("first", "changes", "status"),
    [
        ("exit 1", {"onFailure": "exit"}, "Failed"),
        ("exit 1", {"onFailure": "successAndExit"}, "Success"),
        ("exit 0", {"onSuccess": "exit"}, "Success"),
        ("exit 168", {}, "Success"),
        ("exit 169", {}, "Failed"),
    ],
)
def test_step_can_end_the_document(
    bench: Bench, first: str, changes: dict[str, str], status: str
) -> None:
    """onFailure, onSuccess and the exit codes 168 and 169 skip the rest."""
    bench.create(two_steps(first, "echo ran", **changes))
    command_id = bench.send()
    assert bench.ended(command_id)["Status"] == status
    output = bench.invocation(command_id, PluginName="second")["StandardOutputContent"]
    assert output.startswith("Step execution skipped")


def test_final_step_runs_whatever_happened(bench: Bench) -> None:
    """A finallyStep runs after a step that ended the document."""
    made = two_steps("exit 1", "echo cleaned", onFailure="exit")
    made["mainSteps"][1]["finallyStep"] = True
    bench.create(made)
    command_id = bench.send()
    bench.ended(command_id)
    assert bench.invocation(command_id, PluginName="second")["StandardOutputContent"] == "cleaned\n"


def test_step_for_another_platform_is_skipped(bench: Bench) -> None:
    """A step whose precondition is not met is a success that did nothing."""
    windows = {"precondition": {"StringEquals": ["platformType", "Windows"]}}
    bench.create(two_steps("exit 1", "echo ran", **windows))
    command_id = bench.send()
    assert bench.ended(command_id)["Status"] == "Success"
    skipped = bench.invocation(command_id, PluginName="apply")
    assert "incompatible platform" in skipped["StandardOutputContent"]


def test_get_gives_the_head_of_long_outputs(bench: Bench) -> None:
    """GetCommandInvocation has the first 24,000 characters of stdout and 8,000 of stderr."""
    bench.document("head -c 30000 /dev/zero | tr '\\0' o; head -c 30000 /dev/zero | tr '\\0' e >&2")
    invocation = bench.ran()
    assert invocation["StandardOutputContent"] == "o" * 24_000
    assert invocation["StandardErrorContent"] == "e" * 8_000


def test_list_cuts_outputs_as_the_agent_does(bench: Bench) -> None:
    """ListCommandInvocations has stdout's head and a mark, within the agent's limit."""
    bench.document("head -c 30000 /dev/zero | tr '\\0' o")
    command_id = bench.send()
    bench.ended(command_id)
    output = bench.invocations(command_id)[INSTANCE]["CommandPlugins"][0]["Output"]
    assert output == "o" * (2_400 - 23) + "\n---Output truncated---"


@pytest.mark.parametrize(
    ("out", "err", "kept"),
    [
        (2_399, 0, "o" * 2_399),
        (1_100, 5_000, "o" * 1_100 + "\n----------ERROR-------\n" + "e" * 1_253),
        (100, 100, "o" * 100 + "\n----------ERROR-------\n" + "e" * 100),
    ],
)
def test_short_stdout_survives_a_long_stderr(out: int, err: int, kept: str) -> None:
    """Stdout below half of the limit is never cut, however long stderr is."""
    cut = truncated("o" * out, "e" * err, 2_400)
    assert cut.startswith(kept)
    assert len(cut) <= 2_400


def test_output_is_empty_until_the_end(bench: Bench) -> None:
    """While a step runs its output is not in the answers."""
    go = bench.root / "go"
    bench.document(f"echo early; while [ ! -e {go} ]; do sleep 0.02; done")
    command_id = bench.send()
    until(lambda: bench.invocation(command_id)["ExecutionStartDateTime"])
    running = bench.invocation(command_id)
    assert (running["Status"], running["StandardOutputContent"]) == ("InProgress", "")
    assert running["ResponseCode"] == -1
    go.touch()
    bench.ended(command_id)
    assert bench.invocation(command_id)["StandardOutputContent"] == "early\n"


def test_output_on_disk_is_capped(tmp_path: Path) -> None:
    """A step that writes without end fills no disk: the file stops at the cap."""
    with SsmServer(time_scale=SCALE, disk_cap=100_000) as server:
        bench = Bench(server, tmp_path, RecordedEvents())
        bench.instance()
        bench.document("head -c 5000000 /dev/zero; echo done >&2")
        assert bench.ran()["StandardErrorContent"] == "done\n"
        (written,) = tmp_path.rglob("stdout")
        assert written.stat().st_size == 100_000


def test_execution_timeout_kills_the_whole_group(bench: Bench) -> None:
    """After timeoutSeconds the process group is stopped and the step is ExecutionTimedOut."""
    pid_file = bench.root / "pid"
    bench.document(f"sh -c 'echo $$ > {pid_file}; exec sleep 1000' & wait")
    command_id = bench.send(Parameters={"executionTimeout": ["150"]})
    child = pid_in(pid_file)
    command = bench.ended(command_id)
    assert (command["Status"], command["StatusDetails"]) == ("TimedOut", "ExecutionTimedOut")
    invocation = bench.invocation(command_id)
    assert (invocation["StatusDetails"], invocation["ResponseCode"]) == ("ExecutionTimedOut", 137)
    until(lambda: not alive(child))


def test_term_comes_before_kill(bench: Bench) -> None:
    """A step that times out gets TERM and can still write."""
    bench.document("trap 'echo tidied; exit 0' TERM; echo up; while :; do sleep 0.02; done")
    invocation = bench.ran(Parameters={"executionTimeout": ["150"]})
    assert invocation["StandardOutputContent"] == "up\ntidied\n"
    assert invocation["StatusDetails"] == "ExecutionTimedOut"


def test_kill_follows_term(bench: Bench) -> None:
    """A step that ignores TERM is killed."""
    pid_file = bench.root / "pid"
    bench.document(f"trap '' TERM; echo $$ > {pid_file}; while :; do sleep 0.02; done")
    invocation = bench.ran(Parameters={"executionTimeout": ["150"]})
    assert invocation["StatusDetails"] == "ExecutionTimedOut"
    assert not alive(pid_in(pid_file))


def test_unfit_timeout_is_the_agents_default(bench: Bench) -> None:
    """A timeoutSeconds below the agent's least is taken as its default of an hour."""
    bench.document("true")
    command = bench.ssm.send_command(
        DocumentName="demo-doc",
        InstanceIds=[INSTANCE],
        TimeoutSeconds=30,
        Parameters={"executionTimeout": ["4"]},
    )["Command"]
    assert (command["ExpiresAfter"] - command["RequestedDateTime"]).total_seconds() == 3630


def test_own_exit_137_is_a_timeout_to_the_agent(bench: Bench) -> None:
    """A script that itself exits with 137 is reported as ExecutionTimedOut."""
    bench.document("exit 137")
    assert bench.ran()["StatusDetails"] == "ExecutionTimedOut"


def test_reboot_code_runs_the_step_again(bench: Bench) -> None:
    """Exit 194 asks for a reboot, after which the step starts again."""
    mark = bench.root / "mark"
    bench.document(f"[ -e {mark} ] && echo again && exit 0; touch {mark}; exit 194")
    invocation = bench.ran()
    assert (invocation["Status"], invocation["StandardOutputContent"]) == ("Success", "again\n")


def test_five_commands_at_a_time_on_one_instance(bench: Bench) -> None:
    """An instance runs five commands in parallel; the sixth waits for one to end."""
    go, started = bench.root / "go", bench.root / "started"
    started.mkdir()
    bench.document(f"touch {started}/$$; while [ ! -e {go} ]; do sleep 0.02; done")
    commands = [bench.send() for _ in range(6)]
    until(lambda: len(list(started.iterdir())) == 5)
    assert bench.invocation(commands[5])["ExecutionStartDateTime"] == ""
    go.touch()
    assert {bench.ended(command)["Status"] for command in commands} == {"Success"}
    assert len(list(started.iterdir())) == 6


def test_instance_that_cannot_hold_the_script_fails_the_step(bench: Bench) -> None:
    """An unusable root is a failed invocation with the reason, not a hanging one."""
    root = bench.root / INSTANCE
    root.rmdir()
    root.write_text("a file")
    bench.document("true")
    assert "failed to run commands" in bench.ran()["StandardErrorContent"]


def test_stop_kills_what_runs(tmp_path: Path) -> None:
    """Stopping the server leaves no process of a step behind."""
    pid_file = tmp_path / "pid"
    with SsmServer() as server:
        bench = Bench(server, tmp_path, RecordedEvents())
        bench.instance()
        bench.document(f"echo $$ > {pid_file}; sleep 1000")
        bench.send()
        pid = pid_in(pid_file)
        assert alive(pid)
    assert not alive(pid)
