"""Each condition and each Deny of every policy matters: without it, a decision is another one."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from stacks.permissions.roles import boundary_document, place_of
from tests.unit.stacks.iam_evaluator import Request, decide, listed
from tests.unit.stacks.permissions.test_cloudformation import DECISIONS
from tests.unit.stacks.permissions.test_cloudformation import STATEMENTS as CLOUDFORMATION
from tests.unit.stacks.policies import ACCOUNT, REGION, Assembly, Policy, arn_of
from tests.unit.stacks.test_gitops import AUDIENCE, ISSUER, OWN_ENVIRONMENT, OWN_MAIN, STRANGERS

# What a caller's own policies allow beside a resource's: everything.
ADMINISTRATOR = ({"Effect": "Allow", "Action": "*", "Resource": "*"},)
ADMIN = f"arn:aws:iam::{ACCOUNT}:role/Admin"
BREAK_GLASS = f"arn:aws:iam::{ACCOUNT}:role/codeferry-prod-eu-west-1-break-glass"
STRANGER = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/somebody-elses"
INSTANCE = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/i-1"
TLS = {"aws:SecureTransport": "true"}
BOUNDARY = boundary_document(place_of("aws", REGION, ACCOUNT))["Statement"]


class Question:
    """What is decided beside ``base``, and how."""

    def __init__(self, action, resource, context, allowed, base=()):
        self.request = Request(action, resource, context)
        self.allowed, self.base = allowed, base

    def answered(self, statements):
        return decide([*self.base, *statements], self.request) is self.allowed


# --- the questions --------------------------------------------------------------------------


def questions(policy: Policy, assembly: Assembly) -> Iterator[Question]:
    """The decisions that a policy is there for, by the kind of resource it belongs to."""
    match policy:
        case Policy(trust=True):
            yield from about_trust(policy)
        case Policy(kind="AWS::S3::BucketPolicy"):
            yield from about_transport(policy)
            yield from about_deletion(policy)
        case Policy(kind="AWS::SNS::TopicPolicy"):
            yield from about_transport(policy)
            yield from about_alarms(policy, assembly)
        case Policy(kind="AWS::SQS::QueuePolicy"):
            yield from about_transport(policy)
            yield from about_senders(policy, assembly)
        case Policy(kind="AWS::Lambda::Permission"):
            yield from about_the_rule(policy)
        case Policy(stack="Codeferry-prod-Workflow", kind="AWS::IAM::Policy"):
            yield from about_commands(policy)
        case Policy(stack="Codeferry-prod-Fleet", kind="AWS::IAM::Policy"):
            yield from about_models(policy)


def about_trust(policy):
    if policy.about == BREAK_GLASS:
        for mfa in ({}, {"aws:MultiFactorAuthPresent": "false"}):
            yield Question("sts:AssumeRole", "*", mfa, False)
    own = {"plan": OWN_MAIN, "inspect": OWN_MAIN, "deploy": OWN_ENVIRONMENT}.get(
        policy.about.rpartition("-")[2]
    )
    if own:
        taken = "sts:AssumeRoleWithWebIdentity"
        for subject in filter(None, STRANGERS.values()):
            yield Question(taken, "*", claims(subject, AUDIENCE), False)
        yield Question(taken, "*", claims(own, AUDIENCE), True)
        yield Question(taken, "*", claims(own, "https://github.com/acme"), False)


def claims(subject, audience):
    return {f"{ISSUER}:aud": audience, f"{ISSUER}:sub": subject}


def about_transport(policy):
    """HTTP is refused to everybody, for each thing the policy is about."""
    for resource in {r for s in policy.statements for r in listed(s["Resource"])}:
        action = {"s3": "s3:GetObject", "sns": "sns:Publish", "sqs": "sqs:SendMessage"}
        done = action[resource.split(":")[2]], resource.replace("*", "a")
        yield Question(*done, {"aws:SecureTransport": "false"}, False, ADMINISTRATOR)
        yield Question(*done, TLS, True, ADMINISTRATOR)


def about_deletion(policy):
    """Nobody but the break-glass role deletes what is permanent."""
    closed = [s for s in policy.statements if s.get("Sid") == "PermanentButForBreakGlass"]
    for bucket in {s["Resource"][0] for s in closed}:
        for action, resource in (
            ("s3:DeleteBucket", bucket),
            ("s3:DeleteBucketPolicy", bucket),
            ("s3:PutBucketPolicy", bucket),
            ("s3:DeleteObjectVersion", f"{bucket}/weights"),
        ):
            for who, allowed in ((ADMIN, False), (BREAK_GLASS, True)):
                context = {**TLS, "aws:PrincipalArn": who}
                yield Question(action, resource, context, allowed, ADMINISTRATOR)


def about_alarms(policy, assembly):
    """Each alarm that has the topic as its action gets through to it, and nobody else's does."""
    (topic,) = {r for s in policy.statements for r in listed(s["Resource"])}
    mine = [
        arn_of(stack, id_, alarm)
        for stack, id_, alarm in assembly.resources("AWS::CloudWatch::Alarm")
        if topic in assembly.read(stack, alarm["Properties"].get("AlarmActions", []))
    ]
    for alarm in mine:
        yield Question("sns:Publish", topic, {**TLS, "aws:SourceArn": alarm}, True)
        yield Question("sns:Publish", topic, {**TLS, "aws:SourceArn": STRANGER}, False)


