"""Each role of the stage against the calls made with it: enough for every one, and no more.

The embedded IAM refuses what a role does not allow, so that a run here has been allowed
everything; ``test_a_statement_less_and_the_run_fails`` asks the same of every narrower role.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from pathlib import Path

import pytest
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from codeferry_contracts.layout import ReleaseKeys
from codeferry_contracts.names import WORKFLOWS, inbox_run_id

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the CDK app is no package

from stacks.permissions.roles import (
    EVENT_FUNCTIONS,
    EVERY_FUNCTION,
    INVOKED_BY_EVENTS,
    Arns,
    function_permissions,
)
from tests.e2e.conftest import until
from tests.e2e.needs import Need, journal, refused, statements_of, unused
from tests.unit.stacks.iam_evaluator import listed

pytestmark = pytest.mark.e2e

FUNCTION = "codeferry-local-"
ACCOUNT = "000000000000"


# --- what was called ---------------------------------------------------------------------


def needs_since(aws, start):
    """All that IAM was asked about the functions and state machines since ``start``."""
    calls = journal(aws.state.endpoints["aws"])
    return {need for call in calls if call["time"] >= start for need in _needs(aws, call)}


def _needs(aws, call):
    name = _of_the_stage(call)
    context = sorted((key, value) for key, value in call["context"].items() if value == str(value))
    if name and call["action"].startswith("states:SendTask"):
        # A token is authorised as the state machine that waits for it, which is any of ours.
        for machine in aws.state.state_machines.values():
            yield Need(name, call["action"], machine)
    elif name:
        yield Need(name, call["action"], call["resource"], tuple(context))


def _of_the_stage(call):
    """The function, or state machine, whose role was used: also by who has a presigned URL."""
    key = call["access_key"]
    return key.removeprefix(FUNCTION) if key.startswith(FUNCTION) else ""


# --- what is allowed ---------------------------------------------------------------------


def deployed_statements(aws):
    """Each function's and state machine's statements, from the role it was deployed with."""
    iam, states = aws.client("iam"), aws.client("stepfunctions")
    roles = {
        function["FunctionName"]: function["Role"]
        for function in aws.client("lambda").list_functions()["Functions"]
    }
    for arn in aws.state.state_machines.values():
        roles[arn.rpartition(":")[2]] = states.describe_state_machine(stateMachineArn=arn)[
            "roleArn"
        ]
    found = {}
    for name, arn in roles.items():
        role = arn.rpartition("/")[2]
        assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
        found[name.removeprefix(FUNCTION)] = statements_of(iam, role)
    return found


# --- a run of every kind -----------------------------------------------------------------


def execution(aws, run_id):
    return f"{aws.machine.replace(':stateMachine:', ':execution:')}:{run_id}"


def ended(aws, run_id):
    states = aws.client("stepfunctions")
    try:
        status = states.describe_execution(executionArn=execution(aws, run_id))["status"]
    except states.exceptions.ExecutionDoesNotExist:
        return ""
    return status if status != "RUNNING" else ""


def put(aws, key, body):
    """Upload after an attempt that was cut off and left its parts; the version."""
    s3 = aws.client("s3")
    s3.create_multipart_upload(Bucket=aws.bucket, Key=key)
    return s3.put_object(Bucket=aws.bucket, Key=key, Body=body)["VersionId"]


def packed(aws, project, directory):
    path = directory / "archive.tar.gz"
    done = aws.ferry("pack", project, "-o", path, stage=None)
    assert done.exit == 0, done.err
    return path.read_bytes()


def start_by_hand(aws, body, more=None, name=None, **options):
    """The id of a run as a person starts it at the console, ``more`` in its request."""
    key = f"archives/{uuid.uuid4().hex}.tar.gz"
    put(aws, key, body)
    request = {"archive": {"key": key}, "target": "demo", "options": options, **(more or {})}
    started = aws.client("stepfunctions").start_execution(
        stateMachineArn=aws.machine, name=name or uuid.uuid4().hex, input=json.dumps(request)
    )
    return started["executionArn"].rpartition(":")[2]


def start_with_variables(aws, body):
    """As ``start_by_hand``, with a command and the newest version of its variables."""
    name = uuid.uuid4().hex
    key = f"environments/{name}.env.json"
    aws.client("s3").put_object(Bucket=aws.bucket, Key=key, Body=b"{}")
    return start_by_hand(aws, body, {"command": ["true"], "environment": {"key": key}}, name)


def upload_to_the_inbox(aws, body):
    """The id of the run that an upload starts."""
    key = f"inbox/demo/{uuid.uuid4().hex}.tar.gz"
    return inbox_run_id(aws.bucket, key, put(aws, key, body))


def succeed(aws, run_id):
    assert until(lambda: ended(aws, run_id)) == "SUCCEEDED"
    return run_id


def commands(aws, run_id):
    found = aws.client("ssm").list_commands()["Commands"]
    return [command for command in found if command["Comment"] == run_id]


def check_a_target(aws):
    assert aws.ferry("doctor", "demo").exit == 0


def push_to_nobody(aws, project):
    assert aws.ferry("push", "nobody-here", project).exit == 4


def lose_the_answer_and_the_event(aws, project):
    aws.control("POST", "faults", {"drop_response": {"SendCommand": 1}, "events": "suppress"})
    assert aws.ferry("push", "demo", project).exit == 0
    aws.control("DELETE", "faults")


def stop_while_it_runs(aws, start, body):
    slow = {record.instance_id: 6000 for record in aws.state.instances}
    aws.control("POST", "faults", {"slow": slow})
    run_id = start(aws, body)
    until(lambda: [c for c in commands(aws, run_id) if c["Status"] == "InProgress"])
    aws.client("stepfunctions").stop_execution(executionArn=execution(aws, run_id))
    until(lambda: any(k.endswith("report.json") for k in aws.keys(f"runs/{run_id}/")))
    aws.control("DELETE", "faults")


def dispatch_again(aws, run_id):
    """Lambda repeats an invocation whose run has ended meanwhile."""
    run = {"id": run_id, "started_at": "2026-01-01T00:00:00.000+00:00", "workflow": "sync"}
    answer = aws.client("lambda").invoke(
        FunctionName=f"{FUNCTION}dispatch", Payload=json.dumps({"run": run, "batch": 0})
    )
    assert json.load(answer["Payload"])["errorType"] == "RunClosed"


def lose_an_instance_between_waves(aws, body):
    """It was there when the run was planned and is gone when its wave comes."""
    first, *_, last = sorted(aws.state.instances, key=lambda record: record.instance_id)
    aws.control("POST", "faults", {"slow": {first.instance_id: 250}})
    run_id = start_by_hand(aws, body, max_concurrency="1", max_errors="100%")
    until(lambda: commands(aws, run_id))
    aws.control("DELETE", f"instances/{last.instance_id}")
    try:
        assert until(lambda: ended(aws, run_id))
    finally:
        again = {"instance_id": last.instance_id, "root": last.root, "tags": last.tags}
        aws.control("POST", "instances", again | {"name": last.name})
        aws.control("DELETE", "faults")
    assert aws.report(run_id)["counts"]["succeeded"] == 2


def run_a_script(aws, project):
    script = project / "check.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert aws.ferry("script", "demo", script, "--no-files", "--env", "A=b").exit == 0


def lose_the_agent(aws):
    """An instance that has to fetch again what runs on it."""
    shutil.rmtree(aws.root(aws.state.instances[0], ".agent"), ignore_errors=True)


def return_a_run(aws, run_id):
    """What the run has changed goes back; the release before is made the kept one again."""
    done = aws.ferry("rollback", f"run:{run_id}")
    assert done.exit == 0, done.err


def join_late(aws, project):
    """An instance that starts and, as far as is known, has not got its target's release."""
    keys, last = ReleaseKeys("demo", project.name), aws.state.instances[-1].instance_id
    kept = aws.record(keys.record)
    del kept["instances"][last]
    s3 = aws.client("s3")
    s3.put_object(Bucket=aws.bucket, Key=keys.record, Body=json.dumps(kept).encode())
    aws.control("POST", f"started/{last}", {})
    until(lambda: last in aws.record(keys.record)["instances"])


