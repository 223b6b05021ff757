"""The GitHub roles: who may take each, and what it may do; decided, not read."""

from __future__ import annotations

import copy

import pytest

from tests.unit.stacks.iam_evaluator import Request, bounded, decide, plain

ISSUER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"
REPOSITORY = "repo:acme@12/app@34"
OWN_PULL_REQUEST = f"{REPOSITORY}:pull_request"
OWN_MAIN = f"{REPOSITORY}:ref:refs/heads/main"
OWN_ENVIRONMENT = f"{REPOSITORY}:environment:production"

STRANGERS = {
    "a fork": "repo:mallory@99/app@98:ref:refs/heads/main",
    "a fork's environment": "repo:mallory@99/app@98:environment:production",
    "another repository of the owner": "repo:acme@12/other@35:environment:production",
    "the same names, made anew": "repo:acme@13/app@36:environment:production",
    "the names without their numbers": "repo:acme/app:environment:production",
    "another branch": f"{REPOSITORY}:ref:refs/heads/feature",
    "a branch that begins like main": f"{REPOSITORY}:ref:refs/heads/main-2",
    "a tag": f"{REPOSITORY}:ref:refs/tags/main",
    "another environment": f"{REPOSITORY}:environment:staging",
    "an environment that begins alike": f"{REPOSITORY}:environment:production2",
    "another case": "repo:Acme@12/App@34:environment:production",
    "a look-alike owner": "repo:acme-@12/app@34:environment:production",
    "a prefix": REPOSITORY,
    "a wildcard": f"{REPOSITORY}:*",
    "everything": "*",
    "nothing": "",
    "none": None,
}


def role(found, purpose):
    (it,) = [
        r["Properties"]
        for r in found("GitOps", "AWS::IAM::Role").values()
        if plain(r["Properties"]["RoleName"]) == f"codeferry-prod-eu-west-1-{purpose}"
    ]
    return it


def trust(found, purpose):
    return plain(role(found, purpose)["AssumeRolePolicyDocument"]["Statement"])


def assumes(statements, subject, audience=AUDIENCE):
    """Whether a token with these claims gets the role."""
    claims = {f"{ISSUER}:aud": audience, f"{ISSUER}:sub": subject}
    present = {key: value for key, value in claims.items() if value is not None}
    return decide(statements, Request("sts:AssumeRoleWithWebIdentity", context=present))


@pytest.mark.parametrize(
    ("purpose", "subject", "allowed"),
    [
        ("plan", OWN_PULL_REQUEST, True),
        ("plan", OWN_MAIN, True),
        ("plan", OWN_ENVIRONMENT, False),
        ("inspect", OWN_MAIN, True),
        ("inspect", OWN_PULL_REQUEST, False),
        ("inspect", OWN_ENVIRONMENT, False),
        ("deploy", OWN_ENVIRONMENT, True),
        ("deploy", OWN_MAIN, False),
        ("deploy", OWN_PULL_REQUEST, False),
    ],
)
def test_own_runs_get_exactly_their_role(found, purpose, subject, allowed):
    """Pull requests and main may plan; only main may look at what is deployed, and only the
    protected environment change it."""
    assert assumes(trust(found, purpose), subject) is allowed


@pytest.mark.parametrize("purpose", ["plan", "inspect", "deploy"])
@pytest.mark.parametrize("who", STRANGERS)
def test_strangers_get_none(found, purpose, who):
    """Not a fork, not a look-alike, not a tag, not a token without a subject."""
    assert not assumes(trust(found, purpose), STRANGERS[who])


@pytest.mark.parametrize(
    "audience", ["https://github.com/acme", "sts.amazonaws.com.evil", "", None]
)
def test_a_token_for_somebody_else_is_worth_nothing(found, audience):
    """The audience is AWS's, exactly."""
    assert not assumes(trust(found, "plan"), OWN_MAIN, audience)
    assert not assumes(trust(found, "inspect"), OWN_MAIN, audience)
    assert not assumes(trust(found, "deploy"), OWN_ENVIRONMENT, audience)


def test_only_the_provider_of_this_account_is_trusted(found, only):
    """Tokens come from the account's own provider for GitHub, for AWS's audience only."""
    ((provider, _),) = found("GitOps", "AWS::IAM::OIDCProvider").items()
    for purpose in ("plan", "inspect", "deploy"):
        (statement,) = role(found, purpose)["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Federated": {"Ref": provider}}
        assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    provider = only("GitOps", "AWS::IAM::OIDCProvider")
    assert provider["Url"] == f"https://{ISSUER}"
    assert provider["ClientIdList"] == [AUDIENCE]


