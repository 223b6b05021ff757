"""Functions, roles, state machine and rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from tests.unit.stacks.iam_evaluator import Request, decide
from tests.unit.stacks.policies import ACCOUNT, REGION, Assembly


@pytest.fixture
def statements(resources):
    """Every IAM statement of the workflow stack."""
    policies = resources("Workflow", "AWS::IAM::Policy")
    managed = resources("Workflow", "AWS::IAM::ManagedPolicy")
    return [s for policy in [*policies, *managed] for s in policy["PolicyDocument"]["Statement"]]


def actions(statement):
    found = statement["Action"]
    return [found] if isinstance(found, str) else found


def test_every_function_has_a_role_of_its_own(resources):
    """One role per Lambda, so that no function has another's rights."""
    functions = resources("Workflow", "AWS::Lambda::Function")
    roles = {json.dumps(function["Role"]) for function in functions}
    assert len(roles) == len(functions) == 12


def test_no_role_allows_a_whole_service(statements):
    """No statement has a wildcard for an action."""
    loose = [a for s in statements for a in actions(s) if re.search(r":\*|^\*", a)]
    assert loose == []


def test_commands_go_out_by_the_own_document_to_tagged_instances_only(statements):
    """SendCommand is allowed on the stage's documents and on instances with the tag."""
    sending = [s for s in statements if "ssm:SendCommand" in actions(s)]
    on = {json.dumps(s["Resource"]): s.get("Condition") for s in sending}
    assert len(on) == 3
    for resource, condition in on.items():
        if re.search("document/codeferry-prod-(sync|record)", resource):
            assert condition is None
        else:
            assert ":instance/*" in resource
            assert condition == {
                "StringLike": {"aws:ResourceTag/codeferry:target": "?*"},
                "StringEqualsIfExists": {"aws:ResourceTag/codeferry:stage": "prod"},
            }


# A stage's own tag, none, another stage's; and whether commands go out to it.
TAG = "aws:ResourceTag/codeferry:stage"
UNLESS_REQUIRED = [({TAG: "prod"}, True), ({}, True), ({TAG: "dev"}, False), ({TAG: ""}, False)]
WHERE_REQUIRED = [({TAG: "prod"}, True), ({}, False), ({TAG: "dev"}, False), ({TAG: ""}, False)]


@pytest.mark.parametrize(
    ("required", "decisions"), [("false", UNLESS_REQUIRED), ("true", WHERE_REQUIRED)]
)
def test_no_command_goes_out_to_another_stages_instances(synthesise, tmp_path, required, decisions):
    """Whoever may run on dev is not root on prod; the setting reaches role and functions alike."""
    assembly = Assembly(synthesise(tmp_path, stage="prod", require_stage_tag=required))
    (sender,) = [
        (stack, function["Properties"]["Role"]["Fn::GetAtt"][0])
        for stack, _, function in assembly.resources("AWS::Lambda::Function")
        if function["Properties"].get("FunctionName") == "codeferry-prod-dispatch"
    ]
    statements = assembly.role_statements(*sender)
    instance = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/i-1"
    target = {"aws:ResourceTag/codeferry:target": "web"}
    for tags, allowed in decisions:
        assert decide(statements, Request("ssm:SendCommand", instance, target | tags)) is allowed
        assert not decide(statements, Request("ssm:SendCommand", instance, tags))
    set_to = {
        function["Properties"]["Environment"]["Variables"]["REQUIRE_STAGE_TAG"]
        for stack, _, function in assembly.resources("AWS::Lambda::Function")
        if stack == "Codeferry-prod-Workflow"
    }
    assert set_to == {required}


def test_nothing_mentions_the_open_shell_document(template):
    """AWS-RunShellScript would be any command on any instance."""
    everything = json.dumps([template(name) for name in ("Storage", "Documents", "Workflow")])
    assert "AWS-Run" not in everything