@pytest.fixture(scope="module")
def seen(embedded, tmp_path_factory):
    """What the functions needed while a run of every kind went through."""
    begun, aws = time.time(), embedded
    directory = tmp_path_factory.mktemp("permissions")
    project = directory / f"project-{uuid.uuid4().hex[:8]}"
    project.mkdir()
    (project / "main.py").write_text("print('hello')\n")
    (project / "requirements.txt").write_text("")
    body = packed(aws, project, directory)
    aws.control("DELETE", "faults")
    try:
        check_a_target(aws)
        push_to_nobody(aws, project)
        succeed(aws, upload_to_the_inbox(aws, body))
        dispatch_again(aws, succeed(aws, start_by_hand(aws, body)))
        lose_the_answer_and_the_event(aws, project)
        stop_while_it_runs(aws, upload_to_the_inbox, body)
        stop_while_it_runs(aws, start_with_variables, body)
        lose_an_instance_between_waves(aws, body)
        lose_the_agent(aws)
        run_a_script(aws, project)
        join_late(aws, project)
        (project / "main.py").write_text("print('another release')\n")
        pushed = aws.ferry("push", "demo", project, "--json")
        return_a_run(aws, pushed.json["run_id"])
    finally:
        aws.control("DELETE", "faults")
    return needs_since(aws, begun)