def about_senders(policy, assembly):
    """EventBridge leaves what the stage's own rules could not deliver."""
    own = [
        arn_of(stack, id_, rule)
        for stack, id_, rule in assembly.resources("AWS::Events::Rule")
        if any("DeadLetterConfig" in target for target in rule["Properties"]["Targets"])
    ]
    (queue,) = {r for s in policy.statements for r in listed(s["Resource"])}
    assert own
    for rule, allowed in (*((rule, True) for rule in own), (STRANGER, False)):
        yield Question("sqs:SendMessage", queue, {**TLS, "aws:SourceArn": rule}, allowed)


def about_the_rule(policy):
    (statement,) = policy.statements
    for allowed in (True, False):
        rule = statement["Condition"]["ArnEquals"]["aws:SourceArn"] if allowed else STRANGER
        context = {"aws:SourceArn": rule}
        yield Question("lambda:InvokeFunction", statement["Resource"], context, allowed)


def about_commands(policy):
    """Commands go to instances that carry the tag, and to none of another stage."""
    if any("ssm:SendCommand" in listed(s["Action"]) for s in policy.statements):
        tag, stage = {"aws:ResourceTag/codeferry:target": "demo"}, "aws:ResourceTag/codeferry:stage"
        yield Question("ssm:SendCommand", INSTANCE, tag, True)
        yield Question("ssm:SendCommand", INSTANCE, tag | {stage: "prod"}, True)
        yield Question("ssm:SendCommand", INSTANCE, tag | {stage: "dev"}, False)
        yield Question("ssm:SendCommand", INSTANCE, tag | {stage: ""}, False)
        yield Question("ssm:SendCommand", INSTANCE, {stage: "prod"}, False)
        yield Question("ssm:SendCommand", INSTANCE, {}, False)


def about_models(policy):
    """A fleet lists its own models and not what else is kept."""
    listing = [s for s in policy.statements if "s3:ListBucket" in listed(s["Action"])]
    for bucket in {s["Resource"] for s in listing}:
        for prefix, allowed in (("weights/v1/", True), ("", False)):
            yield Question("s3:ListBucket", bucket, {"s3:prefix": prefix}, allowed)


# --- the mutants ----------------------------------------------------------------------------


def mutants(statements):
    """Without each Deny, and without each condition, in turn."""
    for number, statement in enumerate(statements):
        if statement["Effect"] == "Deny":
            yield f"Deny {number}", [s for s in statements if s is not statement]
        for operator, terms in statement.get("Condition", {}).items():
            for key in terms:
                changed = copy.deepcopy(list(statements))
                del changed[number]["Condition"][operator][key]
                yield f"{operator} {key} of {number}", changed


def survivors(name, statements, asked):
    """Mutants that answer every question as the policy does."""
    assert [q.request for q in asked if not q.answered(statements)] == []
    return [
        (name, what)
        for what, mutant in mutants(statements)
        if all(question.answered(mutant) for question in asked)
    ]


def test_no_condition_and_no_deny_of_a_template_can_be_left_out(everything):
    """Trust, identity, bucket, topic and queue policies, and permissions to invoke."""
    assembly = Assembly(everything)
    policies = list(assembly.policies())
    evaluated = [p for p in policies if any(True for _ in mutants(p.statements))]
    assert {policy.kind for policy in evaluated} == {
        "AWS::IAM::Policy",
        "AWS::IAM::Role",
        "AWS::Lambda::Permission",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::QueuePolicy",
    }
    left = [
        survivor
        for policy in evaluated
        for survivor in survivors(
            (policy.stack, policy.id_), policy.statements, list(questions(policy, assembly))
        )
    ]
    assert left == []


def test_no_condition_of_what_cloudformation_may_do_can_be_left_out():
    """The table of decisions notices each."""
    asked = [Question(*decision) for decision in DECISIONS]
    assert survivors("cloudformation", CLOUDFORMATION, asked) == []


def test_no_condition_and_no_deny_of_the_boundary_can_be_left_out():
    """A role reaches our tagged things alone, and GitHub's roles stay what they are."""
    roles = f"arn:aws:iam::{ACCOUNT}:role"
    deploy_role = f"{roles}/cdk-hnb659fds-deploy-role-{ACCOUNT}-{REGION}"
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
    tagged = {"aws:ResourceTag/codeferry:stage": "prod"}
    target = {"aws:ResourceTag/codeferry:target": "workers"}
    plan = {"aws:PrincipalArn": f"{roles}/codeferry-prod-eu-west-1-plan"}
    inspect = {"aws:PrincipalArn": f"{roles}/codeferry-prod-eu-west-1-inspect"}
    deploy = {"aws:PrincipalArn": f"{roles}/codeferry-prod-eu-west-1-deploy"}
    own = {"aws:PrincipalArn": f"{roles}/Codeferry-prod-Workflow-StartRole"}
    bucket = "arn:aws:s3:::codeferry-prod-a"
    asked = [
        Question("kms:Decrypt", key, {**own, **tagged}, True),
        Question("kms:Decrypt", key, own, False),
        Question("ssm:SendCommand", INSTANCE, {**own, **target}, True),
        Question("ssm:SendCommand", INSTANCE, own, False),
        Question("s3:PutBucketPolicy", bucket, own, True),
        Question("s3:PutBucketPolicy", bucket, plan, False),
        Question("s3:GetBucketPolicy", bucket, plan, False),
        Question("s3:PutBucketPolicy", bucket, inspect, False),
        Question("s3:GetBucketPolicy", bucket, inspect, True),
        Question("s3:GetBucketPolicy", bucket, deploy, False),
        Question("sts:AssumeRole", deploy_role, deploy, True),
    ]
    assert survivors("boundary", BOUNDARY, asked) == []