def test_without_the_numbers_the_names_are_trusted(synthesise):
    """A repository from before immutable subjects says its names alone."""
    from stacks.gitops import subjects
    from stacks.settings import GitOpsSettings

    assert subjects(GitOpsSettings("acme/app")).deploy == ("repo:acme/app:environment:production",)


# --- what the roles may do ------------------------------------------------------------------

ACCOUNT = "111122223333"
STACKS = f"arn:aws:cloudformation:eu-west-1:{ACCOUNT}:stack"
CDK = f"arn:aws:iam::{ACCOUNT}:role/cdk-hnb659fds"
FUNCTIONS = f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function"

# What plan has, and what a pull request has no business with.
PLAN = [
    ("cloudformation:DescribeStacks", f"{STACKS}/Codeferry-prod-Workflow/1", True),
    ("cloudformation:GetTemplate", f"{STACKS}/Codeferry-prod-Workflow/1", True),
    ("cloudformation:GetTemplate", f"{STACKS}/Codeferry-dev-Workflow/1", False),
    ("cloudformation:GetTemplate", f"{STACKS}/Payroll/1", False),
    ("ec2:DescribeLaunchTemplateVersions", "*", False),
    ("lambda:GetFunctionConfiguration", f"{FUNCTIONS}:codeferry-prod-plan", False),
    ("lambda:InvokeFunction", f"{FUNCTIONS}:codeferry-prod-check", False),
    ("cloudformation:DetectStackDrift", f"{STACKS}/Codeferry-prod-Storage/1", False),
    ("iam:GetRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/codeferry-prod-eu-west-1-deploy", False),
    ("s3:GetBucketPolicy", "arn:aws:s3:::codeferry-prod-storage-x", False),
    ("s3:ListBucket", "arn:aws:s3:::codeferry-prod-storage-x", False),
    ("ec2:DescribeSecurityGroups", "*", False),
    ("logs:DescribeLogGroups", "*", False),
]
INSPECT = [
    ("ec2:DescribeLaunchTemplateVersions", "*", True),
    ("lambda:GetFunctionConfiguration", f"{FUNCTIONS}:codeferry-prod-plan", True),
    ("lambda:GetFunctionConfiguration", f"{FUNCTIONS}:codeferry-dev-plan", False),
    ("cloudformation:GetTemplate", f"{STACKS}/Codeferry-prod-Workflow/1", True),
    ("cloudformation:GetTemplate", f"{STACKS}/Codeferry-dev-Workflow/1", False),
    ("cloudformation:GetTemplate", f"{STACKS}/Payroll/1", False),
    ("cloudformation:DetectStackDrift", f"{STACKS}/Codeferry-prod-Storage/1", True),
    ("cloudformation:CreateChangeSet", f"{STACKS}/Codeferry-prod-Workflow/1", False),
    ("cloudformation:UpdateStack", f"{STACKS}/Codeferry-prod-Workflow/1", False),
    ("cloudformation:DeleteStack", f"{STACKS}/Codeferry-prod-Workflow/1", False),
    ("s3:GetBucketPolicy", "arn:aws:s3:::codeferry-prod-storage-x", True),
    ("s3:GetObject", "arn:aws:s3:::codeferry-prod-storage-x/runs/1/report.json", False),
    ("s3:PutBucketPolicy", "arn:aws:s3:::codeferry-prod-storage-x", False),
    ("s3:GetBucketPolicy", "arn:aws:s3:::payroll", False),
    ("lambda:InvokeFunction", f"{FUNCTIONS}:codeferry-prod-check", True),
    ("lambda:InvokeFunction", f"{FUNCTIONS}:codeferry-prod-dispatch", False),
    ("lambda:UpdateFunctionCode", f"{FUNCTIONS}:codeferry-prod-check", False),
    ("ssm:SendCommand", f"arn:aws:ec2:eu-west-1:{ACCOUNT}:instance/i-1", False),
    ("ssm:GetParameter", f"arn:aws:ssm:eu-west-1:{ACCOUNT}:parameter/secret", False),
    ("sts:AssumeRole", f"{CDK}-deploy-role-{ACCOUNT}-eu-west-1", False),
    ("sts:AssumeRole", f"{CDK}-lookup-role-{ACCOUNT}-eu-west-1", False),
    ("iam:CreateUser", "*", False),
    ("iam:PassRole", f"{CDK}-cfn-exec-role-{ACCOUNT}-eu-west-1", False),
    ("secretsmanager:GetSecretValue", "*", False),
]
DEPLOY = [
    ("sts:AssumeRole", f"{CDK}-deploy-role-{ACCOUNT}-eu-west-1", True),
    ("sts:AssumeRole", f"{CDK}-file-publishing-role-{ACCOUNT}-eu-west-1", True),
    # It reads the whole account.
    ("sts:AssumeRole", f"{CDK}-lookup-role-{ACCOUNT}-eu-west-1", False),
    # CloudFormation takes this one; nobody becomes it.
    ("sts:AssumeRole", f"{CDK}-cfn-exec-role-{ACCOUNT}-eu-west-1", False),
    ("sts:AssumeRole", f"{CDK}-deploy-role-{ACCOUNT}-us-east-1", False),
    ("sts:AssumeRole", "arn:aws:iam::444455556666:role/cdk-hnb659fds-deploy-role", False),
    ("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/Admin", False),
    ("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/codeferry-prod-eu-west-1-break-glass", False),
    ("iam:PassRole", f"{CDK}-cfn-exec-role-{ACCOUNT}-eu-west-1", False),
    ("cloudformation:UpdateStack", f"{STACKS}/Codeferry-prod-Workflow/1", False),
    ("s3:GetObject", "arn:aws:s3:::codeferry-prod-storage-x/inbox/a", False),
]


