from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from codeferry_local.ssm.agent.shell import ShellExecutor
from codeferry_local.ssm.instances import Outcome, StepResult
from codeferry_local.ssm.output import both, head
from codeferry_local.ssm.server import SsmServer
from tests.unit.local.ssm.conftest import (
    INSTANCE,
    SCALE,
    Bench,
    RecordedEvents,
    alive,
    document,
    invocation_of,
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


def test_environment_is_a_services_and_the_agents(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step has neither HOME nor TMPDIR, but the command's id and what the agent knows of the
    platform (prepareEnvironment of executers.go, setCommandIdEnvironment of runscript.go)."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the server")
    bench.document("env -u PWD -u SHLVL -u _ OLDPWD=")
    invocation = bench.ran()
    output = invocation["StandardOutputContent"]
    seen = dict(line.split("=", 1) for line in output.splitlines() if line)
    root = bench.root / INSTANCE
    seen.pop("OLDPWD")
    assert "usr/bin" in seen.pop("PATH")
    assert seen == {
        "LANG": "C.UTF-8",
        "CODEFERRY_ROOT": f"{root}/opt/codeferry",
        "CODEFERRY_LOGIN_UID": str(os.getuid()),
        "AWS_SSM_INSTANCE_ID": INSTANCE,
        "AWS_SSM_REGION_NAME": "us-east-1",
        "AWS_SSM_PLATFORM_NAME": "Debian GNU/Linux",
        "AWS_SSM_PLATFORM_VERSION": "13",
        "SSM_COMMAND_ID": invocation["CommandId"],
    }


def test_files_are_where_the_agent_has_them(bench: Bench) -> None:
    """Script and outputs lie in the orchestration directory."""
    bench.document("#!/bin/sh", "echo out; echo err >&2")
    invocation = bench.ran()
    directory = (
        bench.root / INSTANCE / "var/lib/amazon/ssm" / INSTANCE / "document/orchestration"
    ) / f"{invocation['CommandId']}/apply"
    assert (directory / "_script.sh").read_text() == "#!/bin/sh\necho out; echo err >&2\n"
    assert (directory / "stdout").read_text() == "out\n"
    assert (directory / "stderr").read_text() == "err\n"


def test_parameters_are_put_in_as_the_agent_does(bench: Bench) -> None:
    """Strings, lists, integers and booleans are substituted, once; unknown references stay.

    Lists are JSON without spaces, with <, > and & escaped, and "$$" becomes "$"
    (ReplaceParameter and convertToString of docparser/parameters).
    """
    bench.document(
        "echo '{{ text }} {{number}} {{ flag }} {{ list }} {{ unknown }} {{ dollars }}'",
        parameters={
            "text": {"type": "String"},
            "number": {"type": "Integer", "default": 4},
            "flag": {"type": "Boolean", "default": True},
            "list": {"type": "StringList", "default": ["a", "b c", "é", "<&>"]},
            "dollars": {"type": "String", "default": "1$$2"},
        },
    )
    given = {"text": ["{{ number }} $x"], "flag": ["false"]}
    output = bench.ran(Parameters=given)["StandardOutputContent"]
    assert output == (
        '{{ number }} $x 4 false ["a","b c","é","\\u003c\\u0026\\u003e"] {{ unknown }} 1$2\n'
    )


def test_run_command_may_be_a_list_parameter(bench: Bench) -> None:
    """A runCommand that is nothing but a StringList is the script's lines, "$$" kept."""
    made = document(parameters={"lines": {"type": "StringList"}})
    made["mainSteps"][0]["inputs"]["runCommand"] = "{{ lines }}"
    bench.create(made)
    given = {"lines": ["echo 'one$$'", "echo two"]}
    assert bench.ran(Parameters=given)["StandardOutputContent"] == "one$$\ntwo\n"


@pytest.mark.parametrize(
    ("run_command", "parameters"),
    [
        ("echo hello", {}),
        ("{{ text }}", {"text": {"type": "String", "default": "echo hello"}}),
        (["{{ lines }}"], {"lines": {"type": "StringList", "default": ["echo hello"]}}),
        (["echo hello", "{{ n }}"], {"n": {"type": "Integer", "default": 1}}),
    ],
)
def test_run_command_that_is_no_list_of_strings_fails(
    bench: Bench, run_command: Any, parameters: dict[str, Any]
) -> None:
    """The step fails with code 1 and runs nothing (runCommandsRawInput of runscript.go)."""
    made = document(parameters=parameters)
    made["mainSteps"][0]["inputs"]["runCommand"] = run_command
    bench.create(made)
    invocation = bench.ran()
    assert (invocation["Status"], invocation["ResponseCode"]) == ("Failed", 1)
    assert invocation["StandardOutputContent"] == ""
    assert invocation["StandardErrorContent"].startswith("Invalid format in plugin properties")


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "String", "default": "", "allowedPattern": "^[a-z]+$"},
        {"type": "StringList", "default": ["a", "1"], "allowedPattern": "^[a-z]+$"},
        {"type": "Integer", "default": 1, "allowedPattern": "^1$"},
    ],
)
def test_default_outside_its_pattern_fails_before_any_step(
    bench: Bench, spec: dict[str, Any]
) -> None:
    """The agent checks defaults, too, and refuses the whole document (ValidateSSMParameters of
    parameterstore.go, allowedregexparamvalidator.go)."""
    made = two_steps("true", "true")
    made["parameters"]["p"] = spec
    bench.create(made)
    command_id = bench.send()
    assert bench.ended(command_id)["Status"] == "Failed"
    for name in ("apply", "second"):
        step = bench.invocation(command_id, PluginName=name)
        assert (step["Status"], step["ResponseCode"]) == ("Failed", -1)
        assert step["ExecutionStartDateTime"] == ""