# --- the tests ---------------------------------------------------------------------------


def test_every_call_is_allowed_by_its_functions_role(aws, seen):
    """Whatever these runs asked for, no function left its role.

    Other tests of the suite share this AWS, with fleets of their own that are gone by now:
    only the calls since this file's first run are judged.
    """
    statements = deployed_statements(aws)
    assert {need.who for need in seen} == set(statements)
    assert [need for need in seen if refused(statements[need.who], [need])] == []


def test_nothing_is_allowed_that_is_never_used_without_a_reason(aws, seen):
    """A grant is seen in use, or says why it is there; what is in use needs no excuse."""
    spare = {
        (function, action)
        for function, statements in deployed_statements(aws).items()
        for action in unused(statements, [need for need in seen if need.who == function])
    }
    assert spare == set(excuses())
    assert all(excuses().values())


# Step Functions' own, beside the calls of the definition.
MACHINES = {
    **dict.fromkeys(
        (
            "logs:CreateLogDelivery",
            "logs:GetLogDelivery",
            "logs:UpdateLogDelivery",
            "logs:DeleteLogDelivery",
            "logs:ListLogDeliveries",
            "logs:PutResourcePolicy",
            "logs:DescribeResourcePolicies",
            "logs:DescribeLogGroups",
        ),
        "Step Functions delivers the execution's log.",
    ),
    **dict.fromkeys(
        (
            "xray:PutTraceSegments",
            "xray:PutTelemetryRecords",
            "xray:GetSamplingRules",
            "xray:GetSamplingTargets",
        ),
        "Step Functions traces the execution.",
    ),
    **dict.fromkeys(
        (
            "states:DescribeExecution",
            "states:StopExecution",
            "events:PutTargets",
            "events:PutRule",
            "events:DescribeRule",
        ),
        "Step Functions waits for the end of an execution that a state has started.",
    ),
    "states:StartExecution": "Only a failed wave of a roll-out is returned: tests/workflow.",
}


def excuses():
    """Function and action to the reason why it is granted though nothing here uses it."""
    arns = Arns("*", "*", ("*",), "*", dict.fromkeys(WORKFLOWS, "*"), "*", "*", "*", "*")
    granted = function_permissions(arns)
    found = {
        (function, action): why
        for function, statements in granted.items()
        for permission in statements
        for action, why in permission.unseen.items()
    }
    found |= {(f, action): why for f in granted for action, why in EVERY_FUNCTION.items()}
    found |= {(machine, action): why for machine in WORKFLOWS for action, why in MACHINES.items()}
    return found | {
        (f, action): why for f in EVENT_FUNCTIONS for action, why in INVOKED_BY_EVENTS.items()
    }


