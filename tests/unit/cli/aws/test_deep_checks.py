"""`ferry doctor --deep`: what it makes of AWS's answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from codeferry_cli.aws.deep_checks import Check, deep_checks
from codeferry_cli.aws.session import Access

NOW = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)
ROLE = "arn:aws:iam::111122223333:role/Codeferry-dev-Workflow-DispatchRole"
ENDPOINTS = ("ssm", "ssmmessages", "logs", "s3")


class Account:
    """AWS's answers; a test changes what it is about."""

    def __init__(self) -> None:
        self.date = "Mon, 30 Nov 2026 08:00:00 GMT"
        self.concurrency = 1000
        self.tags = {"codeferry:target": "web"}
        self.endpoints = ENDPOINTS
        self.denied: set[str] = set()
        self.simulated: list[dict[str, Any]] = []

    def client(self, service: str) -> Any:
        calls = {
            "sts": {"get_caller_identity": self._identity},
            "lambda": {
                "get_account_settings": self._settings,
                "get_function_configuration": self._function,
            },
            "ec2": {
                "describe_instances": self._instances,
                "describe_vpc_endpoints": self._endpoints,
            },
            "iam": {"simulate_principal_policy": self._simulate},
        }
        return SimpleNamespace(**calls[service])

    def _identity(self) -> Any:
        return {"ResponseMetadata": {"HTTPHeaders": {"date": self.date}}}

    def _settings(self) -> Any:
        return {"AccountLimit": {"ConcurrentExecutions": self.concurrency}}

    def _function(self, FunctionName: str) -> Any:  # noqa: N803 - as boto3 calls it
        arn = f"arn:aws:lambda:eu-west-1:111122223333:function:{FunctionName}"
        return {"FunctionArn": arn, "Role": ROLE}

    def _instances(self, InstanceIds: list[str]) -> Any:  # noqa: N803
        tags = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        found = [{"InstanceId": i, "VpcId": "vpc-1", "Tags": tags} for i in InstanceIds]
        return {"Reservations": [{"Instances": found}]}

    def _endpoints(self, Filters: Any) -> Any:  # noqa: N803
        names = [{"ServiceName": f"com.amazonaws.eu-west-1.{name}"} for name in self.endpoints]
        return {"VpcEndpoints": names}

    def _simulate(self, **asked: Any) -> Any:
        self.simulated.append(asked)
        (arn,) = asked["ResourceArns"]
        denied = arn.rpartition("/")[2] in self.denied
        return {"EvaluationResults": [{"EvalDecision": "explicitDeny" if denied else "allowed"}]}


@pytest.fixture
def account() -> Account:
    return Account()


def found(account: Account, *instances: str) -> dict[str, Check]:
    aws = SimpleNamespace(client=account.client, access=Access(stage="dev"))
    stage: Any = SimpleNamespace(aws=aws, name="dev")
    return {each.name: each for each in deep_checks(stage, instances, now=lambda: NOW)}


def test_all_in_order(account: Account) -> None:
    """Each thing is looked at and named."""
    checks = found(account, "i-1", "i-2")
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(
        ("clock", "Lambda quota", "SendCommand", "endpoints"), "ok"
    )


def test_iam_is_asked_with_the_tags_that_the_instances_have(account: Account) -> None:
    """As dispatch's role, about its document and each instance."""
    account.tags = {"codeferry:target": "web", "codeferry:stage": "dev", "Name": "one"}
    found(account, "i-1")
    document, instance = account.simulated
    assert document["ResourceArns"][0].endswith(":document/codeferry-dev-sync")
    assert document["ContextEntries"] == []
    assert instance["PolicySourceArn"] == ROLE
    keys = {e["ContextKeyName"]: e["ContextKeyValues"] for e in instance["ContextEntries"]}
    assert keys == {
        "aws:ResourceTag/codeferry:target": ["web"],
        "aws:ResourceTag/codeferry:stage": ["dev"],
    }


def test_a_policy_that_denies_sending_is_named_with_its_instance(account: Account) -> None:
    """With the instance and IAM's own word, whether explicit or implicit."""
    account.denied = {"i-2"}
    check = found(account, "i-1", "i-2")["SendCommand"]
    assert check.status == "fail"
    assert "instance/i-2: explicitDeny" in check.said
    assert "i-1" not in check.said


@pytest.mark.parametrize(
    ("seconds", "status"), [(59, "ok"), (61, "warn"), (-299, "warn"), (-301, "fail")]
)
def test_a_clock_that_is_off(account: Account, seconds: int, status: str) -> None:
    """Beyond five minutes AWS refuses signatures."""
    account.date = f"{NOW + timedelta(seconds=seconds):%a, %d %b %Y %H:%M:%S} GMT"
    assert found(account)["clock"].status == status


def test_a_new_accounts_concurrency_is_a_warning(account: Account) -> None:
    """Ten functions at once; the fix is the command that asks for more."""
    account.concurrency = 10
    check = found(account)["Lambda quota"]
    assert check.status == "warn"
    assert check.said.startswith("10 functions at once")
    assert "service-quotas" in check.fix


def test_a_network_with_endpoints_has_its_missing_ones_named(account: Account) -> None:
    """Logs above all: without it nothing streams, and steps begin late."""
    account.endpoints = ("ssm", "ssmmessages")
    assert found(account, "i-1")["endpoints"].said == "not in vpc-1: logs, vpc-1: s3"
    account.endpoints = ()
    assert found(account, "i-1")["endpoints"].said == "not in vpc-1: s3"


def test_what_may_not_be_looked_at_is_said_and_the_rest_goes_on(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs ferry need not be allowed any of it."""

    def refuse(**_: Any) -> Any:
        answer: Any = {"Error": {"Code": "AccessDenied", "Message": "no"}}
        raise ClientError(answer, "SimulatePrincipalPolicy")

    monkeypatch.setattr(account, "_simulate", refuse)
    checks = found(account, "i-1")
    assert checks["SendCommand"].status == "warn"
    assert "SimulatePrincipalPolicy" in checks["SendCommand"].said
    assert checks["endpoints"].status == "ok"


def test_deep_is_asked_for(ferry: Any, world: Any) -> None:
    """By its option only, and it ends well on the embedded AWS too."""
    assert "Lambda quota" not in ferry("doctor", "fleet").out
    answer = ferry("doctor", "fleet", "--deep")
    assert answer.exit == 0, answer.err
    assert "clock: within a minute" in answer.out
    assert "Lambda quota:" in answer.out