def test_agent_looks_for_the_pattern_anywhere(bench: Bench) -> None:
    """Of a default, unlike of a value given to SendCommand, a part may match."""
    spec = {"type": "String", "default": "1a1", "allowedPattern": "[a-z]"}
    bench.document("echo {{ p }}", parameters={"p": spec})
    assert bench.ran()["StandardOutputContent"] == "1a1\n"


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


def in_directory(wanted: str) -> dict[str, Any]:
    made = document("pwd")
    made["mainSteps"][0]["inputs"]["workingDirectory"] = wanted
    return made


def test_working_directory_is_taken_inside_the_root(bench: Bench) -> None:
    """workingDirectory is looked up below the instance's root."""
    (bench.root / INSTANCE / "opt/app").mkdir(parents=True)
    bench.create(in_directory("/opt/app"))
    assert bench.ran()["StandardOutputContent"].strip() == str(bench.root / INSTANCE / "opt/app")


@pytest.mark.parametrize("wanted", ["", "app"])
def test_step_starts_in_the_agents_directory(bench: Bench, wanted: str) -> None:
    """Without a workingDirectory, or with a relative one that is not there, a step starts where
    the agent does (WorkingDirectory of amazon-ssm-agent.service, runCommands of runscript.go)."""
    bench.create(in_directory(wanted))
    assert bench.ran()["StandardOutputContent"] == "/usr/bin\n"


def test_missing_working_directory_fails_the_step(bench: Bench) -> None:
    """An absolute one that is missing is an error of exec (command.Start of executers.go)."""
    bench.create(in_directory("/opt/missing"))
    invocation = bench.ran()
    assert (invocation["Status"], invocation["ResponseCode"]) == ("Failed", 1)
    assert invocation["StandardOutputContent"] == ""
    assert invocation["StandardErrorContent"] == (
        "failed to run commands: fork/exec /usr/bin/sh: no such file or directory"
    )


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