def test_a_statement_less_and_the_run_fails(aws, seen):
    """Each statement of each role taken away, each of its resources made another one, its
    condition made false: every time a call of those runs is refused, or the grant says why not."""
    excused, unnoticed = excuses(), []
    for name, statements in deployed_statements(aws).items():
        needs = [need for need in seen if need.who == name]
        for statement in statements:
            spare = [action for action in listed(statement["Action"]) if (name, action) in excused]
            rest = [other for other in statements if other is not statement]
            for how, narrowed in narrowings(statement):
                if not refused([*rest, *narrowed], needs) and spare != listed(statement["Action"]):
                    unnoticed.append((name, how, statement))
    assert unnoticed == []


NEVER = {"StringEquals": {"aws:PrincipalTag/codeferry:nobody": "has this tag"}}


def narrowings(statement):
    """What is left of a statement that allows less, each with how."""
    yield "removed", []
    yield "condition", [statement | {"Condition": {**statement.get("Condition", {}), **NEVER}}]
    resources = listed(statement["Resource"])
    for index, resource in enumerate(resources):
        others = [*resources[:index], f"{resource}-another", *resources[index + 1 :]]
        if resource == "*":
            others = ["arn:aws:s3:::another"]
        yield f"not {resource}", [statement | {"Resource": others}]
    for operator, terms in statement.get("Condition", {}).items():
        for key in terms:
            false = {**statement["Condition"], operator: {**terms, key: "of-another"}}
            yield f"{operator} {key}", [statement | {"Condition": false}]


def test_both_judges_are_of_one_mind(aws, seen):
    """What judges here and what enforces in the embedded AWS decide alike, for every call seen
    and every role."""
    for name, statements in deployed_statements(aws).items():
        parsed = parse_policy_document({"Statement": statements})
        refusals = set(refused(statements, seen))
        for need in seen:
            context = {key.lower(): value for key, value in need.context}
            asked = EvalContext(
                "arn:aws:sts::0:assumed-role/r/s",
                "AssumedRole",
                ACCOUNT,
                need.action,
                need.resource,
                aws.state.region,
                service_context=context,
            )
            allowed = evaluate(asked, [parsed]).decision == "Allow"
            assert allowed is (need not in refusals), (name, need)


NEED = Need(
    "f", "ssm:SendCommand", "arn:aws:ec2:r:a:instance/i-1", (("aws:ResourceTag/t", "demo"),)
)
STATEMENT = {
    "Effect": "Allow",
    "Action": "ssm:SendCommand",
    "Resource": "arn:aws:ec2:r:a:instance/*",
    "Condition": {"StringLike": {"aws:ResourceTag/t": "?*"}},
}


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({}, True),
        ({"Action": ["ssm:CancelCommand", "ssm:SendCommand"]}, True),
        ({"Action": "ssm:CancelCommand"}, False),
        ({"Resource": ["arn:aws:ec2:r:a:instance/i-2", "arn:aws:ec2:r:a:instance/i-?"]}, True),
        ({"Resource": "arn:aws:ec2:r:a:instance/"}, False),
        ({"Resource": "arn:aws:ec2:r:b:instance/*"}, False),
        ({"Condition": {"StringLike": {"aws:ResourceTag/t": "other*"}}}, False),
        ({"Condition": {"StringLike": {"aws:ResourceTag/u": "*"}}}, False),
    ],
)
def test_a_statement_is_read_as_iam_reads_it(change, allowed):
    """The judge itself: action, resource with wildcards, and the tag have to match."""
    assert (refused([STATEMENT | change], [NEED]) == []) is allowed


def test_a_narrowing_refuses_and_a_double_does_not():
    """The narrowing itself: each refuses what the statement was for, unless another allows it."""
    how = [name for name, _ in narrowings(STATEMENT)]
    assert how == ["removed", "condition", f"not {STATEMENT['Resource']}", CONDITION]
    for _, narrowed in narrowings(STATEMENT):
        assert refused(narrowed, [NEED]) == [NEED]
        assert refused([STATEMENT, *narrowed], [NEED]) == []


CONDITION = "StringLike aws:ResourceTag/t"
