"""The notification: what is deployed, and only when somebody asks for it."""

from __future__ import annotations

import json
import re

import pytest

from codeferry_contracts.names import Stage

ADDRESS = "fleet@example.org"


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A stack of notifications alone, checked by cdk-nag: type to the properties of each."""
    from aws_cdk import App, Stack, Validations
    from cdk_nag import AwsSolutionsChecks

    from stacks.workflow.notifications import Notifications

    directory = tmp_path_factory.mktemp("cdk.out")
    app = App(outdir=str(directory))
    made = Stack(app, "Test")
    Notifications(made, "Notifications", stage=Stage("prod"), email=ADDRESS)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    resources = json.loads((directory / "Test.template.json").read_text())["Resources"]
    found = {}
    for resource in resources.values():
        found.setdefault(resource["Type"], []).append(resource["Properties"])
    return found


def transformed(stack):
    (rule,) = stack["AWS::Events::Rule"]
    return rule["Targets"][0]["InputTransformer"]


def test_the_address_is_subscribed(stack):
    """By e-mail, to the one topic."""
    (subscription,) = stack["AWS::SNS::Subscription"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", ADDRESS)


def test_messages_are_encrypted_and_travel_by_tls_only(stack):
    """With a key of the stage's own, which rotates; plain HTTP is denied to everyone."""
    (topic,), (key,) = stack["AWS::SNS::Topic"], stack["AWS::KMS::Key"]
    assert "Fn::GetAtt" in topic["KmsMasterKeyId"]
    assert key["EnableKeyRotation"] is True
    (policy,) = stack["AWS::SNS::TopicPolicy"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_only_the_rules_own_role_may_publish(stack):
    """Two statements: publish to this topic, and use its key for it."""
    (policy,) = stack["AWS::IAM::Policy"]
    allowed = [(s["Action"], s["Resource"]) for s in policy["PolicyDocument"]["Statement"]]
    assert [actions for actions, _ in allowed] == [
        "sns:Publish",
        ["kms:Decrypt", "kms:GenerateDataKey*"],
    ]
    assert "*" not in [resource for _, resource in allowed]


def test_it_hears_of_the_own_stages_runs(stack):
    """Another stage's runs are another stage's business."""
    (rule,) = stack["AWS::Events::Rule"]
    assert rule["EventPattern"] == {
        "source": ["codeferry"],
        "detail-type": ["Codeferry Run Finished"],
        "detail": {"stage": ["prod"]},
    }


def test_the_text_takes_every_value_from_the_event(stack):
    """Each placeholder has its path, none is left over, and every line is a text."""
    transformer = transformed(stack)
    used = set(re.findall(r"<([^>]+)>", transformer["InputTemplate"]))
    assert used == set(transformer["InputPathsMap"])
    assert set(transformer["InputPathsMap"].values()) == {
        "$.detail.summary",
        "$.detail.status",
        "$.detail.counts.succeeded",
        "$.detail.counts.total",
        "$.detail.duration_seconds",
        "$.detail.run_id",
    }
    assert all(line[0] == line[-1] == '"' for line in transformer["InputTemplate"].splitlines())


@pytest.mark.parametrize(
    "address", ["nobody", "@example.org", "a@b", "a b@example.org", "<a@b.org>", "a@b.org,c@d.org"]
)
@pytest.mark.parametrize("setting", ["notify", "alarm_email"])
def test_what_is_no_address_is_named(setting, address):
    """A malformed address is refused before anything is deployed: for mails and for alarms."""
    from aws_cdk import App

    from stacks.settings import SettingInvalid, Settings

    with pytest.raises(SettingInvalid, match=setting):
        Settings.from_context(App(context={setting: address}))


@pytest.mark.parametrize(
    ("context", "notify"), [({}, ""), ({"notify": ""}, ""), ({"notify": ADDRESS}, ADDRESS)]
)
def test_an_address_is_optional(context, notify):
    """Without one there is nothing to notify."""
    from aws_cdk import App

    from stacks.settings import Settings

    assert Settings.from_context(App(context=context)).notify == notify