_BY_168 = (
    "\nStep exited with code 168. Therefore, marking step as succeeded."
    " Further document steps will be skipped."
)
_BY_169 = (
    "\nStep exited with code 169. Therefore, marking step as Failed."
    " Further document steps will be skipped."
)
_BY_MODIFIER = (
    "\nStep was found to have onFailure property. Further document steps will be skipped."
)


@pytest.mark.parametrize(
    ("code", "inputs", "expected"),
    [
        (168, {}, ("Success", 168, f"o{_BY_168}", "")),
        (
            169,
            {},
            ("Failed", 169, f"o{_BY_169}", f"efailed to run commands: exit status 169{_BY_169}"),
        ),
        (
            1,
            {"onFailure": "exit"},
            (
                "Failed",
                1,
                f"o{_BY_MODIFIER}",
                f"efailed to run commands: exit status 1{_BY_MODIFIER}",
            ),
        ),
        (
            1,
            {"onFailure": "successAndExit"},
            (
                "Success",
                168,
                f"o{_BY_MODIFIER}",
                f"efailed to run commands: exit status 1{_BY_MODIFIER}",
            ),
        ),
        (0, {"onSuccess": "exit"}, ("Success", 0, "o", "e")),
    ],
)
def test_step_can_end_the_document(
    bench: Bench, code: int, inputs: dict[str, str], expected: tuple[str, int, str, str]
) -> None:
    """168, 169, onFailure and onSuccess skip the rest, and say so in the outputs (RunPlugins and
    getShouldPluginSkipBasedOnControlFlow of runpluginutil.go)."""
    made = two_steps(f"printf o; printf e >&2; exit {code}", "echo ran")
    made["mainSteps"][0]["inputs"] |= inputs
    bench.create(made)
    command_id = bench.send()
    assert bench.ended(command_id)["Status"] == expected[0]
    first = bench.invocation(command_id, PluginName="apply")
    members = ("Status", "ResponseCode", "StandardOutputContent", "StandardErrorContent")
    assert tuple(first[name] for name in members) == expected
    second = bench.invocation(command_id, PluginName="second")
    assert second["StatusDetails"] == "Skipped"


def test_list_of_a_168_has_no_stderr_and_no_sentence(bench: Bench) -> None:
    """The text of both outputs is made before the sentence is added (String of iohandler.go)."""
    bench.document("printf o; printf e >&2; exit 168")
    command_id = bench.send()
    bench.ended(command_id)
    assert bench.invocations(command_id)[INSTANCE]["CommandPlugins"][0]["Output"] == "o"


def test_skipped_step_has_its_message_in_the_list_only(bench: Bench) -> None:
    """A skipped step is Skipped with empty outputs; why is in ListCommandInvocations."""
    made = two_steps("exit 168", "echo ran")
    bench.create(made)
    command_id = bench.send()
    bench.ended(command_id)
    second = bench.invocation(command_id, PluginName="second")
    members = ("Status", "StatusDetails", "ResponseCode", "StandardOutputContent")
    assert tuple(second[name] for name in members) == ("Success", "Skipped", 0, "")
    assert bench.invocations(command_id)[INSTANCE]["CommandPlugins"][1]["Output"] == (
        "Plugin with name aws:runShellScript and id second skipped due to prior step with an exit"
        " condition"
    )


@pytest.mark.parametrize(
    ("code", "beside"),
    [(1, {"onFailure": "exit"}), (0, {"onSuccess": "exit"}), (1, {"onFailure": "successAndExit"})],
)
def test_modifiers_beside_the_inputs_say_nothing(
    bench: Bench, code: int, beside: dict[str, str]
) -> None:
    """They are read in ``inputs`` only (getStringPropByName of runpluginutil.go)."""
    bench.create(two_steps(f"exit {code}", "echo ran", **beside))
    command_id = bench.send()
    assert bench.ended(command_id)["Status"] == ("Failed" if code else "Success")
    second = bench.invocation(command_id, PluginName="second")
    assert (second["StatusDetails"], second["StandardOutputContent"]) == ("Success", "ran\n")


