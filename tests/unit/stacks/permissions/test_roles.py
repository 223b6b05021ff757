"""Every role is one of those that are evaluated; every action of each has its written reason."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.unit.stacks.iam_evaluator import Request, decide, like, listed, plain
from tests.unit.stacks.permissions.test_cloudformation import STATEMENTS as CLOUDFORMATION
from tests.unit.stacks.policies import ACCOUNT, REGION, Assembly

PAGE = (Path(__file__).resolve().parents[4] / "docs/iam.md").read_text()

# What a role is for, to the headings of docs/iam.md under which its actions are.
CATEGORIES = {
    "function": (),  # test_workflow compares the page, tests/e2e/test_permissions.py the calls
    "instance": (  # tests/e2e/test_bootstrap.py compares the calls of this one and of deploy
        "## `codeferry-<stage>-<region>-instance`, for any instance\n",
        "## `codeferry-<stage>-<region>-drain`, for instances that drain\n",
        "## The fleet's role, beside all three\n",
    ),
    "plan": ("## GitHub: plan\n",),
    "inspect": ("## GitHub: inspect\n",),
    "deploy": ("## GitHub: deploy\n",),
    "break-glass": ("## break-glass\n",),
    "state machine": ("## The state machines\n",),
    "message rule": ("## The messages' rule\n",),
    "bucket cleanup": ("## The function that empties a bucket\n",),
}


def category(assembly, stack, id_, role):
    """What the role is for; KeyError when it is for nothing that is known here."""
    name = plain(role["Properties"].get("RoleName"))
    if name:
        named = ("plan", "inspect", "deploy", "break-glass")
        return {f"codeferry-prod-{REGION}-{purpose}": purpose for purpose in named}[name]
    (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    service = statement["Principal"]["Service"]
    if service == "lambda.amazonaws.com":
        return _of_function(assembly, stack, id_)
    return {
        "ec2.amazonaws.com": "instance",
        "states.amazonaws.com": "state machine",
        "events.amazonaws.com": "message rule",
    }[service]


def _of_function(assembly, stack, id_):
    """A function of ours has a name; the CDK's has none."""
    (function,) = [
        f["Properties"]
        for where, _, f in assembly.resources("AWS::Lambda::Function")
        if where == stack and f["Properties"]["Role"] == {"Fn::GetAtt": [id_, "Arn"]}
    ]
    return "function" if "FunctionName" in function else "bucket cleanup"