def test_archives_and_variables_alone_can_be_deleted(statements):
    """The record of a run is beyond the reach of cleanup."""
    deleting = [s for s in statements if "s3:DeleteObjectVersion" in actions(s)]
    text = json.dumps([s["Resource"] for s in deleting])
    assert set(re.findall(r"/(\w+)/\*", text)) == {"archives", "environments", "inbox"}


def test_uploads_and_ended_commands_and_stops_reach_their_functions(resources):
    """The rules match what AWS sends."""
    found = resources("Workflow", "AWS::Events::Rule")
    rules = [rule for rule in found if "EventPattern" in rule]
    patterns = {r["EventPattern"]["detail-type"][0]: r["EventPattern"] for r in rules}
    assert patterns["Object Created"]["source"] == ["aws.s3"]
    assert patterns["Object Created"]["detail"]["object"] == {"key": [{"prefix": "inbox/"}]}
    ended = patterns["EC2 Command Status-change Notification"]
    assert ended["source"] == ["aws.ssm"]
    assert ended["detail"] == {"document-name": [{"prefix": "codeferry-prod-"}]}
    joined = patterns["EC2 Instance State-change Notification"]
    assert (joined["source"], joined["detail"]) == (["aws.ec2"], {"state": ["running"]})
    stopped = patterns["Step Functions Execution Status Change"]
    assert stopped["detail"]["status"] == ["ABORTED", "TIMED_OUT"]
    for rule in rules:
        assert rule["Targets"][0]["DeadLetterConfig"]


def test_who_joins_is_looked_for_every_minute(resources):
    """No event says that an SSM agent has come online."""
    (rule,) = [r for r in resources("Workflow", "AWS::Events::Rule") if "EventPattern" not in r]
    assert rule["ScheduleExpression"] == "rate(1 minute)"


def test_a_failed_wave_is_returned_by_the_rollback_machine_and_no_other(statements):
    """Every machine may start that one, and wait for what it has started."""
    starting = [s for s in statements if "states:StartExecution" in actions(s)]
    nested = [s for s in starting if "stateMachine:codeferry-prod-rollback" in str(s["Resource"])]
    assert len(nested) == 3
    waiting = [s for s in statements if "states:StopExecution" in actions(s)]
    assert all("execution:codeferry-prod-rollback:*" in str(s["Resource"]) for s in waiting)


def test_an_event_given_up_raises_the_one_alarm_there_is_for_it(resources):
    """An upload never vanishes silently, and no function gets it twice."""
    assert resources("Workflow", "AWS::CloudWatch::Alarm") == []
    (alarm,) = [
        alarm
        for alarm in resources("Monitoring", "AWS::CloudWatch::Alarm")
        if alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
    ]
    assert alarm["Threshold"] == 1
    (queue,) = alarm["Dimensions"]
    assert "Undelivered" in queue["Value"]["Fn::ImportValue"]
    configured = resources("Workflow", "AWS::Lambda::EventInvokeConfig")
    assert len(configured) == 4


def test_a_run_is_traced_through_its_functions(resources):
    """The machines' traces do not end where a function begins."""
    machines = resources("Workflow", "AWS::StepFunctions::StateMachine")
    functions = resources("Workflow", "AWS::Lambda::Function")
    assert {m["TracingConfiguration"]["Enabled"] for m in machines} == {True}
    assert {f["TracingConfig"]["Mode"] for f in functions} == {"Active"}


def test_execution_logs_hold_no_payloads(resources):
    """Presigned URLs and parameters stay out of the logs."""
    machines = resources("Workflow", "AWS::StepFunctions::StateMachine")
    assert {m["LoggingConfiguration"]["IncludeExecutionData"] for m in machines} == {False}
    names = {machine["StateMachineName"].removeprefix("codeferry-prod-") for machine in machines}
    assert names == {"sync", "script", "rollback"}