@pytest.mark.parametrize(("place", "ran"), [("inputs", "cleaned\n"), ("beside", "")])
def test_final_step_runs_whatever_happened(bench: Bench, place: str, ran: str) -> None:
    """A finallyStep, which only ``inputs`` make one, runs after a step that ended the document."""
    made = two_steps("exit 169", "echo cleaned")
    second = made["mainSteps"][1]
    (second["inputs"] if place == "inputs" else second)["finallyStep"] = True
    bench.create(made)
    command_id = bench.send()
    bench.ended(command_id)
    assert bench.invocation(command_id, PluginName="second")["StandardOutputContent"] == ran


def test_on_failure_says_nothing_of_a_timeout(bench: Bench) -> None:
    """A step that timed out has not failed: the next one runs."""
    made = two_steps("exit 137", "echo ran")
    made["mainSteps"][0]["inputs"]["onFailure"] = "exit"
    bench.create(made)
    command_id = bench.send()
    assert bench.ended(command_id)["StatusDetails"] == "ExecutionTimedOut"
    assert bench.invocation(command_id, PluginName="second")["StandardOutputContent"] == "ran\n"


@pytest.mark.parametrize(
    ("first", "second", "worst"),
    [("exit 137", "exit 1", "Failed"), ("exit 1", "exit 137", "Failed")],
)
def test_failed_is_worse_than_timed_out(bench: Bench, first: str, second: str, worst: str) -> None:
    """Failed > TimedOut > Cancelled > Success (DocumentResultAggregator of aggregator.go)."""
    bench.create(two_steps(first, second))
    assert bench.ended(bench.send())["StatusDetails"] == worst


@pytest.mark.parametrize(
    ("first", "worst"), [("exit 1", "Failed"), ("exit 137", "ExecutionTimedOut"), ("", "Cancelled")]
)
def test_cancelled_is_the_least_of_the_bad_ends(bench: Bench, first: str, worst: str) -> None:
    """An invocation whose first step ended badly ends so, also when the second is cancelled."""
    mark = bench.root / "mark"
    bench.create(two_steps(first or "true", f"touch {mark}; exec sleep 1000"))
    command_id = bench.send()
    until(mark.exists)
    bench.ssm.cancel_command(CommandId=command_id)
    bench.ended(command_id)
    assert bench.invocations(command_id)[INSTANCE]["StatusDetails"] == worst
    cancelled = bench.invocation(command_id, PluginName="second")
    assert (cancelled["Status"], cancelled["ResponseCode"]) == ("Cancelled", 137)


def test_steps_after_a_cancelled_one_never_start(bench: Bench) -> None:
    """They are Cancelled with code 1, the finallyStep too (Execute of runscript.go)."""
    mark = bench.root / "mark"
    made = two_steps(f"touch {mark}; exec sleep 1000", f"touch {mark}.second")
    third = document(f"touch {mark}.last")["mainSteps"][0] | {"name": "last"}
    third["inputs"]["finallyStep"] = True
    made["mainSteps"].append(third)
    bench.create(made)
    command_id = bench.send()
    until(mark.exists)
    bench.ssm.cancel_command(CommandId=command_id)
    assert bench.ended(command_id)["Status"] == "Cancelled"
    for name in ("second", "last"):
        step = bench.invocation(command_id, PluginName=name)
        assert (step["Status"], step["ResponseCode"]) == ("Cancelled", 1)
        assert step["StandardOutputContent"] == step["StandardErrorContent"] == ""
    assert [path.name for path in bench.root.glob("mark*")] == ["mark"]