def written(heading):
    """Action pattern to the reason that the page gives in the table under a heading."""
    _, _, after = PAGE.partition(f"\n{heading}")
    table = after.partition("\n#")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| `")]
    return {action: why for actions, _, why in rows for action in re.findall("`([^`]+)`", actions)}


@pytest.fixture(scope="module")
def roles(everything):
    """Category to the statements of all its roles."""
    assembly, found = Assembly(everything), {}
    for stack, id_, role in assembly.resources("AWS::IAM::Role"):
        statements = found.setdefault(category(assembly, stack, id_, role), [])
        statements.extend(assembly.role_statements(stack, id_))
    return found


def test_every_role_is_known(roles):
    """A new one has to be put into a category, and with that be evaluated."""
    assert set(roles) == set(CATEGORIES)


@pytest.mark.parametrize("name", [name for name, headings in CATEGORIES.items() if headings])
def test_each_action_of_a_role_has_a_reason_and_no_reason_is_left_over(roles, name):
    """docs/iam.md says what every role is allowed, and why; nothing more and nothing less."""
    allowed = {action for s in roles[name] for action in listed(s["Action"])}
    reasons = {k: why for heading in CATEGORIES[name] for k, why in written(heading).items()}
    assert {a for a in allowed if not any(like(pattern, a) for pattern in reasons)} == set()
    assert {p for p in reasons if not any(like(p, a) for a in allowed)} == set()
    assert all(why.strip() for why in reasons.values())


def test_no_name_of_an_account_is_the_same_in_two_regions(everything):
    """A stage of each region can be in one account: IAM's names are the account's."""
    kinds = {
        "AWS::IAM::Role": "RoleName",
        "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
        "AWS::IAM::InstanceProfile": "InstanceProfileName",
    }
    names = [
        r["Properties"][kinds[r["Type"]]]
        for _, _, r in Assembly(everything).resources(*kinds)
        if kinds[r["Type"]] in r["Properties"]
    ]
    assert len(names) >= 6
    assert [name for name in names if '"AWS::Region"' not in json.dumps(name)] == []


def test_no_role_but_the_instances_has_a_policy_of_aws(everything):
    """AmazonSSMManagedInstanceCore, which AWS keeps to what its agent needs."""
    attached = {
        arn
        for stack, _, role in Assembly(everything).resources("AWS::IAM::Role")
        for arn in map(str, role["Properties"].get("ManagedPolicyArns", []))
        if "iam::aws:policy" in arn
    }
    assert len(attached) == 1
    assert "AmazonSSMManagedInstanceCore" in attached.pop()


# --- nothing is changed anywhere ------------------------------------------------------------

LOOKS = re.compile(r"\w[\w-]*:(Describe|Detect|Get|List)\w*\*?")
ANYWHERE = re.compile(r"\*|arn:[^:]*:[^:]*:[^:]*:[^:]*:\*")
# What changes something and has neither a resource nor a condition, each with its reason.
UNBOUND = {
    "ssm:CancelCommand": "Cancelling names a command, which is no resource of IAM's.",
    "xray:PutTraceSegments": "Traces are no resources.",
    "xray:PutTelemetryRecords": "Traces are no resources.",
    "logs:CreateLogDelivery": "Step Functions' own log deliveries, which are no resources.",
    "logs:UpdateLogDelivery": "Step Functions' own log deliveries, which are no resources.",
    "logs:DeleteLogDelivery": "Step Functions' own log deliveries, which are no resources.",
    "logs:PutResourcePolicy": "Step Functions lets log deliveries in; policies are no resources.",
}


def unbound(statements):
    """The actions that change something, wherever it is and whatever it is."""
    return {
        action
        for s in statements
        if s["Effect"] == "Allow" and not s.get("Condition")
        if any(ANYWHERE.fullmatch(resource) for resource in listed(s["Resource"]))
        for action in listed(s["Action"])
        if not LOOKS.fullmatch(action)
    }


def test_no_role_changes_anything_anywhere(everything):
    """Each mutating action of every role, CloudFormation's too, names resources or a condition, or
    has its reason; and no reason is left over."""
    assembly = Assembly(everything)
    of_roles = [
        statement
        for stack, id_, _ in assembly.resources("AWS::IAM::Role")
        for statement in assembly.role_statements(stack, id_)
    ]
    assert unbound([*of_roles, *CLOUDFORMATION]) == set(UNBOUND)


@pytest.mark.parametrize("resource", ["*", f"arn:aws:ec2:{REGION}:{ACCOUNT}:*"])
def test_a_change_anywhere_would_be_caught(resource):
    """A whole account is no resource; reading it is not looked at here."""
    statement = {"Effect": "Allow", "Action": ["ec2:RunInstances", "ec2:Describe*"]}
    assert unbound([statement | {"Resource": [resource]}]) == {"ec2:RunInstances"}


# --- whoever runs ferry ---------------------------------------------------------------------


def of_ferry():
    """The statements that docs/iam.md gives to paste, for a stage of the bucket "bucket"."""
    block = PAGE.partition("## Whoever runs `ferry`\n")[2].partition("```json\n")[2]
    text = block.partition("```")[0].replace("codeferry-STAGE-storage-*", "bucket")
    return json.loads(text)["Statement"]


@pytest.mark.parametrize(
    ("action", "key", "allowed"),
    [
        ("s3:PutObject", "environments/run-1.env.json", True),
        ("s3:DeleteObjectVersion", "environments/run-1.env.json", True),
        ("s3:GetObject", "environments/run-1.env.json", False),
        ("s3:GetObjectVersion", "environments/run-1.env.json", False),
        ("s3:GetObject", "archives/run-1.env.json", False),
        ("s3:GetObject", "archives/run-1.tar.gz", True),
        ("s3:PutObject", "releases/web/app.tar.gz", False),
        ("s3:PutObject", "runs/run-1/targets.json", False),
    ],
)
def test_nobody_who_runs_ferry_reads_the_variables_of_others(action, key, allowed):
    """They may be secrets: put-only, and nothing that an older ferry put elsewhere."""
    assert decide(of_ferry(), Request(action, f"arn:aws:s3:::bucket/{key}")) is allowed


def test_only_who_carries_variables_can_get_at_them(everything):
    """plan settles their version, dispatch signs for the instance, cleanup and abort delete."""
    assembly = Assembly(everything)
    reached = {}
    for stack, _, function in assembly.resources("AWS::Lambda::Function"):
        statements = assembly.role_statements(
            stack, function["Properties"]["Role"]["Fn::GetAtt"][0]
        )
        for s in statements:
            for resource in listed(s["Resource"]):
                if resource.endswith("/environments/*"):
                    name = function["Properties"]["FunctionName"].rpartition("-")[2]
                    reached.setdefault(name, set()).update(listed(s["Action"]))
    deleting = {"s3:DeleteObject", "s3:DeleteObjectVersion"}
    assert set(reached) == {"plan", "dispatch", "cleanup", "abort"}
    assert reached["plan"] == {"s3:GetObject", "s3:GetObjectVersion"}
    assert reached["dispatch"] == {"s3:GetObjectVersion"}
    assert deleting <= reached["cleanup"] == reached["abort"]
    assert not {a for a in reached["cleanup"] if "Get" in a}
