"""The checks of `ferry doctor --deep`: clock, quotas, policies and endpoints of the account.

Whoever asks may not be allowed to see some of it; then the check says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from codeferry_cli.aws import errors
from codeferry_cli.aws.stage import DeployedStage
from codeferry_contracts.names import Stage
from codeferry_contracts.target import STAGE_TAG, TARGET_TAG

# What a run asks of Lambda at once: the batches of an inline Map.
WANTED_CONCURRENCY = 40
# Signature Version 4 is refused beyond five minutes; one minute off is a clock nobody sets.
_CLOCK_WARNS, _CLOCK_FAILS = 60, 300
# Of an instance without a route to the Internet.
_INTERFACES = ("ssm", "ssmmessages", "logs")

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One finding; ``fix`` is what to do unless ``ok``, ``of_target`` that it is the target's."""

    name: str
    status: Status
    said: str
    fix: str = ""
    of_target: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def deep_checks(
    stage: DeployedStage,
    instances: Sequence[str],
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Check]:
    """Each finding as soon as it is made. ``instances`` are some that the target has."""
    yield _check(stage, "clock", lambda: clock(stage, now()))
    yield _check(stage, "Lambda quota", lambda: concurrency(stage))
    yield _check(stage, "SendCommand", lambda: sending(stage, instances))
    if instances:
        yield _check(stage, "endpoints", lambda: endpoints(stage, instances))


def _check(stage: DeployedStage, name: str, look: Callable[[], Check]) -> Check:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return look()
    except (BotoCoreError, ClientError) as error:
        problem = errors.explain(error, stage.aws.access)
        said = problem.message if problem else str(error)
        fix = "docs/iam.md lists what --deep asks for."
        return Check(name, "warn", f"could not be looked at: {said}", fix)


def clock(stage: DeployedStage, now: datetime) -> Check:
    """This machine's clock beside AWS's, by the date of an answer."""
    answer = stage.aws.client("sts").get_caller_identity()
    theirs = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    off = abs((now - theirs).total_seconds())
    if off < _CLOCK_WARNS:
        return Check("clock", "ok", "within a minute of AWS's")
    status: Status = "fail" if off >= _CLOCK_FAILS else "warn"
    return Check("clock", status, f"{off:.0f} s off AWS's", "Set it: timedatectl set-ntp true")


def concurrency(stage: DeployedStage) -> Check:
    """The number of functions that may run at once in this account and Region."""
    limits = stage.aws.client("lambda").get_account_settings()["AccountLimit"]
    most = int(limits["ConcurrentExecutions"])
    said = f"{most:,} functions at once"
    if most >= WANTED_CONCURRENCY:
        return Check("Lambda quota", "ok", said)
    fix = (
        "Runs get through, and wait for one another. Ask for more: aws service-quotas "
        "request-service-quota-increase --service-code lambda --quota-code L-B99A9384 "
        "--desired-value 1000"
    )
    return Check("Lambda quota", "warn", f"{said}; a large run asks for {WANTED_CONCURRENCY}", fix)


def sending(stage: DeployedStage, instances: Sequence[str]) -> Check:
    """Whether dispatch may send the stage's document to these instances as they are tagged, by
    IAM's simulator, which knows the boundary and the organisation's policies too."""
    name = Stage(stage.name)
    function = stage.aws.client("lambda").get_function_configuration(
        FunctionName=name.function("dispatch")
    )
    _, partition, _, region, account, *_ = function["FunctionArn"].split(":")
    document = f"arn:{partition}:ssm:{region}:{account}:document/{name.document('sync')}"
    asked: list[tuple[str, dict[str, str]]] = [(document, {})]
    for instance_id, tags in _tags(stage, instances).items():
        asked.append((f"arn:{partition}:ec2:{region}:{account}:instance/{instance_id}", tags))
    refused = [
        f"{arn}: {reason}"
        for arn, tags in asked
        if (reason := _refusal(stage, function["Role"], arn, tags))
    ]
    if not refused:
        return Check("SendCommand", "ok", f"allowed by IAM on {len(asked)} resources")
    fix = (
        "An explicit deny stands in a policy of the organisation, in a boundary or in the role; "
        "an implicit one is a tag that is missing, or a policy that was changed: deploy again."
    )
    return Check("SendCommand", "fail", f"a policy denies it on {'; '.join(refused)}", fix)


def _tags(stage: DeployedStage, instances: Sequence[str]) -> dict[str, dict[str, str]]:
    return {
        found["InstanceId"]: {tag["Key"]: tag["Value"] for tag in found.get("Tags", ())}
        for found in _described(stage, instances)
    }


def _described(stage: DeployedStage, instances: Sequence[str]) -> Iterator[Any]:
    if instances:
        answer = stage.aws.client("ec2").describe_instances(InstanceIds=list(instances))
        for reservation in answer["Reservations"]:
            yield from reservation["Instances"]


def _refusal(stage: DeployedStage, role: str, arn: str, tags: dict[str, str]) -> str:
    """IAM's decision about SendCommand on ``arn`` where it is no, "" where it is yes."""
    context = [
        {
            "ContextKeyName": f"aws:ResourceTag/{key}",
            "ContextKeyValues": [tags[key]],
            "ContextKeyType": "string",
        }
        for key in (TARGET_TAG, STAGE_TAG)
        if key in tags
    ]
    answer = stage.aws.client("iam").simulate_principal_policy(
        PolicySourceArn=role,
        ActionNames=["ssm:SendCommand"],
        ResourceArns=[arn],
        ContextEntries=context,
    )
    decision: str = answer["EvaluationResults"][0]["EvalDecision"]
    return "" if decision == "allowed" else decision


def endpoints(stage: DeployedStage, instances: Sequence[str]) -> Check:
    """The endpoints that the instances' networks lack: of one with endpoints, those that are
    missing; of one without, the gateway that would take archives for nothing."""
    missing: list[str] = []
    for vpc in sorted({found["VpcId"] for found in _described(stage, instances)}):
        there = _services(stage, vpc)
        private = "ssm" in there or "ssmmessages" in there
        wanted = (*_INTERFACES, "s3") if private else ("s3",)
        missing += [f"{vpc}: {service}" for service in wanted if service not in there]
    if not missing:
        return Check("endpoints", "ok", "all there")
    fix = (
        "Without logs there is no live output and steps begin late; without an S3 gateway endpoint "
        "archives go through NAT ($0.045 a GB and instance): aws ec2 create-vpc-endpoint. "
        "Whether routes lead to the Internet instead is not looked at."
    )
    return Check("endpoints", "warn", f"not in {', '.join(missing)}", fix)


def _services(stage: DeployedStage, vpc: str) -> set[str]:
    found = stage.aws.client("ec2").describe_vpc_endpoints(
        Filters=[{"Name": "vpc-id", "Values": [vpc]}]
    )
    return {endpoint["ServiceName"].rpartition(".")[2] for endpoint in found["VpcEndpoints"]}