def test_step_for_another_platform_is_skipped(bench: Bench) -> None:
    """A step whose precondition is not met is a success that did nothing."""
    windows = {"precondition": {"StringEquals": ["platformType", "Windows"]}}
    bench.create(two_steps("exit 1", "echo ran", **windows))
    command_id = bench.send()
    assert bench.ended(command_id)["Status"] == "Success"
    skipped = bench.invocation(command_id, PluginName="apply")
    assert (skipped["StatusDetails"], skipped["StandardOutputContent"]) == ("Skipped", "")
    assert bench.invocations(command_id)[INSTANCE]["CommandPlugins"][0]["Output"] == (
        "Step execution skipped due to unsatisfied preconditions: "
        "'\"StringEquals\": [platformType, Windows]'. Step name: apply"
    )


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("x" * 23_999, "x" * 23_999),
        ("x" * 24_000, "x" * 23_980 + "--output truncated--"),
        ("é" * 12_000, "é" * 11_990 + "--output truncated--"),
    ],
)
def test_head_is_counted_in_bytes_and_marked(written: str, kept: str) -> None:
    """StringPrefix of pluginutil.go: 24,000 bytes are too many already."""
    assert head(written) == kept


def test_get_gives_the_head_of_long_outputs(bench: Bench) -> None:
    """GetCommandInvocation has 24,000 bytes of either output, the mark included: the agent cuts
    stderr by the limit of stdout, too (RunPlugins of runpluginutil.go)."""
    bench.document("head -c 30000 /dev/zero | tr '\\0' o; head -c 30000 /dev/zero | tr '\\0' e >&2")
    invocation = bench.ran()
    assert invocation["StandardOutputContent"] == "o" * 23_980 + "--output truncated--"
    assert invocation["StandardErrorContent"] == "e" * 23_980 + "--output truncated--"


def test_list_cuts_outputs_as_the_agent_does(bench: Bench) -> None:
    """ListCommandInvocations has stdout's head and a mark, within the agent's 2,500 bytes."""
    bench.document("head -c 30000 /dev/zero | tr '\\0' o")
    command_id = bench.send()
    bench.ended(command_id)
    output = bench.invocations(command_id)[INSTANCE]["CommandPlugins"][0]["Output"]
    assert output == "o" * (2_500 - 23) + "\n---Output truncated---"


@pytest.mark.parametrize(
    ("out", "err", "kept"),
    [
        (2_499, 0, "o" * 2_499),
        (2_500, 0, "o" * 2_477 + "\n---Output truncated---"),
        # Exactly half of what is left beside the title: kept whole.
        (1_238, 5_000, "o" * 1_238 + "\n----------ERROR-------\n" + "e" * 1_215),
        (100, 100, "o" * 100 + "\n----------ERROR-------\n" + "e" * 100),
    ],
)
def test_short_stdout_survives_a_long_stderr(out: int, err: int, kept: str) -> None:
    """Stdout up to half of the limit is never cut (TruncateOutput of iohandler.go)."""
    cut = both("o" * out, "e" * err)
    assert cut.startswith(kept)
    assert len(cut) <= 2_500


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
    with SsmServer(time_scale=SCALE, disk_cap=100_000, paced=False) as server:
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


def test_kill_comes_at_once(bench: Bench) -> None:
    """No TERM comes first: what a trap would do is not done (killProcess of executers_unix.go)."""
    mark = bench.root / "tidied"
    stubborn = f"trap 'touch {mark}' TERM; echo up; while :; do sleep 0.02; done"
    bench.create(two_steps(stubborn, "true"))
    command_id = bench.send(Parameters={"executionTimeout": ["150"]})
    bench.ended(command_id)
    first = bench.invocation(command_id, PluginName="apply")
    assert first["StandardOutputContent"] == "up\n"
    assert (first["StatusDetails"], first["ResponseCode"]) == ("ExecutionTimedOut", 137)
    assert first["StandardErrorContent"] == ""
    assert not mark.exists()