def test_every_substitution_of_the_definition_is_given(resources, assembly):
    """No ${Name} is left in the definition, and none is given in vain."""
    from stacks.workflow.state_machine import DEFINITION

    machines = resources("Workflow", "AWS::StepFunctions::StateMachine")
    wanted = set(re.findall(r"\$\{(\w+)\}", DEFINITION.read_text()))
    for machine in machines:
        assert set(machine["DefinitionSubstitutions"]) == wanted


def test_the_asset_is_all_a_function_needs(assembly):
    """Every handler imports from the asset alone, beside the runtime's own boto3."""
    from stacks.workflow.functions import FUNCTIONS

    (asset,) = [path for path in assembly.glob("asset.*") if (path / "codeferry_lambdas").exists()]
    site = Path(boto3.__file__).parents[1]
    names = ["boto3", "botocore", "s3transfer", "urllib3", "dateutil", "six.py"]
    runtime = assembly.parent / "runtime"
    runtime.mkdir(exist_ok=True)
    for name in names:
        (runtime / name).exists() or (runtime / name).symlink_to(site / name)
    modules = ", ".join(
        f"codeferry_lambdas.handlers.{config.module}" for config in FUNCTIONS.values()
    )
    script = f"import sys; sys.path[:0] = [{str(asset)!r}, {str(runtime)!r}]; import {modules}"
    done = subprocess.run(
        [sys.executable, "-B", "-I", "-S", "-c", script],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_asset_runs_on_any_architecture(assembly):
    """Nothing compiled is in it: the functions run on arm64, the suite on anything."""
    (asset,) = [path for path in assembly.glob("asset.*") if (path / "codeferry_lambdas").exists()]
    assert not list(asset.rglob("*.so"))
    assert not list(asset.rglob("*.pyc"))


@pytest.mark.parametrize(
    ("context", "word"),
    [({"log_days": "many"}, "log_days"), ({"max_archive_gib": 0}, "max_archive_gib")],
)
def test_a_setting_that_makes_no_sense_is_named(context, word):
    """The error says which -c value is wrong."""
    from aws_cdk import App

    from stacks.settings import SettingInvalid, Settings

    with pytest.raises(SettingInvalid, match=word):
        Settings.from_context(App(context=context))


def test_the_docs_show_exactly_the_permissions_that_are_deployed(resources):
    """docs/iam.md is generated from what the roles get: every action of every function."""
    from scripts.docs import ARNS
    from stacks.permissions.roles import (
        EVENT_FUNCTIONS,
        EVERY_FUNCTION,
        INVOKED_BY_EVENTS,
        function_permissions,
    )

    shown = {
        function: {a for permission in granted for a in permission.actions}
        | set(EVERY_FUNCTION)
        | (set(INVOKED_BY_EVENTS) if function in EVENT_FUNCTIONS else set())
        for function, granted in function_permissions(ARNS).items()
    }
    assert deployed_actions(resources) == shown


def deployed_actions(resources):
    """Function to the actions its role may do."""
    of_role = {}
    for policy in resources("Workflow", "AWS::IAM::Policy"):
        (role,) = policy["Roles"]
        found = {a for s in policy["PolicyDocument"]["Statement"] for a in actions(s)}
        of_role.setdefault(role["Ref"], set()).update(found)
    functions = resources("Workflow", "AWS::Lambda::Function")
    return {
        function["FunctionName"].removeprefix("codeferry-prod-"): of_role[
            function["Role"]["Fn::GetAtt"][0]
        ]
        for function in functions
    }


def test_an_excuse_is_for_an_action_of_its_own_statement():
    """What a permission calls unseen is among its actions, and has a reason."""
    from scripts.docs import ARNS
    from stacks.permissions.roles import function_permissions

    for permission in (p for granted in function_permissions(ARNS).values() for p in granted):
        assert set(permission.unseen) <= set(permission.actions)
        assert all(permission.unseen.values())
