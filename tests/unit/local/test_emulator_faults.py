"""The emulated services misbehave as they are told to."""

from __future__ import annotations

import asyncio
import json

import boto3
import pytest
from botocore.stub import Stubber

from codeferry_local.emulator_faults import PATH, misbehaving
from codeferry_local.lifecycle import expire, rules_of


@pytest.fixture
def serve():
    """A service that answers 204, behind the faults; called with a method, a path and a body."""

    async def dispatch(*_):
        return 204, {}, b""

    answer = misbehaving(dispatch, lambda method, path, headers, body: headers.get("action"))
    return lambda method, path, headers=None, body=b"": asyncio.run(
        answer(method, path, headers or {}, body)
    )


def test_the_next_calls_of_an_action_are_throttled(serve):
    """As many as said, of this action only, with the error that SDKs know."""
    look, other = {"action": "logs:FilterLogEvents"}, {"action": "logs:GetLogEvents"}
    serve("POST", PATH, body=json.dumps({"throttle_first": {look["action"]: 2}}).encode())
    assert serve("POST", "/", other)[0] == 204
    refused = [serve("POST", "/", look) for _ in range(3)]
    assert [answer[0] for answer in refused] == [400, 400, 204]
    assert json.loads(refused[0][2])["__type"] == "ThrottlingException"


def test_faults_can_be_taken_back(serve):
    """DELETE forgets all of them."""
    look = {"action": "logs:FilterLogEvents"}
    serve("POST", PATH, body=json.dumps({"throttle_first": {look["action"]: 2}}).encode())
    assert serve("DELETE", PATH)[0] == 200
    assert serve("POST", "/", look)[0] == 204


RULES = [
    {
        "ID": "archives",
        "Status": "Enabled",
        "Filter": {"Prefix": "archives/"},
        "Expiration": {"Days": 1},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
    },
    {
        "ID": "releases",
        "Status": "Enabled",
        "Filter": {"Prefix": "releases/"},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
    },
    {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}},
]


@pytest.mark.parametrize(
    ("days", "deleted"),
    [
        (0, []),
        (1, [{"Key": "archives/a"}, {"Key": "archives/b", "VersionId": "b1"}]),
        (2, [{"Key": "archives/a", "VersionId": "a1"}, {"Key": "archives/b", "VersionId": "b1"}]),
        (
            30,
            [
                {"Key": "archives/a", "VersionId": "a1"},
                {"Key": "archives/b", "VersionId": "b1"},
                {"Key": "releases/r", "VersionId": "r1"},
            ],
        ),
    ],
)
def test_a_buckets_rules_do_days_of_work_at_once(days, deleted):
    """A marker first, the version for good a day later; what was noncurrent goes as such, what no
    rule names and what a disabled one names stays."""
    versions = [
        {"Key": "archives/a", "VersionId": "a1", "IsLatest": True},
        {"Key": "archives/b", "VersionId": "b1", "IsLatest": False},
        {"Key": "releases/r", "VersionId": "r1", "IsLatest": False},
        {"Key": "releases/r", "VersionId": "r2", "IsLatest": True},
        {"Key": "other/o", "VersionId": "o1", "IsLatest": True},
    ]
    s3 = boto3.client(
        "s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="a"
    )
    with Stubber(s3) as stub:
        stub.add_response("get_bucket_lifecycle_configuration", {"Rules": RULES}, {"Bucket": "b"})
        stub.add_response(
            "list_object_versions", {"Versions": versions}, {"Bucket": "b", "Prefix": ""}
        )
        for wanted in deleted:
            stub.add_response("delete_object", {}, {"Bucket": "b", **wanted})
        assert expire(s3, "b", days) == [wanted["Key"] for wanted in deleted]
        stub.assert_no_pending_responses()


def test_rules_of_a_template_are_rules_of_s3():
    """Each with the prefix, the days and the leftovers that it names."""
    given = {
        "LifecycleConfiguration": {
            "Rules": [
                {
                    "Id": "archives",
                    "Status": "Enabled",
                    "Prefix": "archives/",
                    "ExpirationInDays": 1,
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
                },
                {
                    "Id": "leftovers",
                    "Status": "Enabled",
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                    "ExpiredObjectDeleteMarker": True,
                },
            ]
        }
    }
    assert rules_of(given) == [
        RULES[0],
        {
            "ID": "leftovers",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
            "Expiration": {"ExpiredObjectDeleteMarker": True},
        },
    ]