def test_cancel_kills_at_once(bench: Bench) -> None:
    """A cancel, too, is a KILL without a TERM before it."""
    mark = bench.root / "mark"
    bench.document(f"trap 'touch {mark}.term' TERM; touch {mark}; while :; do sleep 0.02; done")
    command_id = bench.send()
    until(mark.exists)
    bench.ssm.cancel_command(CommandId=command_id)
    bench.ended(command_id)
    assert bench.invocation(command_id)["ResponseCode"] == 137
    assert [path.name for path in bench.root.glob("mark*")] == ["mark"]


def test_timeout_when_only_a_stranger_holds_the_output_is_a_failure(bench: Bench) -> None:
    """The group is gone, a child outside of it keeps stdout open: there is nothing to kill, and
    the agent says Failed (killProcess and its error in ExecuteCommand of executers.go)."""
    pid_file = bench.root / "pid"
    bench.document(
        f"setsid sh -c 'echo $$ > {pid_file}; exec sleep 1000' &",
        f"until [ -s {pid_file} ]; do sleep 0.02; done",
    )
    command_id = bench.send(Parameters={"executionTimeout": ["150"]})
    stranger = pid_in(pid_file)
    try:
        bench.ended(command_id)
        invocation = bench.invocation(command_id)
        assert (invocation["StatusDetails"], invocation["ResponseCode"]) == ("Failed", 1)
        assert invocation["StandardErrorContent"] == "failed to run commands: no such process"
        assert alive(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)


def test_step_is_in_a_group_of_its_own_and_no_session(bench: Bench) -> None:
    """prepareProcess of executers_unix.go: Setpgid, and no Setsid."""
    bench.document("ps -o pgid=,sid= -p $$")
    group, session = map(int, bench.ran()["StandardOutputContent"].split())
    assert session == os.getsid(0)
    assert group != os.getpgid(0)


def outcome_of(shell: str, root: Path, script: str) -> StepResult:
    """What an agent whose ``sh`` is this shell makes of a script."""
    context = invocation_of(root, script)
    return ShellExecutor(shell=shell).run(context)


@pytest.mark.parametrize(
    ("shell", "number", "code", "words"),
    [
        ("bash", 9, -1, "signal: killed"),
        ("bash", 15, -1, "signal: terminated"),
        ("bash", 11, -1, "signal: segmentation fault"),
        ("dash", 9, 137, ""),
        ("dash", 15, 143, "exit status 143"),
    ],
)
def test_signal_is_told_as_the_shell_lets_it(
    tmp_path: Path, shell: str, number: int, code: int, words: str
) -> None:
    """``sh -c PATH``: bash becomes the script, dash stays its parent and exits with 128 + signal.

    So a killed script is code -1 and "signal: killed" where sh is bash (Amazon Linux), and where
    it is dash (Debian, Ubuntu) 137, which the agent takes for its own kill, or 143.
    """
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on this machine")
    result = outcome_of(shell, tmp_path, f"#!/bin/sh\nkill -{number} $$\n")
    assert (result.exit_code, result.outcome) == (code, Outcome.EXITED)
    assert result.stderr.endswith(words and f"failed to run commands: {words}")


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
    """Exit 194 asks for a reboot, after which the step starts again; its output files are added
    to (FileFlagsCreateOrAppend in Read of iomodule/commandoutput.go)."""
    mark = bench.root / "mark"
    bench.document(f"[ -e {mark} ] && echo again && exit 0; touch {mark}; echo first; exit 194")
    invocation = bench.ran()
    members = ("Status", "StandardOutputContent", "StandardErrorContent")
    assert tuple(invocation[name] for name in members) == ("Success", "first\nagain\n", "")
    (written,) = bench.root.rglob("stdout")
    assert written.read_text() == "first\nagain\n"


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
    with SsmServer(paced=False) as server:
        bench = Bench(server, tmp_path, RecordedEvents())
        bench.instance()
        bench.document(f"echo $$ > {pid_file}; sleep 1000")
        bench.send()
        pid = pid_in(pid_file)
        assert alive(pid)
    # SIGKILL is heard, not answered: the shell that ran the script is reaped, not the script.
    until(lambda: not alive(pid))