def policy(found, purpose):
    """The one policy of a role, which is its boundary as well."""
    properties = role(found, purpose)
    (attached,) = properties["ManagedPolicyArns"]
    assert properties["PermissionsBoundary"] == attached
    document = found("GitOps", "AWS::IAM::ManagedPolicy")[attached["Ref"]]["Properties"]
    return plain(document["PolicyDocument"]["Statement"])


@pytest.mark.parametrize(("action", "resource", "allowed"), PLAN)
def test_plan_reads_the_stages_templates_and_nothing_else(found, action, resource, allowed):
    """Whoever may push a branch has it: no user data, no function's environment, no policy."""
    assert decide(policy(found, "plan"), Request(action, resource)) is allowed


@pytest.mark.parametrize(("action", "resource", "allowed"), INSPECT)
def test_inspect_looks_at_the_stage_and_at_nothing_else(found, action, resource, allowed):
    """Configuration of this stage's parts: no object, no secret, no change, no other role."""
    assert decide(policy(found, "inspect"), Request(action, resource)) is allowed


@pytest.mark.parametrize(("action", "resource", "allowed"), DEPLOY)
def test_deploy_becomes_the_cdks_roles_and_no_other(found, action, resource, allowed):
    """All it can do is what CloudFormation then does for it."""
    assert decide(policy(found, "deploy"), Request(action, resource)) is allowed


@pytest.mark.parametrize("purpose", ["plan", "inspect", "deploy"])
def test_a_policy_attached_later_gives_nothing(found, purpose):
    """The boundary holds even against AdministratorAccess."""
    administrator = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    attached = administrator + policy(found, purpose)
    for action in ("iam:CreateUser", "s3:GetObject", "ec2:RunInstances"):
        assert not bounded(attached, policy(found, purpose), Request(action))


def test_nothing_here_is_an_administrator(found):
    """No managed policy of AWS is attached and no statement allows a whole service."""
    for purpose in ("plan", "inspect", "deploy"):
        assert not any(
            "*" in action for statement in policy(found, purpose) for action in statement["Action"]
        )


# --- the tests can fail ---------------------------------------------------------------------


def without_condition(statements, key):
    changed = copy.deepcopy(statements)
    del changed[0]["Condition"]["StringEquals"][key]
    return changed


def as_patterns(statements):
    changed = copy.deepcopy(statements)
    changed[0]["Condition"] = {"StringLike": changed[0]["Condition"]["StringEquals"]}
    changed[0]["Condition"]["StringLike"][f"{ISSUER}:sub"] = "repo:acme*"
    return changed


def test_a_trust_without_its_subject_would_be_caught(found):
    """Removing the condition on sub lets strangers in: the matrix above notices."""
    mutated = without_condition(trust(found, "deploy"), f"{ISSUER}:sub")
    assert any(assumes(mutated, subject) for subject in STRANGERS.values())


def test_a_trust_without_its_audience_would_be_caught(found):
    """Removing the condition on aud lets tokens for others in."""
    mutated = without_condition(trust(found, "plan"), f"{ISSUER}:aud")
    assert assumes(mutated, OWN_MAIN, "https://github.com/acme")


def test_a_trust_by_pattern_would_be_caught(found):
    """A wildcard in sub takes more than it says: other repositories, look-alikes."""
    mutated = as_patterns(trust(found, "deploy"))
    taken = [who for who, subject in STRANGERS.items() if assumes(mutated, subject)]
    assert {"another repository of the owner", "a tag", "a look-alike owner"} <= set(taken)
